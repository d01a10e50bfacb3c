/**
 * One mask on one field of one type in one format, compiled once per result.
 *
 * Invariants: the result is a valid value of the type in that wire format, or NULL. `null`,
 * `constant` and `redact` give the same for every row, NULL included, so neither the value nor its
 * length nor its being NULL shows (json keeps its shape, see json.ts). What shows something on
 * purpose (hash, partial, bucket, truncate, noise) leaves NULL as NULL. A mask that cannot apply to
 * a type redacts.
 */
import type { Mask } from '../policy/policy.ts'
import { compileArray } from './array.ts'
import { constantOf } from './constant.ts'
import type { ValueDetectors } from './detectors.ts'
import { compileDate } from './datetime.ts'
import { compileHash } from './hash.ts'
import { redactJson } from './json.ts'
import { compileNumber } from './number.ts'
import { assertKey } from './keyed.ts'
import type { OutputMask } from './plan.ts'
import { compilePartial } from './partial.ts'
import type { TypeShape } from './types.ts'

export type Format = 'text' | 'binary'

/**
 * Masks one value that is not NULL. The bytes given are borrowed; the result is owned by the
 * caller until the next call. Null is NULL.
 */
export type ValueMask = (buffer: Buffer, start: number, end: number) => Buffer | null

/** What a rewriter does with one field. */
export type FieldTransform =
  | { readonly kind: 'pass' }
  /** The same for every row; null is NULL. */
  | { readonly kind: 'fixed'; readonly value: Buffer | null }
  /** Computed from the value; NULL stays NULL. */
  | { readonly kind: 'compute'; readonly apply: ValueMask }

/**
 * The masked value of one field that is not NULL. A transform that fails hides the value: a fault
 * that ends the session for some values and not for others would tell which.
 */
export function maskValue(
  transform: Extract<FieldTransform, { kind: 'compute' }>,
  buffer: Buffer,
  start: number,
  end: number,
): Buffer | null {
  try {
    return transform.apply(buffer, start, end)
  } catch {
    return null
  }
}

export const PASS: FieldTransform = { kind: 'pass' }
export const TO_NULL: FieldTransform = { kind: 'fixed', value: null }

/** What `redact` puts where a type can hold text. */
export const REDACTED = '****'

/** The transform of one output; total over masks, types and formats. */
export function compileMask(
  output: OutputMask,
  shape: TypeShape,
  format: Format,
  key: Uint8Array,
): FieldTransform {
  switch (output.kind) {
    case 'pass':
      return PASS
    case 'derived':
      return output.mask.kind === 'null' ? TO_NULL : redactWhole(shape, format)
    case 'direct':
      return compileDirect(output.mask, shape, format, key)
  }
}

function compileDirect(
  mask: Mask,
  shape: TypeShape,
  format: Format,
  key: Uint8Array,
): FieldTransform {
  switch (mask.kind) {
    case 'null':
      return TO_NULL
    case 'constant': {
      const value = constantOf(mask.value, shape, format)
      return value === undefined ? redactWhole(shape, format) : { kind: 'fixed', value }
    }
    case 'redact':
      if (shape.family === 'json' || shape.family === 'jsonb') {
        return { kind: 'compute', apply: redactJson(shape.family, format) }
      }
      return redactWhole(shape, format)
    default: {
      const apply = compileValueMask(mask, shape, format, key)
      return apply === null ? redactWhole(shape, format) : { kind: 'compute', apply }
    }
  }
}

/** A mask that depends on the value, or null where the type has none of this kind. */
export function compileValueMask(
  mask: Mask,
  shape: TypeShape,
  format: Format,
  key: Uint8Array,
): ValueMask | null {
  if (shape.family === 'array' && shape.element !== null) {
    return compileArray(shape, format, (element) => compileValueMask(mask, element, format, key))
  }
  if (mask.kind === 'hash' || mask.kind === 'noise') assertKey(key)
  switch (mask.kind) {
    case 'hash':
      return compileHash(shape, format, key)
    case 'partial':
      return compilePartial(mask, shape)
    case 'bucket':
    case 'truncate':
    case 'noise':
      return compileNumber(mask, shape, format, key) ?? compileDate(mask, shape, format, key)
    default:
      return null
  }
}

/**
 * A field that no mask covers, watched by the value detectors: a value that holds something is
 * hidden whole. Text as such only; jsonb's binary format is text behind a version byte.
 */
export function detectIn(
  shape: TypeShape,
  format: Format,
  detectors: ValueDetectors,
): FieldTransform {
  const isText = ['text', 'xml', 'json', 'jsonb'].includes(shape.family)
  const isTextArray = shape.element?.family === 'text' && format === 'text'
  if (!isText && !isTextArray) return PASS
  const hidden = redactedValue(shape, format)
  const apply: ValueMask = (buffer, start, end) =>
    detectors.find(buffer, start, end) === null ? buffer.subarray(start, end) : hidden
  return { kind: 'compute', apply }
}

/** Hides everything, the shape of documents and arrays too. */
function redactWhole(shape: TypeShape, format: Format): FieldTransform {
  return { kind: 'fixed', value: redactedValue(shape, format) }
}

/** `****` as a value of the type, or null (NULL) where the type cannot hold it. */
export function redactedValue(shape: TypeShape, format: Format): Buffer | null {
  switch (shape.family) {
    case 'text':
    case 'xml': {
      if (shape.charsMax !== null && shape.charsMax < REDACTED.length) return null
      return Buffer.from(shape.padded ? REDACTED.padEnd(shape.charsMax ?? 0) : REDACTED)
    }
    case 'json':
      return Buffer.from(`"${REDACTED}"`)
    case 'jsonb':
      return Buffer.from(`${format === 'binary' ? '\x01' : ''}"${REDACTED}"`)
    case 'array': {
      const element = shape.element === null ? null : redactedValue(shape.element, format)
      if (element === null || shape.element === null) return null
      return format === 'binary'
        ? binaryArrayOfOne(shape.element.oid, element)
        : Buffer.from(textArrayOfOne(element.toString()))
    }
    default:
      return null
  }
}

function textArrayOfOne(element: string): string {
  const quoted = `"${element.replace(/["\\]/g, '\\$&')}"`
  return `{${/^\*+$/.test(element) ? element : quoted}}`
}

/** array_send (src/backend/utils/adt/arrayfuncs.c): dimensions, flags, element type, bounds. */
function binaryArrayOfOne(elementType: number, element: Buffer): Buffer {
  const header = Buffer.alloc(24)
  header.writeInt32BE(1, 0)
  header.writeInt32BE(0, 4)
  header.writeUInt32BE(elementType, 8)
  header.writeInt32BE(1, 12)
  header.writeInt32BE(1, 16)
  header.writeInt32BE(element.length, 20)
  return Buffer.concat([header, element])
}
