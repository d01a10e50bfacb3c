/**
 * What a write sets off besides itself: defaults, check constraints, index expressions, triggers and
 * rules of the target and of its children, and of the tables that a foreign key takes along.
 * Analysed once per relation, action and written columns.
 *
 * What decides whether the row may be written is analysis-constraints.ts.
 */
import type { Node, RuleStmt } from '@pgsql/types'
import type { Through } from './access.ts'
import {
  absorbBody,
  bodyContext,
  isCutShort,
  parseExpression,
  parseTrees,
} from './analysis-bodies.ts'
import { constrain, referentialWrites } from './analysis-constraints.ts'
import { domainDefault } from './analysis-domains.ts'
import type { Body } from './analysis-names.ts'
import type { Context } from './analysis-context.ts'
import {
  replacesByTrigger,
  storedFields,
  triggersBody,
  type Write,
  type WriteAction,
} from './analysis-triggers.ts'
import { remember } from './expression-operators.ts'
import { either, opaqueValue, plain, type BaseColumn, type Field, type Value } from './lineage.ts'
import { Scope, type ScopeItem } from './scope.ts'
import type { RelationRow } from './snapshot.ts'
import { definitionPath, runtimeKey } from './search-path.ts'

/** Columns that a default or a trigger fills, with what may be in them. */
export type Filled = Map<BaseColumn, Value>

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
    if (isInert(taken.relation, context)) continue
    absorbBody(cached('rules', taken, context, rulesBody), 'rule', [], context)
    const fields = filledBy(taken, context)
    if (taken.action === 'delete') continue
    for (const { name, value } of fields) {
      const column = context.names.columnNamed(taken.relation, name)
      if (column !== null) context.recorder.flow(value, column)
    }
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
      context.catalog.type(one.type)?.kind !== 'domain',
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
  const key = `${what} ${relation.oid} ${action} ${runtimeKey(context)} ${written}`
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
  const evaluate = (text: string, decides = false): Value => {
    const tree = parseExpression(text, context)
    if (tree === null) {
      context.recorder.fail(`an expression of ${relation.name} does not parse`)
      return opaqueValue
    }
    const meets = action === 'update' && namesAny(tree, columns, relation.name)
    // What functions and sub-selects in it read decides whether, and where, the row may be written.
    if (decides) context.recorder.use(context.passes.expression(tree, scope, context), 'condition')
    return context.passes.expression(tree, meets ? mixed : scope, context)
  }
  for (const text of relation.expressions) evaluate(text, true)
  const defaults: Field[] = []
  for (const column of relation.columns) {
    context.passes.domain(column.type, context)
    if (column.generated !== null) evaluate(column.generated)
    const value =
      column.default === null ? domainDefault(column.type, context) : evaluate(column.default)
    if (value !== null) defaults.push({ name: column.name, value })
  }
  return defaults
}

/** The row of an UPDATE: what it writes is the client's, the rest is what was there. */
function storedItem(write: Write, context: Context): ScopeItem {
  return rowItem(write.relation.name, write.relation, storedFields(write, context))
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
  return replacesByTrigger(relation, action, context)
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
