/**
 * What a session is given when it is made, and what it may wait for. Types only.
 */
import type { AuditLog } from '../audit/audit.ts'
import type { Clock, Limits, StatementTracer } from '../core/core.ts'
import type { Gate } from '../gate/gate.ts'
import type { RowBudgets, ValueDetectors } from '../masking/masking.ts'
import type { IdentityDocument } from '../policy/policy.ts'
import type { Catalog } from '../sql/sql.ts'
import type { HoldPort } from './hold.ts'
import type { RecordingLimits } from './recording.ts'
import type { TurnEnd } from './turn-end.ts'

/** The catalog of the session's database, kept fresh by somebody else. */
export interface CatalogPort {
  current(): Catalog
  /** Resolves when the catalog is as new as the call. */
  refresh(reason: string): Promise<void>
  /** DDL was committed since it was read: whoever judges by it reads it again. */
  readonly outdated: boolean
  /** A session committed DDL: every session's next judgement waits for a newer catalog. */
  outdate(): void
  /** Null where the catalog cannot be older than a moment; else a promise of a check. */
  recheck(): Promise<void> | null
  /** What only this session sees: uncommitted DDL and temporary objects. */
  overlay(query: (texts: readonly string[]) => Promise<readonly (string | null)[][]>): Promise<{
    readonly catalog: Catalog
    readonly temporarySchema: string | null
  }>
}

export interface SessionOptions {
  readonly id: string
  readonly gate: Gate
  readonly audit: AuditLog
  /** Of all sessions that share the audit log. */
  readonly turnEnd: TurnEnd
  readonly limits: Limits
  readonly clock: Clock
  readonly catalog: CatalogPort
  readonly holds: HoldPort | null
  /** Record the rows that the client saw, so many of each statement; null or absent: none. */
  readonly recorded?: RecordingLimits | null
  /** Told of statements that begin and end; null or absent: nobody is. */
  readonly tracer?: StatementTracer | null
  /** Secret of the masks `hash` and `noise`. */
  readonly maskKey: Uint8Array
  /** Rows per identity and window, shared by all sessions of the worker; null counts none. */
  readonly rowBudgets?: RowBudgets | null
  /** Look at text that no mask covers; the gate then asks for a check of every result. */
  readonly detectors?: ValueDetectors | null
  readonly identity: IdentityDocument
  readonly clientAddress: string
  readonly database: string
  /** Key of the upstream role, as `session.role` in the policy's input. */
  readonly role: string
  /** The upstream login. */
  readonly sessionUser: string
  readonly locked: ReadonlySet<string>
  /** ParameterStatus of the upstream's startup. */
  readonly parameters: ReadonlyMap<string, string>
  /** Audit members that every record of this session begins with. */
  readonly members: string
  /** Ends the statement that runs upstream; resolves when the request's connection has closed. */
  cancelUpstream(): Promise<void>
  readonly newDecisionId: () => string
  /** Something that was waited for failed; the session goes on. */
  readonly onFault: (error: unknown, wait: string) => void
}

/** A pause of the client's side until something is known. */
export interface Wait {
  readonly name:
    | 'drain'
    | 'probe'
    | 'catalog'
    | 'overlay'
    | 'parse'
    | 'evaluation'
    | 'hold'
    | 'describe'
    | 'copy'
    | 'estimate'
    | 'audit'
    | 'cancel'
    | 'turn'
  readonly until: Promise<void>
}
