/**
 * Parsed texts with the verdicts on them, bounded in bytes. A verdict is kept under the context it was
 * made in. A text that never comes again only makes work for the garbage collector: once there are
 * many, a new one is kept when it comes a second time.
 */
import { LRUCache } from 'lru-cache'
import type { ParseResult } from '../sql/sql.ts'
import { SeenTexts } from './seen.ts'
import type { Verdict } from './verdict.ts'

/** What is kept of one text. */
export interface JudgedText {
  readonly parsed: ParseResult
  /** By the context's key. */
  readonly verdicts: Map<string, Verdict>
  bytes: number
}

/** Contexts remembered of one text before the oldest is forgotten. */
const contextCountMax = 64
/** So many texts are kept when they first come; beyond, only those that come again. */
const keptAtOnceCount = 1_000

/** A text that was just parsed; `key` is its bytes as a string. */
export function newText(key: string, parsed: ParseResult): JudgedText {
  return { parsed, verdicts: new Map(), bytes: 256 + key.length * 2 + parsedBytes(parsed) }
}

export class JudgedTexts {
  readonly #known: LRUCache<string, JudgedText>
  readonly #seen = new SeenTexts()

  constructor(bytesMax: number) {
    this.#known = new LRUCache({ maxSize: bytesMax, sizeCalculation: ({ bytes }) => bytes })
  }

  get count(): number {
    return this.#known.size
  }

  get(key: string): JudgedText | undefined {
    return this.#known.get(key)
  }

  /** Keeps the parsed text, and the verdict where it may be used again. */
  keep(
    text: Uint8Array,
    key: string,
    known: JudgedText,
    contextKey: string,
    verdict: Verdict,
  ): void {
    const full = this.#known.size >= keptAtOnceCount && !this.#known.has(key)
    if (full && !this.#seen.before(text)) return
    if (verdict.kind === 'admitted' && verdict.reusable) {
      const { verdicts } = known
      const oldest = verdicts.size >= contextCountMax ? verdicts.keys().next().value : undefined
      if (oldest !== undefined) verdicts.delete(oldest)
      verdicts.set(contextKey, { ...verdict, cached: true })
      known.bytes += contextKey.length * 2
      for (const { analysis, members } of verdict.statements) {
        known.bytes += analysis.bytes + members.length * 2 + 512
      }
    }
    this.#known.set(key, known)
  }
}

function parsedBytes(parsed: ParseResult): number {
  if (parsed.kind === 'failed') return 256
  let bytes = 0
  for (const statement of parsed.statements) {
    // The tree is kept as JSON and, once asked for, as objects of about four times its size.
    bytes += statement.tree.length * 5 + 256
  }
  return bytes
}
