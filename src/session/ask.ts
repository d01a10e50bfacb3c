/**
 * What happens to a statement whose decision is `approve`: what the reviewers need is gathered on
 * the session's own connection, the statement is held, and when it was approved it is judged again
 * and compared with what was approved.
 *
 * Invariants: nothing of the statement has reached the server while it waits; a statement whose
 * parameters or meaning are not known exactly is never held under words that could mean another.
 */
import { randomUUID } from 'node:crypto'
import { bindingOf, type Bound, type GivenApproval } from '../approval/approval.ts'
import type { TracedHold } from '../core/core.ts'
import { usesNames, type Admitted, type Refusal, type Verdict } from '../gate/gate.ts'
import { shapeOf } from '../sql/sql.ts'
import { Review } from './ask-review.ts'
import { requesterOf, type Hold } from './hold.ts'
import type { Portal } from './registry.ts'
import type { State, Wait } from './state.ts'

type Asking = Extract<Verdict, { kind: 'approval' }>

/** What is asked for: a query string, or the execution of a portal. */
export interface Subject {
  readonly text: Buffer
  /** Null for a simple query. */
  readonly portal: Portal | null
  /** Its arguments are not looked into: a FunctionCall. */
  readonly unseen?: boolean
}

/** The approval that a portal runs under: an Execute that goes on with it is the same run. */
interface Running {
  readonly approval: GivenApproval
  readonly bound: Bound
  readonly hold: Hold
  /** Given back: the portal asks anew. */
  isVoid: boolean
}

/** Functions whose answer is another in each session: what it set, what it drew. */
const sessionFunctions: ReadonlySet<string> = new Set(['current_setting', 'currval', 'lastval'])

export class Asker {
  readonly #state: State
  readonly #portals = new WeakMap<Portal, Running>()
  #hold: Hold | null = null
  #running: Running | null = null
  #review: Review | null = null
  #drained = false
  /** Of the audit record of a refusal: the approval that was asked for. */
  refusedApproval: string | null = null
  /** The refusal that asking ended in, with its audit members. */
  refusal: { readonly refusal: Refusal; readonly members: string | null } | null = null

  constructor(state: State) {
    this.#state = state
  }

  /** How long the frame waited for people; of the last time it did. */
  held: TracedHold | null = null

  /** The frame that waited was dealt with. */
  reset(): void {
    this.#hold = null
    this.held = null
    this.#running = null
    this.#review = null
    this.#drained = false
    this.refusal = null
    this.refusedApproval = null
  }

  /** A cancel request or the end of the connection; false where nothing is held. */
  withdraw(reason: 'cancel' | 'disconnect' | 'terminate'): boolean {
    if (this.#hold === null) return false
    this.#hold.withdraw(reason)
    return true
  }

  /** Holds the statement, or says in `refusal` why it cannot be; the frame is handled again then. */
  ask(verdict: Asking, subject: Subject): Wait {
    const state = this.#state
    const { holds, gate } = state.options
    const { asking } = verdict
    const running = subject.portal === null ? undefined : this.#portals.get(subject.portal)
    if (running?.isVoid === false && state.approval === null) return this.#goOn(running)
    if (holds === null || state.approval !== null || state.transaction === 'failed') {
      if (state.approval !== null) this.giveBack('the policy asks again')
      const refusal = gate.refuseApproval(asking, state.approval !== null)
      return this.#refuse(refusal, asking, state.approval)
    }
    const unseen = subject.portal?.parameters === null || subject.unseen === true
    if (unseen) return this.#refuse(this.#unbound(asking, subject), asking, null)
    // What was sent before is answered first: the notice comes in its place.
    if (state.queue.length > 0 && !this.#drained) {
      this.#drained = true
      return state.drain()
    }
    this.#review ??= new Review(state, verdict.statements, subject.portal)
    const wait = this.#review.next()
    if (wait !== null) return wait
    if (this.#review.error !== null) return this.#refuse(this.#review.error, asking, null)
    return this.#request(verdict, subject, this.#review)
  }

  /**
   * Compares what was approved with what would run now; called whenever a statement is judged under
   * an approval. Null where nothing has changed.
   */
  moved(subject: Subject): Refusal | null {
    const running = this.#running
    if (running === null) return this.#state.fault('denied', 'the approval is not known here')
    const now = this.#bound(subject, running.bound.settings, running.bound.only)
    if (now !== null && bindingOf(now) === bindingOf(running.bound)) return null
    const what =
      now === null
        ? 'the session'
        : now.revision !== running.bound.revision
          ? 'the policy'
          : now.catalog !== running.bound.catalog
            ? 'the schema of the database'
            : 'the session or the statement'
    this.giveBack(`${what} has changed`)
    return this.#state.fault('denied', 'the approval is void', {
      detail: `Approval ${running.approval.id}: ${what} has changed since it was asked for.`,
      hint: 'Send the statement again to ask for a new approval.',
    })
  }

  #goOn(running: Running): Wait {
    this.#use(running)
    return { name: 'hold', until: Promise.resolve() }
  }

  #use(running: Running): void {
    const { id, by, at } = running.approval
    this.#running = running
    this.#state.approval = { id, outcome: 'approved', by, at }
  }

  /** The approval that was given is not used. */
  giveBack(why: string): void {
    const running = this.#running
    if (running === null) return
    running.isVoid = true
    running.hold.void(running.approval, why)
  }

  #request(verdict: Asking, subject: Subject, review: Review): Wait {
    const state = this.#state
    const { asking, statements } = verdict
    const only = this.#isShareable(statements) ? '' : randomUUID()
    const bound = this.#bound(subject, review.settings, only)
    const { holds } = state.options
    if (bound === null || holds === null) {
      const refusal = state.fault('denied', 'the statement needs an approval, and cannot be held', {
        detail: 'The search path or the role of the session could not be read.',
        hint: 'Send the statement again.',
      })
      return this.#refuse(refusal, asking, null)
    }
    const hold = holds.request(
      {
        sessionId: state.options.id,
        clientAddress: state.options.clientAddress,
        ...{ bound, statements, asking, idleMsMax: review.idleMsMax },
        shape: (statements.length === 1 ? shapeOf(subject.text)?.text : null) ?? bound.text,
        review: review.facts(bound),
        // Members of a statement end in the open `decision` (runMembers of the gate goes on in it).
        auditMembers: `${state.options.members},${asking.members}}`,
      },
      (notice) => {
        if (this.#hold !== hold) return
        state.notify(notice)
        state.sendNow()
      },
    )
    this.#hold = hold
    const { clock, gate } = state.options
    const fromUs = clock.monotonicUs()
    const until = hold.outcome.then((outcome) => {
      this.#hold = null
      const given = outcome.kind === 'approved' ? 'approved' : outcome.approval.outcome
      const toUs = clock.monotonicUs()
      this.held = { fromUs, toUs, outcome: given }
      gate.statistics.held(toUs - fromUs, given)
      if (outcome.kind === 'refused') {
        const { message, ...rest } = outcome
        const refusal = state.fault('denied', message, rest)
        this.#setRefusal(refusal, asking, outcome.approval)
        return
      }
      const running = { approval: outcome.approval, bound, hold, isVoid: false }
      if (subject.portal !== null) this.#portals.set(subject.portal, running)
      this.#use(running)
    })
    return { name: 'hold', until }
  }

  /** What is approved, as it is now; null while the session's facts are not known. */
  #bound(
    { text, portal }: Subject,
    settings: Readonly<Record<string, string>>,
    only: string,
  ): Bound | null {
    const state = this.#state
    const { facts, catalog } = state
    const searchPath = facts.searchPath
    if (searchPath === 'unknown' || !facts.roleKnown) return null
    const { identity, database, role, gate } = state.options
    return {
      text: text.toString('utf8'),
      protocol: portal === null ? 'simple' : 'extended',
      parameterTypes: portal?.prepared.parameterTypes ?? [],
      parameterFormats: portal?.parameterFormats ?? [],
      parameters: portal?.parameters ?? null,
      identity: requesterOf(identity),
      ...{ database, role, currentRole: facts.role, searchPath, settings },
      ...{ revision: gate.revision, catalog: catalog.fingerprint, only },
    }
  }

  /** The text says all: no name of this session's own, no settings that a statement before sets. */
  #isShareable(statements: readonly Admitted[]): boolean {
    return statements.every(
      ({ statement, analysis }) =>
        !usesNames(statement, analysis) &&
        !analysis.access.settings.some(({ action }) => action === 'show') &&
        !analysis.access.functions.some(
          ({ schema, name }) => schema === 'pg_catalog' && sessionFunctions.has(name),
        ),
    )
  }

  /** An approval of a text whose values nobody has seen would be one of any values. */
  #unbound(asking: Admitted, { portal }: Subject): Refusal {
    const { reason } = asking.decision
    return this.#state.fault('denied', `the statement needs an approval: ${reason}`, {
      detail:
        portal === null
          ? 'The arguments of the function call protocol are not shown to reviewers.'
          : 'It was bound before the policy asked for approval, so its parameters are not known.',
      hint:
        portal === null
          ? 'Call the function with SELECT.'
          : 'Send the statement again, from Bind on, to ask for approval.',
    })
  }

  #refuse(refusal: Refusal, asking: Admitted, approval: object | null): Wait {
    this.#setRefusal(refusal, asking, approval)
    return { name: 'hold', until: Promise.resolve() }
  }

  #setRefusal(refusal: Refusal, asking: Admitted, approval: object | null): void {
    this.refusal = { refusal, members: asking.members }
    this.refusedApproval = approval === null ? null : JSON.stringify(approval)
  }
}
