/**
 * COPY's binary format: a signature with flags and an extension area, then tuples of a field count
 * and fields like those of DataRow, then -1.
 *
 * https://www.postgresql.org/docs/18/sql-copy.html#SQL-COPY-BINARY-FORMAT
 */
import { ProxyError } from '../core/core.ts'
import type { ByteWriter } from '../wire/wire.ts'
import type { CopyField, CopyRows } from './copy.ts'
import { maskValue } from './transform.ts'

const SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1')
const FIXED_BYTES = SIGNATURE.length + 8
/** Bit 16: oids before each tuple, gone since PostgreSQL 12. Bits 16–31 are critical. */
const CRITICAL_FLAGS = 0xffff_0000
const TRAILER = -1
const NULL_LENGTH = -1

type State = 'header' | 'tuples' | 'ended'

/** FORMAT binary: header → tuples → ended. */
export class BinaryRows implements CopyRows {
  readonly #fields: readonly CopyField[]
  #state: State = 'header'

  constructor(fields: readonly CopyField[]) {
    this.#fields = fields
  }

  rows(buffer: Buffer, start: number, end: number, out: ByteWriter): number {
    let at = start
    while (at < end) {
      const after =
        this.#state === 'header' ? this.#header(buffer, at, end) : this.#tupleEnd(buffer, at, end)
      if (after < 0) break
      if (this.#state === 'tuples') this.#tuple(buffer, at, out)
      else out.bytes(buffer, at, after)
      if (this.#state === 'header') this.#state = 'tuples'
      at = after
    }
    return at
  }

  finish(rest: Buffer): void {
    if (rest.length > 0) throw malformed()
  }

  /** One past the header, -1 where it is not whole. */
  #header(buffer: Buffer, start: number, end: number): number {
    if (end - start < FIXED_BYTES) return -1
    if (!SIGNATURE.equals(buffer.subarray(start, start + SIGNATURE.length))) throw malformed()
    if ((buffer.readInt32BE(start + SIGNATURE.length) & CRITICAL_FLAGS) !== 0) throw malformed()
    const extensionBytes = buffer.readInt32BE(start + SIGNATURE.length + 4)
    if (extensionBytes < 0) throw malformed()
    const after = start + FIXED_BYTES + extensionBytes
    return after > end ? -1 : after
  }

  /** One past the tuple, -1 where it is not whole. The trailer moves the state to `ended`. */
  #tupleEnd(buffer: Buffer, start: number, end: number): number {
    if (this.#state === 'ended') throw malformed()
    if (end - start < 2) return -1
    const count = buffer.readInt16BE(start)
    if (count === TRAILER) {
      this.#state = 'ended'
      return start + 2
    }
    if (count !== this.#fields.length) throw malformed()
    let at = start + 2
    for (let index = 0; index < count; index += 1) {
      if (at + 4 > end) return -1
      const length = buffer.readInt32BE(at)
      if (length < NULL_LENGTH) throw malformed()
      at += 4 + Math.max(length, 0)
      if (at > end) return -1
    }
    return at
  }

  /** A tuple that is known to be whole. */
  #tuple(buffer: Buffer, start: number, out: ByteWriter): void {
    let at = start + 2
    let copied = start
    for (const { transform } of this.#fields) {
      const length = buffer.readInt32BE(at)
      const after = at + 4 + Math.max(length, 0)
      if (transform.kind !== 'pass') {
        out.bytes(buffer, copied, at)
        let value: Buffer | null
        if (transform.kind === 'fixed') value = transform.value
        else value = length === NULL_LENGTH ? null : maskValue(transform, buffer, at + 4, after)
        out.i32(value === null ? NULL_LENGTH : value.length)
        if (value !== null) out.bytes(value)
        copied = after
      }
      at = after
    }
    out.bytes(buffer, copied, at)
  }
}

function malformed(): ProxyError {
  return new ProxyError('protocol_violation', 'malformed binary COPY data from the server', {
    hint: 'The data is not what COPY (FORMAT binary) sends; nothing more of it was forwarded.',
  })
}
