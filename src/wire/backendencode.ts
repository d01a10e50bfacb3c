/**
 * Encoders of backend messages (B): what regate says to a client in its own name. They append to a
 * ByteWriter.
 *
 * Invariant: an ErrorResponse or NoticeResponse can always be sent. Its texts may quote what a
 * client or a policy wrote, so a NUL in them is replaced instead of refused.
 *
 * https://www.postgresql.org/docs/18/protocol-message-formats.html
 */
import { assert } from '../core/core.ts'
import { secretBytesMax, secretBytesMin, type Field } from './backend.ts'
import type { Text } from './frontend.ts'
import { backendTypes, transactionStatuses, type TransactionStatus } from './messages.ts'
import type { ByteWriter } from './writer.ts'

export type Severity = 'ERROR' | 'FATAL' | 'PANIC'
export type NoticeSeverity = 'WARNING' | 'NOTICE' | 'DEBUG' | 'INFO' | 'LOG'

/** Fields of an ErrorResponse or NoticeResponse that regate sends. */
export interface Report<S extends string> {
  readonly severity: S
  readonly sqlstate: string
  readonly message: string
  readonly detail?: string | null | undefined
  readonly hint?: string | null | undefined
  /** Position in the query string: counts characters, from 1. */
  readonly position?: number | null | undefined
}

/** ErrorResponse (B). */
export function encodeErrorResponse(writer: ByteWriter, report: Report<Severity>): void {
  putReport(writer, backendTypes.ErrorResponse, report)
}

/** NoticeResponse (B). */
export function encodeNotice(writer: ByteWriter, report: Report<NoticeSeverity>): void {
  putReport(writer, backendTypes.NoticeResponse, report)
}

/** ErrorResponse or NoticeResponse (B) of the given fields, by letter: one that was decoded. */
export function encodeReportFields(
  writer: ByteWriter,
  type: typeof backendTypes.ErrorResponse | typeof backendTypes.NoticeResponse,
  fields: ReadonlyMap<string, string>,
): void {
  writer.begin(type)
  for (const [letter, text] of fields) putReportField(writer, letter.charCodeAt(0), text)
  writer.u8(0)
  writer.end()
}

function putReport(writer: ByteWriter, type: number, report: Report<string>): void {
  writer.begin(type)
  putReportField(writer, 0x53, report.severity) // 'S': localized
  putReportField(writer, 0x56, report.severity) // 'V': not localized
  putReportField(writer, 0x43, report.sqlstate) // 'C'
  putReportField(writer, 0x4d, report.message) // 'M'
  if (report.detail) putReportField(writer, 0x44, report.detail) // 'D'
  if (report.hint) putReportField(writer, 0x48, report.hint) // 'H'
  if (report.position) putReportField(writer, 0x50, String(report.position)) // 'P'
  writer.u8(0)
  writer.end()
}

function putReportField(writer: ByteWriter, letter: number, text: string): void {
  writer.u8(letter)
  writer.cstring(text.includes('\0') ? text.replaceAll('\0', '\ufffd') : text)
}

/** ReadyForQuery (B). */
export function encodeReadyForQuery(writer: ByteWriter, status: TransactionStatus): void {
  writer.begin(backendTypes.ReadyForQuery)
  writer.u8(transactionStatuses[status])
  writer.end()
}

/** ParameterStatus (B). */
export function encodeParameterStatus(writer: ByteWriter, name: string, value: string): void {
  writer.begin(backendTypes.ParameterStatus)
  writer.cstring(name)
  writer.cstring(value)
  writer.end()
}

/** BackendKeyData (B). */
export function encodeBackendKeyData(
  writer: ByteWriter,
  processId: number,
  secret: Uint8Array,
): void {
  assert(
    secret.length >= secretBytesMin && secret.length <= secretBytesMax,
    'a cancel secret has 4 to 256 bytes',
  )
  writer.begin(backendTypes.BackendKeyData)
  writer.i32(processId)
  writer.bytes(secret)
  writer.end()
}

/** NegotiateProtocolVersion (B): `version` is the whole number, as PostgreSQL sends it. */
export function encodeNegotiateProtocolVersion(
  writer: ByteWriter,
  version: number,
  unrecognizedOptions: readonly string[],
): void {
  writer.begin(backendTypes.NegotiateProtocolVersion)
  writer.u32(version)
  writer.u32(unrecognizedOptions.length)
  for (const option of unrecognizedOptions) writer.cstring(option)
  writer.end()
}

/** RowDescription (B). */
export function encodeRowDescription(writer: ByteWriter, fields: readonly Field[]): void {
  writer.begin(backendTypes.RowDescription)
  writer.count16(fields.length)
  for (const field of fields) {
    writer.cstring(field.name)
    writer.u32(field.relation)
    writer.i16(field.attribute)
    writer.u32(field.type)
    writer.i16(field.typeBytes)
    writer.i32(field.modifier)
    writer.i16(field.format)
  }
  writer.end()
}

/** DataRow (B); null is NULL. */
export function encodeDataRow(writer: ByteWriter, values: readonly (Text | null)[]): void {
  writer.begin(backendTypes.DataRow)
  writer.count16(values.length)
  for (const value of values) writer.value(value)
  writer.end()
}

/** CommandComplete (B). */
export function encodeCommandComplete(writer: ByteWriter, tag: string): void {
  writer.begin(backendTypes.CommandComplete)
  writer.cstring(tag)
  writer.end()
}

/** NotificationResponse (B). */
export function encodeNotification(
  writer: ByteWriter,
  processId: number,
  channel: string,
  payload: string,
): void {
  writer.begin(backendTypes.NotificationResponse)
  writer.i32(processId)
  writer.cstring(channel)
  writer.cstring(payload)
  writer.end()
}

/** ParameterDescription (B). */
export function encodeParameterDescription(writer: ByteWriter, types: readonly number[]): void {
  writer.begin(backendTypes.ParameterDescription)
  writer.count16(types.length)
  for (const type of types) writer.u32(type)
  writer.end()
}

/** CopyInResponse, CopyOutResponse, CopyBothResponse (B). */
export function encodeCopyResponse(
  writer: ByteWriter,
  direction: 'in' | 'out' | 'both',
  format: number,
  columnFormats: readonly number[],
): void {
  writer.begin(copyTypes[direction])
  writer.u8(format)
  writer.count16(columnFormats.length)
  for (const code of columnFormats) writer.i16(code)
  writer.end()
}

const copyTypes = {
  in: backendTypes.CopyInResponse,
  out: backendTypes.CopyOutResponse,
  both: backendTypes.CopyBothResponse,
} as const

/** FunctionCallResponse (B); null is NULL. */
export function encodeFunctionCallResponse(writer: ByteWriter, value: Text | null): void {
  writer.begin(backendTypes.FunctionCallResponse)
  writer.value(value)
  writer.end()
}

/** The backend messages that have no body. */
export type EmptyBackendMessage =
  | 'ParseComplete'
  | 'BindComplete'
  | 'CloseComplete'
  | 'EmptyQueryResponse'
  | 'NoData'
  | 'PortalSuspended'
  | 'CopyDone'

/** A backend message without a body. */
export function encodeEmpty(writer: ByteWriter, message: EmptyBackendMessage): void {
  writer.begin(backendTypes[message])
  writer.end()
}
