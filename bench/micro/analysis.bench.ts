/**
 * µs per statement of the analysis, from the parser's JSON to the Analysis:
 *   node scripts/run-ts.mjs bench/micro/analysis.bench.ts
 * CPU time of the process, so that others on the machine count little; medians of eleven rounds,
 * with the extremes. `tree` is JSON.parse of the tree alone, which is part of `analyse`.
 */
import os from 'node:os'
import { defaultLimits } from '../../src/core/core.ts'
import {
  analyse,
  Catalog,
  SqlParser,
  type ParsedStatement,
  type RelationRow,
  type SessionFacts,
} from '../../src/sql/sql.ts'

const rounds = 11
const int4 = 23
const text = 25
let sink = 0

function table(oid: number, name: string, columns: Readonly<Record<string, number>>): RelationRow {
  return {
    ...{ oid, schema: 'public', name, kind: 'table', rowType: oid + 1, definition: null },
    ...{ parents: [], isPartition: false, rowSecurity: false, rules: [], triggers: [] },
    ...{ expressions: [], temporary: false },
    columns: Object.entries(columns).map(([column, type], index) => ({
      ...{ number: index + 1, name: column, type, modifier: -1, notNull: index === 0 },
      ...{ default: null, generated: null, identity: false },
    })),
  }
}

const pgbench = [
  table(20_000, 'pgbench_accounts', { aid: int4, bid: int4, abalance: int4, filler: text }),
  table(20_010, 'pgbench_tellers', { tid: int4, bid: int4, tbalance: int4, filler: text }),
  table(20_020, 'pgbench_branches', { bid: int4, bbalance: int4, filler: text }),
  table(20_030, 'pgbench_history', {
    ...{ tid: int4, bid: int4, aid: int4, delta: int4, mtime: 1114, filler: text },
  }),
]
const ten = Array.from({ length: 10 }, (_, index) =>
  table(30_000 + 10 * index, `t${index}`, {
    ...{ id: int4, parent_id: int4, name: text, status: text, amount: int4, note: text },
  }),
)

const catalog = Catalog.from({
  ...{ format: 1, database: 'bench', serverVersion: 180_004 },
  schemas: [{ oid: 2200, name: 'public' }],
  relations: [...pgbench, ...ten],
  ...{ types: [], functions: [], operators: [], casts: [], extensions: [], storedSettings: [] },
})

const joins = ten
  .slice(1)
  .map((one, index) => `JOIN ${one.name} ON ${one.name}.parent_id = t${index}.id`)
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
    ...{ text: sql, astJson, kind, index, count },
    ast: JSON.parse(astJson) as ParsedStatement['ast'],
  })
  if (!analyse(parsed, catalog, facts, tools).access.complete) throw new Error(`incomplete: ${sql}`)
  bench(`${name}: tree`, () => fresh().index)
  bench(`${name}: analyse`, () => analyse(fresh(), catalog, facts, tools).bytes)
}
if (sink < 0) console.log(sink)
await parser.close()
