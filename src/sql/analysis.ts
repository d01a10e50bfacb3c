/**
 * What a statement touches: the entry to the analysis. Pure and synchronous: the tree, the catalog
 * and the session's facts in, an Analysis out.
 *
 * Invariants: it never throws; what it does not know is in `access.incomplete`; an incomplete
 * analysis has opaque outputs whose sources are every column within reach.
 */
import type { Node, RangeVar, SelectStmt } from '@pgsql/types'
import type { Analysis, ParsedStatement, SessionFacts } from './access.ts'
import { functionBody, tableFields, viewFields } from './analysis-bodies.ts'
import type { AnalysisTools, Context, Passes, QueryShape } from './analysis-context.ts'
import { tagOf } from './analysis-context.ts'
import { domainChecks, userCasts } from './analysis-domains.ts'
import { namesOf } from './analysis-names.ts'
import { Recorder } from './analysis-recorder.ts'
import { buildAnalysis, type StatementFacts } from './analysis-result.ts'
import { query } from './analysis-select.ts'
import { insert, merge, mergesAllRows, namesColumn, remove, update } from './analysis-writes.ts'
import type { Catalog } from './catalog.ts'
import { callFunction } from './expression-calls.ts'
import { expression } from './expression.ts'
import { fromClause } from './scope-from.ts'
import { Scope } from './scope.ts'
import { anyRuntime, pathKey, seenBy } from './search-path.ts'
import { selectInto } from './utility-create.ts'
import { utility } from './utility.ts'

const passes: Passes = {
  query,
  statement,
  expression,
  callFunction,
  from: fromClause,
  view: viewFields,
  table: tableFields,
  domain: domainChecks,
  casts: userCasts,
  functionBody,
  utility,
  inner: analyseNode,
}

function statement(node: Node, parent: Scope | null, context: Context): QueryShape | null {
  if ('SelectStmt' in node) {
    const shape = query(node.SelectStmt, parent, context)
    const into = intoTarget(node.SelectStmt)
    return into === undefined ? shape : selectInto(into, shape, context)
  }
  if ('InsertStmt' in node) return insert(node.InsertStmt, parent, context)
  if ('UpdateStmt' in node) return update(node.UpdateStmt, parent, context)
  if ('DeleteStmt' in node) return remove(node.DeleteStmt, parent, context)
  if ('MergeStmt' in node) return merge(node.MergeStmt, parent, context)
  if ('ReturnStmt' in node || 'PLAssignStmt' in node) return assignment(node, parent, context)
  return context.passes.utility(node, context)
}

/** RETURN of an SQL body, `variable := expression` of PL/pgSQL. */
function assignment(
  node: Extract<Node, { ReturnStmt: unknown }> | Extract<Node, { PLAssignStmt: unknown }>,
  parent: Scope | null,
  context: Context,
): QueryShape | null {
  if ('PLAssignStmt' in node) {
    const select = node.PLAssignStmt.val
    return select === undefined ? null : query(select, parent, context)
  }
  const value = expression(node.ReturnStmt.returnval, new Scope(parent), context)
  context.recorder.use(value, 'output')
  return { fields: [{ name: 'return', value }], open: false }
}

/** SELECT … INTO stands in the first arm of a set operation. */
function intoTarget(node: SelectStmt): RangeVar | undefined {
  let select = node
  while (select.larg !== undefined) select = select.larg
  return select.intoClause?.rel
}

/**
 * Analyses one statement.
 * @param parsed a statement of the parser; its tree is read, not changed.
 * @param tools parsers for the bodies of views and functions.
 */
export function analyse(
  parsed: ParsedStatement,
  catalog: Catalog,
  facts: SessionFacts,
  tools: AnalysisTools,
): Analysis {
  const role = facts.searchPath === 'unknown' ? null : facts.role
  const path = seenBy(facts.searchPath, role, catalog)
  const context: Context = {
    catalog,
    names: namesOf(catalog),
    facts,
    tools,
    recorder: new Recorder(),
    passes,
    path,
    pathText: pathKey(path),
    runtimePath: path,
    role,
    active: new Set(),
    recursed: new Set(),
    steps: { value: 0 },
    depth: { value: 0 },
    lastScalarName: { value: null },
    rows: null,
    block: 'none',
    surveyed: new Map(),
    text: parsed.text,
  }
  return analyseNode(parsed.ast as Node, parsed.kind, context)
}

/** The analysis of a statement, or of one inside another (PREPARE, DECLARE). */
function analyseNode(node: Node, kind: string, outer: Context): Analysis {
  let context: Context = { ...outer, recorder: new Recorder() }
  let shape = guarded(node, context)
  if (movesOwnPath(context)) {
    // Which call comes first is the server's: a body may be looked up before the change or after.
    context = { ...outer, recorder: new Recorder(), ...anyRuntime }
    shape = guarded(node, context)
  }
  if (context.facts.catalogMoved === true && readsCatalog(context.recorder)) {
    context.recorder.fail('what stands before it in the same query string changes the catalog')
  }
  return buildAnalysis(kind, shape, statementFacts(node), context)
}

function guarded(node: Node, context: Context): QueryShape | null {
  const depth = context.depth.value
  try {
    return statement(node, null, context)
  } catch (error) {
    // Trees that are too deep for the stack, and nothing else, end here on purpose; a fault of the
    // analysis itself must refuse the statement, too, instead of ending the connection.
    const reason = error instanceof RangeError ? 'is nested too deeply' : 'has an unexpected form'
    context.recorder.fail(`the statement ${reason} to be followed`)
    return { fields: [], open: true }
  } finally {
    context.depth.value = depth
  }
}

/** It may change the search_path, or as whom names are looked up, and calls functions of users. */
function movesOwnPath({ recorder, runtimePath }: Context): boolean {
  if (!recorder.mayChangeSettings || runtimePath === 'unknown') return false
  for (const called of recorder.functions.values()) if (called.schema !== 'pg_catalog') return true
  return false
}

/** Rows or functions are reached by names; DDL alone is judged by what it names. */
function readsCatalog({ columns, functions, relations }: Recorder): boolean {
  if (columns.size > 0 || functions.size > 0) return true
  for (const actions of relations.values()) {
    if (actions.some((set) => set !== null && rowActions.some((one) => set.has(one)))) return true
  }
  return false
}

const rowActions = ['select', 'insert', 'update', 'delete']

function statementFacts(node: Node): StatementFacts {
  const select = 'SelectStmt' in node ? node.SelectStmt : null
  if (select !== null) {
    const limited = select.limitCount !== undefined && !isNull(select.limitCount)
    const joined = (select.fromClause ?? []).some((one) => 'JoinExpr' in one && hasCondition(one))
    return { filtered: namesColumn(select.whereClause) || joined, limited, returnsRows: true }
  }
  const none = { filtered: false, limited: false, returnsRows: false }
  if ('InsertStmt' in node) {
    const source = node.InsertStmt.selectStmt
    const inner = source === undefined ? none : statementFacts(source)
    return { ...inner, returnsRows: node.InsertStmt.returningClause !== undefined }
  }
  if ('UpdateStmt' in node || 'DeleteStmt' in node) {
    const body = 'UpdateStmt' in node ? node.UpdateStmt : node.DeleteStmt
    const filtered = namesColumn(body.whereClause)
    return { filtered, limited: false, returnsRows: body.returningClause !== undefined }
  }
  if ('MergeStmt' in node) {
    const filtered = !mergesAllRows(node.MergeStmt)
    return { ...none, filtered, returnsRows: node.MergeStmt.returningClause !== undefined }
  }
  return { ...none, returnsRows: tagOf(node) === 'CallStmt' }
}

function isNull(node: Node): boolean {
  return 'A_Const' in node && node.A_Const.isnull === true
}

function hasCondition(node: Extract<Node, { JoinExpr: unknown }>): boolean {
  const { quals, usingClause, isNatural } = node.JoinExpr
  return quals !== undefined || usingClause !== undefined || isNatural === true
}
