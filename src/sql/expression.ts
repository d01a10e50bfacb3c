/**
 * The walk over expressions: each node gives the lineage of its value. What a node does with its
 * parts (a condition, a filter of an aggregate) is recorded here; how the whole is used the caller
 * says. Node by node after src/backend/parser/parse_expr.c.
 *
 * Invariants: a node that is not known makes the statement incomplete and the value opaque; parts
 * that are computed only sometimes (CASE, AND, COALESCE) make the whole not total if one of them is.
 */
import type {
  A_Const,
  A_Expr,
  BoolExpr,
  CaseExpr,
  CollateClause,
  Node,
  SubLink,
} from '@pgsql/types'
import { analysisDepthMax, mayVisit, stringsOf, tagOf, type Context } from './analysis-context.ts'
import { callExpression } from './expression-calls.ts'
import { coercionTo, commonType } from './expression-common.ts'
import { columnReference, indirection } from './expression-columns.ts'
import { documentExpression, isDocumentNode } from './expression-documents.ts'
import {
  applyCast,
  applyOperator,
  castArgument,
  computed,
  mayRaise,
  resolveType,
} from './expression-operators.ts'
import {
  booleanValue,
  conditional,
  derive,
  opaqueValue,
  plain,
  rowValue,
  typeOids,
  unknownValue,
  withType,
  type Field,
  type Value,
} from './lineage.ts'
import { ordinaryCallName } from './parser-versions.ts'
import type { Scope } from './scope.ts'
import { firstUserOid } from './snapshot.ts'

/** The value of any expression; undefined (an optional part that is not there) is a constant. */
export function expression(node: Node | undefined, scope: Scope, context: Context): Value {
  if (node === undefined) return unknownValue
  // Long lists of constants are no work, and count for none.
  if ('A_Const' in node) return constant(node.A_Const)
  if ('ParamRef' in node) {
    const value = parameter(node.ParamRef.number ?? 0, scope)
    if (!isBuiltin(value.type)) context.passes.casts(value.type, context)
    return value
  }
  if (context.depth.value >= analysisDepthMax) {
    context.recorder.fail('the statement is nested too deeply to follow')
    return opaqueValue
  }
  if (!mayVisit(context)) return opaqueValue
  context.depth.value += 1
  const value = dispatch(node, scope, context)
  context.depth.value -= 1
  if (!isBuiltin(value.type)) context.passes.casts(value.type, context)
  return isOwnCall(node, context) ? opaqueValue : value
}

/** Casts between the server's own types are the server's own. */
function isBuiltin(type: number): boolean {
  return type !== 0 && type < firstUserOid
}

/** What the newer grammar took for its own construct is a call of the database's own function. */
function isOwnCall(node: Node, context: Context): boolean {
  const name = ordinaryCallName(node, context.catalog.serverVersion)
  if (name === null) return false
  const candidates = context.catalog.functions(null, name, 'unknown')
  if (candidates.every(({ schema }) => schema === 'pg_catalog')) return false
  context.recorder.fail(`to this server ${name} is an ordinary call of a function of that name`)
  return true
}

function dispatch(node: Node, scope: Scope, context: Context): Value {
  if ('ColumnRef' in node) return columnReference(node.ColumnRef, scope, context)
  if ('A_Expr' in node) return operation(node.A_Expr, scope, context)
  if ('BoolExpr' in node) return logical(node.BoolExpr, scope, context)
  if ('FuncCall' in node) return callExpression(node.FuncCall, scope, context)
  if ('TypeCast' in node) {
    const value = expression(node.TypeCast.arg, scope, context)
    return applyCast(value, resolveType(node.TypeCast.typeName, context), context)
  }
  if ('SubLink' in node) return subLink(node.SubLink, scope, context)
  if ('CaseExpr' in node) return caseExpression(node.CaseExpr, scope, context)
  if ('NullTest' in node) return test(node.NullTest.arg, scope, context)
  if ('BooleanTest' in node) {
    const tested = expression(node.BooleanTest.arg, scope, context)
    return derive([castArgument(tested, typeOids.bool, context)], true, typeOids.bool)
  }
  if ('A_Indirection' in node) return indirection(node.A_Indirection, scope, context)
  return lessUsual(node, scope, context)
}

function lessUsual(node: Node, scope: Scope, context: Context): Value {
  if ('CoalesceExpr' in node) return coalesce(node.CoalesceExpr.args, scope, context)
  if ('MinMaxExpr' in node) return greatest(node.MinMaxExpr.args, scope, context)
  if ('RowExpr' in node) return row(node.RowExpr.args, scope, context)
  if ('A_ArrayExpr' in node) return array(node.A_ArrayExpr.elements, scope, context)
  if ('List' in node) return derive(all(node.List.items, scope, context), true, 0)
  if ('NamedArgExpr' in node) return expression(node.NamedArgExpr.arg, scope, context)
  if ('CollateClause' in node) return collated(node.CollateClause, scope, context)
  if ('SQLValueFunction' in node) return plain(valueFunctionType(node.SQLValueFunction.op))
  if ('GroupingFunc' in node) {
    for (const part of node.GroupingFunc.args ?? []) expression(part, scope, context)
    return plain(typeOids.int4)
  }
  if ('SetToDefault' in node) return plain(typeOids.unknown)
  if ('MergeSupportFunc' in node) return plain(typeOids.text)
  if ('CurrentOfExpr' in node) {
    context.recorder.dependsOnSession = true
    return plain(typeOids.bool)
  }
  if ('MultiAssignRef' in node) return expression(node.MultiAssignRef.source, scope, context)
  if ('ResTarget' in node) return expression(node.ResTarget.val, scope, context)
  if ('SortBy' in node) return expression(node.SortBy.node, scope, context)
  if ('BitString' in node || 'Integer' in node || 'Float' in node || 'String' in node) {
    return plain(typeOids.unknown)
  }
  if ('Boolean' in node) return plain(typeOids.bool)
  if (isDocumentNode(node)) return documentExpression(node, scope, context)
  context.recorder.fail(`${tagOf(node)} cannot be followed as an expression`)
  return opaqueValue
}

/** Under a collation that may raise the value's type counts as not known: what is done with it is partial. */
function collated(node: CollateClause, scope: Scope, context: Context): Value {
  const given = expression(node.arg, scope, context)
  const [name = '', schema] = stringsOf(node.collname).reverse()
  // A path that names pg_catalog may have a collation of that name before it.
  const certain = schema === 'pg_catalog' || context.path.indexOf('pg_catalog') <= 0
  const collation = certain && name === 'default' ? null : certain ? name : '?'
  const value = { ...given, collation }
  return mayRaise(collation) && value.sources.length > 0 ? withType(value, 0) : value
}

function all(nodes: readonly Node[] | undefined, scope: Scope, context: Context): Value[] {
  const values: Value[] = []
  for (const node of nodes ?? []) values.push(expression(node, scope, context))
  return values
}

function constant(node: A_Const): Value {
  if (node.isnull === true) return plain(typeOids.unknown)
  if (node.sval !== undefined) return plain(typeOids.unknown, node.sval.sval ?? '')
  if (node.ival !== undefined) return plain(typeOids.int4, String(node.ival.ival ?? 0))
  if (node.boolval !== undefined) return plain(typeOids.bool, String(node.boolval.boolval ?? false))
  if (node.bsval !== undefined) return plain(typeOids.bit)
  const text = node.fval?.fval ?? ''
  if (!/^[0-9_]+$/.test(text)) return plain(typeOids.numeric, text)
  const fits = BigInt(text.replaceAll('_', '')) <= 9223372036854775807n
  return plain(fits ? typeOids.int8 : typeOids.numeric, text)
}

/**
 * $n: of a body its argument, of a statement a value that the client sends. The client may declare
 * any type for it, and the operator is chosen by that: it is not known.
 */
function parameter(number: number, scope: Scope): Value {
  return scope.parameters?.[number - 1] ?? unknownValue
}

function test(node: Node | undefined, scope: Scope, context: Context): Value {
  return derive([expression(node, scope, context)], true, typeOids.bool)
}

function logical(node: BoolExpr, scope: Scope, context: Context): Value {
  const values = all(node.args, scope, context)
  return lazily(
    values.map((value) => castArgument(value, typeOids.bool, context)),
    typeOids.bool,
    context,
  )
}

/** Parts that are computed only where the ones before them allow it. */
function lazily(values: readonly Value[], type: number, context: Context): Value {
  const value = conditional(values, true, type)
  if (!value.total) context.recorder.use(value, 'argument')
  return value
}

function operation(node: A_Expr, scope: Scope, context: Context): Value {
  const left = node.lexpr === undefined ? null : expression(node.lexpr, scope, context)
  switch (node.kind) {
    case 'AEXPR_IN':
      return inList(node, left ?? unknownValue, scope, context)
    case 'AEXPR_BETWEEN':
    case 'AEXPR_NOT_BETWEEN':
    case 'AEXPR_BETWEEN_SYM':
    case 'AEXPR_NOT_BETWEEN_SYM':
      return between(node, left ?? unknownValue, scope, context)
    case 'AEXPR_OP_ANY':
    case 'AEXPR_OP_ALL': {
      const right = expression(node.rexpr, scope, context)
      const element = context.names.types.elementOf(right.type)
      const item = right.type === typeOids.unknown ? right : { ...right, type: element }
      return applyOperator(node.name, [left ?? unknownValue, item], context)
    }
    case 'AEXPR_NULLIF': {
      const right = expression(node.rexpr, scope, context)
      const operands = [left ?? unknownValue, right]
      const compared = applyOperator(node.name, operands, context)
      for (const value of operands) context.recorder.use(value, 'condition')
      return lazily([...operands, compared], operands[0]?.type ?? 0, context)
    }
    default: {
      const right = expression(node.rexpr, scope, context)
      if (left === null) return applyOperator(node.name, [right], context)
      return compare(node.name, [left, node.lexpr], [right, node.rexpr], context)
    }
  }
}

function inList(node: A_Expr, left: Value, scope: Scope, context: Context): Value {
  const list = node.rexpr
  const items = list !== undefined && 'List' in list ? (list.List.items ?? []) : []
  const results: Value[] = []
  const seen = new Set<string>()
  for (const item of items) {
    const value = expression(item, scope, context)
    // Long lists of constants of one type are one comparison.
    const key = value.sources.length === 0 && value.total ? `${value.type}` : null
    if (key !== null && seen.has(key)) continue
    if (key !== null) seen.add(key)
    results.push(compare(node.name, [left, node.lexpr], [value, item], context))
  }
  return lazily(results, typeOids.bool, context)
}

type Operand = readonly [value: Value, node: Node | undefined]

/** A comparison; of two row constructors it is one of each pair of fields. */
function compare(
  name: readonly Node[] | undefined,
  [left, leftNode]: Operand,
  [right, rightNode]: Operand,
  context: Context,
): Value {
  const whole = (): Value => applyOperator(name, [left, right], context)
  const rows = isRow(leftNode) && isRow(rightNode)
  if (!rows || left.fields === null || right.fields === null) return whole()
  const pairs: Value[] = []
  for (const [index, field] of left.fields.entries()) {
    const other = right.fields[index]
    if (other === undefined) return whole()
    pairs.push(applyOperator(name, [field.value, other.value], context))
  }
  return lazily(pairs, typeOids.bool, context)
}

function isRow(node: Node | undefined): boolean {
  return node !== undefined && 'RowExpr' in node
}

function between(node: A_Expr, left: Value, scope: Scope, context: Context): Value {
  const list = node.rexpr
  const nodes = list !== undefined && 'List' in list ? (list.List.items ?? []) : []
  const bounds = nodes.map((item): Operand => [expression(item, scope, context), item])
  const atLeast: Node[] = [{ String: { sval: '>=' } }]
  const atMost: Node[] = [{ String: { sval: '<=' } }]
  const results: Value[] = []
  for (const bound of bounds) {
    results.push(compare(atLeast, [left, node.lexpr], bound, context))
    results.push(compare(atMost, [left, node.lexpr], bound, context))
  }
  return lazily(results, typeOids.bool, context)
}

function caseExpression(node: CaseExpr, scope: Scope, context: Context): Value {
  const argument = node.arg === undefined ? null : expression(node.arg, scope, context)
  const equals: Node[] = [{ String: { sval: '=' } }]
  const conditions: Value[] = []
  const results: Value[] = []
  if (argument !== null) context.recorder.use(argument, 'condition')
  for (const when of node.args ?? []) {
    if (!('CaseWhen' in when)) continue
    const condition = expression(when.CaseWhen.expr, scope, context)
    context.recorder.use(condition, 'condition')
    conditions.push(
      argument === null ? condition : applyOperator(equals, [argument, condition], context),
    )
    results.push(expression(when.CaseWhen.result, scope, context))
  }
  // The server lets ELSE speak first when it chooses the common type.
  if (node.defresult !== undefined) results.unshift(expression(node.defresult, scope, context))
  return joined(results, conditions, context)
}

/** One of `values`, brought to their common type; which one `conditions` say. */
function joined(values: readonly Value[], conditions: readonly Value[], context: Context): Value {
  const type = commonType(
    values.map((value) => value.type),
    context,
  )
  const total = coercionTo(type, values, context) === 'total'
  const value = conditional([...conditions, ...values], total, settledType(type))
  if (!value.total) context.recorder.use(value, 'argument')
  return value
}

function settledType(type: number): number {
  return type === typeOids.unknown ? typeOids.text : type
}

function coalesce(nodes: readonly Node[] | undefined, scope: Scope, context: Context): Value {
  const values = all(nodes, scope, context)
  for (const value of values.slice(0, -1)) context.recorder.use(value, 'condition')
  return joined(values, [], context)
}

function greatest(nodes: readonly Node[] | undefined, scope: Scope, context: Context): Value {
  const values = all(nodes, scope, context)
  const less: Node[] = [{ String: { sval: '<' } }]
  for (const value of values) context.recorder.use(value, 'condition')
  const whole = joined(values, [], context)
  const compared = whole.type === 0 ? [] : [applyOperator(less, [whole, whole], context)]
  return computed([whole, ...compared], whole.type !== 0, whole.type, context)
}

function row(nodes: readonly Node[] | undefined, scope: Scope, context: Context): Value {
  const fields: Field[] = []
  for (const node of nodes ?? []) {
    const value = expression(node, scope, context)
    const star = 'ColumnRef' in node && (node.ColumnRef.fields ?? []).some((one) => 'A_Star' in one)
    const parts = star ? value.fields : null
    if (parts !== null) for (const part of parts) fields.push(numbered(fields, part.value))
    else fields.push(numbered(fields, value))
  }
  const value = rowValue(fields, typeOids.record, 0)
  return { ...value, total: fields.every((field) => field.value.total) }
}

function numbered(fields: readonly Field[], value: Value): Field {
  return { name: `f${fields.length + 1}`, value }
}

function array(nodes: readonly Node[] | undefined, scope: Scope, context: Context): Value {
  const values = all(nodes, scope, context)
  const element = settledType(
    commonType(
      values.map((value) => value.type),
      context,
    ),
  )
  const { type, own } = arrayType(element, context)
  const total = own && coercionTo(element, values, context) === 'total'
  return computed(values, total, type, context)
}

/**
 * The type of an array of such elements, and whether it is one of their own. Arrays of arrays are
 * arrays of more dimensions; of different lengths they are an error (2202E).
 */
function arrayType(element: number, context: Context): { type: number; own: boolean } {
  const info = context.names.types.info(element)
  const flat = info !== null && info.element !== 0 && info.name.startsWith('_')
  const type = flat ? element : context.names.types.arrayOf(element)
  return { type, own: info !== null && !flat }
}

function valueFunctionType(op: string | undefined): number {
  switch (op) {
    case 'SVFOP_CURRENT_DATE':
      return typeOids.date
    case 'SVFOP_CURRENT_TIME':
    case 'SVFOP_CURRENT_TIME_N':
      return typeOids.timetz
    case 'SVFOP_CURRENT_TIMESTAMP':
    case 'SVFOP_CURRENT_TIMESTAMP_N':
      return typeOids.timestamptz
    case 'SVFOP_LOCALTIME':
    case 'SVFOP_LOCALTIME_N':
      return typeOids.time
    case 'SVFOP_LOCALTIMESTAMP':
    case 'SVFOP_LOCALTIMESTAMP_N':
      return typeOids.timestamp
    default:
      return typeOids.name
  }
}

function subLink(node: SubLink, scope: Scope, context: Context): Value {
  const select = node.subselect
  const tested = node.testexpr === undefined ? null : expression(node.testexpr, scope, context)
  if (select === undefined) return opaqueValue
  const before = context.recorder.partials
  const shape = context.passes.statement(select, scope, context)
  // A sub-select is computed where the expression is, which may be only sometimes.
  const total = context.recorder.partials === before
  const values = shape === null ? [] : shape.fields.map((field) => field.value)
  const [first] = values
  const open = shape === null || shape.open
  switch (node.subLinkType) {
    case 'EXISTS_SUBLINK':
      return { ...derive([], true, typeOids.bool), total }
    case 'EXPR_SUBLINK': {
      // More than one row is an error, so it is not total by itself; its value is unaltered.
      const value = first ?? unknownValue
      context.lastScalarName.value = shape?.fields[0]?.name ?? null
      return { ...value, total: false, opaque: value.opaque || open }
    }
    case 'ARRAY_SUBLINK': {
      const { type, own } = arrayType(settledType(first?.type ?? 0), context)
      const value = computed(values, own, type, context)
      return { ...value, total: value.total && total, opaque: value.opaque || open }
    }
    default:
      return compareWithQuery(node, tested, { values, total }, context)
  }
}

/** `x IN (SELECT …)`, `x = ANY (SELECT …)`, row comparison. */
function compareWithQuery(
  node: SubLink,
  tested: Value | null,
  { values, total }: { readonly values: readonly Value[]; readonly total: boolean },
  context: Context,
): Value {
  const operator: readonly Node[] = node.operName ?? [{ String: { sval: '=' } }]
  const parts =
    tested === null
      ? []
      : tested.fields !== null && values.length > 1
        ? tested.fields.map((field) => field.value)
        : [tested]
  const results = parts.map((part, index) =>
    applyOperator(operator, [part, values[index] ?? unknownValue], context),
  )
  if (results.length === 0) results.push(derive([...parts, ...values], true, typeOids.bool))
  // The comparison decides how many of the rows are computed.
  return lazily([...results, { ...booleanValue, total }], typeOids.bool, context)
}
