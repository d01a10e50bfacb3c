/**
 * The drivers that people have, while their statement is held: they wait and get their rows, read
 * why it was rejected, and their own cancels and timeouts withdraw what they asked. Drivers come
 * from Debian's packages; one that is not there is skipped, and its test's name says which.
 */
import { execFile, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { until } from './support.ts'

const run = promisify(execFile)
const scripts = join(import.meta.dirname, 'drivers')
const jar = '/usr/share/java/postgresql.jar'
const python = '/usr/bin/python3'
const hasPython = (module: string): boolean =>
  existsSync(python) && spawnSync(python, ['-c', `import ${module}`]).status === 0
const hasProgram = (name: string): boolean => spawnSync(name, ['--version']).error === undefined
const token = randomBytes(24).toString('hex')

let upstream: TestPostgres
let proxy: ProxyInProcess
let deciding = true
let decider: Promise<void>

interface Listed {
  readonly id: string
  readonly state: string
  readonly statement: { readonly text: string }
  readonly parameters?: readonly { readonly value: string | null }[] | null
}

async function api(method: string, path: string, body?: object): Promise<Record<string, unknown>> {
  const response = await fetch(`${proxy.adminUrl}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return (await response.json()) as Record<string, unknown>
}

const listed = async (state: string): Promise<Listed[]> =>
  (await api('GET', `/v1/approvals?state=${state}&limit=500`))['approvals'] as Listed[]

/** What the statement writes, from its text or its parameter. */
async function written({ id, statement }: Listed): Promise<string> {
  if (!statement.text.includes('$1')) return statement.text
  const { parameters } = (await api('GET', `/v1/approvals/${id}`)) as unknown as Listed
  return String(parameters?.[0]?.value)
}

/** A reviewer who reads: `yes` is approved, `no` rejected, everything else left to its driver. */
async function decide(): Promise<void> {
  while (deciding) {
    for (const request of await listed('pending')) {
      const what = await written(request)
      if (/-yes\b/.test(what)) await api('POST', `/v1/approvals/${request.id}/approve`, {})
      if (/-no\b/.test(what)) {
        await api('POST', `/v1/approvals/${request.id}/reject`, { reason: 'not today' })
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
}

beforeAll(async () => {
  process.env['TEST_APPROVAL_TOKEN'] = token
  upstream = await startPostgres()
  await execute(upstream, 'CREATE TABLE ran (id serial, what text)')
  await execute(upstream, 'CREATE DATABASE approvals')
  const store = new URL(upstream.url('approvals'))
  process.env['TEST_STORE_PASSWORD'] = decodeURIComponent(store.password)
  store.password = ''
  const askers = { read: ['*'], write: { '*': 'approve' }, effects: { session: 'allow' } }
  const approvals = { groups: ['dba'], quorum: 1, wait: '10min', ttl: '20min' }
  proxy = await startProxy(upstream, {
    data: { regate: { approvals, columns: {}, groups: { askers } } },
    groups: ['askers'],
    configuration: {
      approvals: { store: store.href, store_password_env: 'TEST_STORE_PASSWORD' },
      admin: { port: 0, token_env: 'TEST_APPROVAL_TOKEN', groups: ['dba'] },
    },
  })
  decider = decide()
}, 120_000)

afterAll(async () => {
  deciding = false
  await decider
  await proxy.stop()
  await upstream.stop()
})

/** Lines `scenario\tresult` of a program, as an object; of two with one name the later counts. */
async function scenarios(command: string, args: readonly string[]) {
  const { stdout } = await run(command, [...args], { timeout: 110_000 })
  const lines = stdout.trim().split('\n')
  return Object.fromEntries(lines.map((line) => line.split('\t') as [string, string]))
}

/** What its driver gave up is withdrawn and has not run; what was approved has run once. */
async function settled(driver: string, withdrawn: readonly string[]): Promise<void> {
  for (const scenario of withdrawn) {
    await until(`${scenario} of ${driver} is withdrawn`, async () => {
      const list = await listed('withdrawn')
      return list.some(({ statement }) => statement.text.includes(`'${driver}-${scenario}'`))
    })
  }
  const { rows } = await execute(upstream, `SELECT what FROM ran WHERE what LIKE '${driver}-%'`)
  const ran = (rows as { what: string }[]).map(({ what }) => what)
  expect(ran.filter((what) => !what.endsWith('-yes'))).toEqual([])
  expect(new Set(ran).size).toBe(ran.length)
}

const dsn = (): string => `host=127.0.0.1 port=${proxy.port} user=ann dbname=postgres`
const textOf = (driver: string, scenario: string): string =>
  `INSERT INTO ran (what) VALUES ('${driver}-${scenario}') RETURNING what`

describe('node-postgres', () => {
  test('waits; query_timeout gives up, and its end withdraws', async () => {
    const connectionString = proxy.url('postgres', 'ann')
    const client = new pg.Client({ connectionString })
    await client.connect()
    expect((await client.query(textOf('node', 'yes'))).rows).toEqual([{ what: 'node-yes' }])
    const values = ['node-parameter-yes']
    const bound = await client.query('INSERT INTO ran (what) VALUES ($1) RETURNING what', values)
    expect(bound.rows).toEqual([{ what: 'node-parameter-yes' }])
    const rejected = client.query(textOf('node', 'no'))
    await expect(rejected).rejects.toMatchObject({ code: '42501' })
    await client.end()
    const hasty = new pg.Client({ connectionString, query_timeout: 2_000 })
    hasty.on('error', () => undefined)
    await hasty.connect()
    await expect(hasty.query(textOf('node', 'timeout'))).rejects.toThrow('Query read timeout')
    await hasty.end()
    await settled('node', ['timeout'])
  }, 120_000)
})

describe.skipIf(!hasProgram('psql'))('psql', () => {
  test('waits and shows its rows, and why it was rejected; Ctrl-C withdraws', async () => {
    const shown = await run('psql', [dsn(), '-AtXc', textOf('psql', 'yes')], { timeout: 110_000 })
    expect(shown.stdout.trim().split('\n')[0]).toBe('psql-yes')
    expect(shown.stderr).toContain('the statement is held for approval')
    const rejected = await run('psql', [dsn(), '-AtXc', textOf('psql', 'no')]).catch(
      (error: unknown) => (error as { stderr: string }).stderr,
    )
    expect(rejected).toMatch(/ERROR: {2}the statement was rejected\nDETAIL:.*not today/)
    const child = spawn('psql', [dsn(), '-AtXc', textOf('psql', 'ctrl-c')])
    let error = ''
    child.stderr.on('data', (chunk: Buffer) => (error += chunk.toString()))
    await until('psql is told', () => error.includes('held for approval'))
    child.kill('SIGINT')
    await new Promise((resolve) => child.once('close', resolve))
    expect(error).toContain('canceling statement due to user request')
    await settled('psql', ['ctrl-c'])
  }, 120_000)
})

const python3 = (driver: string): Promise<Record<string, string>> =>
  scenarios(python, [join(scripts, 'psycopg_held.py'), driver, dsn()])

describe.skipIf(!hasPython('psycopg2'))('psycopg 2', () => {
  test('waits; cancel withdraws, and the connection lives', async () => {
    expect(await python3('psycopg2')).toEqual({
      waits: 'psycopg2-yes',
      rejected: '42501 InsufficientPrivilege',
      cancelled: '57014 QueryCanceled',
      afterwards: 'alive',
      'in a transaction': 'psycopg2-tx-yes',
    })
    await settled('psycopg2', ['cancel'])
  }, 120_000)
})

describe.skipIf(!hasPython('psycopg'))('psycopg 3', () => {
  test('waits; cancel and a timeout of asyncio withdraw', async () => {
    expect(await python3('psycopg')).toEqual({
      waits: 'psycopg-yes',
      rejected: '42501 InsufficientPrivilege',
      cancelled: '57014 QueryCanceled',
      afterwards: 'alive',
      'in a transaction': 'psycopg-tx-yes',
      'its own timeout': 'TimeoutError in time',
    })
    await settled('psycopg', ['cancel', 'timeout'])
  }, 120_000)
})

describe.skipIf(!hasPython('asyncpg'))('asyncpg', () => {
  test('waits; its timeout withdraws, and the connection lives', async () => {
    const url = `postgres://ann@127.0.0.1:${proxy.port}/postgres?sslmode=disable`
    const seen = await scenarios(python, [join(scripts, 'psycopg_held.py'), 'asyncpg', url])
    expect(seen).toEqual({
      waits: 'asyncpg-yes',
      rejected: '42501 InsufficientPrivilegeError',
      'its own timeout': 'TimeoutError',
      afterwards: 'alive',
    })
    await settled('asyncpg', ['timeout'])
  }, 120_000)
})

describe.skipIf(!existsSync(jar) || !hasProgram('java'))('JDBC', () => {
  test('waits; setQueryTimeout, cancel and socketTimeout withdraw', async () => {
    const url = `jdbc:postgresql://127.0.0.1:${proxy.port}/postgres?sslmode=disable`
    const seen = await scenarios('java', ['-cp', jar, join(scripts, 'Held.java'), url, 'ann'])
    expect(seen).toEqual({
      waits: 'jdbc-yes',
      warnings: 'held',
      rejected: '42501',
      setQueryTimeout: '57014',
      cancelled: '57014',
      'a parameter': 'jdbc-parameter-yes',
      'a batch': '2',
      socketTimeout: '08006',
      afterwards: 'closed',
    })
    await settled('jdbc', ['query-timeout', 'cancel', 'socket-timeout'])
  }, 120_000)
})
