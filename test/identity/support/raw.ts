/**
 * A client that speaks the protocol byte by byte: what no driver would send can be sent, and what
 * every driver hides can be seen.
 */
import net from 'node:net'
import tls from 'node:tls'
import {
  decodeAuthentication,
  decodeErrorOrNotice,
  encodePassword,
  encodeSaslInitialResponse,
  encodeSaslResponse,
  encodeSslRequest,
  encodeStartup,
  FrameReader,
  protocolVersions,
  written,
  type Authentication,
} from '../../../src/wire/wire.ts'
import { ScramClient, ScramKeyCache, type ScramMechanism } from '../../../src/identity/scram.ts'

/** What a server said: an Authentication message, an error, the end, or something else by its letter. */
export type Said =
  | { readonly kind: 'authentication'; readonly message: Authentication }
  | { readonly kind: 'error'; readonly fields: ReadonlyMap<string, string> }
  | { readonly kind: 'other'; readonly type: string; readonly body: Buffer }
  | { readonly kind: 'closed' }

/** One raw connection. */
export class RawClient {
  socket: net.Socket
  #reader = new FrameReader({ frameBytesMax: 1_000_000 })
  #chunks: Buffer[] = []
  #closed = false
  #wake: (() => void) | null = null

  constructor(socket: net.Socket) {
    this.socket = socket
    this.#listen(socket)
  }

  static async connect(port: number, host = '127.0.0.1'): Promise<RawClient> {
    const socket = net.connect({ port, host })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return new RawClient(socket)
  }

  #listen(socket: net.Socket): void {
    socket.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk)
      this.#wake?.()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#closed = true
      this.#wake?.()
    })
  }

  send(bytes: Buffer | string): void {
    this.socket.write(bytes)
  }

  /** The next raw bytes; null when the connection is closed. */
  async bytes(): Promise<Buffer | null> {
    while (this.#chunks.length === 0) {
      if (this.#closed) return null
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    return this.#chunks.shift() ?? null
  }

  /** The next message. */
  async next(): Promise<Said> {
    while (this.#reader.next() !== 'frame') {
      const chunk = await this.bytes()
      if (chunk === null) return { kind: 'closed' }
      this.#reader.push(chunk)
    }
    const type = String.fromCharCode(this.#reader.type)
    if (type === 'R') {
      return { kind: 'authentication', message: copied(decodeAuthentication(this.#reader)) }
    }
    if (type === 'E') return { kind: 'error', fields: decodeErrorOrNotice(this.#reader) }
    const body = Buffer.from(this.#reader.buffer.subarray(this.#reader.start + 5, this.#reader.end))
    return { kind: 'other', type, body }
  }

  startup(user: string, parameters: Readonly<Record<string, string>> = {}, version?: number): void {
    const all: [string, string][] = [['user', user], ...Object.entries(parameters)]
    this.send(written((writer) => encodeStartup(writer, version ?? protocolVersions.v3_0, all)))
  }

  password(text: string): void {
    this.send(written((writer) => encodePassword(writer, text)))
  }

  sasl(mechanism: string, response: Buffer | string | null): void {
    this.send(written((writer) => encodeSaslInitialResponse(writer, mechanism, response)))
  }

  saslResponse(response: Buffer | string): void {
    this.send(written((writer) => encodeSaslResponse(writer, response)))
  }

  /** SSLRequest, then the handshake. */
  async upgrade(options: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
    this.send(written(encodeSslRequest))
    const answer = await this.bytes()
    if (answer?.toString('latin1') !== 'S')
      throw new Error(`SSLRequest: ${answer?.toString() ?? 'closed'}`)
    return this.secure(options)
  }

  /** The handshake alone. */
  async secure(options: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
    this.socket.removeAllListeners('data')
    const secure = tls.connect({ socket: this.socket, rejectUnauthorized: false, ...options })
    secure.on('error', () => undefined)
    await new Promise<void>((resolve, reject) => {
      secure.once('secureConnect', resolve)
      secure.once('error', reject)
      secure.once('close', () => reject(new Error('closed in the handshake')))
    })
    this.socket = secure
    this.#listen(secure)
    return secure
  }

  /** SCRAM to its end: what the server says then. */
  async scram(
    password: string,
    mechanism: ScramMechanism = 'SCRAM-SHA-256',
    channelBinding: Buffer | null = null,
    keys = new ScramKeyCache(),
  ): Promise<Said> {
    const exchange = new ScramClient({
      ...{ password, mechanism, channelBinding, couldBind: false, keys },
    })
    this.sasl(mechanism, exchange.first())
    const challenge = await this.next()
    if (challenge.kind !== 'authentication' || challenge.message.kind !== 'sasl_continue')
      return challenge
    this.saslResponse(await exchange.next(Buffer.from(challenge.message.data)))
    const last = await this.next()
    if (last.kind === 'authentication' && last.message.kind === 'sasl_final') {
      if (!exchange.verify(Buffer.from(last.message.data)))
        throw new Error('the server is an impostor')
      return this.next()
    }
    return last
  }

  close(): void {
    this.socket.destroy()
  }
}

function copied(message: Authentication): Authentication {
  if (message.kind === 'sasl_continue' || message.kind === 'sasl_final') {
    return { ...message, data: Buffer.from(message.data) }
  }
  return message
}

/** SQLSTATE and message of an error, or what came instead. */
export function errorOf(said: Said): string {
  if (said.kind !== 'error') return said.kind
  return `${said.fields.get('C') ?? ''} ${said.fields.get('M') ?? ''}`
}
