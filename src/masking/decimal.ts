/**
 * Exact decimal numbers and their wire formats: int2, int4, int8 and numeric, text and binary.
 *
 * Binary numeric: numeric_send in src/backend/utils/adt/numeric.c (count, weight, sign, display
 * scale, digits of base 10000). NaN and the infinities read as null.
 */
import type { Format } from './transform.ts'

/** coefficient × 10^-scale. */
export interface Decimal {
  readonly coefficient: bigint
  readonly scale: number
}

export type DecimalFamily = 'int2' | 'int4' | 'int8' | 'numeric'

/** More digits than this are not coarsened but hidden: bounded cost. */
const DIGITS_MAX = 2_000

const POSITIVE = 0x0000
const NEGATIVE = 0x4000

const RANGES = {
  int2: [-(2n ** 15n), 2n ** 15n - 1n],
  int4: [-(2n ** 31n), 2n ** 31n - 1n],
  int8: [-(2n ** 63n), 2n ** 63n - 1n],
} as const

/** Reads `123`, `-0.50`, `1e3`; null for anything else. */
export function parseDecimal(text: string): Decimal | null {
  const match = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,4}))?$/.exec(text)
  if (match === null || text.length > DIGITS_MAX) return null
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match
  if (whole.length + fraction.length === 0) return null
  const scale = fraction.length - Number(exponent)
  if (Math.abs(scale) > DIGITS_MAX) return null
  let coefficient = BigInt(whole + fraction)
  if (sign === '-') coefficient = -coefficient
  return scale >= 0
    ? { coefficient, scale }
    : { coefficient: coefficient * 10n ** BigInt(-scale), scale: 0 }
}

/** The value of a field, or null where it is no finite number (or too long). */
export function readDecimal(
  family: DecimalFamily,
  format: Format,
  buffer: Buffer,
  start: number,
  end: number,
): Decimal | null {
  if (format === 'text') return parseDecimal(buffer.toString('latin1', start, end))
  const bytes = end - start
  switch (family) {
    case 'int2':
      return bytes === 2 ? whole(BigInt(buffer.readInt16BE(start))) : null
    case 'int4':
      return bytes === 4 ? whole(BigInt(buffer.readInt32BE(start))) : null
    case 'int8':
      return bytes === 8 ? whole(buffer.readBigInt64BE(start)) : null
    case 'numeric':
      return readNumeric(buffer, start, end)
  }
}

function whole(coefficient: bigint): Decimal {
  return { coefficient, scale: 0 }
}

function readNumeric(buffer: Buffer, start: number, end: number): Decimal | null {
  if (end - start < 8) return null
  const count = buffer.readUInt16BE(start)
  const weight = buffer.readInt16BE(start + 2)
  const sign = buffer.readUInt16BE(start + 4)
  const scale = buffer.readUInt16BE(start + 6)
  if (sign !== POSITIVE && sign !== NEGATIVE) return null
  if (end - start !== 8 + count * 2 || scale > DIGITS_MAX) return null
  if (count * 4 > DIGITS_MAX || Math.abs(weight) * 4 > DIGITS_MAX) return null
  let coefficient = 0n
  for (let index = 0; index < count; index += 1) {
    coefficient = coefficient * 10_000n + BigInt(buffer.readUInt16BE(start + 8 + index * 2))
  }
  // The digits stand for coefficient × 10000^(weight - count + 1); bring that to `scale`.
  const shift = (weight - count + 1) * 4 + scale
  coefficient =
    shift >= 0 ? coefficient * 10n ** BigInt(shift) : coefficient / 10n ** BigInt(-shift)
  return { coefficient: sign === NEGATIVE ? -coefficient : coefficient, scale }
}

/**
 * The wire bytes of a value, or null where the type cannot hold it. `integerDigitsMax` is that of
 * numeric(p, s); null is no limit.
 */
export function writeDecimal(
  value: Decimal,
  family: DecimalFamily,
  format: Format,
  integerDigitsMax: number | null = null,
): Buffer | null {
  if (family === 'numeric') {
    if (integerDigitsMax !== null) {
      const limit = 10n ** BigInt(Math.max(integerDigitsMax, 0) + value.scale)
      if (value.coefficient >= limit || value.coefficient <= -limit) return null
    }
    return format === 'text' ? Buffer.from(formatDecimal(value)) : writeNumeric(value)
  }
  const number = value.coefficient / 10n ** BigInt(value.scale)
  const [lowest, highest] = RANGES[family]
  if (number < lowest || number > highest) return null
  if (format === 'text') return Buffer.from(number.toString())
  const bytes = Buffer.alloc(family === 'int2' ? 2 : family === 'int4' ? 4 : 8)
  if (family === 'int2') bytes.writeInt16BE(Number(number))
  else if (family === 'int4') bytes.writeInt32BE(Number(number))
  else bytes.writeBigInt64BE(number)
  return bytes
}

/** As numeric_out writes it. */
export function formatDecimal(value: Decimal): string {
  const negative = value.coefficient < 0n
  const digits = (negative ? -value.coefficient : value.coefficient).toString()
  if (value.scale === 0) return `${negative ? '-' : ''}${digits}`
  const padded = digits.padStart(value.scale + 1, '0')
  const point = padded.length - value.scale
  return `${negative ? '-' : ''}${padded.slice(0, point)}.${padded.slice(point)}`
}

function writeNumeric(value: Decimal): Buffer | null {
  const negative = value.coefficient < 0n
  const text = (negative ? -value.coefficient : value.coefficient).toString()
  const padded = text.padStart(value.scale + 1, '0')
  const point = padded.length - value.scale
  const head = padded.slice(0, point)
  const tail = padded.slice(point)
  const left = head.padStart(Math.ceil(head.length / 4) * 4, '0')
  const right = tail.padEnd(Math.ceil(tail.length / 4) * 4, '0')
  const digits = ((left + right).match(/\d{4}/g) ?? []).map(Number)
  let weight = left.length / 4 - 1
  while (digits.length > 0 && digits[0] === 0) {
    digits.shift()
    weight -= 1
  }
  while (digits.length > 0 && digits[digits.length - 1] === 0) digits.pop()
  if (digits.length === 0) weight = 0
  if (weight > 0x7fff || digits.length > 0xffff) return null
  const bytes = Buffer.alloc(8 + digits.length * 2)
  bytes.writeUInt16BE(digits.length, 0)
  bytes.writeInt16BE(weight, 2)
  bytes.writeUInt16BE(negative && digits.length > 0 ? NEGATIVE : POSITIVE, 4)
  bytes.writeUInt16BE(value.scale, 6)
  for (const [index, digit] of digits.entries()) bytes.writeUInt16BE(digit, 8 + index * 2)
  return bytes
}

/** Without trailing zeros: one text for 1.5 and 1.50. */
export function canonical(value: Decimal): string {
  const text = formatDecimal(value)
  return value.scale === 0 ? text : text.replace(/\.?0+$/, '')
}

/** Rounds towards minus infinity to a multiple of `size`. */
export function floorTo(value: Decimal, size: Decimal): Decimal {
  const scale = Math.max(value.scale, size.scale)
  const number = value.coefficient * 10n ** BigInt(scale - value.scale)
  const step = size.coefficient * 10n ** BigInt(scale - size.scale)
  let quotient = number / step
  if (number < 0n && quotient * step !== number) quotient -= 1n
  // Back to the value's own scale where the step allows it, so that 12.50 shows as 10.00.
  const floored = quotient * step
  const surplus = 10n ** BigInt(scale - value.scale)
  if (floored % surplus === 0n) return { coefficient: floored / surplus, scale: value.scale }
  return { coefficient: floored, scale }
}

/** Keeps `digits` leading digits, the rest become zeros. */
export function truncateTo(value: Decimal, digits: number): Decimal {
  const negative = value.coefficient < 0n
  const magnitude = negative ? -value.coefficient : value.coefficient
  const length = magnitude.toString().length
  if (length <= digits) return value
  const unit = 10n ** BigInt(length - digits)
  const kept = (magnitude / unit) * unit
  return { coefficient: negative ? -kept : kept, scale: value.scale }
}
