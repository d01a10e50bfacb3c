/**
 * XMLTABLE and JSON_TABLE in FROM (transformRangeTableFunc in parse_clause.c, parse_jsontable.c):
 * every column is derived from the document, which also decides how many rows there are.
 */
import type { JsonTable, Node, RangeTableFunc } from '@pgsql/types'
import type { Context, QueryShape } from './analysis-context.ts'
import { computed, convertedTo } from './expression-operators.ts'
import { plain, typeOids, type Field, type Value } from './lineage.ts'
import type { Scope } from './scope.ts'

export function xmlTable(node: RangeTableFunc, scope: Scope, context: Context): QueryShape {
  const evaluate = (part: Node | undefined): Value =>
    context.passes.expression(part, scope, context)
  const shared = [
    evaluate(node.docexpr),
    evaluate(node.rowexpr),
    ...(node.namespaces ?? []).map(evaluate),
  ]
  for (const value of shared) context.recorder.use(value, 'cardinality')
  context.recorder.partial()
  const fields: Field[] = []
  for (const column of node.columns ?? []) {
    if (!('RangeTableFuncCol' in column)) continue
    const own = column.RangeTableFuncCol
    const name = own.colname ?? ''
    if (own.for_ordinality === true) {
      fields.push({ name, value: plain(typeOids.int4) })
      continue
    }
    const values = [...shared, evaluate(own.colexpr), evaluate(own.coldefexpr)]
    fields.push({ name, value: cell(values, convertedTo(own.typeName, context).type, context) })
  }
  return { fields, open: false }
}

/** Conversion of a part of the document to the column's type may fail. */
function cell(values: readonly Value[], type: number, context: Context): Value {
  return computed(values, false, type, context)
}

export function jsonTable(node: JsonTable, scope: Scope, context: Context): QueryShape {
  const evaluate = (part: Node | undefined): Value =>
    context.passes.expression(part, scope, context)
  const shared = [
    evaluate(node.context_item?.raw_expr),
    evaluate(node.pathspec?.string),
    ...(node.passing ?? []).map(evaluate),
    evaluate(node.on_error?.expr),
  ]
  for (const value of shared) context.recorder.use(value, 'cardinality')
  context.recorder.partial()
  const fields: Field[] = []
  jsonColumns(node.columns, shared, fields, scope, context)
  return { fields, open: false }
}

function jsonColumns(
  columns: readonly Node[] | undefined,
  shared: readonly Value[],
  fields: Field[],
  scope: Scope,
  context: Context,
): void {
  for (const column of columns ?? []) {
    if (!('JsonTableColumn' in column)) continue
    const own = column.JsonTableColumn
    if (own.coltype === 'JTC_NESTED') {
      jsonColumns(own.columns, shared, fields, scope, context)
      continue
    }
    const name = own.name ?? ''
    if (own.coltype === 'JTC_FOR_ORDINALITY') {
      fields.push({ name, value: plain(typeOids.int4) })
      continue
    }
    const values = [
      ...shared,
      context.passes.expression(own.on_empty?.expr, scope, context),
      context.passes.expression(own.on_error?.expr, scope, context),
    ]
    fields.push({ name, value: cell(values, convertedTo(own.typeName, context).type, context) })
  }
}
