/** What somebody does who may not come in, or cannot get on, keeps nobody else out. */
import net, { type AddressInfo } from 'node:net'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { streamFrom } from '../support/source.ts'

const unauthenticatedMax = 20
const upstreamLoginCountMax = 4
const failedAttemptsPerUserMax = 40
const sessionsPerSubjectMax = 50
const password = 'pw-alice-77'

let postgres: TestPostgres
let proxy: ProxyInProcess
/** Accepts, and never says a word. */
let silent: net.Server

beforeAll(async () => {
  postgres = await startPostgres()
  silent = net.createServer((socket) => socket.on('error', () => undefined))
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  const upstream = (port: number) => ({ host: '127.0.0.1', port, tls: { mode: 'disable' } })
  const roles = { default: { user: postgres.user, password_env: 'TEST_PASSWORD_DEFAULT' } }
  proxy = await startProxy(postgres, {
    users: {
      alice: { password, groups: ['admins'] },
      bob: { password, groups: ['admins'] },
    },
    limits: {
      ...{ unauthenticatedMax, upstreamLoginCountMax, failedAttemptsPerUserMax },
      sessionsPerSubjectMax,
      // A stop waits for who is connecting.
      upstreamConnectMsMax: 4_000,
    },
    configuration: {
      databases: {
        postgres: { upstream: upstream(postgres.port), roles },
        dead: { upstream: upstream((silent.address() as AddressInfo).port), roles },
      },
    },
  })
}, 120_000)
afterAll(async () => {
  await proxy.stop()
  silent.close()
  await postgres.stop()
})

/** The client where it got in, else the SQLSTATE. */
async function login(database: string, pass: string, from = '127.0.0.1') {
  const connectionString = proxy.url(database, 'alice', pass)
  const client = new pg.Client({ connectionString, stream: streamFrom(from) })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return client
  } catch (error) {
    return (error as pg.DatabaseError).code
  }
}

async function expectLogin(from?: string): Promise<void> {
  const client = await login('postgres', password, from)
  if (!(client instanceof pg.Client)) throw new Error(`refused: ${String(client)}`)
  await client.end()
}

it('a server that is not there: logins that wait for it hold no place of others', async () => {
  const waiting: net.Socket[] = []
  while (waiting.length < 2 * unauthenticatedMax) {
    for (let n = 0; n < unauthenticatedMax / 2; n++) {
      const connectionString = proxy.url('dead', 'alice', password)
      const socket = new net.Socket()
      const client = new pg.Client({ connectionString, stream: () => socket })
      client.on('error', () => undefined)
      client.connect().catch(() => undefined)
      waiting.push(socket)
    }
    await expectLogin()
  }
  const served = await new Promise<number>((resolve) =>
    silent.getConnections((_, count) => resolve(count)),
  )
  expect(served).toBe(upstreamLoginCountMax)
  for (const socket of waiting) socket.destroy()
})

it('sessions of one subject: it has as many as it may, others have theirs', async () => {
  const open: pg.Client[] = []
  const client = () => new pg.Client({ connectionString: proxy.url('postgres', 'alice', password) })
  while (open.length < sessionsPerSubjectMax) {
    const one = client()
    await one.connect()
    open.push(one)
  }
  await expect(client().connect()).rejects.toMatchObject({
    code: '53300',
    message: 'too many connections for "alice"',
  })
  const other = new pg.Client({ connectionString: proxy.url('postgres', 'bob', password) })
  await other.connect()
  await other.end()
  await open.pop()?.end()
  await expect.poll(() => login('postgres', password)).toBeInstanceOf(pg.Client)
  for (const one of open) await one.end()
})

it('guesses from one address: the user comes in from another', async () => {
  for (let round = 0; round < 3; round++) {
    const guesses = Array.from({ length: unauthenticatedMax - 1 }, () =>
      login('postgres', 'a guess', '127.0.0.3'),
    )
    expect(new Set(await Promise.all(guesses))).toEqual(new Set(['28P01']))
  }
  expect(await login('postgres', password, '127.0.0.3')).toBe('28P01')
  await expectLogin('127.0.0.4')
})
