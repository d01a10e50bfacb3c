/**
 * `bucket`, `truncate` and `noise` for numbers. Decimal types are exact (decimal.ts); floats are
 * done in double precision. NaN and the infinities are hidden, since they are no coarser than they
 * were; so is a result that the type cannot hold.
 */
import type { Mask } from '../policy/policy.ts'
import {
  canonical,
  floorTo,
  parseDecimal,
  readDecimal,
  truncateTo,
  writeDecimal,
  type Decimal,
  type DecimalFamily,
} from './decimal.ts'
import { keyedSigned } from './keyed.ts'
import type { Format, ValueMask } from './transform.ts'
import type { TypeShape } from './types.ts'

type NumberMask = Extract<Mask, { kind: 'bucket' | 'truncate' | 'noise' }>

/** Steps of the noise: the keyed fraction as an integer over this. */
const NOISE_STEPS = 2n ** 32n

/** The transform, or null where the type is no number or the mask's own numbers make no sense. */
export function compileNumber(
  mask: NumberMask,
  shape: TypeShape,
  format: Format,
  key: Uint8Array,
): ValueMask | null {
  switch (shape.family) {
    case 'int2':
    case 'int4':
    case 'int8':
    case 'numeric': {
      const coarsen = coarsenDecimal(mask, key)
      return coarsen === null
        ? null
        : decimalMask(shape.family, shape.integerDigitsMax, format, coarsen)
    }
    case 'float4':
    case 'float8': {
      const coarsen = coarsenFloat(mask, key)
      return coarsen === null ? null : floatMask(shape.family, format, coarsen)
    }
    default:
      return null
  }
}

function decimalMask(
  family: DecimalFamily,
  integerDigitsMax: number | null,
  format: Format,
  coarsen: (value: Decimal) => Decimal,
): ValueMask {
  return (buffer, start, end) => {
    const value = readDecimal(family, format, buffer, start, end)
    return value === null ? null : writeDecimal(coarsen(value), family, format, integerDigitsMax)
  }
}

function coarsenDecimal(mask: NumberMask, key: Uint8Array): ((value: Decimal) => Decimal) | null {
  switch (mask.kind) {
    case 'bucket': {
      const size = parseDecimal(String(mask.size))
      if (size === null || size.coefficient <= 0n) return null
      return (value) => floorTo(value, size)
    }
    case 'truncate': {
      const digits = digitsOf(mask.digits)
      return digits === null ? null : (value) => truncateTo(value, digits)
    }
    case 'noise': {
      if (!isRatio(mask.ratio)) return null
      const ratio = BigInt(Math.round(mask.ratio * 2 ** 32))
      return (value) => {
        const steps = BigInt(Math.round(keyedSigned(key, canonical(value)) * 2 ** 32))
        const magnitude = value.coefficient < 0n ? -value.coefficient : value.coefficient
        // At least one unit of the last place, or small numbers would pass unchanged.
        const amplitude = (magnitude * ratio) / NOISE_STEPS + 1n
        const moved = roundedDivide(amplitude * steps, NOISE_STEPS)
        return { coefficient: value.coefficient + moved, scale: value.scale }
      }
    }
  }
}

function roundedDivide(number: bigint, divisor: bigint): bigint {
  const half = divisor / 2n
  return number >= 0n ? (number + half) / divisor : -((-number + half) / divisor)
}

function digitsOf(digits: number | undefined): number | null {
  return digits !== undefined && Number.isSafeInteger(digits) && digits >= 1 ? digits : null
}

function isRatio(ratio: number): boolean {
  return ratio > 0 && ratio < 1
}

function floatMask(
  family: 'float4' | 'float8',
  format: Format,
  coarsen: (value: number) => number,
): ValueMask {
  const bytes = family === 'float4' ? 4 : 8
  return (buffer, start, end) => {
    let value: number
    if (format === 'text') value = Number(buffer.toString('latin1', start, end))
    else if (end - start !== bytes) return null
    else value = family === 'float4' ? buffer.readFloatBE(start) : buffer.readDoubleBE(start)
    if (!Number.isFinite(value)) return null
    const coarse = family === 'float4' ? Math.fround(coarsen(shortest(value))) : coarsen(value)
    if (!Number.isFinite(coarse)) return null
    if (format === 'text') return Buffer.from(formatFloat(coarse, family))
    const result = Buffer.alloc(bytes)
    if (family === 'float4') result.writeFloatBE(coarse)
    else result.writeDoubleBE(coarse)
    return result
  }
}

/**
 * The shortest decimal number that is this float4, as the server prints it: text and binary format
 * of one value are one number here, and so are what is cut from it and the noise it is keyed by.
 */
function shortest(value: number): number {
  const single = Math.fround(value)
  for (let digits = 6; digits < 9; digits += 1) {
    const short = Number(single.toPrecision(digits))
    if (Math.fround(short) === single) return short
  }
  return Number(single.toPrecision(9))
}

function formatFloat(value: number, family: 'float4' | 'float8'): string {
  if (Object.is(value, -0)) return '0'
  return String(family === 'float4' ? shortest(value) : value)
}

function coarsenFloat(mask: NumberMask, key: Uint8Array): ((value: number) => number) | null {
  switch (mask.kind) {
    case 'bucket': {
      const size = mask.size
      if (!(size > 0) || !Number.isFinite(size)) return null
      return (value) => Math.floor(value / size) * size
    }
    case 'truncate': {
      const digits = digitsOf(mask.digits)
      return digits === null ? null : (value) => truncateFloat(value, digits)
    }
    case 'noise': {
      const ratio = mask.ratio
      if (!isRatio(ratio)) return null
      return (value) => value * (1 + ratio * keyedSigned(key, String(value)))
    }
  }
}

/** Cuts, never rounds: the digits after the first `digits` do not count. */
function truncateFloat(value: number, digits: number): number {
  if (value === 0) return 0
  const [mantissa = '0', exponent = '0'] = Math.abs(value).toExponential().split('e')
  const kept = mantissa.replace('.', '').slice(0, digits)
  return Math.sign(value) * Number(`${kept[0]}.${kept.slice(1) || '0'}e${exponent}`)
}
