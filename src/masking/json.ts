/**
 * `redact` of a document: every string becomes "****", every number and boolean null. Keys and the
 * nesting stay, so that programs that read the document go on working; where a key or a count is
 * itself secret, mask with `null` or `constant` (docs/guides/masking.md).
 *
 * A scan over bytes without recursion: depth costs nothing. Whitespace is written anew, since that
 * of a json value is the writer's. What is not well-formed becomes "****" as a whole.
 */
import type { Format, ValueMask } from './transform.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COLON = 0x3a
const COMMA = 0x2c

/** jsonb_send: a version byte before the text. */
const JSONB_VERSION = 1

const STRING_HIDDEN = Buffer.from('"****"')
const NULL_LITERAL = Buffer.from('null')

/** The transform of `redact` for json and jsonb. */
export function redactJson(family: 'json' | 'jsonb', format: Format): ValueMask {
  const versioned = family === 'jsonb' && format === 'binary'
  return (buffer, start, end) => {
    const from = versioned ? start + 1 : start
    const pieces: Buffer[] = versioned ? [Buffer.from([JSONB_VERSION])] : []
    if (versioned && buffer[start] !== JSONB_VERSION) pieces.push(STRING_HIDDEN)
    else if (!hideValues(buffer, from, end, pieces))
      pieces.splice(versioned ? 1 : 0, pieces.length, STRING_HIDDEN)
    return Buffer.concat(pieces)
  }
}

const PUNCTUATION: ReadonlyMap<number, Buffer> = new Map([
  [0x7b, Buffer.from('{')],
  [0x7d, Buffer.from('}')],
  [0x5b, Buffer.from('[')],
  [0x5d, Buffer.from(']')],
  [COLON, Buffer.from(': ')],
  [COMMA, Buffer.from(', ')],
])

/** Appends the hidden document; false where it cannot be read. */
function hideValues(buffer: Buffer, start: number, end: number, pieces: Buffer[]): boolean {
  let at = start
  while (at < end) {
    const byte = buffer[at]
    if (byte === undefined) return false
    if (isSpace(byte)) {
      at += 1
      continue
    }
    const punctuation = PUNCTUATION.get(byte)
    if (punctuation !== undefined) {
      pieces.push(punctuation)
      at += 1
    } else if (byte === QUOTE) {
      const after = stringEnd(buffer, at, end)
      if (after < 0) return false
      // The view is borrowed only until the caller concatenates.
      pieces.push(isKey(buffer, after, end) ? buffer.subarray(at, after) : STRING_HIDDEN)
      at = after
    } else {
      if (!isScalarStart(byte)) return false
      at = scalarEnd(buffer, at, end)
      pieces.push(NULL_LITERAL)
    }
  }
  return pieces.length > 0
}

/** One past the closing quote, or -1. */
function stringEnd(buffer: Buffer, start: number, end: number): number {
  for (let at = start + 1; at < end; at += 1) {
    const byte = buffer[at]
    if (byte === BACKSLASH) at += 1
    else if (byte === QUOTE) return at + 1
  }
  return -1
}

function isKey(buffer: Buffer, after: number, end: number): boolean {
  let at = after
  while (at < end && isSpace(buffer[at] ?? 0)) at += 1
  return at < end && buffer[at] === COLON
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d
}

/** The first byte of a number, true, false or null. */
function isScalarStart(byte: number): boolean {
  return (
    byte === 0x2d ||
    (byte >= 0x30 && byte <= 0x39) ||
    byte === 0x74 ||
    byte === 0x66 ||
    byte === 0x6e
  )
}

function scalarEnd(buffer: Buffer, start: number, end: number): number {
  let at = start
  while (at < end) {
    const byte = buffer[at] ?? 0
    if (isSpace(byte) || byte === COMMA || byte === 0x7d || byte === 0x5d) break
    at += 1
  }
  return at
}
