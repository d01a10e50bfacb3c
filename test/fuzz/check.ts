/**
 * What must hold for any input of the wire, or a `Finding` is thrown:
 * - the only exception is a ProxyError;
 * - what comes out as frames is exactly what went in, byte for byte, up to the first fault;
 * - cutting the input elsewhere changes nothing: same frames, same decoded fields, same fault;
 * - a message that decodes is exactly what the encoder makes of its fields, so nothing in it was
 *   skipped, read twice, or taken from a neighbour;
 * - nothing takes long.
 */
import { ProxyError } from '../../src/core/core.ts'
import * as wire from '../../src/wire/wire.ts'
import type { ByteWriter, FrameView } from '../../src/wire/wire.ts'
import type { Surface } from './streams.ts'

/** A property that did not hold. */
export class Finding extends Error {
  override readonly name = 'Finding'
}

const frameBytesMax = 4096
const limits = {
  frontend: wire.frontendFrameLimits(frameBytesMax),
  backend: wire.backendFrameLimits(frameBytesMax),
}
/** Where everything is held, when a frame that is too long is refused must not depend on cuts. */
const held = {
  frontend: limits.frontend.map((bytes) => Math.min(bytes, frameBytesMax)),
  backend: limits.backend.map((bytes) => Math.min(bytes, frameBytesMax)),
}
/** Frames above this are only given in parts; small, so that inputs reach it. */
const heldBytesMax = 64

/** Checks one input, whole and cut at the given offsets (ascending). */
export function check(surface: Surface, bytes: Buffer, cuts: readonly number[]): void {
  const startCpu = process.cpuUsage()
  const run = surface === 'startup' ? runStartup : (pieces: Buffer[]) => runFrames(surface, pieces)
  const whole = run([Buffer.from(bytes)])
  const inPieces = run(cut(bytes, cuts))
  if (whole !== inPieces) throw new Finding(`split at ${cuts.join()}:\n${whole}\n${inPieces}`)
  if (surface !== 'startup') {
    if (runFrames(surface, cut(bytes, cuts), true) !== whole)
      throw new Finding('pushed ahead differs')
    checkPartial(surface, bytes, cuts)
  }
  checkTracer(surface, bytes)
  // CPU time: on a busy machine the clock says nothing about a hang.
  const { user, system } = process.cpuUsage(startCpu)
  if (user + system > 1_000_000) throw new Finding(`took ${(user + system) / 1000} ms of CPU`)
}

function cut(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const pieces: Buffer[] = []
  let from = 0
  for (const at of [...cuts, bytes.length]) {
    pieces.push(Buffer.from(bytes.subarray(from, at)))
    from = at
  }
  return pieces
}

/** Runs `step` and describes the ProxyError it throws, if any. */
function fault(step: () => void): string {
  try {
    step()
    return ''
  } catch (error) {
    if (error instanceof ProxyError) return `${error.sqlstate} ${error.message}`
    throw error
  }
}

function runFrames(
  surface: 'frontend' | 'backend',
  pieces: readonly Buffer[],
  ahead = false,
): string {
  const reader = new wire.FrameReader({ frameBytesMax, limits: held[surface] })
  const frames: Buffer[] = []
  const log: string[] = []
  let pushedBytes = 0
  const drain = () => {
    while (reader.next() === 'frame') {
      const frame = Buffer.from(reader.buffer.subarray(reader.start, reader.end))
      frames.push(frame)
      log.push(decodeAll(surface, reader, frame))
      if (reader.bufferedBytes > pushedBytes) throw new Finding('more buffered than pushed')
    }
  }
  const failed = fault(() => {
    for (const piece of pieces) {
      reader.push(piece)
      pushedBytes += piece.length
      if (!ahead) drain()
    }
    drain()
  })
  const input = Buffer.concat(pieces)
  const output = Buffer.concat(frames)
  if (frames.map((frame) => frame.length).join() !== plainFrames(surface, input).join()) {
    throw new Finding('the frames are cut elsewhere than their lengths say')
  }
  if (!input.subarray(0, output.length).equals(output))
    throw new Finding('frames are not the input')
  if (failed === '' && reader.bufferedBytes !== input.length - output.length) {
    throw new Finding('bytes were lost')
  }
  return `${log.join('\n')}\n${failed}`
}

/** Bytes of each whole frame, and of all of them: the plainest reading there is. */
function plainFrames(surface: 'frontend' | 'backend', bytes: Buffer): number[] {
  const frames: number[] = []
  let at = 0
  while (at + 5 <= bytes.length) {
    const declaredBytes = bytes.readUInt32BE(at + 1)
    if (declaredBytes < 4 || declaredBytes > limits[surface][bytes[at]!]!) break
    if (at + 1 + declaredBytes > bytes.length) break
    frames.push(1 + declaredBytes)
    at += 1 + declaredBytes
  }
  return frames
}

/** Passing every incomplete frame on in parts gives the same frames, byte for byte. */
function checkPartial(
  surface: 'frontend' | 'backend',
  bytes: Buffer,
  cuts: readonly number[],
): void {
  const reader = new wire.FrameReader({ frameBytesMax: heldBytesMax, limits: limits[surface] })
  const parts: Buffer[] = []
  const frames: number[] = []
  let openBytes = 0
  const keep = () => {
    parts.push(Buffer.from(reader.buffer.subarray(reader.start, reader.end)))
    openBytes += reader.end - reader.start
    if (!reader.last) return
    frames.push(openBytes)
    openBytes = 0
  }
  const pieces = cut(bytes, cuts)
  const failed = fault(() => {
    for (const [index, piece] of pieces.entries()) {
      reader.push(piece)
      // Now and then two pieces come before anything is read.
      if (index % 3 === 1 && index < pieces.length - 1) continue
      for (let found = reader.next(); found !== 'none'; found = reader.next()) {
        if (found === 'partial') reader.takePartial()
        else if (found === 'frame' && reader.declaredBytes > heldBytesMax) {
          throw new Finding('a frame was held that is too long for it')
        }
        keep()
      }
      reader.release()
      piece.fill(0xee)
    }
  })
  const output = Buffer.concat(parts)
  if (!bytes.subarray(0, output.length).equals(output)) throw new Finding('parts are not the input')
  if (failed === '' && bytes.length - output.length > 4) throw new Finding('parts were held back')
  const expected = plainFrames(surface, bytes)
  if (frames.join() !== expected.join()) {
    throw new Finding(`parts make the frames ${frames.join()}, not ${expected.join()}`)
  }
}

type Codec = (view: FrameView) => (writer: ByteWriter) => void

/** Decodes a message, and tells how to encode it again from what was decoded. */
const frontendCodecs: Readonly<Record<string, readonly Codec[]>> = {
  Query: [
    (view) => {
      const { textStart, textEnd } = wire.decodeQuery(view)
      return (w) => wire.encodeQuery(w, view.buffer.subarray(textStart, textEnd))
    },
  ],
  Parse: [
    (view) => {
      const { name, textStart, textEnd, parameterTypes } = wire.decodeParse(view)
      const text = view.buffer.subarray(textStart, textEnd)
      return (w) => wire.encodeParse(w, { name, text, parameterTypes })
    },
  ],
  Bind: [again(wire.decodeBind, wire.encodeBind)],
  Describe: [again(wire.decodeDescribe, (w, m) => wire.encodeDescribe(w, m.target, m.name))],
  Close: [again(wire.decodeClose, (w, m) => wire.encodeClose(w, m.target, m.name))],
  Execute: [again(wire.decodeExecute, (w, m) => wire.encodeExecute(w, m.portal, m.rowLimit))],
  FunctionCall: [again(wire.decodeFunctionCall, wire.encodeFunctionCall)],
  CopyFail: [again(wire.decodeCopyFail, wire.encodeCopyFail)],
  Sync: [again((view) => wire.decodeEmpty('Sync', view), wire.encodeSync)],
  Flush: [again((view) => wire.decodeEmpty('Flush', view), wire.encodeFlush)],
  PasswordMessage: [
    again(wire.decodePassword, wire.encodePassword),
    again(wire.decodeSaslInitialResponse, (w, m) =>
      wire.encodeSaslInitialResponse(w, m.mechanism, m.response),
    ),
    again(wire.decodeSaslResponse, wire.encodeSaslResponse),
  ],
}

const rows = new wire.DataRowReader()

const backendCodecs: Readonly<Record<string, readonly Codec[]>> = {
  RowDescription: [again(wire.decodeRowDescription, wire.encodeRowDescription)],
  DataRow: [
    again(wire.decodeDataRow, wire.encodeDataRow),
    (view) => {
      const count = rows.read(view)
      const values = Array.from({ length: count }, (_, index) => {
        const [start, bytes] = [rows.starts[index]!, rows.bytes[index]!]
        return bytes === -1 ? null : view.buffer.subarray(start, start + bytes)
      })
      return (w) => wire.encodeDataRow(w, values)
    },
  ],
  CommandComplete: [again(wire.decodeCommandComplete, wire.encodeCommandComplete)],
  ReadyForQuery: [again(wire.decodeReadyForQuery, wire.encodeReadyForQuery)],
  ParameterStatus: [
    again(wire.decodeParameterStatus, (w, m) => wire.encodeParameterStatus(w, m.name, m.value)),
  ],
  BackendKeyData: [
    again(wire.decodeBackendKeyData, (w, m) => wire.encodeBackendKeyData(w, m.processId, m.secret)),
  ],
  NotificationResponse: [
    again(wire.decodeNotification, (w, m) =>
      wire.encodeNotification(w, m.processId, m.channel, m.payload),
    ),
  ],
  ParameterDescription: [again(wire.decodeParameterDescription, wire.encodeParameterDescription)],
  CopyInResponse: [copyCodec('in')],
  CopyOutResponse: [copyCodec('out')],
  CopyBothResponse: [copyCodec('both')],
  FunctionCallResponse: [again(wire.decodeFunctionCallResponse, wire.encodeFunctionCallResponse)],
  NegotiateProtocolVersion: [
    again(wire.decodeNegotiateProtocolVersion, (w, m) =>
      wire.encodeNegotiateProtocolVersion(w, m.version, m.unrecognizedOptions),
    ),
  ],
  Authentication: [again(wire.decodeAuthentication, wire.encodeAuthentication)],
  ErrorResponse: [reportCodec(wire.backendTypes.ErrorResponse)],
  NoticeResponse: [reportCodec(wire.backendTypes.NoticeResponse)],
}

function again<M>(
  decode: (view: FrameView) => M,
  encode: (writer: ByteWriter, message: M) => void,
): Codec {
  return (view) => {
    const message = decode(view)
    return (writer) => encode(writer, message)
  }
}

function copyCodec(direction: 'in' | 'out' | 'both'): Codec {
  return again(wire.decodeCopyResponse, (w, m) =>
    wire.encodeCopyResponse(w, direction, m.format, m.columnFormats),
  )
}

function reportCodec(type: 0x45 | 0x4e): Codec {
  return again(wire.decodeErrorOrNotice, (w, fields) => wire.encodeReportFields(w, type, fields))
}

/** Every decoder that may see the frame: in place, and alone in a buffer of its own. */
function decodeAll(surface: 'frontend' | 'backend', view: FrameView, frame: Buffer): string {
  const front = surface === 'frontend'
  const type = frame[0]!
  const name = front ? wire.frontendMessageName(type) : wire.backendMessageName(type)
  if (name === null) throw new Finding(`the unknown type ${type} came through`)
  const codecs = (front ? frontendCodecs : backendCodecs)[name] ?? []
  const alone = { buffer: frame, start: 0, end: frame.length }
  const results = codecs.map((codec) => {
    const here = encodedAgain(codec, view, frame, front)
    if (here !== encodedAgain(codec, alone, frame, front)) throw new Finding('neighbours matter')
    return here
  })
  return `${name} ${frame.toString('hex')} ${results.join(' | ')}`
}

function encodedAgain(codec: Codec, view: FrameView, frame: Buffer, exact: boolean): string {
  let bytes: Buffer = Buffer.alloc(0)
  const failed = fault(() => {
    bytes = wire.written(codec(view))
  })
  // Texts of the server are for people: what is not UTF-8 is shown with replacements, and of a
  // field that an error gives twice the last counts. Everything else comes again byte for byte.
  const replaced = bytes.includes('\ufffd') || frame[0] === 0x45 || frame[0] === 0x4e
  const comparable = exact || !replaced
  if (failed === '' && comparable && !bytes.equals(frame)) {
    throw new Finding(`decoded ${frame.toString('hex')} encodes to ${bytes.toString('hex')}`)
  }
  return failed === '' ? 'ok' : failed
}

function runStartup(pieces: readonly Buffer[]): string {
  const reader = new wire.StartupReader({ startupBytesMax: frameBytesMax })
  const log: string[] = []
  let consumedBytes = 0
  let ended = false
  const bytes = Buffer.concat(pieces)
  const failed = fault(() => {
    for (const piece of pieces) {
      reader.push(piece)
      if (ended) continue
      // What comes behind an encryption request depends on when it comes; see `afterRequest`.
      const request = reader.next()
      if (request === null) continue
      ended = true
      log.push(describe(request))
      consumedBytes = checkStartup(request, bytes)
    }
  })
  if (failed !== '') return afterRequest(bytes) ? 'plaintext behind a request' : failed
  const rest = reader.takeRest()
  if (!bytes.subarray(consumedBytes).equals(rest)) throw new Finding('the rest is not the rest')
  return afterRequest(bytes) ? 'plaintext behind a request' : log.join('\n')
}

/** Whether the input is an encryption request with more behind it: when the more comes decides. */
function afterRequest(bytes: Buffer): boolean {
  if (bytes.length <= 8 || bytes.readUInt32BE(0) !== 8) return false
  const code = bytes.readUInt32BE(4)
  return code === wire.requestCodes.SSLRequest || code === wire.requestCodes.GSSENCRequest
}

function describe(request: wire.StartupRequest): string {
  return JSON.stringify(request, (_key, value: unknown) =>
    value instanceof Map ? [...(value as Map<unknown, unknown>)] : value,
  )
}

function checkStartup(request: wire.StartupRequest, bytes: Buffer): number {
  if (request.kind === 'direct_tls') return 0
  const encoded = wire.written((writer) => {
    switch (request.kind) {
      case 'ssl_request': {
        wire.encodeSslRequest(writer)
        return
      }
      case 'gssenc_request': {
        wire.encodeGssencRequest(writer)
        return
      }
      case 'cancel_request': {
        wire.encodeCancelRequest(writer, request.processId, request.secret)
        return
      }
      case 'startup': {
        wire.negotiate(request)
        const all = [...request.parameters, ...request.protocolOptions]
        wire.encodeStartup(writer, request.version, all)
        return
      }
    }
  })
  const consumedBytes = bytes.readUInt32BE(0)
  const consumed = bytes.subarray(0, consumedBytes)
  // Protocol options are kept apart from settings, so only their order may differ.
  const options = request.kind === 'startup' && request.protocolOptions.size > 0
  const same = options ? encoded.length === consumed.length : encoded.equals(consumed)
  if (!same) throw new Finding(`startup ${consumed.toString('hex')} is ${encoded.toString('hex')}`)
  return consumedBytes
}

function checkTracer(surface: Surface, bytes: Buffer): void {
  const tracer = new wire.Tracer(() => undefined)
  fault(() => {
    if (surface === 'frontend')
      tracer.frontend(wire.written((w) => wire.encodeStartup(w, 0x0003_0000, [])))
    if (surface === 'backend') tracer.backend(bytes)
    else tracer.frontend(bytes)
  })
}
