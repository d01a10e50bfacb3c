/**
 * Rewrites DataRow messages (B): masked fields are replaced, everything between them is copied in
 * one piece and never decoded. Hot: no allocation per row for what is not computed.
 *
 * https://www.postgresql.org/docs/18/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-DATAROW
 */
import { ProxyError } from '../core/core.ts'
import { backendTypes, type ByteWriter } from '../wire/wire.ts'
import { maskValue, type FieldTransform } from './transform.ts'

const HEADER_BYTES = 5
const COUNT_BYTES = 2
const LENGTH_BYTES = 4
const NULL_LENGTH = -1

type Applied = Exclude<FieldTransform, { kind: 'pass' }>

/** One per result; no state between rows. */
export class RowRewriter {
  readonly #fieldCount: number
  /** Parallel arrays of the masked fields only, by position. */
  readonly #positions: readonly number[]
  readonly #transforms: readonly Applied[]

  constructor(transforms: readonly FieldTransform[]) {
    this.#fieldCount = transforms.length
    const positions: number[] = []
    const applied: Applied[] = []
    for (const [position, transform] of transforms.entries()) {
      if (transform.kind === 'pass') continue
      positions.push(position)
      applied.push(transform)
    }
    this.#positions = positions
    this.#transforms = applied
  }

  /**
   * Takes the whole frame `buffer[start, end)` and appends the masked frame to `out`. A row whose
   * lengths do not add up is a protocol_violation, and nothing of it is left in `out`.
   */
  rewrite(buffer: Buffer, start: number, end: number, out: ByteWriter): void {
    let at = start + HEADER_BYTES
    if (at + COUNT_BYTES > end || uint16(buffer, at) !== this.#fieldCount) throw malformed()
    out.reserve(end - start)
    out.begin(backendTypes.DataRow)
    let copied = at
    at += COUNT_BYTES
    let position = 0
    for (let masked = 0; masked < this.#positions.length; masked += 1) {
      const target = this.#positions[masked] as number
      for (; position < target; position += 1) at = skip(buffer, at, end, out)
      const after = skip(buffer, at, end, out)
      if (copied < at) out.bytes(buffer, copied, at)
      this.#replace(masked, buffer, at, after, out)
      at = after
      copied = after
      position += 1
    }
    for (; position < this.#fieldCount; position += 1) at = skip(buffer, at, end, out)
    if (at !== end) {
      out.abandon()
      throw malformed()
    }
    if (copied < end) out.bytes(buffer, copied, end)
    out.end()
  }

  #replace(masked: number, buffer: Buffer, at: number, after: number, out: ByteWriter): void {
    const transform = this.#transforms[masked] as Applied
    let value: Buffer | null
    if (transform.kind === 'fixed') value = transform.value
    else if (int32(buffer, at) === NULL_LENGTH) value = null
    else value = maskValue(transform, buffer, at + LENGTH_BYTES, after)
    if (value === null) {
      out.i32(NULL_LENGTH)
      return
    }
    out.i32(value.length)
    out.bytes(value)
  }
}

/** One past the field that begins at `at`. */
function skip(buffer: Buffer, at: number, end: number, out: ByteWriter): number {
  if (at + LENGTH_BYTES <= end) {
    const length = int32(buffer, at)
    const after = at + LENGTH_BYTES + (length === NULL_LENGTH ? 0 : length)
    if (length >= NULL_LENGTH && after <= end) return after
  }
  out.abandon()
  throw malformed()
}

function uint16(buffer: Buffer, at: number): number {
  return ((buffer[at] as number) << 8) | (buffer[at + 1] as number)
}

function int32(buffer: Buffer, at: number): number {
  return (
    ((buffer[at] as number) << 24) |
    ((buffer[at + 1] as number) << 16) |
    ((buffer[at + 2] as number) << 8) |
    (buffer[at + 3] as number)
  )
}

function malformed(): ProxyError {
  return new ProxyError('protocol_violation', 'malformed DataRow from the server', {
    hint: 'The row does not have the fields that the server described; nothing of it was sent.',
  })
}
