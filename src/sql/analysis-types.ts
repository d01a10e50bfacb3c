/**
 * Types as far as overload resolution needs them: category, preference, element, implicit casts
 * (src/backend/parser/parse_coerce.c). Built-in types come from the class tables, all others from
 * the catalog. One instance belongs to one catalog.
 *
 * Invariant: a type that is not known never makes a candidate impossible.
 */
import type { FunctionClass } from './access.ts'
import { castClass, outputClass } from './catalog-conversion.ts'
import type { Catalog } from './catalog.ts'
import { builtinCast, builtinType, type BuiltinType, type OutputForm } from './classes.ts'
import { typeOids } from './lineage.ts'
import type { Oid, TypeKind } from './snapshot.ts'

export interface TypeInfo {
  readonly oid: Oid
  readonly name: string
  readonly builtin: BuiltinType | null
  readonly kind: TypeKind
  readonly category: string
  readonly preferred: boolean
  readonly element: Oid
  readonly array: Oid
  readonly base: Oid
  readonly relation: Oid
  readonly checks: readonly string[]
}

/** pg_type.typispreferred (pg_type.dat). */
const preferredTypes: ReadonlySet<string> = new Set([
  'bool',
  'float8',
  'inet',
  'interval',
  'oid',
  'text',
  'timestamptz',
  'varbit',
])

const polymorphic: ReadonlySet<string> = new Set([
  'any',
  'anyarray',
  'anycompatible',
  'anycompatiblearray',
  'anycompatiblemultirange',
  'anycompatiblenonarray',
  'anycompatiblerange',
  'anyelement',
  'anyenum',
  'anymultirange',
  'anynonarray',
  'anyrange',
])

export class TypeNames {
  readonly #catalog: Catalog
  readonly #infos = new Map<Oid, TypeInfo | null>()
  readonly #casts = new Map<number, FunctionClass>()
  readonly #outputs = new Map<string, FunctionClass>()

  constructor(catalog: Catalog) {
    this.#catalog = catalog
  }

  info(oid: Oid): TypeInfo | null {
    const known = this.#infos.get(oid)
    if (known !== undefined) return known
    const info = this.#load(oid)
    this.#infos.set(oid, info)
    return info
  }

  #load(oid: Oid): TypeInfo | null {
    const row = this.#catalog.type(oid)
    if (row === null) return null
    const builtin = row.schema === 'pg_catalog' ? builtinType(row.name) : null
    return {
      oid,
      name: row.name,
      builtin,
      kind: row.kind,
      category: row.category,
      preferred: builtin !== null && preferredTypes.has(row.name),
      element: row.element,
      array: row.array,
      base: row.base,
      relation: row.relation,
      checks: row.checks,
    }
  }

  /** The type under a domain (of domains). */
  baseOf(oid: Oid): Oid {
    let current = oid
    for (let turn = 0; turn < 32; turn += 1) {
      const info = this.info(current)
      if (info === null || info.kind !== 'domain' || info.base === 0) return current
      current = info.base
    }
    return current
  }

  isPolymorphic(oid: Oid): boolean {
    const info = this.info(oid)
    return info !== null && info.builtin !== null && polymorphic.has(info.name)
  }

  arrayOf(element: Oid): Oid {
    return this.info(element)?.array ?? 0
  }

  elementOf(array: Oid): Oid {
    return this.info(this.baseOf(array))?.element ?? 0
  }

  /** can_coerce_type(…, COERCION_IMPLICIT) for one argument; what is not known is possible. */
  implicitlyFits(actual: Oid, wanted: Oid): boolean {
    if (actual === wanted || actual === 0 || wanted === 0 || actual === typeOids.unknown)
      return true
    const target = this.info(wanted)
    if (target === null) return true
    const source = this.info(this.baseOf(actual))
    if (source === null) return true
    if (source.oid === wanted) return true
    if (target.builtin !== null && polymorphic.has(target.name)) {
      return this.#fitsPolymorphic(source, target.name)
    }
    // A value fits a domain where it fits what the domain is over; its checks are run afterwards.
    if (target.kind === 'domain') return this.implicitlyFits(actual, target.base)
    if (source.builtin !== null && target.builtin !== null) {
      const cast = builtinCast(source.name, target.name, this.#catalog.majorVersion)
      if (cast !== null) return cast.context === 'implicit'
    }
    return this.#fitsOwn(source, target)
  }

  #fitsPolymorphic(source: TypeInfo, name: string): boolean {
    if (name.endsWith('nonarray')) return source.element === 0
    if (name.endsWith('array')) return source.element !== 0
    if (name.endsWith('multirange')) return source.kind === 'multirange'
    if (name.endsWith('range')) return source.kind === 'range'
    if (name === 'anyenum') return source.kind === 'enum'
    return true
  }

  #fitsOwn(source: TypeInfo, target: TypeInfo): boolean {
    if (target.name === 'record' && target.builtin !== null) return source.kind === 'composite'
    if (source.name === 'record' && source.builtin !== null) return target.kind === 'composite'
    // Row types of children fit their parents; casts of users' own count whatever their context.
    if (source.kind === 'composite' && target.kind === 'composite') return true
    if (source.element !== 0 && target.element !== 0) {
      return this.implicitlyFits(source.element, target.element)
    }
    for (const cast of this.#catalog.castsFrom(source.oid)) {
      if (cast.target === target.oid) return cast.context === 'implicit'
    }
    return false
  }

  /** What a cast that the client or the server writes does; 0 is a type that is not known. */
  castClass(actual: Oid, wanted: Oid): FunctionClass {
    const key = actual * 4_294_967_296 + wanted
    const known = this.#casts.get(key)
    if (known !== undefined) return known
    const cls = actual === 0 ? 'opaque' : castClass(this.#catalog, actual, wanted)
    this.#casts.set(key, cls)
    return cls
  }

  /** What printing a value of the type does, its parts included. */
  outputClass(type: Oid, form: OutputForm): FunctionClass {
    const key = `${type} ${form ?? 'text'}`
    const known = this.#outputs.get(key)
    if (known !== undefined) return known
    const cls = outputClass(this.#catalog, type, form)
    this.#outputs.set(key, cls)
    return cls
  }
}
