/**
 * Element-wise masks of arrays (hash, partial, bucket, truncate, noise). Like those masks, the
 * number of elements, NULL elements and the bounds show; `redact`, `null` and `constant` hide the
 * array whole (transform.ts).
 *
 * Text: array_out and array_in, binary: array_send in src/backend/utils/adt/arrayfuncs.c. What does
 * not read as an array is hidden whole.
 */
import type { Format, ValueMask } from './transform.ts'
import type { TypeShape } from './types.ts'

const DIMENSIONS_MAX = 6

/** The transform, or null where the element has none. */
export function compileArray(
  shape: TypeShape,
  format: Format,
  compileElement: (element: TypeShape) => ValueMask | null,
): ValueMask | null {
  if (shape.element === null) return null
  const element = compileElement(shape.element)
  if (element === null) return null
  return format === 'binary' ? binaryArray(element) : textArray(element, shape.delimiter)
}

function binaryArray(element: ValueMask): ValueMask {
  return (buffer, start, end) => {
    if (end - start < 12) return null
    const dimensions = buffer.readInt32BE(start)
    if (dimensions < 0 || dimensions > DIMENSIONS_MAX) return null
    const headerEnd = start + 12 + dimensions * 8
    if (headerEnd > end) return null
    const header = Buffer.from(buffer.subarray(start, headerEnd))
    const pieces: Buffer[] = [header]
    let hasNull = false
    let at = headerEnd
    while (at < end) {
      if (at + 4 > end) return null
      const length = buffer.readInt32BE(at)
      const after = at + 4 + Math.max(length, 0)
      if (length < -1 || after > end) return null
      const value = length === -1 ? null : element(buffer, at + 4, after)
      const prefix = Buffer.alloc(4)
      prefix.writeInt32BE(value === null ? -1 : value.length)
      pieces.push(prefix)
      if (value === null) hasNull = true
      else pieces.push(value)
      at = after
    }
    header.writeInt32BE(hasNull ? 1 : 0, 4)
    return Buffer.concat(pieces)
  }
}

const BACKSLASH = '\\'

/** Reads the literal left to right; braces and bounds are copied, elements are masked. */
function textArray(element: ValueMask, delimiter: string): ValueMask {
  return (buffer, start, end) => {
    const text = buffer.toString('utf8', start, end)
    let at = 0
    let result = ''
    if (text.startsWith('[')) {
      at = text.indexOf('=') + 1
      if (at === 0 || !/^(?:\[-?\d+:-?\d+\])+=$/.test(text.slice(0, at))) return null
      result = text.slice(0, at)
    }
    while (at < text.length) {
      const character = text[at] ?? ''
      if (character === '{' || character === '}' || character === delimiter) {
        result += character
        at += 1
        continue
      }
      const read = readElement(text, at, delimiter)
      if (read === null) return null
      result += maskElement(read.value, element)
      at = read.after
    }
    return Buffer.from(result)
  }
}

function maskElement(value: string | null, element: ValueMask): string {
  if (value === null) return 'NULL'
  const bytes = Buffer.from(value)
  const masked = element(bytes, 0, bytes.length)
  return masked === null ? 'NULL' : `"${masked.toString().replace(/["\\]/g, '\\$&')}"`
}

interface ReadElement {
  readonly value: string | null
  readonly after: number
}

function readElement(text: string, start: number, delimiter: string): ReadElement | null {
  const quoted = text[start] === '"'
  let at = quoted ? start + 1 : start
  let value = ''
  for (; at < text.length; at += 1) {
    const character = text[at] ?? ''
    if (character === BACKSLASH) {
      at += 1
      value += text[at] ?? ''
    } else if (quoted ? character === '"' : character === delimiter || character === '}') break
    else value += character
  }
  if (at >= text.length) return null
  if (quoted) return { value, after: at + 1 }
  return { value: value.toUpperCase() === 'NULL' ? null : value, after: at }
}
