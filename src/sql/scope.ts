/**
 * Scopes: which FROM items, CTEs and variables a name can mean, as PostgreSQL's ParseState and
 * ParseNamespaceItem do (src/backend/parser/parse_relation.c). Pure look-up: what a name resolves
 * to is returned, recording it is the caller's.
 *
 * Invariants: inner levels hide outer ones; within one level every candidate counts; an item whose
 * columns are not known makes a name opaque rather than unknown.
 */
import type { CommonTableExpr } from '@pgsql/types'
import { either, opaqueValue, type Field, type Value } from './lineage.ts'
import type { Oid, RelationRow } from './snapshot.ts'

/** One FROM item (or a DML target, EXCLUDED, OLD, NEW) under the name it is known by. */
export interface ScopeItem {
  readonly name: string
  /** The relation, where a schema-qualified name may mean this item (that is: no alias). */
  readonly relation: RelationRow | null
  /** The relation whose system columns the item has. */
  readonly system: RelationRow | null
  readonly fields: readonly Field[]
  readonly rowType: Oid
  /** Its columns are not (all) known. */
  readonly open: boolean
  readonly relationVisible: boolean
  readonly columnsVisible: boolean
}

/** A WITH item; analysed when it is first named, or at the end of its WITH clause. */
export interface Cte {
  readonly node: CommonTableExpr
  readonly recursive: boolean
  state: 'new' | 'working' | 'done'
  fields: readonly Field[]
  open: boolean
  /** Computing it may fail or have an effect, wherever it is named. */
  partial: boolean
  /** Set when the CTE names itself. */
  selfReferenced: boolean
  /** Where its own text is analysed: the WITH clause it stands in. */
  scope: Scope
}

/** Resolves what no column means: parameters and variables of a function's body. */
export type Variables = (names: readonly string[]) => Value | null

export class Scope {
  readonly parent: Scope | null
  items: readonly ScopeItem[]
  ctes: Map<string, Cte> | null
  readonly variables: Variables | null
  /** Values of $1, $2 … where the body of a function is analysed. */
  readonly parameters: readonly Value[] | null
  /** What named windows partition and order by. */
  readonly windows = new Map<string, readonly Value[]>()

  constructor(
    parent: Scope | null,
    items: readonly ScopeItem[] = [],
    ctes: Map<string, Cte> | null = null,
    variables: Variables | null = null,
    parameters: readonly Value[] | null = null,
  ) {
    this.parent = parent
    this.items = items
    this.ctes = ctes
    this.variables = variables ?? parent?.variables ?? null
    this.parameters = parameters ?? parent?.parameters ?? null
  }

  /** The CTE of that name that is visible here, innermost first (scanNameSpaceForCTE). */
  cte(name: string): Cte | null {
    const found = this.ctes?.get(name)
    if (found !== undefined) return found
    return this.parent === null ? null : this.parent.cte(name)
  }
}

export interface ColumnMatch {
  readonly value: Value
  /** Found in the scope itself, not in an outer one. */
  readonly local: boolean
}

/** An unqualified column name (colNameToVar). */
export function findColumn(start: Scope, name: string): ColumnMatch | null {
  for (let scope: Scope | null = start; scope !== null; scope = scope.parent) {
    let found: Value | null = null
    let open = false
    for (const item of scope.items) {
      if (!item.columnsVisible) continue
      open ||= item.open
      const value = fieldOf(item.fields, name)
      if (value !== null) found = found === null ? value : either(found, value)
    }
    if (found !== null) return { value: found, local: scope === start }
    if (open) return { value: opaqueValue, local: scope === start }
  }
  return null
}

/** The item that an unqualified relation name means (scanNameSpaceForRefname). */
export function findItem(start: Scope, name: string): ScopeItem | null {
  for (let scope: Scope | null = start; scope !== null; scope = scope.parent) {
    for (const item of scope.items) {
      if (item.relationVisible && item.name === name) return item
    }
  }
  return null
}

/** The item that a schema-qualified relation name means (scanNameSpaceForRelid). */
export function findRelationItem(start: Scope, relation: RelationRow): ScopeItem | null {
  for (let scope: Scope | null = start; scope !== null; scope = scope.parent) {
    for (const item of scope.items) {
      if (item.relationVisible && item.relation?.oid === relation.oid) return item
    }
  }
  return null
}

/** The value of a named field; several of one name (which the server refuses) all count. */
export function fieldOf(fields: readonly Field[], name: string): Value | null {
  let found: Value | null = null
  for (const field of fields) {
    if (field.name === name) found = found === null ? field.value : either(found, field.value)
  }
  return found
}

/** Hides an item behind a join: by its columns, or (under an alias) altogether. */
export function hide(item: ScopeItem, altogether: boolean): ScopeItem {
  return {
    ...item,
    columnsVisible: false,
    relationVisible: item.relationVisible && !altogether,
  }
}
