/**
 * The FROM clause: relations, CTEs, sub-selects, functions, joins and table functions become scope
 * items (src/backend/parser/parse_clause.c). LATERAL and the visibility of names within joins follow
 * transformFromClauseItem.
 *
 * Invariant: what cannot be resolved becomes an open item, whose columns are opaque.
 */
import type { Alias, JoinExpr, Node, RangeFunction, RangeSubselect, RangeVar } from '@pgsql/types'
import { stringsOf, tagOf, type Context, type QueryShape } from './analysis-context.ts'
import { cteShape } from './scope-cte.ts'
import { applyOperator, assignedValue, convertedTo } from './expression-operators.ts'
import { rowFields } from './expression-columns.ts'
import { alignedPair } from './expression-common.ts'
import { figureColumnName } from './expression-names.ts'
import { derive, either, plain, typeOids, type Field, type Value } from './lineage.ts'
import { fieldOf, hide, Scope, type ScopeItem } from './scope.ts'
import { missingUsing } from './missing-names.ts'
import { jsonTable, xmlTable } from './scope-tables.ts'
import {
  readsPartially,
  recordRelations,
  relationsItem,
  renamed,
  resolveRelations,
} from './scope-relations.ts'

/** Adds the items of a FROM clause (or USING, or a MERGE source) to the scope. */
export function fromClause(
  clause: readonly Node[] | undefined,
  scope: Scope,
  context: Context,
): void {
  for (const node of clause ?? []) {
    const items = fromItem(node, scope, context)
    scope.items = scope.items.length === 0 ? items : [...scope.items, ...items]
  }
}

/** `scope` holds what stands to the left: visible to LATERAL and to functions. */
function fromItem(node: Node, scope: Scope, context: Context): readonly ScopeItem[] {
  if ('RangeVar' in node) return [rangeVar(node.RangeVar, scope, context)]
  if ('JoinExpr' in node) return join(node.JoinExpr, scope, context)
  if ('RangeSubselect' in node) return [subselect(node.RangeSubselect, scope, context)]
  if ('RangeFunction' in node) return [rangeFunction(node.RangeFunction, scope, context)]
  if ('RangeTableSample' in node) {
    const sample = node.RangeTableSample
    context.recorder.partial()
    for (const part of [...(sample.args ?? []), sample.repeatable]) {
      context.recorder.use(context.passes.expression(part, scope, context), 'filter')
    }
    return sample.relation === undefined ? [] : fromItem(sample.relation, scope, context)
  }
  if ('RangeTableFunc' in node) {
    const shape = xmlTable(node.RangeTableFunc, scope, context)
    return [aliased(shape, node.RangeTableFunc.alias ?? { aliasname: 'xmltable' })]
  }
  if ('JsonTable' in node) {
    const shape = jsonTable(node.JsonTable, scope, context)
    return [aliased(shape, node.JsonTable.alias ?? { aliasname: 'json_table' })]
  }
  context.recorder.fail(`${tagOf(node)} cannot be followed in FROM`)
  return [queryItem({ fields: [], open: true }, '')]
}

function rangeVar(node: RangeVar, scope: Scope, context: Context): ScopeItem {
  const names = stringsOf(node.alias?.colnames)
  if (node.schemaname === undefined) {
    const cte = scope.cte(node.relname ?? '')
    if (cte !== null) {
      const shape = cteShape(cte, context)
      if (cte.partial) context.recorder.partial()
      const fields = renamed(shape.fields, names)
      return queryItem({ fields, open: shape.open }, node.alias?.aliasname ?? node.relname ?? '')
    }
  }
  const relations = resolveRelations(node, 'select', context)
  recordRelations(relations, 'select', node.inh === true, context)
  if (relations.some((relation) => readsPartially(relation, context))) context.recorder.partial()
  const item = relationsItem(node, relations, context)
  return names.length === 0 ? item : { ...item, fields: renamed(item.fields, names) }
}

/** An item that is no relation: a sub-select, a CTE, a function. */
export function queryItem(shape: QueryShape, name: string): ScopeItem {
  return {
    name,
    relation: null,
    system: null,
    fields: shape.fields,
    rowType: typeOids.record,
    open: shape.open,
    relationVisible: name !== '',
    columnsVisible: true,
  }
}

function aliased(shape: QueryShape, alias: Alias | undefined): ScopeItem {
  const fields = renamed(shape.fields, stringsOf(alias?.colnames))
  return queryItem({ fields, open: shape.open }, alias?.aliasname ?? '')
}

/** A scope beside this one: its CTEs and outer levels, other items. */
function beside(scope: Scope, items: readonly ScopeItem[]): Scope {
  return new Scope(scope.parent, items, scope.ctes, scope.variables, scope.parameters)
}

function subselect(node: RangeSubselect, scope: Scope, context: Context): ScopeItem {
  const parent = node.lateral === true ? beside(scope, scope.items) : beside(scope, [])
  const shape =
    node.subquery === undefined ? null : context.passes.statement(node.subquery, parent, context)
  return aliased(shape ?? { fields: [], open: true }, node.alias)
}

// Joins

function join(node: JoinExpr, scope: Scope, context: Context): readonly ScopeItem[] {
  const left = node.larg === undefined ? [] : fromItem(node.larg, scope, context)
  const lateral = beside(scope, [...scope.items, ...left])
  const right = node.rarg === undefined ? [] : fromItem(node.rarg, lateral, context)
  const using = node.isNatural === true ? commonNames(left, right) : stringsOf(node.usingClause)
  const merged = using.map((name) => mergedColumn(name, node, left, right, context))
  if (node.quals !== undefined) {
    const quals = context.passes.expression(node.quals, beside(scope, [...left, ...right]), context)
    context.recorder.use(quals, 'join')
  }
  const alias = node.alias
  if (alias === undefined && merged.length === 0) return [...left, ...right]
  const open = [...left, ...right].some((item) => item.columnsVisible && item.open)
  const rest = [...left, ...right].flatMap((item) =>
    item.columnsVisible ? item.fields.filter((field) => !using.includes(field.name)) : [],
  )
  const fields = renamed([...merged, ...rest], stringsOf(alias?.colnames))
  const whole = queryItem({ fields, open }, alias?.aliasname ?? '')
  const inner = [...left, ...right].map((item) => hide(item, alias !== undefined))
  const items = [...inner, whole]
  const usingAlias = node.join_using_alias
  if (usingAlias !== undefined) {
    const only = queryItem({ fields: merged, open: false }, usingAlias.aliasname ?? '')
    items.push({ ...only, columnsVisible: false })
  }
  return items
}

function visibleFields(items: readonly ScopeItem[]): readonly Field[] {
  return items.flatMap((item) => (item.columnsVisible ? item.fields : []))
}

function commonNames(left: readonly ScopeItem[], right: readonly ScopeItem[]): string[] {
  const names = new Set(visibleFields(right).map((field) => field.name))
  return visibleFields(left)
    .map((field) => field.name)
    .filter((name) => names.has(name))
}

/** The one column that stands for both in a USING or NATURAL join (buildMergedJoinVar). */
function mergedColumn(
  name: string,
  node: JoinExpr,
  left: readonly ScopeItem[],
  right: readonly ScopeItem[],
  context: Context,
): Field {
  const one = sideColumn(name, 'left', left, context)
  const other = sideColumn(name, 'right', right, context)
  const equals = applyOperator([{ String: { sval: '=' } }], [one, other], context)
  context.recorder.use(equals, 'join')
  if (equals.opaque) context.recorder.fail(`the join over ${name} cannot be followed`)
  if (node.jointype === 'JOIN_RIGHT') return { name, value: other }
  if (node.jointype === 'JOIN_FULL') {
    const [first, second] = alignedPair(one, other, context)
    return { name, value: either(first, second) }
  }
  return { name, value: one }
}

function sideColumn(
  name: string,
  side: 'left' | 'right',
  items: readonly ScopeItem[],
  context: Context,
): Value {
  const found = fieldOf(visibleFields(items), name)
  if (found !== null) return found
  if (!items.some((item) => item.open)) {
    context.recorder.unresolved.add(name)
    missingUsing(name, side, context)
    context.recorder.fail(`column ${name} of a join is not in the catalog`)
  }
  return { ...plain(0), opaque: true }
}

// Functions

function rangeFunction(node: RangeFunction, scope: Scope, context: Context): ScopeItem {
  const lateral = beside(scope, scope.items)
  const alias = node.alias?.aliasname
  const fields: Field[] = []
  let open = false
  const functions = node.functions ?? []
  for (const entry of functions) {
    const [call, definitions] = 'List' in entry ? (entry.List.items ?? []) : [entry]
    const single = functions.length === 1 && node.is_rowsfrom !== true
    const own =
      definitions !== undefined && 'List' in definitions ? definitions.List.items : undefined
    const columns = own ?? (single ? node.coldeflist : undefined)
    for (const part of unnestParts(call, own !== undefined)) {
      const shape = functionColumns(part, columns, single ? alias : undefined, lateral, context)
      fields.push(...shape.fields)
      open ||= shape.open
    }
  }
  if (node.ordinality === true) fields.push({ name: 'ordinality', value: plain(typeOids.int8) })
  return queryItem(
    { fields: renamed(fields, stringsOf(node.alias?.colnames)), open },
    alias ?? (functions.length === 1 ? firstName(functions[0]) : ''),
  )
}

function firstName(node: Node | undefined): string {
  if (node === undefined) return ''
  const call = 'List' in node ? node.List.items?.[0] : node
  return figureColumnName(call)
}

/**
 * unnest(a, b) in FROM is the server's own unnest(a) beside its unnest(b), whatever functions of the
 * name there are; a qualified name, or a decoration of the call, means a function of two arguments.
 */
function unnestParts(call: Node | undefined, hasColumns: boolean): readonly (Node | undefined)[] {
  if (call === undefined || !('FuncCall' in call)) return [call]
  const { funcname, args = [], func_variadic: variadic, ...rest } = call.FuncCall
  const [name, ...more] = stringsOf(funcname)
  if (name !== 'unnest' || more.length > 0 || args.length < 2) return [call]
  const { agg_order: order, agg_filter: filter, over, agg_star: star, agg_distinct } = rest
  const decorated = order ?? filter ?? over ?? variadic ?? star ?? agg_distinct
  if (decorated !== undefined || hasColumns) return [call]
  return args.map((argument) => ({ FuncCall: { funcname: systemUnnest, args: [argument] } }))
}

const systemUnnest: Node[] = [{ String: { sval: 'pg_catalog' } }, { String: { sval: 'unnest' } }]

function functionColumns(
  call: Node | undefined,
  definitions: readonly Node[] | undefined,
  alias: string | undefined,
  scope: Scope,
  context: Context,
): QueryShape {
  const value = context.passes.expression(call, scope, context)
  if (!value.total) context.recorder.partial()
  if (definitions !== undefined) {
    const fields = definitions.flatMap((node, index) =>
      'ColumnDef' in node ? [definedColumn(node.ColumnDef, index, value, context)] : [],
    )
    return { fields, open: false }
  }
  const fields = rowFields(value, context)
  if (fields !== null) {
    // A function with one OUT column gives a scalar, named by the alias only if it has no name.
    const [only] = fields
    const scalar = fields.length === 1 && only !== undefined && only.name === ''
    if (!scalar) return { fields, open: value.opaque && fields.length === 0 }
    return { fields: [{ name: alias ?? figureColumnName(call), value: only.value }], open: false }
  }
  if (value.type === typeOids.record) return { fields: [], open: true }
  return { fields: [{ name: alias ?? figureColumnName(call), value }], open: false }
}

type ColumnDefinition = Extract<Node, { ColumnDef: unknown }>['ColumnDef']

function definedColumn(
  node: ColumnDefinition,
  index: number,
  value: Value,
  context: Context,
): Field {
  const { type, modifier } = convertedTo(node.typeName, context)
  const field = value.fields?.[index]?.value
  const result =
    field === undefined
      ? derive([value], false, type, modifier)
      : { ...assignedValue(field, { type, modifier }, context), type }
  return { name: node.colname ?? '', value: { ...result, opaque: value.opaque } }
}
