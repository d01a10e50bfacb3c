/**
 * Tracing as the session sees it: it tells somebody that statements begin and end. Who that is, and
 * whether anybody looks, is not its business. Times are of the monotonic clock, in microseconds.
 */

/** The statements of one message, admitted or refused together. */
export interface TracedStatements {
  /** The text as the client sent it, a view; null where there is none. */
  readonly text: Buffer | null
  readonly session: string
  readonly database: string
  readonly decisionId: string
  /** Of the first statement, as it is counted. */
  readonly kind: string
  readonly action: string
  readonly rule: string
  readonly statementCount: number
  readonly cached: boolean
  /** Its message was looked at first. */
  readonly arrivedUs: number
  /** What judging it took; 0 for a verdict that was known. */
  readonly judgedUs: number
  /** When it waited for people, and what came of it. */
  readonly held: TracedHold | null
  /** It goes upstream, or was refused, at this time. */
  readonly decidedUs: number
}

export interface TracedHold {
  readonly fromUs: number
  readonly toUs: number
  readonly outcome: string
}

export interface TracedEnd {
  readonly tag: string | null
  readonly rowCount: number
  readonly bytes: number
  readonly sqlstate: string | null
  readonly fate: string
  /** It is the last of its message. */
  readonly last: boolean
}

/** Called once for each statement of the message, in order. Must not throw. */
export interface StatementSpan {
  ended(end: TracedEnd): void
}

/** Must not throw and not wait. */
export interface StatementTracer {
  /** Null where nobody wants to know of them. */
  admitted(statements: TracedStatements): StatementSpan | null
  refused(statements: TracedStatements, sqlstate: string): void
}
