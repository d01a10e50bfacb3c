/**
 * Statements about the session: transactions, settings, prepared statements, cursors. Besides their
 * facts for the policy they leave session effects, which the session's registry follows.
 *
 * Invariant: EXECUTE and FETCH carry the access and the outputs of what stands behind the name; a
 * name that the session does not know makes them incomplete.
 */
import type { Node, VariableSetStmt } from '@pgsql/types'
import type { Analysis, SettingAccess, SyntaxNode } from './access.ts'
import { tagOf, type Context, type QueryShape } from './analysis-context.ts'
import { convertedTo } from './expression-operators.ts'
import { readingSettings, settingName } from './expression-settings.ts'
import { opaqueValue, plain, typeOids, type Field } from './lineage.ts'
import { Scope } from './scope.ts'
import { pathKey, runtimeKey, seenBy, underAnyPath } from './search-path.ts'
import { statementKind } from './utility-kind.ts'

export function transaction(node: Node, context: Context): null {
  if (!('TransactionStmt' in node)) return null
  const { kind, chain = false, savepoint_name: name = '', options } = node.TransactionStmt
  const effects = context.recorder.sessionEffects
  switch (kind) {
    case 'TRANS_STMT_BEGIN':
    case 'TRANS_STMT_START':
      effects.push({ kind: 'begin', chain: false })
      break
    case 'TRANS_STMT_COMMIT':
      effects.push({ kind: 'commit', chain })
      break
    case 'TRANS_STMT_ROLLBACK':
      effects.push({ kind: 'rollback', chain })
      break
    case 'TRANS_STMT_SAVEPOINT':
      effects.push({ kind: 'savepoint', name })
      break
    case 'TRANS_STMT_RELEASE':
      effects.push({ kind: 'release', name })
      break
    case 'TRANS_STMT_ROLLBACK_TO':
      effects.push({ kind: 'rollback_to', name })
      break
    case 'TRANS_STMT_PREPARE':
      effects.push({ kind: 'prepare_transaction' })
      break
    case 'TRANS_STMT_COMMIT_PREPARED':
    case 'TRANS_STMT_ROLLBACK_PREPARED':
      // Another transaction's writes become visible, or go; its DDL with them.
      context.recorder.changesCatalog = true
      break
    default:
      context.recorder.fail('a form of transaction control is not known')
  }
  transactionOptions(options, context)
  return null
}

/** ISOLATION LEVEL, READ ONLY and DEFERRABLE are settings by another name. */
function transactionOptions(options: readonly Node[] | undefined, context: Context): void {
  for (const option of options ?? []) {
    if (!('DefElem' in option)) continue
    context.recorder.settings.push({
      name: option.DefElem.defname ?? null,
      action: 'set_local',
      value: option.DefElem.arg === undefined ? null : constantText(option.DefElem.arg),
      through: null,
    })
  }
}

/** The text of a constant argument; null where it is none. */
export function constantText(node: Node): string | null {
  if ('TypeCast' in node) {
    return node.TypeCast.arg === undefined ? null : constantText(node.TypeCast.arg)
  }
  if (!('A_Const' in node)) return 'String' in node ? (node.String.sval ?? '') : null
  const constant = node.A_Const
  if (constant.sval !== undefined) return constant.sval.sval ?? ''
  if (constant.ival !== undefined) return String(constant.ival.ival ?? 0)
  if (constant.fval !== undefined) return constant.fval.fval ?? ''
  if (constant.boolval !== undefined) return String(constant.boolval.boolval ?? false)
  return null
}

function argumentText(nodes: readonly Node[] | undefined): string | null {
  const texts: string[] = []
  for (const node of nodes ?? []) {
    const text = constantText(node)
    if (text === null) return null
    texts.push(text)
  }
  return texts.length === 0 ? null : texts.join(', ')
}

export function setVariable(node: Node, context: Context): null {
  if ('VariableSetStmt' in node) recordSetting(node.VariableSetStmt, context)
  return null
}

function recordSetting(node: VariableSetStmt, context: Context): void {
  const { recorder } = context
  const name = settingName(node.name ?? '')
  const local = node.is_local === true
  const action: SettingAccess['action'] = local ? 'set_local' : 'set'
  const reading = readingSettings.has(name)
  switch (node.kind) {
    case 'VAR_SET_VALUE': {
      const value = argumentText(node.args)
      recorder.settings.push({ name, action, value, through: null })
      recorder.sessionEffects.push({ kind: 'set', name, value, local })
      // A role or path named by the text is still resolved by the server: SET ROLE NONE and quoting.
      if (reading) recorder.mayChangeSettings = true
      break
    }
    case 'VAR_SET_MULTI':
      recorder.settings.push(...multiSettings(node, action))
      break
    case 'VAR_RESET':
      recorder.settings.push({ name, action: 'reset', value: null, through: null })
      recorder.sessionEffects.push({ kind: 'reset', name })
      if (reading) recorder.mayChangeSettings = true
      break
    case 'VAR_RESET_ALL':
      recorder.settings.push({ name: null, action: 'reset_all', value: null, through: null })
      recorder.sessionEffects.push({ kind: 'reset', name: null })
      recorder.mayChangeSettings = true
      break
    default:
      recorder.settings.push({ name, action, value: null, through: null })
      recorder.sessionEffects.push({ kind: 'set', name, value: null, local })
      if (reading) recorder.mayChangeSettings = true
  }
}

/** SET TRANSACTION …, SET SESSION CHARACTERISTICS AS TRANSACTION …. */
function multiSettings(node: VariableSetStmt, action: SettingAccess['action']): SettingAccess[] {
  const settings: SettingAccess[] = []
  const prefix = node.name === 'SESSION CHARACTERISTICS' ? 'default_' : ''
  for (const part of node.args ?? []) {
    if (!('DefElem' in part)) continue
    settings.push({
      name: `${prefix}${part.DefElem.defname ?? ''}`,
      action: prefix === '' ? 'set_local' : action,
      value: part.DefElem.arg === undefined ? null : constantText(part.DefElem.arg),
      through: null,
    })
  }
  // SET TRANSACTION SNAPSHOT has its value as a bare constant.
  if (settings.length === 0) {
    const name = settingName(node.name ?? '')
    settings.push({ name, action, value: argumentText(node.args), through: null })
  }
  return settings
}

/** ALTER ROLE/DATABASE/SYSTEM SET: a setting of later sessions. */
export function settingStatement(node: Node, context: Context): null {
  const statement =
    'AlterRoleSetStmt' in node
      ? node.AlterRoleSetStmt.setstmt
      : 'AlterDatabaseSetStmt' in node
        ? node.AlterDatabaseSetStmt.setstmt
        : 'AlterSystemStmt' in node
          ? node.AlterSystemStmt.setstmt
          : undefined
  if (statement === undefined) return null
  const before = context.recorder.sessionEffects.length
  recordSetting(statement, context)
  context.recorder.sessionEffects.length = before
  return null
}

export function showVariable(node: Node, context: Context): QueryShape | null {
  if (!('VariableShowStmt' in node)) return null
  const name = settingName(node.VariableShowStmt.name ?? '')
  const all = name === 'all'
  context.recorder.settings.push({
    name: all ? null : name,
    action: 'show',
    value: null,
    through: null,
  })
  const names = all ? ['name', 'setting', 'description'] : [name]
  return { fields: names.map((one) => ({ name: one, value: plain(typeOids.text) })), open: false }
}

const discardTargets = {
  DISCARD_ALL: 'all',
  DISCARD_PLANS: 'plans',
  DISCARD_SEQUENCES: 'sequences',
  DISCARD_TEMP: 'temp',
} as const

export function discard(node: Node, context: Context): null {
  if (!('DiscardStmt' in node)) return null
  const target = discardTargets[node.DiscardStmt.target ?? 'DISCARD_ALL']
  const { recorder } = context
  recorder.sessionEffects.push({ kind: 'discard', target })
  if (target === 'temp' || target === 'all') recorder.changesCatalog = true
  if (target !== 'all') return null
  recorder.settings.push({ name: null, action: 'discard', value: null, through: null })
  recorder.mayChangeSettings = true
  return null
}

// Prepared statements and cursors

export function prepare(node: Node, context: Context): null {
  if (!('PrepareStmt' in node) || node.PrepareStmt.query === undefined) return null
  const { name = '', query } = node.PrepareStmt
  const analysis = context.passes.inner(query, statementKind(tagOf(query)), context)
  context.recorder.included.push(analysis)
  // It stands in this very text, unlike what EXECUTE and FETCH run.
  if (analysis.missing !== null) context.recorder.lacks(analysis.missing)
  argumentTypes(node, context)
  context.recorder.sessionEffects.push({ kind: 'prepare', name, statement: node })
  return null
}

/** EXECUTE converts its arguments to the types that PREPARE declares. */
function argumentTypes(node: Extract<Node, { PrepareStmt: unknown }>, context: Context): void {
  for (const type of node.PrepareStmt.argtypes ?? []) {
    if ('TypeName' in type) convertedTo(type.TypeName, context)
  }
}

export function execute(node: Node, context: Context): QueryShape | null {
  if (!('ExecuteStmt' in node)) return null
  const { name = '', params } = node.ExecuteStmt
  for (const parameter of params ?? []) {
    const value = context.passes.expression(parameter, new Scope(null), context)
    context.recorder.use(value, 'argument')
  }
  context.recorder.sessionEffects.push({ kind: 'execute', name })
  context.recorder.dependsOnSession = true
  // The server analyses it again where the catalog or the search path moved: so must we, each time.
  const statement = context.facts.prepared(name)
  // Its arguments are computed first: set_config among them moves its names.
  const own = context.recorder.mayChangeSettings ? underAnyPath(context) : context
  const analysis = statement === undefined ? undefined : inner(statement, own)
  // It may be any statement: Parse prepares what PREPARE does not, and what that does to names, to the
  // transaction and to the connection is done by this one.
  context.recorder.sessionEffects.push(...(analysis?.sessionEffects ?? []))
  if (analysis === undefined || runsCode.has(analysis.kind)) {
    context.recorder.sessionEffects.push({ kind: 'unseen' })
  }
  return carried(analysis, `prepared statement ${name}`, context)
}

const runsCode: ReadonlySet<string> = new Set(['do', 'call'])

/** Undefined where it executes or fetches by name itself: that name may mean anything by now. */
function inner(statement: SyntaxNode, context: Context): Analysis | undefined {
  let node = statement as Node
  if ('PrepareStmt' in node) {
    argumentTypes(node, context)
    node = node.PrepareStmt.query ?? node
  }
  const kind = statementKind(tagOf(node))
  if (kind === 'execute' || kind === 'fetch') return undefined
  return context.passes.inner(node, kind, context)
}

/** The analysis of what stands behind a name becomes part of this one. */
function carried(
  analysis: Analysis | undefined,
  what: string,
  context: Context,
): QueryShape | null {
  if (analysis === undefined) {
    context.recorder.fail(`${what} is not known to this session`)
    return { fields: [], open: true }
  }
  context.recorder.included.push(analysis)
  if (analysis.outputs === null) return null
  const fields: Field[] = analysis.outputs.map((trace) => ({
    name: trace.name,
    value: opaqueValue,
  }))
  return { fields, open: false, traces: analysis.outputs }
}

export function deallocate(node: Node, context: Context): null {
  if (!('DeallocateStmt' in node)) return null
  const name = node.DeallocateStmt.name ?? null
  context.recorder.sessionEffects.push({ kind: 'deallocate', name })
  return null
}

/** Cursor options are bits (src/include/nodes/parsenodes.h). */
const cursorBinary = 0x0001
const cursorHold = 0x0020

export function declareCursor(node: Node, context: Context): null {
  if (!('DeclareCursorStmt' in node)) return null
  const { portalname: name = '', options = 0, query } = node.DeclareCursorStmt
  if (query === undefined) return null
  const analysis = context.passes.inner(query, statementKind(tagOf(query)), context)
  context.recorder.included.push(analysis)
  // It stands in this very text, unlike what EXECUTE and FETCH run.
  if (analysis.missing !== null) context.recorder.lacks(analysis.missing)
  context.recorder.sessionEffects.push({
    kind: 'declare',
    name,
    hold: (options & cursorHold) !== 0,
    binary: (options & cursorBinary) !== 0,
    statement: query,
    analysis,
  })
  return null
}

export function fetch(node: Node, context: Context): QueryShape | null {
  if (!('FetchStmt' in node)) return null
  const { portalname: name = '', ismove } = node.FetchStmt
  context.recorder.sessionEffects.push({ kind: 'fetch', name })
  context.recorder.dependsOnSession = true
  const shape = carried(opened(name, context), `cursor ${name}`, context)
  return ismove === true ? null : shape
}

/** Its relations are those of when it was opened, its functions those of now. */
function opened(name: string, context: Context): Analysis | undefined {
  const cursor = context.facts.cursor(name)
  if (cursor === undefined || cursor.held !== null) return cursor?.held ?? undefined
  const path = seenBy(cursor.searchPath, cursor.role, context.catalog)
  const pathText = pathKey(path)
  const moved = runtimeKey({ runtimePath: path, role: cursor.role }) !== runtimeKey(context)
  const runtime = moved ? underAnyPath(context) : { ...context, runtimePath: path }
  return inner(cursor.statement, { ...runtime, path, pathText })
}

export function closePortal(node: Node, context: Context): null {
  if (!('ClosePortalStmt' in node)) return null
  const name = node.ClosePortalStmt.portalname ?? null
  context.recorder.sessionEffects.push({ kind: 'close', name })
  return null
}
