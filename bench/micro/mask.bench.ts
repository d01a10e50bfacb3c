/**
 * ns per row of ten columns through the rewriter, per kind of mask, text and binary:
 *   node scripts/run-ts.mjs bench/micro/mask.bench.ts
 * `copied` is the same rows appended untouched: what a row costs without a mask. Each figure is the
 * median of nine rounds, with the fastest and the slowest beside it.
 */
import os from 'node:os'
import { bindPlan, CopyRewriter, planMasks, type RowRewriter } from '../../src/masking/masking.ts'
import type { Mask } from '../../src/policy/policy.ts'
import { ByteWriter } from '../../src/wire/wire.ts'
import {
  analysis,
  copyData,
  dataRow,
  decision,
  field,
  key,
  trace,
  types,
} from '../../test/unit/masking/support.ts'

const rounds = 9
const rowCount = 1_000
const columns = 10
const takeBytes = 64 * 1024

function bench(name: string, count: number, operation: () => void): void {
  for (let warm = 0; warm < 20; warm += 1) operation()
  let repeats = 1
  for (;;) {
    const began = performance.now()
    for (let index = 0; index < repeats; index += 1) operation()
    if (performance.now() - began > 100) break
    repeats *= 2
  }
  const results: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    const began = performance.now()
    for (let index = 0; index < repeats; index += 1) operation()
    results.push(((performance.now() - began) * 1e6) / (repeats * count))
  }
  results.sort((a, b) => a - b)
  const [low = 0, median = 0, high = 0] = [results[0], results[rounds >> 1], results[rounds - 1]]
  console.log(
    `${name.padEnd(34)} ${median.toFixed(0).padStart(7)} ns/row  (${low.toFixed(0)} – ${high.toFixed(0)})`,
  )
}

/** Ten columns of what a table holds; the masked one is in the middle. */
function rowsOf(format: 0 | 1): Buffer {
  const rows: Buffer[] = []
  for (let index = 0; index < rowCount; index += 1) {
    const number = Buffer.alloc(4)
    number.writeInt32BE(77_000_000 + index)
    const int = format === 1 ? number : String(77_000_000 + index)
    const text = `value ${index}`
    rows.push(dataRow([int, text, text, int, text, int, text, text, int, text]))
  }
  return Buffer.concat(rows)
}

function rewriterFor(mask: Mask, position: number, type: number, format: 0 | 1): RowRewriter {
  const described = analysis(
    Array.from({ length: columns }, (_, index) =>
      trace(index === position ? { sources: [{ column: 's.t.c', via: 'direct' }] } : {}),
    ),
  )
  const fields = Array.from({ length: columns }, () => field({ type }))
  const plan = planMasks(decision({ 's.t.c': mask }), described)
  const bound = bindPlan(plan, described, fields, [format], types(), key)
  if (bound.kind !== 'bound' || bound.rewriter === null) throw new Error('not masked')
  return bound.rewriter
}

function throughRows(
  rows: Buffer,
  each: (start: number, end: number, out: ByteWriter) => void,
): () => void {
  const out = new ByteWriter()
  return () => {
    let at = 0
    while (at < rows.length) {
      const end = at + 1 + rows.readInt32BE(at + 1)
      each(at, end, out)
      at = end
      if (out.count > takeBytes) out.take()
    }
    out.take()
  }
}

console.log(`${os.cpus()[0]?.model ?? '?'}, Node ${process.version}, rows of ${columns} columns`)
for (const format of [0, 1] as const) {
  const rows = rowsOf(format)
  const name = format === 1 ? 'binary' : 'text'
  bench(
    `${name}: copied`,
    rowCount,
    throughRows(rows, (start, end, out) => out.bytes(rows, start, end)),
  )
  const cases: readonly (readonly [string, Mask, number, number])[] = [
    ['text redacted', { kind: 'redact' }, 4, 25],
    ['int4 to NULL', { kind: 'null' }, 3, 23],
    ['text partial', { kind: 'partial', keep_end: 2 }, 4, 25],
    ['text hashed', { kind: 'hash' }, 4, 25],
    ['int4 bucketed', { kind: 'bucket', size: 1000 }, 3, 23],
  ]
  for (const [what, mask, position, type] of cases) {
    const rewriter = rewriterFor(mask, position, type, format)
    bench(
      `${name}: ${what}`,
      rowCount,
      throughRows(rows, (start, end, out) => rewriter.rewrite(rows, start, end, out)),
    )
  }
}

for (const format of ['text', 'csv'] as const) {
  const delimiter = format === 'csv' ? ',' : '\t'
  const lines: Buffer[] = []
  for (let index = 0; index < rowCount; index += 1) {
    const values = Array.from({ length: columns }, (_, column) => `value ${index} of ${column}`)
    lines.push(copyData(`${values.join(delimiter)}\n`))
  }
  const data = Buffer.concat(lines)
  const described = analysis(
    Array.from({ length: columns }, (_, index) =>
      trace(index === 4 ? { sources: [{ column: 's.t.c', via: 'direct' }] } : {}),
    ),
  )
  const ast = {
    CopyStmt: { options: [{ DefElem: { defname: 'format', arg: { String: { sval: format } } } }] },
  }
  const plan = planMasks(decision({ 's.t.c': { kind: 'redact' } }), described)
  const rewriter = CopyRewriter.for(plan, described, ast, types(), key)
  bench(
    `COPY ${format}: one column hidden`,
    rowCount,
    throughRows(data, (start, end, out) => rewriter.push(data, start, end, out)),
  )
}
