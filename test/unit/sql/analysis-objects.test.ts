/** Objects that users make: names they share with the server's own, domains, STRICT functions. */
import { afterAll, describe, expect, test } from 'vitest'
import { catalog, catalogWith, one, parser, sources, sqlFunction } from './analysis-support.ts'

afterAll(() => parser.close())

const [int4, text, int8, varchar] = [23, 25, 20, 1043]
const secret = 'SELECT ssn FROM public.users LIMIT 1'

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

function required<T>(value: T | null): T {
  if (value === null) throw new Error('the fixture has changed')
  return value
}
