/**
 * A client from accept to authenticated: SSLRequest, GSSENCRequest, direct TLS, CancelRequest,
 * StartupMessage, authentication. It ends before AuthenticationOk, which the server sends once the
 * connect policy has allowed the session and the upstream is there.
 *
 * Invariants: nothing is trusted before TLS is up, and bytes that came in plaintext behind an
 * encryption request end the connection; every step has the one deadline and the small limits for
 * the unauthenticated; failures of a credential are answered after a time that does not depend on
 * what was wrong; whatever ends here, the socket is closed here.
 */
import type { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { ProxyError, type Clock, type Limits } from '../core/core.ts'
import type {
  AuthenticationStep,
  Authenticator,
  Identity,
  PeerNames,
} from '../identity/identity.ts'
import { ignoreErrors, SocketBytes } from '../upstream/upstream.ts'
import {
  encodeAuthentication,
  encodeErrorResponse,
  encodeNegotiateProtocolVersion,
  FrameReader,
  passwordFrameLimits,
  StartupReader,
  written,
  type StartupMessage,
  type StartupRequest,
} from '../wire/wire.ts'
import type { HandshakePace } from './pace.ts'
import { checkStartup, type Startup } from './startup.ts'
import type { ClientTls } from './tls.ts'

export interface HandshakeOptions {
  /** null: SSLRequest is answered with N. */
  readonly tls: ClientTls | null
  /** Refuse clients that do not encrypt. */
  readonly tlsRequired: boolean
  readonly authenticator: Authenticator
  readonly limits: Limits
  readonly clock: Clock
  /** Steps of handshakes wait for running sessions. */
  readonly pace: HandshakePace
}

/** Authenticated; the next message to the client is AuthenticationOk, or an ErrorResponse. */
export interface AcceptedClient {
  readonly kind: 'accepted'
  /**
   * The plain or the TLS socket; reads when somebody listens to `data`; swallows `error`. Corked where a
   * last message of the authentication waits in it for the next one: uncork() or end() sends both.
   */
  readonly socket: Socket
  readonly startup: Startup
  readonly identity: Identity
  readonly encrypted: boolean
  readonly address: string | null
  readonly port: number | null
  /** Bytes that came behind the last authentication message: feed them to the session first. */
  readonly pending: Buffer
}

/** A CancelRequest; the socket is closed by `close` once the cancel is done (or was not ours). */
export interface CancelRequest {
  readonly kind: 'cancel'
  readonly processId: number
  readonly secret: Buffer
  readonly address: string | null
  close(): void
}

/** Over: the client left or was refused; it has been told and its socket is closed. */
export interface ClosedClient {
  readonly kind: 'closed'
  readonly address: string | null
  /** null: it left by itself, as health checks do. */
  readonly error: ProxyError | null
  /** For the log; never for the client. */
  readonly reason: string
  readonly user: string | null
  readonly database: string | null
}

/** Failures are answered at whole multiples of this from when the credential came. */
const failureMs = 200
/** How long a refused client has to read its ErrorResponse. */
const lingerMs = 1_000

/** Takes a fresh socket through startup and authentication. Never throws for what a client does. */
export async function acceptClient(
  socket: Socket,
  options: HandshakeOptions,
): Promise<AcceptedClient | CancelRequest | ClosedClient> {
  ignoreErrors(socket)
  socket.setNoDelay(true)
  const handshake = new Handshake(socket, options)
  const timer = setTimeout(() => handshake.timeOut(), options.limits.authenticationMsMax)
  try {
    await options.pace.step()
    return await handshake.run()
  } catch (error) {
    return handshake.fail(error)
  } finally {
    clearTimeout(timer)
  }
}

/** An expected end without anything to say: the client closed the connection. */
class ClientLeft extends Error {
  override readonly name = 'ClientLeft'
}

class Handshake {
  readonly #options: HandshakeOptions
  readonly #address: string | null
  readonly #port: number | null
  #socket: Socket
  #bytes: SocketBytes
  #encrypted = false
  #certificate: PeerNames | null = null
  #endPoint: Buffer | null = null
  #startup: Startup | null = null
  #timedOut = false
  /** The peer waits for TLS records: an ErrorResponse in plaintext would be noise to it. */
  #silent = false

  constructor(socket: Socket, options: HandshakeOptions) {
    this.#socket = socket
    this.#options = options
    this.#address = socket.remoteAddress ?? null
    this.#port = socket.remotePort ?? null
    this.#bytes = new SocketBytes(socket)
  }

  timeOut(): void {
    this.#timedOut = true
    this.#socket.destroy()
  }

  async run(): Promise<AcceptedClient | CancelRequest> {
    const { request, rest } = await this.#opening()
    if (request.kind === 'cancel_request') {
      this.#bytes.release()
      const socket = this.#socket
      return {
        kind: 'cancel',
        processId: request.processId,
        secret: request.secret,
        address: this.#address,
        close: () => closeGently(socket),
      }
    }
    const startup = checkStartup(request)
    this.#startup = startup
    if (this.#options.tlsRequired && !this.#encrypted) throw tlsRequired(startup.user)
    if (startup.negotiation !== null) {
      const { version, unrecognizedOptions } = startup.negotiation
      this.#socket.write(
        written((writer) => encodeNegotiateProtocolVersion(writer, version, unrecognizedOptions)),
      )
    }
    return this.#authenticate(startup, rest)
  }

  /** Up to the StartupMessage or CancelRequest; encrypts on the way. */
  async #opening(): Promise<{
    readonly request: StartupMessage | Extract<StartupRequest, { kind: 'cancel_request' }>
    readonly rest: Buffer
  }> {
    let reader = this.#startupReader()
    let askedTls = false
    let askedGss = false
    for (;;) {
      const request = await this.#nextRequest(reader)
      switch (request.kind) {
        case 'startup':
        case 'cancel_request':
          return { request, rest: reader.takeRest() }
        case 'gssenc_request':
          // PostgreSQL answers each kind once; a client that repeats is in a loop.
          if (askedGss || this.#encrypted) throw outOfPlace('GSSENCRequest')
          askedGss = true
          this.#refuseEarlyBytes()
          this.#socket.write('N')
          break
        case 'ssl_request':
          if (askedTls || this.#encrypted) throw outOfPlace('SSLRequest')
          askedTls = true
          this.#refuseEarlyBytes()
          if (this.#options.tls === null) {
            this.#socket.write('N')
            break
          }
          this.#bytes.release()
          this.#socket.write('S')
          this.#silent = true
          await this.#encrypt(this.#options.tls, false)
          reader = this.#startupReader()
          break
        case 'direct_tls':
          this.#silent = true
          if (this.#options.tls === null || askedTls || askedGss) {
            throw new ProxyError('protocol_violation', 'direct TLS is not possible here')
          }
          this.#bytes.release()
          this.#socket.unshift(reader.takeRest())
          await this.#encrypt(this.#options.tls, true)
          reader = this.#startupReader()
          break
      }
    }
  }

  #startupReader(): StartupReader {
    return new StartupReader({ startupBytesMax: this.#options.limits.startupBytesMax })
  }

  async #nextRequest(reader: StartupReader): Promise<StartupRequest> {
    for (;;) {
      const request = reader.next()
      if (request !== null) {
        // A ClientHello inside TLS is no request of this protocol.
        if (request.kind === 'direct_tls' && this.#encrypted) throw outOfPlace('ClientHello')
        return request
      }
      reader.push(await this.#read())
    }
  }

  /** Bytes that are there before we answered an encryption request came in plaintext. */
  #refuseEarlyBytes(): void {
    if (this.#bytes.bufferedBytes === 0) return
    throw new ProxyError('protocol_violation', 'received unencrypted data after SSL request', {
      detail:
        'This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.',
    })
  }

  async #encrypt(tls: ClientTls, direct: boolean): Promise<void> {
    const secured = await tls.accept(this.#socket, direct)
    this.#socket = secured.socket
    this.#bytes = new SocketBytes(secured.socket)
    this.#encrypted = true
    this.#silent = false
    this.#certificate = secured.certificate
    this.#endPoint = secured.endPoint
    if (this.#timedOut) secured.socket.destroy()
  }

  async #authenticate(startup: Startup, rest: Buffer): Promise<AcceptedClient> {
    const { authenticator, limits } = this.#options
    const exchange = authenticator.begin({
      user: startup.user,
      database: startup.database,
      address: this.#address,
      tls: this.#encrypted,
      certificate: this.#certificate,
      endPoint: this.#endPoint,
    })
    const { authenticationBytesMax } = limits
    const reader = new FrameReader({
      frameBytesMax: authenticationBytesMax,
      limits: passwordFrameLimits(authenticationBytesMax),
    })
    let chunk = rest
    reader.push(rest)
    let beganMs = this.#options.clock.nowMs()
    let step = exchange.start()
    while (step.kind === 'ask') {
      const { message } = step
      this.#socket.write(written((writer) => encodeAuthentication(writer, message)))
      while (reader.next() !== 'frame') {
        chunk = await this.#read()
        reader.push(chunk)
      }
      beganMs = this.#options.clock.nowMs()
      step = await exchange.answer(reader)
    }
    if (step.kind === 'refused') return this.#refuse(step, beganMs)
    const { message } = step
    if (message !== null) {
      // Waits for what comes behind it, as in the server (sendAuthRequest in auth.c): one packet less.
      this.#socket.cork()
      this.#socket.write(written((writer) => encodeAuthentication(writer, message)))
    }
    this.#bytes.release()
    return {
      kind: 'accepted',
      socket: this.#socket,
      startup,
      identity: step.identity,
      encrypted: this.#encrypted,
      address: this.#address,
      port: this.#port,
      pending: Buffer.from(chunk.subarray(chunk.length - reader.bufferedBytes)),
    }
  }

  /** Waits for the next whole multiple of `failureMs`, so that all failures take the same time. */
  async #refuse(
    step: Extract<AuthenticationStep, { kind: 'refused' }>,
    beganMs: number,
  ): Promise<never> {
    const elapsedMs = Math.max(0, this.#options.clock.nowMs() - beganMs)
    await delay(failureMs - (elapsedMs % failureMs))
    // Those who failed together are told one after the other.
    await this.#options.pace.step()
    throw new Refused(step.error, step.reason)
  }

  async #read(): Promise<Buffer> {
    let chunk: Buffer | null
    try {
      chunk = await this.#bytes.read()
    } catch (error) {
      throw new ClientLeft('the connection broke', { cause: error })
    }
    await this.#options.pace.step()
    if (this.#timedOut) throw new ClientLeft('the handshake took longer than authenticationMsMax')
    if (chunk === null) throw new ClientLeft('the client closed the connection')
    return chunk
  }

  /** Tells the client where there is something to tell, and closes. */
  fail(error: unknown): ClosedClient {
    this.#bytes.release()
    const facts = {
      kind: 'closed' as const,
      address: this.#address,
      user: this.#startup?.user ?? null,
      database: this.#startup?.database ?? null,
    }
    if (error instanceof ClientLeft || this.#timedOut) {
      this.#socket.destroy()
      const reason = this.#timedOut ? 'the handshake took too long' : (error as Error).message
      return { error: null, reason, ...facts }
    }
    const fault = faultOf(error)
    const reason = error instanceof Refused ? error.reason : fault.message
    if (this.#silent) this.#socket.destroy()
    else this.#tell(fault)
    return { error: fault, reason, ...facts }
  }

  #tell(fault: ProxyError): void {
    const { sqlstate, message, detail, hint } = fault
    this.#socket.write(
      written((writer) =>
        encodeErrorResponse(writer, { severity: 'FATAL', sqlstate, message, detail, hint }),
      ),
    )
    closeGently(this.#socket)
  }
}

/** A refused credential: what the client is told, and what the log is. */
class Refused extends Error {
  override readonly name = 'Refused'
  readonly error: ProxyError
  readonly reason: string

  constructor(error: ProxyError, reason: string) {
    super(error.message)
    this.error = error
    this.reason = reason
  }
}

function faultOf(error: unknown): ProxyError {
  if (error instanceof Refused) return error.error
  if (error instanceof ProxyError) return error
  return new ProxyError('internal', 'the connection could not be set up', { cause: error })
}

function outOfPlace(what: string): ProxyError {
  return new ProxyError('protocol_violation', `${what} came where it has no place`)
}

function tlsRequired(user: string): ProxyError {
  return new ProxyError(
    'invalid_authorization',
    `user "${user}" may only connect with TLS encryption`,
    { hint: 'Connect with sslmode=require or better (verify-full checks who answers).' },
  )
}

/**
 * Sends what is written, then closes. What the client still sends is read and dropped for a moment:
 * closing over unread bytes would reset the connection and lose our last message.
 */
export function closeGently(socket: Socket): void {
  socket.end()
  socket.resume()
  destroyLate(socket, lingerMs)
}

/**
 * A peer that neither reads nor closes keeps no socket. The timer goes with the socket: one that
 * stayed would keep everything of the session for its time, and in a storm of short sessions every
 * collection of garbage would copy what all of them left.
 */
export function destroyLate(socket: Socket, ms: number): void {
  if (socket.destroyed) return
  const timer = setTimeout(() => socket.destroy(), ms)
  timer.unref()
  socket.once('close', () => clearTimeout(timer))
}
