/** One client that sends very much at once shares the event loop with the others. */
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { encodeQuery, written } from '../../src/wire/wire.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { serveProxy, type ProxyChild } from '../support/proxy.ts'
import { WireClient } from './refusals-client.ts'

let server: TestPostgres
let proxy: ProxyChild

beforeAll(async () => {
  server = await startPostgres({ settings: { log_statement: 'none' } })
  await execute(server, 'CREATE TABLE held (a int)')
  // A process of its own: here only its answers are waited for.
  proxy = await serveProxy(server)
}, 120_000)

afterAll(async () => {
  await proxy.stop()
  await server.stop()
})

it('texts that were kept behind a wait are judged a few at a time', async () => {
  const locker = new pg.Client({ connectionString: server.url() })
  const other = new pg.Client({ connectionString: proxy.url('postgres', 'bob') })
  await Promise.all([locker.connect(), other.connect()])
  await locker.query('BEGIN; LOCK TABLE held')
  const client = await WireClient.connect(proxy.url('postgres', 'anna'))
  client.socket.removeAllListeners('data')
  client.socket.on('data', () => undefined)
  // Each is new; together they take seconds.
  client.socket.write(
    written((to) => {
      encodeQuery(to, 'ALTER TABLE held ADD COLUMN b int')
      for (let at = 0; at < 60_000; at++) encodeQuery(to, `SELECT ${at} AS a${at}`)
    }),
  )
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  await other.query('SELECT 1')
  await locker.query('ROLLBACK')
  const durations: number[] = []
  for (const until = Date.now() + 3_000; Date.now() < until;) {
    const started = performance.now()
    await other.query('SELECT 1')
    durations.push(performance.now() - started)
  }
  await client.close()
  await Promise.all([locker.end(), other.end()])
  // Before there was one of 600 ms and more.
  expect(Math.max(...durations)).toBeLessThan(350)
}, 60_000)
