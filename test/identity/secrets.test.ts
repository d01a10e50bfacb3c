/**
 * Nothing secret is written anywhere: passwords, tokens, verifiers' keys. Everything a regate of its
 * own writes (log, audit, its directory) and everything a client is told during logins that succeed
 * and fail is searched for them.
 */
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import pg from 'pg'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRuntime, type Runtime } from '../../src/commands/runtime.ts'
import { loadConfiguration } from '../../src/config/config.ts'
import { startDemoProvider, type DemoProvider } from '../../src/commands/demo/oidc-provider.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { writeProxyFiles } from '../support/proxy.ts'
import { errorOf, RawClient } from './support/raw.ts'

const localPassword = 'local-pässword-4711'
const upstreamPassword = 'upstream-secret-0815'
const clientSecret = 'client-secret-2342'

let provider: DemoProvider
let postgres: TestPostgres
let proxy: Runtime
let directory: string
let written = ''
const told: string[] = []
const tokens: string[] = []

beforeAll(async () => {
  provider = await startDemoProvider({
    accounts: [{ id: 'dora', name: 'Dora', email: 'dora@shop.example', groups: ['admins'] }],
    machines: [{ id: 'robot', secret: clientSecret, groups: ['admins'] }],
    audience: 'regate',
  })
  postgres = await startPostgres()
  await execute(postgres, `CREATE ROLE app LOGIN PASSWORD '${upstreamPassword}'`)
  const oidc = { method: 'oidc', issuer: provider.issuer, audience: 'regate' }
  const files = await writeProxyFiles(postgres, {
    upstream: { user: 'app', password: upstreamPassword },
    users: { ann: { password: localPassword, groups: ['admins'] } },
    configuration: {
      authentication: [
        { ...oidc, match: { user: 'dora' } },
        { ...oidc, flow: 'sasl', match: { user: 'device' } },
        {
          ...oidc,
          match: { user: 'asked' },
          introspection: { client_id: 'robot', client_secret_env: 'REGATE_TEST_CLIENT_SECRET' },
        },
        { method: 'scram', users: 'users.yaml' },
      ],
    },
  })
  directory = files.directory
  const environment = { ...files.environment, REGATE_TEST_CLIENT_SECRET: clientSecret }
  const loaded = await loadConfiguration(files.path, environment)
  if (loaded.kind === 'errors') throw new Error(JSON.stringify(loaded.errors))
  const stream = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      written += chunk.toString()
      done()
    },
  })
  const log = pino({ level: 'trace' }, stream)
  proxy = await startRuntime({ configuration: loaded.configuration, environment, log })
}, 120_000)

afterAll(async () => {
  await proxy.stop()
  rmSync(directory, { recursive: true, force: true })
  await postgres.stop()
  await provider.stop()
})

async function login(user: string, password: string, query = 'SELECT 1'): Promise<void> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port: proxy.port,
    user,
    password,
    database: 'postgres',
  })
  client.on('error', (error) => told.push(JSON.stringify(error) + error.message))
  try {
    await client.connect()
    await client.query(query)
    told.push('ok')
  } catch (error) {
    told.push(JSON.stringify(error) + String(error))
  } finally {
    await client.end().catch(() => undefined)
  }
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory).flatMap((name) => {
    const path = join(directory, name)
    return statSync(path).isDirectory() ? filesBelow(path) : [path]
  })
}

describe('secrets', () => {
  it('are in no log, error, audit record, file or process title', async () => {
    const good = await provider.tokenOf('dora')
    const bad = good.slice(0, -6) + 'AAAAAA'
    tokens.push(good, bad)
    await login('dora', good)
    await login('dora', bad)
    await login('asked', good)
    await login('ann', localPassword)
    await login('ann', `${localPassword}-wrong`)
    await login('ghost', localPassword)
    const raw = await RawClient.connect(proxy.port)
    raw.startup('device')
    await raw.next()
    raw.sasl('OAUTHBEARER', `n,,\\x01auth=Bearer ${good}\\x01\\x01`)
    told.push(errorOf(await raw.next()))
    raw.close()
    const again = await RawClient.connect(proxy.port)
    again.startup('device')
    await again.next()
    again.sasl('OAUTHBEARER', `n,,\x01auth=Bearer ${good}\x01x\x01`)
    told.push(errorOf(await again.next()))
    again.close()
    const metrics = await (await fetch(`${proxy.adminUrl}/metrics`)).text()
    const sessions = await (await fetch(`${proxy.adminUrl}/v1/sessions`)).text()
    // The token's own file of users has verifiers, which are secret too but belong there.
    const files = filesBelow(directory).filter((path) => !path.endsWith('users.yaml'))
    const everything = [
      written,
      ...told,
      metrics,
      sessions,
      process.title,
      postgres.log(),
      ...files.map((path) => readFileSync(path, 'utf8')),
    ].join('\n')
    expect(told.filter((said) => said === 'ok').length).toBeGreaterThanOrEqual(2)
    expect(written).toContain('client refused')
    expect(everything.length).toBeGreaterThan(1_000)
    const [, payload = '', signature = ''] = good.split('.')
    const verifiers = readFileSync(join(directory, 'users.yaml'), 'utf8')
    const [, stored = '', server = ''] =
      /\$([A-Za-z0-9+/=]{44}):([A-Za-z0-9+/=]{44})/.exec(verifiers) ?? []
    expect(stored).not.toBe('')
    for (const secret of [
      ...[good, bad, payload, signature, localPassword, clientSecret, stored, server],
      // The role's password was set by a statement of the test's own, so the server's log has it.
    ]) {
      expect(everything.includes(secret)).toBe(false)
    }
    const withoutServerLog = everything.replace(postgres.log(), '')
    expect(withoutServerLog.includes(upstreamPassword)).toBe(false)
  })
})
