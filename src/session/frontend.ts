/**
 * What the client sends: every message is passed as the bytes it came in, replaced by a refusal,
 * or left to wait. Each message that the server will answer pushes its expected reply.
 *
 * Invariants: a text that was not judged is never passed; the bytes judged are the bytes passed;
 * a message that waits is looked at again from the start.
 */
import { ProxyError } from '../core/core.ts'
import { noNeeds, runMembers, type Admitted, type Refusal, type Verdict } from '../gate/gate.ts'
import {
  decodeBind,
  decodeClose,
  decodeDescribe,
  decodeExecute,
  decodeFunctionCall,
  decodeParse,
  decodeQuery,
  frontendTypes,
  isUtf8,
  type FrameView,
} from '../wire/wire.ts'
import { Asker, type Subject } from './ask.ts'
import { expectCopy, takeCopyData } from './copy-in.ts'
import { noteEffects } from './effects.ts'
import { estimateOf, explain, unknownEstimate, unplannable } from './estimate.ts'
import { Expected } from './expected.ts'
import { readsAlike } from './facts.ts'
import { textOfCall } from './function-call.ts'
import { bindAlone, describePortal, describeText, endOwnBlock } from './own-messages.ts'
import {
  checkedParameter,
  contradicted,
  movedSinceBind,
  namesExceeded,
  notServed,
  portalExceeds,
  statementExceeds,
  unknownPortal,
  unknownStatement,
} from './own-refusals.ts'
import { reservedPrefix, substituteParse, substituteQuery } from './refusal.ts'
import { isTextParameter, SlotChange, type Portal, type Prepared } from './registry.ts'
import { bindResult } from './results.ts'
import { portalBytes, preparedBytes } from './room.ts'
import type { State, Wait } from './state.ts'
import { Traced } from './traced.ts'
import { Waited } from './waited.ts'

/** What became of a frame: it was dealt with, or it must be handled again after the wait. */
export type Handled = 'done' | 'terminate' | Wait

type Judged =
  | { readonly kind: 'admitted'; readonly verdict: Extract<Verdict, { kind: 'admitted' }> }
  | { readonly kind: 'approval'; readonly verdict: Extract<Verdict, { kind: 'approval' }> }
  | {
      readonly kind: 'refused'
      readonly refusal: Refusal
      readonly members: string | null
      /** Refused only as long as the server's estimate is not known. */
      readonly undecided?: boolean
    }
  | { readonly kind: 'wait'; readonly wait: Wait }

export class Frontend {
  readonly #state: State
  readonly #waited = new Waited()
  readonly #asker: Asker
  readonly #traced: Traced | null

  constructor(state: State) {
    this.#state = state
    this.#asker = new Asker(state)
    this.#traced = Traced.of(state.options)
  }

  /** A cancel request or the end of the connection while a statement is held. */
  withdraw(reason: 'cancel' | 'disconnect' | 'terminate'): boolean {
    return this.#asker.withdraw(reason)
  }

  /** A wait failed: the frame that waited is refused when it is handled again. */
  giveUp(wait: Wait['name'], error: unknown): void {
    // What the client cancels is told to be cancelled, also where it was regate's own reading.
    if (error instanceof ProxyError && error.sqlstate === queryCanceled) {
      const { message, sqlstate } = error
      this.#waited.outcome = this.#state.fault('denied', message, { sqlstate })
      return
    }
    this.#state.options.onFault(error, wait)
    const message = `what is needed to judge the statement could not be read (${wait})`
    this.#waited.outcome = this.#state.fault('denied', message, {
      sqlstate: '58000',
      hint: 'Send the statement again; if it stays so, the log of regate says why.',
    })
  }

  /** Handles one whole frame. Throws ProxyError for what ends the connection. */
  handle(type: number, view: FrameView): Handled {
    this.#traced?.looked(view)
    const handled = this.#dispatch(type, view)
    if (handled === 'done') {
      this.#traced?.done()
      this.#asker.reset()
      this.#waited.reset()
      this.#state.approval = null
      this.#state.estimate = null
    }
    return handled
  }

  #dispatch(type: number, view: FrameView): Handled {
    const state = this.#state
    switch (type) {
      case frontendTypes.Sync:
        return this.#sync(view)
      case frontendTypes.Terminate:
        this.#pass(view)
        return 'terminate'
      default:
    }
    // The server ignores everything up to Sync: so may we, without judging it.
    if (state.skipping) return 'done'
    if (state.copyIn) {
      takeCopyData(state, type, view)
      return 'done'
    }
    if (this.#isCrowded()) return state.drain()
    switch (type) {
      case frontendTypes.Query:
        return this.#query(view)
      case frontendTypes.Parse:
        return this.#parse(view)
      case frontendTypes.Bind:
        return this.#bind(view)
      case frontendTypes.Describe:
        return this.#describe(view)
      case frontendTypes.Execute:
        return this.#execute(view)
      case frontendTypes.Close:
        return this.#close(view)
      case frontendTypes.Flush:
        this.#pass(view)
        return 'done'
      case frontendTypes.CopyData:
      case frontendTypes.CopyDone:
      case frontendTypes.CopyFail:
        // Outside COPY IN the server ignores it: so may we.
        return 'done'
      case frontendTypes.FunctionCall:
        return this.#functionCall(view)
      default:
        throw new ProxyError(
          'protocol_violation',
          `a message of type ${JSON.stringify(String.fromCharCode(type))} is not expected here`,
        )
    }
  }

  /** Too much is kept of what is in flight, or there is more known of names than has room. */
  #isCrowded(): boolean {
    const { queue, judgements, options, statements, portals } = this.#state
    const { pipelineCountMax, pipelineBytesMax } = options.limits
    if (queue.length >= pipelineCountMax || queue.bytes >= pipelineBytesMax) return true
    if (!judgements.tooMany) return false
    if (queue.length > 0) return true
    judgements.makeRoom(statements, portals)
    return false
  }

  #pass(view: FrameView): void {
    this.#state.toUpstream.pass(view.buffer, view.start, view.end)
  }

  #sync(view: FrameView): Handled {
    const state = this.#state
    // In COPY IN the server ignores Sync: dropping it keeps the count of answers exact.
    if (state.copyIn) return 'done'
    if (!state.skipping && this.#isCrowded()) return state.drain()
    state.skipping = false
    this.#pass(view)
    state.queue.push(new Expected('sync', state.segment))
    // Outside a transaction block it ends the transaction, with all that was local to it.
    if (state.knownTransaction !== 'active') {
      if (state.pathTouched) state.facts.pathMayHaveChanged()
      if (state.ddlDone) state.overlayStale = true
    }
    state.endSegment()
    return 'done'
  }

  #query(view: FrameView): Handled {
    const state = this.#state
    const { textStart, textEnd } = decodeQuery(view)
    if (state.queue.changesNamesCount > 0) return state.drain()
    const judged = this.#judge(view.buffer.subarray(textStart, textEnd), 'simple')
    if (judged.kind === 'wait') return judged.wait
    if (!endOwnBlock(state)) return state.drain()
    const entry = new Expected('query', state.segment)
    if (judged.kind === 'refused') {
      this.#refuse(entry, judged.refusal, judged.members, substituteQuery(judged.refusal))
      state.endSegment()
      return 'done'
    }
    if (judged.kind === 'approval') {
      return this.#ask(judged.verdict, {
        text: view.buffer.subarray(textStart, textEnd),
        portal: null,
      })
    }
    const exceeded = namesExceeded(state, judged.verdict.statements)
    if (exceeded !== null) {
      this.#refuse(entry, exceeded, null, substituteQuery(exceeded))
      state.endSegment()
      return 'done'
    }
    const first = this.#describeFirst(judged.verdict.statements, textStart, textEnd, view)
    if (first !== null) return first
    entry.statements = judged.verdict.statements
    const waits = this.#admit(entry, judged.verdict, view)
    state.endSegment()
    return waits
  }

  /** Records what was admitted, passes the frame, and notes what it may change. */
  #admit(
    entry: Expected,
    verdict: { readonly cached: boolean; readonly durationUs: number },
    view: FrameView,
  ): Handled {
    const state = this.#state
    const { clock, members, newDecisionId } = state.options
    const decisionId = newDecisionId()
    entry.decisionId = decisionId
    entry.sentUs = clock.monotonicUs()
    let copyCount = 0
    for (const [index, admitted] of entry.statements.entries()) {
      state.record(
        'statement_decided',
        runMembers(members, admitted.members, {
          decisionId: index === 0 ? decisionId : `${decisionId}.${index}`,
          refusedWith: null,
          cached: verdict.cached,
          durationUs: verdict.durationUs,
          approval: state.approval === null ? null : JSON.stringify(state.approval),
        }),
      )
      admitted.tally.count++
      noteEffects(state, entry, admitted)
      if (admitted.analysis.sessionEffects.some(({ kind }) => kind === 'copy_in')) copyCount++
    }
    this.#traced?.admitted(entry, verdict, this.#asker.held)
    state.queue.push(entry)
    this.#pass(view)
    state.toUpstream.mark(view.buffer, view.start, view.end, entry)
    if (copyCount > 0) expectCopy(state, entry, copyCount)
    return 'done'
  }

  #parse(view: FrameView): Handled {
    const state = this.#state
    const { name, textStart, textEnd, parameterTypes } = decodeParse(view)
    if (name !== '' && this.#namesUnsettled(state.statements.ambiguous(name, state.segment))) {
      return state.drain()
    }
    const entry = new Expected('parse', state.segment)
    const text = view.buffer.subarray(textStart, textEnd)
    const bytes = preparedBytes + text.length + parameterTypes.length * 8
    const isNew = name !== '' && state.statements.value(name) === null
    const exceeded = isNew ? statementExceeds(state, bytes) : null
    if (exceeded !== null) return this.#refuseAs(name, entry, exceeded, null)
    const checked = checkedParameter(state, parameterTypes)
    const judged = checked ? this.#refused(checked, text) : this.#judge(text, 'extended', name)
    if (judged.kind === 'wait') return judged.wait
    const slot = state.statements.slot(name)
    entry.clears = name === ''
    if (judged.kind === 'refused' && judged.undecided !== true) {
      entry.change = new SlotChange(slot, state.segment, null)
      return this.#refuseAs(name, entry, judged.refusal, judged.members)
    }
    const admitted = judged.kind === 'refused' ? null : (judged.verdict.statements[0] ?? null)
    const prepared: Prepared = {
      name,
      bytes,
      bySql: false,
      text: Buffer.from(text),
      statement: admitted?.statement ?? null,
      admitted: null,
      readsMasked: false,
      judgedBytes: 0,
      // What asks for approval is judged again when it is executed.
      context:
        judged.kind === 'admitted' && judged.verdict.reusable ? state.context('extended').key : '',
      parameterTypes,
      fields: null,
      fieldsOutdated: false,
      description: null,
      bounds: new Map(),
    }
    state.judgements.keep(prepared, admitted)
    entry.prepared = prepared
    if (judged.kind === 'admitted') this.#traced?.parsed(entry, judged.verdict.durationUs)
    // Where the name is taken the server refuses, skips the rest of the segment, and the change is
    // dropped: whether it is taken is the server's to say, never guessed here.
    entry.change = new SlotChange(slot, state.segment, prepared)
    state.queue.push(entry)
    this.#pass(view)
    state.segmentOpen = true
    return 'done'
  }

  /** A name whose value depends on answers of an older segment, or on SQL that is in flight. */
  #namesUnsettled(ambiguous: boolean): boolean {
    return ambiguous || this.#state.queue.changesNamesCount > 0
  }

  #bind(view: FrameView): Handled {
    const state = this.#state
    const bind = decodeBind(view)
    const { portal, statement } = bind
    const ambiguous =
      (statement === ''
        ? state.statements.unsettled('', state.segment)
        : state.statements.ambiguous(statement, state.segment)) ||
      (portal !== '' && state.portals.ambiguous(portal, state.segment))
    if (this.#namesUnsettled(ambiguous)) return state.drain()
    const entry = new Expected('bind', state.segment)
    state.segmentOpen = true
    const prepared = state.statements.value(statement)
    if (prepared === null)
      return this.#refuseExecute(entry, unknownStatement(state, statement), null)
    const parameters = this.#keepsParameters(prepared) ? bind.parameters.map(copied) : null
    const bytes = portalBytes(prepared, parameters)
    const refusal =
      portalExceeds(state, portal, bytes) ?? checkedParameter(state, prepared.parameterTypes)
    if (refusal !== null) return this.#refuseExecute(entry, refusal, null)
    const slot = state.portals.slot(portal)
    entry.clears = portal === ''
    const made: Portal = {
      name: portal,
      bytes,
      prepared,
      parameters,
      cursor: false,
      hold: false,
      committed: false,
      names: state.facts.names,
      analysis: null,
      resultFormats: bind.resultFormats,
      parameterFormats: bind.parameterFormats,
      result: null,
    }
    entry.portal = made
    entry.change = new SlotChange(slot, state.segment, made)
    state.queue.push(entry)
    state.boundCount++
    this.#pass(view)
    return 'done'
  }

  #keepsParameters(prepared: Prepared): boolean {
    const { judge } = this.#state.options.gate
    return (
      judge.policy.declares.inputs.has('parameters') ||
      judge.policy.declares.inputs.has('estimate') ||
      // What was given up to make room may be one, too.
      prepared.admitted === null ||
      prepared.admitted.decision.action === 'approve'
    )
  }

  #describe(view: FrameView): Handled {
    const state = this.#state
    const { target, name } = decodeDescribe(view)
    const names = target === 'statement' ? state.statements : state.portals
    const open =
      name === '' ? names.unsettled('', state.segment) : names.ambiguous(name, state.segment)
    if (this.#namesUnsettled(open)) return state.drain()
    const entry = new Expected('describe', state.segment)
    if (target === 'statement') entry.prepared = state.statements.value(name)
    else entry.portal = state.portals.value(name)
    state.queue.push(entry)
    this.#pass(view)
    state.segmentOpen = true
    return 'done'
  }

  #execute(view: FrameView): Handled {
    const state = this.#state
    const { portal: name } = decodeExecute(view)
    const open =
      name === ''
        ? state.portals.unsettled('', state.segment)
        : state.portals.ambiguous(name, state.segment)
    if (this.#namesUnsettled(open)) return state.drain()
    const entry = new Expected('execute', state.segment)
    const portal = state.portals.value(name)
    if (portal === null) {
      return this.#refuseExecute(entry, unknownPortal(state, name), null)
    }
    entry.portal = portal
    const { prepared } = portal
    const judged = this.#judgeAgain(prepared, portal)
    if (judged.kind === 'wait') return judged.wait
    if (judged.kind === 'refused') {
      return this.#refuseExecute(entry, judged.refusal, judged.members)
    }
    if (judged.kind === 'approval') {
      return this.#ask(judged.verdict, { text: prepared.text, portal })
    }
    const { statements } = judged.verdict
    entry.statements = statements
    const exceeded = namesExceeded(state, statements)
    if (exceeded !== null) return this.#refuseExecute(entry, exceeded, null)
    const admitted = statements[0] ?? null
    if (admitted !== null) {
      const moved = portal.cursor ? null : movedSinceBind(state, portal, admitted)
      if (moved !== null) return this.#refuseExecute(entry, moved, admitted.members)
      if (!bindAlone(state, portal)) return state.drain()
      const described = this.#needDescription(admitted, portal)
      if (described !== null && described !== 'done') return described
      const stopped = this.#contradiction(admitted, portal)
      if (stopped !== null) return this.#refuseExecute(entry, stopped, admitted.members)
    }
    state.segmentOpen = true
    state.ran = 'client'
    return this.#admit(entry, judged.verdict, view)
  }

  /** The admission of a prepared statement, made anew where anything it saw has moved. */
  #judgeAgain(prepared: Prepared, portal: Portal): Judged {
    const state = this.#state
    const refused = this.#waitedInVain(prepared.text)
    if (refused !== null) return refused
    const catalog = this.#freshCatalog()
    if (catalog !== null) return { kind: 'wait', wait: catalog }
    const declared = state.options.gate.judge.policy.declares.inputs
    if (state.approval === null && prepared.context === state.context('extended').key) {
      const statements = prepared.admitted === null ? [] : [prepared.admitted]
      return {
        kind: 'admitted',
        verdict: {
          kind: 'admitted',
          statements,
          cached: true,
          durationUs: 0,
          needs: noNeeds,
          reusable: true,
        },
      }
    }
    const parameters = declared.has('parameters')
      ? (portal.parameters ?? []).map((value, index) =>
          parameterDocument(value, isTextParameter(portal.parameterFormats, index)),
        )
      : null
    const judged = this.#judge(prepared.text, 'extended', null, parameters, portal)
    if (judged.kind !== 'admitted') return judged
    const admitted = judged.verdict.statements[0] ?? null
    if (prepared.admitted !== admitted) {
      // Under an approval, or by inputs that change, each look at the frame judges anew; what the
      // server said of it since the first look stays.
      const { described, underApproval } = this.#waited
      const again = state.approval !== null && prepared.admitted === underApproval
      if (!described && !again) prepared.fieldsOutdated = true
      state.judgements.keep(prepared, admitted)
      if (!prepared.bySql) prepared.statement = admitted?.statement ?? null
      portal.result = null
    }
    this.#waited.underApproval = state.approval === null ? null : admitted
    prepared.context = judged.verdict.reusable ? state.context('extended').key : ''
    return judged
  }

  /** Rows may leave only if the server has said where they come from: asks it where nobody did. */
  #needDescription(admitted: Admitted, portal: Portal): Handled | null {
    const state = this.#state
    const needed =
      (admitted.verify || admitted.plan.kind === 'masked') && admitted.analysis.outputs !== null
    const { fields, fieldsOutdated } = portal.prepared
    if (!needed || (fields !== null && !fieldsOutdated)) return null
    if (admitted.analysis.writes) {
      // Known before it runs: a write that happened is never reported as failed.
      if (this.#waited.described) return null
      this.#waited.described = true
      this.#describeOwn(portal)
      return state.drain()
    }
    this.#describeOwn(portal)
    return 'done'
  }

  #describeOwn(portal: Portal): void {
    const state = this.#state
    const last = state.queue.tail
    // The client's own Describe of this portal is on its way already.
    if (last?.kind === 'describe' && last.portal === portal) return
    describePortal(state, portal)
  }

  #contradiction(admitted: Admitted, portal: Portal): Refusal | null {
    const state = this.#state
    const { fields } = portal.prepared
    if (fields === null || !admitted.analysis.writes) return null
    const bound = bindResult(admitted, fields, portal.resultFormats, state.catalog, state.options)
    if (bound.kind === 'bound') return null
    state.catalogStale = true
    return contradicted(state, bound.reason)
  }

  /**
   * A statement that writes and returns rows that need a check, in simple protocol: described by
   * a Parse of our own first (design, decision 8).
   */
  #describeFirst(
    statements: readonly Admitted[],
    textStart: number,
    textEnd: number,
    view: FrameView,
  ): Handled | null {
    const [admitted] = statements
    if (admitted === undefined || statements.length > 1 || this.#waited.described) return null
    if (this.#state.checked.has(admitted)) return null
    const { analysis } = admitted
    if (!analysis.writes || analysis.outputs === null || analysis.outputs.length === 0) return null
    if (!admitted.verify && admitted.plan.kind === 'open') return null
    if (isUtility(analysis.kind) || this.#state.transaction === 'failed') return null
    if (this.#state.queue.length > 0) return this.#state.drain()
    this.#waited.described = true
    const request = describeText(this.#state, view.buffer.toString('utf8', textStart, textEnd))
    const until = request.outcome.then((outcome) => {
      if (outcome !== 'done') return
      const { catalog, options } = this.#state
      const bound = bindResult(admitted, request.fields, null, catalog, options)
      if (bound.kind === 'bound') {
        this.#state.checked.add(admitted)
        return
      }
      this.#state.catalogStale = true
      this.#waited.outcome = contradicted(this.#state, bound.reason)
    })
    return { name: 'describe', until }
  }

  #close(view: FrameView): Handled {
    const state = this.#state
    const { target, name } = decodeClose(view)
    const names = target === 'statement' ? state.statements : state.portals
    if (name !== '' && this.#namesUnsettled(names.ambiguous(name, state.segment))) {
      return state.drain()
    }
    const entry = new Expected('close', state.segment)
    entry.change =
      target === 'statement'
        ? new SlotChange(state.statements.slot(name), state.segment, null)
        : new SlotChange(state.portals.slot(name), state.segment, null)
    state.queue.push(entry)
    this.#pass(view)
    state.segmentOpen = true
    return 'done'
  }

  /** A cycle of its own, without Sync: judged as the SELECT that it stands for. */
  #functionCall(view: FrameView): Handled {
    const state = this.#state
    const call = decodeFunctionCall(view)
    const text = textOfCall(call.functionOid, call.arguments.length)
    const judged: Judged =
      text === null
        ? { kind: 'refused', refusal: notServed(state, call.functionOid), members: null }
        : this.#judge(text, 'extended')
    if (judged.kind === 'wait') return judged.wait
    if (!endOwnBlock(state)) return state.drain()
    const entry = new Expected('query', state.segment)
    if (judged.kind === 'approval') {
      return this.#ask(judged.verdict, { text: text ?? nothing, portal: null, unseen: true })
    }
    if (judged.kind === 'refused') {
      this.#refuse(entry, judged.refusal, judged.members, substituteQuery(judged.refusal))
      state.endSegment()
      return 'done'
    }
    entry.statements = judged.verdict.statements
    const handled = this.#admit(entry, judged.verdict, view)
    state.endSegment()
    return handled
  }

  #refuseExecute(entry: Expected, refusal: Refusal, members: string | null): Handled {
    return this.#refuseAs(`${reservedPrefix}refused`, entry, refusal, members)
  }

  /** In the place of a message of the extended protocol, by a Parse of that name. */
  #refuseAs(name: string, entry: Expected, refusal: Refusal, members: string | null): 'done' {
    this.#refuse(entry, refusal, members, substituteParse(refusal, name))
    this.#state.segmentOpen = true
    return 'done'
  }

  /** Sends the substitute and remembers whose error the client gets. */
  #refuse(entry: Expected, refusal: Refusal, members: string | null, substitute: Buffer): void {
    const state = this.#state
    entry.refusal = refusal
    if (members !== null) {
      if (refusal.tally !== undefined) refusal.tally.count++
      this.#traced?.refused(entry, refusal, this.#asker.held)
      state.record(
        'statement_decided',
        runMembers(state.options.members, members, {
          decisionId: refusal.decisionId,
          refusedWith: refusal.sqlstate,
          approval: this.#asker.refusedApproval,
          cached: false,
          durationUs: 0,
        }),
      )
    }
    state.queue.push(entry)
    state.toUpstream.add(substitute)
  }

  /** On record with its text. */
  #refused(refusal: Refusal, text: Buffer): Judged {
    const members = this.#state.options.gate.refusalMembers(refusal, text)
    return { kind: 'refused', refusal, members }
  }

  /** What the wait of this frame ended in, where that was no good. */
  #waitedInVain(text: Buffer): Judged | null {
    if (this.#waited.outcome !== null) return this.#refused(this.#waited.outcome, text)
    const { refusal } = this.#asker
    return refusal === null ? null : { kind: 'refused', ...refusal }
  }

  /** Judges a text, after everything that must be known first is known. */
  #judge(
    text: Buffer,
    protocol: 'simple' | 'extended',
    name: string | null = null,
    parameters: Parameters<State['context']>[1] = null,
    portal: Portal | null = null,
  ): Judged {
    const state = this.#state
    const refused = this.#waitedInVain(text)
    if (refused !== null) return refused
    const wait = this.#readable(text, name)
    if (wait !== null) return wait
    const context = state.context(protocol, parameters)
    const verdict = state.options.gate.judgeText(text, context, this.#waited.pending)
    if (verdict.kind === 'later') {
      this.#waited.pending = verdict.pending
      return { kind: 'wait', wait: { name: verdict.wait, until: verdict.until } }
    }
    const more = this.#moreFacts(verdict, protocol, portal)
    if (more !== null) {
      this.#waited.pending?.late.answers.clear()
      return { kind: 'wait', wait: more }
    }
    if (verdict.kind !== 'refused' && state.approval !== null) {
      const moved = this.#asker.moved({ text, portal })
      if (moved !== null) return this.#refused(moved, text)
    }
    if (verdict.kind === 'refused') {
      if (state.approval !== null) this.#asker.giveBack(verdict.refusal.message)
      const { refusal, members, needs } = verdict
      return { kind: 'refused', refusal, members, undecided: needs.estimate !== null }
    }
    if (verdict.kind !== 'approval') return { kind: 'admitted', verdict }
    // People take their time, and many may be waited for.
    this.#waited.pending = null
    return { kind: 'approval', verdict }
  }

  /** Null when the text may be judged now. */
  #readable(text: Buffer, name: string | null): Judged | null {
    const state = this.#state
    const { facts } = state
    const refused = (...details: ConstructorParameters<typeof ProxyError>): Judged =>
      this.#refused(state.fault(...details), text)
    if (name?.startsWith(reservedPrefix) === true) {
      return refused('denied', `names that begin with ${reservedPrefix} are reserved`, {
        hint: 'Choose another name for the prepared statement.',
      })
    }
    if (!isUtf8(text)) {
      return refused('encoding', 'the statement is not valid UTF-8', {
        hint: 'Set client_encoding to UTF8 and send the text in UTF-8.',
      })
    }
    if (state.queue.changesNamesCount > 0) return { kind: 'wait', wait: state.drain() }
    const catalog = this.#freshCatalog()
    if (catalog !== null) return { kind: 'wait', wait: catalog }
    if (facts.reading !== 'pinned' && !readsAlike(text)) {
      if (facts.reading === 'unknown' && this.#mayProbe()) {
        return { kind: 'wait', wait: state.probe() }
      }
      return refused('denied', 'a setting that decides how the server reads SQL is not as pinned', {
        hint: "RESET standard_conforming_strings and client_encoding; write E'…' for backslash escapes.",
      })
    }
    return null
  }

  /** Null where the catalog is as new as what the server would read, or is not needed. */
  #freshCatalog(): Wait | null {
    const state = this.#state
    if (!state.catalogOutdated || !state.options.gate.judge.policy.needsFreshCatalog) return null
    return state.readCatalog()
  }

  /** What would make the verdict better and can be had: the search path, a newer catalog. */
  #moreFacts(
    verdict: Verdict,
    protocol: 'simple' | 'extended',
    portal: Portal | null,
  ): Wait | null {
    const state = this.#state
    if (verdict.kind === 'later') return null
    const facts = verdict.needs
    if (facts.session && state.facts.searchPath === 'unknown' && this.#mayProbe()) {
      return state.probe()
    }
    const fresh = state.options.gate.judge.policy.needsFreshCatalog
    if (facts.unresolved && !this.#waited.rechecked && fresh) {
      this.#waited.rechecked = true
      const until = state.options.catalog.recheck()
      if (until !== null) return { name: 'catalog', until }
    }
    if (facts.estimate === null || state.estimate !== null || state.transaction === 'failed') {
      return null
    }
    // With parameters there is nothing to estimate before Bind.
    if (portal === null && protocol === 'extended') return null
    return this.#estimate(facts.estimate, portal, verdict)
  }

  #mayProbe(): boolean {
    return this.#state.transaction !== 'failed' && this.#waited.probeCount++ < probeCountMax
  }

  /** EXPLAIN of the statement, on record first; its error is the statement's own. */
  #estimate(
    text: string,
    portal: Portal | null,
    verdict: Exclude<Verdict, { kind: 'later' }>,
  ): Wait {
    const state = this.#state
    const judged = verdict.kind === 'refused' ? verdict : verdict.statements[0]
    if (text === '' || judged === undefined) {
      state.estimate = unknownEstimate
      return { name: 'estimate', until: Promise.resolve() }
    }
    if (!state.mayAsk) return state.drain()
    const request = explain(state, text, portal, judged.members)
    const until = request.outcome.then((outcome) => {
      if (outcome === 'failed' && request.error !== null) {
        this.#waited.outcome = request.refusal ?? unplannable(state, request.error)
      } else state.estimate = outcome === 'done' ? estimateOf(request.rows) : unknownEstimate
    })
    return { name: 'estimate', until }
  }

  /** Holds the statement until people have decided; the frame is handled again then. */
  #ask(verdict: Extract<Verdict, { kind: 'approval' }>, subject: Subject): Handled {
    return this.#asker.ask(verdict, subject)
  }
}

const describable = new Set(['select', 'insert', 'update', 'delete', 'merge'])

function isUtility(kind: string): boolean {
  return !describable.has(kind)
}

function copied(value: Buffer | null): Buffer | null {
  return value === null ? null : Buffer.from(value)
}

/** By the format that Bind declared: the bytes of a binary integer may look like a text. */
function parameterDocument(
  value: Buffer | null,
  isText: boolean,
): {
  readonly type: number
  readonly format: 'text' | 'binary'
  readonly value: string | null
} {
  if (value === null) return { type: 0, format: 'text', value: null }
  return isText && isUtf8(value)
    ? { type: 0, format: 'text', value: value.toString('utf8') }
    : { type: 0, format: 'binary', value: value.toString('base64') }
}

const nothing = Buffer.alloc(0)
const probeCountMax = 2
const queryCanceled = '57014'
