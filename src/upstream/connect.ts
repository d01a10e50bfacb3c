/**
 * From nothing to an idle upstream connection: stream, StartupMessage, authentication, first
 * ReadyForQuery, checks of version and pinned settings.
 *
 * Invariants: whatever happens no socket is left behind; what the server says about regate's own
 * credentials does not reach the client; the pinned settings are set by us and confirmed by the
 * server before anything is forwarded.
 */
import { assert, Interrupt, ProxyError } from '../core/core.ts'
import { ScramKeyCache } from '../identity/identity.ts'
import {
  backendFrameLimits,
  backendTypes,
  decodeAuthentication,
  decodeBackendKeyData,
  decodeErrorOrNotice,
  decodeNegotiateProtocolVersion,
  decodeParameterStatus,
  encodeStartup,
  FrameReader,
  protocolVersions,
  written,
} from '../wire/wire.ts'
import { UpstreamAuthentication } from './authenticate.ts'
import { SocketBytes } from './socket-bytes.ts'
import {
  isLocal,
  openStream,
  readOrFail,
  tlsAttempts,
  unreachable,
  type TlsAttempt,
  type UpstreamStream,
} from './tls.ts'
import type { UpstreamConnection, UpstreamOptions } from './target.ts'
import { LoginTurns } from './turns.ts'

/** Before ReadyForQuery no message is long. */
const frameBytesMax = 1024 * 1024
const noticeCountMax = 100
const parameterCountMax = 1_000

/**
 * Sent with every StartupMessage, where it wins over ALTER ROLE and ALTER DATABASE, because both
 * change how the server reads SQL.
 */
export const pinnedSettings: ReadonlyMap<string, string> = new Map([
  ['client_encoding', 'UTF8'],
  ['standard_conforming_strings', 'on'],
])

const versionMin = 14
const versionMax = 18

/** PBKDF2 once per role, not per connection. */
const keys = new ScramKeyCache()

/** One process is one client of a server: its logins take turns. */
const turns = new LoginTurns()

/**
 * Connects, or throws a ProxyError that may be shown to the client. `upstreamConnectMsMax` is for all
 * of it, the wait for a turn included (`upstreamLoginCountMax`).
 */
export async function connectUpstream(options: UpstreamOptions): Promise<UpstreamConnection> {
  const { target, limits, interrupt } = options
  const ending = new Interrupt()
  const timer = ending.raiseAfter(limits.upstreamConnectMsMax)
  const onGone = (): void => {
    if (interrupt !== undefined) ending.raise(interrupt.reason)
  }
  interrupt?.on(onGone)
  try {
    if (interrupt?.raised === true) onGone()
    const server = `${target.host}:${target.port}`
    return await turns.run(server, limits.upstreamLoginCountMax, ending, () =>
      login(options, ending),
    )
  } catch (error) {
    throw error instanceof ProxyError ? error : unreachable(target, error)
  } finally {
    clearTimeout(timer)
    interrupt?.off(onGone)
  }
}

async function login(options: UpstreamOptions, interrupt: Interrupt): Promise<UpstreamConnection> {
  const [first, second] = tlsAttempts(options.target.tls.mode)
  try {
    return await attempt(options, first, interrupt)
  } catch (error) {
    if (isRefusedPassword(error) && options.role.secret !== null) {
      // The secret may have been rotated since it was read: once more with a fresh one.
      options.role.secret.invalidate()
      return attempt(options, first, interrupt)
    }
    if (second === undefined || !isRefusedByHba(error)) throw error
    return attempt(options, second, interrupt)
  }
}

async function attempt(
  options: UpstreamOptions,
  tlsAttempt: TlsAttempt,
  interrupt: Interrupt,
): Promise<UpstreamConnection> {
  const stream = await openStream(options.target, tlsAttempt, interrupt)
  const onRaised = (): void => void stream.socket.destroy(interrupt.reason)
  interrupt.on(onRaised)
  const bytes = new SocketBytes(stream.socket)
  try {
    if (interrupt.raised) throw unreachable(options.target, interrupt.reason)
    const connection = await new Login(options, stream, bytes).run()
    bytes.release()
    return connection
  } catch (error) {
    stream.socket.destroy()
    throw error
  } finally {
    interrupt.off(onRaised)
  }
}

/** One login: StartupMessage to ReadyForQuery. */
class Login {
  readonly #options: UpstreamOptions
  readonly #stream: UpstreamStream
  readonly #bytes: SocketBytes
  readonly #reader = new FrameReader({ frameBytesMax, limits: backendFrameLimits(frameBytesMax) })
  readonly #authentication: UpstreamAuthentication
  readonly #parameters = new Map<string, string>()
  readonly #notices: Buffer[] = []
  #protocolMinor: 0 | 2
  #key: { readonly processId: number; readonly secret: Buffer } | null = null

  constructor(options: UpstreamOptions, stream: UpstreamStream, bytes: SocketBytes) {
    this.#options = options
    this.#stream = stream
    this.#bytes = bytes
    this.#protocolMinor = options.protocolMinor
    this.#authentication = new UpstreamAuthentication({
      role: options.role,
      keys,
      encrypted: stream.encrypted,
      local: isLocal(options.target, stream.socket),
      endPoint: stream.endPoint,
    })
  }

  async run(): Promise<UpstreamConnection> {
    this.#stream.socket.write(startupMessage(this.#options))
    for (;;) {
      const chunk = await readOrFail(this.#bytes, this.#options.target)
      this.#reader.push(chunk)
      while (this.#reader.next() === 'frame') {
        if (this.#reader.type === backendTypes.Authentication) await this.#authenticate()
        else if (this.#frame()) return this.#finish(chunk)
      }
    }
  }

  async #authenticate(): Promise<void> {
    const answer = await this.#authentication.answer(decodeAuthentication(this.#reader))
    if (answer !== null) this.#stream.socket.write(answer)
  }

  /** What needs no waiting: fifteen settings come with every login. true at ReadyForQuery. */
  #frame(): boolean {
    const reader = this.#reader
    switch (reader.type) {
      case backendTypes.ErrorResponse:
        throw rejected(decodeErrorOrNotice(reader), this.#authentication.finished)
      case backendTypes.NoticeResponse:
        if (this.#notices.length < noticeCountMax) {
          this.#notices.push(Buffer.from(reader.buffer.subarray(reader.start, reader.end)))
        }
        return false
      case backendTypes.NegotiateProtocolVersion:
        this.#negotiated(decodeNegotiateProtocolVersion(reader).version & 0xffff)
        return false
      case backendTypes.ParameterStatus: {
        this.#expectAuthenticated()
        const { name, value } = decodeParameterStatus(reader)
        if (this.#parameters.size < parameterCountMax) this.#parameters.set(name, value)
        return false
      }
      case backendTypes.BackendKeyData:
        this.#expectAuthenticated()
        this.#key = decodeBackendKeyData(reader)
        return false
      case backendTypes.ReadyForQuery:
        this.#expectAuthenticated()
        return true
      default:
        throw strange(`sent a message of type ${reader.type} while connecting`)
    }
  }

  /** The server speaks an older minor version than we asked for. */
  #negotiated(minor: number): void {
    if (minor >= this.#protocolMinor) return
    if (minor !== 0) throw strange(`wants protocol 3.${minor}`)
    this.#protocolMinor = 0
  }

  #expectAuthenticated(): void {
    if (!this.#authentication.finished) throw strange('skipped authentication')
  }

  #finish(chunk: Buffer): UpstreamConnection {
    // The frame ended inside the last chunk, so what is left is that chunk's tail.
    const restBytes = this.#reader.bufferedBytes
    assert(restBytes <= chunk.length, 'the rest is longer than the chunk it came in')
    const serverVersion = this.#checkVersion()
    this.#checkPinned()
    // PgBouncer sends a key too; a server without one cannot be cancelled, which is an error late.
    const key = this.#key
    if (key === null) throw strange('sent no cancel key')
    return {
      socket: this.#stream.socket,
      parameters: this.#parameters,
      processId: key.processId,
      secret: key.secret,
      serverVersion,
      protocolMinor: this.#protocolMinor,
      pending: Buffer.from(chunk.subarray(chunk.length - restBytes)),
      notices: this.#notices,
      encrypted: this.#stream.encrypted,
    }
  }

  #checkVersion(): number {
    const text = this.#parameters.get('server_version') ?? ''
    const version = parseServerVersion(text)
    const major = Math.floor((version ?? 0) / 10_000)
    if (this.#options.allowUnsupported === true) return version ?? 0
    if (version === null || major < versionMin || major > versionMax) {
      throw new ProxyError(
        'unsupported_server',
        `the upstream server's version "${text}" is not supported`,
        {
          detail: `regate knows the grammar and the catalogs of PostgreSQL ${versionMin} to ${versionMax}.`,
          hint: 'allow_unsupported in the database of the configuration accepts it all the same.',
        },
      )
    }
    return version
  }

  #checkPinned(): void {
    for (const [name, value] of pinnedSettings) {
      const reported = this.#parameters.get(name)
      if (reported?.toLowerCase() !== value.toLowerCase()) {
        throw strange(`reports ${name} = ${reported ?? 'nothing'} where ${value} was asked for`)
      }
    }
  }
}

function startupMessage(options: UpstreamOptions): Buffer {
  const parameters = new Map<string, string>()
  parameters.set('user', options.role.user)
  parameters.set('database', options.target.database)
  for (const [name, value] of options.parameters) {
    const folded = name.toLowerCase()
    // The caller has judged these; a second user or database would still be a disaster.
    assert(!['user', 'database', 'options', 'replication'].includes(folded), 'a reserved parameter')
    if (!pinnedSettings.has(folded)) parameters.set(name, value)
  }
  for (const [name, value] of pinnedSettings) parameters.set(name, value)
  const version = options.protocolMinor === 2 ? protocolVersions.v3_2 : protocolVersions.v3_0
  return written((writer) => encodeStartup(writer, version, parameters))
}

/** "15.18 (Debian 15.18-0+deb12u1)" is 150018, "19beta1" is 190000; null where it is no version. */
export function parseServerVersion(text: string): number | null {
  const match = /^(\d{1,3})(?:\.(\d{1,4}))?/.exec(text)
  if (match === null) return null
  return Number(match[1]) * 10_000 + Number(match[2] ?? 0)
}

/** An ErrorResponse of the server, with its fields for the log. */
class ServerError extends Error {
  override readonly name = 'ServerError'
  readonly sqlstate: string

  constructor(fields: ReadonlyMap<string, string>) {
    super(fields.get('M') ?? 'no message')
    this.sqlstate = fields.get('C') ?? 'XX000'
  }
}

function rejected(fields: ReadonlyMap<string, string>, authenticated: boolean): ProxyError {
  const cause = new ServerError(fields)
  // Class 28 names the upstream role and the address, and a client would take it for its own.
  if (cause.sqlstate.startsWith('28') || (!authenticated && !isHarmless(cause.sqlstate))) {
    return new ProxyError('upstream_rejected', 'regate could not log in to the upstream server', {
      detail: 'The upstream server refused the credentials that regate has for this role.',
      hint: "This is not about your own credentials; regate's log has the server's message.",
      cause,
    })
  }
  const detail = fields.get('D')
  const hint = fields.get('H')
  return new ProxyError('upstream_rejected', cause.message, {
    sqlstate: /^[0-9A-Z]{5}$/.test(cause.sqlstate) ? cause.sqlstate : 'XX000',
    cause,
    ...(detail === undefined ? {} : { detail }),
    ...(hint === undefined ? {} : { hint }),
  })
}

/** Errors before authentication that say nothing of the role: starting up, no such database, full. */
function isHarmless(sqlstate: string): boolean {
  return /^(3D|53|57|22|42|0A)/.test(sqlstate)
}

function causeOf(error: unknown): ServerError | null {
  return error instanceof ProxyError && error.cause instanceof ServerError ? error.cause : null
}

function isRefusedPassword(error: unknown): boolean {
  return causeOf(error)?.sqlstate === '28P01'
}

function isRefusedByHba(error: unknown): boolean {
  return causeOf(error)?.sqlstate === '28000'
}

function strange(what: string): ProxyError {
  return new ProxyError('upstream_rejected', 'the upstream server cannot be used', {
    detail: `It ${what}.`,
  })
}
