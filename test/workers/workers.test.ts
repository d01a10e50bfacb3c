/** Two worker processes behind one port are one regate: what one is told, both know. */
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import type { ProxyChild } from '../support/proxy.ts'
import {
  admin,
  cancel,
  clientsOnAll,
  endAll,
  failureOf,
  keyOf,
  openClient,
  serveWorkers,
  until,
  workersOf,
} from './support.ts'

// Processes are started and ended: that takes its time on a loaded machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 })

let postgres: TestPostgres
let proxy: ProxyChild
const rights = { read: ['*'], write: ['*'], ddl: 'allow', effects: { '*': 'allow' } }
const dataOf = (agents: object): object => ({
  regate: {
    columns: {},
    groups: { agents, admins: rights },
    approvals: { groups: ['admins'], quorum: 1, wait: '10m', ttl: '15m' },
  },
})
const url = (user: string): string => proxy.url('postgres', user, `${user}-password`)

beforeAll(async () => {
  postgres = await startPostgres()
  await execute(postgres, 'CREATE TABLE swap (id int); INSERT INTO swap VALUES (1)')
  proxy = await serveWorkers(postgres, {
    data: dataOf(rights) as Record<string, unknown>,
    users: Object.fromEntries(
      ['ann', 'bob', 'eve'].map((name) => [
        name,
        { password: `${name}-password`, groups: ['agents'] },
      ]),
    ),
    limits: { failedAttemptsPerSourceAndUserMax: 3 },
  })
}, 120_000)

afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
})

it('starts without a word about workers that do not serve yet', () => {
  expect(proxy.log()).not.toMatch(/did not answer|has not been started/)
})

it('shares the clients, and shows sessions and numbers of both as one', async () => {
  const clients = await clientsOnAll(proxy, url('ann'))
  const workers = await workersOf(proxy)
  expect(workers.map(({ state }) => state)).toEqual(['running', 'running'])
  const { body } = await admin(proxy, 'GET', '/v1/sessions')
  const { sessions } = body as { readonly sessions: readonly { readonly id: string }[] }
  expect(sessions).toHaveLength(clients.length)
  const { text } = await admin(proxy, 'GET', '/metrics')
  expect(text).toContain(`regate_sessions ${clients.length}\n`)
  expect(text).toContain('regate_workers 2\n')
  expect(text).toMatch(/regate_process_resident_memory_bytes\{process="w1"\} \d/)
  expect(text).toMatch(/regate_process_resident_memory_bytes\{process="w2"\} \d/)
  const files = await readdir(join(proxy.directory, 'audit'))
  for (const name of ['w1', 'w2']) {
    expect(files.some((file) => file.startsWith(`audit-${name}-`))).toBe(true)
  }
  await endAll(clients)
})

it('cancels a statement whichever worker the request comes to, and only with its key', async () => {
  const clients = await clientsOnAll(proxy, url('ann'))
  for (const shift of [0, 1]) {
    // The port hands connections round: one more moves each request to the other worker.
    if (shift === 1) await endAll([await openClient(url('ann'))])
    const running = clients.map((client) => failureOf(client.query('SELECT pg_sleep(300)')))
    await until('all statements run', async () => {
      const { rows } = await execute(
        postgres,
        "SELECT count(*)::int AS n FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(300)' AND state = 'active'",
      )
      return (rows[0] as { n: number }).n === clients.length
    })
    for (const client of clients) {
      const { processId, secret } = keyOf(client)
      const forged = Buffer.from(secret)
      forged.writeUInt8(forged.readUInt8(0) ^ 1, 0)
      await cancel(proxy.port, processId, forged)
    }
    expect(await Promise.race([Promise.any(running), Promise.resolve('none ended')])).toBe(
      'none ended',
    )
    for (const client of clients) {
      const { processId, secret } = keyOf(client)
      await cancel(proxy.port, processId, secret)
    }
    expect(await Promise.all(running)).toEqual(clients.map(() => '57014'))
  }
  await endAll(clients)
})

it('counts failed logins of both', async () => {
  for (let attempt = 0; attempt < 4; attempt++) {
    expect(await failureOf(openClient(proxy.url('postgres', 'eve', 'guess')))).toBe('28P01')
  }
  // The right one comes too late, at either worker.
  expect(await failureOf(openClient(url('eve')))).toBe('28P01')
  expect(await failureOf(openClient(url('eve')))).toBe('28P01')
  await endAll([await openClient(url('ann'))])
})

it('ends the sessions of a revoked subject at both', async () => {
  const others = await clientsOnAll(proxy, url('ann'))
  const revoked = await clientsOnAll(proxy, url('bob'))
  const { status } = await admin(proxy, 'POST', '/v1/revocations', { subject: 'bob' })
  expect(status).toBe(201)
  for (const client of revoked) {
    expect(await failureOf(client.query('SELECT 1'))).not.toBe('none')
  }
  for (const client of others) expect(await failureOf(client.query('SELECT 1'))).toBe('none')
  await endAll([...revoked, ...others])
})

it('ends one session by its id, wherever it runs', async () => {
  const clients = await clientsOnAll(proxy, url('ann'))
  const { body } = await admin(proxy, 'GET', '/v1/sessions')
  const { sessions } = body as {
    readonly sessions: readonly { readonly id: string; readonly process_id: number }[]
  }
  for (const client of clients) {
    const { processId } = keyOf(client)
    const id = sessions.find((session) => session.process_id === processId)?.id ?? 'none'
    expect((await admin(proxy, 'DELETE', `/v1/sessions/${id}`)).status).toBe(202)
    expect(await failureOf(client.query('SELECT 1'))).not.toBe('none')
  }
  expect((await admin(proxy, 'DELETE', '/v1/sessions/nobody')).status).toBe(404)
  await endAll(clients)
})

it('swaps the policy in both, with the sessions open', async () => {
  const clients = await clientsOnAll(proxy, url('ann'))
  const query = 'SELECT id FROM swap'
  for (const client of clients) expect(await failureOf(client.query(query))).toBe('none')
  const swap = async (agents: object): Promise<void> => {
    await writeFile(join(proxy.directory, 'data.json'), JSON.stringify(dataOf(agents)))
    expect((await admin(proxy, 'POST', '/v1/policy/reload')).status).toBe(200)
  }
  await swap({ read: [] })
  for (const client of clients) expect(await failureOf(client.query(query))).toBe('42501')
  const [first, second] = await workersOf(proxy)
  expect(first?.revision).toBe(second?.revision)
  await swap(rights)
  for (const client of clients) expect(await failureOf(client.query(query))).toBe('none')
  await endAll(clients)
})

it('hears of a table that a session of the other worker has made', async () => {
  const clients = await clientsOnAll(proxy, url('ann'))
  for (const [index, client] of clients.entries()) {
    await client.query(`CREATE TABLE made_${index} (id int)`)
    for (const other of clients) {
      // The poll alone would take seconds; until it is known, the name is refused, never guessed.
      await until(`table ${index} is known`, async () => {
        const failure = await failureOf(other.query(`SELECT id FROM made_${index}`))
        if (failure !== 'none') expect(failure).toBe('42P01')
        return failure === 'none'
      })
    }
  }
  await endAll(clients)
})

it('holds statements of both for people, and withdraws what a dead worker waited for', async () => {
  interface Shown {
    readonly id: string
    readonly state: string
  }
  const approvals = async (): Promise<readonly Shown[]> => {
    const { body } = await admin(proxy, 'GET', '/v1/approvals?state=pending')
    return (body as { readonly approvals: readonly Shown[] }).approvals
  }
  const clients = await clientsOnAll(proxy, url('ann'))
  const updates = clients.map((client, index) => {
    return failureOf(client.query(`UPDATE swap SET id = ${index}`))
  })
  await until('all are held', async () => (await approvals()).length === clients.length)
  for (const { id } of await approvals()) {
    const { status, text } = await admin(proxy, 'POST', `/v1/approvals/${id}/approve`)
    expect([status, text]).toEqual([200, expect.any(String)])
  }
  expect(await Promise.all(updates)).toEqual(clients.map(() => 'none'))

  const left = clients.map((client, index) => {
    return failureOf(client.query(`UPDATE swap SET id = ${index} + 100`))
  })
  await until('all are held again', async () => (await approvals()).length === clients.length)
  const [victim] = (await workersOf(proxy)).filter(({ sessions }) => sessions > 0)
  process.kill(victim?.pid ?? 0, 'SIGKILL')
  const lost = victim?.sessions ?? 0
  await until('those of the dead worker are withdrawn', async () => {
    return (await approvals()).length === clients.length - lost
  })
  for (const { id } of await approvals()) {
    expect((await admin(proxy, 'POST', `/v1/approvals/${id}/approve`)).status).toBe(200)
  }
  expect((await Promise.all(left)).filter((failure) => failure === 'none')).toHaveLength(
    clients.length - lost,
  )
  await endAll(clients)
})

it("a policy that becomes active while a worker starts is that worker's too", async () => {
  const [victim] = await workersOf(proxy)
  process.kill(victim?.pid ?? 0, 'SIGKILL')
  // Over and over while the new process starts: some of them fall between its start and its first client.
  for (let round = 0; round < 12; round++) {
    const agents = round % 2 === 0 ? rights : { read: [] }
    await writeFile(join(proxy.directory, 'data.json'), JSON.stringify(dataOf(agents)))
    expect((await admin(proxy, 'POST', '/v1/policy/reload')).status).toBe(200)
  }
  await until('both serve', async () => {
    const workers = await workersOf(proxy)
    return workers.length === 2 && workers.every(({ state }) => state === 'running')
  })
  const clients = await clientsOnAll(proxy, url('ann'))
  for (const client of clients) {
    expect(await failureOf(client.query('SELECT id FROM swap'))).toBe('42501')
  }
  expect(proxy.log()).not.toMatch(/kept its old one|has not been started/)
  await endAll(clients)
})
