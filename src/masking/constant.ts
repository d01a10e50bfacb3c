/**
 * `constant`: the policy's value as a value of the field's type. Undefined where the type cannot
 * hold it (the mask then redacts), null where the constant is NULL.
 */
import type { Mask } from '../policy/policy.ts'
import { parseDecimal, writeDecimal } from './decimal.ts'
import type { Format } from './transform.ts'
import type { TypeShape } from './types.ts'

type ConstantValue = Extract<Mask, { kind: 'constant' }>['value']

const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i
const JSONB_VERSION = Buffer.from([1])

/** The wire bytes of a constant. */
export function constantOf(
  value: ConstantValue,
  shape: TypeShape,
  format: Format,
): Buffer | null | undefined {
  if (value === null) return null
  switch (shape.family) {
    case 'text':
      return textOf(String(value), shape)
    case 'json':
      return Buffer.from(JSON.stringify(value))
    case 'jsonb': {
      const json = Buffer.from(JSON.stringify(value))
      return format === 'binary' ? Buffer.concat([JSONB_VERSION, json]) : json
    }
    case 'bool':
      return booleanOf(value, format)
    case 'int2':
    case 'int4':
    case 'int8':
    case 'numeric': {
      const decimal = typeof value === 'boolean' ? null : parseDecimal(String(value))
      if (decimal === null) return undefined
      const isWhole = decimal.coefficient % 10n ** BigInt(decimal.scale) === 0n
      if (shape.family !== 'numeric' && !isWhole) return undefined
      return writeDecimal(decimal, shape.family, format, shape.integerDigitsMax) ?? undefined
    }
    case 'float4':
    case 'float8':
      return floatOf(value, shape.family, format)
    case 'date':
      return dateOf(value, format)
    case 'uuid': {
      if (typeof value !== 'string' || !UUID.test(value)) return undefined
      return format === 'binary'
        ? Buffer.from(value.replaceAll('-', ''), 'hex')
        : Buffer.from(value.toLowerCase())
    }
    case 'bytea': {
      if (typeof value !== 'string') return undefined
      return format === 'binary'
        ? Buffer.from(value)
        : Buffer.from(`\\x${Buffer.from(value).toString('hex')}`)
    }
    case 'enum':
      // enum_send gives the label too.
      return typeof value === 'string' && shape.labels.includes(value)
        ? Buffer.from(value)
        : undefined
    default:
      return undefined
  }
}

function textOf(text: string, shape: TypeShape): Buffer | undefined {
  if (text.includes('\0')) return undefined
  if (shape.charsMax !== null && [...text].length > shape.charsMax) return undefined
  return Buffer.from(shape.padded ? text.padEnd(shape.charsMax ?? 0) : text)
}

function booleanOf(value: ConstantValue, format: Format): Buffer | undefined {
  const truth =
    value === true || value === 'true' ? true : value === false || value === 'false' ? false : null
  if (truth === null) return undefined
  return format === 'binary' ? Buffer.from([truth ? 1 : 0]) : Buffer.from(truth ? 't' : 'f')
}

function floatOf(
  value: ConstantValue,
  family: 'float4' | 'float8',
  format: Format,
): Buffer | undefined {
  const number = typeof value === 'boolean' || value === '' ? NaN : Number(value)
  if (!Number.isFinite(number)) return undefined
  if (format === 'text') return Buffer.from(String(number))
  const bytes = Buffer.alloc(family === 'float4' ? 4 : 8)
  if (family === 'float4') bytes.writeFloatBE(number)
  else bytes.writeDoubleBE(number)
  return bytes
}

const DATE = /^(\d{4})-(\d\d)-(\d\d)$/
const DAY_MS = 86_400_000
const EPOCH_MS = Date.UTC(2000, 0, 1)

function dateOf(value: ConstantValue, format: Format): Buffer | undefined {
  if (typeof value !== 'string' || !DATE.test(value)) return undefined
  const ms = Date.parse(`${value}T00:00:00Z`)
  if (Number.isNaN(ms) || new Date(ms).toISOString().slice(0, 10) !== value) return undefined
  if (format === 'text') return Buffer.from(value)
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE((ms - EPOCH_MS) / DAY_MS)
  return bytes
}
