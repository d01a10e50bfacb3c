/**
 * COPY's text and csv formats. Fields that pass are copied as they are; masked ones are read, masked
 * and written by the rules of CopyAttributeOutText and CopyAttributeOutCSV
 * (src/backend/commands/copyto.c).
 *
 * The protocol's line end is \n on every platform. In text format a raw \n ends a row always; in
 * csv only outside quotes.
 */
import { ProxyError } from '../core/core.ts'
import type { ByteWriter } from '../wire/wire.ts'
import type { CopyField, CopyRows } from './copy.ts'
import type { CopyOptions } from './copy-options.ts'
import { maskValue, type FieldTransform } from './transform.ts'

const NEWLINE = 0x0a
const RETURN = 0x0d
const BACKSLASH = 0x5c
const TEXT_NULL = Buffer.from('\\N')

/** \b \f \n \r \t \v, as CopyAttributeOutText writes them. */
const ESCAPES: ReadonlyMap<number, number> = new Map([
  [0x08, 0x62],
  [0x0c, 0x66],
  [NEWLINE, 0x6e],
  [RETURN, 0x72],
  [0x09, 0x74],
  [0x0b, 0x76],
])
const UNESCAPES: ReadonlyMap<number, number> = new Map(
  [...ESCAPES].map(([raw, name]) => [name, raw]),
)

type Applied = Exclude<FieldTransform, { kind: 'pass' }>

/** How one of the two formats delimits, quotes and escapes. */
export interface Dialect {
  /** Position of the newline that ends the row, -1 where it has not come. */
  rowEnd(buffer: Buffer, start: number, end: number): number
  /** Position of the delimiter after the field, or `end`; -1 where a quote does not end. */
  fieldEnd(buffer: Buffer, start: number, end: number): number
  isNull(buffer: Buffer, start: number, end: number): boolean
  decode(buffer: Buffer, start: number, end: number): Buffer
  encode(forceQuote: boolean, value: Buffer, out: ByteWriter): void
}

/** What both formats share: the walk over rows and fields. */
export class DelimitedRows implements CopyRows {
  readonly #fields: readonly CopyField[]
  readonly #dialect: Dialect
  readonly #nullText: Buffer
  #headerPending: boolean

  constructor(fields: readonly CopyField[], options: CopyOptions) {
    this.#fields = fields
    this.#dialect = options.format === 'csv' ? csvDialect(options) : textDialect(options)
    this.#nullText = options.nullText
    this.#headerPending = options.header
  }

  rows(buffer: Buffer, start: number, end: number, out: ByteWriter): number {
    out.reserve(end - start)
    let at = start
    while (at < end) {
      const rowEnd = this.#dialect.rowEnd(buffer, at, end)
      if (rowEnd < 0) break
      this.#row(buffer, at, rowEnd, out)
      out.u8(NEWLINE)
      at = rowEnd + 1
    }
    return at
  }

  finish(rest: Buffer, out: ByteWriter): void {
    if (rest.length > 0) this.#row(rest, 0, rest.length, out)
  }

  #row(buffer: Buffer, start: number, end: number, out: ByteWriter): void {
    const header = this.#headerPending
    this.#headerPending = false
    let at = start
    let copied = start
    const last = this.#fields.length - 1
    for (const [index, field] of this.#fields.entries()) {
      const fieldEnd = this.#dialect.fieldEnd(buffer, at, end)
      if (fieldEnd < 0) throw malformed()
      if (index === last ? fieldEnd !== end : fieldEnd >= end) throw malformed()
      if (
        field.transform.kind !== 'pass' &&
        !(header && this.#isName(field, buffer, at, fieldEnd))
      ) {
        if (copied < at) out.bytes(buffer, copied, at)
        this.#replace(field, field.transform, buffer, at, fieldEnd, out)
        copied = fieldEnd
      }
      at = fieldEnd + 1
    }
    if (copied < end) out.bytes(buffer, copied, end)
  }

  #replace(
    field: CopyField,
    transform: Applied,
    buffer: Buffer,
    start: number,
    end: number,
    out: ByteWriter,
  ): void {
    let value: Buffer | null
    if (transform.kind === 'fixed') value = transform.value
    else if (this.#dialect.isNull(buffer, start, end)) value = null
    else {
      const decoded = this.#dialect.decode(buffer, start, end)
      value = maskValue(transform, decoded, 0, decoded.length)
    }
    if (value === null) out.bytes(this.#nullText)
    else this.#dialect.encode(field.forceQuote, value, out)
  }

  /** A header's field shows a name only if it is the name that the trace gives the column. */
  #isName(field: CopyField, buffer: Buffer, start: number, end: number): boolean {
    return this.#dialect.decode(buffer, start, end).equals(Buffer.from(field.name))
  }
}

/** FORMAT text. */
function textDialect(options: CopyOptions): Dialect {
  const { delimiter } = options
  // Only \N is unambiguous: a chosen NULL text may equal a value, and would tell that it does. It
  // is then masked as a value.
  const nullIsCertain = options.nullText.equals(TEXT_NULL)
  return {
    rowEnd(buffer, start, end) {
      const at = buffer.indexOf(NEWLINE, start)
      return at < 0 || at >= end ? -1 : at
    },
    fieldEnd(buffer, start, end) {
      let at = start
      while (at < end) {
        const byte = buffer[at]
        if (byte === BACKSLASH) at += 2
        else if (byte === delimiter) return at
        else at += 1
      }
      return end
    },
    isNull: (buffer, start, end) => nullIsCertain && TEXT_NULL.equals(buffer.subarray(start, end)),
    decode: decodeText,
    encode(_forceQuote, value, out) {
      for (const byte of value) {
        const escape = ESCAPES.get(byte)
        if (escape !== undefined || byte === BACKSLASH || byte === delimiter) out.u8(BACKSLASH)
        out.u8(escape ?? byte)
      }
    },
  }
}

function decodeText(buffer: Buffer, start: number, end: number): Buffer {
  const decoded = Buffer.alloc(end - start)
  let length = 0
  for (let at = start; at < end; at += 1) {
    let byte = buffer[at] ?? 0
    if (byte === BACKSLASH && at + 1 < end) {
      at += 1
      byte = buffer[at] ?? 0
      byte = UNESCAPES.get(byte) ?? byte
    }
    decoded[length] = byte
    length += 1
  }
  return decoded.subarray(0, length)
}

/** FORMAT csv. */
function csvDialect(options: CopyOptions): Dialect {
  const { quote, delimiter, nullText } = options
  const next = (buffer: Buffer, start: number, end: number, stop: number): number => {
    let at = start
    while (at < end) {
      const byte = buffer[at]
      if (byte === stop) return at
      if (byte === quote) {
        at = quotedEnd(options, buffer, at, end)
        if (at < 0) return -1
      } else at += 1
    }
    return end
  }
  return {
    rowEnd(buffer, start, end) {
      const at = next(buffer, start, end, NEWLINE)
      return at === end ? -1 : at
    },
    fieldEnd: (buffer, start, end) => next(buffer, start, end, delimiter),
    // A quoted value is never NULL: the server quotes what equals the NULL text.
    isNull: (buffer, start, end) => nullText.equals(buffer.subarray(start, end)),
    decode: (buffer, start, end) => decodeCsv(options, buffer, start, end),
    encode: (forceQuote, value, out) => encodeCsv(options, forceQuote, value, out),
  }
}

/** One past the closing quote of the one at `start`, -1 where it has not come. */
function quotedEnd(options: CopyOptions, buffer: Buffer, start: number, end: number): number {
  const { quote, escape } = options
  let at = start + 1
  while (at < end) {
    const byte = buffer[at]
    const next = at + 1 < end ? buffer[at + 1] : undefined
    if (byte === escape && (next === quote || next === escape)) at += 2
    else if (byte === quote) return at + 1
    else at += 1
  }
  return -1
}

function decodeCsv(options: CopyOptions, buffer: Buffer, start: number, end: number): Buffer {
  const { quote, escape } = options
  if (start === end || buffer[start] !== quote) return buffer.subarray(start, end)
  const decoded = Buffer.alloc(end - start)
  let length = 0
  for (let at = start + 1; at < end; at += 1) {
    const byte = buffer[at] ?? 0
    const next = at + 1 < end ? buffer[at + 1] : undefined
    if (byte === escape && (next === quote || next === escape)) {
      decoded[length] = next ?? 0
      at += 1
    } else if (byte === quote) break
    else decoded[length] = byte
    length += 1
  }
  return decoded.subarray(0, length)
}

function encodeCsv(
  options: CopyOptions,
  forceQuote: boolean,
  value: Buffer,
  out: ByteWriter,
): void {
  const { quote, escape, delimiter, nullText } = options
  const special = (byte: number): boolean =>
    byte === delimiter || byte === quote || byte === NEWLINE || byte === RETURN
  // A line that is `\.` alone would end the data for psql.
  const needed = forceQuote || value.equals(nullText) || value[0] === BACKSLASH
  if (!needed && !value.some(special)) {
    out.bytes(value)
    return
  }
  out.u8(quote)
  for (const byte of value) {
    if (byte === quote || byte === escape) out.u8(escape)
    out.u8(byte)
  }
  out.u8(quote)
}

function malformed(): ProxyError {
  return new ProxyError('protocol_violation', 'malformed COPY data from the server', {
    hint: 'A row does not have the columns that the analysis found; nothing of it was sent.',
  })
}
