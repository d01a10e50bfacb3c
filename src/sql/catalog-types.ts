/**
 * Types that no snapshot lists: those of pg_catalog, whose oids are fixed (src/include/catalog/
 * pg_type.dat), and the row types of relations with their arrays.
 */
import { builtinType, builtinTypeNames } from './classes.ts'
import type { Oid, RelationRow, TypeRow } from './snapshot.ts'

const noTypeFields = {
  base: 0,
  modifier: -1,
  notNull: false,
  checks: [],
  labels: [],
  delimiter: ',',
}

let builtinTypeRows: ReadonlyMap<Oid, TypeRow> | null = null

/** The types of the table, by oid: made once, the same for every catalog. */
export function builtinTypes(): ReadonlyMap<Oid, TypeRow> {
  if (builtinTypeRows !== null) return builtinTypeRows
  const rows = new Map<Oid, TypeRow>()
  for (const name of builtinTypeNames()) {
    const type = builtinType(name)
    if (type === null || type.oid === 0) continue
    rows.set(type.oid, {
      oid: type.oid,
      ...noTypeFields,
      schema: 'pg_catalog',
      name,
      kind: type.kind,
      category: type.category,
      element: builtinType(type.element)?.oid ?? 0,
      array: builtinType(`_${name}`)?.oid ?? 0,
      relation: 0,
      subtype: builtinType(type.subtype)?.oid ?? 0,
    })
  }
  builtinTypeRows = rows
  return rows
}

/** The row type of a relation, or the array over it. */
export function rowTypeOf(relation: RelationRow, oid: Oid): TypeRow {
  const isRow = oid === relation.rowType
  return {
    oid,
    ...noTypeFields,
    schema: relation.schema,
    name: isRow ? relation.name : `_${relation.name}`,
    kind: isRow ? 'composite' : 'base',
    category: isRow ? 'C' : 'A',
    element: isRow ? 0 : relation.rowType,
    array: isRow ? (relation.rowArrayType ?? 0) : 0,
    relation: isRow ? relation.oid : 0,
    subtype: 0,
  }
}
