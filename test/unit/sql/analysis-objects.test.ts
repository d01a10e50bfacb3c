/** Objects that users make: names they share with the server's own, domains, STRICT functions. */
import { afterAll, describe, expect, test } from 'vitest'
import {
  catalog,
  catalogWith,
  one,
  parser,
  sources,
  sqlFunction,
  TestSession,
  uses,
} from './analysis-support.ts'

afterAll(() => parser.close())

const [int4, text, int8, varchar] = [23, 25, 20, 1043]
const secret = 'SELECT ssn FROM public.users LIMIT 1'

test('a subscript of what is written tells its value by where it writes', () => {
  const update = "UPDATE users SET aliases[u.salary] = 'x' FROM users u WHERE u.id = users.id"
  expect(uses(one(update), 'public.users.salary')).toContain('argument')
  const insert = "INSERT INTO users (aliases[(SELECT salary FROM users LIMIT 1)]) VALUES ('x')"
  expect(uses(one(insert), 'public.users.salary')).toContain('argument')
})

describe('a name that the server has as well', () => {
  const shadow = sqlFunction({
    oid: 30_000,
    name: 'count',
    argumentTypes: [text],
    volatility: 'immutable',
    body: 'SELECT $1',
  })

  test('count of a user is no count', () => {
    const own = catalogWith({ functions: [shadow] })
    expect(sources(one('SELECT count(ssn) FROM users', undefined, own))).toEqual([
      'public.users.ssn direct',
    ])
    expect(sources(one('SELECT public.count(ssn) FROM users', undefined, own))).toEqual([
      'public.users.ssn direct',
    ])
    // Of another type, and by its whole name, it is the server's.
    expect(sources(one('SELECT pg_catalog.count(ssn) FROM users', undefined, own))).toEqual([
      'public.users.ssn count',
    ])
    expect(sources(one('SELECT count(id) FROM users', undefined, own))).toEqual([
      'public.users.id count',
    ])
  })

  test('while the search_path is not known, count may be anybody’s', () => {
    const own = catalogWith({ functions: [shadow] })
    const found = sources(one('SELECT count(ssn) FROM public.users', 'unknown', own))
    expect(found).not.toContain('public.users.ssn count')
    expect(sources(one('SELECT count(ssn) FROM public.users', 'unknown'))).toEqual([
      'public.users.ssn count',
    ])
  })

  test('while the search_path is not known, a bare type may be anybody’s', () => {
    const checked = required(catalog.typeByName('public', 'checked', []))
    const own = catalogWith({ types: [{ ...checked, oid: 30_011, schema: 'hr', array: 0 }] })
    const cast = 'SELECT id::checked FROM public.orders'
    const several = 'search_path is not known, and checked may be one of several types'
    expect(one(cast, 'unknown').access.incomplete).not.toContain(several)
    expect(one(cast, ['pg_catalog', 'public'], own).access.incomplete).not.toContain(several)
    expect(one(cast, 'unknown', own).access.incomplete).toContain(several)
  })

  test('a qualified unnest is the function of that name, whatever its arguments', () => {
    const own = catalogWith({
      functions: [
        sqlFunction({ oid: 30_001, name: 'unnest', argumentTypes: [text], body: 'SELECT $1' }),
        sqlFunction({ oid: 30_002, name: 'unnest', argumentTypes: [text, text], body: secret }),
      ],
    })
    const qualified = "SELECT x FROM public.unnest('a'::text, 'b'::text) AS t(x)"
    expect(sources(one(qualified, undefined, own))).toEqual(['public.users.ssn direct'])
    // An unqualified one of several arguments is always the server's, for each of them.
    const bare = one(
      'SELECT x, y FROM users, unnest(ARRAY[ssn], ARRAY[id]) AS t(x, y)',
      undefined,
      own,
    )
    expect(sources(bare)).toEqual(['public.users.ssn derived-'])
    expect(sources(bare, 1)).toEqual(['public.users.id derived-'])
    const hidden = one(
      "SELECT x FROM unnest('{a}'::text[], '{b}'::text[]) AS t(x)",
      ['public', 'pg_catalog'],
      own,
    )
    expect(hidden.access.complete).toBe(true)
    expect(hidden.access.functions.map(({ schema }) => schema)).toEqual(['pg_catalog'])
  })

  test('a domain takes what its base takes', () => {
    const dq = { ...required(catalog.typeByName('public', 'checked', ['public'])), checks: [] }
    const own = catalogWith({
      types: [{ ...dq, oid: 30_010, name: 'dq', array: 0 }],
      functions: [
        sqlFunction({ oid: 30_003, name: 'ov', argumentTypes: [30_010, int4], body: secret }),
        sqlFunction({ oid: 30_004, name: 'ov', argumentTypes: [varchar, int8] }),
      ],
    })
    expect(sources(one("SELECT ov('x'::text, 1)", undefined, own))).toEqual([
      'public.users.ssn direct',
    ])
  })
})

describe('nulls tell', () => {
  const strict = { strict: true, argumentTypes: [int4] }
  const own = catalogWith({
    functions: [
      sqlFunction({ oid: 30_040, name: 's1', ...strict, returnType: int4 }),
      sqlFunction({
        oid: 30_041,
        name: 's2',
        ...strict,
        returnType: int4,
        body: 'SELECT 1 / (id - id) FROM orders',
      }),
      sqlFunction({
        oid: 30_042,
        name: 's3',
        ...strict,
        argumentTypes: [text, int4],
        body: 'SELECT $1',
      }),
      sqlFunction({
        oid: 30_043,
        name: 's4',
        ...strict,
        returnType: 2249,
        arguments: [
          { name: 'n', mode: 'in', type: int4 },
          { name: 'a', mode: 'out', type: int4 },
          { name: 'b', mode: 'out', type: int4 },
        ],
        body: 'SELECT 1, 2',
      }),
      sqlFunction({ oid: 30_044, name: 'loose', argumentTypes: [int4], returnType: int4 }),
    ],
  })

  test('a STRICT function depends on every argument', () => {
    const outputs = (sql: string): string[] => sources(one(sql, undefined, own))
    expect(outputs('SELECT s1(salary) FROM users')).toEqual(['public.users.salary derived+'])
    expect(outputs('SELECT s2(salary) FROM users')).toContain('public.users.salary derived-')
    expect(outputs('SELECT s3(ssn, salary) FROM users')).toEqual([
      'public.users.salary derived+',
      'public.users.ssn direct',
    ])
    expect(outputs('SELECT (s4(salary)).b FROM users')).toEqual(['public.users.salary derived+'])
    expect(outputs('SELECT loose(salary) FROM users')).toEqual([])
  })

  test('a count of a column is plain where no child may hold a null', () => {
    const base = required(catalog.relation('public', 'base_t'))
    const child = required(catalog.relation('public', 'child_t'))
    const counted = (childMay: boolean): string[] => {
      const columns = (row: typeof base, notNull: boolean) =>
        row.columns.map((column) => ({ ...column, notNull }))
      const renamed = catalogWith({
        relations: [
          { ...base, oid: 30_050, name: 'never', columns: columns(base, true), rowType: 0 },
          {
            ...child,
            oid: 30_051,
            name: 'never_child',
            columns: columns(child, !childMay),
            parents: [30_050],
            rowType: 0,
          },
        ],
      })
      return sources(one('SELECT count(secret) FROM never', undefined, renamed))
    }
    expect(counted(false)).toEqual(['public.never.secret count', 'public.never_child.secret count'])
    expect(counted(true)).toEqual([
      'public.never.secret derived+',
      'public.never_child.secret derived+',
    ])
  })
})

describe('what converting to a domain runs is read', () => {
  const users = { oid: 30_020, schema: 'public', name: 'known' }
  const checked = required(catalog.typeByName('public', 'checked', ['public']))
  const base = required(catalog.typeByName('public', 'home', ['public']))
  const pair = required(catalog.rowTypeRelation(base.oid))
  const [street] = pair.columns
  const own = catalogWith({
    types: [
      { ...base, oid: 30_030, name: 'pair', array: 0, relation: 30_031 },
      {
        ...base,
        oid: 30_032,
        name: 'checked_range',
        kind: 'range',
        relation: 0,
        array: 0,
        subtype: checked.oid,
      },
    ],
    relations: [
      {
        ...pair,
        oid: 30_031,
        name: 'pair',
        rowType: 30_030,
        columns: [{ ...required(street ?? null), type: checked.oid }],
      },
    ],
    functions: [
      sqlFunction({ ...users, argumentTypes: [checked.oid], returnType: int4 }),
      sqlFunction({
        oid: 30_021,
        name: 'made',
        argumentTypes: [text],
        returnType: checked.oid,
        body: 'SELECT $1',
      }),
      sqlFunction({
        oid: 30_022,
        name: 'small',
        argumentTypes: [int8],
        returnType: int4,
        body: 'SELECT $1',
      }),
      sqlFunction({
        oid: 30_023,
        name: 'knowns',
        argumentTypes: [checked.array],
        variadic: true,
        returnType: int4,
      }),
      sqlFunction({
        oid: 30_024,
        name: 'plain',
        argumentTypes: [varchar],
        returnType: text,
        body: 'SELECT $1',
      }),
    ],
  })

  test.each([
    "SELECT 'x'::checked",
    "SELECT '{x}'::checked[]",
    'SELECT NULL::pair',
    "SELECT '[a,b]'::checked_range",
    "SELECT * FROM json_to_record('{}') AS t(a checked)",
    "SELECT * FROM ROWS FROM (json_to_record('{}') AS (a checked)) AS t",
    'PREPARE p(checked) AS SELECT $1',
    "SELECT * FROM JSON_TABLE('{}', '$' COLUMNS (a checked PATH '$' ERROR ON ERROR))",
    "SELECT JSON_VALUE('{}', '$' RETURNING checked ERROR ON ERROR)",
    "SELECT json_populate_record(w, '{}') FROM with_domain w",
    "SELECT known('x')",
    'SELECT known($1)',
    "SELECT knowns('x', 'y')",
    "SELECT made('x')",
    'DO $$ DECLARE v checked[]; BEGIN v := NULL; END $$',
  ])('%s', (sql) => {
    expect(uses(one(sql, undefined, own), 'public.users.ssn')).toContain('filter')
  })

  test('EXECUTE converts to the types that PREPARE declares', () => {
    const session = new TestSession(own)
    const [, executed] = session.run("PREPARE p(checked) AS SELECT $1; EXECUTE p('x')")
    expect(executed === undefined ? [] : uses(executed, 'public.users.ssn')).toContain('filter')
    expect(executed?.outputs).toHaveLength(1)
  })

  test('what is only named is not converted to', () => {
    for (const sql of [
      'CREATE TABLE t (a checked)',
      'DROP DOMAIN checked',
      'SELECT id FROM with_domain',
    ]) {
      expect(uses(one(sql, undefined, own), 'public.users.ssn')).toEqual([])
    }
  })

  test.each([
    ['known(name)', 'users.name', '-'],
    ['known(VALUE => name)', 'users.name', '-'],
    ['made(name)', 'users.name', '-'],
    ['small(salary)', 'users.salary', '-'],
    ['plain(name)', 'users.name', '+'],
  ])('%s', (expression, column, mark) => {
    const analysis = one(`SELECT ${expression} FROM users`, undefined, own)
    if (mark === '-') expect(uses(analysis, `public.${column}`)).toContain('argument')
    else expect(sources(analysis)).toEqual([`public.${column} direct`])
  })
})

function required<T>(value: T | null): T {
  if (value === null) throw new Error('the fixture has changed')
  return value
}
