/**
 * Tracing as the hot path sees it: it tells somebody that statements begin and end. Who that is, and
 * whether anybody looks, is the control plane's business.
 */

/** What a span is told of a statement. */
export interface TracedStatement {
  readonly statement: { readonly text: string; readonly kind: string }
  readonly decision: { readonly action: string; readonly rule: string }
  readonly revision: string
}

/** The statements of one message, from their admission to their last answer. */
export interface StatementSpan {
  /** Called once for each statement, in order; an SQLSTATE ends them all. */
  end(tag: string | null, rows: number, sqlstate: string | null): void
}

export interface StatementTracer {
  /**
   * Statements were admitted. Null where nobody wants to know of them. Must not throw and not wait.
   * `durationUs` is the time that judging them took; 0 for a verdict that was known.
   */
  begin(
    statements: readonly TracedStatement[],
    session: { readonly id: string; readonly database: string },
    decisionId: string,
    verdict: { readonly cached: boolean; readonly durationUs: number },
  ): StatementSpan | null
}
