/**
 * XML and JSON constructors and queries, which have their own nodes in the grammar
 * (transformXmlExpr, transformJson… in src/backend/parser/parse_expr.c). Their value is derived from
 * every part; only those whose totality is plain are total.
 */
import type { JsonAggConstructor, JsonArgument, JsonValueExpr, Node } from '@pgsql/types'
import { tagOf, type Context } from './analysis-context.ts'
import { sortedNode, useCompared, windowValues } from './expression-common.ts'
import { computed, convertedTo } from './expression-operators.ts'
import { conditional, opaqueValue, typeOids, type Value } from './lineage.ts'
import type { Scope } from './scope.ts'

const documentNodes: ReadonlySet<string> = new Set([
  'XmlExpr',
  'XmlSerialize',
  'JsonFuncExpr',
  'JsonParseExpr',
  'JsonScalarExpr',
  'JsonSerializeExpr',
  'JsonObjectConstructor',
  'JsonArrayConstructor',
  'JsonArrayQueryConstructor',
  'JsonObjectAgg',
  'JsonArrayAgg',
  'JsonIsPredicate',
  'JsonValueExpr',
  'JsonKeyValue',
  'JsonArgument',
])

export function isDocumentNode(node: Node): boolean {
  return documentNodes.has(tagOf(node))
}

/** One of the nodes above. */
export function documentExpression(node: Node, scope: Scope, context: Context): Value {
  if ('XmlExpr' in node) {
    const { named_args: named, args } = node.XmlExpr
    return partial(
      [...parts(named, scope, context), ...parts(args, scope, context)],
      typeOids.xml,
      context,
    )
  }
  if ('XmlSerialize' in node) {
    const value = context.passes.expression(node.XmlSerialize.expr, scope, context)
    return partial([value], convertedTo(node.XmlSerialize.typeName, context).type, context)
  }
  if ('JsonFuncExpr' in node) return jsonQuery(node, scope, context)
  if ('JsonValueExpr' in node) return jsonValue(node.JsonValueExpr, scope, context)
  if ('JsonArgument' in node) return jsonArgument(node.JsonArgument, scope, context)
  if ('JsonKeyValue' in node) {
    const key = context.passes.expression(node.JsonKeyValue.key, scope, context)
    const value = jsonValue(node.JsonKeyValue.value, scope, context)
    return partial([key, value], 0, context)
  }
  if ('JsonIsPredicate' in node) {
    const value = context.passes.expression(node.JsonIsPredicate.expr, scope, context)
    return partial([value], typeOids.bool, context)
  }
  return jsonConstructor(node, scope, context)
}

/** The server computes these when the row is there, constants or not. */
function partial(values: readonly Value[], type: number, context: Context): Value {
  return computed(values, false, type, context)
}

function parts(nodes: readonly Node[] | undefined, scope: Scope, context: Context): Value[] {
  const values: Value[] = []
  for (const node of nodes ?? []) values.push(context.passes.expression(node, scope, context))
  return values
}

function jsonValue(node: JsonValueExpr | undefined, scope: Scope, context: Context): Value {
  return context.passes.expression(node?.raw_expr, scope, context)
}

function jsonArgument(node: JsonArgument, scope: Scope, context: Context): Value {
  return jsonValue(node.val, scope, context)
}

function jsonQuery(
  node: Extract<Node, { JsonFuncExpr: unknown }>,
  scope: Scope,
  context: Context,
): Value {
  const body = node.JsonFuncExpr
  const values = [
    jsonValue(body.context_item, scope, context),
    context.passes.expression(body.pathspec, scope, context),
    ...parts(body.passing, scope, context),
    context.passes.expression(body.on_empty?.expr, scope, context),
    context.passes.expression(body.on_error?.expr, scope, context),
  ]
  const fallback = body.op === 'JSON_EXISTS_OP' ? typeOids.bool : typeOids.jsonb
  return partial(values, typeOr(body.output?.typeName, fallback, context), context)
}

type NamedType = Parameters<typeof convertedTo>[0]

function typeOr(name: NamedType, fallback: number, context: Context): number {
  return name === undefined ? fallback : convertedTo(name, context).type
}

function jsonConstructor(node: Node, scope: Scope, context: Context): Value {
  const json = typeOids.json
  if ('JsonParseExpr' in node) {
    const value = jsonValue(node.JsonParseExpr.expr, scope, context)
    return partial([value], typeOr(node.JsonParseExpr.output?.typeName, json, context), context)
  }
  if ('JsonScalarExpr' in node) {
    const value = context.passes.expression(node.JsonScalarExpr.expr, scope, context)
    return partial([value], json, context)
  }
  if ('JsonSerializeExpr' in node) {
    const value = jsonValue(node.JsonSerializeExpr.expr, scope, context)
    const type = typeOr(node.JsonSerializeExpr.output?.typeName, typeOids.text, context)
    return partial([value], type, context)
  }
  if ('JsonObjectConstructor' in node) {
    const values = parts(node.JsonObjectConstructor.exprs, scope, context)
    const type = typeOr(node.JsonObjectConstructor.output?.typeName, json, context)
    return partial(values, type, context)
  }
  if ('JsonArrayConstructor' in node) {
    const values = parts(node.JsonArrayConstructor.exprs, scope, context)
    const type = typeOr(node.JsonArrayConstructor.output?.typeName, json, context)
    return partial(values, type, context)
  }
  return jsonQueryOrAggregate(node, scope, context)
}

function jsonQueryOrAggregate(node: Node, scope: Scope, context: Context): Value {
  const json = typeOids.json
  if ('JsonArrayQueryConstructor' in node) {
    const query = node.JsonArrayQueryConstructor.query
    const shape = query === undefined ? null : context.passes.statement(query, scope, context)
    const values = shape?.fields.map((field) => field.value) ?? [opaqueValue]
    const type = typeOr(node.JsonArrayQueryConstructor.output?.typeName, json, context)
    return partial(values, type, context)
  }
  if ('JsonObjectAgg' in node) {
    const { arg, constructor } = node.JsonObjectAgg
    const key = context.passes.expression(arg?.key, scope, context)
    const value = jsonValue(arg?.value, scope, context)
    return aggregate([key, value], own(node.JsonObjectAgg, constructor), scope, context)
  }
  if ('JsonArrayAgg' in node) {
    const { arg, constructor } = node.JsonArrayAgg
    const value = jsonValue(arg, scope, context)
    return aggregate([value], own(node.JsonArrayAgg, constructor), scope, context)
  }
  context.recorder.fail(`${tagOf(node)} cannot be followed as an expression`)
  return opaqueValue
}

/** The field is called `constructor`, which every object has: only an own one counts. */
function own(
  body: object,
  constructor: JsonAggConstructor | undefined,
): JsonAggConstructor | undefined {
  return Object.hasOwn(body, 'constructor') ? constructor : undefined
}

function aggregate(
  values: readonly Value[],
  node: JsonAggConstructor | undefined,
  scope: Scope,
  context: Context,
): Value {
  const extra: Value[] = []
  for (const part of node?.agg_order ?? []) {
    const sorted = context.passes.expression(sortedNode(part), scope, context)
    useCompared(sorted, 'order', context)
    extra.push(sorted)
  }
  if (node?.agg_filter !== undefined) {
    const filter = context.passes.expression(node.agg_filter, scope, context)
    context.recorder.use(filter, 'condition')
    extra.push(filter)
  }
  if (node?.over !== undefined) extra.push(...windowValues(node.over, scope, context))
  const value = partial(values, typeOr(node?.output?.typeName, typeOids.json, context), context)
  return extra.length === 0 ? value : conditional([value, ...extra], true, value.type)
}
