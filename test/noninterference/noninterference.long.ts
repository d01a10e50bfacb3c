/**
 * The long suite: SQLsmith's queries and the generated ones through regate, as the masked group.
 *   npm run test:noninterference -- --queries 20000 --seed 1
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
    generated: { type: 'string', default: '2000' },
    seed: { type: 'string', default: '1' },
    direct: { type: 'boolean', default: false },
    batch: { type: 'string', default: '1000' },
  },
})

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

function add(into: Figures, verdict: Verdict): void {
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
  count(into.reasons, message.replace(/"[^"]*"|\b[\w]+\.[\w.]+\b/g, '…').slice(0, 160))
}

async function runAll(
  comparison: Comparison,
  worlds: Worlds,
  queries: readonly string[],
  into: Figures,
  what: string,
): Promise<void> {
  for (const [index, sql] of queries.entries()) {
    const mode: Mode | undefined = modes[into.run % modes.length]
    if (mode === undefined) return
    try {
      const verdict = await comparison.judge(sql, mode)
      add(into, verdict)
      if (verdict.kind === 'leak') {
        console.log(`LEAK (${modeName(mode)}): ${verdict.difference}\n${sql}\n`)
      }
    } catch (error) {
      into.faults += 1
      console.log(`FAULT (${modeName(mode)}): ${String(error)}\n${sql.slice(0, 2_000)}\n`)
      await comparison.close()
    }
    if (index % 500 === 499) {
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

const worlds = await buildWorlds()
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
      const result = figures()
      const batch = Number(values.batch)
      for (let done = 0, next = seed; done < Number(values.queries); next += 1) {
        const options = { count: Math.min(batch, Number(values.queries) - done), seed: next }
        const queries = await sqlsmith(worlds.first.server, databaseName, options)
        done += options.count
        await runAll(comparison, worlds, queries, result, 'sqlsmith')
      }
      print('sqlsmith', result)
      failed ||= result.leaks > 0
    } else console.log('sqlsmith is not installed: its part is left out')
  } finally {
    await comparison.close()
    await proxies?.stop()
  }
} finally {
  await worlds.stop()
}
process.exitCode = failed ? 1 : 0
