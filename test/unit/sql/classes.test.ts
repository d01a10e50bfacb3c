/**
 * The class tables against a real server: nothing in its catalogs is unlisted, and what is called
 * total returns for every nasty value of its argument types that we can think of.
 */
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  builtinCast,
  builtinFunctions,
  builtinOperators,
  builtinType,
  extensionFunctionClass,
  functionEffect,
  informationSchemaFunctions,
  systemRelationClass,
} from '../../../src/sql/classes.ts'
import { startPostgres, type TestPostgres } from '../../support/postgres.ts'

let server: TestPostgres
let client: pg.Client
let major: number

beforeAll(async () => {
  server = await startPostgres({ settings: { log_statement: 'none' } })
  major = server.version
  client = new pg.Client({ connectionString: server.url() })
  await client.connect()
  await client.query("CREATE TYPE pg_temp.mood AS ENUM ('low', 'high')")
  await client.query(`CREATE FUNCTION pg_temp.attempt(text) RETURNS text LANGUAGE plpgsql AS
    'DECLARE r text; BEGIN EXECUTE $1 INTO r; RETURN NULL; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || '' '' || SQLERRM; END'`)
})

afterAll(async () => {
  await client?.end()
  await server?.stop()
})

async function rows<T extends pg.QueryResultRow>(sql: string): Promise<T[]> {
  return (await client.query<T>(sql)).rows
}

describe('the class tables and the server at hand', () => {
  it('list every function of pg_catalog and information_schema with its signature', async () => {
    const found = await rows<{
      schema: string
      name: string
      args: string[]
      result: string
      set: boolean
      kind: string
    }>(
      `SELECT n.nspname AS schema, p.proname AS name, p.proretset AS set, p.prokind AS kind, t.typname AS result,
        ARRAY(SELECT a.typname::text FROM unnest(p.proargtypes) WITH ORDINALITY u(o, i) JOIN pg_type a ON a.oid = u.o ORDER BY i) AS args
       FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_type t ON t.oid = p.prorettype
       WHERE n.nspname IN ('pg_catalog', 'information_schema')`,
    )
    expect(found.length).toBeGreaterThan(3000)
    const kinds = { f: 'function', p: 'procedure', a: 'aggregate', w: 'window' }
    const unlisted = found.filter((row) => {
      const lookup = row.schema === 'pg_catalog' ? builtinFunctions : informationSchemaFunctions
      return !lookup(row.name, major).some(
        (entry) =>
          entry.argumentTypes.join() === row.args.join() &&
          entry.returnType === row.result &&
          entry.returnsSet === row.set &&
          entry.kind === kinds[row.kind as keyof typeof kinds],
      )
    })
    expect(unlisted).toEqual([])
  })

  it('list every operator, cast, type and relation', async () => {
    const operators = await rows<{
      name: string
      left: string | null
      right: string
      result: string
    }>(
      `SELECT o.oprname AS name, l.typname AS left, r.typname AS right, e.typname AS result FROM pg_operator o
       LEFT JOIN pg_type l ON l.oid = o.oprleft JOIN pg_type r ON r.oid = o.oprright JOIN pg_type e ON e.oid = o.oprresult`,
    )
    expect(
      operators.filter(
        (row) =>
          !builtinOperators(row.name, major).some(
            (entry) =>
              entry.left === row.left && entry.right === row.right && entry.result === row.result,
          ),
      ),
    ).toEqual([])
    const casts = await rows<{ source: string; target: string }>(
      `SELECT s.typname AS source, t.typname AS target FROM pg_cast c
       JOIN pg_type s ON s.oid = c.castsource JOIN pg_type t ON t.oid = c.casttarget`,
    )
    expect(casts.filter((row) => builtinCast(row.source, row.target, major) === null)).toEqual([])
    const types = await rows<{ name: string; oid: number }>(
      `SELECT t.typname AS name, t.oid FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem
       WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typrelid = 0 AND t.oid < 10000 AND coalesce(e.typrelid, 0) = 0`,
    )
    expect(types.filter((row) => builtinType(row.name)?.oid !== row.oid)).toEqual([])
    const relations = await rows<{ schema: string; name: string }>(
      `SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname IN ('pg_catalog', 'information_schema') AND c.relkind IN ('r', 'v')`,
    )
    const secret = relations
      .filter((row) => systemRelationClass(row.schema, row.name) === 'secrets')
      .map((row) => row.name)
    expect(secret.sort()).toEqual([
      '_pg_user_mappings',
      'pg_authid',
      'pg_shadow',
      'pg_subscription',
      'pg_user_mapping',
      'pg_user_mappings',
      'user_mapping_options',
    ])
  })

  it('leave nothing opaque that PostgreSQL itself brings', async () => {
    const found = await rows<{ name: string }>(
      `SELECT DISTINCT proname AS name FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace`,
    )
    const opaque = found.filter((row) =>
      builtinFunctions(row.name, major).some((entry) => entry.class === 'opaque'),
    )
    expect(opaque).toEqual([])
  })
})

/** Values at the edges of each type, as SQL literals of that type. */
const edges: Readonly<Record<string, readonly string[]>> = {
  bool: ['true', 'false'],
  int2: ["'-32768'", "'32767'", "'0'", "'-1'"],
  int4: ["'-2147483648'", "'2147483647'", "'0'", "'-1'", "'7'"],
  int8: ["'-9223372036854775808'", "'9223372036854775807'", "'0'", "'-1'"],
  float4: ["'NaN'", "'Infinity'", "'-Infinity'", "'3.4e38'", "'1e-45'", "'-0'"],
  float8: ["'NaN'", "'Infinity'", "'-Infinity'", "'1.7e308'", "'5e-324'", "'-0'", "'9e18'"],
  numeric: [
    "'NaN'",
    "'Infinity'",
    "'-Infinity'",
    "repeat('9', 131072)",
    "'0.' || repeat('0', 16382) || '1'",
    "'-1e131071'",
    "'0'",
  ],
  money: ["'-92233720368547758.08'", "'92233720368547758.07'", "'0'"],
  text: [
    "''",
    "'a'",
    "'\\'",
    "'ﬁ Straße İ ẞ 😀'",
    "repeat('x', 10000)",
    "'%_'",
    "'''\"'",
    "E'\\x01\\n'",
    "U&'\\0301'",
  ],
  varchar: ["''", "'ß'", "repeat('x', 9999)"],
  bpchar: ["''", "'a  '", "'😀'"],
  name: ["''", "repeat('n', 63)"],
  char: ["''", "'a'", "E'\\x7f'"],
  bytea: ["''", "'\\x00'", "'\\xff00fe'", "decode(repeat('ab', 5000), 'hex')::text"],
  bit: ["B''", "B'1'", "B'0101'"],
  varbit: ["B''", "B'1'", "B'0101'"],
  date: ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'", "'2024-02-29'"],
  time: ["'00:00'", "'24:00'", "'23:59:59.999999'"],
  timetz: ["'00:00+15:59'", "'24:00-15:59'"],
  timestamp: [
    "'infinity'",
    "'-infinity'",
    "'4713-01-01 BC'",
    "'294276-12-31 23:59:59.999999'",
    "'2000-01-01'",
  ],
  timestamptz: [
    "'infinity'",
    "'-infinity'",
    "'4713-01-01 BC UTC'",
    "'294276-12-31 23:59:59.999999 UTC'",
    "'2000-01-01 UTC'",
  ],
  interval: ["'-178000000 years'", "'178000000 years'", "'0'", "'1 mon -1 day 00:00:00.000001'"],
  uuid: ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
  json: ["'null'", "'{}'", "'[]'", '\'"\\u0000"\'', '\'{"a":{"b":[1,null]},"a":2}\'', "'1e100000'"],
  jsonb: ["'null'", "'{}'", "'[]'", '\'"x"\'', '\'{"a":{"b":[1,null]}}\'', "'1e10000'", "'true'"],
  inet: ["'0.0.0.0/0'", "'255.255.255.255'", "'::/0'", "'ffff::1/128'", "'10.0.0.1/8'"],
  cidr: ["'0.0.0.0/0'", "'::/0'", "'10.0.0.0/8'"],
  macaddr: ["'00:00:00:00:00:00'", "'ff:ff:ff:ff:ff:ff'"],
  macaddr8: ["'00:00:00:00:00:00:00:00'", "'ff:ff:ff:ff:ff:ff:ff:ff'"],
  oid: ["'0'", "'4294967295'"],
  xid: ["'0'", "'4294967295'"],
  xid8: ["'0'", "'18446744073709551615'"],
  cid: ["'0'", "'4294967295'"],
  tid: ["'(0,0)'", "'(4294967295,65535)'"],
  pg_lsn: ["'0/0'", "'FFFFFFFF/FFFFFFFF'"],
  oidvector: ["''", "'1 2'"],
  tsvector: ["''", "'''a'':1A ''b'''"],
  tsquery: ["''", "'''a'' & !''b'''"],
  point: ["'(0,0)'", "'(1e308,-1e308)'", "'(NaN,Infinity)'"],
  path: ["'((0,0),(1,1))'", "'[(0,0),(1e308,1)]'"],
  lseg: ["'[(0,0),(1,1)]'", "'[(0,0),(3,4)]'"],
  circle: ["'<(0,0),0>'", "'<(1,1),2>'"],
  anyelement: ["'x'::text", '1::int4', "'{}'::jsonb", "'2020-01-01'::date"],
  anynonarray: ["'x'::text", '1::int4', "'{}'::jsonb"],
  anyarray: ["'{}'::int4[]", "'{1,null,3}'::int4[]", "'{{1,2},{3,4}}'::int4[]"],
  anycompatible: ['1::int4'],
  anycompatiblearray: ["'{1,2}'::int4[]"],
  anyrange: ["'empty'::int4range", "'(,)'::int4range", "'[1,3)'::int4range"],
  anymultirange: ["'{}'::int4multirange", "'{[1,3),[5,7)}'::int4multirange"],
  anyenum: ["'low'::pg_temp.mood", "'high'::pg_temp.mood"],
  polygon: ["'((0,0),(1,1),(1,0))'"],
  xml: ["'<a>&amp;</a>'", "'text'", "''"],
  any: ["'x'::text", '1::int4', "'{1,2}'::int4[]", 'ROW(1, 2)'],
  record: ['ROW(1, NULL)', 'ROW(2, 3)'],
  _text: ["'{}'", "'{a,NULL,b}'", "'{{a,b},{c,d}}'"],
}

/** Literals that this server cannot make: left out. Filled before the tests. */
const unmakeable = new Set<string>()

function literals(type: string): readonly string[] {
  const found = edges[type] ?? []
  return found
    .map((literal) =>
      type.startsWith('any') || type === 'record'
        ? literal
        : `(${literal})::text::pg_catalog."${type}"`,
    )
    .filter((literal) => !unmakeable.has(literal))
}

function combinations(types: readonly string[]): string[][] {
  let all: string[][] = [[]]
  for (const type of types) {
    // Pairs of polymorphic arguments must agree: the same literal serves for all of them.
    const values = literals(type)
    const next: string[][] = []
    for (const before of all) {
      for (const value of values) {
        const at = types.indexOf(type)
        const polymorphic = type.startsWith('any') && type !== 'any'
        if (
          polymorphic &&
          at < before.length &&
          before[at]?.split('::').at(-1) !== value.split('::').at(-1)
        )
          continue
        next.push([...before, value])
      }
    }
    all = next.slice(0, 400)
  }
  return all
}

/** All combinations as rows of a VALUES list, one list for each concrete type of the first. */
function groups(types: readonly string[]): string[] {
  const byType = new Map<string, string[]>()
  for (const values of combinations(types)) {
    const concrete =
      types[0]?.startsWith('any') === true ? (values[0]?.split('::').at(-1) ?? '') : ''
    const list = byType.get(concrete) ?? []
    byType.set(concrete, list)
    list.push(`(${values.join(', ')})`)
  }
  return [...byType.values()].map((list) => list.join(', '))
}

async function attempts(texts: readonly string[]): Promise<string[]> {
  const failures: string[] = []
  for (let start = 0; start < texts.length; start += 500) {
    const chunk = texts.slice(start, start + 500)
    const result = await client.query<{ sql: string; error: string | null }>(
      'SELECT sql, pg_temp.attempt(sql) AS error FROM unnest($1::text[]) AS sql',
      [chunk],
    )
    for (const row of result.rows) if (row.error !== null) failures.push(`${row.sql}: ${row.error}`)
  }
  return failures
}

/** The call itself was never made: polymorphic arguments that do not go together, no text form. */
const untyped = /: (42883|42804|42809|42P18|42725|42846) /

describe('what is called total', () => {
  beforeAll(async () => {
    const all = Object.keys(edges).flatMap((type) => literals(type))
    for (const failure of await attempts(all.map((literal) => `SELECT ${literal}`))) {
      unmakeable.add(
        failure.slice(
          'SELECT '.length,
          failure.lastIndexOf(': ', failure.search(/: [0-9A-Z]{5} /) + 1),
        ),
      )
    }
    expect([...unmakeable]).toEqual([])
  })

  it('returns for every edge of its argument types: functions', { timeout: 240_000 }, async () => {
    const names = await rows<{ name: string }>(
      `SELECT DISTINCT proname AS name FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'`,
    )
    const texts: string[] = []
    const untried: string[] = []
    let functions = 0
    for (const { name } of names) {
      for (const entry of builtinFunctions(name, major)) {
        if (entry.class !== 'total' || entry.kind !== 'function') continue
        if (entry.argumentTypes.includes('internal')) continue
        functions += 1
        const combined = combinations(entry.argumentTypes)
        if (combined.length === 0) untried.push(`${name}(${entry.argumentTypes.join()})`)
        for (const values of combined) {
          texts.push(`SELECT (pg_catalog."${name}"(${values.join(', ')}))::text`)
        }
      }
    }
    expect(functions).toBeGreaterThan(650)
    expect(untried).toEqual([])
    expect(texts.length).toBeGreaterThan(10_000)
    const failures = await attempts(texts)
    expect(failures.filter((failure) => !untyped.test(failure))).toEqual([])
    // Those that could not be made are few: a typo in the edges must not hide everything.
    expect(failures.length).toBeLessThan(texts.length / 10)
  })

  it(
    'returns for every edge of its argument types: operators and casts',
    { timeout: 240_000 },
    async () => {
      const operators = await rows<{ name: string }>(
        'SELECT DISTINCT oprname AS name FROM pg_operator',
      )
      const texts: string[] = []
      for (const { name } of operators) {
        for (const entry of builtinOperators(name, major)) {
          if (entry.class !== 'total') continue
          const types = entry.left === null ? [entry.right] : [entry.left, entry.right]
          for (const values of combinations(types)) {
            const [left = '', right = ''] = entry.left === null ? ['', values[0]] : values
            texts.push(`SELECT (${left} OPERATOR(pg_catalog.${name}) ${right})::text`)
          }
        }
      }
      for (const source of Object.keys(edges)) {
        if (source.startsWith('any') || source === 'record') continue
        for (const target of Object.keys(edges)) {
          if (builtinCast(source, target, major)?.class !== 'total') continue
          for (const value of literals(source))
            texts.push(`SELECT (${value}::pg_catalog."${target}")::text`)
        }
      }
      expect(texts.length).toBeGreaterThan(3_000)
      const failures = await attempts(texts)
      expect(failures.filter((failure) => !untyped.test(failure))).toEqual([])
      expect(failures.length).toBeLessThan(texts.length / 10)
    },
  )

  it('returns for every edge of its argument types: aggregates and windows', async () => {
    const names = await rows<{ name: string }>(
      `SELECT DISTINCT proname AS name FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
       AND prokind IN ('a', 'w') AND NOT EXISTS (SELECT FROM pg_aggregate WHERE aggfnoid = pg_proc.oid AND aggkind <> 'n')`,
    )
    const texts: string[] = []
    for (const { name } of names) {
      for (const entry of builtinFunctions(name, major)) {
        if (entry.class !== 'total' || entry.argumentTypes.length === 0) continue
        for (const first of groups(entry.argumentTypes)) {
          const window = entry.kind === 'window' ? ' OVER ()' : ''
          const columns = entry.argumentTypes.map((_, index) => `c${index}`).join(', ')
          texts.push(
            `SELECT (pg_catalog."${name}"(${columns})${window})::text FROM (VALUES ${first}) AS v(${columns})`,
          )
        }
      }
    }
    expect(texts.length).toBeGreaterThan(80)
    const failures = await attempts(texts)
    expect(failures.filter((failure) => !untyped.test(failure))).toEqual([])
    expect(failures.length).toBeLessThan(texts.length / 5)
  })

  it('would show what is not', async () => {
    const failures = await attempts(literals('int4').map((value) => `SELECT abs(${value})`))
    expect(failures).toEqual([
      'SELECT abs((\'-2147483648\')::text::pg_catalog."int4"): 22003 integer out of range',
    ])
  })

  it('says partial of what is known to fail', () => {
    const classOf = (name: string, ...types: string[]): string | undefined =>
      builtinFunctions(name, major).find((entry) => entry.argumentTypes.join() === types.join())
        ?.class
    const partial = [
      ['int4pl', 'int4', 'int4'],
      ['abs', 'int4'],
      ['substr', 'text', 'int4', 'int4'],
      ['format', 'text', 'any'],
      ['textlike', 'text', 'text'],
      ['date_mi', 'date', 'date'],
      ['sum', 'numeric'],
      ['array_agg', 'anyarray'],
      ['regexp_replace', 'text', 'text', 'text'],
      ['varchar', 'varchar', 'int4', 'bool'],
      ['timestamp', 'timestamp', 'int4'],
      ['repeat', 'text', 'int4'],
    ]
    for (const [name = '', ...types] of partial)
      expect(classOf(name, ...types), name).toBe('partial')
    expect(builtinCast('int8', 'int4', major)?.class).toBe('partial')
    expect(builtinCast('int4', 'int8', major)?.class).toBe('total')
    expect(builtinType('int4')?.input).toBe('partial')
    expect(builtinType('text')?.input).toBe('total')
  })
})

describe('what is neither total nor partial', () => {
  it.each([
    ['query_to_xml', 'reads_by_text'],
    ['table_to_xml', 'reads_by_text'],
    ['ts_stat', 'reads_by_text'],
    ['pg_read_file', 'file'],
    ['pg_ls_dir', 'file'],
    ['lo_get', 'file'],
    ['lo_from_bytea', 'file'],
    ['pg_terminate_backend', 'admin'],
    ['pg_reload_conf', 'admin'],
    ['pg_stat_get_activity', 'admin'],
    ['nextval', 'volatile'],
    ['set_config', 'volatile'],
    ['random', 'volatile'],
    ['pg_notify', 'volatile'],
  ])('%s is %s', (name, expected) => {
    const classes = builtinFunctions(name, major).map((entry) => entry.class)
    expect(new Set(classes)).toEqual(new Set([expected]))
  })

  it('says what a call does beside its value', () => {
    expect(functionEffect('nextval', 'volatile')).toBe('write')
    expect(functionEffect('pg_try_advisory_lock', 'volatile')).toBe('lock')
    expect(functionEffect('pg_read_file', 'file')).toBe('file')
    expect(functionEffect('upper', 'total')).toBeNull()
  })

  it('knows contrib extensions, and nothing about others', () => {
    expect(extensionFunctionClass('dblink', 'dblink', ['text', 'text'])).toBe('reads_by_text')
    expect(extensionFunctionClass('tablefunc', 'crosstab', ['text'])).toBe('reads_by_text')
    expect(extensionFunctionClass('pageinspect', 'get_raw_page', ['text', 'int8'])).toBe('admin')
    expect(extensionFunctionClass('citext', 'citext_eq', ['citext', 'citext'])).toBe('total')
    expect(extensionFunctionClass('citext', 'citext_eq', ['text', 'text'])).toBe('opaque')
    expect(extensionFunctionClass('evil', 'citext_eq', ['citext', 'citext'])).toBe('opaque')
  })

  it('says which system relations hold values', () => {
    expect(systemRelationClass('pg_catalog', 'pg_stats')).toBe('values')
    expect(systemRelationClass('pg_catalog', 'pg_statistic_ext_data')).toBe('values')
    expect(systemRelationClass('pg_catalog', 'pg_stat_activity')).toBe('activity')
    expect(systemRelationClass('pg_catalog', 'pg_class')).toBe('harmless')
    expect(systemRelationClass('pg_catalog', 'pg_of_tomorrow')).toBe('secrets')
    expect(systemRelationClass('pg_toast', 'pg_toast_16384')).toBe('values')
    expect(systemRelationClass('public', 'pg_class')).toBeNull()
  })
})
