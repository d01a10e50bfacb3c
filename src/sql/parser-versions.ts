/**
 * Where the grammar of PostgreSQL 18 reads a construct of its own and an older server reads an ordinary
 * call: `json_value(a, b)` is JSON_VALUE to the parser, and to a server before 17 whatever function of
 * that name the search_path finds, with whatever it does. The tree says nothing of it, so the analysis
 * asks here.
 *
 * The names are those that became col_name_keyword or func_expr_common_subexpr with a syntax that is
 * also a plain call (gram.y of 16 and 17). Those whose syntax an older server cannot read are its own
 * syntax errors.
 */
import type { Node } from '@pgsql/types'

/** Node → the name it has in a text, and the version whose grammar reads it so. */
const constructs: Readonly<Record<string, readonly [name: string, version: number]>> = {
  JsonParseExpr: ['json', 170_000],
  JsonScalarExpr: ['json_scalar', 170_000],
  JsonSerializeExpr: ['json_serialize', 170_000],
  MergeSupportFunc: ['merge_action', 170_000],
  JsonObjectConstructor: ['json_object', 160_000],
  JsonArrayConstructor: ['json_array', 160_000],
  JsonObjectAgg: ['json_objectagg', 160_000],
  JsonArrayAgg: ['json_arrayagg', 160_000],
}

const queryNames: Readonly<Record<string, string>> = {
  JSON_EXISTS_OP: 'json_exists',
  JSON_QUERY_OP: 'json_query',
  JSON_VALUE_OP: 'json_value',
}

/**
 * The name that this node is an ordinary call of to that server, else null.
 * @param serverVersion server_version_num.
 */
export function ordinaryCallName(node: Node, serverVersion: number): string | null {
  if (serverVersion >= 170_000) return null
  if ('JsonFuncExpr' in node) return queryNames[node.JsonFuncExpr.op ?? ''] ?? null
  if ('FuncCall' in node) {
    // json_object(a) of the text is pg_catalog.json_object(a) in the tree.
    if (serverVersion >= 160_000) return null
    const name = node.FuncCall.funcname?.at(-1)
    const isObject = name !== undefined && 'String' in name && name.String.sval === 'json_object'
    return isObject ? 'json_object' : null
  }
  for (const tag in node) {
    const known = constructs[tag]
    if (known !== undefined && serverVersion < known[1]) return known[0]
  }
  return null
}
