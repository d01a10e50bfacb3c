/** What a worker, or the primary, takes with it when it ends: its own and nothing else. */
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import type { ProxyChild } from '../support/proxy.ts'
import {
  admin,
  clientsOnAll,
  endAll,
  failureOf,
  Load,
  openClient,
  serveWorkers,
  until,
  workersOf,
} from './support.ts'

// Processes are started and ended: that takes its time on a loaded machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 })

let postgres: TestPostgres
let proxy: ProxyChild

beforeAll(async () => {
  postgres = await startPostgres()
  proxy = await serveWorkers(postgres)
})

afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
})

/** Of /metrics. */
async function crashCount(): Promise<number> {
  const { text } = await admin(proxy, 'GET', '/metrics')
  return Number(/^regate_worker_crashes_total (\d+)$/m.exec(text)?.[1])
}

/** Server-side processes of the given statement that still run. */
async function activeCount(statement: string): Promise<number> {
  const { rows } = await execute(
    postgres,
    `SELECT count(*)::int AS n FROM pg_stat_activity WHERE state = 'active' AND query = '${statement}'`,
  )
  return (rows[0] as { n: number }).n
}

it('a worker that is killed takes its own sessions, cancels what they ran, and comes back', async () => {
  const url = proxy.url('postgres', 'postgres')
  const crashed = await crashCount()
  const clients = await clientsOnAll(proxy, url)
  const sleepers = await clientsOnAll(proxy, url)
  const slept = sleepers.map((client) => failureOf(client.query('SELECT pg_sleep(301)')))
  await until('the sleepers sleep', async () => {
    return (await activeCount('SELECT pg_sleep(301)')) === sleepers.length
  })
  const loads = clients.map((client) => new Load(client))
  await until('the load runs', () => loads.every(({ count }) => count > 20))
  const [victim, other] = await workersOf(proxy)
  if (victim === undefined || other === undefined) throw new Error('two workers are expected')
  const lost = victim.sessions
  process.kill(victim.pid, 'SIGKILL')
  await until('another worker takes its place', async () => {
    const workers = await workersOf(proxy)
    return (
      workers.filter(({ state, pid }) => state === 'running' && pid !== victim.pid).length === 2
    )
  })
  const before = loads.map(({ count }) => count)
  await until('the others go on', () => {
    return loads.every((load, index) => {
      return load.failures.length > 0 || load.count > (before[index] ?? 0) + 20
    })
  })
  await Promise.all(loads.map((load) => load.stop()))
  const failed = loads.filter(({ failures }) => failures.length > 0).length
  await until('what the dead sessions ran is cancelled', async () => {
    return (await activeCount('SELECT pg_sleep(301)')) < sleepers.length
  })
  const stillAsleep = await activeCount('SELECT pg_sleep(301)')
  // Each session was the victim's or the other's: no more is lost than the victim had.
  expect(failed + sleepers.length - stillAsleep).toBe(lost)
  expect(stillAsleep).toBeGreaterThan(0)
  const newcomer = await openClient(url)
  expect(await failureOf(newcomer.query('SELECT 1'))).toBe('none')
  expect(await crashCount()).toBe(crashed + 1)
  await execute(
    postgres,
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(301)'",
  )
  await Promise.all(slept)
  await endAll([newcomer, ...clients, ...sleepers])
})

it('workers are replaced under load without one failed statement or refused client', async () => {
  const url = proxy.url('postgres', 'postgres')
  const crashed = await crashCount()
  const clients = await clientsOnAll(proxy, url)
  const loads = clients.map((client) => new Load(client))
  let comings = 0
  const refused: string[] = []
  let rolling = true
  const comers = (async () => {
    while (rolling) {
      const failure = await failureOf(
        openClient(url).then(async (client) => {
          await client.query('SELECT 1')
          await client.end()
        }),
      )
      if (failure !== 'none') refused.push(failure)
      comings++
    }
  })()
  const old = (await workersOf(proxy)).map(({ pid }) => pid)
  expect((await admin(proxy, 'POST', '/v1/workers/reload')).status).toBe(200)
  const workers = await workersOf(proxy)
  const serving = workers.filter(({ state }) => state === 'running')
  expect(serving).toHaveLength(2)
  expect(serving.some(({ pid }) => old.includes(pid))).toBe(false)
  // The open sessions stay where they are.
  expect(workers.filter(({ state }) => state === 'retiring')).toHaveLength(2)
  const before = loads.map(({ count }) => count)
  await until('the load goes on', () => {
    return loads.every(({ count }, index) => count > (before[index] ?? 0) + 20)
  })
  rolling = false
  await comers
  await Promise.all(loads.map((load) => load.stop()))
  expect(loads.flatMap(({ failures }) => failures)).toEqual([])
  expect(refused).toEqual([])
  expect(comings).toBeGreaterThan(0)
  await endAll(clients)
  await until('the old workers end with their sessions', async () => {
    return (await workersOf(proxy)).length === 2
  })
  expect(await crashCount()).toBe(crashed)
})

it('a worker that keeps dying makes readiness fail, until it lives', async () => {
  let said = ''
  const ready = async (): Promise<number> => {
    const { status, text } = await admin(proxy, 'GET', '/readyz')
    said = text
    return status
  }
  await until('it is ready', async () => (await ready()) === 200)
  // Always whoever has the one place; the other's worker is left alone.
  const [survivor] = await workersOf(proxy)
  const victims = new Set<number>()
  await until('readiness fails', async () => {
    const target = (await workersOf(proxy)).find(({ state, pid }) => {
      return state === 'running' && pid !== survivor?.pid && !victims.has(pid)
    })
    if (target !== undefined) {
      victims.add(target.pid)
      process.kill(target.pid, 'SIGKILL')
    }
    return (await ready()) === 503
  })
  expect(victims.size).toBeGreaterThanOrEqual(3)
  expect(said).toMatch(/w\d+ ended by SIGKILL/)
  // The other worker serves all the while.
  const client = await openClient(proxy.url('postgres', 'postgres'))
  expect(await failureOf(client.query('SELECT 1'))).toBe('none')
  await client.end()
  await until('it is ready again', async () => (await ready()) === 200)
})

it('when the primary dies its workers go on with their sessions, then end', async () => {
  const dying = await serveWorkers(postgres)
  const url = dying.url('postgres', 'postgres')
  const clients = await clientsOnAll(dying, url)
  const pids = (await workersOf(dying)).map(({ pid }) => pid)
  dying.child.kill('SIGKILL')
  await until('the primary is gone', () => dying.child.signalCode !== null)
  for (const client of clients) {
    expect(await failureOf(client.query('SELECT 1'))).toBe('none')
  }
  expect(await failureOf(openClient(url))).toBe('ECONNREFUSED')
  // Another regate on the same files serves at once, and leaves the audit chains of the old alone.
  const next = await serveWorkers(postgres, {
    configuration: { audit: { directory: join(dying.directory, 'audit') } },
  })
  const newcomer = await openClient(next.url('postgres', 'postgres'))
  expect(await failureOf(newcomer.query('SELECT 1'))).toBe('none')
  expect((await workersOf(next)).some(({ name }) => name === 'w1' || name === 'w2')).toBe(false)
  for (const client of clients) {
    expect(await failureOf(client.query('SELECT 1'))).toBe('none')
  }
  await newcomer.end()
  await next.stop()
  await endAll(clients)
  const lives = (pid: number): boolean => {
    try {
      return process.kill(pid, 0)
    } catch {
      return false
    }
  }
  await until('the workers end', () => !pids.some(lives))
  await dying.stop()
})
