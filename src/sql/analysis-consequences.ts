/**
 * What a write sets off besides itself: defaults, check constraints, index expressions, triggers and
 * rules of the target and of its children, and of the tables that a foreign key takes along.
 * Analysed once per relation, action and written columns.
 *
 * What decides whether the row may be written is analysis-constraints.ts.
 */
import type { CreateTrigStmt, Node, RuleStmt } from '@pgsql/types'
import type { Through } from './access.ts'
import {
  absorbBody,
  bodyContext,
  definitionPath,
  isCutShort,
  parseExpression,
  parseTrees,
  pathKey,
} from './analysis-bodies.ts'
import { constrain, referentialWrites } from './analysis-constraints.ts'
import type { Body } from './analysis-names.ts'
import type { Context } from './analysis-context.ts'
import { everythingRead } from './analysis-plpgsql.ts'
import { remember } from './expression-operators.ts'
import { either, opaqueValue, plain, type BaseColumn, type Field, type Value } from './lineage.ts'
import { fieldsOf } from './scope-relations.ts'
import { Scope, type ScopeItem } from './scope.ts'
import type { RelationRow, TriggerRow } from './snapshot.ts'

export type WriteAction = 'insert' | 'update' | 'delete' | 'truncate'

/** Rows of a relation are written: what the statement gives values to, by name. */
export interface Write {
  readonly relation: RelationRow
  readonly action: WriteAction
  readonly columns: readonly string[]
  /** DEFAULT stands for some of the values: which, is not told apart. */
  readonly defaulted?: boolean
}

/** Columns that a default or a trigger fills, with what may be in them. */
export type Filled = Map<BaseColumn, Value>

/** Trigger functions of pg_catalog (below the first oid of users) touch the row alone. */
const firstUserOid = 16_384

/** Records what the write sets off; gives what it puts into columns by itself. */
export function consequences(write: Write, through: Through, context: Context): Filled {
  const filled: Filled = new Map()
  const { relation, action } = write
  for (const one of [relation, ...context.catalog.children(relation.oid)]) {
    if (context.active.has(one.oid)) continue
    if (action !== 'truncate') rowInSight(one, relation, through, context)
    const own = { ...write, relation: one }
    constrain(own, context)
    if (isInert(one, context)) continue
    absorbBody(cached('rules', own, context, rulesBody), 'rule', [], context)
    for (const { name, value } of filledBy(own, context)) {
      const column = context.names.columnNamed(relation, name)
      if (column === null || value.sources.length === 0) continue
      const before = filled.get(column)
      filled.set(column, before === undefined ? value : either(before, value))
    }
  }
  for (const taken of referentialWrites(write, context)) {
    context.recorder.relation(taken.relation, taken.action, 'trigger')
    if (context.active.has(taken.relation.oid)) continue
    rowInSight(taken.relation, taken.relation, 'trigger', context)
    constrain(taken, context)
    if (!isInert(taken.relation, context)) filledBy(taken, context)
  }
  return filled
}

/**
 * An error shows the row that could not be written ("Failing row contains …"), and a trigger may
 * print it: every column is listed, with no use. Those of a child that the relation has too follow
 * from the relation's.
 */
function rowInSight(
  one: RelationRow,
  relation: RelationRow,
  through: Through,
  context: Context,
): void {
  if (context.catalog.relationClass(one) !== null) return
  const known = one === relation ? null : context.catalog.columnsOf(relation)
  for (const row of one.columns) {
    if (known?.has(row.name) === true) continue
    const how = known === null ? through : 'partition'
    context.recorder.column(context.names.column(one, row), how, null)
  }
}

function isInert(relation: RelationRow, context: Context): boolean {
  if (relation.triggers.length > 0 || relation.rules.length > 0) return false
  if (relation.expressions.length > 0) return false
  return relation.columns.every(
    (one) =>
      one.default === null &&
      one.generated === null &&
      context.names.checkedDomains(one.type).length === 0,
  )
}

/** Defaults and triggers of one relation, by the columns that they fill. */
function filledBy(write: Write, context: Context): readonly Field[] {
  const expressions = cached('expressions', write, context, expressionsBody)
  const triggers = cached('triggers', write, context, triggersBody)
  absorbBody(expressions, 'generated', [], context)
  absorbBody(triggers, 'trigger', [], context)
  const { action, columns, defaulted = action === 'update' } = write
  const defaults = expressions.fields.filter(({ name }) =>
    columns.includes(name) ? defaulted : action === 'insert',
  )
  return [...defaults, ...triggers.fields]
}

function cached(
  what: string,
  write: Write,
  context: Context,
  make: (write: Write, context: Context) => readonly Field[],
): Body {
  const { relation, action, columns } = write
  const written = action === 'update' ? columns.join('\u0001') : ''
  const key = `${what} ${relation.oid} ${action} ${pathKey(context.runtimePath)} ${written}`
  const known = context.names.writes.get(key)
  if (known !== undefined) return known
  const own = bodyContext(relation.oid, definitionPath(context), context)
  const fields = make(write, own)
  const body: Body = { recorder: own.recorder, fields, open: false }
  // What was cut short because something above it is being analysed is not kept.
  const whole = context.active.size === 0 && !isCutShort(context)
  return whole ? remember(context.names.writes, key, body, 5_000) : body
}

/**
 * Expressions see the row that is written: its values are the client's own. On UPDATE the columns
 * that are not written are those of before, and an expression that meets both tells about them.
 */
function expressionsBody(write: Write, context: Context): readonly Field[] {
  const { relation, action, columns } = write
  if (action !== 'insert' && action !== 'update') return []
  const given = relation.columns.map((column) => ({
    name: column.name,
    value: plain(column.type, null, column.modifier),
  }))
  const scope = new Scope(null, [rowItem(relation.name, relation, given)])
  const mixed = action === 'update' ? new Scope(null, [storedItem(write, context)]) : scope
  const evaluate = (text: string): Value => {
    const tree = parseExpression(text, context)
    if (tree === null) {
      context.recorder.fail(`an expression of ${relation.name} does not parse`)
      return opaqueValue
    }
    const meets = action === 'update' && namesAny(tree, columns, relation.name)
    return context.passes.expression(tree, meets ? mixed : scope, context)
  }
  for (const text of relation.expressions) evaluate(text)
  const defaults: Field[] = []
  for (const column of relation.columns) {
    context.passes.domain(column.type, context)
    if (column.generated !== null) evaluate(column.generated)
    if (column.default === null) continue
    defaults.push({ name: column.name, value: evaluate(column.default) })
  }
  return defaults
}

/** The row of an UPDATE: what it writes is the client's, the rest is what was there. */
function storedItem(write: Write, context: Context): ScopeItem {
  const { relation, columns } = write
  const stored = fieldsOf(relation, context).map((field) =>
    columns.includes(field.name) ? { ...field, value: plain(field.value.type) } : field,
  )
  return rowItem(relation.name, relation, stored)
}

/** The expression names one of the columns, or the whole row. */
function namesAny(tree: unknown, columns: readonly string[], relation: string): boolean {
  if (typeof tree !== 'object' || tree === null) return false
  if (Array.isArray(tree)) return tree.some((part) => namesAny(part, columns, relation))
  const { ColumnRef: reference } = tree as { readonly ColumnRef?: { readonly fields?: Node[] } }
  if (reference === undefined) {
    return Object.values(tree).some((part) => namesAny(part, columns, relation))
  }
  return (reference.fields ?? []).some((part) => {
    if (!('String' in part)) return true
    const name = part.String.sval ?? ''
    return name === relation || columns.includes(name)
  })
}

function rowItem(name: string, relation: RelationRow, fields: readonly Field[]): ScopeItem {
  return {
    name,
    relation: null,
    system: null,
    fields,
    rowType: relation.rowType,
    open: false,
    relationVisible: true,
    columnsVisible: true,
  }
}

/** pg_trigger.tgtype, which the parser uses for the same things. */
const insteadOf = 64
const events: Readonly<Record<WriteAction, number>> = {
  insert: 4,
  delete: 8,
  update: 16,
  truncate: 32,
}

function triggerTree(trigger: TriggerRow, context: Context): CreateTrigStmt | null {
  const [tree] = parseTrees(trigger.definition ?? '', context) ?? []
  return tree !== undefined && 'CreateTrigStmt' in tree ? tree.CreateTrigStmt : null
}

/** It fires; where its definition is not known it does. An UPDATE may move a row: delete, insert. */
function fires(tree: CreateTrigStmt | null, write: Write): boolean {
  if (tree === null) return true
  const { relation, action } = write
  const moves =
    action === 'update' && (relation.isPartition || relation.kind === 'partitioned_table')
  const mask = moves ? events.insert | events.update | events.delete : events[action]
  return ((tree.events ?? 0) & mask) !== 0
}

/** A trigger before the row is written decides what is: all that it reads may be in any column. */
function triggersBody(write: Write, context: Context): readonly Field[] {
  const { relation } = write
  let read: Value | null = null
  for (const trigger of relation.triggers) {
    const tree = triggerTree(trigger, context)
    if (!fires(tree, write)) continue
    const called = context.catalog.functionByOid(trigger.function)
    if (called === null) {
      if (trigger.function >= firstUserOid) {
        context.recorder.fail(`the function of trigger ${trigger.name} is not in the catalog`)
      }
      continue
    }
    context.recorder.effects.add('write')
    const own = bodyContext(relation.oid, context.path, context)
    context.passes.callFunction([called], [], own)
    const made = { recorder: own.recorder, fields: [], open: false }
    absorbBody(made, null, [], context)
    const fills = tree === null || (tree.row === true && (tree.timing ?? 0) !== 0)
    if (!fills) continue
    const value = everythingRead(own.recorder)
    read = read === null ? value : either(read, value)
  }
  if (read === null || read.sources.length === 0) return []
  const value = read
  return relation.columns.map(({ name }) => ({ name, value }))
}

const eventActions: Readonly<Record<string, WriteAction>> = {
  CMD_INSERT: 'insert',
  CMD_UPDATE: 'update',
  CMD_DELETE: 'delete',
}

/** The rules of a relation for an action. */
function rulesOf(relation: RelationRow, action: WriteAction, context: Context): RuleStmt[] {
  return relation.rules.flatMap((rule) => {
    const [tree] = parseTrees(rule.definition, context) ?? []
    if (tree === undefined || !('RuleStmt' in tree)) {
      context.recorder.fail(`rule ${rule.name} does not parse`)
      return []
    }
    return eventActions[tree.RuleStmt.event ?? ''] === action ? [tree.RuleStmt] : []
  })
}

function rulesBody(write: Write, context: Context): readonly Field[] {
  for (const rule of rulesOf(write.relation, write.action, context)) {
    const actions = rule.actions ?? []
    ruleActions(rule.whereClause, actions, write, context)
    // A rule that selects makes the write give rows, which nobody asked for.
    if (JSON.stringify(actions).includes('"SelectStmt"')) context.recorder.givesRows = true
  }
  return []
}

/** Something is done instead of the write: nothing reaches what a view is defined over. */
export function isReplaced(relation: RelationRow, action: WriteAction, context: Context): boolean {
  const byRule = rulesOf(relation, action, context).some(
    (rule) => rule.instead === true && rule.whereClause === undefined,
  )
  if (byRule) return true
  return relation.triggers.some((trigger) => {
    const tree = triggerTree(trigger, context)
    if (tree === null) return true
    return tree.timing === insteadOf && ((tree.events ?? 0) & events[action]) !== 0
  })
}

/** The actions of a rule, with OLD and NEW in sight: NEW is OLD where nothing is written. */
export function ruleActions(
  condition: Node | undefined,
  actions: readonly Node[],
  write: Write,
  context: Context,
): void {
  const { relation, action } = write
  const old = { ...storedItem({ ...write, columns: [] }, context), name: 'old' }
  const given = relation.columns.map((column) => ({
    name: column.name,
    value: plain(column.type),
  }))
  const written = action === 'insert' ? rowItem('new', relation, given) : storedItem(write, context)
  const scope = new Scope(null, [old, { ...written, name: 'new' }])
  const value = context.passes.expression(condition, scope, context)
  context.recorder.use(value, 'condition')
  if (value === opaqueValue) context.recorder.fail('the condition of a rule cannot be followed')
  for (const part of actions.flatMap(ruleParts)) context.passes.statement(part, scope, context)
}

/** A list of several actions is one List. */
function ruleParts(node: Node): readonly Node[] {
  return 'List' in node ? (node.List.items ?? []) : [node]
}
