/**
 * The face of `server`: the data plane. Accepts clients, authenticates them, asks the connect
 * policy, connects upstream, and runs the session. Knows every session it runs; ends them when
 * their token ends, when they are revoked, and when it drains.
 */
import { createServer, type AddressInfo, type Server as NetServer, type Socket } from 'node:net'
import type { AuditLog } from '../audit/audit.ts'
import { Bag, fewRandomBytes, Interrupt, ProxyError } from '../core/core.ts'
import type { Clock, Limits, Place, StatementTracer } from '../core/core.ts'
import { Gate, sessionMembers } from '../gate/gate.ts'
import { sourceOf } from '../identity/identity.ts'
import type { Authenticator, RevocationList } from '../identity/identity.ts'
import { RowBudgets, type ValueDetectors } from '../masking/masking.ts'
import type { Judge } from '../policy/policy.ts'
import { TurnEnd, type HoldPort } from '../session/session.ts'
import type { SqlParser } from '../sql/sql.ts'
import {
  connectUpstream,
  sendCancel,
  type UpstreamConnection,
  type UpstreamTarget,
} from '../upstream/upstream.ts'
import {
  encodeAuthentication,
  encodeBackendKeyData,
  encodeErrorResponse,
  encodeParameterStatus,
  encodeReadyForQuery,
  written,
} from '../wire/wire.ts'
import {
  destinationOf,
  identityDocument,
  provenSubject,
  type DatabaseEntry,
  type Destination,
  type OpenCatalog,
} from './destination.ts'
import { acceptClient, closeGently, type AcceptedClient, type CancelRequest } from './handshake.ts'
import { HandshakePace } from './pace.ts'
import { Pump } from './pump.ts'
import { Receiver } from './receive.ts'
import { Sessions, type Running, type SessionInfo } from './sessions.ts'
import { upstreamParameters } from './startup.ts'
import type { ClientTls } from './tls.ts'
import { WaitingRoom } from './waiting.ts'

export { ClientTls, type ClientTlsFiles } from './tls.ts'
export type { DatabaseEntry, OpenCatalog } from './destination.ts'
export type { SessionInfo } from './sessions.ts'

export interface ServerLog {
  warn(facts: object, message: string): void
  error(facts: object, message: string): void
}

export interface ServerOptions {
  readonly host: string
  readonly port: number
  readonly tls: ClientTls | null
  readonly tlsRequired: boolean
  readonly authenticator: Authenticator
  readonly revocations: RevocationList | null
  /** The entry for a database name, null for one that is not served. */
  database(name: string): DatabaseEntry | null
  readonly judge: Judge
  readonly parser: SqlParser
  readonly audit: AuditLog
  readonly holds: HoldPort | null
  readonly limits: Limits
  readonly clock: Clock
  readonly log: ServerLog
  /** Secret of the masks `hash` and `noise`. */
  readonly maskKey: Uint8Array
  /** Look at text that no mask covers; absent or null is off. */
  readonly detectors?: ValueDetectors | null
  /** Told of statements that begin and end; absent or null: nobody is. */
  readonly tracer?: StatementTracer | null
  /** Results are recorded as clients saw them: so many rows and bytes of each statement. */
  readonly recorded?: { readonly rowCountMax: number; readonly bytesMax: number } | null
  /** Literals of statements in the audit. */
  readonly literals: 'keep' | 'redact'
  /** Told of every session, so that another process can cancel what it leaves when this one dies. */
  readonly onSession?: (event: SessionEvent) => void
  /** Sends a cancel request on that is for no session of this server. */
  readonly cancelElsewhere?: (processId: number, secret: Buffer) => Promise<void>
}

/** A session began, with what it takes to cancel it upstream; or it is over. */
export type SessionEvent =
  | {
      readonly kind: 'started'
      readonly id: string
      readonly database: string
      readonly processId: number
      readonly secret: Buffer
    }
  | { readonly kind: 'ended'; readonly id: string }

const checkMs = 1_000

/** The listening data plane of one worker. */
export class Server {
  readonly gate: Gate
  readonly #options: ServerOptions
  readonly #turnEnd: TurnEnd
  readonly #receiver = new Receiver()
  readonly #net: NetServer
  readonly #pace: HandshakePace
  readonly #sessions: Sessions
  readonly #connections = new Bag<Socket>()
  readonly #waiting: WaitingRoom
  #timer: NodeJS.Timeout | null = null
  readonly rowBudgets = new RowBudgets()
  #draining = false
  #decisions = 0
  readonly #idPrefix = fewRandomBytes(5).toString('hex')
  acceptedCount = 0
  refusedCount = 0

  constructor(options: ServerOptions) {
    this.#options = options
    const { parser, judge, limits, clock, literals } = options
    this.gate = new Gate({
      watchesResults: (options.detectors ?? null) !== null,
      ...{ parser, judge, limits, clock, literals },
      newDecisionId: () => this.#newDecisionId(),
      onFault: (error, text) => {
        options.log.error(
          { err: error, statement: text.slice(0, 1_000) },
          'a statement could not be judged',
        )
      },
    })
    this.#turnEnd = new TurnEnd({
      audit: options.audit,
      clock,
      durations: this.gate.statistics.audit,
      schedule: setImmediate,
    })
    this.#sessions = new Sessions(options)
    this.#waiting = new WaitingRoom(options.limits.unauthenticatedMax)
    this.#pace = new HandshakePace(options.limits.handshakeStepsPerTurnMax, setImmediate)
    this.#net = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => {
      void this.#accept(socket)
    })
    // A revocation counts from the next statement on, not from the next tick of the timer.
    options.revocations?.onChange(() => {
      this.#sessions.check()
    })
  }

  /** Unique over restarts and workers: a random prefix of this process and a count. */
  #newDecisionId(): string {
    return `${this.#idPrefix}-${(++this.#decisions).toString(36)}`
  }

  /** Starts to listen; the port that was given out where 0 was asked for. */
  async listen(): Promise<{ readonly host: string; readonly port: number }> {
    const { host, port } = this.#options
    await new Promise<void>((resolve, reject) => {
      this.#net.once('error', reject)
      this.#net.listen({ host, port }, () => {
        this.#net.off('error', reject)
        resolve()
      })
    })
    this.#timer = setInterval(() => {
      this.#sessions.check()
    }, checkMs)
    this.#timer.unref()
    const address = this.#net.address() as AddressInfo
    return { host: address.address, port: address.port }
  }

  get sessionCount(): number {
    return this.#sessions.count
  }

  get connectionCount(): number {
    return this.#connections.size
  }

  sessions(): readonly SessionInfo[] {
    return this.#sessions.infos()
  }

  /** Cancels what runs in the session with this key; false where it has none. */
  cancel(processId: number, secret: Buffer): Promise<boolean> {
    return this.#sessions.cancel(processId, secret)
  }

  /** No new clients; sessions end when they are idle, the rest after `drainMsMax`. */
  async drain(): Promise<void> {
    this.#draining = true
    const closed = new Promise<void>((resolve) => {
      this.#net.close(() => {
        resolve()
      })
    })
    this.#sessions.drain()
    const deadline = setTimeout(() => {
      this.endAll()
    }, this.#options.limits.drainMsMax)
    const check = setInterval(() => {
      this.#sessions.check()
    }, 50)
    this.#sessions.check()
    await closed
    clearTimeout(deadline)
    clearInterval(check)
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  /** No new clients; sessions end when their clients end them, those that last are drained. */
  async retire(msMax: number): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      this.#net.close(() => {
        resolve()
      })
    })
    let timer: NodeJS.Timeout | null = null
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, msMax)
    })
    await Promise.race([closed, late])
    if (timer !== null) clearTimeout(timer)
    await this.drain()
  }

  /** Ends every session and connection now. */
  endAll(): void {
    this.#draining = true
    this.#net.close()
    this.#sessions.endAll()
    for (const socket of this.#connections) {
      if (!this.#sessions.holds(socket)) socket.destroy()
    }
    if (this.#timer !== null) clearInterval(this.#timer)
  }

  async #accept(socket: Socket): Promise<void> {
    this.acceptedCount++
    const { limits, authenticator, tls, tlsRequired, clock, log } = this.#options
    const place = this.#connections.add(socket)
    // Not `net.Server.maxConnections`: the primary of a cluster would offer the client round and round.
    const closed = this.#draining || this.#connections.size > limits.connectionsMax
    const entered = closed
      ? null
      : this.#waiting.enter(sourceOf(socket.remoteAddress ?? null), socket)
    socket.once('close', () => {
      this.#connections.delete(place)
      if (entered !== null) this.#waiting.leave(entered.waiter)
    })
    if (entered === null) {
      this.refusedCount++
      socket.on('error', () => undefined)
      const fault = new ProxyError('too_many_connections', 'sorry, too many clients already')
      socket.write(fatal(fault))
      closeGently(socket)
      return
    }
    // Its handshake may be in the middle of anything: nothing can be said to it.
    entered.instead?.destroy()
    try {
      const client = await acceptClient(socket, {
        ...{ tls, tlsRequired, authenticator, limits, clock, pace: this.#pace },
      })
      if (client.kind === 'closed') {
        if (client.error !== null) {
          this.refusedCount++
          log.warn(
            {
              address: client.address,
              user: client.user,
              database: client.database,
              reason: client.reason,
            },
            'client refused',
          )
        }
      } else if (client.kind === 'cancel') await this.#passCancel(client)
      else {
        this.#waiting.leave(entered.waiter)
        await this.#begin(client)
      }
    } catch (error) {
      log.error({ err: error }, 'a connection failed before its session began')
      socket.destroy()
    }
  }

  /** A CancelRequest: only the right secret of a session does anything, and nothing is answered. */
  async #passCancel(request: CancelRequest): Promise<void> {
    const { processId, secret } = request
    try {
      if (!(await this.cancel(processId, secret)))
        await this.#options.cancelElsewhere?.(processId, secret)
    } catch (error) {
      this.#options.log.warn({ err: error }, 'a cancel request could not be passed on')
    } finally {
      request.close()
    }
  }

  async #begin(client: AcceptedClient): Promise<void> {
    const { log } = this.#options
    const { subject } = client.identity
    const entered = this.#sessions.enter(subject)
    let connection: UpstreamConnection | null = null
    let opened: Promise<OpenCatalog> | null = null
    try {
      if (!entered) throw tooManySessions(subject)
      const destination = destinationOf(client, this.#options)
      const { entry, decision, role } = destination
      const target = entry.target(client.startup.database)
      const parameters = upstreamParameters(
        client.startup,
        decision,
        provenSubject(client.identity),
      )
      const { limits } = this.#options
      const gone = new Interrupt()
      const onGone = (): void => {
        gone.raise(new DOMException('the client closed the connection', 'AbortError'))
      }
      if (client.socket.destroyed) onGone()
      client.socket.once('close', onGone)
      const catalog = entry.catalog(client.startup.database)
      catalog.catch(() => undefined)
      opened = catalog
      connection = await connectUpstream({
        target,
        role,
        parameters,
        limits,
        interrupt: gone,
        protocolMinor: client.startup.protocolMinor,
        allowUnsupported: entry.allowUnsupported,
      })
      const ready = await catalog
      client.socket.off('close', onGone)
      if (gone.raised) throw gone.reason
      this.#run(client, destination, connection, ready, target)
    } catch (error) {
      if (entered) this.#sessions.leave(subject)
      connection?.socket.destroy()
      opened?.then(
        (catalog) => {
          catalog.release()
        },
        () => undefined,
      )
      const fault =
        error instanceof ProxyError
          ? error
          : new ProxyError('internal', 'the session could not be started', { cause: error })
      this.refusedCount++
      log.warn(
        { err: error, user: client.startup.user, database: client.startup.database },
        'session refused',
      )
      if (!client.socket.destroyed) client.socket.write(fatal(fault))
      closeGently(client.socket)
    }
  }

  #run(
    client: AcceptedClient,
    { decision, role, roleName }: Destination,
    connection: UpstreamConnection,
    catalog: OpenCatalog,
    target: UpstreamTarget,
  ): void {
    const { audit, limits, clock, maskKey, holds, log } = this.#options
    const { detectors = null, recorded = null, tracer = null } = this.#options
    const id = `${this.#idPrefix}${fewRandomBytes(6).toString('hex')}`
    const secret = fewRandomBytes(client.startup.protocolMinor >= 2 ? 32 : 4)
    const clientAddress = client.address ?? ''
    const members = sessionMembers({
      id,
      clientAddress,
      database: client.startup.database,
      identity: client.identity,
    })
    const cancelUpstream = (): Promise<void> =>
      sendCancel(target, connection.processId, connection.secret)
    audit.append(
      'session_started',
      `${members},"role":${JSON.stringify(roleName)},"process_id":${connection.processId}`,
    )
    const durable = audit.commit()
    let place: Place<Running> | null = null
    const pump = new Pump({
      client: client.socket,
      upstream: connection.socket,
      limits,
      receiver: this.#receiver,
      pending: client.pending,
      upstreamPending: connection.pending,
      session: {
        id,
        ...{ gate: this.gate, turnEnd: this.#turnEnd, rowBudgets: this.rowBudgets },
        ...{ audit, limits, clock, catalog, holds, maskKey, detectors, recorded, tracer },
        ...{ members, clientAddress },
        identity: identityDocument(client.identity),
        database: client.startup.database,
        role: roleName,
        sessionUser: role.user,
        locked: new Set(decision.locked),
        parameters: connection.parameters,
        cancelUpstream,
        newDecisionId: () => this.#newDecisionId(),
        onFault: (error, wait) => {
          log.error({ err: error, session: id, wait }, 'a statement was refused for want of facts')
        },
      },
      onEnd: (why, error) => {
        catalog.release()
        this.#sessions.leave(client.identity.subject)
        if (place !== null && this.#sessions.delete(place))
          this.#options.onSession?.({ kind: 'ended', id })
        audit.append('session_ended', `${members},"reason":${JSON.stringify(why)}`)
        if (error !== null && !(error instanceof ProxyError))
          log.error({ err: error, session: id }, 'session failed')
      },
    })
    const start = (): void => {
      place = this.#sessions.add({
        id,
        ...{ client, pump, connection, secret, cancelUpstream },
        ...{ role: roleName, ending: null, stoppedMs: null },
      })
      this.#options.onSession?.({
        kind: 'started',
        ...{ id, database: client.startup.database },
        ...{ processId: connection.processId, secret: connection.secret },
      })
      client.socket.write(greeting(connection, secret))
      // SASLFinal goes with it, as the server sends it.
      client.socket.uncork()
      pump.start()
    }
    if (durable === undefined) start()
    else
      durable.then(start, (error: unknown) => {
        pump.fail(error)
      })
  }
}

/** AuthenticationOk, what the server reported, and a cancel key of our own. */
function greeting(connection: UpstreamConnection, secret: Buffer): Buffer {
  return written((to) => {
    encodeAuthentication(to, { kind: 'ok' })
    for (const notice of connection.notices) to.bytes(notice)
    for (const [name, value] of connection.parameters) encodeParameterStatus(to, name, value)
    encodeBackendKeyData(to, connection.processId, secret)
    encodeReadyForQuery(to, 'idle')
  })
}

function tooManySessions(subject: string): ProxyError {
  return new ProxyError('too_many_connections', `too many connections for "${subject}"`, {
    hint: 'Close sessions that are not needed, or ask the people who operate regate for a higher limits.sessionsPerSubjectMax.',
  })
}

function fatal(fault: ProxyError): Buffer {
  return written((to) =>
    encodeErrorResponse(to, {
      severity: 'FATAL',
      sqlstate: fault.sqlstate,
      message: fault.message,
      detail: fault.detail ?? null,
      hint: fault.hint ?? null,
    }),
  )
}
