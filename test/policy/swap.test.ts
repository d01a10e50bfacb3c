/**
 * The short version of `npm run test:swap`: policies swapped under load. No statement fails, none is
 * judged by a revision that was not active, nothing flawed becomes active. Time is not asserted.
 */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import {
  auditedRevisions,
  makeBundles,
  pgbench,
  preparePgbench,
  startBundleServer,
  swapConfiguration,
  Swapper,
  type Bundles,
  type BundleServer,
} from './support/swaps.ts'

let postgres: TestPostgres
let bundles: Bundles
let server: BundleServer
let proxy: ProxyInProcess

beforeAll(async () => {
  postgres = await startPostgres({ settings: { log_statement: 'none' } })
  await preparePgbench(postgres)
  bundles = await makeBundles()
  server = await startBundleServer(bundles.good.get('a') ?? Buffer.alloc(0))
  proxy = await startProxy(postgres, { configuration: swapConfiguration(bundles, server) })
}, 120_000)

afterAll(async () => {
  await proxy?.stop()
  server.stop()
  bundles.remove()
  await postgres.stop()
})

it('swaps under load: no failed statement, none judged by what was not active', async () => {
  const load = pgbench(proxy.port, 'ann', { clients: 8, seconds: 6 })
  const swapper = new Swapper(bundles, server, proxy.adminUrl)
  const done = await swapper.run({ perMinute: 200, seconds: 5 })
  const { failed, transactions, output } = await load
  expect(failed, output).toBe(0)
  expect(transactions.length).toBeGreaterThan(0)
  expect(done.activated).toBeGreaterThanOrEqual(3)
  expect(done.refused).toBeGreaterThanOrEqual(3)
  await proxy.runtime.stop()
  const audited = auditedRevisions(join(proxy.directory, 'audit'))
  expect(audited.wrong).toEqual([])
  expect(audited.statements).toBeGreaterThanOrEqual(transactions.length)
  expect(audited.refused).toBe(0)
  // The first one became active when it began to listen.
  expect(audited.activations).toBe(done.activated + 1)
  expect([...audited.byRevision.keys()].sort()).toEqual(['a', 'b'])
}, 60_000)
