/** The catalog index: resolution as the server does it, layers, names, classes of conversions. */
import { describe, expect, it } from 'vitest'
import {
  Catalog,
  castClass,
  dottedColumn,
  modifierClass,
  outputClass,
  quoteIdentifier,
  splitDotted,
  type CatalogOverlay,
  type CatalogSnapshot,
  type FunctionRow,
  type RelationRow,
  type TypeRow,
} from '../../../src/sql/sql.ts'

const int4 = 23
const text = 25
const json = 114

function relation(oid: number, schema: string, name: string, more: Partial<RelationRow> = {}) {
  const row: RelationRow = {
    ...{ oid, schema, name, kind: 'table', rowType: oid + 1, rowArrayType: oid + 2 },
    columns: ['id', 'label'].map((column, index) => ({
      ...{ number: index + 1, name: column, type: index === 0 ? int4 : text, modifier: -1 },
      ...{ notNull: false, default: null, generated: null, identity: false },
    })),
    ...{ definition: null, parents: [], isPartition: false, rowSecurity: false, rules: [] },
    ...{ triggers: [], expressions: [], temporary: false },
    ...more,
  }
  return row
}

function call(oid: number, schema: string, name: string, argumentTypes: readonly number[]) {
  const row: FunctionRow = {
    ...{ oid, schema, name, kind: 'function', language: 'sql', volatility: 'immutable' },
    ...{ strict: false, securityDefiner: false, returnsSet: false, returnType: text },
    ...{ argumentTypes, arguments: [], defaultCount: 0, variadic: false, body: 'SELECT 1' },
    ...{ bodyIsParsed: false, settings: [], extension: null },
  }
  return row
}

function type(oid: number, name: string, more: Partial<TypeRow>) {
  const row: TypeRow = {
    ...{ oid, schema: 'public', name, kind: 'base', category: 'U', element: 0, array: 0 },
    ...{ base: 0, modifier: -1, notNull: false, checks: [], relation: 0, subtype: 0 },
    ...{ labels: [], delimiter: ',' },
    ...more,
  }
  return row
}

const snapshot: CatalogSnapshot = {
  ...{ format: 1, database: 'd', serverVersion: 180004 },
  schemas: [
    { oid: 11, name: 'pg_catalog' },
    { oid: 2200, name: 'public' },
    { oid: 2300, name: 'hr' },
  ],
  relations: [
    relation(20000, 'public', 'users'),
    relation(20010, 'hr', 'users'),
    relation(20020, 'public', 'root'),
    relation(20030, 'public', 'middle', { parents: [20020] }),
    relation(20040, 'public', 'leaf', { parents: [20030] }),
    relation(20050, 'public', 'shown', { kind: 'view', reads: [20000] }),
    relation(20060, 'public', 'shown_twice', { kind: 'view', reads: [20050] }),
    relation(20070, 'pg_temp_3', 'users', { temporary: true }),
  ],
  types: [
    type(30000, 'mood', { kind: 'enum', category: 'E', labels: ['low'] }),
    type(30001, 'short', { kind: 'domain', base: text }),
    type(30002, 'checked', { kind: 'domain', base: 30001, checks: ['(VALUE <> ...)'] }),
    type(30003, 'foreign_base', {}),
    type(30004, 'document', { kind: 'domain', base: json }),
  ],
  functions: [
    call(40000, 'hr', 'upper', [text]),
    call(40001, 'hr', 'shout', [text]),
    call(40002, 'pg_temp_3', 'upper', [text]),
    { ...call(40003, 'public', 'citext_eq', [1, 1]), language: 'c', extension: 'citext' },
  ],
  operators: [
    {
      ...{ oid: 50000, schema: 'hr', name: '=', left: int4, right: int4 },
      ...{ function: 40001, result: 16 },
    },
  ],
  ...{ casts: [], extensions: [], storedSettings: [] },
}
const catalog = Catalog.from(snapshot)

function overlay(changed: Partial<CatalogOverlay['changed']>, dropped: readonly number[] = []) {
  const oids = (rows: readonly { readonly oid: number }[]): number[] =>
    rows.map((row) => row.oid).filter((oid) => !dropped.includes(oid))
  const made: CatalogOverlay = {
    changed: { relations: [], types: [], functions: [], operators: [], ...changed },
    present: {
      relations: [...oids(snapshot.relations), ...oids(changed.relations ?? [])],
      types: oids(snapshot.types),
      functions: [...oids(snapshot.functions), ...oids(changed.functions ?? [])],
      operators: oids(snapshot.operators),
    },
    schemas: snapshot.schemas.filter(({ oid }) => !dropped.includes(oid)),
    ...{ casts: [], extensions: [] },
  }
  return made
}

describe('names', () => {
  it.each([
    ['users', 'users'],
    ['_x1', '_x1'],
    ['Users', '"Users"'],
    ['user', '"user"'],
    ['a b', '"a b"'],
    ['a"b', '"a""b"'],
    ['1a', '"1a"'],
    ['a$', '"a$"'],
    ['ß', '"ß"'],
    ['name', 'name'],
    ['', '""'],
  ])('%j is written %s, as quote_ident does', (name, written) => {
    expect(quoteIdentifier(name)).toBe(written)
  })

  it('come apart as they were put together', () => {
    const names: [string, string, string][] = [
      ['public', 'users', 'ssn'],
      ['a.b', 'c"d', 'Select'],
    ]
    for (const parts of names) expect(splitDotted(dottedColumn(...parts))).toEqual(parts)
    for (const wrong of ['', 'a.', '.a', 'a..b', '"a', 'a"b', '"a"b', 'a."b']) {
      expect(splitDotted(wrong), wrong).toBeNull()
    }
  })
})

describe('resolution', () => {
  it('takes the first relation along the path, a temporary one only where the path has it', () => {
    expect(catalog.resolveRelation('users', ['pg_catalog', 'public', 'hr'])?.oid).toBe(20000)
    expect(catalog.resolveRelation('users', ['pg_catalog', 'hr', 'public'])?.oid).toBe(20010)
    expect(catalog.resolveRelation('users', ['pg_temp_3', 'public'])?.oid).toBe(20070)
    expect(catalog.resolveRelation('users', ['pg_catalog'])).toBeNull()
    expect(catalog.relationsNamed('users').map((row) => row.oid)).toEqual([20000, 20010, 20070])
  })

  it('finds system columns where there are rows, and not in views', () => {
    const users = catalog.relation('public', 'users')!
    expect(catalog.column(users, 'ctid')?.number).toBe(-1)
    expect(catalog.column(users, 'tableoid')?.number).toBe(-6)
    expect(catalog.column(catalog.relation('public', 'shown')!, 'ctid')).toBeNull()
  })

  it('follows inheritance and views at any depth', () => {
    expect(catalog.children(20020).map((row) => row.name)).toEqual(['middle', 'leaf'])
    expect(catalog.parents(20040).map((row) => row.name)).toEqual(['middle', 'root'])
    expect(catalog.viewsOver(20000).map((row) => row.name)).toEqual(['shown', 'shown_twice'])
  })

  it('gives row types and their arrays, of relations that the snapshot lists', () => {
    expect(catalog.type(20001)).toMatchObject({ name: 'users', kind: 'composite', array: 20002 })
    expect(catalog.type(20002)).toMatchObject({ name: '_users', element: 20001 })
    expect(catalog.rowTypeRelation(20001)?.oid).toBe(20000)
    expect(catalog.rowTypeRelation(20002)).toBeNull()
    expect(catalog.typeByName(null, 'users', ['pg_catalog', 'hr'])?.oid).toBe(20011)
  })

  it('lets an earlier schema of the path hide the same signature of a later one', () => {
    const first = (path: readonly string[]): string | undefined =>
      catalog
        .functions(null, 'upper', path)
        .find((candidate) => candidate.argumentTypes.join() === String(text))?.schema
    expect(first(['pg_catalog', 'hr'])).toBe('pg_catalog')
    expect(first(['hr', 'pg_catalog'])).toBe('hr')
    expect(first(['pg_temp_3', 'pg_catalog'])).toBe('pg_catalog')
    const anywhere = catalog.functions(null, 'upper', 'unknown').map((found) => found.schema)
    expect(new Set(anywhere)).toEqual(new Set(['pg_catalog', 'hr', 'pg_temp_3']))
    expect(catalog.operators(null, '=', ['hr', 'pg_catalog'])[0]?.class).toBe('opaque')
    expect(catalog.functions('nowhere', 'upper', ['pg_catalog'])).toEqual([])
  })

  it('knows nothing of a C function that its extension does not have', () => {
    expect(catalog.functionByOid(40003)?.class).toBe('opaque')
    expect(catalog.functionByOid(40001)?.class).toBe('opaque')
  })
})

describe('layers', () => {
  it('show what changed and hide what was dropped, and leave the catalog below alone', () => {
    const changed = relation(20000, 'public', 'people')
    const added = relation(60000, 'hr', 'users_2', { parents: [20020] })
    const above = catalog.with(overlay({ relations: [changed, added] }, [20030]))
    expect(above.relation('public', 'users')).toBeNull()
    expect(above.relation('public', 'people')?.oid).toBe(20000)
    expect(above.relationByOid(20030)).toBeNull()
    expect(above.children(20020).map((row) => row.name)).toEqual(['users_2'])
    expect(above.relationsNamed('users').map((row) => row.oid)).toEqual([20010, 20070])
    expect(catalog.relation('public', 'users')?.oid).toBe(20000)
    expect(catalog.children(20020)).toHaveLength(2)
  })

  it('have the fingerprint of their content, however they came about', async () => {
    const added = relation(60000, 'hr', 'more')
    const above = catalog.with(overlay({ relations: [added] }))
    const flat = Catalog.from(above.snapshot)
    const loaded = await Catalog.load(above.snapshot, () => Promise.resolve())
    expect(above.fingerprint).toBe(flat.fingerprint)
    expect(loaded.fingerprint).toBe(flat.fingerprint)
    expect(above.fingerprint).not.toBe(catalog.fingerprint)
    const back = above.with(overlay({}, [60000]))
    expect(back.fingerprint).toBe(catalog.fingerprint)
    const same = await catalog.reload(overlay({ relations: [...snapshot.relations] }), [], () =>
      Promise.resolve(),
    )
    expect(same).toBe(catalog)
  })
})

describe('conversions', () => {
  it('are as total as the least total thing on their way', () => {
    const [int8, int2, varchar, date, timestamp] = [20, 21, 1043, 1082, 1114]
    expect(castClass(catalog, int4, int8)).toBe('total')
    expect(castClass(catalog, int4, int2)).toBe('partial')
    expect(castClass(catalog, int4, text)).toBe('total')
    expect(castClass(catalog, text, int4)).toBe('partial')
    expect(castClass(catalog, varchar, text)).toBe('total')
    expect(castClass(catalog, date, timestamp)).toBe('partial')
    expect(castClass(catalog, timestamp, date)).toBe('total')
    expect(castClass(catalog, text, 30000)).toBe('partial')
    expect(castClass(catalog, 30000, text)).toBe('total')
    expect(castClass(catalog, text, 30001)).toBe('total')
    expect(castClass(catalog, text, 30002)).toBe('partial')
    expect(castClass(catalog, 30003, text)).toBe('opaque')
    expect(castClass(catalog, int4, 99999)).toBe('opaque')
    expect(castClass(catalog, 1007, 1016)).toBe('total')
    expect(castClass(catalog, 1016, 1007)).toBe('partial')
  })

  it('print rows field by field, and json as jsonb only where it cannot fail', () => {
    expect(outputClass(catalog, 20001, 'json')).toBe('total')
    expect(outputClass(catalog, 20002, 'text')).toBe('total')
    expect(outputClass(catalog, json, 'json')).toBe('total')
    expect(outputClass(catalog, json, 'jsonb')).toBe('partial')
    expect(outputClass(catalog, 30004, 'jsonb')).toBe('partial')
    expect(outputClass(catalog, 30003, 'text')).toBe('opaque')
    expect(outputClass(catalog, 2249, 'text')).toBe('opaque')
  })

  it('truncate where the client says so, and may fail where an assignment does', () => {
    expect(modifierClass(catalog, 1043, 9, 'explicit')).toBe('total')
    expect(modifierClass(catalog, 1043, 9, 'assignment')).toBe('partial')
    expect(modifierClass(catalog, 1700, 655366, 'explicit')).toBe('partial')
    expect(modifierClass(catalog, 1114, 3, 'assignment')).toBe('total')
    expect(modifierClass(catalog, 30003, 4, 'explicit')).toBe('opaque')
    expect(modifierClass(catalog, 30003, -1, 'explicit')).toBe('total')
  })
})
