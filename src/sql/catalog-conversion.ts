/**
 * Classes of conversions: casts, output to text or JSON, type modifiers. Each is as total as the
 * least total thing on its way; what is not known is opaque (parse_coerce.c, and json.c's and
 * jsonb.c's choice between casts, output functions and walking into composites).
 */
import type { FunctionClass } from './access.ts'
import type { Catalog } from './catalog.ts'
import { builtinCast, builtinType, type OutputForm } from './classes.ts'
import type { Oid, TypeRow } from './snapshot.ts'

/** From best to worst, for `worstClass`. */
const badness: Readonly<Record<FunctionClass, number>> = {
  total: 0,
  partial: 1,
  volatile: 2,
  opaque: 3,
  reads_by_text: 4,
  file: 5,
  admin: 6,
}

/** The class of doing both. */
export function worstClass(left: FunctionClass, right: FunctionClass): FunctionClass {
  return badness[left] >= badness[right] ? left : right
}

const depthMax = 16

function builtinNameOf(row: TypeRow): string | null {
  return row.schema === 'pg_catalog' && builtinType(row.name) !== null ? row.name : null
}

/** Output of a type as text, json or jsonb: what printing a value of it may do. */
export function outputClass(catalog: Catalog, type: Oid, form: OutputForm): FunctionClass {
  return outputOf(catalog, type, form, 0)
}

function outputOf(catalog: Catalog, type: Oid, form: OutputForm, depth: number): FunctionClass {
  const row = catalog.type(type)
  if (row === null || depth > depthMax) return 'opaque'
  if (row.kind === 'domain') return outputOf(catalog, row.base, form, depth + 1)
  // A json value may hold \\u0000, which is json but neither text nor jsonb.
  if (form === 'jsonb' && row.name === 'json' && row.schema === 'pg_catalog') return 'partial'
  if (row.kind === 'enum') return 'total'
  if (row.element !== 0) return outputOf(catalog, row.element, form, depth + 1)
  if (row.subtype !== 0) return outputOf(catalog, row.subtype, 'text', depth + 1)
  const relation = catalog.rowTypeRelation(type)
  if (relation !== null) {
    let worst: FunctionClass = 'total'
    for (const column of relation.columns) {
      worst = worstClass(worst, outputOf(catalog, column.type, form, depth + 1))
    }
    return worst
  }
  const name = builtinNameOf(row)
  // An anonymous record may hold anything.
  if (name === null || name === 'record' || name === '_record') return 'opaque'
  return builtinType(name)?.output ?? 'opaque'
}

/**
 * The class of a cast that the client wrote (`explicit`) or that an assignment makes. `source` 0 is
 * a literal or parameter of unknown type. Type modifiers are apart: `modifierClass`.
 */
export function castClass(catalog: Catalog, source: Oid, target: Oid): FunctionClass {
  return castOf(catalog, source, target, 0)
}

function castOf(catalog: Catalog, source: Oid, target: Oid, depth: number): FunctionClass {
  if (source === target) return 'total'
  const to = catalog.type(target)
  if (to === null || depth > depthMax) return 'opaque'
  if (to.kind === 'domain') {
    // A check may hold any expression; NOT NULL fails on null.
    const checked: FunctionClass = to.checks.length > 0 || to.notNull ? 'partial' : 'total'
    const base = catalog.baseType(target) === catalog.baseType(source)
    return base ? checked : worstClass(checked, castOf(catalog, source, to.base, depth + 1))
  }
  if (source === 0) return inputClass(catalog, target)
  const from = catalog.type(source)
  if (from === null) return 'opaque'
  const known = knownCast(catalog, from, to)
  if (known !== null) return known
  if (from.kind === 'domain') return castOf(catalog, from.base, target, depth + 1)
  if (from.element !== 0 && to.element !== 0) {
    return castOf(catalog, from.element, to.element, depth + 1)
  }
  // A row of a child is a row of its parent; every other record conversion is field by field.
  if (catalog.rowTypeRelation(target) !== null) return 'partial'
  return worstClass(outputOf(catalog, source, 'text', depth), inputClass(catalog, target))
}

/** A row of pg_cast, built in or of the snapshot; null where conversion is by input and output. */
function knownCast(catalog: Catalog, from: TypeRow, to: TypeRow): FunctionClass | null {
  const own = catalog.castsFrom(from.oid).find((cast) => cast.target === to.oid)
  if (own !== undefined) {
    if (own.method === 'binary') return 'total'
    if (own.method === 'inout') return null
    return catalog.functionByOid(own.function)?.class ?? 'opaque'
  }
  const source = builtinNameOf(from)
  const target = builtinNameOf(to)
  if (source === null || target === null) return null
  const cast = builtinCast(source, target, catalog.majorVersion)
  return cast === null || cast.method === 'inout' ? null : cast.class
}

/** The class of a type's input function: what a text that is no constant may do to it. */
export function inputClass(catalog: Catalog, type: Oid): FunctionClass {
  const row = catalog.type(type)
  if (row === null) return 'opaque'
  const name = builtinNameOf(row)
  if (name !== null) return builtinType(name)?.input ?? 'opaque'
  return row.kind === 'base' ? 'opaque' : 'partial'
}

const truncating: ReadonlySet<string> = new Set(['varchar', 'bpchar', 'bit', 'varbit'])
const rounding: ReadonlySet<string> = new Set(['timestamp', 'timestamptz', 'time', 'timetz'])

/**
 * The class of fitting a value to a type modifier: `varchar(5)`, `numeric(10,2)`. An explicit cast
 * truncates strings where an assignment fails. A modifier of -1 is none.
 */
export function modifierClass(
  catalog: Catalog,
  type: Oid,
  modifier: number,
  context: 'explicit' | 'assignment',
): FunctionClass {
  if (modifier === -1) return 'total'
  const row = catalog.type(catalog.baseType(type))
  const element = row !== null && row.element !== 0 ? catalog.type(row.element) : row
  const name = element === null ? null : builtinNameOf(element)
  if (name === null) return 'opaque'
  if (rounding.has(name)) return 'total'
  return truncating.has(name) && context === 'explicit' ? 'total' : 'partial'
}
