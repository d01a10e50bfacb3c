/**
 * `regate policy replay` on what was really recorded: pgbench and an agent go through a regate with an
 * audit, then the command judges the record under a stricter bundle and must list exactly the
 * statements that change, no more and no fewer.
 */
import { spawn } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy } from '../support/proxy.ts'
import { buildDirectory, packDirectory } from './pack.ts'

const main = resolve('dist/main.js')
const [benchClients, benchTransactions] = [2, 5]

const columns = {
  'public.customers.ssn': { class: 'pii', mask: { kind: 'redact' } },
}
const active = {
  columns,
  groups: {
    agents: { read: ['*'], write: ['public.notes'], unmask: [], infer: true },
    bench: { read: ['*'], write: ['public.pgbench_*'] },
  },
}
const stricter = {
  columns: {
    ...columns,
    'public.customers.phone': { class: 'contact', mask: { kind: 'null' } },
  },
  groups: {
    agents: {
      ...active.groups.agents,
      read: { '*': 'allow', 'public.payments': 'deny' },
      write: [],
    },
    bench: {
      ...active.groups.bench,
      write: { 'public.pgbench_*': 'allow', 'public.pgbench_history': 'deny' },
    },
  },
}
const looser = {
  ...active,
  groups: { ...active.groups, agents: { ...active.groups.agents, unmask: ['pii'] } },
}

let scratch: string
let postgres: TestPostgres
let audit: string
const bundles: Record<string, string> = {}

async function bundle(name: string, regate: object): Promise<string> {
  const directory = join(scratch, name)
  cpSync(packDirectory, directory, { recursive: true })
  writeFileSync(join(directory, 'data.json'), JSON.stringify({ regate }))
  const path = join(scratch, `${name}.tar.gz`)
  writeFileSync(path, await buildDirectory(directory, name))
  return path
}

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly output: string
}

async function run(command: string, parameters: readonly string[]): Promise<Ended> {
  const child = spawn(command, parameters, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PGSSLMODE: 'disable' },
  })
  let [stdout, output] = ['', '']
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
    output += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const code = await new Promise<number | null>((done, fail) => {
    child.once('error', fail)
    child.once('close', done)
  })
  return { code, stdout, output }
}

/** What the agent sends, and what the stricter bundle makes of it; null where nothing changes. */
const agentStatements: readonly (readonly [
  text: string,
  change: readonly [before: string, after: string] | null,
  values?: readonly unknown[],
])[] = [
  ['SELECT name FROM customers WHERE id = 1', null],
  ['SELECT name, ssn FROM customers WHERE id = 1', null],
  ['SELECT name, phone FROM customers WHERE id = $1', ['allow', 'mask'], [1]],
  ['SELECT ssn, phone FROM customers LIMIT 1', ['mask', 'mask']],
  ["INSERT INTO notes (body) VALUES ('seen')", ['allow', 'deny']],
  ['SELECT count(*) FROM payments', ['allow', 'deny']],
  ['DROP TABLE notes', null],
  ['PREPARE look AS SELECT phone FROM customers WHERE id = 2', null],
  ['EXECUTE look', ['allow', 'mask']],
  ['BEGIN', null],
  ['DECLARE c CURSOR FOR SELECT phone FROM customers', null],
  ['FETCH 2 FROM c', ['allow', 'mask']],
  ['COMMIT', null],
  ['SELEC 1', null],
  // In this schema the same words mean another table.
  ['SET search_path = archive', null],
  ['SELECT phone FROM customers', null],
  ['RESET search_path', null],
  ['SELECT brand FROM payments WHERE id = 1', ['allow', 'deny']],
  ['SELECT brand FROM payments WHERE id = 1', ['allow', 'deny']],
]

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'regate-replay-test-'))
  postgres = await startPostgres({ settings: { log_statement: 'none' } })
  await execute(postgres, 'CREATE DATABASE shop')
  await execute(postgres, readFileSync('src/commands/demo/shop.sql', 'utf8'), 'shop')
  await execute(
    postgres,
    'CREATE SCHEMA archive; CREATE TABLE archive.customers (phone text)',
    'shop',
  )
  const made = await run('pgbench', ['-i', '-q', postgres.url('shop')])
  expect(made.code, made.output).toBe(0)
  for (const [name, data] of Object.entries({ active, stricter, looser })) {
    bundles[name] = await bundle(name, data)
  }
  const proxy = await startProxy(postgres, {
    bundle: bundles['active'] ?? '',
    users: { bench: { groups: ['bench'] }, agent: { groups: ['agents'] } },
  })
  try {
    const bench = (mode: string): Promise<Ended> =>
      run('pgbench', [
        ...['-n', '-M', mode, '-c', String(benchClients), '-t', String(benchTransactions)],
        ...['-h', '127.0.0.1', '-p', String(proxy.port), '-U', 'bench', 'shop'],
      ])
    const agent = new pg.Client({ connectionString: proxy.url('shop', 'agent') })
    await agent.connect()
    const simple = bench('simple')
    for (const [text, , values] of agentStatements) {
      await agent.query(text, values === undefined ? [] : [...values]).catch(() => undefined)
    }
    await agent.end()
    for (const ended of [await simple, await bench('prepared')]) {
      expect(ended.code, ended.output).toBe(0)
    }
    await proxy.runtime.stop()
    audit = join(scratch, 'audit')
    mkdirSync(audit)
    cpSync(join(proxy.directory, 'audit'), audit, { recursive: true })
  } finally {
    await proxy.stop()
  }
}, 180_000)

afterAll(async () => {
  await postgres.stop()
  rmSync(scratch, { recursive: true, force: true })
})

interface Report {
  readonly revision: string
  readonly judged: number
  readonly unchanged: number
  readonly skipped: number
  readonly changed: number
  readonly wider: number
  readonly changes: readonly {
    readonly statement: string
    readonly user: string
    readonly groups: readonly string[]
    readonly before: { readonly action: string; readonly masked: readonly string[] }
    readonly after: { readonly action: string; readonly rule: string }
    readonly count: number
  }[]
}

const replay = (name: string, ...more: readonly string[]): Promise<Ended> =>
  run(process.execPath, [
    ...[main, 'policy', 'replay', audit, '--bundle', bundles[name] ?? ''],
    ...['--url', postgres.url('shop'), ...more],
  ])

/** Texts that were decided, as the audit has them, with how often. */
function recorded(user: string): ReadonlyMap<string, number> {
  const texts = new Map<string, number>()
  const names = readdirSync(audit).filter((name) => name.endsWith('.ndjson'))
  const lines = names.flatMap((name) => readFileSync(join(audit, name), 'utf8').split('\n'))
  for (const line of lines.filter((one) => one.includes('"statement_decided"'))) {
    const record = JSON.parse(line) as { statement: { text: string }; identity: { user: string } }
    if (record.identity.user !== user) continue
    texts.set(record.statement.text, (texts.get(record.statement.text) ?? 0) + 1)
  }
  return texts
}

describe('replay of pgbench and an agent', () => {
  it('lists exactly the statements that a stricter bundle changes', async () => {
    const { code, stdout, output } = await replay('stricter', '--json')
    expect(code, output).toBe(0)
    const report = JSON.parse(stdout) as Report
    const expected = new Map<string, string>()
    const expectChange = (user: string, text: string, change: string, count: number): void => {
      expected.set(`${user}: ${text}`, `${change} ×${String(count)}`)
    }
    // By what pgbench does: one INSERT into the history in each transaction, and nothing else there.
    let inserts = 0
    for (const [text, count] of recorded('bench')) {
      if (!text.startsWith('INSERT INTO pgbench_history')) continue
      inserts += count
      expectChange('bench', text, 'allow → deny', count)
    }
    expect(inserts).toBe(2 * benchClients * benchTransactions)
    for (const [text, change] of agentStatements) {
      if (change === null) continue
      const count = agentStatements.filter(([other]) => other === text).length
      expectChange('agent', text, change.join(' → '), count)
    }
    const listed = new Map(
      report.changes.map(({ user, statement, before, after, count }) => [
        `${user}: ${statement}`,
        `${before.action} → ${after.action} ×${String(count)}`,
      ]),
    )
    expect(Object.fromEntries(listed)).toEqual(Object.fromEntries(expected))
    expect(report.changes).toHaveLength(expected.size)
    const all = [...recorded('bench'), ...recorded('agent')].reduce((sum, [, n]) => sum + n, 0)
    // What does not parse no policy judges.
    expect(report).toMatchObject({ revision: 'stricter', wider: 0, skipped: 1, judged: all - 1 })
    expect(report.judged).toBe(report.unchanged + report.changed)
  }, 60_000)

  it('changes nothing under the bundle that judged them', async () => {
    const { code, stdout, output } = await replay('active', '--json')
    expect(code, output).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({ changed: 0, wider: 0, changes: [] })
  }, 60_000)

  it('shows the same as a table, for people', async () => {
    const { code, stdout } = await replay('stricter')
    expect(code).toBe(0)
    expect(stdout).toMatch(/^\d+ statements judged under stricter: \d+ would change, 0 of them/)
    expect(stdout).toContain('agent (agents)')
    expect(stdout).toContain('regate.access.relations')
    expect(stdout).toContain('mask public.customers.phone')
  }, 60_000)

  it('ends with 1 where somebody would get more, unless that is meant', async () => {
    const looser = await replay('looser', '--json')
    expect(looser.code).toBe(1)
    expect(looser.output).toContain('--allow-wider')
    const report = JSON.parse(looser.stdout) as Report
    expect(report.wider).toBeGreaterThan(0)
    for (const { user, before, after } of report.changes) {
      expect([user, before.action, after.action]).toEqual(['agent', 'mask', 'allow'])
    }
    expect((await replay('looser', '--json', '--allow-wider')).code).toBe(0)
  }, 60_000)
})
