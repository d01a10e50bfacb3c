/**
 * From the configuration to the options of the layers that do the work: secrets become sources that
 * are read when they are needed, PEM files are read, names of databases find their target. Starts
 * nothing.
 */
import { createHash, randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { createSecureContext } from 'node:tls'
import {
  readSecret,
  type Configuration,
  type DatabaseConfiguration,
  type SecretSource,
} from '../config/config.ts'
import { ProxyError, type Clock } from '../core/core.ts'
import {
  commandSecret,
  environmentSecret,
  fileSecret,
  type Secret,
  type UpstreamRole,
  type UpstreamTarget,
  type UpstreamTls,
} from '../upstream/upstream.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** How long the output of a `password_command` counts. */
const commandMsMax = 60_000

/** A source that the upstream connection reads each time it needs the password. */
export function secretOf(source: SecretSource, environment: Environment, clock: Clock): Secret {
  switch (source.kind) {
    case 'env':
      return environmentSecret(source.name, environment)
    case 'file':
      return fileSecret(source.path)
    case 'command':
      return commandSecret({ command: source.command, maxAgeMs: commandMsMax, clock })
  }
}

/** One configured database, ready to connect to. */
export interface Upstream {
  /** Key of `databases`. */
  readonly name: string
  /** The target for the name that a client asked for. */
  target(database: string): UpstreamTarget
  readonly roles: ReadonlyMap<string, UpstreamRole>
  readonly allowUnsupported: boolean
  readonly catalogPollMs: number
  /** Reads the TLS files again, for connections to come; rejects, with the old kept, where they do not fit. */
  refresh(): Promise<void>
}

/** All databases, with PEM files read. Rejects with the file that cannot be read. */
export async function upstreamsOf(
  configuration: Configuration,
  environment: Environment,
  clock: Clock,
): Promise<ReadonlyMap<string, Upstream>> {
  const upstreams = new Map<string, Upstream>()
  for (const [name, database] of configuration.databases) {
    let tls = await tlsOf(database)
    const { host, port } = database
    const roles = new Map<string, UpstreamRole>()
    for (const [role, { user, password }] of database.roles) {
      const secret = password === null ? null : secretOf(password, environment, clock)
      roles.set(role, { user, secret })
    }
    upstreams.set(name, {
      name,
      roles,
      target: (asked) => ({ host, port, database: database.database ?? asked, tls }),
      allowUnsupported: database.allowUnsupportedVersion,
      catalogPollMs: database.catalogPollMs,
      refresh: async () => {
        tls = await tlsOf(database)
      },
    })
  }
  return upstreams
}

/** The entry of a database name: its own, else that of `*`. */
export function upstreamFor(
  upstreams: ReadonlyMap<string, Upstream>,
  database: string,
): Upstream | null {
  return upstreams.get(database) ?? upstreams.get('*') ?? null
}

async function tlsOf(database: DatabaseConfiguration): Promise<UpstreamTls> {
  const { tls } = database
  const read = async (path: string | null): Promise<string | null> =>
    path === null ? null : await readFile(path, 'utf8')
  const [ca, cert, key, crl] = await Promise.all([
    ...[read(tls.ca), read(tls.cert), read(tls.key), read(tls.crl)],
  ])
  checkPem({ ca, cert, key, crl }, `databases: ${database.host}: upstream.tls`)
  return {
    mode: database.host.startsWith('/') ? 'disable' : tls.mode,
    ...{ ca: ca ?? null, cert: cert ?? null, key: key ?? null, crl: crl ?? null },
    serverName: tls.serverName,
    negotiation: tls.negotiation,
  }
}

/** Throws `configuration` where the files are no PEM, or no pair. */
function checkPem(files: Readonly<Record<string, string | null | undefined>>, where: string): void {
  const given = Object.entries(files).filter(([, pem]) => typeof pem === 'string')
  if (given.length === 0) return
  try {
    createSecureContext(Object.fromEntries(given))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new ProxyError('configuration', `${where}: the TLS files cannot be used`, {
      detail: `${reason}.`,
      hint: 'ca, cert, key and crl must be PEM files; cert and key must belong together.',
      cause,
    })
  }
}

/** The key of the hash and noise masks; a random one where none is configured. */
export async function maskKeyOf(
  configuration: Configuration,
  environment: Environment,
): Promise<Uint8Array> {
  if (configuration.maskingKey === null) return randomBytes(32)
  const secret = await readSecret(configuration.maskingKey, environment)
  return createHash('sha256').update('regate mask key\0').update(secret).digest()
}
