/**
 * What judging a statement costs, from the text to the admission, as regate's own audit records it
 * (`duration_us`). Every text is new, so it is parsed and decided; its shape came before, so that the
 * analysis is known, as it is for all but the first of an application's statements.
 */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import type { Case } from './cases.ts'
import type { Contestant } from './contestants.ts'
import { median } from './measure.ts'

const warmUpCount = 600
const count = 300

interface Decided {
  readonly decision?: { readonly duration_us?: number }
}

/** The records of the statements that carry this word, from the audit segments. */
function recordsOf(contestant: Contestant, word: string): readonly number[] {
  const directory = join(contestant.directory, 'audit')
  return readdirSync(directory)
    .filter((file) => file.endsWith('.ndjson') || file.endsWith('.jsonl') || file.endsWith('.log'))
    .flatMap((file) => readFileSync(join(directory, file), 'utf8').split('\n'))
    .filter((line) => line.includes(word) && line.includes('"cached":false'))
    .map((line) => (JSON.parse(line) as Decided).decision?.duration_us ?? Number.NaN)
    .filter((duration) => duration > 0)
}

function judging(name: string, text: string, mostUs: number, sql: (n: number) => string): Case {
  let round = 0
  return {
    ...{ name, text, unit: 'µs', per: 'statement', better: 'lower' },
    contestants: ['regate-allow', 'regate'],
    goals: [{ of: 'regate', over: null, must: mostUs, kind: 'at most' }],
    run: async (contestant, login) => {
      const word = `${name}-${(round++).toString()}-${Date.now().toString(36)}`
      const client = new pg.Client({ host: '127.0.0.1', port: contestant.port, ...login })
      await client.connect()
      try {
        for (let n = 0; n < warmUpCount; n++) await client.query(sql(n + round * 10_000))
        for (let n = 0; n < count; n++) {
          await client.query(`${sql(n + 5_000 + round * 10_000)} /* ${word} */`)
        }
      } finally {
        await client.end()
      }
      return { value: median(recordsOf(contestant, word)), cpuUs: null }
    },
  }
}

/** In a process of its own, without sockets: no clock of the outside can see so little. */
const cached: Case = {
  ...{ name: 'judge-cached', unit: 'µs', per: 'statement', better: 'lower' },
  text: 'CPU from a frame to its admission, decision cached',
  contestants: ['regate'],
  goals: [{ of: 'regate', over: null, must: 4, kind: 'at most' }],
  run: async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [
      ...['scripts/run-ts.mjs', 'bench/micro/session.bench.ts'],
      ...['--rounds', '3', '--only', 'text judged before'],
    ])
    return { value: Number(/([\d.]+) µs/.exec(stdout)?.[1] ?? Number.NaN), cpuUs: null }
  },
}

const joined = Array.from({ length: 9 }, (_, n) => n + 1)

export const judgingCases: readonly Case[] = [
  cached,
  judging(
    'judge-pgbench',
    "a new text of pgbench's SELECT: parse and decision, the analysis of its shape is known",
    90,
    (n) => `SELECT abalance FROM pgbench_accounts WHERE aid = ${n}`,
  ),
  judging(
    'judge-join',
    'a new text of a join of ten tables: parse and decision, the analysis of its shape is known',
    500,
    (n) =>
      `SELECT t0.bid, ${joined.map((t) => `t${t}.bbalance AS b${t}`).join(', ')} FROM pgbench_branches t0 ` +
      joined.map((t) => `JOIN pgbench_branches t${t} ON t${t}.bid = t${t - 1}.bid`).join(' ') +
      ` WHERE t0.bid = ${n} AND t9.bbalance > 0 ORDER BY t0.bid`,
  ),
]
