/**
 * How long a statement waits and its request stays open: as regate.yaml says, with the shipped pack,
 * unless the policy's own data says otherwise.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { initPolicies } from '../../src/commands/policy-init.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy } from '../support/proxy.ts'

let server: TestPostgres
let directory: string
let store: URL

beforeAll(async () => {
  server = await startPostgres()
  await execute(server, 'CREATE DATABASE approvals')
  store = new URL(server.url('approvals'))
  process.env['TEST_STORE_PASSWORD'] = decodeURIComponent(store.password)
  store.password = ''
  directory = await mkdtemp(join(tmpdir(), 'regate-terms-'))
})

afterAll(async () => {
  await server.stop()
  await rm(directory, { recursive: true, force: true })
})

const engineers = { read: ['*'], write: { '*': 'approve' } }

/** What the requester is told, and how the statement ends. */
async function held(
  approvals: object,
  options: { readonly data?: Readonly<Record<string, unknown>>; readonly bundle?: string } = {},
): Promise<{ readonly told: string; readonly ended: string; readonly ms: number }> {
  const proxy = await startProxy(server, {
    groups: ['engineers'],
    ...options,
    configuration: {
      approvals: { store: store.href, store_password_env: 'TEST_STORE_PASSWORD', ...approvals },
    },
  })
  const client = new pg.Client({ connectionString: proxy.url('postgres', 'ann') })
  try {
    await client.connect()
    let told = ''
    client.on('notice', ({ detail }) => (told += detail ?? ''))
    const started = Date.now()
    const running = client.query('CREATE TABLE held (id int)').then(
      () => 'ran',
      (error: unknown) => (error as Error).message,
    )
    const patience = new Promise<string>((resolve) => setTimeout(resolve, 5_000, 'it still waits'))
    const ended = await Promise.race([running, patience])
    return { told, ended, ms: Date.now() - started }
  } finally {
    await client.end().catch(() => undefined)
    await proxy.stop()
  }
}

test('approvals.wait and approvals.ttl of regate.yaml hold with the shipped pack', async () => {
  const { told, ended, ms } = await held({ wait: '1s', ttl: '7m' })
  expect(told).toContain('It waits here for 1 s and stays open for 7 min')
  expect(ended).not.toBe('ran')
  expect(ended).not.toBe('it still waits')
  expect(ms).toBeGreaterThan(900)
})

test("a directory that policy init made leaves the times to regate.yaml, and so does the demo's data", async () => {
  const made = join(directory, 'policies')
  await initPolicies(made)
  const mine = await held({ wait: '4m', ttl: '8m' }, { bundle: made })
  expect(mine.told).toContain('It waits here for 4 min and stays open for 8 min')
  const demo = JSON.parse(await readFile('src/commands/demo/data.json', 'utf8')) as Record<
    string,
    unknown
  >
  const { told, ended } = await held({ wait: '5m' }, { data: demo })
  expect(told).toContain('It waits here for 5 min and stays open for 15 min')
  expect(ended).toBe('it still waits')
})

test("the policy's data wins, each of the two by itself, and a group's over all", async () => {
  const all = { groups: ['dba'], wait: '2m' }
  const given = await held(
    { wait: '1s', ttl: '9m' },
    { data: { regate: { approvals: all, groups: { engineers } } } },
  )
  expect(given.told).toContain('It waits here for 2 min and stays open for 9 min')
  const own = { ...engineers, approval: { ttl: '6m' } }
  const group = await held(
    { wait: '1s' },
    { data: { regate: { approvals: all, groups: { engineers: own } } } },
  )
  expect(group.told).toContain('It waits here for 2 min and stays open for 6 min')
})
