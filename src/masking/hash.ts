/**
 * `hash`: a keyed pseudonym, so that equality shows and nothing else. The value is brought to one
 * form first, so text and binary results agree, and 1.5 is 1.50.
 *
 * A pseudonym needs room: where the type holds too few values for equality to mean anything (int2,
 * bool, dates, short varchar), the mask redacts instead.
 */
import { canonical, readDecimal, writeDecimal, type DecimalFamily } from './decimal.ts'
import { keyed } from './keyed.ts'
import type { Format, ValueMask } from './transform.ts'
import type { TypeShape } from './types.ts'

const TEXT_CHARS = 32
const TEXT_CHARS_MIN = 8
const NUMERIC_DIGITS = 18
const NUMERIC_DIGITS_MIN = 9

/** The transform, or null where the type has no room for a pseudonym. */
export function compileHash(shape: TypeShape, format: Format, key: Uint8Array): ValueMask | null {
  switch (shape.family) {
    case 'text':
      return hashText(shape, key)
    case 'int4':
      return hashNumber('int4', format, key, (digest) => BigInt(digest.readUInt32BE(0) >>> 1))
    case 'int8':
      return hashNumber('int8', format, key, (digest) => digest.readBigUInt64BE(0) >> 1n)
    case 'numeric': {
      const digits = Math.min(NUMERIC_DIGITS, shape.integerDigitsMax ?? NUMERIC_DIGITS)
      if (digits < NUMERIC_DIGITS_MIN) return null
      const modulus = 10n ** BigInt(digits)
      return hashNumber('numeric', format, key, (digest) => digest.readBigUInt64BE(0) % modulus)
    }
    case 'uuid':
      return hashUuid(format, key)
    case 'bytea':
      return hashBytea(format, key)
    default:
      return null
  }
}

function hashText(shape: TypeShape, key: Uint8Array): ValueMask | null {
  const chars = Math.min(TEXT_CHARS, shape.charsMax ?? TEXT_CHARS)
  if (chars < TEXT_CHARS_MIN) return null
  return (buffer, start, end) => {
    let last = end
    // char(n) compares without its padding.
    while (shape.padded && last > start && buffer[last - 1] === 0x20) last -= 1
    const hex = keyed(key, 'hash', buffer.subarray(start, last)).toString('hex', 0, TEXT_CHARS / 2)
    const cut = hex.slice(0, chars)
    return Buffer.from(shape.padded ? cut.padEnd(shape.charsMax ?? 0) : cut)
  }
}

function hashNumber(
  family: DecimalFamily,
  format: Format,
  key: Uint8Array,
  pick: (digest: Buffer) => bigint,
): ValueMask {
  return (buffer, start, end) => {
    const value = readDecimal(family, format, buffer, start, end)
    if (value === null) return null
    return writeDecimal(
      { coefficient: pick(keyed(key, 'hash', canonical(value))), scale: 0 },
      family,
      format,
    )
  }
}

const UUID_BYTES = 16
/** RFC 9562: version 8 is "custom", the variant is 10. */
const UUID_VERSION = 0x80
const UUID_VARIANT = 0x80

function hashUuid(format: Format, key: Uint8Array): ValueMask {
  return (buffer, start, end) => {
    const value =
      format === 'binary'
        ? buffer.subarray(start, end)
        : Buffer.from(buffer.toString('latin1', start, end).replaceAll('-', ''), 'hex')
    if (value.length !== UUID_BYTES) return null
    const digest = keyed(key, 'hash', value).subarray(0, UUID_BYTES)
    digest[6] = ((digest[6] ?? 0) & 0x0f) | UUID_VERSION
    digest[8] = ((digest[8] ?? 0) & 0x3f) | UUID_VARIANT
    if (format === 'binary') return digest
    const hex = digest.toString('hex')
    const parts = [
      hex.slice(0, 8),
      hex.slice(8, 12),
      hex.slice(12, 16),
      hex.slice(16, 20),
      hex.slice(20),
    ]
    return Buffer.from(parts.join('-'))
  }
}

/** Text is read in bytea_output = hex only; the escape format is hidden. */
function hashBytea(format: Format, key: Uint8Array): ValueMask {
  return (buffer, start, end) => {
    if (format === 'binary') return keyed(key, 'hash', buffer.subarray(start, end))
    if (buffer[start] !== 0x5c || buffer[start + 1] !== 0x78) return null
    const value = Buffer.from(buffer.toString('latin1', start + 2, end), 'hex')
    return Buffer.from(`\\x${keyed(key, 'hash', value).toString('hex')}`)
  }
}
