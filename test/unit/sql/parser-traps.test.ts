/**
 * Texts that break libpg_query: as many shapes as the grammar can nest, at sizes that were seen to trap
 * or hang an instance. Whatever they do, the next statement works, and nobody else waits.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits } from '../../../src/core/core.ts'
import { depthBound } from '../../../src/sql/parser-scan.ts'
import { SqlParser, type ParseResult } from '../../../src/sql/parser.ts'

/** Each gives a text that nests `count` times. */
const shapes: Readonly<Record<string, (count: number) => string>> = {
  plus: (count) => `SELECT 1${'+1'.repeat(count)}`,
  concatenation: (count) => `SELECT ''${"||''".repeat(count)}`,
  parentheses: (count) => `SELECT ${'('.repeat(count)}1${')'.repeat(count)}`,
  casts: (count) => `SELECT 1${'::int'.repeat(count)}`,
  unions: (count) => `SELECT 1${' UNION SELECT 1'.repeat(count)}`,
  unionsWithCommas: (count) => `SELECT 1, 2${' UNION SELECT 1, 2'.repeat(count)}`,
  intersects: (count) => `SELECT 1${' INTERSECT ALL SELECT 1'.repeat(count)}`,
  not: (count) => `SELECT ${'NOT '.repeat(count)}true`,
  minus: (count) => `SELECT ${'- '.repeat(count)}a`,
  subSelects: (count) => `SELECT ${'(SELECT '.repeat(count)}1${')'.repeat(count)}`,
  joins: (count) => `SELECT 1 FROM a${' JOIN a ON b AND c'.repeat(count)}`,
  arrays: (count) => `SELECT ${'ARRAY['.repeat(count)}1${']'.repeat(count)}`,
  subscripts: (count) => `SELECT ${'a['.repeat(count)}1${']'.repeat(count)}`,
  case: (count) => `SELECT ${'CASE WHEN '.repeat(count)}1${' THEN 1 END'.repeat(count)}`,
  caseBehindAnd: (count) =>
    `SELECT ${'CASE WHEN a AND '.repeat(count)}1${' THEN 1 END'.repeat(count)}`,
  betweenNot: (count) => `SELECT ${'0 BETWEEN 0 AND - - - NOT '.repeat(count)}1`,
  calls: (count) => `SELECT ${'f('.repeat(count)}1${')'.repeat(count)}`,
  isNull: (count) => `SELECT 1${' IS NULL'.repeat(count)}`,
  collations: (count) => `SELECT 1${' COLLATE "C"'.repeat(count)}`,
  fromSubSelects: (count) =>
    `SELECT 1 FROM ${'(SELECT 1 FROM '.repeat(count)}a${') x'.repeat(count)}`,
  withs: (count) => `${'WITH a AS ('.repeat(count)}SELECT 1${') SELECT 1'.repeat(count)}`,
  joinParentheses: (count) =>
    `SELECT 1 FROM ${'('.repeat(count)}a${' CROSS JOIN b)'.repeat(count)}`,
  indirections: (count) => `SELECT a${'[1]'.repeat(count)}`,
  quotedBrackets: (count) => `SELECT 1${" + ')' + ".repeat(count)}1`,
  comments: (count) => `SELECT 1${'/*)*/+ 1--)\n'.repeat(count)}`,
  atTimeZone: (count) => `SELECT a${" AT TIME ZONE ''".repeat(count)}`,
  rows: (count) => `SELECT ${'ROW(1, '.repeat(count)}1${')'.repeat(count)}`,
  explicitOperators: (count) => `SELECT 1${' OPERATOR(s.+) 1'.repeat(count)}`,
}

let parser: SqlParser
beforeAll(async () => {
  parser = await SqlParser.create({ limits: defaultLimits })
})
afterAll(() => parser.close())

async function parse(text: string, using = parser): Promise<ParseResult> {
  const bytes = Buffer.from(text)
  const result = using.parse(bytes)
  return result.kind === 'later' ? using.parseInWorker(bytes) : result
}

function ofBytes(shape: (count: number) => string, bytes: number): string {
  const unit = (shape(200).length - shape(100).length) / 100
  return shape(Math.floor(bytes / unit))
}

function expectSound(result: ParseResult, name: string): void {
  if (result.kind === 'parsed') return
  expect(['54001', '42601'], `${name}: ${result.error.message}`).toContain(result.error.sqlstate)
}

describe('texts that break the parser', () => {
  it('never reach this thread, and others are not delayed', { timeout: 120_000 }, async () => {
    let longestMs = 0
    let last = performance.now()
    const ticks = setInterval(() => {
      const now = performance.now()
      longestMs = Math.max(longestMs, now - last)
      last = now
      expect(parser.parse(Buffer.from('SELECT 1')).kind).toBe('parsed')
    }, 1)
    const texts = Object.entries(shapes).flatMap(([name, shape]) =>
      [20_000, 96_000, 128_000, 256_000].map((bytes) => [name, ofBytes(shape, bytes)] as const),
    )
    expect(texts.length).toBeGreaterThan(100)
    for (const [name, text] of texts) {
      const bytes = Buffer.from(text)
      expect(parser.parse(bytes), name).toEqual({ kind: 'later' })
      expectSound(await parser.parseInWorker(bytes), name)
    }
    clearInterval(ticks)
    expect(parser.trapCount).toBe(0)
    expect((await parse('SELECT 1')).kind).toBe('parsed')
    // What remains in this thread is copying and cutting; parsing them took seconds.
    expect(longestMs).toBeLessThan(5_000)
  })

  it('below the size limit is known to be deep before it is parsed', () => {
    for (const [name, shape] of Object.entries(shapes)) {
      for (const bytes of [8_000, 12_000, 16_000]) {
        const text = Buffer.from(ofBytes(shape, bytes))
        const result = parser.parse(text)
        if (result.kind === 'parsed') {
          const depth = nodeDepth(result.statements[0]?.ast)
          expect(depth, name).toBeLessThan(3_000)
        }
      }
    }
    expect(parser.trapCount).toBe(0)
  })

  it('the bound is never below the depth of the tree', () => {
    for (const [name, shape] of Object.entries(shapes)) {
      for (const count of [50, 100, 200, 300]) {
        const text = Buffer.from(shape(count))
        const result = parser.parse(text)
        if (result.kind !== 'parsed') continue
        const bound = depthBound(text, 100_000)
        const exact = nodeDepth(result.statements[0]?.ast)
        // A sub-select is four nodes and at least two tokens.
        expect(exact, `${name} ${count}`).toBeLessThanOrEqual(2 * bound + 4)
      }
    }
  })

  it('replace the instance when they reach it all the same', { timeout: 120_000 }, async () => {
    const limits = { ...defaultLimits, inPlaceParseBytesMax: 1_000_000 }
    const careless = await SqlParser.create({ limits, inPlaceDepthMax: 10_000_000 })
    const names = ['plus', 'casts', 'unions', 'joins', 'isNull', 'subSelects'] as const
    for (let i = 0; i < 100; i++) {
      const shape = shapes[names[i % names.length] as string] as (count: number) => string
      expectSound(
        await parse(ofBytes(shape, [20_000, 96_000, 128_000][i % 3] as number), careless),
        '',
      )
      const after = await parse('SELECT a FROM t', careless)
      expect(after.kind === 'parsed' && after.statements[0]?.astJson).toContain('"relname":"t"')
    }
    expect(careless.trapCount).toBeGreaterThan(10)
    await careless.close()
  })

  it('work again after more traps within one turn than there are spare instances', async () => {
    const limits = { ...defaultLimits, inPlaceParseBytesMax: 1_000_000 }
    const careless = await SqlParser.create({ limits, inPlaceDepthMax: 10_000_000 })
    const text = Buffer.from(ofBytes(shapes['plus'] as (count: number) => string, 128_000))
    for (let i = 0; i < 10; i++) expect(careless.parse(text)).toEqual({ kind: 'later' })
    // None is left in this turn: even a small statement goes to a thread, and works.
    expect(careless.parse(Buffer.from('SELECT 1'))).toEqual({ kind: 'later' })
    expect((await careless.parseInWorker(Buffer.from('SELECT 1'))).kind).toBe('parsed')
    expect(careless.parse(Buffer.from('SELECT 1')).kind).toBe('parsed')
    await careless.close()
  })

  it('end at the wall clock', async () => {
    const hasty = await SqlParser.create({ limits: { ...defaultLimits, parseMsMax: 30 } })
    const rows = `INSERT INTO t VALUES (1)${',(1)'.repeat(1_000_000)}`
    const startedMs = performance.now()
    const result = await hasty.parseInWorker(Buffer.from(rows))
    expect(result.kind === 'failed' && result.error.sqlstate).toBe('54001')
    expect(performance.now() - startedMs).toBeLessThan(20_000)
    await hasty.close()
  })

  it('are refused by their size, the number of statements and the depth of the tree', async () => {
    const limits = { ...defaultLimits, statementBytesMax: 1000, statementCountMax: 3, depthMax: 20 }
    const strict = await SqlParser.create({ limits })
    const long = await parse(`SELECT ${'1'.repeat(1000)}`, strict)
    expect(long.kind === 'failed' && long.error.sqlstate).toBe('54000')
    const many = await parse('SELECT 1;'.repeat(4), strict)
    expect(many.kind === 'failed' && many.error.sqlstate).toBe('54000')
    const deep = await strict.parseInWorker(
      Buffer.from(`SELECT ${'f('.repeat(30)}1${')'.repeat(30)}`),
    )
    expect(deep.kind === 'failed' && deep.error.detail).toContain('limits.depthMax is 20')
    await strict.close()
  })

  it('are refused by the size of the tree, and the thread goes on', async () => {
    const limits = { ...defaultLimits, treeBytesMax: 100_000 }
    const strict = await SqlParser.create({ limits, threadsMax: 1 })
    const large = await parse(`SELECT ${'1,'.repeat(20_000)}1`, strict)
    expect(large.kind === 'failed' && large.error.sqlstate).toBe('54000')
    expect(large.kind === 'failed' && large.error.detail).toContain('limits.treeBytesMax is 100000')
    expect((await strict.parseInWorker(Buffer.from('SELECT 1'))).kind).toBe('parsed')
    await strict.close()
  })

  it('as large as a query string may be end in an answer', { timeout: 60_000 }, async () => {
    const text = `SELECT ${'1,'.repeat(8_000_000)}1`
    const result = await parse(text)
    expect(['54000', '54001', '53200']).toContain(result.kind === 'failed' && result.error.sqlstate)
    expect((await parser.parseInWorker(Buffer.from('SELECT 1'))).kind).toBe('parsed')
  })

  it('settle every job when the parser closes', async () => {
    const closing = await SqlParser.create({ limits: defaultLimits, threadsMax: 1 })
    const jobs = Array.from({ length: 20 }, () =>
      closing.parseInWorker(Buffer.from(`SELECT 1${'+1'.repeat(50_000)}`)),
    )
    await closing.close()
    for (const result of await Promise.all(jobs)) expect(result.kind).toBe('failed')
    expect((await closing.parseInWorker(Buffer.from('SELECT 1'))).kind).toBe('failed')
  })
})

describe('ordinary texts', () => {
  it('are not taken for deep ones', () => {
    const columns = Array.from({ length: 300 }, (_, i) => `t.column_${i} AS "c ${i}"`).join(', ')
    const filters = Array.from({ length: 300 }, (_, i) => `t.a = ${i} OR t.b < $${i}`).join(' OR ')
    const rows = Array.from({ length: 500 }, (_, i) => `(${i}, 'it''s (', -1.5, now())`).join(', ')
    for (const text of [
      `SELECT ${columns} FROM t`,
      `SELECT 1 FROM t WHERE ${filters}`,
      `INSERT INTO t VALUES ${rows}`,
      `SELECT 1 FROM t WHERE a IN (${'1,'.repeat(4000)}1)`,
      `SELECT 1 FROM ${Array.from({ length: 60 }, (_, i) => `t${i}`).join(' JOIN ')}`,
    ]) {
      expect(depthBound(Buffer.from(text), 1_000), text.slice(0, 40)).toBeLessThanOrEqual(1_000)
    }
  })
})

function nodeDepth(root: unknown): number {
  let most = 0
  const open: [unknown, number][] = [[root, 0]]
  for (let item = open.pop(); item !== undefined; item = open.pop()) {
    const [node, depth] = item
    if (typeof node !== 'object' || node === null) continue
    most = Math.max(most, depth)
    const step = Array.isArray(node) ? 0 : 1
    for (const child of Object.values(node)) open.push([child, depth + step])
  }
  return Math.ceil(most / 2)
}
