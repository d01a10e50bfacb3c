/**
 * Statements that run others: EXPLAIN, COPY, DO, CALL. They are judged as what they run.
 */
import type { CopyStmt, Node } from '@pgsql/types'
import { stringsOf, type Context, type QueryShape } from './analysis-context.ts'
import { settingEffects } from './analysis-recorder.ts'
import { doBody, everythingRead, quoted } from './analysis-plpgsql.ts'
import { writeRows } from './analysis-write-targets.ts'
import { rowFields } from './expression-columns.ts'
import { missingTarget } from './missing-names.ts'
import { derive, throughValue, typeOids, type Field, type Value } from './lineage.ts'
import {
  isFollowedView,
  recordRelations,
  relationsItem,
  resolveRelations,
} from './scope-relations.ts'
import { fieldOf, Scope } from './scope.ts'
import { constantText } from './utility-session.ts'

/**
 * EXPLAIN: with ANALYZE, in whatever form, it is what it runs. Without, nothing is executed but what
 * planning executes, and the plan shows what the planner knows of the columns, so they count as read.
 */
export function explain(node: Node, context: Context): QueryShape | null {
  if (!('ExplainStmt' in node)) return null
  const { query, options } = node.ExplainStmt
  const { recorder } = context
  const names = (options ?? []).flatMap((one) =>
    'DefElem' in one ? [one.DefElem.defname ?? ''] : [],
  )
  const analyze = names.some((name) => name.toLowerCase() === 'analyze')
  recorder.sessionEffects.push({ kind: 'explain' })
  // Of DECLARE the query is explained; no cursor is opened.
  const explained =
    query !== undefined && 'DeclareCursorStmt' in query ? query.DeclareCursorStmt.query : query
  if (explained === undefined) return null
  const effectsBefore = new Set(recorder.effects)
  const sessionEffects = recorder.sessionEffects.length
  const shape = context.passes.statement(explained, null, context)
  if (!analyze) {
    recorder.effects.clear()
    for (const effect of effectsBefore) recorder.effects.add(effect)
    recorder.effects.add('read')
    recorder.sessionEffects.length = sessionEffects
  } else if (isExecute(explained)) {
    // What has no plan is not run: of an EXECUTE nothing but a query is.
    const ran = recorder.sessionEffects.splice(sessionEffects)
    recorder.sessionEffects.push(...ran.filter(({ kind }) => ofQueries.has(kind)))
  }
  // The text of a plan is derived from everything the statement touches: constants are folded into
  // it, and row counts and estimates tell about values.
  const touched = shape?.fields.map((field) => field.value) ?? []
  const value = derive(touched, false, typeOids.text)
  for (const field of touched) if (analyze) recorder.use(field, 'output')
  const plan = analyze ? value : { ...value, ...planning(context) }
  return { fields: [{ name: 'QUERY PLAN', value: plan }], open: false }
}

const ofQueries: ReadonlySet<string> = new Set(['execute', 'set', 'reset'])

function isExecute(node: Node): boolean {
  return 'ExecuteStmt' in node
}

/**
 * What planning executes: immutable functions, whose result stands in the plan, and stable ones, for
 * the estimates. They fail, and have effects, as they have when they are called.
 */
function planning({ recorder }: Context): Pick<Value, 'sources'> {
  const bodies = [...recorder.planned]
  const read = bodies.map((body) => throughValue(everythingRead(body), 'function'))
  const { sources } = derive(read, false, 0)
  for (const value of read) recorder.use(value, 'argument')
  for (const body of bodies) {
    for (const effect of body.effects) recorder.effects.add(effect)
    recorder.sessionEffects.push(...settingEffects(body))
  }
  return { sources }
}

// COPY

export function copy(node: Node, context: Context): QueryShape | null {
  if (!('CopyStmt' in node)) return null
  const statement = node.CopyStmt
  const { recorder } = context
  const from = statement.is_from === true
  if (statement.is_program === true) recorder.effects.add('program')
  else if (statement.filename !== undefined) recorder.effects.add('file')
  else recorder.sessionEffects.push({ kind: from ? 'copy_in' : 'copy_out' })
  return from ? copyFrom(statement, context) : copyTo(statement, context)
}

function copyTo(statement: CopyStmt, context: Context): QueryShape | null {
  const { recorder } = context
  if (statement.query !== undefined) {
    recorder.effects.add('read')
    return context.passes.statement(statement.query, null, context)
  }
  const variable = statement.relation ?? {}
  recorder.effects.add('read')
  const relations = resolveRelations(variable, 'select', context)
  recordRelations(relations, 'select', false, context)
  const item = relationsItem(variable, relations, context)
  const names = stringsOf(statement.attlist)
  let fields: readonly Field[] = item.fields
  if (names.length > 0) {
    fields = names.flatMap((name) => {
      const value = fieldOf(item.fields, name)
      return value === null ? [] : [{ name, value }]
    })
  } else {
    // COPY leaves generated columns out.
    const generated = new Set(
      relations.flatMap((one) =>
        one.columns.filter((column) => column.generated !== null).map((column) => column.name),
      ),
    )
    fields = fields.filter((field) => !generated.has(field.name))
  }
  const where = context.passes.expression(statement.whereClause, new Scope(null, [item]), context)
  recorder.use(where, 'filter')
  for (const field of fields) recorder.use(field.value, 'output')
  return { fields, open: item.open || fields.length < names.length }
}

function copyFrom(statement: CopyStmt, context: Context): null {
  const { recorder } = context
  recorder.effects.add('write')
  const variable = statement.relation ?? {}
  const relations = resolveRelations(variable, 'insert', context)
  recordRelations(relations, 'insert', true, context)
  const names = stringsOf(statement.attlist)
  for (const relation of relations) {
    if (isFollowedView(relation)) context.passes.view(relation, context)
    const written = names.length > 0 ? names : relation.columns.map((column) => column.name)
    writeRows({ relation, action: 'insert', columns: written }, null, context)
    for (const name of written) {
      const column = context.names.columnNamed(relation, name)
      if (column !== null) recorder.column(column, null, 'assign')
      else {
        recorder.unresolved.add(name)
        missingTarget(name, relation, null, context)
        recorder.fail(`column ${name} of ${relation.name} is not in the catalog`)
      }
    }
  }
  const item = relationsItem(variable, relations, context)
  const where = context.passes.expression(statement.whereClause, new Scope(null, [item]), context)
  recorder.use(where, 'filter')
  return null
}

// DO and CALL

export function doBlock(node: Node, context: Context): null {
  if (!('DoStmt' in node)) return null
  let language = 'plpgsql'
  let body = ''
  for (const option of node.DoStmt.args ?? []) {
    if (!('DefElem' in option) || option.DefElem.arg === undefined) continue
    if (option.DefElem.defname === 'language') {
      language = constantText(option.DefElem.arg)?.toLowerCase() ?? 'unknown'
    }
    if (option.DefElem.defname === 'as') body = constantText(option.DefElem.arg) ?? ''
  }
  if (language !== 'plpgsql') {
    context.recorder.fail(`DO in language ${language} cannot be followed`)
    context.recorder.mayChangeSettings = true
    context.recorder.changesCatalog = true
    return null
  }
  doBody(`DO ${quoted(body)}`, context)
  return null
}

export function call(node: Node, context: Context): QueryShape | null {
  if (!('CallStmt' in node) || node.CallStmt.funccall === undefined) return null
  const value = context.passes.expression(
    { FuncCall: node.CallStmt.funccall },
    new Scope(null),
    context,
  )
  context.recorder.use(value, 'argument')
  const fields = rowFields(value, context)
  if (fields === null || fields.length === 0) return null
  for (const field of fields) context.recorder.use(field.value, 'output')
  return { fields, open: false }
}
