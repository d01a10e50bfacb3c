import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits } from '../../../src/core/core.ts'
import type { ParsedStatement } from '../../../src/sql/access.ts'
import {
  innerStatementNodes,
  statementKinds,
  statementNodes,
} from '../../../src/sql/parser-kinds.ts'
import { SqlParser, type ParseResult } from '../../../src/sql/parser.ts'

let parser: SqlParser
beforeAll(async () => {
  parser = await SqlParser.create({ limits: defaultLimits })
})
afterAll(() => parser.close())

async function parse(text: string | Buffer): Promise<ParseResult> {
  const bytes = Buffer.from(text)
  const result = parser.parse(bytes)
  return result.kind === 'later' ? parser.parseInWorker(bytes) : result
}

async function statements(text: string) {
  const result = await parse(text)
  if (result.kind !== 'parsed') throw result.error
  return result.statements
}

describe('statements of a query string', () => {
  it('gives each statement its own text, tree, kind and index', async () => {
    const list = await statements("SELECT 'ü;'; -- c;\n DELETE FROM a ;; COMMIT")
    expect(list.map((s) => [s.text, s.kind, s.index, s.count])).toEqual([
      ["SELECT 'ü;'", 'select', 0, 3],
      ['DELETE FROM a', 'delete', 1, 3],
      ['COMMIT', 'transaction', 2, 3],
    ])
    for (const s of list) expect(JSON.parse(s.astJson)).toEqual(s.ast)
  })

  it.each(['', ' ', ';', ';;', '-- x', '/* a /* b */ */'])('finds none in %j', async (text) => {
    expect(await statements(text)).toEqual([])
  })

  it('is not fooled by JSON inside string constants', async () => {
    const evil = '{"stmt":{"SelectStmt":{}},"stmt_len":3},{"stmt":{ "version":180004,"stmts":['
    const list = await statements(
      `SELECT '${evil}'; SELECT "${evil.replaceAll('"', '""')}"; SELECT 3`,
    )
    expect(list).toHaveLength(3)
    expect(list.map((s) => JSON.parse(s.astJson))).toEqual(list.map((s) => s.ast))
  })
})

describe('kinds', () => {
  it('cover every statement node of the grammar', () => {
    const types = createRequire(import.meta.url).resolve('@pgsql/types/types.d.ts')
    const nodes = [...readFileSync(types, 'utf8').matchAll(/export interface (\w+Stmt) \{/g)]
    const inner = Object.keys(innerStatementNodes)
    const wanted = nodes.map((match) => match[1] as string).filter((name) => !inner.includes(name))
    expect([...statementNodes].toSorted()).toEqual(wanted.toSorted())
    expect(statementKinds).toHaveLength(statementNodes.length)
    expect(statementKinds).toContain('variableset')
    expect(statementKinds).toContain('createtableas')
  })

  it.each([
    ['SELECT 1', 'select'],
    ['VALUES (1)', 'select'],
    ['TABLE t', 'select'],
    ['SET a = 1', 'variableset'],
    ['RESET ALL', 'variableset'],
    ['BEGIN', 'transaction'],
    ['CREATE TABLE a AS SELECT 1', 'createtableas'],
    ['SELECT 1 INTO a', 'select'],
    ['MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE', 'merge'],
    ['ANALYZE', 'vacuum'],
    ['DO $$ $$', 'do'],
    ['CHECKPOINT', 'checkpoint'],
  ])('%s is %s', async (text, kind) => {
    expect((await statements(text))[0]?.kind).toBe(kind)
  })
})

describe('texts', () => {
  it('keep what is a letter to PostgreSQL and white space to JavaScript', async () => {
    expect((await statements('SELECT a\u00a0'))[0]?.text).toBe('SELECT a\u00a0')
    expect((await statements('SELECT a \n\v'))[0]?.text).toBe('SELECT a')
  })

  it('may begin with a byte order mark or end in a comment', async () => {
    expect((await statements('SELECT 1 -- ü'))[0]?.text).toBe('SELECT 1 -- ü')
    const marked = await parse('\ufeffSELECT 1')
    expect(marked.kind).toBe('failed')
  })

  it('parse as PostgreSQL parses them where a comment stands in the look-ahead', async () => {
    for (const text of [
      'SELECT a NOT /* c */ BETWEEN 1 AND 2',
      'SELECT a NOT -- c\n LIKE b',
      'SELECT a FROM t ORDER BY a NULLS /* ü */ FIRST',
      "SELECT U&'!0061' /* c */ UESCAPE '!'",
      'SELECT * FROM f() WITH /* c */ ORDINALITY',
    ]) {
      const plain = await statements(
        text.replace(/\/\*.*?\*\/|-- c/, (c) => ' '.repeat(Buffer.byteLength(c))),
      )
      expect((await statements(text))[0]?.astJson).toBe(plain[0]?.astJson)
    }
  })

  it('do not hide a statement in what looks like a comment', async () => {
    const list = await statements("SELECT '/*', a NOT /* c */ LIKE b; DELETE FROM t; SELECT '*/'")
    expect(list.map((s) => s.kind)).toEqual(['select', 'delete', 'select'])
    const escaped = await statements("SELECT E'\\'/*', a NOT /* c */ LIKE b; DELETE FROM t; --'*/'")
    expect(escaped.map((s) => s.kind)).toEqual(['select', 'delete'])
  })

  it('are the same from a thread', async () => {
    const text = "SELECT 'ü', a FROM t; DELETE FROM b WHERE c NOT IN (1) "
    const here = await statements(text)
    const there = await parser.parseInWorker(Buffer.from(text))
    const seen = ({ text, kind, index, count, astJson, ast }: ParsedStatement) => ({
      ...{ text, kind, index, count, astJson, ast },
    })
    expect(there.kind === 'parsed' && there.statements.map(seen)).toEqual(here.map(seen))
  })
})

describe('fingerprints', () => {
  it('are libpg_query’s', () => {
    expect(parser.fingerprint('SELECT 1')).toBe('50fde20626009aba')
    expect(parser.fingerprint('SELECT 2')).toBe('50fde20626009aba')
    expect(parser.fingerprint('SELEC')).toBeNull()
  })
})

describe('endless lists of constants', () => {
  const list = (count: number) => Array.from({ length: count }, (_, i) => `'],"${i}'`).join()

  it.each([
    ['IN', `SELECT a FROM t WHERE b IN (${list(5000)}, c, ${list(3000)})`],
    ['VALUES', `INSERT INTO t VALUES ${`(1,${list(3)}),`.repeat(5000)} (1, 2, 3, c), (5, 6, 7, 8)`],
    ['ARRAY', `SELECT ARRAY[${list(2001)}], f(${list(2000)}), ARRAY[[${list(2500)}], [c]]`],
    ['two statements', `SELECT b IN (${list(2001)}); DELETE FROM u WHERE b IN (${list(3000)}, c)`],
  ])('are cut in what regate walks, and nothing else is: %s', async (_, text) => {
    const result = await parser.parseInWorker(Buffer.from(text))
    if (result.kind !== 'parsed') throw result.error
    for (const statement of result.statements) {
      const full: unknown = JSON.parse(statement.astJson)
      expect(cutConstants(statement.ast)).toEqual(cutConstants(full))
      expect(JSON.stringify(statement.ast).length).toBeLessThan(statement.astJson.length)
    }
  })

  it('up to two thousand stay', async () => {
    const result = await parser.parseInWorker(
      Buffer.from(`SELECT 1 FROM t WHERE b IN (${list(2000)})`),
    )
    if (result.kind !== 'parsed') throw result.error
    expect(JSON.stringify(result.statements[0]?.ast)).toBe(result.statements[0]?.astJson)
  })
})

/** The tree with runs of constants at the beginning of a list reduced to the first two thousand. */
function cutConstants(node: unknown): unknown {
  if (Array.isArray(node)) {
    const first = node.findIndex((item) => !isConstant(item))
    const run = first === -1 ? node.length : first
    return [...node.slice(0, Math.min(run, 2000)), ...node.slice(run)].map(cutConstants)
  }
  if (typeof node !== 'object' || node === null) return node
  return Object.fromEntries(
    Object.entries(node).map(([name, value]) => [name, cutConstants(value)]),
  )
}

function isConstant(item: unknown): boolean {
  if (typeof item !== 'object' || item === null) return false
  if ('A_Const' in item) return true
  const items = (item as { List?: { items?: unknown[] } }).List?.items
  return (
    items?.every((part) => typeof part === 'object' && part !== null && 'A_Const' in part) ?? false
  )
}
