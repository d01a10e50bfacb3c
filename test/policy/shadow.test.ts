/** A candidate beside the active policy, live: it is never enforced, and where it differs is known. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { packDirectory } from './pack.ts'

let scratch: string
let postgres: TestPostgres
let proxy: ProxyInProcess

const active = {
  columns: {},
  groups: { admins: { read: ['*'], write: ['*'], effects: { '*': 'allow' } } },
}
const candidate = {
  columns: { 'public.people.ssn': { class: 'pii', mask: { kind: 'redact' } } },
  groups: { admins: { read: ['*'], write: [] } },
}

function pack(name: string, regate: object): string {
  const directory = join(scratch, name)
  cpSync(packDirectory, directory, { recursive: true })
  writeFileSync(join(directory, 'data.json'), JSON.stringify({ regate }))
  return directory
}

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'regate-shadow-test-'))
  postgres = await startPostgres()
  await execute(
    postgres,
    "CREATE TABLE people (name text, ssn text); INSERT INTO people VALUES ('Ann', '1-2')",
  )
  proxy = await startProxy(postgres, {
    configuration: {
      policy: {
        bundle: pack('active', active),
        shadow: { bundle: pack('candidate', candidate) },
      },
    },
  })
}, 60_000)

afterAll(async () => {
  await proxy?.stop()
  await postgres.stop()
  rmSync(scratch, { recursive: true, force: true })
})

interface Difference {
  readonly type: string
  readonly revision: string
  readonly identity: { readonly user: string }
  readonly statement: { readonly text: string }
  readonly active: { readonly action: string }
  readonly candidate: { readonly action: string; readonly rule: string }
  readonly wider: boolean
}

function recorded(): readonly Difference[] {
  const directory = join(proxy.directory, 'audit')
  return readdirSync(directory)
    .filter((name) => name.endsWith('.ndjson'))
    .flatMap((name) => readFileSync(join(directory, name), 'utf8').trim().split('\n'))
    .map((line) => JSON.parse(line) as Difference)
    .filter(({ type }) => type === 'policy_difference')
}

interface Shadow {
  readonly judged: number
  readonly different: number
  readonly wider: number
  readonly changes: Readonly<Record<string, number>>
}

async function shadow(): Promise<Shadow> {
  const response = await fetch(`${proxy.adminUrl}/v1/policy`)
  return ((await response.json()) as { readonly shadow: Shadow }).shadow
}

it('judges beside the active policy: the client feels nothing, differences are counted and on record', async () => {
  const client = new pg.Client({ connectionString: proxy.url('postgres', 'ann') })
  await client.connect()
  expect((await client.query('SELECT name FROM people')).rows).toEqual([{ name: 'Ann' }])
  expect((await client.query('SELECT ssn FROM people')).rows).toEqual([{ ssn: '1-2' }])
  for (let number = 0; number < 8; number++) {
    await client.query(`INSERT INTO people VALUES ('x', '${String(number)}')`)
  }
  await client.query("CREATE ROLE later PASSWORD 'not-for-the-record'")
  await client.query('DROP ROLE later')
  await client.end()
  await expect.poll(async () => (await shadow()).different, { timeout: 20_000 }).toBe(11)
  const status = await shadow()
  expect(status).toMatchObject({ wider: 0 })
  expect(status.judged).toBeGreaterThan(11)
  expect(Object.entries(status.changes).find(([change]) => change.includes('mask'))?.[1]).toBe(1)
  await expect.poll(() => recorded().length, { timeout: 20_000 }).toBeGreaterThanOrEqual(7)
  const samples = recorded()
  expect(samples.find(({ candidate: { action } }) => action === 'mask')).toMatchObject({
    identity: { user: 'ann' },
    statement: { text: 'SELECT ssn FROM people' },
    active: { action: 'allow' },
    wider: false,
  })
  const inserts = samples.filter(({ statement }) => statement.text.startsWith('INSERT'))
  expect(inserts, 'sampled, not each').toHaveLength(5)
  expect(JSON.stringify(samples)).not.toContain('not-for-the-record')
  expect(JSON.stringify(status)).not.toContain('not-for-the-record')
  expect(samples.some(({ statement }) => statement.text.startsWith('CREATE ROLE'))).toBe(true)
})
