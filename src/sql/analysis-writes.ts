/**
 * INSERT, UPDATE, DELETE and MERGE: what is written, from where (flows), and what is read on the way
 * (src/backend/parser/analyze.c, parse_merge.c). What the write sets off (defaults, checks, index
 * expressions, triggers, rules) is analysis-consequences.ts; a view that is written is
 * analysis-write-targets.ts.
 *
 * Invariant: a CTE never stands for the target; RETURNING shows what was written, so its columns
 * have the written values as sources.
 */
import type {
  DeleteStmt,
  InsertStmt,
  MergeStmt,
  MergeWhenClause,
  Node,
  OnConflictClause,
  RangeVar,
  ReturningClause,
  UpdateStmt,
} from '@pgsql/types'
import type { Context, QueryShape } from './analysis-context.ts'
import { targetList } from './analysis-select.ts'
import type { Write, WriteAction } from './analysis-triggers.ts'
import { writeRows } from './analysis-write-targets.ts'
import { either, opaqueValue, unknownValue, type Field, type Value } from './lineage.ts'
import { missingTarget } from './missing-names.ts'
import { withClause } from './scope-cte.ts'
import {
  isFollowedView,
  recordRelations,
  relationsItem,
  resolveRelations,
} from './scope-relations.ts'
import { fieldOf, Scope, type ScopeItem } from './scope.ts'
import type { RelationRow } from './snapshot.ts'

/** The relation that a statement writes, and the item it is in scope. */
export interface Target {
  readonly relations: readonly RelationRow[]
  readonly item: ScopeItem
  /** Columns that were written, with what went into them. */
  readonly written: Map<string, Value>
}

function openTarget(
  node: RangeVar | undefined,
  actions: readonly WriteAction[],
  context: Context,
): Target {
  const variable: RangeVar = node ?? {}
  const relations = resolveRelations(variable, actions[0] ?? 'select', context)
  const { recorder } = context
  recorder.effects.add('write')
  for (const action of actions) {
    recordRelations(relations, action, variable.inh !== false, context)
    for (const relation of relations) {
      if (context.catalog.relationClass(relation) === 'settings') writesSettings(context)
    }
  }
  const item = relationsItem(variable, relations, context)
  return { relations, item, written: new Map() }
}

/** UPDATE pg_settings is SET under another name. */
function writesSettings(context: Context): void {
  // Its rule gives a row with what set_config returned.
  context.recorder.givesRows = true
  context.recorder.mayChangeSettings = true
  context.recorder.effects.add('session')
  context.recorder.settings.push({ name: null, action: 'set', value: null, through: null })
}

/** The statement has said what it writes: what that sets off, and what fills the other columns. */
function setOff(target: Target, write: Omit<Write, 'relation'>, context: Context): void {
  for (const relation of target.relations) {
    const filled = writeRows({ relation, ...write }, null, context)
    for (const [column, value] of filled) {
      for (const { name, value: shown } of target.item.fields) {
        const direct = shown.sources.some((one) => one.via === 'direct' && one.column === column)
        const before = target.written.get(name)
        if (direct) target.written.set(name, before === undefined ? value : either(before, value))
      }
    }
  }
}

/** Records that a column is written, and from what. */
export function assign(target: Target, name: string, value: Value, context: Context): void {
  const before = target.written.get(name)
  target.written.set(name, before === undefined ? value : either(before, value))
  context.passes.casts(value.type, context)
  if (value.opaque) context.recorder.fail(`what is written to ${name} cannot be followed`)
  for (const relation of target.relations) {
    const column = context.names.columnNamed(relation, name)
    if (column === null) {
      context.recorder.unresolved.add(name)
      context.recorder.fail(`column ${name} of ${relation.name} is not in the catalog`)
      continue
    }
    context.recorder.column(column, null, 'assign')
    context.passes.casts(context.catalog.column(relation, name)?.type ?? 0, context)
    context.recorder.flow(value, column)
    if (!isFollowedView(relation)) continue
    const field = fieldOf(target.item.fields, name)
    for (const source of field?.sources ?? []) {
      if (source.via !== 'direct' || source.column === column) continue
      context.recorder.source(source, 'assign')
      context.recorder.flow(value, source.column)
    }
  }
}

// INSERT

export function insert(node: InsertStmt, parent: Scope | null, context: Context): QueryShape {
  const scope = new Scope(parent)
  withClause(node.withClause, scope, context)
  const updates = node.onConflictClause?.action === 'ONCONFLICT_UPDATE'
  const target = openTarget(node.relation, updates ? ['insert', 'update'] : ['insert'], context)
  const listed = node.cols?.map((column) => columnName(column, target, scope, context)) ?? null
  const incoming = insertSource(node.selectStmt, scope, context)
  const all = target.relations[0]?.columns.map((column) => column.name) ?? []
  const names = listed ?? all.slice(0, incoming === null ? 0 : incoming.fields.length)
  for (const [index, name] of names.entries()) {
    const value = incoming?.fields[index]?.value
    assign(target, name, incoming?.open === true ? opaqueValue : (value ?? unknownValue), context)
  }
  const defaulted = givesDefaults(node.selectStmt)
  setOff(target, { action: 'insert', columns: names, defaulted }, context)
  if (node.onConflictClause !== undefined) {
    onConflict(node.onConflictClause, target, scope, context)
  }
  return returning(node.returningClause, target, [], scope, context)
}

/** VALUES of an INSERT read nothing by themselves, and may hold DEFAULT. */
function insertSource(node: Node | undefined, scope: Scope, context: Context): QueryShape | null {
  if (node === undefined) return null
  // The query sees the statement's CTEs, but not its target.
  const outer = new Scope(scope.parent, [], scope.ctes, scope.variables, scope.parameters)
  return context.passes.statement(node, outer, context)
}

function isDefault(node: Node): boolean {
  return 'SetToDefault' in node
}

/** VALUES that hold DEFAULT: which columns are filled then is not told apart. */
function givesDefaults(node: Node | undefined): boolean {
  if (node === undefined || !('SelectStmt' in node)) return false
  return (node.SelectStmt.valuesLists ?? []).some(
    (row) => 'List' in row && (row.List.items ?? []).some(isDefault),
  )
}

/**
 * The name of a target column. Its subscripts decide where in it something is written, and are
 * converted to int4, which may fail.
 */
function columnName(node: Node, target: Target, scope: Scope, context: Context): string {
  if (!('ResTarget' in node)) return ''
  for (const step of node.ResTarget.indirection ?? []) {
    if (!('A_Indices' in step)) continue
    for (const index of [step.A_Indices.lidx, step.A_Indices.uidx]) {
      if (index === undefined) continue
      context.recorder.use(context.passes.expression(index, scope, context), 'argument')
    }
  }
  const { name = '', location = 0 } = node.ResTarget
  const [relation, other] = target.relations
  const certain = relation !== undefined && other === undefined
  if (certain && context.names.columnNamed(relation, name) === null) {
    missingTarget(name, relation, location, context)
  }
  return name
}

function onConflict(node: OnConflictClause, target: Target, outer: Scope, context: Context): void {
  const own = within(outer, [target.item])
  for (const part of node.infer?.indexElems ?? []) {
    if (!('IndexElem' in part)) continue
    const { name, expr } = part.IndexElem
    const value =
      name === undefined
        ? context.passes.expression(expr, own, context)
        : (fieldOf(target.item.fields, name) ?? unknownValue)
    context.recorder.use(value, 'condition')
  }
  context.recorder.use(
    context.passes.expression(node.infer?.whereClause, own, context),
    'condition',
  )
  if (node.action !== 'ONCONFLICT_UPDATE') return
  const excluded: ScopeItem = {
    ...target.item,
    name: 'excluded',
    relation: null,
    fields: shownFields(target),
  }
  const scope = within(outer, [target.item, { ...excluded, columnsVisible: false }])
  const columns = setClauses(node.targetList, target, scope, context)
  setOff(target, { action: 'update', columns }, context)
  context.recorder.use(context.passes.expression(node.whereClause, scope, context), 'filter')
}

function within(outer: Scope, items: readonly ScopeItem[]): Scope {
  return new Scope(outer.parent, items, outer.ctes, outer.variables, outer.parameters)
}

/** The target's columns as RETURNING and EXCLUDED show them: with what was written into them. */
function shownFields(target: Target): readonly Field[] {
  return target.item.fields.map((field) => {
    const written = target.written.get(field.name)
    if (written === undefined || written.sources.length === 0) return field
    const both = either(field.value, written)
    return {
      name: field.name,
      value: { ...both, type: field.value.type, origins: field.value.origins },
    }
  })
}

// UPDATE, DELETE

/** A condition that names no column (`true`, `1 = 1`, none at all) leaves out no row. */
export function namesColumn(condition: Node | undefined): boolean {
  const pending: unknown[] = [condition]
  for (let node = pending.pop(); node !== undefined || pending.length > 0; node = pending.pop()) {
    if (typeof node !== 'object' || node === null) continue
    for (const [key, value] of Object.entries(node)) {
      if (key === 'ColumnRef' || key === 'CurrentOfExpr') return true
      pending.push(value)
    }
  }
  return false
}

export function update(node: UpdateStmt, parent: Scope | null, context: Context): QueryShape {
  const scope = new Scope(parent)
  withClause(node.withClause, scope, context)
  context.recorder.changesAllRows ||= !namesColumn(node.whereClause)
  const target = openTarget(node.relation, ['update'], context)
  // FROM does not see the target (it is lateral-invisible), everything else does.
  context.passes.from(node.fromClause, scope, context)
  const others = scope.items
  scope.items = [target.item, ...others]
  const columns = setClauses(node.targetList, target, scope, context)
  setOff(target, { action: 'update', columns }, context)
  context.recorder.use(context.passes.expression(node.whereClause, scope, context), 'filter')
  return returning(node.returningClause, target, others, scope, context)
}

export function remove(node: DeleteStmt, parent: Scope | null, context: Context): QueryShape {
  const scope = new Scope(parent)
  withClause(node.withClause, scope, context)
  context.recorder.changesAllRows ||= !namesColumn(node.whereClause)
  const target = openTarget(node.relation, ['delete'], context)
  setOff(target, { action: 'delete', columns: [] }, context)
  context.passes.from(node.usingClause, scope, context)
  const others = scope.items
  scope.items = [target.item, ...others]
  context.recorder.use(context.passes.expression(node.whereClause, scope, context), 'filter')
  return returning(node.returningClause, target, others, scope, context)
}

/** SET a = …, (b, c) = ROW(…) or (SELECT …). Gives the names of what is set. */
function setClauses(
  targets: readonly Node[] | undefined,
  target: Target,
  scope: Scope,
  context: Context,
): readonly string[] {
  const names: string[] = []
  const rows = new Map<string, readonly Value[]>()
  for (const node of targets ?? []) {
    if (!('ResTarget' in node)) continue
    const name = columnName(node, target, scope, context)
    const source = node.ResTarget.val
    const value =
      source !== undefined && 'MultiAssignRef' in source
        ? multiAssigned(source, rows, scope, context)
        : context.passes.expression(source, scope, context)
    context.recorder.use(value, 'output')
    assign(target, name, value, context)
    names.push(name)
  }
  return names
}

/** One column of a row that is assigned as a whole; the row is analysed once. */
function multiAssigned(
  node: Extract<Node, { MultiAssignRef: unknown }>,
  rows: Map<string, readonly Value[]>,
  scope: Scope,
  context: Context,
): Value {
  const { source, colno = 1, ncolumns = 1 } = node.MultiAssignRef
  if (source === undefined) return opaqueValue
  if ('RowExpr' in source) {
    return context.passes.expression(source.RowExpr.args?.[colno - 1], scope, context)
  }
  const key = colno === 1 ? '' : 'row'
  let values = key === '' ? undefined : rows.get('row')
  if (values === undefined) {
    values = rowOf(source, ncolumns, scope, context)
    rows.set('row', values)
  }
  return values[colno - 1] ?? opaqueValue
}

function rowOf(source: Node, count: number, scope: Scope, context: Context): readonly Value[] {
  if ('SubLink' in source && source.SubLink.subselect !== undefined) {
    const shape = context.passes.statement(source.SubLink.subselect, scope, context)
    return shape?.open === false ? shape.fields.map((field) => field.value) : []
  }
  const value = context.passes.expression(source, scope, context)
  return value.fields?.map((field) => field.value) ?? new Array<Value>(count).fill(value)
}

// MERGE

const mergeActions: Readonly<Record<string, WriteAction>> = {
  CMD_INSERT: 'insert',
  CMD_UPDATE: 'update',
  CMD_DELETE: 'delete',
}

/** Some clause changes rows of the target, and no condition says which. */
export function mergesAllRows({ joinCondition, mergeWhenClauses }: MergeStmt): boolean {
  const joined = namesColumn(joinCondition)
  return (mergeWhenClauses ?? []).some((part) => {
    if (!('MergeWhenClause' in part)) return false
    const { commandType, matchKind, condition } = part.MergeWhenClause
    if (commandType !== 'CMD_UPDATE' && commandType !== 'CMD_DELETE') return false
    // What has no match in the source may be everything.
    const isJoined = joined && matchKind !== 'MERGE_WHEN_NOT_MATCHED_BY_SOURCE'
    return !isJoined && !namesColumn(condition)
  })
}

export function merge(node: MergeStmt, parent: Scope | null, context: Context): QueryShape {
  const scope = new Scope(parent)
  withClause(node.withClause, scope, context)
  const clauses = (node.mergeWhenClauses ?? []).flatMap((part) =>
    'MergeWhenClause' in part ? [part.MergeWhenClause] : [],
  )
  context.recorder.changesAllRows ||= mergesAllRows(node)
  const actions = new Set<WriteAction>()
  for (const clause of clauses) {
    const action = mergeActions[clause.commandType ?? '']
    if (action !== undefined) actions.add(action)
  }
  const target = openTarget(node.relation, [...actions], context)
  recordRelations(target.relations, 'select', node.relation?.inh !== false, context)
  context.passes.from(
    node.sourceRelation === undefined ? [] : [node.sourceRelation],
    scope,
    context,
  )
  const others = scope.items
  scope.items = [target.item, ...others]
  context.recorder.use(context.passes.expression(node.joinCondition, scope, context), 'join')
  for (const clause of clauses) whenClause(clause, target, others, scope, context)
  return returning(node.returningClause, target, others, scope, context)
}

function whenClause(
  clause: MergeWhenClause,
  target: Target,
  others: readonly ScopeItem[],
  scope: Scope,
  context: Context,
): void {
  const condition = context.passes.expression(clause.condition, scope, context)
  context.recorder.use(condition, 'condition')
  if (clause.commandType === 'CMD_DELETE')
    setOff(target, { action: 'delete', columns: [] }, context)
  if (clause.commandType === 'CMD_UPDATE') {
    const columns = setClauses(clause.targetList, target, scope, context)
    setOff(target, { action: 'update', columns }, context)
  }
  if (clause.commandType !== 'CMD_INSERT') return
  const sources = within(scope, others)
  const all = target.relations[0]?.columns.map((column) => column.name) ?? []
  const listed =
    clause.targetList?.map((column) => columnName(column, target, sources, context)) ?? null
  for (const [index, part] of (clause.values ?? []).entries()) {
    const value = context.passes.expression(part, sources, context)
    context.recorder.use(value, 'output')
    assign(target, (listed ?? all)[index] ?? '', value, context)
  }
  const columns = (listed ?? all).slice(0, clause.values?.length ?? 0)
  const defaulted = (clause.values ?? []).some(isDefault)
  setOff(target, { action: 'insert', columns, defaulted }, context)
}

// RETURNING

function returning(
  node: ReturningClause | undefined,
  target: Target,
  others: readonly ScopeItem[],
  outer: Scope,
  context: Context,
): QueryShape {
  if (node?.exprs === undefined) return { fields: [], open: false }
  const names = { old: 'old', new: 'new' }
  for (const option of node.options ?? []) {
    if (!('ReturningOption' in option)) continue
    const { option: which, value } = option.ReturningOption
    if (which === 'RETURNING_OPTION_OLD') names.old = value ?? names.old
    if (which === 'RETURNING_OPTION_NEW') names.new = value ?? names.new
  }
  const shown: ScopeItem = { ...target.item, fields: shownFields(target) }
  const hidden = { relation: null, columnsVisible: false }
  const scope = within(outer, [
    shown,
    ...others,
    { ...target.item, ...hidden, name: names.old },
    { ...shown, ...hidden, name: names.new },
  ])
  const shape = targetList(node.exprs, scope, context)
  for (const field of shape.fields) context.recorder.use(field.value, 'returning')
  return shape
}
