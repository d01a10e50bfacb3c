/**
 * How `regate sql` connects: a connection URL and the environment, read as libpq reads them. What a
 * URL asks for and this does not know is refused: a `sslmode` that is passed over is a connection
 * in cleartext that the user believes to be verified.
 */
import { readFileSync } from 'node:fs'
import type pg from 'pg'
import {
  sendCancel,
  tlsAttempts,
  tlsOptions,
  type TlsAttempt,
  type UpstreamTarget,
  type UpstreamTlsMode,
} from '../upstream/upstream.ts'
import { CommandFailure, lacksPassword } from './failure.ts'
import { formatMessage, type ServerMessage } from './sql-prompt.ts'

/** Where, as whom, and how well protected. */
export interface SqlConnection {
  readonly target: UpstreamTarget
  readonly user: string
  /** Of the URL; undefined where it has none. */
  readonly password: string | undefined
  readonly applicationName: string
}

/** What the command line says where the URL says nothing. */
export interface SqlDefaults {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly database: string | undefined
}

type Environment = Readonly<Record<string, string | undefined>>

const modes: readonly UpstreamTlsMode[] = [
  ...(['disable', 'allow', 'prefer'] as const),
  ...(['require', 'verify-ca', 'verify-full'] as const),
]

/** libpq's names (https://www.postgresql.org/docs/18/libpq-connect.html) and its variables. */
const parameters: Readonly<Record<string, string>> = {
  sslmode: 'PGSSLMODE',
  sslrootcert: 'PGSSLROOTCERT',
  sslcert: 'PGSSLCERT',
  sslkey: 'PGSSLKEY',
  application_name: 'PGAPPNAME',
}

/** Reads a URL, or null for none, over the command line and the environment; throws misuse. */
export function readConnection(
  text: string | null,
  defaults: SqlDefaults,
  environment: Environment,
): SqlConnection {
  const url = text === null ? null : parseUrl(text)
  const given = new Map(
    Object.entries(parameters).flatMap(([name, variable]) => {
      const value = environment[variable]
      return value === undefined || value === '' ? [] : [[name, value] as const]
    }),
  )
  for (const [name, value] of url?.searchParams ?? []) {
    if (parameters[name] === undefined) {
      throw new CommandFailure(`the connection URL has an unknown parameter: ${name}`, {
        misuse: true,
        hint: `known are ${Object.keys(parameters).join(', ')}`,
      })
    }
    given.set(name, value)
  }
  const part = (name: 'hostname' | 'port' | 'username' | 'password'): string | undefined =>
    url === null || url[name] === '' ? undefined : decodeURIComponent(url[name])
  const user = part('username') ?? defaults.user
  const path = url === null ? '' : decodeURIComponent(url.pathname.slice(1))
  return {
    target: {
      host: part('hostname')?.replaceAll(/^\[|\]$/g, '') ?? defaults.host,
      port: Number(part('port') ?? defaults.port),
      database: path === '' ? (defaults.database ?? user) : path,
      tls: readTls(given),
    },
    ...{ user, password: part('password') },
    applicationName: given.get('application_name') ?? 'regate sql',
  }
}

function parseUrl(text: string): URL {
  if (!/^postgres(ql)?:\/\//.test(text) || !URL.canParse(text)) {
    // Without what stands before the host: that may be a password.
    throw new CommandFailure(`not a connection URL: ${text.replace(/\/\/[^@/]*@/, '//…@')}`, {
      misuse: true,
      hint: 'postgres://user@host:port/database, with the password in PGPASSWORD',
    })
  }
  return new URL(text)
}

function readTls(given: ReadonlyMap<string, string>): UpstreamTarget['tls'] {
  const root = given.get('sslrootcert')
  // As in libpq: the system's own authorities vouch for anybody, so the name has to be checked.
  const mode = given.get('sslmode') ?? (root === 'system' ? 'verify-full' : 'prefer')
  if (!(modes as readonly string[]).includes(mode)) {
    throw new CommandFailure(`sslmode is ${mode}`, {
      misuse: true,
      hint: `known are ${modes.join(', ')}`,
    })
  }
  if (root === 'system' && mode !== 'verify-full') {
    throw new CommandFailure(`sslmode ${mode} is too weak for sslrootcert=system`, {
      misuse: true,
      hint: 'use sslmode=verify-full',
    })
  }
  return {
    mode: mode as UpstreamTlsMode,
    ca: root === undefined || root === 'system' ? null : pem('sslrootcert', root),
    cert: pem('sslcert', given.get('sslcert')),
    key: pem('sslkey', given.get('sslkey')),
    ...{ crl: null, serverName: null, negotiation: 'postgres' },
  }
}

function pem(name: string, path: string | undefined): string | null {
  if (path === undefined) return null
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    throw new CommandFailure(`${name} cannot be read: ${path}`, { cause, misuse: true })
  }
}

/** Connected, as `sslmode` says; the client's owner ends it. */
export async function connectSql(
  connection: SqlConnection,
  password: string | undefined,
): Promise<pg.Client> {
  const [first, second] = tlsAttempts(connection.target.tls.mode)
  try {
    return await attempt(connection, password, first)
  } catch (error) {
    const refused = (error as ServerMessage).code === '28000'
    if (second === undefined || !(refused || isWithoutTls(error))) throw failed(error)
    return await attempt(connection, password, second).catch((other: unknown) => {
      throw failed(other)
    })
  }
}

async function attempt(
  { target, user, applicationName }: SqlConnection,
  password: string | undefined,
  tls: TlsAttempt,
): Promise<pg.Client> {
  const { default: postgres } = await import('pg')
  // Every value is shown as the server sent it.
  const rawText = { getTypeParser: () => (value: string | Buffer) => String(value) }
  const { host, port, database } = target
  const client = new postgres.Client({
    ...{ host, port, user, database, application_name: applicationName },
    types: rawText as unknown as pg.CustomTypesConfig,
    ssl: tls === 'never' ? false : tlsOptions(target),
    ...(password === undefined ? {} : { password }),
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
  } catch (error) {
    // pg gives up without closing where the fault is its own (no password): the command would hang.
    void client.end().catch(() => undefined)
    throw error
  }
  return client
}

/** What pg says where the server answers SSLRequest with N. */
function isWithoutTls(error: unknown): boolean {
  return (error as Error).message === 'The server does not support SSL connections'
}

function failed(cause: unknown): CommandFailure {
  const message = cause as ServerMessage & Error
  const text = message.code === undefined ? message.message : formatMessage(message, null)
  // What a server said has hints of its own.
  return new CommandFailure(text, {
    ...(message.severity === undefined ? { hint: hintFor(message) } : {}),
    cause,
  })
}

/** What to do where no server answered, or none could be asked. */
function hintFor(error: Error): string {
  if (isWithoutTls(error)) {
    return 'sslmode asks for TLS: give the proxy listen.tls, or connect with sslmode=prefer'
  }
  if (lacksPassword(error)) return 'no password: set PGPASSWORD'
  return 'is the proxy running? `regate demo` starts one, and prints how to connect'
}

/** Cancels what the client runs, over a connection that is protected like its own. */
export async function cancelSql(client: pg.Client, { target }: SqlConnection): Promise<void> {
  const { processID, secretKey, connection } = client as unknown as {
    processID: number
    secretKey: number
    connection: { stream: { encrypted?: boolean } }
  }
  const secret = Buffer.alloc(4)
  secret.writeInt32BE(secretKey)
  const { mode } = target.tls
  const open = mode === 'allow' || mode === 'prefer'
  const encrypted = connection.stream.encrypted === true
  const same = open ? (encrypted ? 'require' : 'disable') : mode
  await sendCancel({ ...target, tls: { ...target.tls, mode: same } }, processID, secret)
}
