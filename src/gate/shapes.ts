/**
 * Verdicts by shape, for bundles that declare `constants: hidden`: a text whose shape was admitted
 * before is admitted without being parsed or analysed. What makes that sound is tested beside the
 * shapes: texts of one shape parse alike, their trees and analyses are equal but for hidden constants,
 * and the policy saw none of these.
 *
 * Only verdicts that the gate would reuse for an equal text are kept, under everything else that was
 * visible (the context's key). The audit's members carry the text that runs, not the one that was judged.
 */
import { LRUCache } from 'lru-cache'
import { fingerprintOf } from '../policy/policy.ts'
import { shapeOf, type ParsedStatement, type SyntaxNode } from '../sql/sql.ts'
import { statementMembers } from './record.ts'
import type { Admitted, Verdict } from './verdict.ts'

type AdmittedVerdict = Extract<Verdict, { kind: 'admitted' }>

/** A statement known by its shape: its own text, the tree of the one that was judged. */
class ShapedStatement implements ParsedStatement {
  readonly text: string
  readonly #like: ParsedStatement

  constructor(text: string, like: ParsedStatement) {
    this.text = text
    this.#like = like
  }

  get kind(): string {
    return this.#like.kind
  }

  get index(): number {
    return this.#like.index
  }

  get count(): number {
    return this.#like.count
  }

  /** Of an equal statement: hidden constants are those of another text. */
  get astJson(): string {
    return this.#like.astJson
  }

  get ast(): SyntaxNode {
    return this.#like.ast
  }
}

/** Bounded in bytes. */
export class ShapeVerdicts {
  readonly #literals: 'keep' | 'redact'
  readonly #known: LRUCache<string, AdmittedVerdict>

  constructor(bytesMax: number, literals: 'keep' | 'redact') {
    this.#literals = literals
    this.#known = new LRUCache({
      maxSize: bytesMax,
      sizeCalculation: (verdict, key) =>
        verdict.statements.reduce(
          (bytes, { analysis, members }) => bytes + analysis.bytes + members.length * 2,
          1024 + key.length * 2,
        ),
    })
  }

  /** @param text of a query string; a view, not kept. */
  get(text: Buffer, contextKey: string): AdmittedVerdict | null {
    const shape = shapeOf(text)
    if (shape === null) return null
    const known = this.#known.get(keyOf(contextKey, shape.text))
    const like = known?.statements[0]
    if (known === undefined || like === undefined) return null
    return { ...known, cached: true, durationUs: 0, statements: [this.#admitted(text, like)] }
  }

  /** Keeps a verdict about one statement that holds for as long as its context. */
  set(text: Buffer, contextKey: string, verdict: Verdict): void {
    if (verdict.kind !== 'admitted' || !verdict.reusable || verdict.statements.length !== 1) return
    const shape = shapeOf(text)
    if (shape !== null) this.#known.set(keyOf(contextKey, shape.text), verdict)
  }

  #admitted(text: Buffer, like: Admitted): Admitted {
    const statement = new ShapedStatement(statementText(text), like.statement)
    const { analysis, decision, plan, revision } = like
    const members =
      this.#literals === 'redact'
        ? like.members
        : statementMembers(
            {
              ...{ text: statement.text, statement, analysis, decision, plan, revision },
              ...{ fingerprint: fingerprintOf({ statement }), refused: null },
            },
            this.#literals,
          )
    return { ...like, statement, members }
  }
}

function keyOf(contextKey: string, shape: string): string {
  return `${contextKey}\0${shape}`
}

/** Without the semicolons and white space around: what the parser calls the statement's text. */
function statementText(text: Buffer): string {
  return text.toString('utf8').replace(/^[ \t\n\r\f\v]+|[ \t\n\r\f\v;]+$/g, '')
}
