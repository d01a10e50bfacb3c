/**
 * What clients see of an issuer's life, through a whole regate and a real provider: its keys change,
 * a key is withdrawn, it goes away and comes back. Sessions that run are not touched by any of it.
 */
import pg from 'pg'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { SignJWT, importJWK, type JWK } from 'jose'
import {
  makeSigningKey,
  startDemoProvider,
  type DemoProvider,
} from '../../src/commands/demo/oidc-provider.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

const refused = '28P01 authentication failed for user "dora"'
let provider: DemoProvider
let postgres: TestPostgres
let proxy: ProxyInProcess
let first: JWK
let second: JWK
const clients: pg.Client[] = []

beforeAll(async () => {
  first = await makeSigningKey('first')
  second = await makeSigningKey('second')
  provider = await providerWith([first])
  postgres = await startPostgres()
  proxy = await startProxy(postgres, {
    // What is tried again and again until the keys were fetched is no guessing.
    limits: { failedAttemptsPerSourceAndUserMax: 10_000, failedAttemptsPerSourceMax: 10_000 },
    configuration: {
      authentication: [
        {
          ...{ method: 'oidc', issuer: provider.issuer, audience: 'regate' },
          ...{ jwks_max_age: '1s', jwks_stale: '1h' },
        },
      ],
    },
  })
}, 120_000)
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.end().catch(() => undefined)))
})
afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
  await provider.stop()
})

/** The provider with other keys is the same issuer: it comes back at its port. */
function providerWith(keys: readonly JWK[], port = 0): Promise<DemoProvider> {
  return startDemoProvider({
    accounts: [{ id: 'dora', name: 'Dora', email: 'dora@shop.example', groups: ['admins'] }],
    machines: [],
    audience: 'regate',
    ...{ keys, port },
  })
}

async function restartWith(keys: readonly JWK[]): Promise<void> {
  const { port } = provider
  await provider.stop()
  provider = await providerWith(keys, port)
}

async function open(token: string): Promise<pg.Client> {
  const client = new pg.Client({
    ...{ host: '127.0.0.1', port: proxy.port, user: 'dora', password: token, database: 'postgres' },
  })
  client.on('error', () => undefined)
  clients.push(client)
  await client.connect()
  return client
}

/** What a login with the token comes to: `in`, or SQLSTATE and message. */
async function outcome(token: string): Promise<string> {
  try {
    await open(token)
    return 'in'
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    return `${code ?? ''} ${message}`
  }
}

async function one(client: pg.Client): Promise<unknown> {
  return (await client.query<{ value: number }>('SELECT 1 AS value')).rows[0]?.value
}

async function forgedBy(key: JWK): Promise<string> {
  return new SignJWT({ groups: ['admins'] })
    .setProtectedHeader({ alg: 'ES256', kid: String(key.kid), typ: 'at+jwt' })
    .setIssuer(provider.issuer)
    .setAudience('regate')
    .setSubject('dora')
    .setIssuedAt()
    .setExpirationTime('5m')
    .sign(await importJWK(key, 'ES256'))
}

/** Keys are fetched at most every five seconds. */
const soon = { timeout: 30_000, interval: 500 }

it('a key that is new is taken over, the one before counts while it is published', async () => {
  const before = await provider.tokenOf('dora')
  const session = await open(before)
  await restartWith([second, first])
  const after = await provider.tokenOf('dora')
  await expect.poll(() => outcome(after), soon).toBe('in')
  expect(await outcome(before)).toBe('in')
  expect(await one(session)).toBe(1)
}, 60_000)

it('a key that was withdrawn counts no more; a session that it let in goes on', async () => {
  const before = await forgedBy(first)
  const session = await open(before)
  await restartWith([second])
  await expect.poll(() => outcome(before), soon).toBe(refused)
  expect(await outcome(await provider.tokenOf('dora'))).toBe('in')
  expect(await one(session)).toBe(1)
}, 60_000)

it('while it is away, known keys count and unknown ones do not; then it is there again', async () => {
  const token = await provider.tokenOf('dora')
  const session = await open(token)
  await session.query('BEGIN')
  const { port } = provider
  await provider.stop()
  expect(await outcome(token)).toBe('in')
  const third = await makeSigningKey('third')
  const unknown = await forgedBy(third)
  expect(await outcome(unknown)).toBe(refused)
  expect(await one(session)).toBe(1)
  await session.query('COMMIT')
  provider = await providerWith([third], port)
  await expect.poll(() => outcome(unknown), soon).toBe('in')
}, 60_000)
