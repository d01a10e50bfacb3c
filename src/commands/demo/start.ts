/**
 * What `regate demo` consists of: its server, its files (a real regate.yaml, users.yaml and
 * data.json in a directory of its own), and the runtime that `regate serve` would start from them.
 */
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import type { Logger } from 'pino'
import { formatConfigurationError, loadConfiguration } from '../../config/config.ts'
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../../control/control.ts'
import { deriveVerifier, writeUser } from '../../identity/identity.ts'
import { startRuntime, type Runtime } from '../runtime.ts'
import type { Environment } from '../wiring.ts'
import { demoConsoleClientId, startDemoProvider, type DemoProvider } from './oidc-provider.ts'

export interface DemoOptions {
  /** 0 takes a free port; another one is only a wish. */
  readonly port: number
  readonly adminPort: number
  readonly environment: Environment
  readonly log: Logger
  /** Told what is being done, since the first start takes some seconds. */
  readonly say: (line: string) => void
}

export interface Demo {
  readonly runtime: Runtime
  readonly postgres: EmbeddedPostgres
  /** A real OIDC provider; its login page takes any password. */
  readonly provider: DemoProvider
  readonly serverVersion: number
  readonly configurationFile: string
  readonly dataFile: string
  /** For scripts that ask the admin API. */
  readonly adminToken: string
  stop(): Promise<void>
}

/** Users of the demo; a user's password is the name. */
export const demoUsers = [
  { name: 'agent', groups: ['agents'], type: 'machine' },
  { name: 'engineer', groups: ['engineers'], type: 'human' },
  { name: 'admin', groups: ['admins'], type: 'human' },
] as const

/** People who log in by OIDC. */
export const demoAccounts = [
  { id: 'ada', name: 'Ada Lovelace', email: 'ada@example.com', groups: ['engineers'] },
  { id: 'grace', name: 'Grace Hopper', email: 'grace@example.com', groups: ['admins'] },
] as const

/** An agent that gets its tokens by a secret. */
export const demoMachine = { id: 'robot', secret: 'robot-secret', groups: ['agents'] } as const

const audience = 'regate'

const policies = fileURLToPath(new URL('../../../policies', import.meta.url))
const asset = (name: string): URL => new URL(name, import.meta.url)

/** Starts everything; rejects with nothing left behind. */
export async function startDemo(options: DemoOptions): Promise<Demo> {
  const undo: (() => Promise<unknown>)[] = []
  const stop = async (): Promise<void> => {
    for (let step = undo.pop(); step !== undefined; step = undo.pop()) await step()
  }
  try {
    options.say('starting PostgreSQL with sample data …')
    const password = randomBytes(18).toString('base64url')
    const postgres = await startEmbeddedPostgres({
      users: { app: { password } },
      settings: { log_statement: 'all' },
    })
    undo.push(() => postgres.stop())
    await fill(postgres, password)

    const provider = await startDemoProvider({
      ...{ accounts: demoAccounts, machines: [demoMachine], audience },
    })
    undo.push(() => provider.stop())

    options.say('compiling the policies with OPA …')
    const directory = await mkdtemp(join(tmpdir(), 'regate-demo-'))
    undo.push(() => rm(directory, { recursive: true, force: true }))
    const configurationFile = await writeFiles(directory, postgres, provider, options)
    const maskKey = randomBytes(32).toString('base64url')
    const adminToken = randomBytes(18).toString('base64url')
    const environment = {
      ...options.environment,
      DEMO_PASSWORD: password,
      DEMO_MASK_KEY: maskKey,
      DEMO_ADMIN_TOKEN: adminToken,
    }
    const loaded = await loadConfiguration(configurationFile, environment)
    if (loaded.kind === 'errors') {
      const lines = loaded.errors.map((error) => formatConfigurationError(error, configurationFile))
      throw new Error(`the demo's own configuration has errors:\n${lines.join('\n')}`)
    }
    const { configuration } = loaded
    const runtime = await startRuntime({ configuration, environment, log: options.log })
    undo.push(() => runtime.stop())
    return {
      ...{ runtime, postgres, provider, configurationFile, adminToken, stop },
      serverVersion: postgres.version,
      dataFile: join(directory, 'data.json'),
    }
  } catch (error) {
    await stop()
    throw error
  }
}

async function fill(postgres: EmbeddedPostgres, password: string): Promise<void> {
  await run(postgres.url(), 'CREATE DATABASE shop OWNER app')
  const url = `postgres://app:${password}@127.0.0.1:${postgres.port}/shop`
  await run(url, await readFile(asset('shop.sql'), 'utf8'))
}

async function run(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

async function writeFiles(
  directory: string,
  postgres: EmbeddedPostgres,
  provider: DemoProvider,
  options: DemoOptions,
): Promise<string> {
  await copyFile(asset('data.json'), join(directory, 'data.json'))
  const users = join(directory, 'users.yaml')
  for (const { name, groups, type } of demoUsers) {
    const verifier = await deriveVerifier(name)
    await writeUser(users, { name, verifier, groups, type, email: null })
  }
  const port = options.port === 0 ? 0 : await freeFrom(options.port)
  const adminPort = options.adminPort === 0 ? 0 : await freeFrom(options.adminPort)
  const path = join(directory, 'regate.yaml')
  await writeFile(
    path,
    `# The demo's configuration. \`regate serve --config\` understands the same.
listen: { host: 127.0.0.1, port: ${port} }
databases:
  shop:
    upstream: { host: 127.0.0.1, port: ${postgres.port}, tls: { mode: disable } }
    roles:
      default: { user: app, password_env: DEMO_PASSWORD }
authentication:
  # A token is the password of these names; everybody else has a password in users.yaml.
  - method: oidc
    issuer: ${provider.issuer}
    audience: ${audience}
    flow: password
    match: { user: [${[...demoAccounts, demoMachine].map(({ id }) => id).join(', ')}] }
  - { method: scram, users: users.yaml }
policy:
  bundle: ${JSON.stringify(policies)}
  data: [data.json]
masking: { key_env: DEMO_MASK_KEY }
audit: { directory: audit }
# Time enough to go and look for who approves.
approvals: { wait: 5m }
admin:
  host: 127.0.0.1
  port: ${adminPort}
  groups: [admins]
  viewers: [engineers]
  token_env: DEMO_ADMIN_TOKEN
  oidc: { issuer: ${provider.issuer}, client_id: ${demoConsoleClientId}, audience: [${demoConsoleClientId}, ${audience}] }
limits: { drainMsMax: 2s }
`,
  )
  return path
}

/** The port, or the next one that nobody listens on. */
async function freeFrom(first: number): Promise<number> {
  for (let port = first; port < Math.min(first + 100, 65_536); port++) {
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer()
      probe.once('error', () => resolve(false))
      probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)))
    })
    if (free) return port
  }
  return 0
}
