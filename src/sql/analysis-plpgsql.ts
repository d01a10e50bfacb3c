/**
 * Bodies in PL/pgSQL: functions, trigger functions, DO blocks. Their static statements are analysed
 * one by one; variables are not followed one by one, so whatever the body reads may be in every
 * variable and in its result, and may decide what it does. Dynamic EXECUTE, or a body that does not
 * compile, makes it incomplete.
 */
import type { Body } from './analysis-names.ts'
import { mayVisit, type Context } from './analysis-context.ts'
import { assignBit, Recorder, throughOrder } from './analysis-recorder.ts'
import { rowFields } from './expression-columns.ts'
import { convertedTo } from './expression-operators.ts'
import { derive, unionSources, type Source, type Value } from './lineage.ts'
import type { PlpgsqlBody } from './plpgsql.ts'
import { fieldOf, Scope } from './scope.ts'
import { runtimeKey, underAnyPath } from './search-path.ts'
import type { FunctionRow } from './snapshot.ts'

/** The body of a PL/pgSQL function: everything it reads may be in what it gives. */
export function dynamicBody(
  row: FunctionRow,
  parameters: readonly Value[],
  context: Context,
): Body {
  analyseBody(functionText(row, context), `function ${row.schema}.${row.name}`, parameters, context)
  const value = everythingRead(context.recorder)
  const columns = row.arguments.filter((one) => one.mode !== 'in' && one.mode !== 'variadic')
  if (columns.length > 1) {
    const fields = columns.map((one) => ({ name: one.name, value: { ...value, type: one.type } }))
    return { recorder: context.recorder, fields, open: false }
  }
  const composite = context.names.compositeColumns(row.returnType)
  if (composite !== null) {
    const fields = composite.map((column) => ({
      name: column.name,
      value: { ...value, type: column.type },
    }))
    return { recorder: context.recorder, fields, open: false }
  }
  return { recorder: context.recorder, fields: [{ name: row.name, value }], open: false }
}

/** The statement that makes the function, as the compiler reads it. */
export function functionText(row: FunctionRow, context: Context): string {
  const head = `CREATE FUNCTION f(${argumentList(row, context)}) RETURNS ${returnWord(row, context)}`
  return `${head} AS ${quoted(row.body ?? '')} LANGUAGE plpgsql`
}

/** A DO block, or a function that is being made: the text of the whole statement. */
export function doBody(text: string, context: Context): void {
  const { recorder } = context
  const { missing } = recorder
  analyseBody(text, 'DO', [], context)
  // A block around it is analysed so as a whole.
  const moves = context.block === 'none' && context.path !== 'unknown'
  // What comes after a change of the search_path is looked up where that leads.
  if (moves && recorder.mayChangeSettings) analyseBody(text, 'DO', [], underAnyPath(context))
  // Names of the block are looked up when it runs, and have no place in the statement.
  recorder.missing = missing
}

/** Assigning to a variable of a domain runs its checks. */
function declaredType(type: string, context: Context): void {
  const [parsed] = context.tools.parse(`SELECT NULL::${type}`) ?? []
  // `record`, `table%ROWTYPE` and cursors are no types of SQL: fields may be of any.
  if (parsed === undefined) context.passes.casts(0, context)
  if (parsed === undefined) return
  const node = parsed.ast as Parameters<Context['passes']['statement']>[0]
  if (!('SelectStmt' in node)) return
  const target = node.SelectStmt.targetList?.[0]
  if (target === undefined || !('ResTarget' in target)) return
  const value = target.ResTarget.val
  if (value === undefined || !('TypeCast' in value)) return
  convertedTo(value.TypeCast.typeName, context)
}

/** Variables that nobody declares. */
export const implicitVariables = [
  ...['found', 'new', 'old', 'sqlstate', 'sqlerrm'],
  ...['tg_name', 'tg_when', 'tg_level', 'tg_op', 'tg_relid', 'tg_relname', 'tg_table_name'],
  ...['tg_table_schema', 'tg_nargs', 'tg_argv', 'tg_event', 'tg_tag'],
]

function analyseBody(
  text: string,
  what: string,
  parameters: readonly Value[],
  context: Context,
): void {
  const body = context.tools.parsePlpgsql(text)
  if (body === null) {
    context.recorder.fail(`the body of ${what} cannot be followed`)
    return
  }
  if (body.dynamic) {
    context.recorder.fail(`${what} runs SQL that it makes itself`)
    context.recorder.mayChangeSettings = true
    // What it makes itself may be DDL: the session looks at its catalog again.
    context.recorder.changesCatalog = true
  }
  if (body.fetchesForeign) {
    context.recorder.fail(`${what} fetches from a cursor that it may not have opened`)
  }
  // Once to learn what it reads, and again with all of that in its variables.
  const survey = surveyOf(text, body, what, parameters, context)
  if (context.block === 'survey') {
    context.recorder.absorb(survey, null, parameters)
    return
  }
  const local = derive([...parameters, everythingRead(survey)], false, 0)
  analyseStatements(body, what, parameters, local, { ...context, block: 'whole' })
  // Conditions, loops, RAISE and failing assignments: the body behaves by what it has read.
  context.recorder.use(everythingRead(context.recorder), 'argument')
}

/** What the body touches, as far as its variables do not matter for it. */
function surveyOf(
  text: string,
  body: PlpgsqlBody,
  what: string,
  parameters: readonly Value[],
  context: Context,
): Recorder {
  const active = [...context.active].join()
  const key = `${active} ${context.pathText} ${runtimeKey(context)} ${text}`
  // A trigger's rows are those of its table.
  const shared = parameters.length === 0 && context.rows === null
  const known = shared ? context.surveyed.get(key) : undefined
  if (known !== undefined) return known
  const own: Context = { ...context, recorder: new Recorder(), block: 'survey' }
  analyseStatements(body, what, parameters, derive(parameters, false, 0), own)
  if (shared) context.surveyed.set(key, own.recorder)
  return own.recorder
}

/** @param local what any variable may hold. */
function analyseStatements(
  body: PlpgsqlBody,
  what: string,
  parameters: readonly Value[],
  local: Value,
  context: Context,
): void {
  for (const type of body.types) declaredType(type, context)
  const known = new Set([...body.variables, ...implicitVariables])
  const variables = (names: readonly string[]): Value | null => {
    const given = context.rows?.field(names) ?? null
    if (given !== null) return given
    // `name`, `record.field`, `label.name`, `label.record.field`.
    if (!known.has(names[0] ?? '') && !(names.length > 1 && known.has(names[1] ?? ''))) return null
    const fields = names.length > 1 ? rowFields(local, context) : null
    return fields === null ? local : (fieldOf(fields, names.at(-1) ?? '') ?? local)
  }
  const scope = new Scope(null, [], null, variables, parameters)
  for (const statement of body.statements) {
    // Blocks in blocks, and what calls itself, are gone through twice at each level.
    if (!mayVisit(context)) return
    const parsed = context.tools.parse(statement)
    if (parsed === null) {
      context.recorder.fail(`a statement of ${what} does not parse`)
      continue
    }
    for (const one of parsed) {
      const node = one.ast as Parameters<Context['passes']['statement']>[0]
      context.passes.statement(context.rows?.prepare(node) ?? node, scope, context)
    }
  }
}

/** A value that may hold anything that a body reads; what it only writes is not read. */
export function everythingRead(recorder: Recorder): Value {
  let sources: readonly Source[] = []
  for (const [column, uses] of recorder.columns) {
    for (const [index, bits] of uses.entries()) {
      // What a row is written with is in sight, or written, without being read.
      if (bits <= 0 || bits === assignBit) continue
      const through = throughOrder[index] ?? null
      sources = unionSources(sources, [{ column, via: 'derived', total: false, through }])
    }
  }
  return { ...derive([], false, 0), sources, total: false }
}

export function quoted(body: string): string {
  let tag = '$body$'
  while (body.includes(tag)) tag = `$b${tag.slice(1)}`
  return `${tag}${body}${tag}`
}

function typeWord(oid: number, context: Context): string {
  const row = context.catalog.type(oid)
  if (row === null) return 'text'
  return `${quote(row.schema)}.${quote(row.name)}`
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

const modeWords = { in: '', out: 'OUT ', inout: 'INOUT ', variadic: 'VARIADIC ', table: 'OUT ' }

function argumentList(row: FunctionRow, context: Context): string {
  const list =
    row.arguments.length > 0
      ? row.arguments
      : row.argumentTypes.map((type) => ({ name: '', mode: 'in' as const, type }))
  return list
    .map((one) => {
      const name = one.name === '' ? '' : `${quote(one.name)} `
      return `${modeWords[one.mode]}${name}${typeWord(one.type, context)}`
    })
    .join(', ')
}

/** What stands behind RETURNS; OUT columns decide by themselves, so a record will do. */
function returnWord(row: FunctionRow, context: Context): string {
  const word = typeWord(row.returnType, context)
  return row.returnsSet ? `SETOF ${word}` : word
}
