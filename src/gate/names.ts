/**
 * The session's facts while one query string is judged: a statement is read when those before it
 * have run, so names that they made or dropped are layered over what the session knows, and what
 * they may have changed out of sight counts as unknown.
 */
import type { Analysis, OpenCursor, SessionFacts, SyntaxNode } from '../sql/sql.ts'

/** Facts for the statements of one string, in order. */
export class LayeredFacts implements SessionFacts {
  readonly #base: SessionFacts
  readonly #prepared = new Map<string, SyntaxNode | undefined>()
  readonly #cursors = new Map<string, OpenCursor | undefined>()
  /** Nothing of the session's own names counts any more. */
  #preparedForgotten = false
  #cursorsForgotten = false
  /** A statement before may have changed where names are looked up. */
  pathMoved = false
  /** DDL before, or the end of a transaction with DDL: names may stand for something else. */
  catalogMoved = false

  constructor(base: SessionFacts) {
    this.#base = base
  }

  get searchPath(): SessionFacts['searchPath'] {
    return this.pathMoved ? 'unknown' : this.#base.searchPath
  }

  get role(): string {
    return this.#base.role
  }

  get temporarySchema(): string | null {
    return this.#base.temporarySchema
  }

  prepared(name: string): SyntaxNode | undefined {
    if (this.#prepared.has(name)) return this.#prepared.get(name)
    return this.#preparedForgotten ? undefined : this.#base.prepared(name)
  }

  cursor(name: string): OpenCursor | undefined {
    if (this.#cursors.has(name)) return this.#cursors.get(name)
    return this.#cursorsForgotten ? undefined : this.#base.cursor(name)
  }

  /** What the statement does to names when it has run. */
  apply(analysis: Analysis): void {
    const path = this.searchPath
    if (movesNames(analysis)) this.pathMoved = true
    if (analysis.changesCatalog) this.#catalogMoves()
    // Code that was not read may make and drop any name.
    if (analysis.kind === 'do' || analysis.kind === 'call') this.#forgetAll()
    for (const effect of analysis.sessionEffects) {
      switch (effect.kind) {
        case 'prepare':
          this.#prepared.set(effect.name, effect.statement)
          break
        case 'declare':
          this.#cursors.set(effect.name, {
            statement: effect.statement,
            searchPath: path,
            role: this.role,
            held: null,
          })
          break
        case 'deallocate':
          if (effect.name === null) this.#forgetPrepared()
          else this.#prepared.set(effect.name, undefined)
          break
        case 'close':
          if (effect.name === null) this.#forgetCursors()
          else this.#cursors.set(effect.name, undefined)
          break
        case 'discard':
        case 'unseen':
          this.#forgetAll()
          break
        case 'commit':
        case 'rollback':
        case 'rollback_to':
        case 'prepare_transaction':
          this.#forgetCursors()
          this.#transactionEnds()
          break
        default:
      }
    }
  }

  /** What was set or made inside the transaction only is gone. */
  #transactionEnds(): void {
    const ends = this.#base.endsWithTransaction
    if (ends?.path !== false) this.pathMoved = true
    if (ends?.catalog !== false) this.#catalogMoves()
  }

  #catalogMoves(): void {
    this.catalogMoved = true
    this.#forgetCursors()
  }

  #forgetAll(): void {
    this.#forgetPrepared()
    this.#forgetCursors()
  }

  #forgetPrepared(): void {
    this.#prepared.clear()
    this.#preparedForgotten = true
  }

  #forgetCursors(): void {
    this.#cursors.clear()
    this.#cursorsForgotten = true
  }
}

/** The statement changes where the next one's names are looked up. */
function movesNames(analysis: Analysis): boolean {
  return (
    analysis.mayChangeSettings ||
    analysis.access.settings.some((setting) => setting.action !== 'show')
  )
}
