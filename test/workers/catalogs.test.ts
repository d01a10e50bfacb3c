/** regate's own connection to a database is no reason why the database cannot be dropped or copied. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { failureOf, openClient } from './support.ts'

// Processes are started and ended: that takes its time on a loaded machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 })

let postgres: TestPostgres
let proxy: ProxyInProcess

beforeAll(async () => {
  postgres = await startPostgres()
  proxy = await startProxy(postgres)
}, 120_000)

afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
})

it('a database that was used a moment ago is copied and dropped through regate', async () => {
  const main = await openClient(proxy.url('postgres', 'postgres'))
  await main.query('CREATE DATABASE passing')
  const inside = await openClient(proxy.url('passing', 'postgres'))
  await inside.query('CREATE TABLE t (id int)')
  expect((await inside.query('SELECT id FROM t')).rows).toEqual([])
  await inside.end()
  expect(await failureOf(main.query('CREATE DATABASE copied TEMPLATE passing'))).toBe('none')
  expect(await failureOf(main.query('DROP DATABASE passing'))).toBe('none')
  // And one that was never left: that is the server's own refusal.
  const stays = await openClient(proxy.url('copied', 'postgres'))
  expect((await stays.query('SELECT id FROM t')).rows).toEqual([])
  expect(await failureOf(main.query('DROP DATABASE copied'))).toBe('55006')
  // The session that stayed is served as before, its catalog too.
  await stays.query('CREATE TABLE later (id int)')
  expect((await stays.query('SELECT id FROM later')).rows).toEqual([])
  await stays.end()
  await main.end()
})

it('a database that is used again after a rest is looked at again', async () => {
  const main = await openClient(proxy.url('postgres', 'postgres'))
  await main.query('CREATE DATABASE resting')
  const first = await openClient(proxy.url('resting', 'postgres'))
  await first.query('CREATE TABLE before (id int)')
  expect((await first.query('SELECT id FROM before')).rows).toEqual([])
  await first.end()
  const direct = await openClient(postgres.url('resting'))
  await direct.query('CREATE TABLE meanwhile (id int)')
  await direct.end()
  const again = await openClient(proxy.url('resting', 'postgres'))
  expect((await again.query('SELECT id FROM meanwhile')).rows).toEqual([])
  await again.end()
  expect(await failureOf(main.query('DROP DATABASE resting'))).toBe('none')
  await main.end()
})
