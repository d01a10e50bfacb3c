/**
 * `statement.fingerprint`: names a statement's shape in allow-lists and in the audit. A digest of the
 * shape (statements that differ in plain constants only share it), or of the text where there is no
 * shape. SHA-256 cut to 32 hex digits: neither finding a second statement for one that is listed nor making
 * two that share one, of which the harmless one is shown, is within reach (of 16 the latter was: 2³² tries).
 */
import { createHash } from 'node:crypto'
import { shapeOf, type ParsedStatement } from '../sql/sql.ts'

const known = new WeakMap<ParsedStatement, string>()

/** The fingerprint of a statement, remembered by the identity of its object. */
export function fingerprintOf(facts: {
  readonly statement: ParsedStatement
  readonly shape?: { readonly key: string } | null
  readonly fingerprint?: string
}): string {
  if (facts.fingerprint !== undefined) return facts.fingerprint
  const remembered = known.get(facts.statement)
  if (remembered !== undefined) return remembered
  const { text } = facts.statement
  const shape = facts.shape?.key ?? shapeOf(Buffer.from(text))?.text
  const hash = createHash('sha256').update(shape === undefined ? 't' : 's')
  const fingerprint = hash
    .update(shape ?? text)
    .digest('hex')
    .slice(0, 32)
  known.set(facts.statement, fingerprint)
  return fingerprint
}
