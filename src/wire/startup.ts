/**
 * The untyped messages that open a connection (F): StartupMessage, SSLRequest, GSSENCRequest,
 * CancelRequest, and a TLS ClientHello sent directly (PostgreSQL 17).
 *
 * Invariants: nothing is buffered beyond `startupBytesMax`, and nothing at all for a declared length
 * that is refused; bytes that a client sent in plaintext behind an encryption request are a
 * protocol violation, never the beginning of the encrypted stream (CVE-2021-23214).
 *
 * PostgreSQL source: ProcessStartupPacket() in src/backend/tcop/backend_startup.c (18).
 */
import { assert, ProxyError } from '../core/core.ts'
import { secretBytesMax, secretBytesMin } from './backend.ts'
import { protocolVersions, requestCodes, tlsHandshakeByte } from './messages.ts'
import { BodyReader, malformed } from './reader.ts'
import type { ByteWriter } from './writer.ts'

export interface StartupMessage {
  readonly kind: 'startup'
  /** `major << 16 | minor`, as the client asked; the major version is 3. */
  readonly version: number
  /** Parameters in the client's order, without those of the protocol. */
  readonly parameters: ReadonlyMap<string, string>
  /** `_pq_.` options, by their whole names. */
  readonly protocolOptions: ReadonlyMap<string, string>
}

/** What a connection may open with. */
export type StartupRequest =
  | StartupMessage
  | { readonly kind: 'ssl_request' }
  | { readonly kind: 'gssenc_request' }
  | { readonly kind: 'cancel_request'; readonly processId: number; readonly secret: Buffer }
  | { readonly kind: 'direct_tls' }

const nothing = Buffer.alloc(0)
const protocolOptionPrefix = '_pq_.'

/** Reads the requests of one connection, up to its StartupMessage or CancelRequest. */
export class StartupReader {
  readonly #startupBytesMax: number
  #bytes: Buffer = nothing
  #count = 0
  #done = false
  #first = true
  #fault: ProxyError | null = null

  /** @param options.startupBytesMax longest message, without its length field */
  constructor(options: { readonly startupBytesMax: number }) {
    this.#startupBytesMax = options.startupBytesMax
  }

  /** Bytes that were pushed and are not consumed. */
  get bufferedBytes(): number {
    return this.#count
  }

  /**
   * Copies the chunk. Startup messages are short: what comes after one is kept too, so the caller
   * stops reading the socket when `next()` has given a request, until it has answered it.
   */
  push(chunk: Buffer): void {
    const neededBytes = this.#count + chunk.length
    if (neededBytes > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(128, neededBytes, this.#bytes.length * 2))
      this.#bytes.copy(grown, 0, 0, this.#count)
      this.#bytes = grown
    }
    chunk.copy(this.#bytes, this.#count)
    this.#count = neededBytes
  }

  /**
   * The next request, or null while it is incomplete. After `startup`, `cancel_request` and
   * `direct_tls` there is no next one: what followed is given by `takeRest()`. A fault is final:
   * every later call repeats it.
   */
  next(): StartupRequest | null {
    assert(!this.#done, 'the startup phase is over')
    if (this.#fault !== null) throw this.#fault
    try {
      return this.#next()
    } catch (error) {
      if (error instanceof ProxyError) this.#fault = error
      throw error
    }
  }

  #next(): StartupRequest | null {
    if (this.#count === 0) return null
    if (this.#first && this.#bytes[0] === tlsHandshakeByte) {
      this.#done = true
      return { kind: 'direct_tls' }
    }
    if (this.#count < 4) return null
    const declaredBytes = this.#bytes.readInt32BE(0)
    if (declaredBytes < 8 || declaredBytes - 4 > this.#startupBytesMax) {
      throw new ProxyError('protocol_violation', 'invalid length of startup packet', {
        detail: `The first four bytes declare ${declaredBytes} bytes; 8 to ${this.#startupBytesMax + 4} are allowed.`,
        hint: 'Is the client one of PostgreSQL? HTTP or another protocol on this port ends here.',
      })
    }
    if (this.#count < declaredBytes) return null
    const request = decodeStartup(this.#bytes, 0, declaredBytes)
    this.#first = false
    this.#bytes = this.#bytes.subarray(declaredBytes, this.#count)
    this.#count = this.#bytes.length
    if (request.kind === 'startup' || request.kind === 'cancel_request') this.#done = true
    else if (this.#count > 0) throw plaintextBehind(request)
    return request
  }

  /**
   * What was pushed and is not part of a request: frames behind the StartupMessage, or the whole
   * ClientHello after `direct_tls`. The reader is empty then.
   */
  takeRest(): Buffer {
    const rest = this.#bytes.subarray(0, this.#count)
    this.#bytes = nothing
    this.#count = 0
    return rest
  }
}

function plaintextBehind(request: StartupRequest): ProxyError {
  const what = request.kind === 'ssl_request' ? 'SSL' : 'GSSAPI encryption'
  return new ProxyError('protocol_violation', `received unencrypted data after ${what} request`, {
    detail:
      'This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.',
  })
}

/** Decodes one whole untyped message in `buffer[start, end)`, its length field included. */
export function decodeStartup(buffer: Buffer, start: number, end: number): StartupRequest {
  const body = new BodyReader('StartupMessage', buffer, start + 4, end)
  const code = body.u32()
  switch (code) {
    case requestCodes.SSLRequest:
      body.finish()
      return { kind: 'ssl_request' }
    case requestCodes.GSSENCRequest:
      body.finish()
      return { kind: 'gssenc_request' }
    case requestCodes.CancelRequest:
      return decodeCancelRequest(body)
    default:
      break
  }
  if (code >>> 16 !== 3) {
    throw new ProxyError(
      'protocol_violation',
      `unsupported frontend protocol ${code >>> 16}.${code & 0xffff}: server supports 3.0 to 3.2`,
      { sqlstate: '0A000' },
    )
  }
  return decodeStartupMessage(code, body)
}

function decodeCancelRequest(body: BodyReader): StartupRequest {
  if (body.remainingBytes < 4) throw malformed('CancelRequest', 'ends before its last field')
  const processId = body.i32()
  const bytes = body.remainingBytes
  if (bytes < secretBytesMin || bytes > secretBytesMax) {
    throw malformed('CancelRequest', `has a secret of ${bytes} bytes`)
  }
  return { kind: 'cancel_request', processId, secret: Buffer.from(body.bytesView(bytes)) }
}

function decodeStartupMessage(version: number, body: BodyReader): StartupMessage {
  const parameters = new Map<string, string>()
  const protocolOptions = new Map<string, string>()
  const seen = new Set<string>()
  for (;;) {
    const name = body.string()
    if (name === '') break
    // Setting names have no case, and the server would take the last: say which is meant.
    const folded = name.toLowerCase()
    if (seen.has(folded)) body.refuse(`gives the parameter "${name}" twice`)
    seen.add(folded)
    const target = name.startsWith(protocolOptionPrefix) ? protocolOptions : parameters
    target.set(name, body.string())
  }
  body.finish()
  return { kind: 'startup', version, parameters, protocolOptions }
}

/** What the two sides speak, and what a server has to say about it before it authenticates. */
export interface Negotiation {
  /** The version that is spoken: never newer than what the client asked. */
  readonly version: number
  /** Protocol options that were asked for and are not known. */
  readonly unrecognizedOptions: readonly string[]
  /** Whether NegotiateProtocolVersion has to be sent. */
  readonly announced: boolean
}

/**
 * Compares a StartupMessage with what we speak: up to 3.2 and no `_pq_.` option. As the server, a
 * newer minor version or an unknown option is answered by NegotiateProtocolVersion, not refused.
 */
export function negotiate(startup: StartupMessage): Negotiation {
  const unrecognizedOptions = [...startup.protocolOptions.keys()]
  const newer = startup.version > protocolVersions.v3_2
  return {
    version: newer ? protocolVersions.v3_2 : startup.version,
    unrecognizedOptions,
    announced: newer || unrecognizedOptions.length > 0,
  }
}

/** StartupMessage (F). */
export function encodeStartup(
  writer: ByteWriter,
  version: number,
  parameters: Iterable<readonly [string, string]>,
): void {
  writer.beginUntyped()
  writer.u32(version)
  for (const [name, value] of parameters) {
    assert(name !== '', 'a startup parameter has no name')
    writer.cstring(name)
    writer.cstring(value)
  }
  writer.u8(0)
  writer.end()
}

/** SSLRequest (F). */
export function encodeSslRequest(writer: ByteWriter): void {
  writer.beginUntyped()
  writer.u32(requestCodes.SSLRequest)
  writer.end()
}

/** GSSENCRequest (F). */
export function encodeGssencRequest(writer: ByteWriter): void {
  writer.beginUntyped()
  writer.u32(requestCodes.GSSENCRequest)
  writer.end()
}

/** CancelRequest (F). */
export function encodeCancelRequest(
  writer: ByteWriter,
  processId: number,
  secret: Uint8Array,
): void {
  assert(
    secret.length >= secretBytesMin && secret.length <= secretBytesMax,
    'a cancel secret has 4 to 256 bytes',
  )
  writer.beginUntyped()
  writer.u32(requestCodes.CancelRequest)
  writer.i32(processId)
  writer.bytes(secret)
  writer.end()
}
