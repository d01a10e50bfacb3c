/**
 * The end of a turn of the event loop: the records of all sessions that were read in it are taken by
 * the audit together, with one write, and then each session's statements go on. A session alone loses
 * nothing by it, many share the cost.
 *
 * Invariant: a member's records are appended and committed in one go, with nothing between that could
 * lose them; no statement goes on before, and none where that failed.
 */
import type { AuditLog } from '../audit/audit.ts'
import type { Clock, Durations } from '../core/core.ts'

/** What became of the commit: null where the records are written, a promise where they will be. */
export type Committed =
  | { readonly kind: 'taken'; readonly durable: Promise<void> | null }
  | { readonly kind: 'failed'; readonly error: unknown }

export interface TurnMember {
  /** Appends the member's records to the audit. */
  appendRecords(): void
  /** Called right behind. Never throws. */
  committed(outcome: Committed): void
}

export interface TurnEndOptions {
  readonly audit: AuditLog
  readonly clock: Clock
  /** Runs the work when the sockets of this turn were read (setImmediate). */
  readonly schedule: (work: () => void) => void
  /** Time of a commit. */
  readonly durations: Durations
}

/** One for all sessions that share an audit log. */
export class TurnEnd {
  readonly #options: TurnEndOptions
  #members: TurnMember[] = []
  readonly #run = (): void => {
    const members = this.#members
    this.#members = []
    for (const member of members) member.appendRecords()
    const outcome = this.commit()
    for (const member of members) member.committed(outcome)
  }

  constructor(options: TurnEndOptions) {
    this.#options = options
  }

  /** Calls the member back once, when the turn ends. */
  join(member: TurnMember): void {
    if (this.#members.push(member) === 1) this.#options.schedule(this.#run)
  }

  /** Resolves in a later turn of the event loop, when others had theirs. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#options.schedule(resolve)
    })
  }

  /** Commits what is appended, now. */
  commit(): Committed {
    const { audit, clock, durations } = this.#options
    const startedUs = clock.monotonicUs()
    try {
      const durable = audit.commit() ?? null
      durations.observe(clock.monotonicUs() - startedUs)
      return { kind: 'taken', durable }
    } catch (error) {
      return { kind: 'failed', error }
    }
  }
}
