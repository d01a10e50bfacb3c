/** A session ends with its token or by revocation: what the client sees, at every point of its life. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { importJWK, SignJWT, type JWK } from 'jose'
import pg from 'pg'
import {
  makeSigningKey,
  startDemoProvider,
  type DemoProvider,
} from '../../src/commands/demo/oidc-provider.ts'
import { encodeQuery, written } from '../../src/wire/wire.ts'
import { errorOf, RawClient } from './support/raw.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

let provider: DemoProvider
let postgres: TestPostgres
let proxy: ProxyInProcess
let key: JWK
const clients: pg.Client[] = []

beforeAll(async () => {
  key = await makeSigningKey('k1')
  provider = await startDemoProvider({
    accounts: [{ id: 'dora', name: 'Dora', email: 'dora@shop.example', groups: ['admins'] }],
    machines: [],
    audience: 'regate',
    keys: [key],
  })
  postgres = await startPostgres()
  proxy = await startProxy(postgres, {
    limits: { endingMsMax: 1_500 },
    configuration: {
      authentication: [
        {
          ...{ method: 'oidc', issuer: provider.issuer, audience: 'regate' },
          ...{ clock_skew: '60s', expiry_grace: '20s', match: { user: 'skewed' } },
        },
        {
          ...{ method: 'oidc', issuer: provider.issuer, audience: 'regate' },
          ...{ clock_skew: '0s', expiry_grace: '0s' },
        },
      ],
    },
  })
}, 120_000)
afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
  await provider.stop()
})
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.end().catch(() => undefined)))
})

interface Session {
  readonly client: pg.Client
  /** SQLSTATE and message of what ended it. */
  readonly ended: Promise<string>
}

async function tokenFor(seconds: number, claims: Record<string, unknown> = {}): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  return new SignJWT({ groups: ['admins'], ...claims })
    .setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'at+jwt' })
    .setIssuer(provider.issuer)
    .setAudience('regate')
    .setSubject('dora')
    .setIssuedAt(now)
    .setExpirationTime(now + seconds)
    .sign(await importJWK(key, 'ES256'))
}

async function open(password: string, user = 'dora'): Promise<Session> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port: proxy.port,
    user,
    database: 'postgres',
    password,
  })
  clients.push(client)
  const ended = new Promise<string>((resolve) => {
    client.on('error', (error) => {
      const { code, message } = error as { code?: string; message: string }
      resolve(`${code ?? ''} ${message}`)
    })
  })
  await client.connect()
  return { client, ended }
}

async function one(client: pg.Client, text: string): Promise<unknown> {
  const { rows } = await client.query<{ value: unknown }>(text)
  return rows[0]?.value
}

async function failure(promise: Promise<unknown>): Promise<string> {
  try {
    return `no error but ${JSON.stringify(await promise)}`
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    return `${code ?? ''} ${message}`
  }
}

const byToken = /^57P01 the session ended with its token/
const revoked = /^57P01 the session was revoked/

describe('a token that expires', () => {
  it('ends an idle session, and a new token begins a new one', async () => {
    const { client, ended } = await open(await tokenFor(5))
    expect(await one(client, "SELECT current_setting('application_name') AS value")).toMatch(
      /^dora/,
    )
    expect(await ended).toMatch(byToken)
    const again = await open(await tokenFor(60))
    expect(await one(again.client, 'SELECT 1 AS value')).toBe(1)
  })

  it('ends a session in the middle of a transaction, which rolls back', async () => {
    const admin = await open(await tokenFor(60))
    await admin.client.query('DROP TABLE IF EXISTS expiring')
    await admin.client.query('CREATE TABLE expiring (v int)')
    const { client, ended } = await open(await tokenFor(5))
    await client.query('BEGIN')
    await client.query('INSERT INTO expiring VALUES (1)')
    expect(await ended).toMatch(byToken)
    expect(await one(admin.client, 'SELECT count(*)::int AS value FROM expiring')).toBe(0)
  })

  it('lets a statement that runs end, and its result arrive whole', async () => {
    const { client, ended } = await open(await tokenFor(4))
    const value = await one(
      client,
      "SELECT length(string_agg(x, '')) AS value FROM (SELECT repeat('x', 1000) AS x, pg_sleep(0.025) FROM generate_series(1, 180)) t",
    )
    expect(value).toBe(180_000)
    expect(await ended).toMatch(byToken)
  })

  it.each([
    ['comes whole where it ends soon', 8, true],
    ['is cut off where it does not', 200, false],
  ])(
    'in the middle of a result, which %s',
    async (_name, rowCount, whole) => {
      const client = await RawClient.connect(proxy.port)
      client.startup('dora', { database: 'postgres' })
      await client.next()
      const endsMs = (Math.floor(Date.now() / 1000) + 4) * 1000
      client.password(await tokenFor(4))
      while ((await client.next()).kind !== 'other');
      // Each row is more than the server's buffer, so that it leaves when it is there.
      const untilEnd = `extract(epoch FROM to_timestamp(${endsMs / 1000}) - clock_timestamp()) - 0.3`
      const pause = `CASE i WHEN 1 THEN greatest(0, ${untilEnd}) ELSE 0.1 END`
      const rows = `SELECT repeat('x', 20000), pg_sleep(${pause}) FROM generate_series(1, ${rowCount}) AS i`
      client.send(
        written((writer) => {
          encodeQuery(writer, rows)
        }),
      )
      const said: string[] = []
      let lateCount = 0
      for (;;) {
        const next = await client.next()
        if (next.kind === 'closed') break
        if (next.kind === 'error') said.push(errorOf(next))
        else if (next.kind === 'other') {
          said.push(next.type)
          if (next.type === 'D' && Date.now() > endsMs) lateCount++
        }
      }
      const rowsSeen = said.filter((type) => type === 'D').length
      expect(lateCount).toBeGreaterThan(0)
      expect(said.at(-1)).toMatch(byToken)
      if (whole) expect(rowsSeen).toBe(rowCount)
      else expect(rowsSeen).toBeLessThan(rowCount)
      expect(said.includes('C')).toBe(whole)
    },
    30_000,
  )

  it('does not let one statement outlive it by more than the limit', async () => {
    const { client } = await open(await tokenFor(4))
    const began = Date.now()
    expect(await failure(client.query('SELECT pg_sleep(60)'))).toMatch(byToken)
    expect(Date.now() - began).toBeLessThan(30_000)
    const watcher = await open(await tokenFor(60))
    await expect
      .poll(() =>
        one(
          watcher.client,
          "SELECT count(*)::int AS value FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' AND state = 'active'",
        ),
      )
      .toBe(0)
  })

  it('lets in by a clock that is behind, as far as the entry says, until the grace is over', async () => {
    const expired = await tokenFor(-10)
    expect(await failure(open(expired))).toBe('28P01 authentication failed for user "dora"')
    const { client, ended } = await open(expired, 'skewed')
    expect(await one(client, 'SELECT 1 AS value')).toBe(1)
    expect(await ended).toMatch(byToken)
    expect(await failure(open(await tokenFor(-70), 'skewed'))).toBe(
      '28P01 authentication failed for user "skewed"',
    )
  })

  it('ends a session that is never idle', async () => {
    const client = await RawClient.connect(proxy.port)
    client.startup('dora', { database: 'postgres' })
    await client.next()
    client.password(await tokenFor(5))
    const query = written((writer) => {
      encodeQuery(writer, 'SELECT 1')
    })
    const began = Date.now()
    let completed = -1
    for (;;) {
      const said = await client.next()
      if (said.kind === 'error') {
        expect(errorOf(said)).toMatch(byToken)
        break
      }
      if (said.kind === 'closed') throw new Error('closed without a word')
      if (said.kind !== 'other' || said.type !== 'Z') continue
      // Always twenty in flight: the session is never quiet by itself.
      if (completed === -1) for (let index = 0; index < 19; index++) client.send(query)
      completed++
      client.send(query)
    }
    expect(completed).toBeGreaterThan(100)
    expect(Date.now() - began).toBeLessThan(30_000)
    expect(await client.next()).toEqual({ kind: 'closed' })
  })
})

describe('revocation', () => {
  const api = (path: string, method = 'GET', body?: unknown): Promise<Response> =>
    fetch(`${proxy.adminUrl}${path}`, {
      method,
      headers: { 'content-type': 'application/json' },
      ...(method === 'GET' ? {} : { body: JSON.stringify(body ?? {}) }),
    })

  it('of a subject counts for the very next statement, and for tokens issued before', async () => {
    const token = await tokenFor(60)
    const { client, ended } = await open(token)
    expect(await one(client, 'SELECT 1 AS value')).toBe(1)
    expect((await api('/v1/revocations', 'POST', { subject: 'dora' })).status).toBe(201)
    expect(await failure(client.query('SELECT 2 AS never'))).not.toContain('no error')
    expect(await ended).toMatch(revoked)
    expect(await failure(open(token))).toBe('28P01 authentication failed for user "dora"')
    expect(postgres.log()).not.toContain('SELECT 2 AS never')
    expect(await (await api('/v1/revocations')).json()).toMatchObject({
      revocations: [{ subject: 'dora', until: null }],
    })
    expect((await api('/v1/revocations/dora', 'DELETE')).status).toBe(200)
    await open(token)
  })

  it('of a session ends that one and no other', async () => {
    const one1 = await open(await tokenFor(60))
    const two = await open(await tokenFor(60))
    const { sessions } = (await (await api('/v1/sessions')).json()) as {
      sessions: { id: string; process_id: number; identity: { subject: string } }[]
    }
    const pid = await one(one1.client, 'SELECT pg_backend_pid() AS value')
    const mine = sessions.find((session) => session.process_id === pid)
    expect(mine?.identity.subject).toBe('dora')
    expect(JSON.stringify(sessions)).not.toContain('jti')
    expect((await api(`/v1/sessions/${mine?.id ?? ''}`, 'DELETE')).status).toBe(202)
    expect(await one1.ended).toMatch(revoked)
    expect(await one(two.client, 'SELECT 1 AS value')).toBe(1)
    expect((await api('/v1/sessions/nobody', 'DELETE')).status).toBe(404)
    expect((await api('/v1/revocations', 'POST', { subject: '' })).status).toBe(400)
    expect((await api('/v1/revocations', 'POST', { subject: 'x', forever: true })).status).toBe(400)
  })
})
