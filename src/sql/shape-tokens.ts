/**
 * What shape.ts knows about single tokens: what stood before a token, which operators compare, and what
 * a hidden constant is replaced by. A placeholder is of the same class to scan.l and to make_const
 * (parse_node.c), so that the blanked text parses to the same tree.
 */

// What stood before a token.
export const nothing = 0
/** A name, parameter, call or sub-select: something that is not a constant. */
export const operand = 1
export const constant = 2
export const comparison = 3
export const additive = 4
export const opening = 5
export const comma = 6
export const between = 7
export const and = 8
export const other = 9
/** IN, ANY, ARRAY in a place where their lists are hidden. */
export const listOpening = 10
/** -> ->> #> #>>: the constant behind is a path, and what comes of it is no constant. */
export const pathOperator = 11

export const placeholders = {
  string: Buffer.from("''"),
  int4: Buffer.from('0'),
  int8: Buffer.from('2147483649'),
  numeric: Buffer.from('0.0'),
  fraction: Buffer.from('.0'),
  bigNumeric: Buffer.from('9223372036854775809'),
}

const pointByte = 0x2e
const zeroByte = 0x30
const nineByte = 0x39
const minusByte = 0x2d
const hashByte = 0x23
const exclamationByte = 0x21

/**
 * The placeholder of a number without sign. Null where its class depends on a sign before it
 * (-2147483648 is an int4, 2147483648 is none): it stays visible.
 */
export function numberPlaceholder(text: Uint8Array, begin: number, end: number): Buffer | null {
  let isInteger = true
  for (let at = begin; at < end; at++)
    if ((text[at] ?? 0) < zeroByte || (text[at] ?? 0) > nineByte) isInteger = false
  // A word may stand before `.5` without a space.
  if (!isInteger) return text[begin] === pointByte ? placeholders.fraction : placeholders.numeric
  let start = begin
  while (start < end - 1 && text[start] === zeroByte) start += 1
  const digits = end - start
  if (digits <= 9) return placeholders.int4
  if (digits > 19) return placeholders.bigNumeric
  const value = BigInt(Buffer.from(text.subarray(start, end)).toString('latin1'))
  if (value <= 2147483647n) return placeholders.int4
  if (value === 2147483648n || value === 9223372036854775808n) return null
  return value <= 9223372036854775807n ? placeholders.int8 : placeholders.bigNumeric
}

const lessByte = 0x3c
const equalsByte = 0x3d
const greaterByte = 0x3e

/** = < > <= >= <> != compare; -> ->> #> #>> go into a document; all else is other. */
export function operatorClass(text: Uint8Array, start: number, bytes: number): number {
  const first = text[start]
  const second = text[start + 1]
  if (bytes === 1) {
    return first === equalsByte || first === lessByte || first === greaterByte ? comparison : other
  }
  if (second === greaterByte) {
    if (bytes === 2 && first === lessByte) return comparison
    const goes = first === minusByte || first === hashByte
    const longer = bytes === 3 && text[start + 2] === greaterByte
    return goes && (bytes === 2 || longer) ? pathOperator : other
  }
  if (bytes !== 2 || second !== equalsByte) return other
  return first === lessByte || first === greaterByte || first === exclamationByte
    ? comparison
    : other
}
