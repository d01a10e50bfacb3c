/**
 * ALTER TABLE, RENAME and SET SCHEMA. A column that is dropped, renamed or changed is listed as
 * assigned, and so is every column of a relation that goes or moves: a classification is by name,
 * so a policy must be able to refuse that.
 */
import type { AlterTableCmd, Node } from '@pgsql/types'
import type { Context } from './analysis-context.ts'
import { applyCast, resolveType } from './expression-operators.ts'
import { Scope } from './scope.ts'
import type { RelationRow } from './snapshot.ts'
import { columnDefinition, partitionBound, partitioned, tableConstraint } from './utility-create.ts'
import { cascades } from './utility-cascade.ts'
import { keepCopiesOfFunction, keepCopiesOfView } from './utility-copies.ts'
import { otherObject } from './utility-objects.ts'
import {
  actOn,
  functionObjects,
  moveTo,
  nameAsRelation,
  namesOfObject,
  ownItem,
  touchColumn,
  touchColumns,
  touchSchema,
  useColumns,
} from './utility-targets.ts'

export function alterTable(node: Node, context: Context): null {
  if (!('AlterTableStmt' in node)) return null
  const { relation, cmds, missing_ok: missing } = node.AlterTableStmt
  if (node.AlterTableStmt.objtype === 'OBJECT_INDEX') {
    actOn(relation, 'alter', context, true)
    return null
  }
  const relations = actOn(relation, 'alter', context, missing === true)
  const scope = new Scope(
    null,
    relations.map((one) => ownItem(one, context)),
  )
  for (const command of cmds ?? []) {
    if ('AlterTableCmd' in command) alterCommand(command.AlterTableCmd, relations, scope, context)
  }
  return null
}

/** Commands that change or drop what a column is, by the column's name. */
const columnCommands: ReadonlySet<string> = new Set([
  'AT_DropColumn',
  'AT_AlterColumnType',
  'AT_ColumnDefault',
  'AT_DropNotNull',
  'AT_SetNotNull',
  'AT_SetExpression',
  'AT_DropExpression',
  'AT_AddIdentity',
  'AT_SetIdentity',
  'AT_DropIdentity',
])

function alterCommand(
  command: AlterTableCmd,
  relations: readonly RelationRow[],
  scope: Scope,
  context: Context,
): void {
  const { subtype = '', name, def, behavior } = command
  if (columnCommands.has(subtype)) touchColumn(relations, name, context)
  if (subtype === 'AT_DropColumn' && behavior === 'DROP_CASCADE') {
    cascades(relations, name ?? null, context)
  }
  const enforces =
    def !== undefined && 'ATAlterConstraint' in def && def.ATAlterConstraint.is_enforced === true
  if (subtype === 'AT_ValidateConstraint' || enforces) validates(relations, context)
  if (subtype === 'AT_DropExpression') keepGenerated(name, relations, scope, context)
  if (subtype === 'AT_ChangeOwner' || subtype.endsWith('RowSecurity')) {
    context.recorder.effects.add('dcl')
  }
  if (def === undefined) return
  if ('ColumnDef' in def) {
    if (subtype === 'AT_AlterColumnType') columnType(name, def, relations, scope, context)
    else columnDefinition(def.ColumnDef, scope, context)
  } else if ('Constraint' in def) {
    tableConstraint(def.Constraint, relations, scope, context)
  } else if ('PartitionCmd' in def) {
    const partitions = actOn(def.PartitionCmd.name, 'alter', context)
    touchColumns(partitions, context)
    if (subtype === 'AT_AttachPartition') partitioned(relations, context)
    else for (const partition of partitions) leaves(partition, context)
    partitionBound(def.PartitionCmd.bound, context)
  } else if ('RangeVar' in def) {
    actOn(def.RangeVar, 'inherit', context)
    if (subtype === 'AT_DropInherit') for (const relation of relations) leaves(relation, context)
  } else if (subtype === 'AT_ColumnDefault' || subtype === 'AT_SetExpression') {
    const value = context.passes.expression(def, scope, context)
    context.recorder.use(value, 'argument')
  }
}

/** Which of the constraints that are not valid yet is held against the rows is not told apart. */
function validates(relations: readonly RelationRow[], context: Context): void {
  for (const relation of relations) {
    for (const { validated, columns, references } of relation.constraints ?? []) {
      if (validated) continue
      useColumns(relation, columns, 'condition', context)
      const target = context.catalog.relationByOid(references?.relation ?? 0)
      if (target !== null) useColumns(target, references?.columns ?? [], 'join', context)
    }
  }
}

/** A child leaves its parents: what is classified in one of them only is classified in it no more. */
function leaves(child: RelationRow, context: Context): void {
  touchColumns([child], context)
  for (const parent of context.catalog.parents(child.oid)) {
    context.recorder.relation(parent, 'alter', 'partition')
  }
}

/** What was generated stays as a copy, which nothing ties to what it was generated from. */
function keepGenerated(
  name: string | undefined,
  relations: readonly RelationRow[],
  scope: Scope,
  context: Context,
): void {
  if (name === undefined) return
  const value = context.passes.expression(
    { ColumnRef: { fields: [{ String: { sval: name } }] } },
    scope,
    context,
  )
  for (const relation of relations) {
    const column = context.names.columnNamed(relation, name)
    if (column === null) continue
    const sources = value.sources.filter((one) => one.column !== column)
    context.recorder.flow({ ...value, sources }, column)
  }
}

/** ALTER COLUMN … TYPE … USING: what the expression gives flows into the column. */
function columnType(
  name: string | undefined,
  node: Extract<Node, { ColumnDef: unknown }>,
  relations: readonly RelationRow[],
  scope: Scope,
  context: Context,
): void {
  if (name === undefined) return
  const shape = resolveType(node.ColumnDef.typeName, context)
  const source: Node = node.ColumnDef.raw_default ?? {
    ColumnRef: { fields: [{ String: { sval: name } }] },
  }
  if (relations.length === 0) return
  const value = applyCast(context.passes.expression(source, scope, context), shape, context)
  context.recorder.use(value, 'argument')
  for (const relation of relations) {
    const column = context.names.columnNamed(relation, name)
    if (column === null) continue
    const sources = value.sources.filter((one) => one.column !== column)
    context.recorder.flow({ ...value, sources }, column)
  }
}

const relationObjects: ReadonlySet<string> = new Set([
  'OBJECT_TABLE',
  'OBJECT_VIEW',
  'OBJECT_MATVIEW',
  'OBJECT_FOREIGN_TABLE',
  'OBJECT_SEQUENCE',
  'OBJECT_INDEX',
])

export function rename(node: Node, context: Context): null {
  if (!('RenameStmt' in node)) return null
  const { renameType = '', relation, subname, newname, missing_ok: missing } = node.RenameStmt
  if (relation !== undefined) {
    const fine = missing === true || renameType === 'OBJECT_INDEX'
    const relations = actOn(relation, 'rename', context, fine)
    if (relationObjects.has(renameType)) {
      touchColumns(relations, context)
      if (renameType !== 'OBJECT_INDEX') moveTo(relations, { name: newname }, context)
    }
    if (renameType === 'OBJECT_VIEW') keepCopiesOfView(relation.relname ?? '', context)
    if (renameType === 'OBJECT_COLUMN' || renameType === 'OBJECT_ATTRIBUTE') {
      touchColumn(relations, subname, context)
    }
    return null
  }
  if (functionObjects.has(renameType)) {
    keepCopiesOfFunction(namesOfObject(node.RenameStmt.object).at(-1) ?? '', context)
  }
  if (renameType === 'OBJECT_SCHEMA') {
    moveTo(touchSchema(subname ?? '', 'rename', context), { schema: newname }, context)
    return null
  }
  return otherObject(node, context)
}

export function setSchema(node: Node, context: Context): null {
  if (!('AlterObjectSchemaStmt' in node)) return null
  const { relation, objectType = '', object, missing_ok: missing } = node.AlterObjectSchemaStmt
  const named =
    relation ?? (relationObjects.has(objectType) ? nameAsRelation(namesOfObject(object)) : null)
  if (named !== null) {
    const moved = actOn(named, 'rename', context, relation !== undefined && missing === true)
    touchColumns(moved, context)
    moveTo(moved, { schema: node.AlterObjectSchemaStmt.newschema }, context)
    if (objectType === 'OBJECT_VIEW') keepCopiesOfView(named.relname ?? '', context)
  } else if (functionObjects.has(objectType)) {
    keepCopiesOfFunction(namesOfObject(object).at(-1) ?? '', context)
  }
  return null
}
