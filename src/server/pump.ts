/**
 * Moves bytes between the two sockets of a session and its state machine, with backpressure both
 * ways: a side is not read while the other does not take what was written to it. The one catch of
 * a connection is here: every fault ends in an ErrorResponse and both sockets closed.
 */
import type { Socket } from 'node:net'
import { ProxyError, type Limits } from '../core/core.ts'
import { Session, type SessionOptions } from '../session/session.ts'
import { encodeErrorResponse, encodeTerminate, written } from '../wire/wire.ts'
import { destroyLate } from './handshake.ts'
import type { Receiver } from './receive.ts'

export interface PumpOptions {
  readonly client: Socket
  readonly upstream: Socket
  readonly session: SessionOptions
  readonly limits: Limits
  readonly receiver: Receiver
  /** Bytes of the client that came behind its authentication. */
  readonly pending: Buffer
  /** Bytes of the server behind its first ReadyForQuery. */
  readonly upstreamPending: Buffer
  /** Called once, when both sides are closed or about to be. */
  readonly onEnd: (why: string, error: unknown) => void
}

const terminateFrame = written((to) => encodeTerminate(to))

/** One running session: sockets, state machine, backpressure. */
export class Pump {
  readonly session: Session
  readonly #client: Socket
  readonly #upstream: Socket
  readonly #options: PumpOptions
  #clientHeld = false
  #inputEnded = false
  #upstreamStalled = false
  #ended = false
  readonly startedMs: number
  clientBytesCount = 0
  upstreamBytesCount = 0

  constructor(options: PumpOptions) {
    this.#options = options
    this.#client = options.client
    this.#upstream = options.upstream
    this.startedMs = options.session.clock.nowMs()
    this.session = new Session(options.session, {
      toUpstream: (segments) => {
        if (!write(this.#upstream, segments)) this.#stallUpstream()
      },
      toClient: (segments) => {
        if (!write(this.#client, segments)) this.#stallClient()
      },
      terminated: () => {
        this.#end('terminated', null)
      },
      failed: (error) => {
        this.fail(error)
      },
      holdClient: (held) => {
        this.#clientHeld = held
        this.#regulateClient()
      },
    })
  }

  /** Starts the flow. */
  start(): void {
    const client = this.#client
    const upstream = this.#upstream
    client.on('drain', () => {
      if (!this.#ended) upstream.resume()
    })
    upstream.on('drain', () => {
      this.#upstreamStalled = false
      this.#regulateClient()
    })
    client.on('end', () => {
      this.#clientGone()
    })
    client.on('close', () => {
      this.#clientGone()
    })
    client.on('error', () => undefined)
    upstream.on('end', () => {
      this.#upstreamGone()
    })
    upstream.on('close', () => {
      this.#upstreamGone()
    })
    upstream.on('error', () => undefined)
    if (this.#options.upstreamPending.length > 0) {
      this.session.upstreamBytes(this.#options.upstreamPending)
    }
    if (this.#options.pending.length > 0) this.session.clientBytes(this.#options.pending)
    this.#options.receiver.receive(upstream, (chunk) => {
      if (this.#ended) return
      this.upstreamBytesCount += chunk.length
      this.session.upstreamBytes(chunk)
    })
    this.#options.receiver.receive(client, (chunk) => {
      if (this.#ended) return
      this.clientBytesCount += chunk.length
      this.session.clientBytes(chunk)
    })
    client.resume()
    upstream.resume()
    // What closed before anybody listened says so no more.
    if (client.destroyed || client.readableEnded) this.#clientGone()
    if (upstream.destroyed || upstream.readableEnded) this.#upstreamGone()
  }

  /** Takes nothing more of the client: what is in flight may end, then the session does. */
  endInput(): void {
    this.#inputEnded = true
    this.session.endInput()
    this.#regulateClient()
  }

  /** Ends the session with an error that the client is told, FATAL as the server's own would be. */
  fail(error: unknown): void {
    if (this.#ended) return
    const fault =
      error instanceof ProxyError
        ? error
        : new ProxyError('internal', 'regate failed; the session was ended', { cause: error })
    this.#client.write(
      written((to) =>
        encodeErrorResponse(to, {
          severity: 'FATAL',
          sqlstate: fault.sqlstate,
          message: fault.message,
          detail: fault.detail ?? null,
          hint: fault.hint ?? null,
        }),
      ),
    )
    this.#end('failed', error)
  }

  #stallClient(): void {
    this.#upstream.pause()
  }

  #stallUpstream(): void {
    this.#upstreamStalled = true
    this.#regulateClient()
  }

  #regulateClient(): void {
    if (this.#ended) return
    if (this.#clientHeld || this.#upstreamStalled || this.#inputEnded) this.#client.pause()
    else this.#client.resume()
  }

  #clientGone(): void {
    if (this.#ended || this.session.terminates) return
    const quiet = this.session.quiet
    this.session.clientClosed()
    // Nobody waits for what still runs: it is not left behind.
    if (!quiet) void this.#options.session.cancelUpstream().catch(() => undefined)
    this.#end('client closed the connection', null)
  }

  #upstreamGone(): void {
    if (this.#ended) return
    if (this.session.announcedEnd) {
      this.#end('the server ended the session', null)
      return
    }
    this.fail(
      new ProxyError('connection_failure', 'the database server closed the connection', {
        hint: 'Connect again; what ran in an open transaction was rolled back.',
      }),
    )
  }

  #end(why: string, error: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.session.clientClosed()
    const client = this.#client
    const upstream = this.#upstream
    if (!upstream.destroyed) upstream.end(terminateFrame)
    if (!client.destroyed) client.end()
    destroyLate(client, lingerMs)
    destroyLate(upstream, lingerMs)
    client.resume()
    upstream.resume()
    this.#options.onEnd(why, error)
  }
}

const lingerMs = 2_000

function write(socket: Socket, segments: readonly Buffer[]): boolean {
  const [first] = segments
  if (first === undefined || socket.destroyed || socket.writableEnded) return true
  if (segments.length === 1) return socket.write(first)
  socket.cork()
  let flowing = true
  for (const segment of segments) flowing = socket.write(segment)
  socket.uncork()
  return flowing
}
