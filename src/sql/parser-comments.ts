/**
 * A second look at texts with comments that libpg_query refuses. Its scanner hands comments on as
 * tokens, and its look-ahead (NOT before BETWEEN, LIKE; NULLS before FIRST; WITH before TIME; UESCAPE)
 * takes a comment for the next token, so `a NOT -- c` with BETWEEN on the next line is an error there and none
 * in PostgreSQL (parser.c, base_yylex).
 *
 * Comments become spaces of the same length, so that every position stays. Which bytes are comments is
 * said by PostgreSQL's own scanner, never by one of ours: hiding code from the judge is not possible.
 */
import type { Engine, EngineResult } from './libpg-query.ts'

interface Token {
  readonly start: number
  readonly end: number
  readonly tokenName: string
}

/** The tree of the text with blanked comments, or null where it has none or does not parse either. */
export function parseWithoutComments(engine: Engine, text: Buffer): EngineResult | null {
  if (!text.includes('--') && !text.includes('/*')) return null
  const scanned = engine.scan(text)
  if (scanned.kind !== 'json') return null
  const { tokens } = JSON.parse(Buffer.from(scanned.json).toString()) as {
    readonly tokens: readonly Token[]
  }
  const blanked = Buffer.from(text)
  let found = false
  for (const { start, end, tokenName } of tokens) {
    if (tokenName !== 'C_COMMENT' && tokenName !== 'SQL_COMMENT') continue
    blanked.fill(' ', start, end)
    found = true
  }
  if (!found) return null
  const answer = engine.parse(blanked)
  return answer.kind === 'json' ? answer : null
}
