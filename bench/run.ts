/**
 * The bench suite: starts a server, regate from dist/, PgBouncer where it is installed and a raw
 * relay, and measures them in turn, round by round, in an order that rotates.
 *
 *   npm run bench                         everything, five rounds
 *   npm run bench -- --quick              a minute
 *   npm run bench -- select-distinct tpcb some cases
 *   npm run bench -- --rounds 3 --seconds 2 --rows 300000 --copy-mb 100 --sessions 50,200
 *   npm run bench -- compare a.json b.json
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { cases as loads, prepareServer, type Case, type Effort } from './load/cases.ts'
import { Arena, type ContestantName } from './load/contestants.ts'
import { judgingCases } from './load/judging.ts'
import type { Login, Sample } from './load/measure.ts'
import { picture } from './load/picture.ts'
import {
  caseResult,
  compareResults,
  machineFacts,
  printCase,
  type CaseResult,
  type Result,
} from './load/result.ts'

const cases: readonly Case[] = [...loads, ...judgingCases]

const quickEffort: Effort = {
  ...{ seconds: 1, rounds: 3, rows: 100_000, copyMb: 50, sessions: [20, 120] },
}
const fullEffort: Effort = {
  ...{ seconds: 5, rounds: 5, rows: 1_000_000, copyMb: 1_000, sessions: [200, 1_000] },
}
const warmUpSeconds = 2
/** What a minute has room for. */
const quickCases = [
  'select-prepared',
  'select-distinct',
  'tpcb',
  'latency-p50',
  'rows-text',
  'judge-join',
]

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    rows: { type: 'string' },
    'copy-mb': { type: 'string' },
    sessions: { type: 'string' },
    name: { type: 'string' },
    list: { type: 'boolean', default: false },
  },
})

async function main(): Promise<number> {
  if (values.list) {
    for (const { name, text } of cases) console.log(`${name.padEnd(18)} ${text}`)
    return 0
  }
  if (positionals[0] === 'compare') return compare(positionals.slice(1))
  const unknown = positionals.filter((name) => !cases.some((known) => known.name === name))
  if (unknown.length > 0) {
    console.error(`no such case: ${unknown.join(', ')} (npm run bench -- --list)`)
    return 2
  }
  if (spawnSync('pgbench', ['--version']).status !== 0) {
    console.error('pgbench is not on PATH: it comes with PostgreSQL (Debian: postgresql-contrib)')
    return 2
  }
  const base = values.quick ? quickEffort : fullEffort
  const effort: Effort = {
    ...base,
    rounds: Number(values.rounds ?? base.rounds),
    seconds: Number(values.seconds ?? base.seconds),
    rows: Number(values.rows ?? base.rows),
    copyMb: Number(values['copy-mb'] ?? base.copyMb),
    sessions: values.sessions === undefined ? base.sessions : sessionCounts(values.sessions),
  }
  const names = positionals.length > 0 ? positionals : values.quick ? quickCases : null
  const result = await measure(
    cases.filter(({ name }) => names === null || names.includes(name)),
    effort,
  )
  mkdirSync('bench/results', { recursive: true })
  const path = `bench/results/${result.name}`
  writeFileSync(`${path}.json`, `${JSON.stringify(result, null, 1)}\n`)
  writeFileSync(`${path}.svg`, picture(result))
  console.log(`\n${path}.json and .svg written`)
  const missed = result.cases.flatMap(({ goals }) => goals).filter(({ reached }) => !reached)
  console.log(missed.length === 0 ? 'every goal reached' : `${missed.length} goals not reached`)
  return 0
}

/** `20,120`: the counts between which memory is measured. */
function sessionCounts(text: string): readonly [number, number] {
  const [few = 0, many = 0] = text.split(',').map(Number)
  if (!(few > 0 && many > few)) throw new Error('--sessions takes two counts: 20,120')
  return [few, many]
}

function compare(paths: readonly string[]): number {
  if (paths.length !== 2) {
    console.error('usage: npm run bench -- compare old.json new.json')
    return 2
  }
  const [old, fresh] = paths.map((path) => JSON.parse(readFileSync(path, 'utf8')) as Result)
  if (old === undefined || fresh === undefined) return 2
  for (const key of Object.keys(fresh.machine)) {
    if (key === 'load_before' || key === 'commit') continue
    if (old.machine[key] !== fresh.machine[key]) {
      console.log(`the machines differ: ${key} ${old.machine[key]} and ${fresh.machine[key]}`)
    }
  }
  const lines = compareResults(old, fresh)
  console.log(lines.length === 0 ? 'nothing changed beyond the noise' : lines.join('\n'))
  return lines.some((line) => line.startsWith('WORSE')) ? 1 : 0
}

async function measure(wanted: readonly Case[], effort: Effort): Promise<Result> {
  const arena = await Arena.open()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      void arena.close().finally(() => process.exit(130))
    })
  }
  try {
    const { user, password, version } = arena.server
    const login: Login = { user, password, database: 'postgres' }
    const machine = machineFacts(version)
    await prepareServer(arena, login, effort)
    const results: CaseResult[] = []
    for (const measured of wanted) {
      const result = await measureCase(arena, measured, login, effort)
      printCase(result)
      results.push(result)
    }
    const date = new Date().toISOString()
    const name = values.name ?? `${values.quick ? 'quick' : 'full'}-${date.slice(0, 10)}`
    return { name, date, quick: values.quick, rounds: effort.rounds, machine, cases: results }
  } finally {
    await arena.close()
  }
}

async function measureCase(
  arena: Arena,
  measured: Case,
  login: Login,
  effort: Effort,
): Promise<CaseResult> {
  const samples: Partial<Record<ContestantName, Sample[]>> = {}
  const trouble: string[] = []
  const there: ContestantName[] = []
  for (const name of measured.contestants) {
    const contestant = await arena.contestant(name)
    if (contestant === null) {
      trouble.push(`${name} is not installed`)
      continue
    }
    there.push(name)
    // Warm-up: caches, the server's own pages, and what V8 compiles only once it is hot.
    await measured
      .run(contestant, login, { ...effort, seconds: warmUpSeconds, rows: 10_000, copyMb: 5 })
      .catch(() => undefined)
  }
  for (let round = 0; round < effort.rounds; round++) {
    const order = [...there.slice(round % there.length), ...there.slice(0, round % there.length)]
    for (const name of order) {
      const contestant = await arena.contestant(name)
      if (contestant === null) continue
      try {
        const sample = await measured.run(contestant, login, effort)
        const list = (samples[name] ??= [])
        list.push(sample)
      } catch (error) {
        trouble.push(`${name}, round ${round + 1}: ${String(error).slice(0, 500)}`)
        const list = (samples[name] ??= [])
        list.push({ value: Number.NaN, cpuUs: null })
      }
    }
  }
  const ordered: CaseResult['samples'] = Object.fromEntries(
    there.flatMap((name) => (samples[name] === undefined ? [] : [[name, samples[name]]])),
  )
  return caseResult(measured, ordered, trouble)
}

process.exitCode = await main()
