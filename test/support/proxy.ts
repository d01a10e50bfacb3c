/**
 * regate in front of a PostgreSQL, for tests: in this process (startProxy) or as the command that
 * people run (serveProxy, from dist/). Both start from a real regate.yaml in a directory of their
 * own. Always stop() it.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { stringify } from 'yaml'
import type { AuditLog } from '../../src/audit/audit.ts'
import { startRuntime, type Runtime } from '../../src/commands/runtime.ts'
import { formatConfigurationError, loadConfiguration } from '../../src/config/config.ts'
import { deriveVerifier, writeUser } from '../../src/identity/identity.ts'
import type { TestPostgres } from './postgres.ts'
import { expectNoSecrets } from './secrets.ts'

export interface ProxyUser {
  /** Without a password the user comes in by `trust`. */
  readonly password?: string
  readonly groups: readonly string[]
}

export interface ProxyOptions {
  /** Directory of Rego or bundle.tar.gz; the shipped pack when absent. */
  readonly bundle?: string
  /** Merged over the bundle's data. */
  readonly data?: Readonly<Record<string, unknown>>
  /** By name, in users.yaml, by SCRAM. Without any everybody comes in by trust with `groups`. */
  readonly users?: Readonly<Record<string, ProxyUser>>
  /** Groups of everybody who comes in by trust; default admins. */
  readonly groups?: readonly string[]
  /** The upstream login; default the superuser of the test server. */
  readonly upstream?: { readonly user: string; readonly password: string }
  /** More roles, by their key. */
  readonly roles?: Readonly<Record<string, { readonly user: string; readonly password: string }>>
  /** Merged over the top-level keys of regate.yaml. */
  readonly configuration?: Readonly<Record<string, unknown>>
  readonly limits?: Readonly<Record<string, number | string>>
  readonly audit?: AuditLog
  /** Level of regate's own log; default silent. */
  readonly log?: string
}

export interface Proxy {
  readonly host: string
  readonly port: number
  readonly adminUrl: string
  /** Where regate.yaml is, with everything it names. */
  readonly directory: string
  url(database: string, user: string, password?: string): string
  stop(): Promise<void>
}

export interface ProxyInProcess extends Proxy {
  readonly runtime: Runtime
}

export interface ProxyChild extends Proxy {
  readonly child: ChildProcess
  /** Everything it has written to stderr. */
  log(): string
}

/** regate in this process. */
export async function startProxy(
  postgres: TestPostgres,
  options: ProxyOptions = {},
): Promise<ProxyInProcess> {
  const { directory, path, environment } = await writeProxyFiles(postgres, options)
  try {
    const loaded = await loadConfiguration(path, environment)
    if (loaded.kind === 'errors') {
      throw new Error(
        loaded.errors.map((error) => formatConfigurationError(error, path)).join('\n'),
      )
    }
    const written = new Written(options.log !== undefined)
    const runtime = await startRuntime({
      configuration: loaded.configuration,
      environment,
      log: pino({ level: options.log ?? 'info' }, written),
      ...(options.audit === undefined ? {} : { audit: options.audit }),
    })
    return {
      ...{ runtime, directory, host: '127.0.0.1', port: runtime.port, adminUrl: runtime.adminUrl },
      url: (database, user, password) => proxyUrl(runtime.port, database, user, password),
      stop: async () => {
        await runtime.stop()
        await searched(directory, written.text)
      },
    }
  } catch (error) {
    await rm(directory, { recursive: true, force: true })
    throw error
  }
}

/** `regate serve` as a process of its own, from dist/ (or the main.js that REGATE_MAIN names). */
export async function serveProxy(
  postgres: TestPostgres,
  options: ProxyOptions = {},
): Promise<ProxyChild> {
  const files = await writeProxyFiles(postgres, options)
  const ended = async (log: string): Promise<void> => {
    await searched(files.directory, log)
  }
  try {
    const served = await serveFiles(files)
    return {
      ...served,
      stop: async () => {
        await served.stop()
        await ended(served.log())
      },
    }
  } catch (error) {
    await ended('')
    throw error
  }
}

/** The same on files that are there, and stay when it stops: so that it may be started again. */
export async function serveFiles({
  directory,
  path,
  environment,
}: ProxyFiles): Promise<ProxyChild> {
  const main = process.env['REGATE_MAIN'] ?? 'dist/main.js'
  if (!existsSync(main)) throw new Error(`${main} is not there: npm run build`)
  const child = spawn(process.execPath, [main, 'serve', '--config', path], {
    env: environment,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let log = ''
  child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
    await ended
    clearTimeout(timer)
  }
  const listening = /"port":(\d+),"admin":"([^"]*)".*"msg":"listening"/
  const started = Date.now()
  for (;;) {
    const found = listening.exec(log)
    if (found !== null) {
      const port = Number(found[1])
      return {
        ...{ child, directory, port, host: '127.0.0.1', adminUrl: found[2] ?? '', stop },
        log: () => log,
        url: (database, user, password) => proxyUrl(port, database, user, password),
      }
    }
    if (child.exitCode !== null || Date.now() - started > 60_000) {
      await stop()
      throw new Error(`regate serve did not start:\n${log}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Keeps what regate logs, to be searched at the end; shows it as well where a test wants that. */
class Written {
  text = ''
  readonly #shown: boolean

  constructor(shown: boolean) {
    this.#shown = shown
  }

  write(line: string): void {
    if (this.text.length < 10_000_000) this.text += line
    if (this.#shown) process.stderr.write(line)
  }
}

/** Every regate of the suite ends so: what it wrote is searched for secrets, then removed. */
async function searched(directory: string, log: string): Promise<void> {
  try {
    await expectNoSecrets(directory, log)
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

function proxyUrl(port: number, database: string, user: string, password?: string): string {
  const secret = password === undefined ? '' : `:${encodeURIComponent(password)}`
  return `postgres://${encodeURIComponent(user)}${secret}@127.0.0.1:${port}/${encodeURIComponent(database)}`
}

export interface ProxyFiles {
  readonly directory: string
  /** Of regate.yaml. */
  readonly path: string
  readonly environment: Record<string, string | undefined>
}

/** The files of a proxy, and the environment with its secrets. */
export async function writeProxyFiles(
  postgres: TestPostgres,
  options: ProxyOptions,
): Promise<ProxyFiles> {
  const directory = await mkdtemp(join(tmpdir(), 'regate-proxy-'))
  const login = options.upstream ?? { user: postgres.user, password: postgres.password }
  const environment: Record<string, string | undefined> = { ...process.env }
  const roles: Record<string, object> = {}
  for (const [name, role] of Object.entries({ default: login, ...options.roles })) {
    const variable = `TEST_PASSWORD_${name.toUpperCase().replaceAll(/\W/g, '_')}`
    environment[variable] = role.password
    roles[name] = { user: role.user, password_env: variable }
  }
  const users = Object.entries(options.users ?? {}).filter(
    ([, user]) => user.password !== undefined,
  )
  for (const [name, { password, groups }] of users) {
    const verifier = await deriveVerifier(password ?? '')
    const user = { name, verifier, groups, type: null, email: null }
    await writeUser(join(directory, 'users.yaml'), user)
  }
  if (options.data !== undefined) {
    await writeFile(join(directory, 'data.json'), JSON.stringify(options.data))
  }
  const trusted = Object.entries(options.users ?? {}).filter(
    ([, user]) => user.password === undefined,
  )
  const authentication = [
    ...trusted.map(([name, { groups }]) => ({ method: 'trust', groups, match: { user: name } })),
    ...(users.length > 0 ? [{ method: 'scram', users: 'users.yaml' }] : []),
    ...(options.users === undefined
      ? [{ method: 'trust', groups: options.groups ?? ['admins'] }]
      : []),
  ]
  const { host, port } = postgres
  const document = {
    listen: { host: '127.0.0.1', port: 0 },
    databases: { '*': { upstream: { host, port, tls: { mode: 'disable' } }, roles } },
    authentication,
    policy: {
      bundle: options.bundle ?? join(process.cwd(), 'policies'),
      ...(options.data === undefined ? {} : { data: ['data.json'] }),
    },
    audit: { directory: 'audit' },
    admin: { port: 0 },
    limits: options.limits ?? {},
    ...options.configuration,
  }
  const path = join(directory, 'regate.yaml')
  await writeFile(path, stringify(document))
  return { directory, path, environment }
}
