/**
 * What the server sends: the head of the expected-reply queue says what to do with it. Passed as
 * it came, dropped where it answers our own messages, replaced where it answers a refusal, masked
 * where a plan says so.
 *
 * Invariants: a reply that does not fit what is expected ends the session, never passes; a row of
 * a result that needs a check never passes before it was checked.
 */
import { ProxyError } from '../core/core.ts'
import type { Admitted, Refusal } from '../gate/gate.ts'
import { redactDiagnostics } from '../masking/masking.ts'
import {
  backendTypes,
  ByteWriter,
  decodeCommandComplete,
  decodeDataRow,
  decodeErrorOrNotice,
  decodeParameterStatus,
  decodeReadyForQuery,
  decodeRowDescription,
  encodeErrorResponse,
  written,
  type FrameView,
} from '../wire/wire.ts'
import { describe, Descriptions } from './descriptions.ts'
import { applyEffects, enterTransaction, leavesTexts, transactionEnded } from './effects.ts'
import { Expected, leavesSomething } from './expected.ts'
import { inDoubt, unexpected } from './faults.ts'
import { contradicted } from './own-refusals.ts'
import { refusalResponse, substituteQuery } from './refusal.ts'
import type { Portal } from './registry.ts'
import { bindResult, ResultStream, unmasked } from './results.ts'
import { recordEnd, recordSkipped } from './run-records.ts'
import type { State } from './state.ts'

export class Backend {
  readonly #state: State
  readonly #writer = new ByteWriter()
  readonly #descriptions = new Descriptions()
  /** Ends the statement that runs; the session waits for it. */
  readonly #stop: (refusal: Refusal) => void
  /** The statement that checkTime() saw running, and since when. */
  #timed: Admitted | null = null
  #timedIndex = 0
  #timedMs = 0

  constructor(state: State, stop: (refusal: Refusal) => void) {
    this.#state = state
    this.#stop = stop
  }

  /** An incomplete frame of this type may be passed in pieces. */
  passesPartial(type: number): boolean {
    const head = this.#state.queue.head
    if (head === null || head.own !== null || head.muted) return false
    if (head.kind !== 'query' && head.kind !== 'execute') return false
    if (type === backendTypes.DataRow) return this.#result(head).untouched
    if (type === backendTypes.CopyData) return head.result === null || this.#copyUntouched(head)
    return false
  }

  /** The type of frames that may pass by the chunk, whatever is in them; null where none may. */
  get passesRun(): number | null {
    const { head } = this.#state.queue
    return head === null || head.own !== null || head.muted ? null : (head.result?.runs ?? null)
  }

  /** A piece of a frame that is passed in pieces, or a run of so many that `passesRun` named. */
  pass(view: FrameView, count = 0): void {
    this.#state.queue.head?.result?.passed(count, view.end - view.start)
    this.#state.toClient.pass(view.buffer, view.start, view.end)
  }

  /** Handles one whole frame. Throws ProxyError for what ends the connection. */
  handle(type: number, view: FrameView): void {
    switch (type) {
      case backendTypes.DataRow:
        this.#row(view)
        return
      case backendTypes.ParameterStatus:
        this.#parameterStatus(view)
        return
      case backendTypes.NoticeResponse:
        this.#notice(view)
        return
      case backendTypes.NotificationResponse:
        this.#state.toClient.pass(view.buffer, view.start, view.end)
        return
      case backendTypes.ErrorResponse:
        this.#error(view)
        return
      default:
        this.#reply(type, view)
    }
  }

  #reply(type: number, view: FrameView): void {
    const head = this.#state.queue.head
    if (head === null) throw unexpected(type)
    switch (type) {
      case backendTypes.ReadyForQuery:
        if (head.kind !== 'query' && head.kind !== 'sync') throw unexpected(type)
        this.#ready(head, view)
        return
      case backendTypes.ParseComplete:
        this.#completed(head, 'parse', type, view)
        return
      case backendTypes.BindComplete:
        this.#completed(head, 'bind', type, view)
        return
      case backendTypes.CloseComplete:
        this.#completed(head, 'close', type, view)
        return
      case backendTypes.ParameterDescription:
        if (head.kind !== 'describe') throw unexpected(type)
        this.#forward(head, view)
        return
      case backendTypes.RowDescription:
        this.#rowDescription(head, view)
        return
      case backendTypes.NoData:
        if (head.kind !== 'describe') throw unexpected(type)
        this.#forward(head, view)
        this.#done(head)
        return
      case backendTypes.CommandComplete:
        this.#commandComplete(head, view)
        return
      case backendTypes.EmptyQueryResponse:
      case backendTypes.PortalSuspended:
        this.#endOfRun(head, type, view)
        return
      case backendTypes.FunctionCallResponse:
        this.#functionCallResponse(head, view)
        return
      case backendTypes.CopyData:
        this.#copyData(head, view)
        return
      case backendTypes.CopyInResponse:
      case backendTypes.CopyOutResponse:
      case backendTypes.CopyDone:
        this.#copy(head, type, view)
        return
      default:
        throw unexpected(type)
    }
  }

  /** Passes the reply, unless it answers a message of our own. */
  #forward(head: Expected, view: FrameView): void {
    if (head.own !== null || head.muted) return
    this.#state.toClient.pass(view.buffer, view.start, view.end)
  }

  #done(head: Expected): void {
    this.#state.queue.shift()
    if (head.ownLast) head.own?.settle(head.own.error === null ? 'done' : 'failed')
  }

  #completed(head: Expected, kind: Expected['kind'], type: number, view: FrameView): void {
    if (head.kind !== kind || head.refusal !== null) throw unexpected(type)
    head.change?.commit()
    this.#forward(head, view)
    this.#done(head)
  }

  #parameterStatus(view: FrameView): void {
    const { name, value } = decodeParameterStatus(view)
    this.#state.facts.parameterStatus(name, value)
    this.#state.toClient.pass(view.buffer, view.start, view.end)
  }

  #notice(view: FrameView): void {
    const head = this.#state.queue.head
    if (head !== null && (head.own !== null || head.muted)) return
    this.#diagnostics(head, view)
  }

  /** The server's own words, or the general ones where they could hold a masked value. */
  #diagnostics(head: Expected | null, view: FrameView): void {
    if (!this.#state.hidesTexts && head?.readsMasked !== true) {
      this.#state.toClient.pass(view.buffer, view.start, view.end)
      return
    }
    redactDiagnostics(view.buffer, view.start, view.end, this.#writer)
    this.#state.toClient.addLater(this.#writer)
  }

  /** The stream of the statement that answers now. */
  #result(head: Expected): ResultStream {
    if (head.result !== null) return head.result
    const admitted = head.current
    const portal = head.portal
    if (portal !== null && portal.result !== null && portal.result.admitted === admitted) {
      head.result = portal.result
      return portal.result
    }
    if (admitted === null)
      throw new ProxyError('protocol_violation', 'the server sent rows nobody asked for')
    const bound =
      head.kind === 'execute' && portal !== null ? this.#bindPortal(admitted, portal) : null
    const formats = head.kind === 'execute' ? (portal?.resultFormats ?? null) : null
    const result = new ResultStream(admitted, bound ?? null, this.#state.options, formats)
    head.result = result
    if (bound?.kind === 'stop') this.#stopResult(result, contradicted(this.#state, bound.reason))
    return result
  }

  #bindPortal(admitted: Admitted, portal: Portal): ResultStream['bound'] {
    if (!admitted.verify && admitted.plan.kind === 'open') return unmasked
    const { prepared, resultFormats } = portal
    const key = resultFormats.join()
    const known = prepared.bounds.get(key)
    if (known?.admitted === admitted) return known.plan
    if (prepared.fields === null) {
      return { kind: 'stop', reason: 'the server did not say where the rows come from' }
    }
    const { catalog, options } = this.#state
    const bound = bindResult(admitted, prepared.fields, resultFormats, catalog, options)
    if (bound.kind === 'bound') prepared.bounds.set(key, { admitted, plan: bound })
    return bound
  }

  #rowDescription(head: Expected, view: FrameView): void {
    if (head.kind === 'describe') {
      const prepared = head.prepared ?? head.portal?.prepared ?? null
      const { own } = head
      if (own !== null) own.fields.push(...decodeRowDescription(view))
      if (prepared !== null) describe(prepared, view, this.#state.judgements)
      this.#forward(head, view)
      this.#done(head)
      return
    }
    if (head.kind !== 'query') throw unexpected(backendTypes.RowDescription)
    // Stopped before its first row: what still comes is dropped.
    if (head.result !== null && head.result.stopped !== null) return
    const admitted = head.current
    if (admitted === null) throw unexpected(backendTypes.RowDescription)
    const { options, catalog } = this.#state
    if (!admitted.verify && admitted.plan.kind === 'open') {
      head.result = new ResultStream(admitted, unmasked, options)
    } else {
      const bound = this.#descriptions.bind(admitted, view, catalog, options)
      const result = new ResultStream(admitted, bound, options)
      head.result = result
      if (bound.kind === 'stop') {
        this.#stopResult(result, contradicted(this.#state, bound.reason))
        return
      }
    }
    this.#forward(head, view)
  }

  #stopResult(result: ResultStream, refusal: Refusal): void {
    if (result.stopped !== null) return
    result.stopped = refusal
    this.#state.catalogStale = true
    this.#stop(refusal)
  }

  #row(view: FrameView): void {
    const head = this.#state.queue.head
    if (head === null || (head.kind !== 'execute' && head.kind !== 'query')) {
      throw unexpected(backendTypes.DataRow)
    }
    if (head.own !== null) {
      head.own.rows.push(
        decodeDataRow(view).map((value) => (value === null ? null : Buffer.from(value))),
      )
      return
    }
    if (head.muted) return
    const result = head.result ?? this.#result(head)
    if (result.stopped !== null) return
    const bytes = view.end - view.start
    if (result.untouched) {
      result.rowCount++
      result.bytes += bytes
      result.recording?.row(view.buffer, view.start, view.end)
      this.#state.toClient.pass(view.buffer, view.start, view.end)
      return
    }
    const limit = result.countRow(bytes, this.#state.options.clock.nowMs())
    if (limit !== null) {
      this.#limit(result, limit)
      return
    }
    result.row(view.buffer, view.start, view.end, this.#writer)
    this.#state.toClient.addLater(this.#writer)
  }

  #limit(result: ResultStream, reason: string): void {
    const refusal = this.#state.fault('program_limit_exceeded', reason, {
      hint: 'Ask for fewer rows: add a WHERE condition or a LIMIT.',
    })
    result.stopped = refusal
    this.#stop(refusal)
  }

  /**
   * Called once in a while: a read that runs longer than its decision allows is stopped even if no
   * row has come. Counted from the first call that finds it running, so never too early.
   */
  checkTime(): void {
    const { queue, options } = this.#state
    const { head } = queue
    const admitted = head?.current ?? null
    if (head === null || admitted !== this.#timed || head.index !== this.#timedIndex) {
      this.#timed = admitted
      this.#timedIndex = head?.index ?? 0
      this.#timedMs = options.clock.nowMs()
      return
    }
    const timeMs = admitted?.decision.limits?.timeMs ?? null
    if (admitted === null || timeMs === null || admitted.analysis.writes) return
    if (head.own !== null || head.refusal !== null || head.failed) return
    if (head.kind !== 'query' && head.kind !== 'execute') return
    if (options.clock.nowMs() - this.#timedMs <= timeMs) return
    head.result ??= new ResultStream(admitted, unmasked, options)
    if (head.result.stopped !== null) return
    this.#limit(
      head.result,
      `the statement takes longer than the ${timeMs} ms that the policy allows`,
    )
  }

  #copyUntouched({ result }: Expected): boolean {
    return result === null || (result.copy === null && result.stopped === null && !result.limited)
  }

  #copyData(head: Expected, view: FrameView): void {
    const { result } = head
    if (head.own !== null || result === null) throw unexpected(backendTypes.CopyData)
    if (head.muted) return
    if (result.stopped !== null) return
    const limit = result.countRow(view.end - view.start, this.#state.options.clock.nowMs())
    if (limit !== null) {
      this.#limit(result, limit)
      return
    }
    if (result.copy === null) {
      result.recording?.copied(view.buffer, view.start, view.end)
      this.#state.toClient.pass(view.buffer, view.start, view.end)
      return
    }
    result.copyRow(view.buffer, view.start, view.end, this.#writer)
    this.#state.toClient.addLater(this.#writer)
  }

  #copy(head: Expected, type: number, view: FrameView): void {
    if (head.own !== null || (head.kind !== 'query' && head.kind !== 'execute'))
      throw unexpected(type)
    const { options, catalog } = this.#state
    if (type === backendTypes.CopyInResponse) {
      if (!this.#state.copyBegins()) throw unexpected(type)
    } else if (type === backendTypes.CopyOutResponse) {
      const admitted = head.current
      if (admitted === null) throw unexpected(type)
      if (head.result !== null && head.result.stopped !== null) return
      head.result = new ResultStream(admitted, unmasked, options)
      head.result.copyBegins(catalog, options.maskKey)
    } else {
      head.result?.copyEnds(this.#writer)
      this.#state.toClient.addLater(this.#writer)
      if (head.result !== null && head.result.stopped !== null) return
    }
    this.#forward(head, view)
  }

  #commandComplete(head: Expected, view: FrameView): void {
    if (head.kind !== 'query' && head.kind !== 'execute')
      throw unexpected(backendTypes.CommandComplete)
    if (head.own !== null) {
      this.#done(head)
      return
    }
    const admitted = head.current
    if (head.refusal !== null || admitted === null) throw unexpected(backendTypes.CommandComplete)
    const tag = decodeCommandComplete(view)
    if (head.kind === 'execute') this.#state.copyOver(head)
    applyEffects(this.#state, admitted, tag)
    recordEnd(this.#state, head, tag, null)
    const stopped = head.result?.stopped ?? null
    if (stopped === null) this.#forward(head, view)
    else this.#stoppedButCompleted(head, stopped)
    this.#next(head)
  }

  /**
   * The read was over before the cancel came. The client is told what it would have been told, and
   * what it sent behind it counts as skipped; an open transaction is aborted before ReadyForQuery.
   */
  #stoppedButCompleted(head: Expected, refusal: Refusal): void {
    const { toClient, queue } = this.#state
    if (!head.failed) toClient.add(refusalResponse(refusal))
    head.failed = true
    this.#state.abortWith = refusal
    if (head.kind === 'query') {
      if (head.statements.slice(head.index + 1).some(leavesSomething)) throw inDoubt()
      head.muted = true
      return
    }
    const rest = queue.muteToSync(head)
    if (rest === 'doubt') throw inDoubt()
    // What comes up to Sync counts as skipped and goes nowhere.
    if (rest === 'open') this.#state.skipping = true
  }

  #endOfRun(head: Expected, type: number, view: FrameView): void {
    if (head.kind !== 'query' && head.kind !== 'execute') throw unexpected(type)
    if (type === backendTypes.PortalSuspended) {
      if (head.kind !== 'execute' || head.portal === null) throw unexpected(type)
      head.portal.result = head.result
      if (head.current !== null) leavesTexts(this.#state, head.current)
      recordEnd(this.#state, head, 'SUSPENDED', null)
    }
    const stopped = head.result?.stopped ?? null
    if (stopped === null) this.#forward(head, view)
    else this.#stoppedButCompleted(head, stopped)
    this.#next(head)
  }

  #functionCallResponse(head: Expected, view: FrameView): void {
    const admitted = head.current
    if (head.kind !== 'query' || head.refusal !== null || admitted === null) {
      throw unexpected(backendTypes.FunctionCallResponse)
    }
    if (admitted.plan.kind !== 'open') throw unexpected(backendTypes.FunctionCallResponse)
    recordEnd(this.#state, head, 'FUNCTION CALL', null)
    this.#forward(head, view)
    this.#next(head)
  }

  /** The next statement of the query string, or the next expected reply. */
  #next(head: Expected): void {
    if (head.kind === 'execute') {
      this.#done(head)
      return
    }
    head.index++
    head.result = null
  }

  #error(view: FrameView): void {
    const state = this.#state
    const fields = decodeErrorOrNotice(view)
    const severity = fields.get('V') ?? fields.get('S') ?? 'ERROR'
    const head = state.queue.head
    state.transactionFailed = true
    if (state.pathTouched) state.facts.pathMayHaveChanged()
    state.copyOver(head)
    if (severity === 'FATAL' || severity === 'PANIC' || head === null) {
      state.fatal ||= severity !== 'ERROR'
      // Not an answer: the server ends the session, or says so before it was asked anything.
      this.#diagnostics(head, view)
      return
    }
    this.#report(head, view, fields)
    if (head.kind === 'query' || head.kind === 'sync') {
      head.failed = true
      return
    }
    this.#skip()
  }

  /** Gives the client the error that is due to it: the server's, ours, or a generic one. */
  #report(head: Expected, view: FrameView, fields: ReadonlyMap<string, string>): void {
    const { toClient } = this.#state
    const sqlstate = fields.get('C') ?? 'XX000'
    // What fails a Describe of the client's portal would have failed its Execute in these words.
    if (head.own !== null && head.portal === null) {
      const { refusal } = head
      head.own.refusal = refusal
      head.own.error = refusal ?? { sqlstate, message: fields.get('M') ?? '' }
      // In a segment of the client's the server skips its messages now: it must know why.
      if (head.kind !== 'sync' && this.#state.segmentOpen) {
        if (refusal !== null) {
          toClient.add(refusalResponse(refusal))
          return
        }
        const message = `regate could not look up what it needs to judge the statement: ${head.own.error.message}`
        toClient.add(
          written((to) => encodeErrorResponse(to, { severity: 'ERROR', sqlstate, message })),
        )
      }
      return
    }
    const stopped = head.result?.stopped ?? null
    if (head.silent) return
    if (head.muted) {
      recordEnd(this.#state, head, null, sqlstate)
      return
    }
    if (head.refusal !== null) toClient.add(refusalResponse(head.refusal))
    else if (stopped !== null) {
      if (!head.failed) toClient.add(refusalResponse(stopped))
    } else this.#diagnostics(head, view)
    if (head.refusal === null) recordEnd(this.#state, head, null, stopped?.sqlstate ?? sqlstate)
  }

  /** The server ignores everything it was sent up to the next Sync. */
  #skip(): void {
    const { queue } = this.#state
    const dropped: Expected[] = []
    let first = true
    for (;;) {
      const head = queue.head
      if (head === null) {
        this.#state.skipping = true
        break
      }
      if (head.kind === 'sync' && !first) break
      queue.shift()
      this.#state.copyOver(head)
      head.change?.drop(first && head.clears)
      if (!first) recordEnd(this.#state, head, null, null, 'skipped')
      if (head.own !== null) dropped.push(head)
      first = false
    }
    // A portal or statement that a skipped message would have made was never there.
    for (const entry of dropped)
      if (entry.ownLast) entry.own?.settle(entry.own.error === null ? 'skipped' : 'failed')
  }

  #ready(head: Expected, view: FrameView): void {
    const state = this.#state
    const status = decodeReadyForQuery(view)
    enterTransaction(state, status)
    head.muted = false
    if (head.failed) recordSkipped(state, head)
    state.copyOver(head)
    const abort = state.abortWith
    state.abortWith = null
    if (abort !== null && status === 'transaction') {
      // What is behind it would run in a transaction that the client believes to have failed.
      if (state.queue.length > 1 || state.clientMidFrame) throw inDoubt()
      // The client was told of an error: make the server's transaction as failed as it believes.
      state.toUpstream.add(substituteQuery(abort))
      const again = new Expected('query', head.segment)
      again.refusal = abort
      again.silent = true
      state.queue.push(again)
    } else this.#forward(head, view)
    if (status === 'idle') transactionEnded(state)
    else if (state.ddlDone) state.overlayStale = true
    this.#done(head)
    if (state.queue.length === 0) state.settled()
  }
}
