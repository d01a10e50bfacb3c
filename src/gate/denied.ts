/**
 * The words of a denial. One for an analysis that is incomplete because the statement names what is
 * not there is PostgreSQL's own: an agent that is told `column "x" does not exist`, and where,
 * corrects itself, while "cannot be determined" sends it away.
 *
 * Nothing is told that could not be asked otherwise: that the name is not there the pack's reason says
 * anyway, and a name that is there only to whom the policy would let the statement run with it.
 */
import type { StatementDecision } from '../policy/policy.ts'
import type { Analysis } from '../sql/sql.ts'
import type { Why } from './verdict.ts'

const incompleteRule = 'regate.access.incomplete'

/**
 * @param text the whole query string
 * @param admits whether the policy does not deny the statement where its analysis is this one
 */
export function deniedWhy(
  decision: StatementDecision,
  analysis: Analysis,
  text: Buffer,
  admits: (analysis: Analysis) => boolean,
): Why {
  const { reason: message, rule } = decision
  const { missing } = analysis
  if (missing === null || rule !== incompleteRule) {
    return { sqlstate: '42501', message, hint: decision.hint === '' ? null : decision.hint, rule }
  }
  const hint = missing.hint !== null && admits(reaching(analysis)) ? missing.hint : null
  // Positions count characters, trees count bytes.
  const position = missing.at === null ? null : characters(text.subarray(0, missing.at)) + 1
  return { sqlstate: missing.sqlstate, message: missing.message, hint, rule, position }
}

/** The same statement as far as its relations go: what it does with them cannot be known. */
function reaching(analysis: Analysis): Analysis {
  const unknown = { columns: [], outputs: [], flows: [], functions: [] }
  const access = { ...analysis.access, ...unknown, complete: true, incomplete: [] }
  return { ...analysis, access }
}

/** Code points of a text in UTF-8. */
function characters(text: Buffer): number {
  let count = 0
  for (const byte of text) if ((byte & 0xc0) !== 0x80) count++
  return count
}
