/**
 * Queries: SELECT, VALUES and set operations (src/backend/parser/analyze.c, parse_clause.c). Gives
 * the output columns with their lineage and records how every other column is used.
 *
 * Invariant: GROUP BY prefers input columns, ORDER BY and DISTINCT ON prefer output names, as
 * findTargetlistEntrySQL92 does.
 */
import type { ColumnRef, LockingClause, Node, ResTarget, SelectStmt } from '@pgsql/types'
import type { Use } from './access.ts'
import { mayVisit, stringsOf, type Context, type QueryShape } from './analysis-context.ts'
import { itemNamed, rowFields } from './expression-columns.ts'
import { alignedPair, frameOffsets, sortedNode, useCompared } from './expression-common.ts'
import { figureColumnName, namelessColumn } from './expression-names.ts'
import { either, type Field, type Value } from './lineage.ts'
import { missingColumn } from './missing-names.ts'
import { withClause } from './scope-cte.ts'
import { recordRelations } from './scope-relations.ts'
import { findColumn, Scope } from './scope.ts'

/** The shape of any query; `parent` is the outer level, null at the top of a statement. */
export function query(node: SelectStmt, parent: Scope | null, context: Context): QueryShape {
  if (!mayVisit(context)) return { fields: [], open: true }
  const scope = new Scope(parent)
  withClause(node.withClause, scope, context)
  if (node.op !== undefined && node.op !== 'SETOP_NONE') return setOperation(node, scope, context)
  if (node.valuesLists !== undefined) return valuesLists(node, scope, context)
  return select(node, scope, context)
}

function select(node: SelectStmt, scope: Scope, context: Context): QueryShape {
  const { recorder } = context
  recorder.effects.add('read')
  context.passes.from(node.fromClause, scope, context)
  windows(node, scope, context)
  const shape = targetList(node.targetList, scope, context)
  for (const field of shape.fields) recorder.use(field.value, 'output')
  recorder.use(context.passes.expression(node.whereClause, scope, context), 'filter')
  recorder.use(context.passes.expression(node.havingClause, scope, context), 'having')
  for (const part of node.groupClause ?? []) grouping(part, shape, scope, context)
  if (node.distinctClause !== undefined) distinct(node.distinctClause, shape, scope, context)
  sortAndLimit(node, shape, scope, context)
  for (const part of node.lockingClause ?? []) {
    if ('LockingClause' in part) locking(part.LockingClause, scope, context)
  }
  return shape
}

// Target lists

/** The output columns of a target list or RETURNING, stars expanded. */
export function targetList(
  targets: readonly Node[] | undefined,
  scope: Scope,
  context: Context,
): QueryShape {
  const fields: Field[] = []
  let open = false
  for (const node of targets ?? []) {
    if (!('ResTarget' in node)) continue
    const expanded = expandStar(node.ResTarget, scope, context)
    if (expanded !== null) {
      for (const { value } of expanded.fields) context.passes.casts(value.type, context)
      fields.push(...expanded.fields)
      open ||= expanded.open
      continue
    }
    const { name, val } = node.ResTarget
    const value = context.passes.expression(val, scope, context)
    fields.push({ name: name ?? targetName(val, context), value })
  }
  return { fields, open }
}

/** A scalar sub-select over a star takes the name of the star's first column. */
function targetName(node: Node | undefined, context: Context): string {
  const name = figureColumnName(node)
  if (name !== namelessColumn || node === undefined || !('SubLink' in node)) return name
  return node.SubLink.subLinkType === 'EXPR_SUBLINK' ? (context.lastScalarName.value ?? name) : name
}

function expandStar(target: ResTarget, scope: Scope, context: Context): QueryShape | null {
  const value = target.val
  if (value === undefined) return null
  if ('ColumnRef' in value) {
    const fields = value.ColumnRef.fields ?? []
    const last = fields.at(-1)
    return last !== undefined && 'A_Star' in last ? starOf(value.ColumnRef, scope, context) : null
  }
  if (!('A_Indirection' in value)) return null
  const steps = value.A_Indirection.indirection ?? []
  const last = steps.at(-1)
  if (last === undefined || !('A_Star' in last)) return null
  const row = context.passes.expression(
    { A_Indirection: { ...value.A_Indirection, indirection: steps.slice(0, -1) } },
    scope,
    context,
  )
  const fields = rowFields(row, context)
  return fields === null ? { fields: [], open: true } : { fields, open: row.opaque }
}

function starOf(node: ColumnRef, scope: Scope, context: Context): QueryShape {
  const names = stringsOf(node.fields)
  if (names.length > 0) {
    const item = itemNamed(names, scope, context)
    if (item !== null) return { fields: item.fields, open: item.open }
    const variable = scope.variables?.(names) ?? null
    if (variable === null) {
      context.recorder.unresolved.add(names.join('.'))
      missingColumn([...names, '*'], node.location, scope, context)
      context.recorder.fail(`relation ${names.join('.')} is not in FROM`)
    }
    return { fields: variable === null ? [] : (rowFields(variable, context) ?? []), open: true }
  }
  let open = false
  const fields: Field[] = []
  for (const item of scope.items) {
    if (!item.columnsVisible) continue
    fields.push(...item.fields)
    open ||= item.open
  }
  return { fields, open }
}

// Clauses

/** The target that a name or position of ORDER BY or DISTINCT ON means, null for an expression. */
function namedTarget(node: Node, shape: QueryShape): Value | null {
  if ('A_Const' in node && node.A_Const.ival !== undefined) {
    return shape.fields[(node.A_Const.ival.ival ?? 0) - 1]?.value ?? null
  }
  if (!('ColumnRef' in node) || node.ColumnRef.fields?.length !== 1) return null
  const name = stringsOf(node.ColumnRef.fields).at(0)
  let found: Value | null = null
  for (const field of shape.fields) {
    if (field.name === name) found = found === null ? field.value : either(found, field.value)
  }
  return found
}

function useTarget(
  node: Node | undefined,
  shape: QueryShape,
  use: Use,
  scope: Scope,
  context: Context,
): void {
  if (node === undefined) return
  const target = namedTarget(node, shape)
  useCompared(target ?? context.passes.expression(node, scope, context), use, context)
}

function grouping(node: Node, shape: QueryShape, scope: Scope, context: Context): void {
  if ('GroupingSet' in node) {
    for (const part of node.GroupingSet.content ?? []) grouping(part, shape, scope, context)
    return
  }
  if ('ColumnRef' in node && node.ColumnRef.fields?.length === 1) {
    const name = stringsOf(node.ColumnRef.fields).at(0) ?? ''
    if (findColumn(scope, name)?.local === true) {
      useCompared(context.passes.expression(node, scope, context), 'group', context)
      return
    }
  }
  useTarget(node, shape, 'group', scope, context)
}

function distinct(
  clause: readonly Node[],
  shape: QueryShape,
  scope: Scope,
  context: Context,
): void {
  const on = clause.filter((node) => Object.keys(node).length > 0)
  if (on.length === 0) {
    for (const field of shape.fields) useCompared(field.value, 'distinct', context)
    return
  }
  for (const node of on) useTarget(node, shape, 'distinct', scope, context)
}

function sortAndLimit(node: SelectStmt, shape: QueryShape, scope: Scope, context: Context): void {
  for (const part of node.sortClause ?? []) {
    if ('SortBy' in part) useTarget(part.SortBy.node, shape, 'order', scope, context)
  }
  for (const part of [node.limitCount, node.limitOffset]) {
    if (part === undefined) continue
    // LIMIT sees no columns of this level, only outer ones and its own sub-selects.
    context.recorder.use(context.passes.expression(part, new Scope(scope), context), 'limit')
    if (!isRowCount(part)) context.recorder.partial()
  }
}

/** Of LIMIT and OFFSET only a negative number fails. */
function isRowCount(node: Node): boolean {
  if (!('A_Const' in node)) return false
  const { isnull, ival } = node.A_Const
  return isnull === true || (ival !== undefined && (ival.ival ?? 0) >= 0)
}

function windows(node: SelectStmt, scope: Scope, context: Context): void {
  for (const part of node.windowClause ?? []) {
    if (!('WindowDef' in part)) continue
    const own = part.WindowDef
    const values: Value[] = [...(scope.windows.get(own.refname ?? '') ?? [])]
    const parts = [...(own.partitionClause ?? []), ...(own.orderClause ?? [])]
    for (const one of parts) {
      const value = context.passes.expression(sortedNode(one), scope, context)
      useCompared(value, 'window', context)
      values.push(value)
    }
    values.push(...frameOffsets(own, scope, context))
    scope.windows.set(own.name ?? '', values)
  }
}

function locking(node: LockingClause, scope: Scope, context: Context): void {
  context.recorder.effects.add('lock')
  context.recorder.partial()
  const names = (node.lockedRels ?? []).flatMap((part) =>
    'RangeVar' in part ? [part.RangeVar.relname ?? ''] : [],
  )
  for (const item of scope.items) {
    if (item.system === null) continue
    if (names.length === 0 || names.includes(item.name)) {
      recordRelations([item.system], 'lock', true, context)
    }
  }
}

// VALUES and set operations

function valuesLists(node: SelectStmt, scope: Scope, context: Context): QueryShape {
  const columns: Value[] = []
  for (const list of node.valuesLists ?? []) {
    const items = 'List' in list ? (list.List.items ?? []) : []
    for (const [index, item] of items.entries()) {
      const value = context.passes.expression(item, scope, context)
      const other = columns[index]
      columns[index] = other === undefined ? value : aligned(other, value, context)
    }
  }
  const fields = columns.map((value, index) => ({ name: `column${index + 1}`, value }))
  const shape = { fields, open: false }
  for (const field of fields) context.recorder.use(field.value, 'output')
  sortAndLimit(node, shape, scope, context)
  return shape
}

/** One or the other, brought to their common type. */
function aligned(left: Value, right: Value, context: Context): Value {
  const [one, other] = alignedPair(left, right, context)
  return either(one, other)
}

function setOperation(node: SelectStmt, scope: Scope, context: Context): QueryShape {
  const arms = [node.larg, node.rarg].map((arm) =>
    arm === undefined ? { fields: [], open: true } : query(arm, scope, context),
  )
  const [left, right] = arms
  const open = arms.some((arm) => arm.open)
  const fields = (left?.fields ?? []).map((field, index) => {
    const other = right?.fields[index]
    return other === undefined
      ? field
      : { name: field.name, value: aligned(field.value, other.value, context) }
  })
  // UNION ALL appends; every other form compares rows.
  if (node.op !== 'SETOP_UNION' || node.all !== true) {
    for (const field of fields) useCompared(field.value, 'set_operation', context)
  }
  const shape = { fields, open }
  sortAndLimit(node, shape, scope, context)
  return shape
}
