/**
 * Clients that are gone in the middle of a login, or right behind it: nothing of them stays, neither a
 * session nor a connection upstream.
 */
import { setTimeout as delay } from 'node:timers/promises'
import net from 'node:net'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

let postgres: TestPostgres
let direct: pg.Client

beforeAll(async () => {
  postgres = await startPostgres()
  direct = new pg.Client({ connectionString: postgres.url() })
  await direct.connect()
}, 120_000)
afterAll(async () => {
  await direct.end()
  await postgres.stop()
})

function startupMessage(user: string): Buffer {
  const body = Buffer.from(`user\0${user}\0database\0postgres\0\0`)
  const head = Buffer.alloc(8)
  head.writeUInt32BE(head.length + body.length, 0)
  head.writeUInt32BE(196_608, 4)
  return Buffer.concat([head, body])
}

/** Logs in by trust and resets the connection so many ms after its first message. */
async function loginThatIsReset(port: number, ms: number): Promise<void> {
  const socket = net.connect({ host: '127.0.0.1', port })
  socket.on('error', () => undefined)
  const closed = new Promise((resolve) => socket.once('close', resolve))
  await new Promise((resolve) => socket.once('connect', resolve))
  socket.write(startupMessage('ann'))
  await delay(ms)
  socket.resetAndDestroy()
  await closed
}

async function upstreamCount(): Promise<number> {
  const { rows } = await direct.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM pg_stat_activity
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
       AND application_name <> 'regate catalog'`,
  )
  return rows[0]?.count ?? -1
}

/** The first meet the catalog while it is read, which takes long; later ones any other step. */
async function resets(proxy: ProxyInProcess): Promise<void> {
  await Promise.all([10, 30, 50, 70, 90].map((ms) => loginThatIsReset(proxy.port, ms)))
  for (let round = 0; round < 40; round++) {
    const logins = Array.from({ length: 20 }, (_, index) =>
      loginThatIsReset(proxy.port, (round % 4) + index / 8),
    )
    await Promise.all(logins)
  }
}

it.each(['batch', 'always'] as const)('leaves nothing, with fsync: %s', async (fsync) => {
  const proxy = await startProxy(postgres, {
    users: { ann: { groups: ['admins'] } },
    configuration: { audit: { fsync } },
  })
  try {
    await resets(proxy)
    const sessions = async (): Promise<unknown> =>
      ((await (await fetch(`${proxy.adminUrl}/v1/sessions`)).json()) as Record<string, unknown>)[
        'sessions'
      ]
    await expect.poll(sessions, { timeout: 5_000 }).toEqual([])
    await expect.poll(upstreamCount, { timeout: 5_000 }).toBe(0)
    const client = new pg.Client({ connectionString: proxy.url('postgres', 'ann') })
    await client.connect()
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    await client.end()
  } finally {
    await proxy.stop()
  }
})
