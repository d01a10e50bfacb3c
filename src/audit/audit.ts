/**
 * The face of `audit`. An audit log is an observer with a veto on progress: it never changes a
 * message or a decision, but nothing goes upstream before its record is accepted.
 */

/**
 * A record's own members as JSON text without the braces, for example `"session":"s1","rows":3`. The
 * log adds `id`, `time`, `type`, `prev` and `hash`. Callers bound every value.
 */
export type RecordMembers = string

export interface AuditLog {
  /** Takes a record into the current batch. Never blocks, never throws. */
  append(type: string, members: RecordMembers): void
  /**
   * Makes everything appended so far durable as configured: written (`fsync: batch`), or written
   * and synced (`fsync: always`, a promise). Throws or rejects with
   * ProxyError('audit_unavailable'): then nothing that depends on the batch may go upstream.
   */
  commit(): void | Promise<void>
}

/** Keeps nothing: for tests and benches that measure the rest. */
export const noAudit: AuditLog = { append: () => undefined, commit: () => undefined }

export { FileAuditLog, type FileAuditOptions } from './file-log.ts'
export {
  auditFilter,
  FilterError,
  filterNames,
  type AuditFilter,
  type AuditOutcome,
  type AuditRecord,
} from './filter.ts'
export { AuditSearch, endsOf, type Ended, type Found, type Order } from './reader.ts'
export { verifyAudit, type Problem, type VerifyReport } from './verify.ts'
export {
  Shipper,
  type AuditSink,
  type ShippedRecord,
  type ShipperOptions,
  type ShipperStatus,
} from './shipper.ts'
export {
  deliverHalving,
  fileSink,
  httpSink,
  lineSink,
  otlpSink,
  post,
  postCompressed,
  type HttpTarget,
} from './sinks.ts'
export { postgresSink } from './sink-postgres.ts'
