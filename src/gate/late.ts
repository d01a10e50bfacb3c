/**
 * What is known of the statements of one text while a thread is asked about one of them: whoever waits
 * holds it, so that nothing is found out twice when the text is judged again.
 */
import { LateAnswers } from '../policy/policy.ts'
import type { ParsedStatement } from '../sql/sql.ts'
import type { Like } from './shapes.ts'

export class Late {
  /** Of the policy. */
  readonly answers = new LateAnswers()
  #contextKey = ''
  #likes: Map<ParsedStatement, Like> | null = null

  /** The analysis of a statement in this context, if it was made. */
  like(statement: ParsedStatement, contextKey: string): Like | null {
    return contextKey === this.#contextKey ? (this.#likes?.get(statement) ?? null) : null
  }

  /** Keeps an analysis that holds for as long as its context. */
  keepLike(statement: ParsedStatement, contextKey: string, like: Like): void {
    if (contextKey !== this.#contextKey) this.#likes = null
    this.#contextKey = contextKey
    this.#likes ??= new Map()
    this.#likes.set(statement, like)
  }
}
