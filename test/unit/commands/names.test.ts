import { expect, test } from 'vitest'
import { unmatchedNames } from '../../../src/commands/names.ts'
import { Catalog } from '../../../src/sql/sql.ts'
import type { RelationRow } from '../../../src/sql/snapshot.ts'

function relation(schema: string, name: string, columns: readonly string[]): RelationRow {
  return {
    ...{ oid: 20_000 + name.length, schema, name, kind: 'table', rowType: 0, definition: null },
    columns: columns.map((column, index) => ({
      ...{ number: index + 1, name: column, type: 25, modifier: -1, notNull: true },
      ...{ default: null, generated: null, identity: false },
    })),
    ...{ parents: [], isPartition: false, rowSecurity: false, rules: [], triggers: [] },
    ...{ expressions: [], temporary: false },
  } as unknown as RelationRow
}

const catalog = Catalog.from({
  ...{ format: 1, database: 'shop', serverVersion: 180_000 },
  schemas: [{ oid: 2200, name: 'public' }],
  relations: [relation('public', 'users', ['id', 'ssn']), relation('public', 'Odd name', ['a'])],
  ...{ types: [], functions: [], operators: [], casts: [], extensions: [], storedSettings: [] },
})

test('names that are there are not reported, however they are quoted', () => {
  const data = {
    regate: {
      columns: { 'public.users.ssn': {}, 'public."Odd name".a': {} },
      groups: { a: { read: ['*'], write: { 'public.users': 'allow', 'public.*': 'deny' } } },
    },
  }
  expect(unmatchedNames(data, [catalog])).toEqual([])
})

test('a column, relation or schema that is not there, and a name that is none, are', () => {
  const data = {
    regate: {
      columns: { 'public.users.snn': {}, 'users.ssn': {}, 'public.Users.ssn': {} },
      groups: { a: { read: ['publik.*'], write: ['public.user'] } },
    },
  }
  expect(unmatchedNames(data, [catalog])).toEqual([
    'classified column public.users.snn does not exist',
    'classified column users.ssn: write schema.relation.column',
    'classified column public.Users.ssn does not exist',
    'group a, read: publik.* matches nothing',
    'group a, write: public.user matches nothing',
  ])
})

test('with several databases a name has to be in one of them', () => {
  const other = Catalog.from({ ...catalog.snapshot, relations: [] })
  const data = { regate: { columns: { 'public.users.ssn': {} } } }
  expect(unmatchedNames(data, [other, catalog])).toEqual([])
  expect(unmatchedNames(data, [other])).toHaveLength(1)
})

test('data of another shape is nobody’s fault', () => {
  for (const data of [{}, { regate: 1 }, { regate: { columns: [], groups: 'x' } }]) {
    expect(unmatchedNames(data, [catalog])).toEqual([])
  }
})
