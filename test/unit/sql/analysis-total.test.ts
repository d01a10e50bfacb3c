/**
 * What is computed only sometimes must not be able to fail: a sub-select that may fail or have an
 * effect makes AND, OR, ANY and calls that may be inlined tell a masked value by their outcome.
 */
import { afterAll, describe, expect, test } from 'vitest'
import type { Analysis } from '../../../src/sql/sql.ts'
import { catalogWith, one, parser, sources, sqlFunction, uses } from './analysis-support.ts'

afterAll(() => parser.close())

const [bool, text] = [16, 25]

const own = catalogWith({
  functions: [
    sqlFunction({
      oid: 31_000,
      name: 'andf',
      argumentTypes: [bool, bool],
      returnType: bool,
      body: 'SELECT $1 AND $2',
    }),
    sqlFunction({ oid: 31_001, name: 'same', argumentTypes: [text], body: 'SELECT $1' }),
    sqlFunction({
      oid: 31_002,
      name: 'failing',
      returnType: bool,
      body: 'SELECT EXISTS (SELECT 1 FROM generate_series(1, 2) g WHERE 1 / (g - g) > 0)',
    }),
    sqlFunction({
      oid: 31_003,
      name: 'rows',
      argumentTypes: [bool],
      returnType: bool,
      returnsSet: true,
      volatility: 'stable',
      body: "SELECT ssn > 'T' AND EXISTS (SELECT 1 WHERE $1) FROM public.users",
    }),
    sqlFunction({
      oid: 31_004,
      name: 'ssn_by',
      argumentTypes: [bool],
      body: 'SELECT ssn FROM public.users WHERE $1',
    }),
  ],
})

const analysed = (sql: string): Analysis => one(sql, undefined, own)

/** Every source of the output that is a masked column is one that tells. */
function tells(analysis: Analysis): boolean {
  const masked = sources(analysis).filter((one) => /users\.(ssn|vip) /.test(one))
  expect(masked.length).toBeGreaterThan(0)
  const telling = masked.filter((one) => one.endsWith('-'))
  const used = [...uses(analysis, 'public.users.ssn'), ...uses(analysis, 'public.users.vip')]
  if (telling.length > 0) expect(used).toContain('argument')
  return telling.length > 0
}

const fails = 'SELECT 1 FROM generate_series(1, 2) g WHERE 1 / (g - g) > 0'

describe('what may fail makes what decides about it tell', () => {
  test.each([
    `(ssn > 'T') AND EXISTS (${fails})`,
    'vip OR EXISTS (SELECT 1 FROM orders WHERE 1 / (id - 1) > 100)',
    `(ssn > 'T') AND ARRAY(${fails}) IS NOT NULL`,
    `(ssn > 'T') AND JSON_ARRAY(${fails}) IS NOT NULL`,
    "ssn > ANY (SELECT 'T'::text FROM generate_series(1, 2) g WHERE 1 / (2 - g) > -5)",
    `ssn IN (SELECT note FROM orders WHERE 1 / id > 0)`,
    `(ssn, EXISTS (${fails})) = ('S', true)`,
    `'T' NOT BETWEEN ssn AND 'Z' OR EXISTS (${fails})`,
    "ssn > 'T' AND EXISTS (SELECT 1 FROM (SELECT nextval('counter')) n)",
    "ssn > 'T' AND EXISTS (SELECT 1 FROM orders FOR UPDATE)",
    "ssn > 'T' AND EXISTS (SELECT 1 FROM orders LIMIT -1)",
    "ssn > 'T' AND EXISTS (SELECT 1 FROM orders LIMIT '-1')",
    "ssn > 'T' AND EXISTS (SELECT 1 FROM orders OFFSET $1)",
    "ssn > 'T' AND EXISTS (SELECT 1 FROM orders TABLESAMPLE bernoulli (101))",
    "ssn > 'T' AND EXISTS (SELECT sum(id) OVER (ROWS -1 PRECEDING) FROM orders)",
    "ssn > 'T' AND EXISTS (SELECT sum(id) OVER w FROM orders WINDOW w AS (ROWS -1 PRECEDING))",
    "ssn > 'T' AND EXISTS (SELECT 1 FROM (SELECT DISTINCT ROW('{}'::json) FROM orders) s)",
    "ssn > 'T' AND EXISTS (SELECT 1 FROM orders ORDER BY ROW(note::json))",
    "ssn > 'T' AND EXISTS (SELECT 1 FROM generate_series(1, 2, 0))",
    "ssn > 'T' AND EXISTS (SELECT 1 FROM orders o JOIN orders p ON 1 / o.id = 1)",
    "ssn > 'T' AND EXISTS (SELECT 1 FROM JSON_TABLE('x', '$' COLUMNS (a int PATH '$')))",
    "ssn > 'T' AND EXISTS (SELECT g::numeric * 1e300 FROM generate_series(1, 1) g UNION ALL SELECT 1::float4)",
    "ssn > 'T' AND EXISTS (SELECT 1 GROUP BY 1 / 0)",
    "ssn > 'T' AND EXISTS (SELECT 1 FROM pg_settings)",
    "ssn > 'T' AND ARRAY(SELECT tags FROM people) IS NULL",
    "ssn > 'T' AND xmlparse(document 'bad')::text = 'x'",
    "ssn > 'T' AND JSON_VALUE('{}', '$.b' ERROR ON ERROR) = 'x'",
    "ssn > 'T' AND to_jsonb('{}'::json) IS NOT NULL",
    "ssn > 'T' AND failing()",
    `andf(ssn > 'T', (${fails.replace('SELECT 1', 'SELECT true')}))`,
    "andf(ssn > 'T', 1 / (id - id) > 0)",
  ])('%s', (expression) => {
    expect(tells(analysed(`SELECT ${expression} FROM users WHERE id = 1`))).toBe(true)
  })

  test.each([
    `WITH c AS (${fails}) SELECT ssn > 'T' AND EXISTS (SELECT 1 FROM c) FROM users`,
    `SELECT ssn > 'T' AND EXISTS (SELECT 1 WHERE s.b) FROM users, (SELECT 1 / id > 0 AS b FROM orders) s`,
    `SELECT r FROM generate_series(1, 1) g, rows(1 / (g - g) > 0) r`,
  ])('%s', (sql) => {
    expect(tells(analysed(sql))).toBe(true)
  })
})

describe('subscripts', () => {
  test.each([
    ['(ARRAY[1])[salary]', '+'],
    ['(ARRAY[1])[salary:3000]', '+'],
    ['(ARRAY[1])[salary::bigint]', '-'],
    ['(ARRAY[1])[1:salary::numeric]', '-'],
    ['(profile)[name]', '+'],
    // An array that is null has its subscripts not computed.
    ['(ARRAY[salary])[1]', '+'],
    ['(ARRAY[salary])[9999999999]', '+'],
    ['(ARRAY[salary])[1 / (id - id)]', '-'],
    ['(CASE WHEN vip THEN ARRAY[1] END)[(SELECT id FROM orders)]', '-'],
    ['(ARRAY[salary])[(SELECT g::bigint FROM generate_series(1, 1) g)]', '-'],
  ])('%s', (expression, mark) => {
    const found = sources(one(`SELECT ${expression} FROM users`))
    const sensitive = found.filter((source) => /salary|vip|profile/.test(source))
    expect(sensitive.length).toBeGreaterThan(0)
    for (const source of sensitive) expect(source.endsWith('-')).toBe(mark === '-')
  })
})

describe('what cannot fail does not', () => {
  test.each([
    "(ssn > 'T') AND EXISTS (SELECT 1 FROM orders o WHERE o.user_id = users.id)",
    "ssn IN (SELECT note FROM orders WHERE status = 'x' ORDER BY id LIMIT 10)",
    "ssn > 'T' OR ARRAY(SELECT id FROM orders) IS NULL",
    'EXISTS (WITH c AS (SELECT id FROM orders) SELECT 1 FROM c LIMIT NULL) AND vip',
    'vip AND EXISTS (SELECT 1 FROM contact)',
    "vip AND ARRAY(SELECT 'x' FROM contact) IS NULL",
    'vip AND EXISTS (SELECT 1 FROM orders a JOIN orders b USING (id) GROUP BY a.note)',
    // What fails does so whatever the masked column holds.
    `same(ssn) || EXISTS (${fails})::text`,
    'same((SELECT ssn FROM users u WHERE u.id = 1))',
    'ssn_by((SELECT true))',
    "andf(ssn > 'T', id = 1)",
  ])('%s', (expression) => {
    expect(tells(analysed(`SELECT ${expression} FROM users WHERE id = 1`))).toBe(false)
  })

  test('a column that comes from a function whose argument may fail stays what it is', () => {
    expect(sources(analysed('SELECT * FROM ssn_by($1::bool) x'))).toEqual([
      'public.users.ssn direct',
    ])
  })

  test('a count of what may fail is no plain count', () => {
    const sql =
      'SELECT count(x) FROM (SELECT (SELECT ssn FROM users u WHERE u.id = o.id) x FROM orders o) s'
    expect(sources(analysed(sql))).toEqual(['public.users.ssn derived+'])
  })
})
