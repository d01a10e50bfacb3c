/**
 * The long suite: SQLsmith's queries and the generated ones through regate, as the masked group.
 *   npm run test:noninterference -- --queries 20000 --narrow 20000 --seed 1
 * SQLsmith puts sensitive columns into most conditions that it makes, so most of its queries are
 * refused. The second half (`narrow`) sees only the relations with few sensitive columns, reads, and
 * calls no function that the policies deny for everybody: more of them are answered, which is where a
 * leak could show.
 * Exit code 1 where anything leaked. Every leak is printed with its query, so that it becomes a case
 * of the corpus.
 */
import { parseArgs } from 'node:util'
import { backendTypes } from '../../src/wire/wire.ts'
import { Comparison, directly, fieldsOf, type Verdict } from './compare.ts'
import { attackQuery, maskedQuery, plainQuery, sample } from './generated.ts'
import { startProxies } from './proxies.ts'
import { modeName, modes, type Mode } from './raw-connection.ts'
import { hasSqlsmith, sqlsmith } from './sqlsmith.ts'
import { buildWorlds, databaseName, tidy, type Worlds } from './worlds.ts'

const { values } = parseArgs({
  options: {
    queries: { type: 'string', default: '20000' },
    narrow: { type: 'string', default: '20000' },
    generated: { type: 'string', default: '2000' },
    seed: { type: 'string', default: '1' },
    direct: { type: 'boolean', default: false },
    examples: { type: 'boolean', default: false },
    batch: { type: 'string', default: '1000' },
  },
})

/** What the narrow half of SQLsmith's queries is made of: privileges of the role that it uses. */
const smith = { user: 'smith', password: 'smith' }
const smithRole = `CREATE ROLE ${smith.user} LOGIN PASSWORD '${smith.password}';
  GRANT USAGE ON SCHEMA hr TO ${smith.user};
  GRANT SELECT ON orders, addresses, hr.users, cards, events, user_cards, contact_twice TO ${smith.user};`
/** Functions that the shipped policies deny whatever they are called with. */
const deniedCalls =
  /\bpg_catalog\.(?:pg_(?!typeof|size)\w+|currtid2|ts_(?:stat|rewrite)|lo_\w+|\w+_to_xml\w*|set_config|gin_\w+|brin_\w+|txid_\w+|nextval|setval|setseed)\b/

interface Figures {
  run: number
  answered: number
  rows: number
  equal: number
  noise: number
  leaks: number
  faults: number
  readonly sqlstates: Map<string, number>
  readonly reasons: Map<string, number>
}

function figures(): Figures {
  return {
    ...{ run: 0, answered: 0, rows: 0, equal: 0, noise: 0, leaks: 0, faults: 0 },
    sqlstates: new Map(),
    reasons: new Map(),
  }
}

function count(map: Map<string, number>, key: string): void {
  map.set(key, (map.get(key) ?? 0) + 1)
}

function add(into: Figures, verdict: Verdict, sql: string): void {
  into.run += 1
  into[verdict.kind === 'leak' ? 'leaks' : verdict.kind] += 1
  const { sqlstate, rowCount, frames } = verdict.first
  if (sqlstate === null) {
    into.answered += 1
    into.rows += rowCount
    return
  }
  count(into.sqlstates, sqlstate)
  const error = frames.find((frame) => frame[0] === backendTypes.ErrorResponse)
  if (sqlstate !== '42501' || error === undefined) return
  const message = fieldsOf(error).get('M') ?? ''
  const reason = message.replace(/"[^"]*"|\b[\w]+\.[\w.]+\b/g, '…').slice(0, 160)
  if (values.examples && !into.reasons.has(reason)) console.log(`FIRST: ${message}\n${sql}\n`)
  count(into.reasons, reason)
}

async function runAll(
  comparison: Comparison,
  worlds: Worlds,
  queries: readonly string[],
  into: Figures,
  what: string,
): Promise<void> {
  for (const sql of queries) {
    const mode: Mode | undefined = modes[into.run % modes.length]
    if (mode === undefined) return
    try {
      const verdict = await comparison.judge(sql, mode)
      add(into, verdict, sql)
      if (verdict.kind === 'leak') {
        console.log(`LEAK (${modeName(mode)}): ${verdict.difference}\n${sql}\n`)
      }
    } catch (error) {
      into.faults += 1
      console.log(`FAULT (${modeName(mode)}): ${String(error)}\n${sql.slice(0, 2_000)}\n`)
      await comparison.close()
    }
    if (into.run % 500 === 0) {
      await Promise.all(worlds.all.map(tidy))
      console.error(`${what}: ${into.run} run, ${into.answered} answered, ${into.leaks} leaks`)
    }
  }
}

function print(what: string, figure: Figures): void {
  const { sqlstates, reasons, ...numbers } = figure
  console.log(what, JSON.stringify(numbers))
  const sorted = (map: Map<string, number>): string =>
    [...map]
      .sort(([, a], [, b]) => b - a)
      .map(([key, times]) => `  ${String(times).padStart(6)}  ${key}`)
      .join('\n')
  console.log(sorted(sqlstates))
  if (reasons.size > 0) console.log(sorted(reasons))
}

async function runSqlsmith(
  comparison: Comparison,
  what: 'sqlsmith' | 'narrow',
  wanted: number,
  seed: number,
): Promise<Figures> {
  const result = figures()
  const role = what === 'narrow' ? { role: smith } : {}
  // A seed of its own for each batch, so that memory stays small.
  for (let next = seed; result.run + result.faults < wanted; next += 1) {
    const options = { count: Number(values.batch), seed: next, ...role }
    const queries = await sqlsmith(worlds.first.server, databaseName, options)
    const asked = queries.filter(
      (query) => what !== 'narrow' || (/^(?:select|with)/i.test(query) && !deniedCalls.test(query)),
    )
    const left = wanted - result.run - result.faults
    await runAll(comparison, worlds, asked.slice(0, left), result, what)
  }
  return result
}

const worlds = await buildWorlds({ extra: { first: smithRole, other: smithRole } })
let failed = false
try {
  const proxies = values.direct ? null : await startProxies(worlds)
  const connect = proxies?.connect ?? ((world) => directly(world, databaseName))
  const comparison = new Comparison(connect, worlds)
  const seed = Number(values.seed)
  try {
    for (const [name, query] of [
      ['plain', plainQuery],
      ['masked', maskedQuery],
      ['attack', attackQuery],
    ] as const) {
      const result = figures()
      await runAll(comparison, worlds, sample(query, Number(values.generated), seed), result, name)
      print(name, result)
      failed ||= result.leaks > 0
    }
    if (hasSqlsmith()) {
      for (const [name, wanted] of [
        ['sqlsmith', values.queries],
        ['narrow', values.narrow],
      ] as const) {
        const result = await runSqlsmith(comparison, name, Number(wanted), seed)
        print(name, result)
        failed ||= result.leaks > 0
      }
    } else console.log('sqlsmith is not installed: its part is left out')
  } finally {
    await comparison.close()
    await proxies?.stop()
  }
} finally {
  await worlds.stop()
}
process.exitCode = failed ? 1 : 0
