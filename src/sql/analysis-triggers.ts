/**
 * Triggers of a relation that is written: which of them fire, what their functions do, and what they
 * may put into the row.
 *
 * A function is analysed as such, and where rows of a table are updated or deleted once more with
 * OLD and NEW: a field that the client does not write is what was there, so that naming it tells
 * about it. Whole rows (`to_jsonb(NEW)`) may be copied, and no more: analysis-whole-rows.ts.
 */
import type { A_Expr, CreateTrigStmt, Node } from '@pgsql/types'
import { absorbBody, bodyContext, placeOf, parseTrees } from './analysis-bodies.ts'
import { stringsOf, type Context, type TriggerRows } from './analysis-context.ts'
import { dynamicBody, everythingRead } from './analysis-plpgsql.ts'
import { isMirrored, isRow, rowUses, wholeRows, type WholeRows } from './analysis-whole-rows.ts'
import { either, plain, type Field, type Value } from './lineage.ts'
import { fieldsOf } from './scope-relations.ts'
import { fieldOf, Scope } from './scope.ts'
import { firstUserOid, type FunctionRow, type RelationRow, type TriggerRow } from './snapshot.ts'

export type WriteAction = 'insert' | 'update' | 'delete' | 'truncate'

/** Rows of a relation are written: what the statement gives values to, by name. */
export interface Write {
  readonly relation: RelationRow
  readonly action: WriteAction
  readonly columns: readonly string[]
  /** DEFAULT stands for some of the values: which, is not told apart. */
  readonly defaulted?: boolean
}

/** Bits of pg_trigger.tgtype, which the parser uses for the same things. */
const insteadOf = 64
const events: Readonly<Record<WriteAction, number>> = {
  insert: 4,
  delete: 8,
  update: 16,
  truncate: 32,
}

/** A trigger before the row is written decides what is: all that it reads may be in any column. */
export function triggersBody(write: Write, context: Context): readonly Field[] {
  const { relation } = write
  let read: Value | null = null
  for (const trigger of relation.triggers) {
    const tree = triggerTree(trigger, context)
    if (!fires(tree, write)) continue
    const called = context.catalog.functionByOid(trigger.function)
    if (called === null) {
      // Those of the server touch the row alone.
      if (trigger.function >= firstUserOid) {
        context.recorder.fail(`the function of trigger ${trigger.name} is not in the catalog`)
      }
      continue
    }
    context.recorder.effects.add('write')
    const own = bodyContext(relation.oid, context.path, context)
    context.passes.callFunction([called], [], own)
    absorbBody({ recorder: own.recorder, fields: [], open: false }, null, [], context)
    const eachRow = tree === null || tree.row === true
    if (eachRow) withRows(called.row, tree, write, context)
    if (!eachRow || tree?.timing === 0 || tree?.timing === undefined) continue
    const value = everythingRead(own.recorder)
    read = read === null ? value : either(read, value)
  }
  if (read === null || read.sources.length === 0) return []
  const value = read
  return relation.columns.map(({ name }) => ({ name, value }))
}

/** An INSTEAD OF trigger stands for what a view is defined over. */
export function replacesByTrigger(
  relation: RelationRow,
  action: WriteAction,
  context: Context,
): boolean {
  return relation.triggers.some((trigger) => {
    const tree = triggerTree(trigger, context)
    if (tree === null) return true
    return tree.timing === insteadOf && ((tree.events ?? 0) & events[action]) !== 0
  })
}

/** Null where the definition is not known. */
function triggerTree(trigger: TriggerRow, context: Context): CreateTrigStmt | null {
  const [tree] = parseTrees(trigger.definition ?? '', context) ?? []
  return tree !== undefined && 'CreateTrigStmt' in tree ? tree.CreateTrigStmt : null
}

/** It fires; where its definition is not known it does. An UPDATE may move a row: delete, insert. */
function fires(tree: CreateTrigStmt | null, write: Write): boolean {
  if (tree === null) return true
  const { relation, action } = write
  const moves =
    action === 'update' && (relation.isPartition || relation.kind === 'partitioned_table')
  const mask = moves ? events.insert | events.update | events.delete : events[action]
  const of = stringsOf(tree.columns)
  if (action === 'update' && !moves && of.length > 0) {
    if (!of.some((name) => write.columns.includes(name))) return false
  }
  return ((tree.events ?? 0) & mask) !== 0
}

// OLD and NEW

/** What the function, or the condition that it is called under, does with fields of the rows. */
function withRows(
  row: FunctionRow | null,
  tree: CreateTrigStmt | null,
  write: Write,
  context: Context,
): void {
  if (write.action === 'insert') return
  const rows = rowsOf(write, context)
  const place = row === null ? context : placeOf(row, context)
  const oid = row?.oid ?? write.relation.oid
  const own: Context = { ...bodyContext(oid, place.path, context, place), rows }
  // A view's INSTEAD OF trigger writes back what it was not given: that alone tells nothing.
  const byField = write.relation.kind === 'view'
  if (row?.language === 'plpgsql' && !byField) dynamicBody(row, [], own)
  const condition = tree?.whenClause
  if (condition !== undefined) {
    const whole = wholeRows(rows)
    const scope = new Scope(null, [], null, (names) => {
      const [name = ''] = names
      return rows.field(names) ?? (isRow(name) ? whole[name] : null)
    })
    own.recorder.use(own.passes.expression(rows.prepare(condition), scope, own), 'argument')
  }
  own.recorder.use(everythingRead(own.recorder), 'argument')
  if (row?.language === 'plpgsql') rowUses(row, { byField, ...rows }, own)
  absorbBody({ recorder: own.recorder, fields: [], open: false }, null, [], context)
}

function rowsOf(write: Write, context: Context): TriggerRows & Omit<WholeRows, 'byField'> {
  const { relation, action, columns } = write
  const before = fieldsOf(relation, context)
  const after = action === 'delete' ? [] : storedFields(write, context)
  // Of whole rows only what is written differs.
  const same = (name: string): boolean => action === 'update' && !columns.includes(name)
  const neverNull = (name: string): boolean =>
    context.names.columnNamed(relation, name)?.notNull === true
  const prepare = (node: Node): Node =>
    replaced(node, (one) => {
      const left = rowField(one.lexpr)
      const right = rowField(one.rexpr)
      const distinguishes = distinctions.has(one.kind ?? '') || isEquality(one)
      if (action === 'update' && distinguishes && isMirrored(one.lexpr, one.rexpr)) return true
      if (left === null || right === null || left.row === right.row) return false
      if (left.name !== right.name || !same(left.name)) return false
      return distinctions.has(one.kind ?? '') || (isEquality(one) && neverNull(left.name))
    }) as Node
  return {
    old: before,
    new: after,
    rowType: relation.rowType,
    field: ([row = '', name = '']) =>
      row === 'old' ? fieldOf(before, name) : row === 'new' ? fieldOf(after, name) : null,
    prepare,
  }
}

/** The fields of an updated row: what is written is the client's, the rest is what was there. */
export function storedFields(write: Write, context: Context): readonly Field[] {
  const { relation, columns } = write
  return fieldsOf(relation, context).map((field) =>
    columns.includes(field.name) ? { ...field, value: plain(field.value.type) } : field,
  )
}

const distinctions: ReadonlySet<string> = new Set(['AEXPR_DISTINCT', 'AEXPR_NOT_DISTINCT'])

function isEquality({ kind, name }: A_Expr): boolean {
  const [operator] = name ?? []
  if (kind !== 'AEXPR_OP' || operator === undefined || !('String' in operator)) return false
  return operator.String.sval === '=' || operator.String.sval === '<>'
}

/** `old.email` as a row and a field; the whole row, `old.*` and `ROW(old.*)`, has the field `*`. */
function rowField(node: Node | undefined): { row: string; name: string } | null {
  if (node === undefined) return null
  if ('RowExpr' in node) {
    const [only, ...others] = node.RowExpr.args ?? []
    const field = others.length === 0 ? rowField(only) : null
    return field?.name === '*' ? field : null
  }
  if (!('ColumnRef' in node)) return null
  const [row, field] = node.ColumnRef.fields ?? []
  if (row === undefined || !('String' in row)) return null
  const name =
    field === undefined || 'A_Star' in field ? '*' : 'String' in field ? field.String.sval : ''
  return { row: row.String.sval ?? '', name: name ?? '' }
}

/** The tree with a constant for every operator that `is` says so of. */
function replaced(node: unknown, is: (expression: A_Expr) => boolean): unknown {
  if (typeof node !== 'object' || node === null) return node
  if (Array.isArray(node)) return node.map((part) => replaced(part, is))
  if ('A_Expr' in node && is(node.A_Expr as A_Expr)) return { A_Const: { boolval: {} } }
  return Object.fromEntries(Object.entries(node).map(([key, part]) => [key, replaced(part, is)]))
}
