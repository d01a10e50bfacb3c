/**
 * µs per statement of the analysis, from the parser's JSON to the Analysis:
 *   node scripts/run-ts.mjs bench/micro/analysis.bench.ts
 * CPU time of the process, so that others on the machine count little; medians of eleven rounds,
 * with the extremes. `tree` is JSON.parse of the tree alone, which is part of `analyse`.
 */
import os from 'node:os'
import { defaultLimits } from '../../src/core/core.ts'
import { analyse, SqlParser, type ParsedStatement, type SessionFacts } from '../../src/sql/sql.ts'
import { benchCatalog, chain } from './catalog.ts'

const rounds = 11
let sink = 0

const catalog = benchCatalog()
const joins = chain
  .slice(1)
  .map((name, index) => `JOIN ${name} ON ${name}.parent_id = t${index}.id`)
  .join(' ')
const statements: Readonly<Record<string, string>> = {
  'pgbench -S': 'SELECT abalance FROM pgbench_accounts WHERE aid = 4711;',
  'pgbench update': 'UPDATE pgbench_accounts SET abalance = abalance + -123 WHERE aid = 4711;',
  'pgbench insert':
    'INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP);',
  BEGIN: 'BEGIN;',
  'ten-table join': `SELECT t0.id, t1.name, t2.name AS second, t3.status, sum(t9.amount) AS total FROM t0 ${joins} WHERE t0.status = 'open' AND t4.amount > 10 AND t5.note LIKE 'a%' GROUP BY t0.id, t1.name, t2.name, t3.status ORDER BY total DESC LIMIT 10`,
}

function cpuUs(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

function bench(name: string, operation: () => number): void {
  let repeats = 64
  for (;;) {
    const began = cpuUs()
    for (let index = 0; index < repeats; index += 1) sink += operation()
    if (cpuUs() - began > 100_000) break
    repeats *= 2
  }
  const results: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    const began = cpuUs()
    for (let index = 0; index < repeats; index += 1) sink += operation()
    results.push((cpuUs() - began) / repeats)
  }
  results.sort((a, b) => a - b)
  const [fastest = 0, median = 0, slowest = 0] = [results[0], results[5], results[10]]
  const figures = `${median.toFixed(1).padStart(8)} µs  (${fastest.toFixed(1)} … ${slowest.toFixed(1)})`
  console.log(`${name.padEnd(32)}${figures}`)
}

const parser = await SqlParser.create({ limits: defaultLimits })
const tools = {
  parse: (body: string) => parser.parseBody(body),
  parsePlpgsql: (body: string) => parser.parsePlpgsql(body),
}
const facts: SessionFacts = {
  searchPath: ['pg_catalog', 'public'],
  role: 'app',
  temporarySchema: null,
  prepared: () => undefined,
  cursor: () => undefined,
}
console.log(`${os.cpus()[0]?.model ?? '?'}, Node ${process.version}`)
for (const [name, sql] of Object.entries(statements)) {
  const result = parser.parse(Buffer.from(sql))
  const [parsed] = result.kind === 'parsed' ? result.statements : []
  if (parsed === undefined) throw new Error(`does not parse: ${sql}`)
  const { astJson, kind, index, count } = parsed
  const fresh = (): ParsedStatement => ({
    ...{ text: sql, astJson, tree: astJson, usesNames: false, kind, index, count },
    ast: JSON.parse(astJson) as ParsedStatement['ast'],
  })
  if (!analyse(parsed, catalog, facts, tools).access.complete) throw new Error(`incomplete: ${sql}`)
  bench(`${name}: tree`, () => fresh().index)
  bench(`${name}: analyse`, () => analyse(fresh(), catalog, facts, tools).bytes)
}
if (sink < 0) console.log(sink)
await parser.close()
