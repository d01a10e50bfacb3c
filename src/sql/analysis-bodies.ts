/**
 * Bodies that run without being in the statement: views, generated columns, SQL and PL/pgSQL
 * functions. Each is analysed once per catalog and kept; a statement that uses one absorbs what it
 * recorded, marked with how it came in.
 *
 * Invariants: a body that does not parse or cannot be followed is opaque and makes the statement
 * incomplete; recursion ends at the second entry. Definitions come from the catalog loader with
 * every name qualified (its search_path is pg_catalog, pg_temp).
 */
import type { Node } from '@pgsql/types'
import type { Through } from './access.ts'
import type { Body } from './analysis-names.ts'
import { Recorder } from './analysis-recorder.ts'
import { isExhausted, type CallShape, type Context, type QueryShape } from './analysis-context.ts'
import type { CatalogFunction } from './catalog.ts'
import { dynamicBody, everythingRead } from './analysis-plpgsql.ts'
import { rowFields } from './expression-columns.ts'
import { remember } from './expression-operators.ts'
import { declaredFields, resultValue } from './function-results.ts'
import {
  columnValue,
  derive,
  opaqueValue,
  substitute,
  telling,
  throughValue,
  unionOrigins,
  withSources,
  type Field,
  type Source,
  type Value,
} from './lineage.ts'
import { fieldOf, Scope } from './scope.ts'
import {
  anyRuntime,
  definitionPath,
  pathKey,
  runningPath,
  runningRole,
  runtimeKey,
  settingOf,
  underAnyPath,
  type SearchPath,
} from './search-path.ts'
import type { FunctionRow, RelationRow } from './snapshot.ts'

/** A context for a body of its own: its own recorder, path and recursion guard. */
export function bodyContext(
  oid: number,
  path: SearchPath,
  context: Context,
  { runtimePath, role }: Pick<Context, 'runtimePath' | 'role'> = context,
): Context {
  return {
    ...context,
    recorder: new Recorder(),
    path,
    pathText: pathKey(path),
    runtimePath,
    role,
    active: new Set([...context.active, oid]),
    // A body is the same however deep the statement is that uses it first.
    depth: { value: 0 },
    lastScalarName: { value: null },
    rows: null,
    block: 'none',
  }
}

/** The statements of a text as trees; null where it does not parse. */
export function parseTrees(text: string, context: Context): readonly Node[] | null {
  const statements = context.tools.parse(text)
  return statements === null ? null : statements.map((statement) => statement.ast as Node)
}

/** An expression of the catalog (default, check, generated) as a tree. */
export function parseExpression(text: string, context: Context): Node | null {
  return parseList(text, context)?.[0] ?? null
}

/** Expressions with commas between them. */
function parseList(text: string, context: Context): readonly Node[] | null {
  const [statement] = parseTrees(`SELECT ${text}`, context) ?? []
  if (statement === undefined || !('SelectStmt' in statement)) return null
  return (statement.SelectStmt.targetList ?? []).flatMap((target) =>
    'ResTarget' in target && target.ResTarget.val !== undefined ? [target.ResTarget.val] : [],
  )
}

/**
 * Takes over what a body recorded, without its outputs: what reaches the statement through a value
 * is recorded where that value is used.
 */
export function absorbBody(
  body: Body,
  through: Through,
  parameters: readonly Value[],
  context: Context,
): void {
  context.recorder.absorb(body.recorder, through, parameters)
}

// Views

/** The columns of a view, each with itself and what it is defined from as sources. */
export function viewFields(relation: RelationRow, context: Context): readonly Field[] {
  // What is stored was made under another session's path, whichever that was.
  const stored = relation.kind === 'materialized_view'
  const runtime: Context = stored ? { ...context, ...anyRuntime } : context
  const key = `${relation.oid} ${runtimeKey(runtime)}`
  let body = context.names.views.get(key)
  if (body === undefined) {
    if (context.active.has(relation.oid)) {
      context.recursed.add(relation.oid)
      context.recorder.fail(`view ${relation.schema}.${relation.name} reads itself`)
      return relation.columns.map((row) => ({ name: row.name, value: opaqueValue }))
    }
    body = analyseView(relation, runtime)
    if (!isCutShort(context)) remember(context.names.views, key, body, bodiesMax)
  }
  if (stored) absorbLineage(body, context)
  else absorbBody(body, 'view', [], context)
  return body.fields
}

function analyseView(relation: RelationRow, context: Context): Body {
  const own = bodyContext(relation.oid, definitionPath(context), context)
  const [tree] = parseTrees(relation.definition ?? '', own) ?? []
  let shape: QueryShape | null = null
  if (tree !== undefined && 'SelectStmt' in tree) {
    shape = own.passes.query(tree.SelectStmt, null, own)
  }
  if (shape === null || shape.open || shape.fields.length < relation.columns.length) {
    own.recorder.fail(`the definition of ${relation.schema}.${relation.name} cannot be followed`)
  }
  const stored = relation.kind === 'materialized_view'
  const fields = relation.columns.map((row, index) => {
    const column = context.names.column(relation, row)
    const direct = columnValue(column, row)
    const value = shape?.fields[index]?.value ?? opaqueValue
    return { name: row.name, value: viewColumn(direct, value, stored) }
  })
  own.recorder.dropOutputs()
  return { recorder: own.recorder, fields, open: false }
}

/** What a materialized view holds was computed when it was refreshed: reading it is total. */
function viewColumn(direct: Value, value: Value, stored: boolean): Value {
  const sources: readonly Source[] = throughValue(value, 'view').sources.map((source) =>
    stored && !source.total ? { ...source, total: true } : source,
  )
  return {
    ...withSources(direct, sources),
    origins: unionOrigins(direct.origins, value.origins),
    fields: value.fields,
    opaque: value.opaque,
    total: stored || value.total,
  }
}

/** A materialized view is not computed by reading it: only what it was made from is of interest. */
function absorbLineage(body: Body, context: Context): void {
  for (const relation of body.recorder.relations.keys()) {
    context.recorder.relation(relation, 'select', 'view')
  }
  for (const reason of body.recorder.incomplete) context.recorder.fail(reason)
}

// Tables

/** The columns of a table; a generated one comes from what its expression reads. */
export function tableFields(relation: RelationRow, context: Context): readonly Field[] {
  const known = context.names.tables.get(relation)
  if (known !== undefined) return known
  const plainFields = relation.columns.map((row) => ({
    name: row.name,
    value: columnValue(context.names.column(relation, row), row),
  }))
  const fields = plainFields.map((field, index) => {
    const generated = relation.columns[index]?.generated ?? null
    if (generated === null) return field
    return {
      name: field.name,
      value: generatedValue(field.value, generated, plainFields, relation, context),
    }
  })
  const shown = relation.kind === 'toast' ? storedFields(fields, relation, context) : fields
  context.names.tables.set(relation, shown)
  return shown
}

/** A toast table holds pieces of its owner's values, whichever column they are of. */
function storedFields(
  fields: readonly Field[],
  relation: RelationRow,
  context: Context,
): readonly Field[] {
  const owner = context.catalog.relationByOid(relation.owner ?? 0)
  if (owner === null) return fields
  const values = owner.columns.map((row) => columnValue(context.names.column(owner, row), row))
  const { sources } = throughValue(derive(values, true, 0), 'partition')
  return fields.map((field) => ({ name: field.name, value: withSources(field.value, sources) }))
}

function generatedValue(
  direct: Value,
  text: string,
  fields: readonly Field[],
  relation: RelationRow,
  context: Context,
): Value {
  const own = bodyContext(relation.oid, definitionPath(context), context)
  const tree = parseExpression(text, own)
  if (tree === null) return { ...direct, opaque: true }
  const item = {
    name: relation.name,
    relation: null,
    system: null,
    fields,
    rowType: relation.rowType,
    open: false,
    relationVisible: true,
    columnsVisible: true,
  }
  const value = own.passes.expression(tree, new Scope(null, [item]), own)
  const derived = throughValue(derive([value], value.total, direct.type), 'generated')
  // Before 18 every generated column is stored: reading it computes nothing.
  const stored = context.catalog.majorVersion < 18
  const sources = derived.sources.map((source) => (stored ? { ...source, total: true } : source))
  return {
    ...withSources(direct, sources),
    opaque: value.opaque || own.recorder.incomplete.size > 0,
    total: stored || value.total,
  }
}

// Functions

/** The call of a user's function: its body's value with the arguments put in. */
export function functionBody(
  called: CatalogFunction,
  given: readonly Value[],
  context: Context,
): CallShape {
  const row = called.row
  if (row === null || row.kind === 'aggregate' || row.body === null) return notAnalysed
  if (row.language !== 'sql' && row.language !== 'plpgsql') return notAnalysed
  if (context.active.has(row.oid)) {
    // What the function reads is added to its value when its body has been analysed.
    context.recursed.add(row.oid)
    return { value: derive(given, false, called.returnType), analysed: true }
  }
  const args = parameterValues(row, given, context)
  const place = placeOf(row, context)
  const key = `${row.oid} ${pathKey(place.path)} ${runtimeKey(place)}`
  let body = context.names.functions.get(key)
  if (body === undefined) {
    const own = bodyContext(row.oid, place.path, context, place)
    body = recursive(analyseFunction(called, row, own), row.oid, context)
    if (!isCutShort(context)) remember(context.names.functions, key, body, bodiesMax)
  }
  absorbBody(body, 'function', args, context)
  if (row.volatility !== 'volatile') context.recorder.planned.add(body.recorder)
  const result = throughValue(resultValue(called, body, context), 'function')
  const inlined = row.language === 'sql' && args.some((argument) => !argument.total)
  const value = inlined ? inlinedValue(called, result, args, context) : substitute(result, args)
  return { value, analysed: body.recorder.incomplete.size === 0 }
}

/** The server may put the body, arguments that are not total included, in the place of the call. */
function inlinedValue(
  called: CatalogFunction,
  result: Value,
  args: readonly Value[],
  context: Context,
): Value {
  const given = substitute(result, args)
  // In FROM its whole query becomes part of the statement: an argument may be anywhere in it.
  const value = called.returnsSet ? telling(given) : given
  for (const source of value.sources) {
    if (source.via === 'derived' && !source.total) context.recorder.source(source, 'argument')
  }
  return value
}

/**
 * One value for each parameter: what VARIADIC gathers is one array, what is not given is the
 * parameter's default, which the server computes for each call.
 */
function parameterValues(
  row: FunctionRow,
  given: readonly Value[],
  context: Context,
): readonly Value[] {
  const count = row.argumentTypes.length
  const fixed = row.variadic ? count - 1 : count
  const args = given.slice(0, fixed)
  if (row.variadic && given.length >= count) {
    args.push(derive(given.slice(fixed), true, row.argumentTypes[fixed] ?? 0))
  }
  if (args.length === count) return args
  const defaults = defaultValues(row, context)
  return [...args, ...defaults.slice(defaults.length - (count - args.length))]
}

function defaultValues(row: FunctionRow, context: Context): readonly Value[] {
  const trees = typeof row.defaults === 'string' ? parseList(row.defaults, context) : null
  if (trees === null || trees.length !== row.defaultCount) {
    context.recorder.fail(`the defaults of function ${row.schema}.${row.name} are not known`)
    return new Array<Value>(row.argumentTypes.length).fill(opaqueValue)
  }
  const path = definitionPath(context)
  const own: Context = { ...context, path, pathText: pathKey(path) }
  return trees.map((tree) => context.passes.expression(tree, new Scope(null), own))
}

/** Bodies kept for one catalog. */
export const bodiesMax = 5_000

/** Something that is still being analysed was called, or time ran out: this is not all. */
export function isCutShort(context: Context): boolean {
  if (isExhausted(context)) return true
  for (const oid of context.recursed) if (context.active.has(oid)) return true
  return false
}

/** A function that calls itself may give whatever it reads. */
function recursive(body: Body, oid: number, context: Context): Body {
  if (!context.recursed.delete(oid)) return body
  const { sources } = everythingRead(body.recorder)
  const fields = body.fields.map((field) => ({
    name: field.name,
    value: { ...withSources(field.value, sources), total: false },
  }))
  return { ...body, fields }
}

const notAnalysed: CallShape = { value: opaqueValue, analysed: false }

/** Where names in a function's body are looked up, where those of what it calls are, and as whom. */
export function placeOf(
  row: FunctionRow,
  context: Context,
): Pick<Context, 'path' | 'runtimePath' | 'role'> {
  const runtimePath = runningPath(row, context)
  const path = row.bodyIsParsed ? definitionPath(context) : runtimePath
  return { path, runtimePath, role: runningRole(row, context) }
}

function analyseFunction(called: CatalogFunction, row: FunctionRow, own: Context): Body {
  const body = analyseUnder(called, row, own)
  // A path of its own is not the session's to move, for it and for what it calls.
  if (settingOf(row) !== null) body.recorder.byPath.clear()
  if (!body.recorder.mayChangeSettings || own.runtimePath === 'unknown') return body
  // It may change the search_path: the server looks names up anew for what comes after that.
  const later = underAnyPath({ ...own, recorder: new Recorder() })
  const path = row.bodyIsParsed ? own.path : later.path
  return analyseUnder(called, row, { ...later, path, pathText: pathKey(path) })
}

function analyseUnder(called: CatalogFunction, row: FunctionRow, own: Context): Body {
  const parameters = own.names.parameters(row.argumentTypes)
  if (row.language === 'plpgsql') return dynamicBody(row, parameters, own)
  const scope = new Scope(null, [], null, parameterNames(row, parameters, own), parameters)
  const trees = bodyTrees(row, own)
  if (trees === null) {
    own.recorder.fail(`the body of function ${called.schema}.${called.name} does not parse`)
    return { recorder: own.recorder, fields: [], open: true }
  }
  let shape: QueryShape | null = null
  for (const tree of trees) shape = own.passes.statement(tree, scope, own)
  const fields = declaredFields(called, shape?.fields ?? [], own)
  return { recorder: own.recorder, fields, open: shape?.open ?? false }
}

/** The statements of an SQL function, in either way of writing its body. */
function bodyTrees(row: FunctionRow, context: Context): readonly Node[] | null {
  if (!row.bodyIsParsed) return parseTrees(row.body ?? '', context)
  const text = `CREATE FUNCTION f() RETURNS record LANGUAGE sql ${row.body ?? ''}`
  const [tree] = parseTrees(text, context) ?? []
  if (tree === undefined || !('CreateFunctionStmt' in tree)) return null
  return sqlBodyTrees(tree.CreateFunctionStmt.sql_body)
}

/** `RETURN expression` or `BEGIN ATOMIC …; END` as statements. */
export function sqlBodyTrees(body: Node | undefined): readonly Node[] | null {
  if (body === undefined) return null
  if ('ReturnStmt' in body) {
    const val = body.ReturnStmt.returnval
    const target: Node = { ResTarget: val === undefined ? {} : { val } }
    return [{ SelectStmt: { targetList: [target], op: 'SETOP_NONE' } }]
  }
  if (!('List' in body)) return null
  const trees: Node[] = []
  for (const part of body.List.items ?? []) {
    const inner = sqlBodyTrees(part)
    if (inner === null) trees.push(part)
    else trees.push(...inner)
  }
  return trees
}

/** Parameters by name, alone or after the function's name; columns come first. */
export function parameterNames(
  row: Pick<FunctionRow, 'name' | 'arguments'>,
  parameters: readonly Value[],
  context: Context,
): (names: readonly string[]) => Value | null {
  const byName = new Map<string, Value>()
  let index = 0
  for (const argument of row.arguments) {
    if (argument.mode === 'out' || argument.mode === 'table') continue
    const value = parameters[index]
    index += 1
    if (value !== undefined && argument.name !== '') byName.set(argument.name, value)
  }
  return (names) => {
    const own = names[0] === row.name && names.length > 1 ? names.slice(1) : names
    const value = byName.get(own[0] ?? '')
    if (value === undefined) return null
    if (own.length === 1) return value
    const fields = rowFields(value, context)
    return fields === null ? null : fieldOf(fields, own[1] ?? '')
  }
}
