/**
 * What is measured. A case runs every contestant once a round; its goals are ratios of two
 * contestants in the same round, so that a machine that drifts cancels out.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import {
  encodeBind,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeSync,
} from '../../src/wire/wire.ts'
import { policyData, type Arena, type Contestant, type ContestantName } from './contestants.ts'
import {
  CountingClient,
  initialisePgbench,
  percentile,
  pgbench,
  residentBytesOf,
  withCpu,
  type Counted,
  type Login,
  type PgbenchOptions,
  type Sample,
} from './measure.ts'

/** How long and how much. */
export interface Effort {
  readonly seconds: number
  readonly rounds: number
  /** Rows of the big results; MB of the COPY. */
  readonly rows: number
  readonly copyMb: number
  readonly sessions: readonly [number, number]
}

export interface Goal {
  readonly of: ContestantName
  /** Null: the figure itself, not a ratio. */
  readonly over: ContestantName | null
  readonly must: number
  readonly kind: 'at least' | 'at most'
  /** Of two figures of one contestant: the difference to the other instead of the ratio. */
  readonly difference?: boolean
}

export interface Case {
  readonly name: string
  readonly text: string
  readonly unit: string
  /** What the CPU figure is of. */
  readonly per: string
  readonly better: 'higher' | 'lower'
  readonly contestants: readonly ContestantName[]
  readonly goals: readonly Goal[]
  run(contestant: Contestant, login: Login, effort: Effort): Promise<Sample>
}

const everybody: readonly ContestantName[] = [
  ...(['direct', 'relay', 'pgbouncer', 'regate-allow', 'regate', 'regate-hidden'] as const),
]

function load(
  name: string,
  text: string,
  options: Omit<PgbenchOptions, 'seconds'>,
  goals: readonly Goal[],
): Case {
  return {
    ...{ name, text, goals, unit: 'transactions/s', per: 'statement', better: 'higher' },
    contestants: everybody,
    run: (contestant, login, effort) =>
      withCpu(contestant, async () => {
        const seconds = Math.max(1, Math.round(effort.seconds))
        const { tps, statementCount } = await pgbench(contestant, login, { ...options, seconds })
        return { value: tps, units: statementCount }
      }),
  }
}

const select = { clients: 8, script: ['-S'], statementsPerTransaction: 1 }

function latency(name: string, part: number, mostUs: number): Case {
  return {
    ...{ name, unit: 'µs', per: 'statement', better: 'lower' },
    text: `latency of one client, prepared, decision cached, p${part * 100}`,
    contestants: ['direct', 'relay', 'pgbouncer', 'regate'],
    goals: [{ of: 'regate', over: 'relay', must: mostUs, kind: 'at most', difference: true }],
    run: (contestant, login, effort) =>
      withCpu(contestant, async () => {
        const { latencies, statementCount } = await pgbench(contestant, login, {
          ...{ clients: 1, mode: 'prepared', script: ['-S'], statementsPerTransaction: 1 },
          ...{ seconds: Math.max(1, Math.round(effort.seconds)), latencies: true },
        })
        const value = percentile(
          latencies.map(({ us }) => us),
          part,
        )
        return { value, units: statementCount }
      }),
  }
}

const wide = (rows: number): string =>
  `SELECT c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 FROM wide LIMIT ${rows}`

function rows(name: string, text: string, binary: boolean): Case {
  return {
    ...{ name, text, unit: 'rows/s', per: 'row', better: 'higher' },
    contestants: ['direct', 'relay', 'pgbouncer', 'regate', 'regate-masks'],
    goals: [
      { of: 'regate', over: 'pgbouncer', must: 0.95, kind: 'at least' },
      { of: 'regate-masks', over: 'regate', must: 0.5, kind: 'at least' },
    ],
    run: (contestant, login, effort) =>
      drain(contestant, login, (client) =>
        client.exchange((to) => {
          if (!binary) {
            encodeQuery(to, wide(effort.rows))
            return
          }
          encodeParse(to, { name: '', text: wide(effort.rows) })
          encodeBind(to, { portal: '', statement: '', resultFormats: [1] })
          encodeExecute(to, '')
          encodeSync(to)
        }),
      ),
  }
}

async function drain(
  contestant: Contestant,
  login: Login,
  work: (client: CountingClient) => Promise<Counted>,
  unit: (counted: Counted) => number = (counted) => counted.rows,
): Promise<Sample> {
  const client = await CountingClient.connect(contestant.port, login)
  try {
    return await withCpu(contestant, async () => {
      const counted = await work(client)
      return { value: (unit(counted) * 1000) / counted.ms, units: unit(counted) }
    })
  } finally {
    client.close()
  }
}

const copy: Case = {
  ...{ name: 'copy', text: 'COPY TO STDOUT', unit: 'MB/s', per: 'MB', better: 'higher' },
  contestants: ['direct', 'relay', 'pgbouncer', 'regate', 'regate-masks'],
  goals: [
    { of: 'regate', over: 'direct', must: 0.8, kind: 'at least' },
    { of: 'regate-masks', over: 'direct', must: 0.4, kind: 'at least' },
  ],
  run: (contestant, login, effort) =>
    drain(
      contestant,
      login,
      (client) =>
        client.exchange((to) => {
          // A row of wide is about 110 bytes of text.
          const count = Math.ceil((effort.copyMb * 1e6) / 110)
          const text =
            count <= effort.rows
              ? `COPY (${wide(count)}) TO STDOUT`
              : `COPY (SELECT w.* FROM wide w, generate_series(1, ${Math.ceil(count / effort.rows)})) TO STDOUT`
          encodeQuery(to, text)
        }),
      (counted) => counted.bytes / 1e6,
    ),
}

const sessions: Case = {
  ...{ name: 'sessions', text: 'memory of an idle session', unit: 'KiB', better: 'lower' },
  per: 'session',
  contestants: ['relay', 'regate'],
  goals: [{ of: 'regate', over: null, must: 48, kind: 'at most' }],
  run: async (contestant, login, effort) => {
    const clients: pg.Client[] = []
    const grow = async (count: number): Promise<number> => {
      while (clients.length < count) {
        const batch = Array.from({ length: Math.min(20, count - clients.length) }, () => {
          return new pg.Client({ host: '127.0.0.1', port: contestant.port, ...login })
        })
        for (const client of batch) client.on('error', () => undefined)
        await Promise.all(batch.map((client) => client.connect()))
        await Promise.all(batch.map((client) => client.query('SELECT 1')))
        clients.push(...batch)
      }
      await delay(2_000)
      return residentBytesOf(contestant.pid) ?? Number.NaN
    }
    try {
      const [few, many] = effort.sessions
      const before = await grow(few)
      const after = await grow(many)
      return { value: (after - before) / (many - few) / 1024, cpuUs: null }
    } finally {
      await Promise.all(clients.map((client) => client.end()))
    }
  },
}

const connect: Case = {
  ...{ name: 'connect', text: 'connect, SCRAM, first query', unit: 'ms', better: 'lower' },
  per: 'connection',
  contestants: ['direct', 'relay', 'pgbouncer', 'regate'],
  goals: [{ of: 'regate', over: 'pgbouncer', must: 2, kind: 'at most' }],
  run: (contestant, login) =>
    withCpu(contestant, async () => {
      const times: number[] = []
      for (let n = 0; n < 20; n++) {
        const started = performance.now()
        const client = new pg.Client({ host: '127.0.0.1', port: contestant.port, ...login })
        await client.connect()
        await client.query('SELECT 1')
        times.push(performance.now() - started)
        await client.end()
      }
      return { value: percentile(times, 0.5), units: times.length }
    }),
}

/** p99 of many while something happens, over p99 before it. */
async function disturbed(
  contestant: Contestant,
  login: Login,
  seconds: number,
  disturb: () => Promise<void>,
): Promise<Sample> {
  const half = Math.max(2, seconds)
  const running = pgbench(contestant, login, {
    ...{ clients: 4, mode: 'simple', script: ['-S'], statementsPerTransaction: 1 },
    ...{ seconds: half * 2, latencies: true },
  })
  running.catch(() => undefined)
  await delay(half * 1000)
  const fromS = Date.now() / 1000
  await disturb()
  const result = await running
  if (result.failedCount > 0 || Number.isNaN(result.tps)) throw new Error('statements failed')
  const p99 = (wanted: (atS: number) => boolean): number =>
    percentile(
      result.latencies.filter(({ atS }) => wanted(atS)).map(({ us }) => us),
      0.99,
    )
  return { value: p99((atS) => atS >= fromS) / p99((atS) => atS < fromS), cpuUs: null }
}

const swap: Case = {
  ...{ name: 'swap', text: 'p99 while the bundle is swapped ÷ before', unit: '×' },
  ...{ per: 'statement', better: 'lower', contestants: ['regate'] },
  goals: [{ of: 'regate', over: null, must: 2, kind: 'at most' }],
  run: (contestant, login, effort) =>
    disturbed(contestant, login, effort.seconds, async () => {
      for (let n = 0; n < 3; n++) {
        const path = join(contestant.directory, 'data.json')
        const columns = { 'public.nowhere.x': { class: `swap${Date.now()}` } }
        writeFileSync(path, JSON.stringify(policyData(columns)))
        await delay(300)
      }
    }),
}

const fairness: Case = {
  ...{ name: 'fairness', unit: '×', per: 'statement', better: 'lower' },
  // The others are the control: on few cores the server's own work on such a statement is felt.
  contestants: ['regate', 'direct', 'pgbouncer'],
  text: 'p99 of others while one client sends 4 MB statements and IN lists of 100,000 ÷ before',
  goals: [{ of: 'regate', over: null, must: 3, kind: 'at most' }],
  run: async (contestant, login, effort) => {
    const client = new pg.Client({ host: '127.0.0.1', port: contestant.port, ...login })
    client.on('error', () => undefined)
    await client.connect()
    const list = Array.from({ length: 100_000 }, (_, n) => n).join()
    const texts = [
      `SELECT count(*) FROM pgbench_branches WHERE bid IN (${list})`,
      `SELECT length('${'x'.repeat(4_000_000)}')`,
    ]
    try {
      return await disturbed(contestant, login, effort.seconds, async () => {
        const until = Date.now() + effort.seconds * 1000
        while (Date.now() < until) {
          // Refused or answered: both cost what they cost.
          for (const text of texts) await client.query(text).catch(() => undefined)
        }
      })
    } finally {
      await client.end()
    }
  },
}

export const cases: readonly Case[] = [
  load('select-prepared', 'pgbench -S, prepared, 8 clients', { ...select, mode: 'prepared' }, [
    { of: 'regate', over: 'relay', must: 0.9, kind: 'at least' },
  ]),
  load(
    'select-distinct',
    'pgbench -S, simple, texts distinct, 8 clients',
    { ...select, mode: 'simple' },
    [
      { of: 'regate', over: 'relay', must: 0.6, kind: 'at least' },
      { of: 'regate-hidden', over: 'relay', must: 0.85, kind: 'at least' },
    ],
  ),
  load('select-extended', 'pgbench -S, extended, 8 clients', { ...select, mode: 'extended' }, []),
  load(
    'tpcb',
    'pgbench TPC-B, simple, 8 clients',
    { clients: 8, script: [], statementsPerTransaction: 7, mode: 'simple' },
    [{ of: 'regate', over: 'pgbouncer', must: 0.85, kind: 'at least' }],
  ),
  latency('latency-p50', 0.5, 15),
  latency('latency-p99', 0.99, 60),
  rows('rows-text', 'big result, 10 columns, text', false),
  rows('rows-binary', 'big result, 10 columns, binary', true),
  ...[copy, sessions, connect, swap, fairness],
]

/** Tables of the cases. */
export async function prepareServer(arena: Arena, login: Login, effort: Effort): Promise<void> {
  const direct = await arena.contestant('direct')
  if (direct === null) return
  const client = new pg.Client({ host: '127.0.0.1', port: direct.port, ...login })
  await client.connect()
  await client.query(
    `CREATE TABLE wide AS SELECT n AS c1, n * 2 AS c2, n / 3.0::float8 AS c3, now() AS c4,
       'row number ' || n AS c5, md5(n::text) AS c6, n % 2 = 0 AS c7, n::int8 AS c8,
       (n % 100)::int2 AS c9, date '2024-01-01' + n % 1000 AS c10
     FROM generate_series(1, ${effort.rows}) n`,
  )
  await client.query('VACUUM ANALYZE wide')
  await client.end()
  await initialisePgbench(direct, login, 4)
}
