/**
 * Values and where they come from. A Value is what the analysis knows of one expression: the base
 * columns behind it (sources), what the server may report as its origin, and its type as far as
 * that is known. Values are immutable and shared between statements.
 *
 * Invariant: combining values never loses a source. What is not known is `opaque`, never absent.
 * This file knows nothing of syntax trees and scopes.
 */
import type { Origin, OutputSource, Through } from './access.ts'
import type { ColumnRow, Oid, RelationRow } from './snapshot.ts'

/** A column of the catalog, or the placeholder for a parameter while a body is analysed. */
export interface BaseColumn {
  /** Null for the placeholder of a function's parameter. */
  readonly relation: RelationRow | null
  readonly name: string
  readonly number: number
  readonly notNull: boolean
  /** public.users.ssn; `$1` for a parameter. */
  readonly dotted: string
  /** Position of the parameter, from 1; 0 for a real column. */
  readonly parameter: number
}

export interface Source {
  readonly column: BaseColumn
  readonly via: 'direct' | 'derived' | 'count'
  readonly total: boolean
  readonly through: Through
}

/** A named part of a composite value, or a column of a FROM item. */
export interface Field {
  readonly name: string
  readonly value: Value
}

export interface Value {
  readonly sources: readonly Source[]
  readonly origins: readonly Origin[]
  /** Type where known, 0 where not; UNKNOWN for an untyped literal. */
  readonly type: Oid
  /** Type modifier, -1 where none or not known. */
  readonly modifier: number
  /** The text of a literal constant, else null. */
  readonly constant: string | null
  /** Name of its collation, where that is not the database's; `mixed` where several meet. */
  readonly collation: string | null
  /** The parts of a row value, where they are known. */
  readonly fields: readonly Field[] | null
  /** It may hold any column that the statement can reach. */
  readonly opaque: boolean
  /**
   * Computing it neither fails nor has an effect, whatever the data. False also where no column is
   * behind it (`1/0`, `nextval('s')`): whether such a thing runs at all can tell a column's value.
   */
  readonly total: boolean
}

/** pg_type oids that the analysis has to know by itself (src/include/catalog/pg_type.dat). */
export const typeOids = {
  bool: 16,
  bytea: 17,
  name: 19,
  int8: 20,
  int2: 21,
  int4: 23,
  text: 25,
  oid: 26,
  json: 114,
  xml: 142,
  float4: 700,
  float8: 701,
  unknown: 705,
  bpchar: 1042,
  varchar: 1043,
  date: 1082,
  time: 1083,
  timestamp: 1114,
  timestamptz: 1184,
  timetz: 1266,
  bit: 1560,
  numeric: 1700,
  uuid: 2950,
  record: 2249,
  recordArray: 2287,
  jsonb: 3802,
} as const

const none: readonly never[] = []

/** A value that comes from no column. */
export function plain(type: Oid, constant: string | null = null, modifier = -1): Value {
  return {
    sources: none,
    origins: none,
    type,
    modifier,
    constant,
    collation: null,
    fields: null,
    opaque: false,
    total: true,
  }
}

/** What no collation is called. */
const mixed = '?'

/** The types that texts are; names have a collation of their own. */
const uncollated: ReadonlySet<Oid> = new Set([
  typeOids.bool,
  typeOids.bytea,
  typeOids.int8,
  typeOids.int2,
  typeOids.int4,
  typeOids.json,
  typeOids.float4,
  typeOids.float8,
  typeOids.date,
  typeOids.timestamp,
  typeOids.timestamptz,
  typeOids.numeric,
  typeOids.uuid,
  typeOids.jsonb,
  typeOids.record,
])

/** The collation under which something is computed over the values. */
export function commonCollation(values: readonly Value[]): string | null {
  let found: string | null = null
  for (const { collation, type } of values) {
    const own = collation ?? (type === typeOids.name ? 'C' : null)
    if (own === null || uncollated.has(type)) continue
    found = found === null || found === own ? own : mixed
  }
  return found
}

/** A literal is converted when the statement is parsed or planned, whether it is used or not. */
export function isLiteral(value: Value): boolean {
  if (value.sources.length > 0) return false
  return value.constant !== null || value.type === typeOids.unknown
}

export const unknownValue: Value = plain(0)
export const booleanValue: Value = plain(typeOids.bool)

/** A value that may hold anything. */
export const opaqueValue: Value = {
  sources: none,
  origins: none,
  type: 0,
  modifier: -1,
  constant: null,
  collation: null,
  fields: null,
  opaque: true,
  total: false,
}

/** A plain column: one direct source, and itself as origin. */
export function columnValue(column: BaseColumn, row: ColumnRow | null): Value {
  const relation = column.relation
  return {
    sources: [{ column, via: 'direct', total: true, through: null }],
    origins: relation === null ? none : [{ relation: relation.oid, attribute: column.number }],
    type: row === null ? 0 : row.type,
    modifier: row === null ? -1 : row.modifier,
    constant: null,
    collation: row?.collation ?? null,
    fields: null,
    opaque: false,
    total: true,
  }
}

export function withType(value: Value, type: Oid, modifier = -1): Value {
  if (value.type === type && value.modifier === modifier) return value
  return { ...value, type, modifier, constant: null, fields: null }
}

export function withSources(value: Value, more: readonly Source[]): Value {
  return more.length === 0 ? value : { ...value, sources: unionSources(value.sources, more) }
}

/**
 * The value of an expression over `values`, all of which are computed: everything becomes derived,
 * and a source stays total only where `total` says so. A count stays a count: what is computed from
 * a count shows no more than the count does.
 */
export function derive(values: readonly Value[], total: boolean, type: Oid, modifier = -1): Value {
  return combine(values, total, total && values.every((value) => value.total), type, modifier)
}

/**
 * The value of an expression that computes only some of `values`, which ones being decided by the
 * others (CASE, AND, COALESCE): one that is not total makes every source not total.
 */
export function conditional(values: readonly Value[], total: boolean, type: Oid): Value {
  const all = total && values.every((value) => value.total)
  return combine(values, all, all, type, -1)
}

function combine(
  values: readonly Value[],
  sourceTotal: boolean,
  total: boolean,
  type: Oid,
  modifier: number,
): Value {
  let set: SourceSet | null = null
  let opaque = false
  for (const value of values) {
    if (value.opaque) opaque = true
    for (const source of value.sources) {
      set ??= new SourceSet([])
      set.add(asDerived(source, sourceTotal))
    }
  }
  const sources = set === null ? null : set.list
  const collation = uncollated.has(type) ? null : commonCollation(values)
  if (sources === null && collation === null && !opaque && total) {
    return plain(type, null, modifier)
  }
  return {
    sources: sources ?? none,
    origins: none,
    type,
    modifier,
    constant: null,
    collation,
    fields: null,
    opaque,
    total,
  }
}

/** One value or the other, unaltered: arms of a set operation, merged columns of a join. */
export function either(left: Value, right: Value): Value {
  if (left === right) return left
  return {
    sources: unionSources(left.sources, right.sources),
    origins: unionOrigins(left.origins, right.origins),
    type: commonType(left.type, right.type),
    modifier: left.modifier === right.modifier ? left.modifier : -1,
    constant: null,
    collation: commonCollation([left, right]),
    fields: eitherFields(left.fields, right.fields),
    opaque: left.opaque || right.opaque,
    total: left.total && right.total,
  }
}

function eitherFields(
  left: readonly Field[] | null,
  right: readonly Field[] | null,
): readonly Field[] | null {
  if (left === null || right === null || left.length !== right.length) return null
  return left.map((field, index) => {
    const other = right[index]
    return other === undefined
      ? field
      : { name: field.name, value: either(field.value, other.value) }
  })
}

function commonType(left: Oid, right: Oid): Oid {
  if (left === right || right === typeOids.unknown) return left
  return left === typeOids.unknown ? right : 0
}

/** A row made of `fields`: derived from each of them; `relation` 0 has no origin of its own. */
export function rowValue(fields: readonly Field[], type: Oid, relation: Oid): Value {
  const derived = derive(
    fields.map((field) => field.value),
    true,
    type,
  )
  const origins = relation === 0 ? none : [{ relation, attribute: 0 }]
  return { ...derived, collation: null, fields, origins }
}

function asDerived(source: Source, total: boolean): Source {
  if (source.via === 'count') return source
  if (source.via === 'derived' && (source.total === total || !source.total)) return source
  return { column: source.column, via: 'derived', total, through: source.through }
}

/** Holds each (column, through) once; the weaker guarantee wins. */
class SourceSet {
  readonly list: Source[]
  /** Positions by column, made when the list is long. */
  #positions: Map<BaseColumn, number[]> | null = null

  constructor(list: Source[]) {
    this.list = list
  }

  add(source: Source): void {
    const { list } = this
    if (this.#positions === null && list.length >= 24) this.#positions = this.#index()
    const positions = this.#positions
    if (positions === null) {
      for (let index = 0; index < list.length; index += 1) if (this.#meets(index, source)) return
    } else {
      const known = positions.get(source.column)
      for (const index of known ?? []) if (this.#meets(index, source)) return
      if (known === undefined) positions.set(source.column, [list.length])
      else known.push(list.length)
    }
    list.push(source)
  }

  /** True where the same source is there; the weaker of both stays. */
  #meets(index: number, source: Source): boolean {
    const other = this.list[index]
    if (other === undefined || other.column !== source.column) return false
    if (other.through !== source.through) return false
    if (strength(source) > strength(other)) this.list[index] = source
    return true
  }

  #index(): Map<BaseColumn, number[]> {
    const positions = new Map<BaseColumn, number[]>()
    for (const [index, source] of this.list.entries()) {
      const known = positions.get(source.column)
      if (known === undefined) positions.set(source.column, [index])
      else known.push(index)
    }
    return positions
  }
}

function strength(source: Source): number {
  if (source.via === 'count') return 0
  if (source.via === 'direct') return 1
  return source.total ? 2 : 3
}

export function unionSources(left: readonly Source[], right: readonly Source[]): readonly Source[] {
  if (right.length === 0 || left === right) return left
  if (left.length === 0) return right
  const set = new SourceSet([...left])
  for (const source of right) set.add(source)
  return set.list
}

export function unionOrigins(left: readonly Origin[], right: readonly Origin[]): readonly Origin[] {
  if (right.length === 0 || left === right) return left
  if (left.length === 0) return right
  const origins = [...left]
  for (const origin of right) {
    const known = origins.some(
      (one) => one.relation === origin.relation && one.attribute === origin.attribute,
    )
    if (!known) origins.push(origin)
  }
  return origins
}

/** The value where what it is derived from decides whether something that may fail is computed. */
export function telling(value: Value): Value {
  const sources = value.sources.map((source) =>
    source.via === 'derived' ? asDerived(source, false) : source,
  )
  const fields = value.fields?.map(({ name, value: field }) => ({ name, value: telling(field) }))
  return { ...value, sources, fields: fields ?? null }
}

/** Marks how a value came in (a view's definition, a function's body). */
export function throughValue(value: Value, through: Through): Value {
  if (value.sources.length === 0 && value.fields === null) return value
  return {
    ...value,
    sources: value.sources.map((source) =>
      source.through === null ? { ...source, through } : source,
    ),
    fields:
      value.fields === null
        ? null
        : value.fields.map((field) => ({
            name: field.name,
            value: throughValue(field.value, through),
          })),
  }
}

/**
 * Replaces the placeholders of parameters by the values that a call gives them. The server may put
 * an argument where the body names its parameter: what stands beside it there decides whether it is
 * computed at all, so of an argument that is not total all that is beside it tells.
 */
export function substitute(value: Value, parameters: readonly Value[]): Value {
  if (!value.sources.some((source) => source.column.parameter > 0)) return value
  const set = new SourceSet([])
  const several = value.sources.some((source) => source.column !== value.sources[0]?.column)
  const tells =
    several &&
    value.sources.some((source) => parameters[source.column.parameter - 1]?.total === false)
  let opaque = value.opaque
  for (const source of value.sources) {
    if (source.column.parameter === 0) {
      set.add(tells ? asDerived(source, false) : source)
      continue
    }
    const parameter = parameters[source.column.parameter - 1]
    if (parameter === undefined) continue
    opaque ||= parameter.opaque
    for (const own of parameter.sources) {
      const direct = source.via === 'direct' && !tells
      set.add(direct ? own : asDerived(own, source.total && !tells))
    }
  }
  const fields =
    value.fields === null
      ? null
      : value.fields.map((field) => ({
          name: field.name,
          value: substitute(field.value, parameters),
        }))
  return { ...value, sources: set.list, fields, opaque }
}

/**
 * The public form of a value's sources, each column once. `related` gives the columns of partition
 * or inheritance relatives that share a column's classification.
 */
export function outputSources(
  sources: readonly Source[],
  related: (column: BaseColumn) => readonly BaseColumn[],
): OutputSource[] {
  if (sources.length === 0) return []
  const byColumn = new Map<string, Source>()
  const add = (source: Source): void => {
    const other = byColumn.get(source.column.dotted)
    if (other === undefined || strength(source) > strength(other)) {
      byColumn.set(source.column.dotted, source)
    }
  }
  for (const source of sources) {
    if (source.column.parameter > 0) continue
    add(source)
    for (const column of related(source.column)) add({ ...source, column })
  }
  return [...byColumn.values()].map((source) =>
    source.via === 'derived'
      ? { column: source.column.dotted, via: 'derived', total: source.total }
      : { column: source.column.dotted, via: source.via },
  )
}
