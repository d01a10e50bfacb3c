/**
 * ns per operation of the parser and its scans:
 *   node scripts/run-ts.mjs bench/micro/parse.bench.ts
 * `libpg_query` is the call into WebAssembly alone (text in, JSON bytes out); `parse` is the whole
 * SqlParser.parse; their difference is what regate adds. CPU time of this process, so that whoever
 * else uses the cores counts little. Medians of nine rounds, with the extremes.
 */
import os from 'node:os'
import { defaultLimits } from '../../src/core/core.ts'
import { createEngine } from '../../src/sql/libpg-query.ts'
import { depthBound } from '../../src/sql/parser-scan.ts'
import { SqlParser, shapeOf } from '../../src/sql/sql.ts'

const rounds = 9
let sink = 0

function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

function bench(name: string, operation: () => number): number {
  let repeats = 1
  for (;;) {
    const began = cpuMs()
    for (let index = 0; index < repeats; index += 1) sink += operation()
    if (cpuMs() - began > 60) break
    repeats *= 2
  }
  const results: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    const began = cpuMs()
    for (let index = 0; index < repeats; index += 1) sink += operation()
    results.push(((cpuMs() - began) * 1e6) / repeats)
  }
  results.sort((a, b) => a - b)
  const [fastest, median, slowest] = [results[0], results[4], results[8]] as [
    number,
    number,
    number,
  ]
  const figures = `${median.toFixed(0).padStart(9)} ns  (${fastest.toFixed(0)} … ${slowest.toFixed(0)})`
  console.log(`${name.padEnd(44)}${figures}`)
  return median
}

const statements: Readonly<Record<string, string>> = {
  'pgbench -S': 'SELECT abalance FROM pgbench_accounts WHERE aid = 4711;',
  'pgbench update': 'UPDATE pgbench_accounts SET abalance = abalance + -123 WHERE aid = 4711;',
  'pgbench insert':
    'INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 2, 3, 4, CURRENT_TIMESTAMP);',
  BEGIN: 'BEGIN;',
  'three-table join':
    "SELECT o.id, u.name, sum(i.price * i.amount) AS total FROM orders o JOIN users u ON u.id = o.user_id JOIN items i ON i.order_id = o.id WHERE u.email = 'a@b.c' AND o.created > now() - interval '7 days' GROUP BY o.id, u.name ORDER BY total DESC LIMIT 10",
}

const engine = await createEngine()
const parser = await SqlParser.create({ limits: defaultLimits })
for (let warm = 0; warm < 3_000; warm += 1) {
  for (const statement of Object.values(statements)) {
    const result = parser.parse(Buffer.from(statement))
    sink += engine.parse(Buffer.from(statement)).kind.length
    if (result.kind === 'parsed' && result.statements[0]?.ast !== undefined) sink += 1
  }
}
console.log(`${os.cpus()[0]?.model ?? '?'}, Node ${process.version}`)
for (const [name, statement] of Object.entries(statements)) {
  const text = Buffer.from(statement)
  const inner = bench(`${name}: libpg_query`, () => (engine.parse(text).kind === 'json' ? 1 : 0))
  const whole = bench(`${name}: parse`, () => (parser.parse(text).kind === 'parsed' ? 1 : 0))
  console.log(
    `${`${name}: added by regate`.padEnd(44)}${(whole - inner).toFixed(0).padStart(9)} ns`,
  )
  bench(`${name}: tree as an object`, () => {
    const result = parser.parse(text)
    return result.kind === 'parsed' && result.statements[0]?.ast !== undefined ? 1 : 0
  })
  bench(`${name}: shape`, () => shapeOf(text)?.hiddenCount ?? 0)
}
const filters = Array.from({ length: 300 }, (_, i) => `t.column_${i} = 'value ${i}'`).join(' OR ')
const long = Buffer.from(`SELECT a FROM t WHERE ${filters}`)
const scan = bench(`depth scan of ${long.length} bytes`, () => depthBound(long, 1_000))
console.log(
  `${'depth scan, per 100 bytes'.padEnd(44)}${((scan / long.length) * 100).toFixed(0).padStart(9)} ns`,
)
await parser.close()
if (sink === 0) console.log(sink)
