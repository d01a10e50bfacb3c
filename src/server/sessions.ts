/**
 * The sessions that run: the list of them, cancel requests for one, and how one ends for a reason of
 * its own: its token ended, it was revoked, somebody asked for it, or the server drains.
 */
import { timingSafeEqual } from 'node:crypto'
import type { Socket } from 'node:net'
import { Bag, ProxyError, type Clock, type Limits, type Place } from '../core/core.ts'
import type { Identity, RevocationList } from '../identity/identity.ts'
import type { UpstreamConnection } from '../upstream/upstream.ts'
import type { AcceptedClient } from './handshake.ts'
import type { Pump } from './pump.ts'

/** A session as the admin API shows it. */
export interface SessionInfo {
  readonly id: string
  readonly identity: Identity
  readonly database: string
  readonly role: string
  readonly clientAddress: string | null
  readonly startedMs: number
  readonly transaction: string
  readonly waiting: string | null
  readonly clientBytes: number
  readonly upstreamBytes: number
  readonly processId: number
}

/** Everything of one running session. */
export interface Running {
  readonly id: string
  readonly client: AcceptedClient
  readonly pump: Pump
  readonly role: string
  readonly connection: UpstreamConnection
  readonly secret: Buffer
  readonly cancelUpstream: () => Promise<void>
  ending: string | null
  /** When the input of a session that has to end was stopped; null while it may go on. */
  stoppedMs: number | null
}

export interface SessionsOptions {
  readonly limits: Limits
  readonly clock: Clock
  readonly revocations: RevocationList | null
}

const shutdownMessage = 'terminating connection: regate is shutting down'

/** All sessions of one server. */
export class Sessions {
  readonly #options: SessionsOptions
  readonly #running = new Bag<Running>()
  /** Sessions of each subject, with those that are being connected. */
  readonly #countOf = new Map<string, number>()

  constructor(options: SessionsOptions) {
    this.#options = options
  }

  get count(): number {
    return this.#running.size
  }

  add(running: Running): Place<Running> {
    return this.#running.add(running)
  }

  /** false where it was taken out before. */
  delete(place: Place<Running>): boolean {
    return this.#running.delete(place)
  }

  /** A session of the subject is to begin; false where it has as many as it may. */
  enter(subject: string): boolean {
    const count = this.#countOf.get(subject) ?? 0
    if (count >= this.#options.limits.sessionsPerSubjectMax) return false
    this.#countOf.set(subject, count + 1)
    return true
  }

  /** One that had entered is over, or did not begin. */
  leave(subject: string): void {
    const count = this.#countOf.get(subject) ?? 0
    if (count > 1) this.#countOf.set(subject, count - 1)
    else this.#countOf.delete(subject)
  }

  /** Is it the client's side of a session? */
  holds(socket: Socket): boolean {
    return [...this.#running].some(({ client }) => client.socket === socket)
  }

  infos(): readonly SessionInfo[] {
    return [...this.#running].map(({ id, client, pump, role, connection }) => ({
      id,
      identity: client.identity,
      database: client.startup.database,
      role,
      clientAddress: client.address,
      startedMs: pump.startedMs,
      transaction: pump.session.transaction,
      waiting: pump.session.waiting,
      clientBytes: pump.clientBytesCount,
      upstreamBytes: pump.upstreamBytesCount,
      processId: connection.processId,
    }))
  }

  /** Ends a session between two statements, or at once; false when there is none of that id. */
  end(id: string, message: string, now: boolean): boolean {
    const running = [...this.#running].find((one) => one.id === id)
    if (running === undefined) return false
    if (now) this.#endNow(running, message)
    else {
      running.ending ??= message
      this.check()
    }
    return true
  }

  /** Sessions end when they are idle and in no transaction. */
  drain(): void {
    for (const running of this.#running) running.ending ??= shutdownMessage
  }

  /** Ends every session now. */
  endAll(): void {
    for (const running of this.#running) this.#endNow(running, shutdownMessage)
  }

  /** Cancels what runs in the session with this key; false where it has none. */
  async cancel(processId: number, secret: Buffer): Promise<boolean> {
    for (const running of this.#running) {
      if (running.connection.processId !== processId) continue
      if (!sameSecret(running.secret, secret)) continue
      if (!running.pump.session.cancelRequested()) await running.cancelUpstream()
      return true
    }
    return false
  }

  #endNow(running: Running, message: string): void {
    running.pump.fail(new ProxyError('admin_shutdown', message))
  }

  /** Ends what is due: expired tokens, revoked identities, sessions asked to end, when idle. */
  check(): void {
    const { clock, revocations } = this.#options
    const nowMs = clock.nowMs()
    for (const running of this.#running) {
      running.pump.session.tick()
      const { identity } = running.client
      if (identity.expiresAtMs !== null && identity.expiresAtMs <= nowMs) {
        running.ending ??= 'the session ended with its token; connect again with a new one'
      }
      if (revocations?.endsSession(running.id, identity, running.pump.startedMs) === true) {
        running.ending ??= 'the session was revoked'
      }
      if (running.ending === null) continue
      if (running.ending !== shutdownMessage) this.#stopInput(running, nowMs)
      if (!running.pump.session.quiet) continue
      // A drain lets an open transaction end; a token or revocation that is over does not.
      const { transaction } = running.pump.session
      if (running.ending === shutdownMessage && transaction !== 'idle') continue
      this.#endNow(running, running.ending)
    }
  }

  /** No further statement; what runs has `endingMsMax` to end by itself. */
  #stopInput(running: Running, nowMs: number): void {
    if (running.stoppedMs === null) {
      running.stoppedMs = nowMs
      running.pump.endInput()
    }
    const { endingMsMax } = this.#options.limits
    if (running.pump.session.quiet || nowMs - running.stoppedMs < endingMsMax) return
    void running.cancelUpstream().catch(() => undefined)
    this.#endNow(running, running.ending ?? shutdownMessage)
  }
}

function sameSecret(ours: Buffer, theirs: Buffer): boolean {
  return ours.length === theirs.length && timingSafeEqual(ours, theirs)
}
