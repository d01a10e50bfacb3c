/**
 * The shape of a statement: its text with ordinary constants blanked, for bundles that declare
 * `constants: hidden`. The blanked text is itself SQL: `''`, `0`, `0.0` stand where strings and numbers
 * stood, so it is the cache key, the text the policy sees, and (parsed) the tree the policy sees.
 *
 * Invariant: texts of one shape have one tree except for values of hidden constants of one lexical
 * class (int4, int8, numeric, string). So a constant is hidden only where it is known to be harmless:
 * in WHERE, ON, HAVING, SET and VALUES, outside the brackets of every call, and there only as the right
 * side of a comparison whose left side is no constant, in lists (IN, VALUES, ARRAY), in BETWEEN, and
 * behind + and -. All others stay in the key. There is no shape for utility statements, several
 * statements, strings that go on over a line, and texts with reg* types.
 * The analysis must not let the value of such a constant change what it says.
 */
import { Lexer, spaceEnd } from './parser-lex.ts'
import {
  additive,
  and,
  between,
  comma,
  comparison,
  constant,
  listOpening,
  nothing,
  numberPlaceholder,
  opening,
  operand,
  operatorClass,
  other,
  pathOperator,
  placeholders,
} from './shape-tokens.ts'
import {
  andWord,
  arrayWord,
  asWord,
  betweenWord,
  caseWord,
  conditionWord,
  constantWord,
  distinctWord,
  fromWord,
  groupingWord,
  hasShape,
  listWord,
  nameWord,
  notWord,
  onWord,
  otherClauseWord,
  queryWord,
  regWord,
  setWord,
  valuesWord,
  wordCode,
} from './shape-words.ts'

export interface Shape {
  /** The key, and the text a policy sees. White space and comments are single spaces. */
  readonly text: string
  /** How many constants are hidden. */
  readonly hiddenCount: number
}

/** Longer texts have no shape: they would fill the caches. */
export const shapeBytesMax = 16 * 1024
const levelsMax = 256

// Kinds of brackets.
const grouping = 0
const list = 1
/** Arguments, type modifiers, subscripts: every constant inside is visible, at any depth. */
const call = 2
const query = 3

const roundOpen = 0x28
const squareOpen = 0x5b
const roundClose = 0x29
const squareClose = 0x5d
const commaByte = 0x2c
const semicolonByte = 0x3b
const dotByte = 0x2e
const plusByte = 0x2b
const minusByte = 0x2d

/** One pass over one text. Reused: shapes are made one at a time. */
class ShapeScanner {
  readonly #lexer = new Lexer()
  #text: Uint8Array = new Uint8Array(0)
  readonly #out = Buffer.allocUnsafe(shapeBytesMax * 3)
  #outBytes = 0
  #hiddenCount = 0

  #level = 0
  readonly #kinds = new Uint8Array(levelsMax)
  readonly #hides = new Uint8Array(levelsMax)
  readonly #visible = new Uint8Array(levelsMax)
  /** In a VALUES clause: its rows are lists. */
  readonly #rows = new Uint8Array(levelsMax)
  /** 1 behind BETWEEN, 2 behind its AND. */
  readonly #betweens = new Uint8Array(levelsMax)

  #before = nothing
  #beforeThat = nothing
  #beforeCode = nameWord
  #signed = false
  #labelled = false
  #afterString = false

  /** @param text valid UTF-8. */
  scan(text: Uint8Array): Shape | null {
    if (text.length > shapeBytesMax) return null
    this.#reset(text)
    const lexer = this.#lexer
    if (!this.#begins()) return null
    for (let kind = lexer.kind; kind !== 'end'; kind = lexer.next()) {
      const isString = kind === 'string' || kind === 'specialString'
      // Strings that stand side by side are one constant, or an error.
      if (isString && this.#afterString) return null
      this.#afterString = isString
      if (lexer.spaced && this.#outBytes > 0) this.#out[this.#outBytes++] = 0x20
      if (kind === 'punctuation' && text[lexer.start] === semicolonByte) {
        if (!this.#endsHere()) return null
        break
      }
      if (!this.#take(kind)) return null
    }
    if (this.#level !== 0) return null
    const shape = this.#out.toString('utf8', 0, this.#outBytes)
    return { text: shape, hiddenCount: this.#hiddenCount }
  }

  #reset(text: Uint8Array): void {
    this.#text = text
    this.#lexer.reset(text)
    this.#outBytes = 0
    this.#hiddenCount = 0
    this.#level = 0
    this.#enter(grouping, 0, 0)
    this.#shift(nothing)
    this.#shift(nothing)
    this.#beforeCode = nameWord
    this.#signed = false
    this.#labelled = false
    this.#afterString = false
  }

  /** The first token may begin a statement that can have a shape. */
  #begins(): boolean {
    const lexer = this.#lexer
    const kind = lexer.next()
    if (kind === 'punctuation') return this.#text[lexer.start] === roundOpen
    return kind === 'word' && hasShape(lexer.slice())
  }

  /** Only more semicolons follow; nothing of them is kept. */
  #endsHere(): boolean {
    if (this.#level !== 0) return false
    while (this.#out[this.#outBytes - 1] === 0x20) this.#outBytes -= 1
    const lexer = this.#lexer
    for (let kind = lexer.next(); kind !== 'end'; kind = lexer.next()) {
      if (kind !== 'punctuation' || this.#text[lexer.start] !== semicolonByte) return false
    }
    return true
  }

  #enter(kind: number, hides: number, visible: number): void {
    const level = this.#level
    this.#kinds[level] = kind
    this.#hides[level] = hides
    this.#visible[level] = visible
    this.#rows[level] = 0
    this.#betweens[level] = 0
  }

  #shift(what: number): void {
    this.#beforeThat = this.#before
    this.#before = what
    this.#signed = false
  }

  #copy(): void {
    const { start, end } = this.#lexer
    const text = this.#text
    const out = this.#out
    let to = this.#outBytes
    for (let at = start; at < end; at++) out[to++] = text[at] as number
    this.#outBytes = to
  }

  #hide(placeholder: Buffer): void {
    for (const byte of placeholder) this.#out[this.#outBytes++] = byte
    this.#hiddenCount += 1
  }

  /** False: the text has no shape. */
  #take(kind: string): boolean {
    const text = this.#text
    switch (kind) {
      case 'word':
        return this.#word()
      case 'quotedWord':
        this.#copy()
        if (this.#isQuotedReg()) return false
        this.#plainToken(operand)
        return true
      case 'parameter':
        this.#copy()
        this.#plainToken(operand)
        return true
      case 'string':
        // Behind + and - a string may be a key: jsonb - 'key'.
        if (this.#hidesHere() && !this.#signed && this.#before !== additive) {
          this.#hide(placeholders.string)
        } else this.#copy()
        this.#plainToken(this.#before === pathOperator ? operand : constant)
        return true
      case 'integer':
      case 'decimal': {
        const { start, end } = this.#lexer
        const placeholder = this.#hidesHere() ? numberPlaceholder(text, start, end) : null
        if (placeholder === null) this.#copy()
        else this.#hide(placeholder)
        this.#plainToken(constant)
        return true
      }
      case 'specialString':
      case 'specialNumber':
        this.#copy()
        this.#plainToken(constant)
        return true
      case 'operator':
        this.#operator()
        return true
      case 'cast':
        this.#copy()
        this.#plainToken(other)
        return true
      case 'punctuation':
        return this.#punctuation()
      default:
        return false
    }
  }

  #plainToken(what: number): void {
    this.#shift(what)
    this.#beforeCode = nameWord
    this.#labelled = false
  }

  /** Whether a constant that stands here is hidden. */
  #hidesHere(): boolean {
    const level = this.#level
    if (this.#hides[level] === 0) return false
    switch (this.#before) {
      case comparison:
      case additive:
        return this.#beforeThat === operand
      case opening:
      case comma:
        return this.#kinds[level] === list
      case between:
        return this.#betweens[level] === 1
      case and:
        return this.#betweens[level] === 3
      default:
        return false
    }
  }

  #operator(): void {
    this.#copy()
    const { start, end } = this.#lexer
    const first = this.#text[start] as number
    const bytes = end - start
    if (bytes === 1 && (first === plusByte || first === minusByte)) {
      if (this.#before === operand || this.#before === constant) this.#plainToken(additive)
      // A sign: what stood before it decides about the number behind it.
      else this.#signed = true
      return
    }
    this.#plainToken(operatorClass(this.#text, start, bytes))
  }

  #punctuation(): boolean {
    this.#copy()
    const byte = this.#text[this.#lexer.start]
    switch (byte) {
      case roundOpen:
      case squareOpen:
        return this.#open(byte)
      case roundClose:
      case squareClose: {
        if (this.#level === 0) return false
        const kind = this.#kinds[this.#level]
        this.#level -= 1
        this.#plainToken(kind === call || kind === query ? operand : constant)
        return true
      }
      case commaByte:
        this.#betweens[this.#level] = 0
        this.#plainToken(comma)
        return true
      case dotByte:
        this.#plainToken(other)
        this.#labelled = true
        return true
      default:
        this.#plainToken(other)
        return true
    }
  }

  #open(byte: number): boolean {
    const outer = this.#level
    if (outer + 1 >= levelsMax) return false
    const visible = this.#visible[outer] as number
    const kind = this.#bracketKind(byte, outer)
    this.#level = outer + 1
    if (kind === call) this.#enter(call, 0, 1)
    else if (kind === list && this.#rows[outer] === 1) this.#enter(list, 1 - visible, visible)
    else this.#enter(kind, this.#hides[outer] as number, visible)
    this.#plainToken(opening)
    return true
  }

  #bracketKind(byte: number, outer: number): number {
    const before = this.#before
    const nested = this.#kinds[outer] === list && (before === opening || before === comma)
    if (before === listOpening) return list
    if (byte === squareOpen) return nested ? list : call
    if (this.#rows[outer] === 1 && (before === comma || this.#beforeCode === valuesWord))
      return list
    switch (this.#beforeCode) {
      case andWord:
      case groupingWord:
      case notWord:
      case conditionWord:
        return grouping
      case onWord:
        return this.#hides[outer] === 1 ? grouping : call
    }
    if (before === operand || before === other || before === between) return call
    return nested ? list : grouping
  }

  #word(): boolean {
    const { start, end } = this.#lexer
    const code = wordCode(this.#text, start, end)
    this.#copy()
    if (code === regWord) return false
    if (code === nameWord || this.#labelled) {
      // Behind a dot or AS every word is a name.
      this.#plainToken(operand)
      return true
    }
    const before = this.#before
    // x NOT IN (…), x NOT BETWEEN …: as if NOT were not there.
    if (code === notWord && before === operand) return true
    const beforeThat = this.#beforeThat
    const beforeCode = this.#beforeCode
    this.#plainToken(other)
    this.#beforeCode = code
    if (code === listWord || code === arrayWord) this.#listWord(code, before, beforeThat)
    else this.#keyword(code, before, beforeCode)
    return true
  }

  /** IN behind a name, ANY and ARRAY behind a comparison with one, ARRAY as an item of such a list. */
  #listWord(code: number, before: number, beforeThat: number): void {
    const level = this.#level
    const compared = before === comparison && beforeThat === operand
    const item = this.#kinds[level] === list && (before === opening || before === comma)
    const hides = compared || (code === arrayWord ? item : before === operand)
    if (hides && this.#hides[level] === 1) this.#before = listOpening
  }

  #keyword(code: number, before: number, beforeCode: number): void {
    const level = this.#level
    switch (code) {
      case queryWord:
        if (before === opening) {
          this.#enter(query, 0, level === 0 ? 0 : (this.#visible[level - 1] as number))
        } else this.#clause(0)
        return
      case valuesWord:
        this.#valuesClause(before)
        return
      case conditionWord:
        this.#clause(1)
        return
      case onWord:
        // DISTINCT ON holds positions.
        if (beforeCode !== distinctWord) this.#clause(1)
        else this.#hides[level] = 0
        return
      case setWord:
        // A column may be called so: BETWEEN set AND 5, ORDER BY set.
        if ((before === operand || before === constant) && this.#nextByteBeginsName()) {
          this.#clause(1)
        } else this.#asName()
        return
      case fromWord:
        // IS DISTINCT FROM begins no clause.
        if (beforeCode !== distinctWord) this.#clause(0)
        return
      case otherClauseWord:
        this.#clause(0)
        return
      case betweenWord:
        this.#betweens[level] = before === operand ? 1 : 0
        this.#before = between
        return
      case andWord:
        this.#betweens[level] = this.#betweens[level] === 1 ? 3 : 0
        this.#before = and
        return
      case caseWord:
        this.#betweens[level] = 0
        return
      case constantWord:
        this.#before = constant
        return
      case asWord:
        this.#labelled = true
        return
    }
  }

  #asName(): void {
    this.#before = operand
    this.#beforeCode = nameWord
  }

  #clause(hides: number): void {
    const level = this.#level
    this.#hides[level] = this.#visible[level] === 1 ? 0 : hides
    this.#rows[level] = 0
    this.#betweens[level] = 0
  }

  #valuesClause(before: number): void {
    if (this.#nextByte() !== roundOpen) {
      this.#asName()
      return
    }
    const level = this.#level
    if (before === opening) {
      this.#enter(query, 0, level === 0 ? 0 : (this.#visible[level - 1] as number))
    } else this.#clause(0)
    this.#rows[level] = 1
  }

  /** The first byte of the next token, 0 at the end. */
  #nextByte(): number {
    return this.#text[spaceEnd(this.#text, this.#lexer.end)] ?? 0
  }

  #nextByteBeginsName(): boolean {
    const byte = this.#nextByte()
    return (
      byte === 0x22 ||
      byte === 0x5f ||
      byte >= 0x80 ||
      ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a)
    )
  }

  #isQuotedReg(): boolean {
    const { start, end } = this.#lexer
    return wordCode(this.#text, start + 1, end - 1) === regWord
  }
}

const scanner = new ShapeScanner()

/**
 * The shape of a query string of one statement, or null where it has none.
 * @param text valid UTF-8; a view, not kept.
 */
export function shapeOf(text: Uint8Array): Shape | null {
  return scanner.scan(text)
}
