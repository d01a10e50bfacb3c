/**
 * Decoders of backend messages (B), as an upstream server sends them. The server is hostile too:
 * every length and count is checked before it is believed, and what the documented format does not
 * say is refused (08P01). Encoders are in backendencode.ts, Authentication in authentication.ts.
 *
 * Names and texts of these messages are for people and for forwarding: bytes that are not UTF-8
 * (a SQL_ASCII database, an error before client_encoding is set) are replaced in the string, so
 * nothing may be judged by them; RowDescription's oids and attribute numbers are exact.
 *
 * https://www.postgresql.org/docs/18/protocol-message-formats.html
 */
import type { FrameView } from './frames.ts'
import type { TransactionStatus } from './messages.ts'
import { BodyReader } from './reader.ts'

/** One field of RowDescription. */
export interface Field {
  readonly name: string
  /** Oid of the relation that the field comes from, 0 where it is no relation's column. */
  readonly relation: number
  /** Attribute number: 0 the whole row or nothing, negative a system column. */
  readonly attribute: number
  /** Oid of the data type. */
  readonly type: number
  /** pg_type.typlen: negative for types of variable width. */
  readonly typeBytes: number
  /** pg_attribute.atttypmod. */
  readonly modifier: number
  /** 0 text, 1 binary. */
  readonly format: number
}

export interface BackendKeyData {
  readonly processId: number
  /** A copy: 4 bytes in protocol 3.0, 4 to 256 in 3.2. */
  readonly secret: Buffer
}

export interface NotificationResponse {
  readonly processId: number
  readonly channel: string
  readonly payload: string
}

/** CopyInResponse, CopyOutResponse and CopyBothResponse. */
export interface CopyResponse {
  /** 0: text, fields separated; 1: binary. */
  readonly format: number
  readonly columnFormats: readonly number[]
}

export interface NegotiateProtocolVersion {
  /** `major << 16 | minor` of the newest version the server speaks (as servers send it). */
  readonly version: number
  /** Protocol options of the startup message that the server did not know. */
  readonly unrecognizedOptions: readonly string[]
}

/** Shortest and longest secret of a BackendKeyData or CancelRequest (protocol 3.2). */
export const secretBytesMin = 4
export const secretBytesMax = 256

/** RowDescription (B). */
export function decodeRowDescription(view: FrameView): readonly Field[] {
  const body = BodyReader.of('RowDescription', view)
  const count = body.u16()
  body.expect(count, 19)
  const fields: Field[] = []
  for (let index = 0; index < count; index++) {
    fields.push({
      name: body.displayString(),
      relation: body.u32(),
      attribute: body.i16(),
      type: body.u32(),
      typeBytes: body.i16(),
      modifier: body.i32(),
      format: body.i16(),
    })
  }
  body.finish()
  return fields
}

/**
 * Reads DataRow (B) after DataRow without allocating: `starts[i]` is the offset of column i's value
 * in the frame's buffer and `bytes[i]` its length, -1 for NULL. Both are overwritten by the next
 * `read()`.
 */
export class DataRowReader {
  #starts = new Int32Array(32)
  #bytes = new Int32Array(32)

  get starts(): Int32Array {
    return this.#starts
  }

  get bytes(): Int32Array {
    return this.#bytes
  }

  /** Checks the row to its last byte and gives the number of its columns. */
  read(view: FrameView): number {
    const body = BodyReader.of('DataRow', view)
    const count = body.u16()
    body.expect(count, 4)
    if (count > this.#starts.length) {
      this.#starts = new Int32Array(count)
      this.#bytes = new Int32Array(count)
    }
    for (let index = 0; index < count; index++) {
      const bytes = body.i32()
      this.#bytes[index] = bytes
      this.#starts[index] = bytes === -1 ? body.at : body.skip(bytes)
    }
    body.finish()
    return count
  }
}

/** DataRow (B) as views, null for NULL. For tests and slow paths; see DataRowReader. */
export function decodeDataRow(view: FrameView): readonly (Buffer | null)[] {
  const body = BodyReader.of('DataRow', view)
  const count = body.u16()
  body.expect(count, 4)
  const values: (Buffer | null)[] = []
  for (let index = 0; index < count; index++) {
    const bytes = body.i32()
    values.push(bytes === -1 ? null : body.bytesView(bytes))
  }
  body.finish()
  return values
}

/**
 * ErrorResponse and NoticeResponse (B): field letter → text.
 * https://www.postgresql.org/docs/18/protocol-error-fields.html
 */
export function decodeErrorOrNotice(view: FrameView): ReadonlyMap<string, string> {
  const body = BodyReader.of('ErrorResponse', view)
  const fields = new Map<string, string>()
  for (;;) {
    const letter = body.u8()
    if (letter === 0) break
    // "Frontends should silently ignore fields of unrecognized type": kept, under its letter.
    fields.set(String.fromCharCode(letter), body.displayString())
  }
  body.finish()
  return fields
}

/** ParameterStatus (B). */
export function decodeParameterStatus(view: FrameView): {
  readonly name: string
  readonly value: string
} {
  const body = BodyReader.of('ParameterStatus', view)
  const name = body.displayString()
  const value = body.displayString()
  body.finish()
  return { name, value }
}

/** CommandComplete (B): the command tag, "SELECT 1". */
export function decodeCommandComplete(view: FrameView): string {
  const body = BodyReader.of('CommandComplete', view)
  const tag = body.displayString()
  body.finish()
  return tag
}

/** ReadyForQuery (B). */
export function decodeReadyForQuery(view: FrameView): TransactionStatus {
  const body = BodyReader.of('ReadyForQuery', view)
  const status = body.u8()
  body.finish()
  switch (status) {
    case 0x49:
      return 'idle'
    case 0x54:
      return 'transaction'
    case 0x45:
      return 'failed'
    default:
      return body.refuse(`has the unknown transaction status ${status}`)
  }
}

/** BackendKeyData (B). The secret is copied, because it is kept. */
export function decodeBackendKeyData(view: FrameView): BackendKeyData {
  const body = BodyReader.of('BackendKeyData', view)
  const processId = body.i32()
  const bytes = body.remainingBytes
  if (bytes < secretBytesMin || bytes > secretBytesMax)
    body.refuse(`has a secret of ${bytes} bytes`)
  return { processId, secret: Buffer.from(body.bytesView(bytes)) }
}

/** NotificationResponse (B). */
export function decodeNotification(view: FrameView): NotificationResponse {
  const body = BodyReader.of('NotificationResponse', view)
  const processId = body.i32()
  const channel = body.displayString()
  const payload = body.displayString()
  body.finish()
  return { processId, channel, payload }
}

/** CopyInResponse, CopyOutResponse, CopyBothResponse (B). */
export function decodeCopyResponse(view: FrameView): CopyResponse {
  const body = BodyReader.of('CopyResponse', view)
  const format = body.u8()
  const count = body.u16()
  body.expect(count, 2)
  const columnFormats: number[] = []
  for (let index = 0; index < count; index++) columnFormats.push(body.i16())
  body.finish()
  return { format, columnFormats }
}

/** ParameterDescription (B): oids of the parameters' types. */
export function decodeParameterDescription(view: FrameView): readonly number[] {
  const body = BodyReader.of('ParameterDescription', view)
  const count = body.u16()
  body.expect(count, 4)
  const types: number[] = []
  for (let index = 0; index < count; index++) types.push(body.u32())
  body.finish()
  return types
}

/** FunctionCallResponse (B): a view of the result, null for NULL. */
export function decodeFunctionCallResponse(view: FrameView): Buffer | null {
  const body = BodyReader.of('FunctionCallResponse', view)
  const bytes = body.i32()
  const value = bytes === -1 ? null : body.bytesView(bytes)
  body.finish()
  return value
}

/** NegotiateProtocolVersion (B). */
export function decodeNegotiateProtocolVersion(view: FrameView): NegotiateProtocolVersion {
  const body = BodyReader.of('NegotiateProtocolVersion', view)
  const version = body.u32()
  const count = body.u32()
  body.expect(count, 1)
  const unrecognizedOptions: string[] = []
  for (let index = 0; index < count; index++) unrecognizedOptions.push(body.displayString())
  body.finish()
  return { version, unrecognizedOptions }
}
