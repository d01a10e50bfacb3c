/**
 * What the two planes say to each other (design, "Two planes"). In one process the calls are direct;
 * with `workers` they are messages (workers-messages.ts), so everything here is plain data, and no
 * call gives or takes what cannot be copied but a Policy, of which the bytes are sent.
 */
import type { ApprovalPort } from '../approval/approval.ts'
import type { RevocationChange } from '../identity/identity.ts'
import type { RowsTaken } from '../masking/masking.ts'
import type { Policy, ShadowStatus } from '../policy/policy.ts'
import type { SessionEvent, SessionInfo } from '../server/server.ts'
import type { MetricDocument } from './metrics.ts'
import type { PlaneObservation } from './observe.ts'
import type { TryAnswer, TryQuestion } from './sandbox.ts'

/** What a data plane says of itself when it is asked. */
export interface PlaneReport {
  /** Revision that its statements are judged by. */
  readonly revision: string
  readonly shadow: ShadowStatus | null
  /** Names in the policy's data that none of its catalogs has; null while it has read none. */
  readonly unmatched: readonly string[] | null
}

/** One data plane, as the control plane sees it. */
export interface DataPlanePort {
  /** Name of its audit chain, its log lines and its metrics. */
  readonly name: string
  /** False while it starts and when it has ended: it has no numbers and judges nothing. */
  readonly serves: boolean
  /** Judges by this policy from the next statement on; rejects, with the old one kept, where it cannot. */
  usePolicy(policy: Policy): Promise<void>
  /** The same for the candidate of `policy.shadow`. */
  useCandidate(policy: Policy): Promise<void>
  revocation(change: RevocationChange): Promise<void>
  /** Users, certificates and TLS files are read again. */
  refresh(): Promise<void>
  /** Cancels what runs in the session with this key; false where it has none. */
  cancel(processId: number, secret: Buffer): Promise<boolean>
  sessions(): Promise<readonly SessionInfo[]>
  report(): Promise<PlaneReport>
  /** Its numbers, for the console's overview. */
  observe(): Promise<PlaneObservation>
  /** Judges statements without running them, for the console's sandbox. */
  tryOut(question: TryQuestion): Promise<TryAnswer>
  /** Null where its numbers are in the control plane's own registry. */
  metrics(): Promise<MetricDocument | null>
}

/** The control plane, as a data plane sees it. */
export interface ControlPort {
  /** Null: nobody can be asked. */
  readonly approvals: ApprovalPort | null
  /** A cancel request for no session of this data plane. */
  cancelElsewhere(processId: number, secret: Buffer): Promise<void>
  /** Catalogs have changed, and with them what `report` says of names. */
  catalogsChanged(): void
  /** A session has committed DDL in this database: what others know of it is old. */
  catalogOutdated(database: string): void
  /** A login failed: the limits are those of all data planes together. */
  attemptFailed(source: string, user: string): void
  /** Rows were taken from budgets, which are those of all data planes together. */
  rowsTaken(taken: readonly RowsTaken[]): void
  session(event: SessionEvent): void
}

const samplesMax = 200

/** The candidate as all data planes together have seen it. */
export function mergeShadows(statuses: readonly ShadowStatus[]): ShadowStatus | null {
  const [first, ...rest] = statuses
  if (first === undefined) return null
  return rest.reduce((sum, next): ShadowStatus => {
    const changes: Record<string, number> = { ...sum.changes }
    for (const [change, count] of Object.entries(next.changes)) {
      changes[change] = (changes[change] ?? 0) + count
    }
    return {
      revision: sum.revision,
      judged: sum.judged + next.judged,
      different: sum.different + next.different,
      wider: sum.wider + next.wider,
      dropped: sum.dropped + next.dropped,
      waiting: sum.waiting + next.waiting,
      changes,
      samples: [...sum.samples, ...next.samples].slice(0, samplesMax),
    }
  }, first)
}
