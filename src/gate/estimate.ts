/**
 * Of which statements the server can be asked for its estimate before they are admitted. EXPLAIN plans,
 * and planning folds immutable functions and calls stable ones: so never with a function whose body
 * nobody has read.
 */
import type { Analysis, ParsedStatement } from '../sql/sql.ts'

/** Kinds that EXPLAIN takes. https://www.postgresql.org/docs/18/sql-explain.html */
const explainable = new Set([
  ...['select', 'insert', 'update', 'delete', 'merge'],
  ...['declarecursor', 'createtableas', 'execute'],
])

/**
 * The text whose EXPLAIN is the statement's estimate; '' where there can be none. A query string of
 * several statements has none: each would need its own, and a later one may need what an earlier one
 * has not made yet.
 */
export function textToEstimate(statement: ParsedStatement, { access }: Analysis): string {
  if (statement.count !== 1 || !explainable.has(statement.kind) || !access.complete) return ''
  const readable = access.functions.every(
    ({ schema, class: kind, analysed }) =>
      analysed ||
      (schema === 'pg_catalog' && (kind === 'total' || kind === 'partial' || kind === 'volatile')),
  )
  return readable ? statement.text : ''
}
