/**
 * Frontend messages (F): decoders for what a client sends, encoders for what regate sends upstream.
 *
 * A decoder takes the view of a whole frame, believes no length before it is checked, and refuses
 * (08P01) what the documented format does not say, bytes after the last field included. Texts stay
 * bytes until they are asked for. Encoders append to a ByteWriter.
 * Must not: judge what a message says (a count that fits its body is for the server to judge).
 *
 * https://www.postgresql.org/docs/18/protocol-message-formats.html
 */
import type { FrameView } from './frames.ts'
import { frontendTypes } from './messages.ts'
import { BodyReader, malformed } from './reader.ts'
import type { ByteWriter } from './writer.ts'

/** What Describe and Close name. */
export type Target = 'statement' | 'portal'

/** The query string of a Query: `buffer[textStart, textEnd)`, terminator excluded. */
export interface Query {
  readonly textStart: number
  readonly textEnd: number
}

export interface Parse {
  /** Name of the prepared statement; empty for the unnamed one. */
  readonly name: string
  readonly textStart: number
  readonly textEnd: number
  /** Type oids that the client gave, 0 for unspecified; may be fewer than there are parameters. */
  readonly parameterTypes: readonly number[]
}

export interface Bind {
  readonly portal: string
  readonly statement: string
  /** Format codes: none (all text), one (for all), or one for each parameter. */
  readonly parameterFormats: readonly number[]
  readonly parameterCount: number
  /** Views into the frame, null for NULL; made when asked for, so only as long as it is valid. */
  readonly parameters: readonly (Buffer | null)[]
  /** Format codes of the result: none (all text), one (for all), or one for each column. */
  readonly resultFormats: readonly number[]
}

export interface NamedTarget {
  readonly target: Target
  readonly name: string
}

export interface Execute {
  readonly portal: string
  /** Rows to return before PortalSuspended; 0 and less is no limit, as the server reads it. */
  readonly rowLimit: number
}

export interface FunctionCall {
  readonly functionOid: number
  readonly argumentFormats: readonly number[]
  readonly arguments: readonly (Buffer | null)[]
  readonly resultFormat: number
}

export interface SaslInitialResponse {
  readonly mechanism: string
  /** View of the initial response; null where there is none (length -1). */
  readonly response: Buffer | null
}

/** Query (F). A NUL inside the text, or a byte after its terminator, is a protocol violation. */
export function decodeQuery(view: FrameView): Query {
  const textStart = view.start + 5
  const textEnd = view.end - 1
  const terminator = view.buffer.indexOf(0, textStart)
  if (terminator === textEnd) return { textStart, textEnd }
  throw malformed(
    'Query',
    terminator < 0 || terminator > textEnd
      ? 'has a string without terminator'
      : `has ${textEnd - terminator} bytes after its end`,
  )
}

/** Parse (F). */
export function decodeParse(view: FrameView): Parse {
  const body = BodyReader.of('Parse', view)
  const name = body.string()
  const textStart = body.at
  const textEnd = body.skipString()
  const count = body.u16()
  body.expect(count, 4)
  const parameterTypes: number[] = []
  for (let index = 0; index < count; index++) parameterTypes.push(body.u32())
  body.finish()
  return { name, textStart, textEnd, parameterTypes }
}

/** Bind (F). */
export function decodeBind(view: FrameView): Bind {
  const body = BodyReader.of('Bind', view)
  const portal = body.string()
  const statement = body.string()
  const parameterFormats = formats(body)
  const valuesAt = body.at
  const parameterCount = body.u16()
  body.expect(parameterCount, 4)
  for (let index = 0; index < parameterCount; index++) {
    const bytes = body.i32()
    if (bytes !== -1) body.skip(bytes)
  }
  const resultFormats = formats(body)
  body.finish()
  return new BindView(
    portal,
    statement,
    parameterFormats,
    parameterCount,
    resultFormats,
    view.buffer,
    valuesAt,
    view.end,
  )
}

/** A Bind whose parameters were checked and become views only when they are asked for. */
class BindView implements Bind {
  readonly portal: string
  readonly statement: string
  readonly parameterFormats: readonly number[]
  readonly parameterCount: number
  readonly resultFormats: readonly number[]
  readonly #buffer: Buffer
  readonly #valuesAt: number
  readonly #end: number

  constructor(
    portal: string,
    statement: string,
    parameterFormats: readonly number[],
    parameterCount: number,
    resultFormats: readonly number[],
    buffer: Buffer,
    valuesAt: number,
    end: number,
  ) {
    this.portal = portal
    this.statement = statement
    this.parameterFormats = parameterFormats
    this.parameterCount = parameterCount
    this.resultFormats = resultFormats
    this.#buffer = buffer
    this.#valuesAt = valuesAt
    this.#end = end
  }

  get parameters(): readonly (Buffer | null)[] {
    return values(new BodyReader('Bind', this.#buffer, this.#valuesAt, this.#end))
  }
}

/** Describe (F). */
export function decodeDescribe(view: FrameView): NamedTarget {
  return namedTarget('Describe', view)
}

/** Close (F). */
export function decodeClose(view: FrameView): NamedTarget {
  return namedTarget('Close', view)
}

/** Execute (F). */
export function decodeExecute(view: FrameView): Execute {
  const body = BodyReader.of('Execute', view)
  const portal = body.string()
  const rowLimit = body.i32()
  body.finish()
  return { portal, rowLimit }
}

/** FunctionCall (F): decoded so that it can be judged or refused with its oid. */
export function decodeFunctionCall(view: FrameView): FunctionCall {
  const body = BodyReader.of('FunctionCall', view)
  const functionOid = body.u32()
  const argumentFormats = formats(body)
  const args = values(body)
  const resultFormat = body.u16()
  body.finish()
  return { functionOid, argumentFormats, arguments: args, resultFormat }
}

/** CopyFail (F): the reason that the client gives. */
export function decodeCopyFail(view: FrameView): string {
  const body = BodyReader.of('CopyFail', view)
  const reason = body.string()
  body.finish()
  return reason
}

/** Sync, Flush, Terminate, CopyDone (F, B) and the completions of the backend: no body at all. */
export function decodeEmpty(message: string, view: FrameView): void {
  BodyReader.of(message, view).finish()
}

/** PasswordMessage (F): cleartext password, MD5 hash, or a token. Keep it out of every log. */
export function decodePassword(view: FrameView): string {
  const body = BodyReader.of('PasswordMessage', view)
  const password = body.string()
  body.finish()
  return password
}

/** SASLInitialResponse (F). */
export function decodeSaslInitialResponse(view: FrameView): SaslInitialResponse {
  const body = BodyReader.of('SASLInitialResponse', view)
  const mechanism = body.string()
  const bytes = body.i32()
  const response = bytes === -1 ? null : body.bytesView(bytes)
  body.finish()
  return { mechanism, response }
}

/** SASLResponse (F) and GSSResponse (F): a view of the mechanism's own data. */
export function decodeSaslResponse(view: FrameView): Buffer {
  const body = BodyReader.of('SASLResponse', view)
  return body.bytesView(body.remainingBytes)
}

function namedTarget(message: string, view: FrameView): NamedTarget {
  const body = BodyReader.of(message, view)
  const subtype = body.u8()
  // 'S' and 'P'; anything else is refused as exec_describe… and Close do in postgres.c.
  if (subtype !== 0x53 && subtype !== 0x50) body.refuse(`has the unknown subtype ${subtype}`)
  const name = body.string()
  body.finish()
  return { target: subtype === 0x53 ? 'statement' : 'portal', name }
}

function formats(body: BodyReader): readonly number[] {
  const count = body.u16()
  if (count === 0) return noNumbers
  body.expect(count, 2)
  const codes: number[] = []
  for (let index = 0; index < count; index++) codes.push(body.i16())
  return codes
}

function values(body: BodyReader): readonly (Buffer | null)[] {
  const count = body.u16()
  body.expect(count, 4)
  const list: (Buffer | null)[] = []
  for (let index = 0; index < count; index++) {
    const bytes = body.i32()
    list.push(bytes === -1 ? null : body.bytesView(bytes))
  }
  return list
}

const noNumbers: readonly number[] = []

/** A query string or a parameter: a string is sent as UTF-8, bytes as they are. */
export type Text = string | Uint8Array

/** Query (F). Bytes must hold no NUL. */
export function encodeQuery(writer: ByteWriter, text: Text): void {
  writer.begin(frontendTypes.Query)
  putText(writer, text)
  writer.end()
}

/** Parse (F). */
export function encodeParse(
  writer: ByteWriter,
  message: {
    readonly name: string
    readonly text: Text
    readonly parameterTypes?: readonly number[]
  },
): void {
  writer.begin(frontendTypes.Parse)
  writer.cstring(message.name)
  putText(writer, message.text)
  const types = message.parameterTypes ?? noNumbers
  writer.count16(types.length)
  for (const type of types) writer.u32(type)
  writer.end()
}

/** Bind (F). */
export function encodeBind(
  writer: ByteWriter,
  message: {
    readonly portal: string
    readonly statement: string
    readonly parameterFormats?: readonly number[]
    readonly parameters?: readonly (Text | null)[]
    readonly resultFormats?: readonly number[]
  },
): void {
  writer.begin(frontendTypes.Bind)
  writer.cstring(message.portal)
  writer.cstring(message.statement)
  putFormats(writer, message.parameterFormats ?? noNumbers)
  putValues(writer, message.parameters ?? [])
  putFormats(writer, message.resultFormats ?? noNumbers)
  writer.end()
}

/** Describe (F). */
export function encodeDescribe(writer: ByteWriter, target: Target, name: string): void {
  putTarget(writer, frontendTypes.Describe, target, name)
}

/** Close (F). */
export function encodeClose(writer: ByteWriter, target: Target, name: string): void {
  putTarget(writer, frontendTypes.Close, target, name)
}

/** Execute (F). A `rowLimit` of 0 is no limit. */
export function encodeExecute(writer: ByteWriter, portal: string, rowLimit = 0): void {
  writer.begin(frontendTypes.Execute)
  writer.cstring(portal)
  writer.i32(rowLimit)
  writer.end()
}

/** Sync (F). */
export function encodeSync(writer: ByteWriter): void {
  putEmpty(writer, frontendTypes.Sync)
}

/** Flush (F). */
export function encodeFlush(writer: ByteWriter): void {
  putEmpty(writer, frontendTypes.Flush)
}

/** Terminate (F). */
export function encodeTerminate(writer: ByteWriter): void {
  putEmpty(writer, frontendTypes.Terminate)
}

/** FunctionCall (F). */
export function encodeFunctionCall(
  writer: ByteWriter,
  message: {
    readonly functionOid: number
    readonly argumentFormats?: readonly number[]
    readonly arguments?: readonly (Text | null)[]
    readonly resultFormat?: number
  },
): void {
  writer.begin(frontendTypes.FunctionCall)
  writer.u32(message.functionOid)
  putFormats(writer, message.argumentFormats ?? noNumbers)
  putValues(writer, message.arguments ?? [])
  writer.u16(message.resultFormat ?? 0)
  writer.end()
}

/** CopyData (F, B). */
export function encodeCopyData(writer: ByteWriter, data: Uint8Array): void {
  writer.begin(frontendTypes.CopyData)
  writer.bytes(data)
  writer.end()
}

/** CopyDone (F, B). */
export function encodeCopyDone(writer: ByteWriter): void {
  putEmpty(writer, frontendTypes.CopyDone)
}

/** CopyFail (F). */
export function encodeCopyFail(writer: ByteWriter, reason: string): void {
  writer.begin(frontendTypes.CopyFail)
  writer.cstring(reason)
  writer.end()
}

/** PasswordMessage (F). */
export function encodePassword(writer: ByteWriter, password: string): void {
  writer.begin(frontendTypes.PasswordMessage)
  writer.cstring(password)
  writer.end()
}

/** SASLInitialResponse (F); null is the absence of an initial response. */
export function encodeSaslInitialResponse(
  writer: ByteWriter,
  mechanism: string,
  response: Text | null,
): void {
  writer.begin(frontendTypes.PasswordMessage)
  writer.cstring(mechanism)
  writer.value(response)
  writer.end()
}

/** SASLResponse (F). */
export function encodeSaslResponse(writer: ByteWriter, response: Text): void {
  writer.begin(frontendTypes.PasswordMessage)
  if (typeof response === 'string') writer.string(response)
  else writer.bytes(response)
  writer.end()
}

function putEmpty(writer: ByteWriter, type: number): void {
  writer.begin(type)
  writer.end()
}

function putTarget(writer: ByteWriter, type: number, target: Target, name: string): void {
  writer.begin(type)
  writer.u8(target === 'statement' ? 0x53 : 0x50)
  writer.cstring(name)
  writer.end()
}

function putText(writer: ByteWriter, text: Text): void {
  if (typeof text === 'string') writer.cstring(text)
  else writer.cstringBytes(text)
}

function putFormats(writer: ByteWriter, codes: readonly number[]): void {
  writer.count16(codes.length)
  for (const code of codes) writer.i16(code)
}

function putValues(writer: ByteWriter, list: readonly (Text | null)[]): void {
  writer.count16(list.length)
  for (const value of list) writer.value(value)
}
