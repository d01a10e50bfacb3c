import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits } from '../../../src/core/core.ts'
import { SqlParser } from '../../../src/sql/parser.ts'
import { shapeOf } from '../../../src/sql/shape.ts'

let parser: SqlParser
beforeAll(async () => {
  parser = await SqlParser.create({ limits: defaultLimits })
})
afterAll(() => parser.close())

const shape = (text: string) => shapeOf(Buffer.from(text))?.text ?? null

describe('ordinary constants are hidden', () => {
  it.each([
    [
      'SELECT abalance FROM pgbench_accounts WHERE aid = 42;',
      'SELECT abalance FROM pgbench_accounts WHERE aid = 0',
    ],
    ['UPDATE a SET b = b + -123 WHERE c = 5', 'UPDATE a SET b = b + -0 WHERE c = 0'],
    [
      "INSERT INTO h (a, b, c) VALUES (5, 'x', -7.5, CURRENT_TIMESTAMP), (6, '', 1e3, now())",
      "INSERT INTO h (a, b, c) VALUES (0, '', -0.0, CURRENT_TIMESTAMP), (0, '', 0.0, now())",
    ],
    [
      "SELECT a FROM t WHERE b IN ('x', 'y''z') AND c NOT IN (1,2)",
      "SELECT a FROM t WHERE b IN ('', '') AND c NOT IN (0,0)",
    ],
    [
      'SELECT a FROM t WHERE b BETWEEN 5 AND 7 AND c > 3',
      'SELECT a FROM t WHERE b BETWEEN 0 AND 0 AND c > 0',
    ],
    [
      "SELECT a FROM t WHERE lower(b) = 'x' OR (c = 3)",
      "SELECT a FROM t WHERE lower(b) = '' OR (c = 0)",
    ],
    ["SELECT a FROM t WHERE d->>'k' = 'v'", "SELECT a FROM t WHERE d->>'k' = ''"],
    ["SELECT a FROM t WHERE b = 'x'::text LIMIT 10", "SELECT a FROM t WHERE b = ''::text LIMIT 10"],
    ['SELECT a FROM t WHERE b = ANY(ARRAY[1,2])', 'SELECT a FROM t WHERE b = ANY(ARRAY[0,0])'],
    [
      'SELECT a FROM t JOIN u ON t.x = 3 WHERE EXISTS (SELECT 1 FROM v WHERE v.y = 4)',
      'SELECT a FROM t JOIN u ON t.x = 0 WHERE EXISTS (SELECT 1 FROM v WHERE v.y = 0)',
    ],
    [
      'SELECT count(*) FROM t GROUP BY a HAVING count(*) > 5',
      'SELECT count(*) FROM t GROUP BY a HAVING count(*) > 0',
    ],
    [
      'WITH x AS (SELECT a FROM t WHERE b = 5) SELECT * FROM x',
      'WITH x AS (SELECT a FROM t WHERE b = 0) SELECT * FROM x',
    ],
    [
      "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 'x' WHERE t.c = 5",
      "INSERT INTO t VALUES (0) ON CONFLICT (a) DO UPDATE SET b = '' WHERE t.c = 0",
    ],
    ['SELECT /* trace */ a -- x\n  FROM\tt  WHERE b=5 ; ;', 'SELECT a FROM t WHERE b=0'],
    ['SELECT a FROM t WHERE b BETWEEN c AND.5', 'SELECT a FROM t WHERE b BETWEEN c AND.0'],
    ['SELECT a FROM t WHERE b=-5', 'SELECT a FROM t WHERE b=-0'],
    [
      'SELECT a FROM t WHERE b = 99999999999 AND c = 99999999999999999999',
      'SELECT a FROM t WHERE b = 2147483649 AND c = 9223372036854775809',
    ],
  ])('%s', (text, wanted) => {
    expect(shape(text)).toBe(wanted)
  })
})

describe('constants that carry meaning stay', () => {
  it.each([
    'SELECT a, 5 FROM t ORDER BY 1, 2 + 1',
    'SELECT a FROM t GROUP BY 1, 2',
    'SELECT DISTINCT ON (1, b - 2) a FROM t',
    'SELECT a FROM t LIMIT 5 + 5 OFFSET 3',
    'SELECT a FROM t FETCH FIRST 5 ROWS ONLY',
    'SELECT a FROM t WHERE b = c::numeric(5, 2)',
    "SELECT set_config('role', 'x', false)",
    "SELECT a FROM t WHERE set_config('a' || 'b', chr(1 + 2), b = 'c') = d",
    "SELECT nextval('s'), currval((SELECT 'x' FROM t WHERE a = 'b'))",
    "SELECT a FROM t WHERE b LIKE 'x%' AND c ~ '^y'",
    "SELECT a -> 'k' -> 1 FROM t WHERE b #> '{a,b}' IS NULL AND c #> ARRAY['a'] IS NULL",
    "UPDATE t SET j = j - 'key'",
    'SELECT a FROM t WHERE true AND 1 = 1 OR false',
    "SELECT a FROM t WHERE 'a' = 'a' OR 5 IN (5, 6) OR 5 BETWEEN 1 AND 9",
    "SELECT a FROM t WHERE b BETWEEN c AND d AND 't'",
    'SELECT a FROM t WHERE b IS DISTINCT FROM 5',
    'SELECT a AS where, b + 5 FROM t',
    'SELECT a AS on, 5 - 5, t.having + 5 FROM t ORDER BY t.where, t.set, 1',
    'SELECT set, values FROM t ORDER BY set, 1, values, 2 - 1',
    "SELECT a FROM t WHERE b = E'x' OR b = $$x$$ OR b = U&'x' OR b = 0x1F OR b = 1_000",
    'SELECT a FROM t WHERE b = -2147483648',
    'SELECT a FROM t WHERE b = -9223372036854775808',
    "SELECT a FROM t WHERE b BETWEEN CASE WHEN c AND 't' THEN d END AND 't'",
    'SELECT a BETWEEN set AND b + 5, c >= 6 FROM t LIMIT a BETWEEN set AND b + 5',
    "SELECT a FROM t WHERE b = DATE '2020-01-01' AND c > INTERVAL '1 day'",
    'SELECT a FROM t WHERE b[1] IS NULL AND (c).d[2 + 3] IS NULL',
    'SELECT sum(a) FILTER (WHERE b = 5) OVER (ORDER BY c ROWS 5 PRECEDING) FROM t',
    'SELECT * FROM t TABLESAMPLE bernoulli (10) REPEATABLE (5)',
    'SELECT * FROM generate_series(1, 10)',
  ])('%s', (text) => {
    expect(shapeOf(Buffer.from(text))).toEqual({ text, hiddenCount: 0 })
  })
})

describe('what has no shape', () => {
  it.each([
    'SET search_path = x',
    'EXPLAIN SELECT 1',
    "COPY t FROM 'x'",
    'CREATE TABLE t (a int)',
    'PREPARE p AS SELECT 1',
    'SELECT 1; SELECT 2',
    "SELECT 'a'\n'b'",
    "SELECT 'a' /* x */ 'b'",
    "SELECT a FROM t WHERE b = 'c'::regclass",
    'SELECT a FROM t WHERE b = \'c\'::"regclass"',
    "SELECT a FROM t WHERE b = 'c",
    'SELECT (a FROM t',
    'SELECT a) FROM t',
    'SELECT U&"x" FROM t',
    '',
    ';',
    '-- x',
    `SELECT ${'x,'.repeat(9000)} y`,
    `SELECT ${'('.repeat(300)}1${')'.repeat(300)}`,
  ])('%s', (text) => {
    expect(shapeOf(Buffer.from(text))).toBeNull()
  })
})

describe('what a bundle with hidden constants sees', () => {
  it('is one object for all statements of a shape, and its tree is that of its text', () => {
    const first = parser.hiddenForm(Buffer.from("SELECT a FROM t WHERE b = 'x' LIMIT 5"))
    const second = parser.hiddenForm(Buffer.from("SELECT a  FROM t WHERE b = 'y' LIMIT 5;"))
    expect(first?.text).toBe("SELECT a FROM t WHERE b = '' LIMIT 5")
    expect(second).toBe(first)
    expect(first?.kind).toBe('select')
    expect(first?.astJson).not.toContain('"sval":"x"')
    expect(first?.astJson).toContain('"ival":5')
  })

  it('is nothing for what has no shape or does not parse', () => {
    expect(parser.hiddenForm(Buffer.from('SET a = 1'))).toBeNull()
    expect(parser.hiddenForm(Buffer.from('SELECT FROM FROM'))).toBeNull()
  })
})
