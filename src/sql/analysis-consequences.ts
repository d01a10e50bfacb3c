/**
 * What a write sets off besides itself: defaults, check constraints, index expressions, triggers and
 * rules of the target and of its children. Analysed once per relation and action.
 *
 * Columns of the target that only these expressions read are not recorded: they see the row that is
 * being written. What the expressions and bodies do beyond that is.
 */
import type { Node } from '@pgsql/types'
import {
  absorbBody,
  bodyContext,
  definitionPath,
  isCutShort,
  parseExpression,
  parseTrees,
  pathKey,
} from './analysis-bodies.ts'
import type { Body } from './analysis-names.ts'
import type { Context } from './analysis-context.ts'
import { remember } from './expression-operators.ts'
import { opaqueValue, plain, type Field } from './lineage.ts'
import { Scope, type ScopeItem } from './scope.ts'
import type { RelationRow } from './snapshot.ts'

export type WriteAction = 'insert' | 'update' | 'delete'

/** Trigger functions of pg_catalog (below the first oid of users) touch the row alone. */
const firstUserOid = 16_384

/** Records what the action on the relation sets off. */
export function consequences(relation: RelationRow, action: WriteAction, context: Context): void {
  for (const one of [relation, ...context.catalog.children(relation.oid)]) {
    if (isInert(one, context)) continue
    if (context.active.has(one.oid)) continue
    const { expressions, triggers, rules } = bodies(one, action, context)
    absorbBody(expressions, 'generated', [], context)
    absorbBody(triggers, 'trigger', [], context)
    absorbBody(rules, 'rule', [], context)
  }
}

function isInert(relation: RelationRow, context: Context): boolean {
  if (relation.triggers.length > 0 || relation.rules.length > 0) return false
  if (relation.expressions.length > 0) return false
  return relation.columns.every(
    (one) => one.default === null && context.names.checkedDomains(one.type).length === 0,
  )
}

interface Consequences {
  readonly expressions: Body
  readonly triggers: Body
  readonly rules: Body
}

function bodies(relation: RelationRow, action: WriteAction, context: Context): Consequences {
  return {
    expressions: cached('expressions', relation, action, context, expressionsBody),
    triggers: cached('triggers', relation, action, context, triggersBody),
    rules: cached('rules', relation, action, context, rulesBody),
  }
}

function cached(
  what: string,
  relation: RelationRow,
  action: WriteAction,
  context: Context,
  make: (relation: RelationRow, action: WriteAction, context: Context) => void,
): Body {
  const key = `${what} ${relation.oid} ${action} ${pathKey(context.runtimePath)}`
  const known = context.names.writes.get(key)
  if (known !== undefined) return known
  const own = bodyContext(relation.oid, definitionPath(context), context)
  make(relation, action, own)
  const body: Body = { recorder: own.recorder, fields: [], open: false }
  // What was cut short because something above it is being analysed is not kept.
  const whole = context.active.size === 0 && !isCutShort(context)
  return whole ? remember(context.names.writes, key, body, 5_000) : body
}

function expressionsBody(relation: RelationRow, action: WriteAction, context: Context): void {
  if (action === 'delete') return
  const fields: Field[] = relation.columns.map((column) => ({
    name: column.name,
    value: plain(column.type, null, column.modifier),
  }))
  const scope = new Scope(null, [rowItem(relation.name, relation, fields)])
  const texts = [...relation.expressions]
  for (const column of relation.columns) {
    context.passes.domain(column.type, context)
    if (action === 'insert' && column.default !== null) texts.push(column.default)
    if (column.generated !== null) texts.push(column.generated)
  }
  for (const text of texts) {
    const tree = parseExpression(text, context)
    if (tree === null) context.recorder.fail(`an expression of ${relation.name} does not parse`)
    else context.passes.expression(tree, scope, context)
  }
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

function triggersBody(relation: RelationRow, _action: WriteAction, context: Context): void {
  for (const trigger of relation.triggers) {
    const called = context.catalog.functionByOid(trigger.function)
    if (called === null) {
      if (trigger.function >= firstUserOid) {
        context.recorder.fail(`the function of trigger ${trigger.name} is not in the catalog`)
      }
      continue
    }
    context.recorder.effects.add('write')
    context.passes.callFunction([called], [], context)
  }
}

const eventActions: Readonly<Record<string, WriteAction>> = {
  CMD_INSERT: 'insert',
  CMD_UPDATE: 'update',
  CMD_DELETE: 'delete',
}

function rulesBody(relation: RelationRow, action: WriteAction, context: Context): void {
  for (const rule of relation.rules) {
    const [tree] = parseTrees(rule.definition, context) ?? []
    if (tree === undefined || !('RuleStmt' in tree)) {
      context.recorder.fail(`rule ${rule.name} does not parse`)
      continue
    }
    if (eventActions[tree.RuleStmt.event ?? ''] !== action) continue
    const actions = tree.RuleStmt.actions ?? []
    ruleActions(tree.RuleStmt.whereClause, actions, relation, context)
    // A rule that selects makes the write give rows, which nobody asked for.
    if (JSON.stringify(actions).includes('"SelectStmt"')) context.recorder.givesRows = true
  }
}

/** The actions of a rule, with OLD and NEW in sight; NEW may hold anything that is written. */
export function ruleActions(
  condition: Node | undefined,
  actions: readonly Node[],
  relation: RelationRow,
  context: Context,
): void {
  const fields = relation.columns.map((column) => ({
    name: column.name,
    value: plain(column.type),
  }))
  const scope = new Scope(null, [
    rowItem('old', relation, fields),
    rowItem('new', relation, fields),
  ])
  const value = context.passes.expression(condition, scope, context)
  if (value === opaqueValue) context.recorder.fail('the condition of a rule cannot be followed')
  for (const action of actions) {
    // A list of several actions is one List.
    const parts = 'List' in action ? (action.List.items ?? []) : [action]
    for (const part of parts) context.passes.statement(part, scope, context)
  }
}
