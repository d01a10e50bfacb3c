/**
 * The relations that DDL names: found in the catalog, or, where they are made or are not there, as
 * rows of this statement's own, so that a policy sees their names all the same.
 */
import type { Node, RangeVar } from '@pgsql/types'
import type { Use } from './access.ts'
import { stringsOf, type Context } from './analysis-context.ts'
import type { Field } from './lineage.ts'
import { missingRelation } from './missing-names.ts'
import { newRelation } from './scope-made.ts'
import { fieldsOf, lookupRelations, writtenName } from './scope-relations.ts'
import type { ScopeItem } from './scope.ts'
import type { RelationRow } from './snapshot.ts'

/** Records the action on the relations of that name, whether the catalog has them or not. */
export function actOn(
  node: RangeVar | undefined,
  action: string,
  context: Context,
  missingIsFine = false,
): readonly RelationRow[] {
  if (node === undefined) return []
  const found = lookupRelations(node, context)
  for (const relation of found) context.recorder.relation(relation, action, null)
  if (found.length > 0) return [...found, ...typedTables(found, action, context)]
  const name = writtenName(node)
  context.recorder.unresolved.add(name)
  if (!missingIsFine) {
    missingRelation(node, name, null, context)
    context.recorder.fail(`relation ${name} is not in the catalog`)
  }
  const made = newRelation(node, 'table', [], context)
  context.recorder.relation(made, action, null)
  return []
}

/** They get another name or schema: who may not make a relation of that name may not move one there. */
export function moveTo(
  relations: readonly RelationRow[],
  to: { readonly schema?: string | undefined; readonly name?: string | undefined },
  context: Context,
): void {
  for (const relation of relations) {
    const { schema = relation.schema, name = relation.name } = to
    context.recorder.relation({ ...relation, oid: 0, columns: [], schema, name }, 'create', null)
  }
}

/** Tables OF a composite type have its columns, and follow it. */
function typedTables(
  types: readonly RelationRow[],
  action: string,
  context: Context,
): readonly RelationRow[] {
  const rowTypes = types.filter((one) => one.kind === 'composite_type').map((one) => one.rowType)
  if (rowTypes.length === 0) return []
  const tables = [...context.catalog.relations()].filter((one) =>
    rowTypes.includes(one.ofType ?? 0),
  )
  for (const table of tables) context.recorder.relation(table, action, null)
  return tables
}

export const functionObjects: ReadonlySet<string> = new Set([
  'OBJECT_FUNCTION',
  'OBJECT_PROCEDURE',
  'OBJECT_ROUTINE',
  'OBJECT_AGGREGATE',
])

/** A dotted name as a list of strings (DROP, COMMENT) as a RangeVar. */
export function nameAsRelation(names: readonly string[]): RangeVar {
  const variable: RangeVar = { relname: names.at(-1) ?? '', relpersistence: 'p', inh: true }
  const schema = names.at(-2)
  return schema === undefined ? variable : { schemaname: schema, ...variable }
}

export function namesOfObject(node: Node | undefined): string[] {
  if (node === undefined) return []
  if ('List' in node) return stringsOf(node.List.items)
  if ('String' in node) return [node.String.sval ?? '']
  if ('TypeName' in node) return stringsOf(node.TypeName.names)
  if ('ObjectWithArgs' in node) return stringsOf(node.ObjectWithArgs.objname)
  return []
}

/** Every column of a relation is at stake: it is dropped, renamed or moved. */
export function touchColumns(relations: readonly RelationRow[], context: Context): void {
  for (const relation of relations) {
    for (const row of relation.columns) {
      context.recorder.column(context.names.column(relation, row), null, 'assign')
    }
  }
}

/** Every relation of a schema gets another name, or goes. */
export function touchSchema(name: string, action: string, context: Context): RelationRow[] {
  const relations = context.catalog.snapshot.relations.filter(
    ({ schema, kind }) => schema === name && kind !== 'index',
  )
  for (const relation of relations) context.recorder.relation(relation, action, null)
  touchColumns(relations, context)
  return relations
}

/** One column is dropped, renamed or changed. */
export function touchColumn(
  relations: readonly RelationRow[],
  name: string | undefined,
  context: Context,
): void {
  if (name === undefined) return
  for (const relation of relations) {
    const column = context.names.columnNamed(relation, name)
    if (column !== null) context.recorder.column(column, null, 'assign')
  }
}

/** Columns by their attribute numbers. */
export function useColumns(
  relation: RelationRow,
  numbers: readonly number[],
  use: Use,
  context: Context,
): void {
  for (const row of relation.columns) {
    if (!numbers.includes(row.number)) continue
    context.recorder.column(context.names.column(relation, row), null, use)
  }
}

/** The columns of a relation in scope under its own name, for expressions of DDL. */
export function ownItem(relation: RelationRow, context: Context): ScopeItem {
  const fields: readonly Field[] = fieldsOf(relation, context)
  return {
    name: relation.name,
    relation,
    system: relation,
    fields,
    rowType: relation.rowType,
    open: relation.oid === 0,
    relationVisible: true,
    columnsVisible: true,
  }
}
