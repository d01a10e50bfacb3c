/**
 * Which relations a RangeVar means, and the FROM item that one becomes. Bare names are looked up
 * along the search path; while that is unknown they mean every relation of the name.
 *
 * Invariant: a CTE is never considered here: the caller decides where one may hide a relation.
 */
import type { RangeVar } from '@pgsql/types'
import type { Context } from './analysis-context.ts'
import { either, type Field } from './lineage.ts'
import { actualSchema, newRelation } from './scope-made.ts'
import { missingRelation } from './missing-names.ts'
import type { ScopeItem } from './scope.ts'
import type { RelationRow } from './snapshot.ts'

/**
 * Every relation the name may mean; empty where the catalog has none, which is recorded: the policy
 * sees the name with the action all the same.
 */
export function resolveRelations(
  node: RangeVar,
  action: string,
  context: Context,
): readonly RelationRow[] {
  const found = lookupRelations(node, context)
  if (found.length === 0) {
    const name = writtenName(node)
    context.recorder.relation(newRelation(node, 'table', [], context), action, null)
    context.recorder.unresolved.add(name)
    missingRelation(node, name, node.location ?? 0, context)
    context.recorder.fail(`relation ${name} is not in the catalog`)
  }
  return found
}

/** The same without recording that nothing was found. */
export function lookupRelations(node: RangeVar, context: Context): readonly RelationRow[] {
  const name = node.relname ?? ''
  if (node.catalogname !== undefined && node.catalogname !== context.catalog.database) return []
  if (node.schemaname !== undefined) {
    const relation = context.catalog.relation(actualSchema(node.schemaname, context), name)
    return relation === null ? [] : [relation]
  }
  context.recorder.dependsOnSession = true
  if (context.path !== 'unknown') {
    const relation = context.catalog.resolveRelation(name, context.path)
    if (relation === null) return []
    // Names of definitions are looked up in a path of their own.
    const moves = context.path === context.runtimePath
    if (moves && context.catalog.relationsNamed(name).length > 1) {
      context.recorder.byPath.add(relation)
    }
    return [relation]
  }
  const all = context.catalog.relationsNamed(name)
  if (all.length > 1) {
    context.recorder.fail(`search_path is not known, and ${name} may be one of several relations`)
  }
  return all
}

export function writtenName(node: RangeVar): string {
  const name = node.relname ?? ''
  return node.schemaname === undefined ? name : `${node.schemaname}.${name}`
}

/** The columns of a relation as fields, views followed to what they read. */
export function fieldsOf(relation: RelationRow, context: Context): readonly Field[] {
  return isFollowedView(relation)
    ? context.passes.view(relation, context)
    : context.passes.table(relation, context)
}

/** Views are followed, those of the system are not: their own columns are what is classified. */
export function isFollowedView(relation: RelationRow): boolean {
  if (relation.kind !== 'view' && relation.kind !== 'materialized_view') return false
  return relation.schema !== 'pg_catalog' && relation.schema !== 'information_schema'
}

/** Reading it runs what nobody sees: policies, another server, the functions of a system view. */
export function readsPartially(relation: RelationRow, context: Context): boolean {
  if (relation.rowSecurity || relation.kind === 'foreign_table') return true
  if (relation.kind === 'view') return !isFollowedView(relation)
  return context.catalog.children(relation.oid).some((child) => child.kind === 'foreign_table')
}

/** A FROM item for the relations that a name may mean, under its alias. */
export function relationsItem(
  node: RangeVar,
  relations: readonly RelationRow[],
  context: Context,
): ScopeItem {
  const alias = node.alias?.aliasname
  const name = alias ?? node.relname ?? ''
  const [only] = relations
  const base = { name, relationVisible: true, columnsVisible: true }
  if (only === undefined) {
    return { relation: null, system: null, fields: [], rowType: 0, open: true, ...base }
  }
  if (relations.length === 1) {
    return {
      relation: alias === undefined ? only : null,
      system: only,
      fields: fieldsOf(only, context),
      rowType: only.rowType,
      open: false,
      ...base,
    }
  }
  const merged = new Map<string, Field>()
  for (const relation of relations) {
    for (const field of fieldsOf(relation, context)) {
      const other = merged.get(field.name)
      const value = other === undefined ? field.value : either(other.value, field.value)
      merged.set(field.name, { name: field.name, value })
    }
  }
  const fields = [...merged.values()]
  return { relation: null, system: null, fields, rowType: 0, open: true, ...base }
}

/** Records the action on the relations, and on the children that it reaches. */
export function recordRelations(
  relations: readonly RelationRow[],
  action: string,
  withChildren: boolean,
  context: Context,
): void {
  for (const relation of relations) {
    context.recorder.relation(relation, action, null)
    if (!withChildren) continue
    for (const child of context.catalog.children(relation.oid)) {
      if (child.kind !== 'index') context.recorder.relation(child, action, 'partition')
    }
  }
}

/** Renames the first columns as an alias does: `t(a, b)`. */
export function renamed(fields: readonly Field[], names: readonly string[]): readonly Field[] {
  if (names.length === 0) return fields
  const result: Field[] = fields.map((field, index) => {
    const name = names[index]
    return name === undefined ? field : { name, value: field.value }
  })
  return result
}
