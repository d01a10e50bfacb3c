/**
 * The name of an output column that has no AS, as FigureColname gives it
 * (src/backend/parser/parse_target.c). Names decide what outer queries can refer to.
 */
import type { Node, SelectStmt } from '@pgsql/types'
import { stringsOf, tagOf } from './analysis-context.ts'

export const namelessColumn = '?column?'

/** Nodes whose name is fixed, with strength 2. */
const fixedNames: Readonly<Record<string, string>> = {
  GroupingFunc: 'grouping',
  MergeSupportFunc: 'merge_action',
  A_ArrayExpr: 'array',
  RowExpr: 'row',
  CoalesceExpr: 'coalesce',
  XmlSerialize: 'xmlserialize',
  JsonParseExpr: 'json',
  JsonScalarExpr: 'json_scalar',
  JsonSerializeExpr: 'json_serialize',
  JsonObjectConstructor: 'json_object',
  JsonArrayConstructor: 'json_array',
  JsonArrayQueryConstructor: 'json_array',
  JsonObjectAgg: 'json_objectagg',
  JsonArrayAgg: 'json_arrayagg',
}

const valueFunctionNames: Readonly<Record<string, string>> = {
  SVFOP_CURRENT_DATE: 'current_date',
  SVFOP_CURRENT_TIME: 'current_time',
  SVFOP_CURRENT_TIME_N: 'current_time',
  SVFOP_CURRENT_TIMESTAMP: 'current_timestamp',
  SVFOP_CURRENT_TIMESTAMP_N: 'current_timestamp',
  SVFOP_LOCALTIME: 'localtime',
  SVFOP_LOCALTIME_N: 'localtime',
  SVFOP_LOCALTIMESTAMP: 'localtimestamp',
  SVFOP_LOCALTIMESTAMP_N: 'localtimestamp',
  SVFOP_CURRENT_ROLE: 'current_role',
  SVFOP_CURRENT_USER: 'current_user',
  SVFOP_USER: 'user',
  SVFOP_SESSION_USER: 'session_user',
  SVFOP_CURRENT_CATALOG: 'current_catalog',
  SVFOP_CURRENT_SCHEMA: 'current_schema',
}

const xmlNames: Readonly<Record<string, string>> = {
  IS_XMLCONCAT: 'xmlconcat',
  IS_XMLELEMENT: 'xmlelement',
  IS_XMLFOREST: 'xmlforest',
  IS_XMLPARSE: 'xmlparse',
  IS_XMLPI: 'xmlpi',
  IS_XMLROOT: 'xmlroot',
  IS_XMLSERIALIZE: 'xmlserialize',
}

const jsonNames: Readonly<Record<string, string>> = {
  JSON_EXISTS_OP: 'json_exists',
  JSON_QUERY_OP: 'json_query',
  JSON_VALUE_OP: 'json_value',
}

interface Figured {
  readonly name: string
  readonly strength: 0 | 1 | 2
}

const nothing: Figured = { name: namelessColumn, strength: 0 }

function fixed(name: string | undefined): Figured {
  return name === undefined ? nothing : { name, strength: 2 }
}

/** FigureColname: the name the server gives to a target without AS. */
export function figureColumnName(node: Node | undefined): string {
  return figure(node).name
}

function figure(node: Node | undefined): Figured {
  if (node === undefined) return nothing
  if ('ColumnRef' in node) return fixed(stringsOf(node.ColumnRef.fields).at(-1))
  if ('FuncCall' in node) return fixed(stringsOf(node.FuncCall.funcname).at(-1))
  if ('TypeCast' in node) {
    const inner = figure(node.TypeCast.arg)
    if (inner.strength === 2) return inner
    const name = stringsOf(node.TypeCast.typeName?.names).at(-1)
    return name === undefined ? inner : { name, strength: 1 }
  }
  if ('A_Indirection' in node) {
    const name = stringsOf(node.A_Indirection.indirection).at(-1)
    return name === undefined ? figure(node.A_Indirection.arg) : fixed(name)
  }
  if ('A_Expr' in node) return node.A_Expr.kind === 'AEXPR_NULLIF' ? fixed('nullif') : nothing
  if ('CollateClause' in node) return figure(node.CollateClause.arg)
  if ('SubLink' in node) return figureSubLink(node.SubLink.subLinkType, node.SubLink.subselect)
  if ('CaseExpr' in node) {
    const inner = figure(node.CaseExpr.defresult)
    return inner.strength === 2 ? inner : { name: 'case', strength: 1 }
  }
  if ('MinMaxExpr' in node) {
    return fixed(node.MinMaxExpr.op === 'IS_LEAST' ? 'least' : 'greatest')
  }
  if ('SQLValueFunction' in node) {
    return fixed(valueFunctionNames[node.SQLValueFunction.op ?? ''])
  }
  if ('XmlExpr' in node) return fixed(xmlNames[node.XmlExpr.op ?? ''])
  if ('JsonFuncExpr' in node) return fixed(jsonNames[node.JsonFuncExpr.op ?? ''])
  return fixed(fixedNames[tagOf(node)])
}

function figureSubLink(type: string | undefined, subselect: Node | undefined): Figured {
  if (type === 'EXISTS_SUBLINK') return fixed('exists')
  if (type === 'ARRAY_SUBLINK') return fixed('array')
  if (type !== 'EXPR_SUBLINK' || subselect === undefined) return nothing
  return 'SelectStmt' in subselect ? fixed(firstColumnName(subselect.SelectStmt)) : nothing
}

/** The name of a query's first output column, without looking into stars. */
function firstColumnName(query: SelectStmt): string | undefined {
  let select = query
  while (select.larg !== undefined) select = select.larg
  if (select.valuesLists !== undefined) return 'column1'
  const target = select.targetList?.[0]
  if (target === undefined || !('ResTarget' in target)) return undefined
  return target.ResTarget.name ?? figureColumnName(target.ResTarget.val)
}
