/**
 * What a PL/pgSQL trigger function does with whole rows (`to_jsonb(OLD)`, `OLD.*`), and with variables
 * that hold one. A copy is what audit triggers are for, and is left alone: an expression that is
 * assigned, returned or printed, a value that is written. All else that a row goes into may tell:
 * conditions, filters, statements that are run for their effect, and what may fail.
 *
 * Of an INSTEAD OF trigger, which writes back what it was not given, single fields count as well.
 */
import type { Node } from '@pgsql/types'
import type { Context } from './analysis-context.ts'
import { functionText, implicitVariables } from './analysis-plpgsql.ts'
import { Recorder, useOrder } from './analysis-recorder.ts'
import {
  derive,
  plain,
  rowValue,
  unknownValue,
  type BaseColumn,
  type Field,
  type Value,
} from './lineage.ts'
import type { PlpgsqlBody } from './plpgsql.ts'
import { fieldOf, Scope } from './scope.ts'
import type { FunctionRow } from './snapshot.ts'

/** OLD and NEW as a trigger is given them. */
export interface WholeRows {
  readonly old: readonly Field[]
  readonly new: readonly Field[]
  readonly rowType: number
  /** Fields that the function names count as well. */
  readonly byField: boolean
  /** The statement without comparisons that are the same for both rows. */
  prepare(node: Node): Node
}

/** Uses of a column that tell nothing while a row is copied. */
const copying = ['output', 'assign', 'returning'] as const
const copyBits = copying.reduce((bits, use) => bits | (1 << useOrder.indexOf(use)), 0)

/** Marks the columns of the rows that the function may tell about as arguments. */
export function rowUses(row: FunctionRow, rows: WholeRows, context: Context): void {
  const body = context.tools.parsePlpgsql(functionText(row, context))
  // What cannot be compiled is incomplete already.
  if (body === null) return
  const statements = body.statements.map((text) =>
    (context.tools.parse(text) ?? []).map((one) => rows.prepare(one.ast as Node)),
  )
  const holding = holders(statements, body, rows)
  const columns = columnsOf(rows)
  const scope = new Scope(null, [], null, variablesOf(holding, body, rows), [])
  for (const [position, nodes] of statements.entries()) {
    for (const node of nodes) {
      if (!namesRow(node, holding, rows) || isEitherRow(node)) continue
      const own: Context = { ...context, recorder: new Recorder(), rows: null }
      own.passes.statement(node, scope, own)
      const copies = body.targets.has(position) || !('SelectStmt' in node)
      for (const [column, uses] of own.recorder.columns) {
        const bits = uses.reduce((sum, one) => (one === -1 ? sum : sum | one), 0)
        const tells = copies ? (bits & ~copyBits) !== 0 : bits !== 0
        if (tells && columns.has(column)) context.recorder.column(column, null, 'argument')
      }
    }
  }
}

/** Variables that hold a row, or what was made from one. */
function holders(
  statements: readonly (readonly Node[])[],
  body: PlpgsqlBody,
  rows: WholeRows,
): ReadonlySet<string> {
  const holding = new Set<string>()
  for (let before = -1; before < holding.size;) {
    before = holding.size
    for (const [position, nodes] of statements.entries()) {
      const target = body.targets.get(position) ?? ''
      if (target === '' || isRow(target) || holding.has(target)) continue
      if (nodes.some((node) => namesRow(node, holding, rows))) holding.add(target)
    }
  }
  return holding
}

function columnsOf(rows: WholeRows): ReadonlySet<BaseColumn> {
  const fields = [...rows.old, ...rows.new]
  return new Set(fields.flatMap(({ value }) => value.sources.map(({ column }) => column)))
}

function variablesOf(
  holding: ReadonlySet<string>,
  body: PlpgsqlBody,
  rows: WholeRows,
): (names: readonly string[]) => Value | null {
  const known = new Set([...body.variables, ...implicitVariables])
  const whole = wholeRows(rows)
  const held = derive([whole.old, whole.new], true, 0)
  return ([first = '', second]) => {
    if (isRow(first)) {
      if (second === undefined) return whole[first]
      const field = fieldOf(rows[first], second)
      return rows.byField ? field : plain(field?.type ?? 0)
    }
    if (holding.has(first)) return held
    return known.has(first) || known.has(second ?? '') ? unknownValue : null
  }
}

/** The values of `OLD` and `NEW` themselves. */
export function wholeRows(rows: Pick<WholeRows, 'old' | 'new' | 'rowType'>): {
  readonly old: Value
  readonly new: Value
} {
  return { old: rowValue(rows.old, rows.rowType, 0), new: rowValue(rows.new, rows.rowType, 0) }
}

export function isRow(name: string): name is 'old' | 'new' {
  return name === 'old' || name === 'new'
}

/** The tree names OLD or NEW as a whole, or what holds one of them. */
function namesRow(node: unknown, holding: ReadonlySet<string>, rows: WholeRows): boolean {
  if (typeof node !== 'object' || node === null) return false
  if (Array.isArray(node)) return node.some((part) => namesRow(part, holding, rows))
  const { ColumnRef: reference } = node as { readonly ColumnRef?: { readonly fields?: Node[] } }
  if (reference === undefined) {
    return Object.values(node).some((part) => namesRow(part, holding, rows))
  }
  const [first, second] = reference.fields ?? []
  const name = first !== undefined && 'String' in first ? (first.String.sval ?? '') : ''
  if (holding.has(name)) return true
  if (!isRow(name)) return false
  return rows.byField || second === undefined || 'A_Star' in second
}

/** `COALESCE(NEW, OLD)`: a row that there is, is no NULL, whatever it holds. */
function isEitherRow(node: Node): boolean {
  if (!('SelectStmt' in node)) return false
  const { targetList: [target, ...others] = [], fromClause } = node.SelectStmt
  if (target === undefined || others.length > 0 || fromClause !== undefined) return false
  const value = 'ResTarget' in target ? target.ResTarget.val : undefined
  if (value === undefined || !('CoalesceExpr' in value)) return false
  return (value.CoalesceExpr.args ?? []).every((part) => {
    if (!('ColumnRef' in part)) return false
    const [first, second] = part.ColumnRef.fields ?? []
    return first !== undefined && 'String' in first && second === undefined
  })
}

/** Functions that make one value of a row, the same for equal rows. */
const rowMakers: ReadonlySet<string> = new Set(['to_jsonb', 'to_json', 'row_to_json', 'hstore'])

/** `to_jsonb(NEW) - 'at'` and `to_jsonb(OLD) - 'at'`: of fields that are the same both are. */
export function isMirrored(left: Node | undefined, right: Node | undefined): boolean {
  if (left === undefined || right === undefined) return false
  const text = mirrorText(left)
  return text !== null && text.replace(/"(old|new)"/g, swapped) === mirrorText(right)
}

function swapped(_: string, name: string): string {
  return name === 'old' ? '"new"' : '"old"'
}

/** The expression without positions; null where it is anything but a row made into one value. */
function mirrorText(node: Node): string | null {
  if ('A_Const' in node) return JSON.stringify({ ...node.A_Const, location: 0 })
  if ('ColumnRef' in node) {
    const [first, second] = node.ColumnRef.fields ?? []
    const name = first !== undefined && 'String' in first ? (first.String.sval ?? '') : ''
    return isRow(name) && (second === undefined || 'A_Star' in second) ? `"${name}"` : null
  }
  if ('FuncCall' in node) {
    const [last] = (node.FuncCall.funcname ?? []).slice(-1)
    const name = last !== undefined && 'String' in last ? (last.String.sval ?? '') : ''
    const [argument, ...others] = node.FuncCall.args ?? []
    if (!rowMakers.has(name) || argument === undefined || others.length > 0) return null
    const inner = mirrorText(argument)
    return inner === null ? null : `${name}(${inner})`
  }
  if (!('A_Expr' in node) || node.A_Expr.kind !== 'AEXPR_OP') return null
  const { name: operator, lexpr, rexpr } = node.A_Expr
  if (JSON.stringify(operator) !== '[{"String":{"sval":"-"}}]') return null
  const left = lexpr === undefined ? null : mirrorText(lexpr)
  const right = rexpr === undefined ? null : mirrorText(rexpr)
  return left === null || right === null ? null : `${left} - ${right}`
}
