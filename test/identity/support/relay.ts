/**
 * The handshake and the upstream connection with nothing between them: what both promise can be tested
 * with real clients before, and apart from, the session. It forwards bytes and judges nothing.
 */
import net from 'node:net'
import { systemClock, defaultLimits, ProxyError, type Limits } from '../../../src/core/core.ts'
import {
  attemptLimitsOf,
  Authenticator,
  RevocationList,
  type AttemptLimits,
  type AuthenticationEntry,
  type Identity,
} from '../../../src/identity/identity.ts'
import {
  acceptClient,
  closeGently,
  type AcceptedClient,
  type ClosedClient,
} from '../../../src/server/handshake.ts'
import { HandshakePace } from '../../../src/server/pace.ts'
import { ClientTls, type ClientTlsFiles } from '../../../src/server/tls.ts'
import {
  applicationName,
  connectUpstream,
  sendCancel,
  type UpstreamRole,
  type UpstreamTarget,
} from '../../../src/upstream/upstream.ts'
import {
  encodeAuthentication,
  encodeBackendKeyData,
  encodeErrorResponse,
  encodeParameterStatus,
  encodeReadyForQuery,
  written,
} from '../../../src/wire/wire.ts'

export interface RelayOptions {
  readonly entries: readonly AuthenticationEntry[]
  /** null: every session gets an identity and then a polite error that names it. */
  readonly target: UpstreamTarget | null
  readonly role?: UpstreamRole
  readonly tls?: ClientTlsFiles
  readonly tlsRequired?: boolean
  readonly limits?: Partial<Limits>
  readonly attemptLimits?: Partial<AttemptLimits>
  readonly host?: string
}

/** A running relay. */
export interface Relay {
  readonly host: string
  readonly port: number
  readonly identities: Identity[]
  readonly closed: ClosedClient[]
  /** Everything that would have gone to a log. */
  readonly logs: string[]
  readonly revocations: RevocationList
  readonly authenticator: Authenticator
  readonly tls: ClientTls | null
  stop(): Promise<void>
}

/** Starts one on a free port of loopback. */
export async function startRelay(options: RelayOptions): Promise<Relay> {
  const limits: Limits = { ...defaultLimits, ...(options.limits as Limits) }
  const revocations = new RevocationList(systemClock)
  const logs: string[] = []
  const log = (message: string, facts: Readonly<Record<string, unknown>>): void => {
    logs.push(`${message} ${JSON.stringify(facts)}`)
  }
  const authenticator = await Authenticator.open({
    entries: options.entries,
    attemptLimits: { ...attemptLimitsOf(limits), ...options.attemptLimits },
    revocations,
    clock: systemClock,
    log,
  })
  const tls = options.tls === undefined ? null : await ClientTls.open(options.tls)
  const identities: Identity[] = []
  const closed: ClosedClient[] = []
  const sockets = new Set<net.Socket>()
  const pace = new HandshakePace(limits.handshakeStepsPerTurnMax, setImmediate)
  const serve = async (socket: net.Socket): Promise<void> => {
    const client = await acceptClient(socket, {
      tls,
      tlsRequired: options.tlsRequired ?? false,
      authenticator,
      limits,
      clock: systemClock,
      pace,
    })
    if (client.kind === 'closed') {
      log('client refused', { reason: client.reason, message: client.error?.message ?? null })
      closed.push(client)
      return
    }
    if (client.kind === 'cancel') {
      if (options.target !== null) await sendCancel(options.target, client.processId, client.secret)
      client.close()
      return
    }
    identities.push(client.identity)
    await join(client, options, limits)
  }
  const server = net.createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    void serve(socket)
  })
  const host = options.host ?? '127.0.0.1'
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  return {
    host,
    port: (server.address() as net.AddressInfo).port,
    identities,
    closed,
    logs,
    revocations,
    authenticator,
    tls,
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => server.close(() => resolve()))
      await authenticator.close()
    },
  }
}

async function join(client: AcceptedClient, options: RelayOptions, limits: Limits): Promise<void> {
  const { socket, startup, identity } = client
  if (options.target === null || options.role === undefined) {
    const message = `hello ${identity.subject} of ${identity.groups.join(',')}`
    socket.write(
      written((writer) => {
        encodeAuthentication(writer, { kind: 'ok' })
        encodeErrorResponse(writer, { severity: 'FATAL', sqlstate: '57P03', message })
      }),
    )
    closeGently(socket)
    return
  }
  try {
    const parameters = new Map(startup.parameters)
    parameters.set(
      'application_name',
      applicationName(identity.subject, parameters.get('application_name') ?? ''),
    )
    const upstream = await connectUpstream({
      target: options.target,
      role: options.role,
      parameters,
      protocolMinor: startup.protocolMinor,
      limits,
    })
    socket.write(
      written((writer) => {
        encodeAuthentication(writer, { kind: 'ok' })
        for (const [name, value] of upstream.parameters) encodeParameterStatus(writer, name, value)
        encodeBackendKeyData(writer, upstream.processId, upstream.secret)
        encodeReadyForQuery(writer, 'idle')
      }),
    )
    socket.uncork()
    if (client.pending.length > 0) upstream.socket.write(client.pending)
    socket.pipe(upstream.socket)
    upstream.socket.pipe(socket)
    socket.on('close', () => upstream.socket.destroy())
    upstream.socket.on('close', () => socket.destroy())
  } catch (error) {
    const { sqlstate, message, detail, hint } =
      error instanceof ProxyError ? error : new ProxyError('internal', String(error))
    socket.write(
      written((writer) =>
        encodeErrorResponse(writer, { severity: 'FATAL', sqlstate, message, detail, hint }),
      ),
    )
    closeGently(socket)
  }
}
