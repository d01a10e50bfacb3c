/**
 * CREATE of tables, views, indexes, functions, rules, triggers and policies: what they name, what
 * flows into them, and what their bodies would do.
 *
 * The body of a view or function is analysed although it only runs later: who makes one must be
 * allowed what it does.
 */
import type {
  ColumnDef,
  Constraint,
  CreateStmt,
  IndexElem,
  Node,
  PartitionBoundSpec,
  RangeVar,
} from '@pgsql/types'
import { stringsOf, tagOf, type Context, type QueryShape } from './analysis-context.ts'
import { ruleActions } from './analysis-consequences.ts'
import { parseTrees, sqlBodyTrees } from './analysis-bodies.ts'
import { domainDefault } from './analysis-domains.ts'
import { doBody } from './analysis-plpgsql.ts'
import { Recorder } from './analysis-recorder.ts'
import { resolveType } from './expression-operators.ts'
import { plain, type Field, type Value } from './lineage.ts'
import { fieldsOf, renamed } from './scope-relations.ts'
import { Scope } from './scope.ts'
import type { RelationKind, RelationRow } from './snapshot.ts'
import { constantText } from './utility-session.ts'
import { newRelation } from './scope-made.ts'
import { keepCopiesOfFunction, keepCopiesOfView } from './utility-copies.ts'
import { actOn, ownItem, touchColumn, useColumns } from './utility-targets.ts'

// Tables

export function createTable(node: Node, context: Context): null {
  const statement: CreateStmt | undefined =
    'CreateStmt' in node
      ? node.CreateStmt
      : 'CreateForeignTableStmt' in node
        ? node.CreateForeignTableStmt.base
        : undefined
  if (statement?.relation === undefined) return null
  const names = (statement.tableElts ?? []).flatMap((one) =>
    'ColumnDef' in one ? [one.ColumnDef.colname ?? ''] : [],
  )
  const kind = 'CreateStmt' in node ? 'table' : 'foreign_table'
  const relation = newRelation(statement.relation, kind, names, context)
  context.recorder.relation(relation, 'create', null)
  for (const parent of statement.inhRelations ?? []) {
    if (!('RangeVar' in parent)) continue
    const action = statement.partbound === undefined ? 'inherit' : 'alter'
    partitioned(actOn(parent.RangeVar, action, context), context)
  }
  partitionBound(statement.partbound, context)
  const scope = new Scope(null, [openItem(relation, context)])
  for (const element of statement.tableElts ?? []) tableElement(element, scope, context)
  for (const constraint of [...(statement.constraints ?? []), ...(statement.nnconstraints ?? [])]) {
    if ('Constraint' in constraint) tableConstraint(constraint.Constraint, [], scope, context)
  }
  for (const part of statement.partspec?.partParams ?? []) {
    if ('PartitionElem' in part) {
      context.passes.expression(part.PartitionElem.expr, scope, context)
    }
  }
  return null
}

function openItem(relation: RelationRow, context: Context): ReturnType<typeof ownItem> {
  const fields = relation.columns.map((row) => ({ name: row.name, value: plain(0) }))
  return { ...ownItem({ ...relation, columns: [] }, context), fields }
}

function tableElement(element: Node, scope: Scope, context: Context): void {
  if ('ColumnDef' in element) columnDefinition(element.ColumnDef, scope, context)
  else if ('Constraint' in element) tableConstraint(element.Constraint, [], scope, context)
  else if ('TableLikeClause' in element) actOn(element.TableLikeClause.relation, 'select', context)
  else context.recorder.fail(`${tagOf(element)} is not known as a part of a table`)
}

/** A new bound is held against the rows of the default partition, and against those of the new one. */
export function partitioned(parents: readonly RelationRow[], context: Context): void {
  for (const parent of parents) {
    const key = parent.constraints?.find((one) => one.kind === 'partition_key')
    useColumns(parent, key?.columns ?? [], 'condition', context)
  }
}

/** Bounds of a partition are constant expressions, which may call functions; their values are kept. */
export function partitionBound(node: PartitionBoundSpec | undefined, context: Context): void {
  const datums = [
    ...(node?.listdatums ?? []),
    ...(node?.lowerdatums ?? []),
    ...(node?.upperdatums ?? []),
  ]
  for (const datum of datums) {
    const value = 'PartitionRangeDatum' in datum ? datum.PartitionRangeDatum.value : datum
    // MINVALUE and MAXVALUE are written as column references.
    if (value === undefined || 'ColumnRef' in value) continue
    evaluate(value, new Scope(null), context)
  }
}

/** A column that a table gets: its default, checks and references. */
export function columnDefinition(node: ColumnDef, scope: Scope, context: Context): void {
  const { type } = resolveType(node.typeName, context)
  evaluate(node.raw_default, scope, context)
  // What a column is filled with that has no default of its own.
  const filling = domainDefault(type, context)
  if (filling !== null) context.recorder.use(filling, 'condition')
  for (const constraint of node.constraints ?? []) {
    if ('Constraint' in constraint) tableConstraint(constraint.Constraint, [], scope, context)
  }
}

/** Evaluates an expression of DDL; what it reads of the table is a condition on its rows. */
function evaluate(node: Node | undefined, scope: Scope, context: Context): Value {
  const value = context.passes.expression(node, scope, context)
  context.recorder.use(value, 'condition')
  return value
}

/** What an index holds of a row: an expression, or a column by its name. */
function indexedBy({ name, expr }: IndexElem): Node | undefined {
  return name === undefined ? expr : { ColumnRef: { fields: [{ String: { sval: name } }] } }
}

/** A constraint: checks read rows, keys compare them, foreign keys read another relation. */
export function tableConstraint(
  node: Constraint,
  relations: readonly RelationRow[],
  scope: Scope,
  context: Context,
): void {
  evaluate(node.raw_expr, scope, context)
  evaluate(node.where_clause, scope, context)
  for (const exclusion of node.exclusions ?? []) {
    const [element] = 'List' in exclusion ? (exclusion.List.items ?? []) : []
    if (element !== undefined && 'IndexElem' in element) {
      evaluate(indexedBy(element.IndexElem), scope, context)
    }
  }
  for (const name of [...stringsOf(node.keys), ...stringsOf(node.fk_attrs)]) {
    for (const relation of relations) {
      const column = context.names.columnNamed(relation, name)
      if (column !== null) context.recorder.column(column, null, 'distinct')
    }
  }
  if (node.pktable === undefined) return
  const names = stringsOf(node.pk_attrs)
  for (const relation of actOn(node.pktable, 'references', context, true)) {
    const key = relation.constraints?.find((one) => one.kind === 'primary_key')?.columns ?? []
    const named = relation.columns.filter((row) => names.includes(row.name))
    const numbers = names.length === 0 ? key : named.map((row) => row.number)
    useColumns(relation, numbers, 'join', context)
  }
}

// Tables and views from queries

/** The columns that a query puts into a new relation, recorded as flows. */
function flowInto(
  variable: RangeVar,
  kind: RelationKind,
  shape: QueryShape | null,
  names: readonly string[],
  context: Context,
): void {
  const fields: readonly Field[] = renamed(shape?.fields ?? [], names)
  const existing = actOnExisting(variable, context)
  const relation =
    existing ??
    newRelation(
      variable,
      kind,
      fields.map((field) => field.name),
      context,
    )
  context.recorder.relation(relation, 'create', null)
  for (const [index, field] of fields.entries()) {
    const column = context.names.columnNamed(relation, field.name)
    if (column === null) continue
    context.recorder.column(column, null, 'assign')
    const trace = shape?.traces?.[index]
    if (trace === undefined) context.recorder.flow(field.value, column)
    for (const source of trace?.sources ?? []) {
      if (source.via === 'count') continue
      context.recorder.namedFlows.push({
        from: source.column,
        to: column.dotted,
        via: source.via,
      })
    }
  }
  if (shape === null || shape.open || shape.traces?.some((trace) => trace.opaque) === true) {
    context.recorder.fail(`what flows into ${variable.relname ?? ''} cannot be followed`)
  }
}

/** CREATE OR REPLACE VIEW and IF NOT EXISTS may name what is there. */
function actOnExisting(variable: RangeVar, context: Context): RelationRow | null {
  const relation = newRelation(variable, 'view', [], context)
  return context.catalog.relation(relation.schema, relation.name)
}

export function createTableAs(node: Node, context: Context): null {
  if (!('CreateTableAsStmt' in node)) return null
  const { into, query, objtype } = node.CreateTableAsStmt
  if (into?.rel === undefined || query === undefined) return null
  const shape = context.passes.statement(query, null, context)
  const kind = objtype === 'OBJECT_MATVIEW' ? 'materialized_view' : 'table'
  flowInto(into.rel, kind, shape, stringsOf(into.colNames), context)
  return null
}

/** SELECT … INTO, whose query has been analysed. */
export function selectInto(variable: RangeVar, shape: QueryShape, context: Context): null {
  context.recorder.effects.add('ddl')
  context.recorder.effects.add('write')
  context.recorder.changesCatalog = true
  flowInto(variable, 'table', shape, [], context)
  return null
}

export function createView(node: Node, context: Context): null {
  if (!('ViewStmt' in node)) return null
  const { view, query, aliases } = node.ViewStmt
  if (view === undefined || query === undefined) return null
  const shape = context.passes.statement(query, null, context)
  keepCopiesOfView(view.relname ?? '', context)
  flowInto(view, 'view', shape, stringsOf(aliases), context)
  return null
}

/** REFRESH runs the definition and writes what it gives. */
export function refresh(node: Node, context: Context): null {
  if (!('RefreshMatViewStmt' in node)) return null
  for (const relation of actOn(node.RefreshMatViewStmt.relation, 'refresh', context)) {
    for (const field of fieldsOf(relation, context)) {
      const column = context.names.columnNamed(relation, field.name)
      if (column === null) continue
      context.recorder.column(column, null, 'assign')
      const sources = field.value.sources.filter((source) => source.column !== column)
      context.recorder.flow({ ...field.value, sources }, column)
    }
  }
  return null
}

// Indexes and statistics

export function createIndex(node: Node, context: Context): null {
  if (!('IndexStmt' in node)) return null
  const { relation, indexParams, indexIncludingParams, whereClause, unique } = node.IndexStmt
  const relations = actOn(relation, 'index', context)
  const scope = new Scope(
    null,
    relations.map((one) => ownItem(one, context)),
  )
  for (const element of [...(indexParams ?? []), ...(indexIncludingParams ?? [])]) {
    if (!('IndexElem' in element)) continue
    const value = context.passes.expression(indexedBy(element.IndexElem), scope, context)
    context.recorder.use(value, unique === true ? 'distinct' : 'order')
  }
  evaluate(whereClause, scope, context)
  return null
}

export function createStatistics(node: Node, context: Context): null {
  if (!('CreateStatsStmt' in node)) return null
  const relations = (node.CreateStatsStmt.relations ?? []).flatMap((one) =>
    'RangeVar' in one ? actOn(one.RangeVar, 'alter', context) : [],
  )
  const scope = new Scope(
    null,
    relations.map((one) => ownItem(one, context)),
  )
  for (const element of node.CreateStatsStmt.exprs ?? []) {
    if (!('StatsElem' in element)) continue
    evaluate(element.StatsElem.expr, scope, context)
    const name = element.StatsElem.name
    if (name === undefined) continue
    evaluate({ ColumnRef: { fields: [{ String: { sval: name } }] } }, scope, context)
  }
  return null
}

// Functions

export function createFunction(node: Node, context: Context): null {
  if (!('CreateFunctionStmt' in node)) return null
  const { options, parameters, sql_body: parsed, funcname } = node.CreateFunctionStmt
  replacedTriggers(stringsOf(funcname), context)
  keepCopiesOfFunction(stringsOf(funcname).at(-1) ?? '', context)
  let language = parsed === undefined ? 'unknown' : 'sql'
  let body: string | null = null
  const types: number[] = []
  const names: { name: string; mode: 'in'; type: number }[] = []
  for (const option of options ?? []) {
    if (!('DefElem' in option) || option.DefElem.arg === undefined) continue
    const { defname, arg } = option.DefElem
    if (defname === 'language') language = constantText(arg)?.toLowerCase() ?? 'unknown'
    if (defname === 'as') body = bodyText(arg)
    if (defname === 'set' && 'VariableSetStmt' in arg) functionSetting(arg, context)
  }
  for (const parameter of parameters ?? []) {
    if (!('FunctionParameter' in parameter)) continue
    const { name = '', argType, mode, defexpr } = parameter.FunctionParameter
    context.passes.expression(defexpr, new Scope(null), context)
    if (mode === 'FUNC_PARAM_OUT' || mode === 'FUNC_PARAM_TABLE') continue
    const { type } = resolveType(argType, context)
    types.push(type)
    names.push({ name, mode: 'in', type })
  }
  const later = { ...context, recorder: new Recorder() }
  if (language === 'plpgsql') {
    doBody(context.text, later)
    absorbLater(later, context)
    return null
  }
  if (language !== 'sql') {
    const trusted = language === 'internal' || language === 'c'
    context.recorder.fail(
      `a function in language ${language}${trusted ? ', which runs inside the server,' : ''} cannot be followed`,
    )
    return null
  }
  const own = stringsOf(funcname).at(-1) ?? ''
  sqlFunction(own, names, types, body, parsed, later)
  absorbLater(later, context)
  return null
}

/** What will run when somebody calls it: all its facts, but nothing that happens to this session. */
function absorbLater(later: Context, context: Context): void {
  const before = context.recorder.sessionEffects.length
  const mayChange = context.recorder.mayChangeSettings
  context.recorder.absorb(later.recorder, null, [])
  context.recorder.sessionEffects.length = before
  context.recorder.mayChangeSettings = mayChange
}

function functionSetting(
  node: Extract<Node, { VariableSetStmt: unknown }>,
  context: Context,
): void {
  const { name, args } = node.VariableSetStmt
  context.recorder.settings.push({
    name: (name ?? '').toLowerCase(),
    action: 'set_local',
    value: args?.[0] === undefined ? null : constantText(args[0]),
    through: 'function',
  })
}

function bodyText(node: Node): string | null {
  if ('List' in node) return stringsOf(node.List.items).at(0) ?? null
  return constantText(node)
}

function sqlFunction(
  name: string,
  names: readonly { name: string; mode: 'in'; type: number }[],
  types: readonly number[],
  body: string | null,
  parsed: Node | undefined,
  context: Context,
): void {
  const trees = parsed === undefined ? parseTrees(body ?? '', context) : sqlBodyTrees(parsed)
  if (trees === null) {
    context.recorder.fail(`the body of function ${name} does not parse`)
    return
  }
  const parameters = types.map((type) => plain(type))
  const byName = new Map(names.map((one, index) => [one.name, parameters[index] ?? plain(0)]))
  const variables = (parts: readonly string[]): Value | null =>
    byName.get((parts.length > 1 && parts[0] === name ? parts[1] : parts[0]) ?? '') ?? null
  const scope = new Scope(null, [], null, variables, parameters)
  for (const tree of trees) context.passes.statement(tree, scope, context)
}

// Rules, triggers, policies

export function createRule(node: Node, context: Context): null {
  if (!('RuleStmt' in node)) return null
  const { relation, whereClause, actions, event } = node.RuleStmt
  for (const one of actOn(relation, 'alter', context)) {
    const action = event === 'CMD_INSERT' ? 'insert' : 'update'
    const write = { relation: one, action, columns: [] } as const
    ruleActions(whereClause, actions ?? [], write, context)
  }
  return null
}

export function createTrigger(node: Node, context: Context): null {
  if (!('CreateTrigStmt' in node)) return null
  const { relation, constrrel, funcname, whenClause, columns, row, transitionRels } =
    node.CreateTrigStmt
  const relations = actOn(relation, 'trigger', context)
  actOn(constrrel, 'references', context)
  for (const name of stringsOf(columns)) touchColumn(relations, name, context)
  const [only] = relations
  if (only !== undefined) {
    const item = ownItem(only, context)
    const rows = ['old', 'new'].map((name) => ({ ...item, name, relation: null }))
    evaluate(whenClause, new Scope(null, rows), context)
    if (row === true || transitionRels !== undefined) giveRows(only, context)
  }
  const names = stringsOf(funcname)
  const schema = names.length > 1 ? (names.at(-2) ?? null) : null
  const called = context.catalog
    .functions(schema, names.at(-1) ?? '', context.path)
    .filter((one) => one.argumentTypes.length === 0)
  if (called.length > 0) context.passes.callFunction(called, [], context)
  else context.recorder.fail(`function ${names.join('.')} is not in the catalog`)
  return null
}

/** The function of a trigger is given whole rows, and what it does with them is not followed. */
function giveRows(relation: RelationRow, context: Context): void {
  for (const { value } of ownItem(relation, context).fields) {
    context.recorder.use(value, 'argument')
  }
}

/** Another body for a function that triggers call already. */
function replacedTriggers(names: readonly string[], context: Context): void {
  const schema = names.length > 1 ? (names.at(-2) ?? null) : null
  const replaced = new Set(
    context.catalog
      .functions(schema, names.at(-1) ?? '', context.path)
      .filter((one) => one.argumentTypes.length === 0)
      .map((one) => one.oid),
  )
  if (replaced.size === 0) return
  for (const relation of context.catalog.snapshot.relations) {
    if (relation.triggers.some((one) => replaced.has(one.function))) giveRows(relation, context)
  }
}

export function createPolicy(node: Node, context: Context): null {
  const statement =
    'CreatePolicyStmt' in node
      ? node.CreatePolicyStmt
      : 'AlterPolicyStmt' in node
        ? node.AlterPolicyStmt
        : undefined
  if (statement === undefined) return null
  const relations = actOn(statement.table, 'alter', context)
  const scope = new Scope(
    null,
    relations.map((one) => ownItem(one, context)),
  )
  evaluate(statement.qual, scope, context)
  evaluate(statement.with_check, scope, context)
  return null
}
