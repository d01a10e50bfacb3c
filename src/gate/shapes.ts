/**
 * What is known of a shape in a context. Texts of one shape parse alike, and their trees and analyses
 * are equal but for hidden constants (tested beside the shapes), so an analysis serves all of them. A
 * bundle that declares `constants: hidden` saw none of those constants: then the verdict serves too,
 * and a text whose shape was admitted before is admitted without being parsed.
 *
 * Only what the gate would use again for an equal text is kept, under everything else that was visible
 * (the context's key). The audit's members carry the text that runs, not the one that was judged.
 */
import { LRUCache } from 'lru-cache'
import { isSpace, type Analysis, type ParsedStatement, type SyntaxNode } from '../sql/sql.ts'
import { isRedacted, statementMembers, textMember, type Literals } from './record.ts'
import type { Admitted, AdmittedVerdict, Verdict } from './verdict.ts'

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

  get tree(): string | Buffer {
    return this.#like.tree
  }

  get usesNames(): boolean {
    return this.#like.usesNames
  }

  get ast(): SyntaxNode {
    return this.#like.ast
  }
}

/** What all texts of a shape have in common in one context. */
export interface Like {
  readonly analysis: Analysis
  readonly fingerprint: string
}

interface Kept {
  readonly like: Like
  /** Null unless the bundle saw no constants. */
  verdict: AdmittedVerdict | null
  /** Its audit members behind the text; null where constants are redacted in them. */
  membersRest: string | null
}

interface Known {
  readonly contexts: Map<string, Kept>
  bytes: number
}

/** Contexts remembered of one shape before the oldest is forgotten. */
const contextCountMax = 64

/** Bounded in bytes. A shape is the text of `shapeOf`. */
export class Shapes {
  readonly #literals: Literals
  readonly #known: LRUCache<string, Known>

  constructor(bytesMax: number, literals: Literals) {
    this.#literals = literals
    this.#known = new LRUCache({ maxSize: bytesMax, sizeCalculation: ({ bytes }) => bytes })
  }

  /** Of a statement of this shape that was analysed in this context. */
  like(shape: string, contextKey: string): Like | null {
    return this.#known.get(shape)?.contexts.get(contextKey)?.like ?? null
  }

  /** Keeps an analysis that holds for as long as its context. */
  keepLike(shape: string, contextKey: string, like: Like): void {
    const known = this.#known.get(shape) ?? { contexts: new Map(), bytes: 512 + shape.length * 2 }
    if (known.contexts.size >= contextCountMax) {
      known.contexts.clear()
      known.bytes = 512 + shape.length * 2
    }
    known.contexts.set(contextKey, { like, verdict: null, membersRest: null })
    known.bytes += like.analysis.bytes + contextKey.length * 2 + 512
    this.#known.set(shape, known)
  }

  /** The verdict on another text of the shape, for this one. @param text a view, not kept. */
  verdict(shape: string, contextKey: string, text: Buffer): AdmittedVerdict | null {
    const kept = this.#known.get(shape)?.contexts.get(contextKey)
    const admitted = kept?.verdict?.statements[0]
    if (kept === undefined || kept.verdict === null || admitted === undefined) return null
    return {
      kind: 'admitted',
      statements: [this.#admitted(text, admitted, kept)],
      cached: true,
      durationUs: 0,
      reusable: kept.verdict.reusable,
      needs: kept.verdict.needs,
    }
  }

  /** Keeps a verdict about one statement whose analysis is kept: constants had no part in it. */
  keepVerdict(shape: string, contextKey: string, verdict: Verdict): void {
    if (verdict.kind !== 'admitted' || !verdict.reusable || verdict.statements.length !== 1) return
    const known = this.#known.get(shape)
    const kept = known?.contexts.get(contextKey)
    const [admitted] = verdict.statements
    if (known === undefined || kept === undefined || admitted === undefined) return
    const { members, statement } = admitted
    const head = textMember(statement.text, false)
    const open = !isRedacted(statement.text, this.#literals) && members.startsWith(head)
    kept.verdict = verdict
    kept.membersRest = open ? members.slice(head.length) : null
    known.bytes += members.length * 4 + statement.tree.length * 5 + 512
    this.#known.set(shape, known)
  }

  #admitted(text: Buffer, admitted: Admitted, { like, membersRest }: Kept): Admitted {
    const statement = new ShapedStatement(statementText(text), admitted.statement)
    const { analysis, decision, plan, revision, verify, tally } = admitted
    const members =
      membersRest !== null && !isRedacted(statement.text, this.#literals)
        ? textMember(statement.text, false) + membersRest
        : statementMembers(
            {
              text: statement.text,
              ...{ statement, analysis, decision, plan, revision },
              ...{ fingerprint: like.fingerprint, refused: null },
            },
            this.#literals,
          )
    return { statement, analysis, decision, plan, verify, revision, members, tally }
  }
}

const semicolon = 0x3b

/** Without the semicolons and white space around: what the parser calls the statement's text. */
function statementText(text: Buffer): string {
  let start = 0
  let end = text.length
  while (start < end && isSpace(text[start] ?? 0)) start++
  while (end > start && (isSpace(text[end - 1] ?? 0) || text[end - 1] === semicolon)) end--
  return text.toString('utf8', start, end)
}
