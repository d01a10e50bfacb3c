/**
 * What the analysis remembers of one catalog: interned columns, their relatives by inheritance and
 * partitioning, types, and the analysed bodies of views, functions and tables. One per Catalog,
 * found through a WeakMap, so that it goes when the catalog goes.
 *
 * Invariant: nothing in here depends on a session; what depends on a search_path is keyed by it.
 */
import { TypeNames } from './analysis-types.ts'
import { dottedColumn } from './catalog-identifier.ts'
import {
  systemColumns,
  type Catalog,
  type CatalogFunction,
  type CatalogOperator,
} from './catalog.ts'
import { columnValue, type BaseColumn, type Field, type Value } from './lineage.ts'
import type { Recorder } from './analysis-recorder.ts'
import {
  firstUserOid,
  type CastRow,
  type ColumnRow,
  type Oid,
  type RelationRow,
  type TypeRow,
} from './snapshot.ts'

/** The analysis of a body: what it touches, and the columns it gives. */
export interface Body {
  readonly recorder: Recorder
  readonly fields: readonly Field[]
  readonly open: boolean
}

export interface OperatorSignature extends CatalogOperator {
  readonly argumentTypes: readonly Oid[]
}

const noColumns: readonly BaseColumn[] = []
const noFields: readonly Field[] = []
const noTypes: readonly TypeRow[] = []
const noCasts: readonly CastRow[] = []

function isWritten(cast: CastRow, catalog: Catalog): boolean {
  if (cast.method !== 'function') return false
  const row = catalog.functionByOid(cast.function)?.row ?? null
  if (row === null) return false
  return row.extension === null && row.language !== 'c' && row.language !== 'internal'
}

export class CatalogNames {
  readonly catalog: Catalog
  readonly types: TypeNames
  /** Columns of tables as fields, generated ones traced. */
  readonly tables = new Map<RelationRow, readonly Field[]>()
  /** By oid and the search_path that functions in the body see. */
  readonly views = new Map<string, Body>()
  readonly writes = new Map<string, Body>()
  readonly functions = new Map<string, Body>()
  /** Candidates by name, path and argument types. */
  readonly calls = new Map<string, readonly CatalogFunction[]>()
  readonly operators = new Map<string, readonly OperatorSignature[]>()
  readonly #columns = new Map<RelationRow, Map<string, BaseColumn>>()
  readonly #related = new Map<BaseColumn, readonly BaseColumn[]>()
  readonly #system = new Map<RelationRow, readonly Field[]>()
  readonly #checked = new Map<Oid, readonly TypeRow[]>()
  readonly #composites = new Map<Oid, readonly ColumnRow[] | null>()
  readonly #casts = new Map<Oid, readonly CastRow[]>()
  readonly #ownCasts: readonly CastRow[]

  constructor(catalog: Catalog) {
    this.catalog = catalog
    this.types = new TypeNames(catalog)
    this.#ownCasts = catalog.casts().filter((cast) => isWritten(cast, catalog))
  }

  /** The interned column; the same object for the same column, so it serves as a key. */
  column(relation: RelationRow, row: ColumnRow): BaseColumn {
    let columns = this.#columns.get(relation)
    if (columns === undefined)
      this.#columns.set(relation, (columns = new Map<string, BaseColumn>()))
    let column = columns.get(row.name)
    if (column === undefined) {
      column = {
        relation,
        name: row.name,
        number: row.number,
        notNull: this.isNeverNull(relation, row),
        dotted: dottedColumn(relation.schema, relation.name, row.name),
        parameter: 0,
      }
      columns.set(row.name, column)
    }
    return column
  }

  columnNamed(relation: RelationRow, name: string): BaseColumn | null {
    const row = this.catalog.column(relation, name)
    return row === null ? null : this.column(relation, row)
  }

  /** Columns of the same name in parents and children: one classification holds for all. */
  readonly related = (column: BaseColumn): readonly BaseColumn[] => {
    const relation = column.relation
    if (relation === null) return noColumns
    const known = this.#related.get(column)
    if (known !== undefined) return known
    const found: BaseColumn[] = []
    for (const other of this.relatives(relation)) {
      const row = this.catalog.columnsOf(other).get(column.name)
      if (row !== undefined && column.number > 0) found.push(this.column(other, row))
    }
    const result = found.length === 0 ? noColumns : found
    this.#related.set(column, result)
    return result
  }

  /** Parents and children of a table, at any depth. */
  relatives(relation: RelationRow): readonly RelationRow[] {
    const children = this.catalog.children(relation.oid)
    if (relation.parents.length === 0) return children
    return [...this.catalog.parents(relation.oid), ...children]
  }

  /** No row of the table itself holds a NULL there: nobody holds the rows of a foreign table to it. */
  isNeverNull(relation: RelationRow, row: ColumnRow): boolean {
    if (!row.notNull || relation.kind === 'foreign_table') return false
    return !(relation.constraints ?? []).some(
      ({ kind, validated, columns }) =>
        kind === 'not_null' && !validated && columns.includes(row.number),
    )
  }

  systemFields(relation: RelationRow): readonly Field[] {
    const known = this.#system.get(relation)
    if (known !== undefined) return known
    const fields =
      relation.kind === 'view' || relation.kind === 'composite_type'
        ? noFields
        : systemColumns.map((row) => ({
            name: row.name,
            value: columnValue(this.column(relation, row), row),
          }))
    this.#system.set(relation, fields)
    return fields
  }

  /** The columns of a composite type (domains over one included), null for every other type. */
  compositeColumns(type: Oid): readonly ColumnRow[] | null {
    if (type === 0) return null
    const known = this.#composites.get(type)
    if (known !== undefined) return known
    const relation = this.catalog.rowTypeRelation(this.catalog.baseType(type))
    const columns = relation === null ? null : relation.columns
    this.#composites.set(type, columns)
    return columns
  }

  /**
   * The domains with checks that converting to the type may run: its own, those of the domains it is
   * over, of its elements, fields and bounds.
   */
  checkedDomains(type: Oid): readonly TypeRow[] {
    const known = this.#checked.get(type)
    if (known !== undefined) return known
    const found: TypeRow[] = []
    for (const oid of this.#partsOf(type)) {
      const row = this.catalog.type(oid)
      if (row?.kind === 'domain' && row.checks.length > 0) found.push(row)
    }
    const result = found.length === 0 ? noTypes : found
    this.#checked.set(type, result)
    return result
  }

  /**
   * Casts by functions that people wrote, from or to the type, or what it is made of; of a type that
   * is not known all of them. Those of extensions and of C read nothing.
   */
  castsOf(type: Oid): readonly CastRow[] {
    if (this.#ownCasts.length === 0) return noCasts
    if (type === 0) return this.#ownCasts
    const known = this.#casts.get(type)
    if (known !== undefined) return known
    const parts = this.#partsOf(type)
    const found = this.#ownCasts.filter(
      ({ source, target }) =>
        (source >= firstUserOid && parts.has(source)) ||
        (target >= firstUserOid && parts.has(target)),
    )
    const result = found.length === 0 ? noCasts : found
    this.#casts.set(type, result)
    return result
  }

  #partsOf(type: Oid): ReadonlySet<Oid> {
    const seen = new Set<Oid>()
    const pending: Oid[] = [type]
    for (let oid = pending.pop(); oid !== undefined; oid = pending.pop()) {
      if (oid === 0 || seen.has(oid)) continue
      seen.add(oid)
      const row = this.catalog.type(oid)
      if (row === null) continue
      pending.push(row.base, row.element, row.subtype)
      for (const column of this.catalog.rowTypeRelation(oid)?.columns ?? []) {
        pending.push(column.type)
      }
    }
    return seen
  }

  /** Placeholders for the parameters of a body, from 1. */
  parameters(types: readonly Oid[]): readonly Value[] {
    return types.map((type, index) => {
      const column: BaseColumn = {
        relation: null,
        name: `$${index + 1}`,
        number: 0,
        notNull: false,
        dotted: `$${index + 1}`,
        parameter: index + 1,
      }
      return { ...columnValue(column, null), type }
    })
  }
}

const byCatalog = new WeakMap<Catalog, CatalogNames>()

export function namesOf(catalog: Catalog): CatalogNames {
  let names = byCatalog.get(catalog)
  if (names === undefined) byCatalog.set(catalog, (names = new CatalogNames(catalog)))
  return names
}
