/**
 * A scanner of PostgreSQL's tokens over bytes, after scan.l of PostgreSQL 18 with
 * standard_conforming_strings on (which is pinned). It allocates nothing: one Lexer is moved from
 * token to token.
 *
 * It knows where tokens begin and end, not what they mean: escapes are not decoded. Where scan.l
 * raises an error it goes on or says `bad`; libpg_query judges the text anyway.
 */

/** Classes of bytes; 0 is any other. */
export const byteSpace = 1
export const byteWord = 2
export const byteDigit = 3
export const byteOpen = 4
export const byteClose = 5
export const byteOperator = 6

/** Class of each byte. A letter, `_` or any byte ≥ 0x80 begins a word (scan.l: ident_start). */
export const byteClasses = new Uint8Array(256)
for (let byte = 0; byte < 256; byte++) {
  const char = String.fromCharCode(byte)
  if (/[ \t\n\r\f\v]/.test(char)) byteClasses[byte] = byteSpace
  else if (/[A-Za-z_]/.test(char) || byte >= 0x80) byteClasses[byte] = byteWord
  else if (/[0-9]/.test(char)) byteClasses[byte] = byteDigit
  else if (char === '(' || char === '[') byteClasses[byte] = byteOpen
  else if (char === ')' || char === ']') byteClasses[byte] = byteClose
  else if ('~!@#^&|`?+-*/%<>='.includes(char)) byteClasses[byte] = byteOperator
}

const quote = 0x27
const doubleQuote = 0x22
const dollar = 0x24
const minus = 0x2d
const plus = 0x2b
const slash = 0x2f
const star = 0x2a
const backslash = 0x5c
const colon = 0x3a
const equals = 0x3d
const dot = 0x2e
const ampersand = 0x26

/** scan.l: identifier = {ident_start}{ident_cont}*, where ident_cont adds digits and `$`. */
export function wordEnd(text: Uint8Array, at: number): number {
  for (;;) {
    const byte = text[at]
    if (byte === undefined) return at
    const kind = byteClasses[byte]
    if (kind !== byteWord && kind !== byteDigit && byte !== dollar) return at
    at += 1
  }
}

/** Behind the closing mark, or the end. A doubled quote ends one string and begins the next. */
export function quotedEnd(text: Uint8Array, at: number, mark: number): number {
  const end = text.indexOf(mark, at)
  return end === -1 ? text.length : end + 1
}

/** Behind the closing quote of E'…', or the end. A doubled quote counts as in `quotedEnd`. */
export function escapeStringEnd(text: Uint8Array, at: number): number {
  for (; at < text.length; at++) {
    if (text[at] === backslash) at += 1
    else if (text[at] === quote) {
      if (text[at + 1] !== quote) return at + 1
      at += 1
    }
  }
  return text.length
}

/** Behind `$tag$ … $tag$`, or behind a lone `$`. */
export function dollarEnd(text: Uint8Array, at: number): number {
  let mark = at + 1
  if (byteClasses[text[mark] ?? 0] === byteWord) {
    do mark += 1
    while (byteClasses[text[mark] ?? 0] === byteWord || byteClasses[text[mark] ?? 0] === byteDigit)
  }
  if (text[mark] !== dollar) return at + 1
  const bytes = mark + 1 - at
  for (let end = mark + 1; ; end++) {
    end = text.indexOf(dollar, end)
    if (end === -1) return text.length
    let same = 1
    while (same < bytes && text[end + same] === text[at + same]) same += 1
    if (same === bytes) return end + bytes
  }
}

/** Behind the end of a `--` comment. */
export function lineCommentEnd(text: Uint8Array, at: number): number {
  for (; at < text.length; at++) if (text[at] === 0x0a || text[at] === 0x0d) return at + 1
  return at
}

/** Behind the end of a nesting comment; `at` is behind its first mark. */
export function blockCommentEnd(text: Uint8Array, at: number): number {
  let nesting = 1
  while (at < text.length) {
    if (text[at] === star && text[at + 1] === slash) {
      at += 2
      nesting -= 1
      if (nesting === 0) return at
    } else if (text[at] === slash && text[at + 1] === star) {
      at += 2
      nesting += 1
    } else at += 1
  }
  return at
}

/** Behind white space and comments. */
export function spaceEnd(text: Uint8Array, at: number): number {
  for (;;) {
    const byte = text[at]
    if (byte === undefined) return at
    if (byteClasses[byte] === byteSpace) at += 1
    else if (byte === minus && text[at + 1] === minus) at = lineCommentEnd(text, at + 2)
    else if (byte === slash && text[at + 1] === star) at = blockCommentEnd(text, at + 2)
    else return at
  }
}

export type TokenKind =
  | 'end'
  | 'word'
  | 'quotedWord'
  /** '…', without escapes. */
  | 'string'
  /** Any other string: E'', B'', X'', N'', U&'', $$…$$. */
  | 'specialString'
  /** [0-9]+ */
  | 'integer'
  /** Digits with a point or an exponent. */
  | 'decimal'
  /** Any other number: 0x1F, 1_000, 1abc. */
  | 'specialNumber'
  | 'parameter'
  | 'operator'
  /** One of ( ) [ ] , ; . or : alone. */
  | 'punctuation'
  | 'cast'
  /** := */
  | 'assign'
  /** A byte that begins no token, or something unterminated. */
  | 'bad'

/** Moves over the tokens of a text. `spaced`: white space or a comment stood before the token. */
export class Lexer {
  text: Uint8Array = new Uint8Array(0)
  kind: TokenKind = 'end'
  start = 0
  end = 0
  spaced = false

  reset(text: Uint8Array): void {
    this.text = text
    this.kind = 'end'
    this.start = 0
    this.end = 0
    this.spaced = false
  }

  /** To the next token; its kind. */
  next(): TokenKind {
    const text = this.text
    const at = spaceEnd(text, this.end)
    this.spaced = at > this.end
    this.end = at
    this.start = at
    const byte = text[at]
    if (byte === undefined) return (this.kind = 'end')
    switch (byteClasses[byte]) {
      case byteWord:
        return (this.kind = this.#word(byte))
      case byteDigit:
        return (this.kind = this.#number())
      case byteOpen:
      case byteClose:
        this.end = at + 1
        return (this.kind = 'punctuation')
      case byteOperator:
        this.end = operatorEnd(text, at)
        return (this.kind = 'operator')
      default:
        return (this.kind = this.#other(byte))
    }
  }

  /** The token's bytes as text. */
  slice(): string {
    return Buffer.from(
      this.text.buffer,
      this.text.byteOffset + this.start,
      this.end - this.start,
    ).toString()
  }

  #word(first: number): TokenKind {
    const { text, start } = this
    const end = wordEnd(text, start + 1)
    this.end = end
    if (end - start !== 1) return 'word'
    const next = text[end]
    const letter = first | 0x20
    if (
      next === quote &&
      (letter === 0x65 || letter === 0x62 || letter === 0x78 || letter === 0x6e)
    ) {
      // E'…', B'…', X'…', N'…'
      this.end =
        letter === 0x65 ? escapeStringEnd(text, end + 1) : this.#plainStringEnd(end + 1, quote)
      return text[this.end - 1] === quote && this.end > end + 1 ? 'specialString' : 'bad'
    }
    if (letter === 0x75 && next === ampersand) {
      const mark = text[end + 1]
      if (mark === quote || mark === doubleQuote) {
        this.end = this.#plainStringEnd(end + 2, mark)
        return mark === quote ? 'specialString' : 'bad'
      }
    }
    return 'word'
  }

  /** Behind the whole string, doubled quotes included. */
  #plainStringEnd(at: number, mark: number): number {
    let end = quotedEnd(this.text, at, mark)
    while (this.text[end] === mark && end < this.text.length) {
      end = quotedEnd(this.text, end + 1, mark)
    }
    return end
  }

  #number(): TokenKind {
    const { text, start } = this
    let at = digitsEnd(text, start)
    let kind: TokenKind = 'integer'
    if (text[at] === dot) {
      if (text[at + 1] === dot) {
        this.end = at
        return 'specialNumber'
      }
      kind = 'decimal'
      at = digitsEnd(text, at + 1)
    }
    at = exponentEnd(text, at)
    if (kind === 'integer' && at > digitsEnd(text, start)) kind = 'decimal'
    const junk = byteClasses[text[at] ?? 0]
    if (junk === byteWord || junk === byteDigit || text[at] === dollar || text[at] === dot) {
      this.end = wordEnd(text, at)
      return 'specialNumber'
    }
    this.end = at
    return kind
  }

  #other(byte: number): TokenKind {
    const { text, start } = this
    this.end = start + 1
    switch (byte) {
      case quote: {
        this.end = this.#plainStringEnd(start + 1, quote)
        return this.end > start + 1 && text[this.end - 1] === quote ? 'string' : 'bad'
      }
      case doubleQuote:
        this.end = this.#plainStringEnd(start + 1, doubleQuote)
        return this.end > start + 1 && text[this.end - 1] === doubleQuote ? 'quotedWord' : 'bad'
      case dollar:
        if (byteClasses[text[start + 1] ?? 0] === byteDigit) {
          this.end = wordEnd(text, start + 1)
          return 'parameter'
        }
        this.end = dollarEnd(text, start)
        return this.end > start + 2 ? 'specialString' : 'bad'
      case dot:
        if (byteClasses[text[start + 1] ?? 0] === byteDigit) return this.#fraction()
        return 'punctuation'
      case colon:
        if (text[start + 1] === colon || text[start + 1] === equals) this.end = start + 2
        if (this.end === start + 1) return 'punctuation'
        return text[start + 1] === colon ? 'cast' : 'assign'
      case 0x2c:
      case 0x3b:
        return 'punctuation'
      default:
        return 'bad'
    }
  }

  #fraction(): TokenKind {
    const at = exponentEnd(this.text, digitsEnd(this.text, this.start + 1))
    const junk = byteClasses[this.text[at] ?? 0]
    this.end = at
    if (junk !== byteWord && junk !== byteDigit && this.text[at] !== dollar) return 'decimal'
    this.end = wordEnd(this.text, at)
    return 'specialNumber'
  }
}

function digitsEnd(text: Uint8Array, at: number): number {
  while (byteClasses[text[at] ?? 0] === byteDigit) at += 1
  return at
}

/** Behind [eE][+-]?[0-9]+ where it stands there, else `at`. */
function exponentEnd(text: Uint8Array, at: number): number {
  if (((text[at] ?? 0) | 0x20) !== 0x65) return at
  const sign = text[at + 1]
  const digits = sign === plus || sign === minus ? at + 2 : at + 1
  const end = digitsEnd(text, digits)
  return end === digits ? at : end
}

/**
 * scan.l, rule {operator}: the longest run of operator characters, cut where a comment begins; an
 * operator of several characters ends in + or - only if it has one of ~ ! @ # ^ & | ` ? %.
 */
export function operatorEnd(text: Uint8Array, start: number): number {
  let end = start
  let special = false
  for (;;) {
    const byte = text[end]
    if (byte === undefined || byteClasses[byte] !== byteOperator) break
    const next = text[end + 1]
    if (byte === minus && next === minus) break
    if (byte === slash && next === star) break
    if (byte !== plus && byte !== minus && byte !== star && byte !== slash) {
      if (byte !== 0x3c && byte !== 0x3e && byte !== equals) special = true
    }
    end += 1
  }
  if (!special) {
    while (end > start + 1 && (text[end - 1] === plus || text[end - 1] === minus)) end -= 1
  }
  return end
}
