/**
 * Faults that end in an ErrorResponse, listed as data. Expected outcomes (a decision, an admission)
 * are values and never thrown. SQLSTATEs: https://www.postgresql.org/docs/18/errcodes-appendix.html
 *
 * `fatal` faults end the connection; the others leave the session alive.
 */

/** Every fault regate raises by itself: code → SQLSTATE and whether the session survives. */
export const faults = {
  protocol_violation: { sqlstate: '08P01', fatal: true },
  connection_failure: { sqlstate: '08006', fatal: true },
  upstream_unreachable: { sqlstate: '08001', fatal: true },
  upstream_rejected: { sqlstate: '08004', fatal: true },
  upstream_lost: { sqlstate: '57P01', fatal: true },
  unsupported_server: { sqlstate: '08004', fatal: true },
  feature_not_supported: { sqlstate: '0A000', fatal: false },
  invalid_authorization: { sqlstate: '28000', fatal: true },
  invalid_password: { sqlstate: '28P01', fatal: true },
  syntax_error: { sqlstate: '42601', fatal: false },
  denied: { sqlstate: '42501', fatal: false },
  policy_fault: { sqlstate: '42501', fatal: false },
  encoding: { sqlstate: '22021', fatal: false },
  program_limit_exceeded: { sqlstate: '54000', fatal: false },
  statement_too_complex: { sqlstate: '54001', fatal: false },
  too_many_connections: { sqlstate: '53300', fatal: true },
  out_of_memory: { sqlstate: '53200', fatal: false },
  audit_unavailable: { sqlstate: '58030', fatal: false },
  query_canceled: { sqlstate: '57014', fatal: false },
  admin_shutdown: { sqlstate: '57P01', fatal: true },
  configuration: { sqlstate: 'F0000', fatal: true },
  internal: { sqlstate: 'XX000', fatal: true },
} as const

export type FaultCode = keyof typeof faults

export interface FaultDetails {
  /** DETAIL of the ErrorResponse. */
  readonly detail?: string
  /** HINT of the ErrorResponse: what the reader can do. */
  readonly hint?: string
  /** 1-based character position in the query string. */
  readonly position?: number
  /** Replaces the code's SQLSTATE (PostgreSQL's own code of a syntax error, for one). */
  readonly sqlstate?: string
  readonly cause?: unknown
}

/** A fault with everything an ErrorResponse needs. */
export class ProxyError extends Error {
  override readonly name = 'ProxyError'
  readonly code: FaultCode
  readonly sqlstate: string
  readonly fatal: boolean
  readonly detail: string | undefined
  readonly hint: string | undefined
  readonly position: number | undefined

  constructor(code: FaultCode, message: string, details: FaultDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.sqlstate = details.sqlstate ?? faults[code].sqlstate
    this.fatal = faults[code].fatal
    this.detail = details.detail
    this.hint = details.hint
    this.position = details.position
  }
}

/** What an error and its causes say, in one line, without the names of classes. */
export function wordsOf(error: unknown): string {
  const words: string[] = []
  let current: unknown = error
  for (let depth = 0; current instanceof Error && depth < 4; depth++) {
    const { message } = current
    if (message !== '' && !words.some((known) => known.includes(message))) words.push(message)
    if (current instanceof AggregateError && message === '') {
      words.push(...current.errors.map((inner) => wordsOf(inner)))
    }
    current = current.cause
  }
  return words.length === 0 ? String(error) : words.join(': ')
}
