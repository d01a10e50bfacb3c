/**
 * Column references: which column, whole row, field, function in attribute notation or variable a
 * dotted name means (transformColumnRef in src/backend/parser/parse_expr.c).
 *
 * Invariant: a name that resolves to nothing is recorded as unresolved and gives an opaque value.
 */
import type { A_Indirection, ColumnRef, Node } from '@pgsql/types'
import { stringsOf, type Context } from './analysis-context.ts'
import { callFunction, functionCandidates, project } from './expression-calls.ts'
import { coercionTo } from './expression-common.ts'
import {
  conditional,
  derive,
  opaqueValue,
  rowValue,
  typeOids,
  type Field,
  type Value,
} from './lineage.ts'
import { missingColumn } from './missing-names.ts'
import {
  fieldOf,
  findColumn,
  findItem,
  findRelationItem,
  type Scope,
  type ScopeItem,
} from './scope.ts'

/**
 * Notes every column behind a value; how it is used the caller says. Of a whole row only what is
 * taken from it counts.
 */
function touch(value: Value, context: Context): Value {
  if (value.fields !== null) return value
  for (const source of value.sources) {
    context.recorder.column(source.column, source.through, null)
  }
  return value
}

/** The value of a column reference; `t.*` gives the whole row. */
export function columnReference(node: ColumnRef, scope: Scope, context: Context): Value {
  const names = stringsOf(node.fields)
  const star = (node.fields ?? []).some((field) => 'A_Star' in field)
  const value = star ? starRow(names, scope, context) : dotted(names, scope, context)
  if (value !== null) return touch(value, context)
  missingColumn(star ? [...names, '*'] : names, node.location, scope, context)
  return unresolved(names.join('.'), context)
}

function unresolved(name: string, context: Context): Value {
  context.recorder.unresolved.add(name)
  context.recorder.fail(`column ${name} is not in the catalog`)
  return opaqueValue
}

function starRow(names: readonly string[], scope: Scope, context: Context): Value | null {
  const item = itemNamed(names, scope, context)
  if (item !== null) return wholeRow(item)
  if (names.length > 0) return scope.variables?.(names) ?? null
  // A bare star inside an expression, as in count(*), is handled by the call.
  return null
}

function dotted(names: readonly string[], scope: Scope, context: Context): Value | null {
  const last = names.at(-1) ?? ''
  if (names.length === 1) {
    const column = findColumn(scope, last)
    if (column !== null) return column.value
    const system = systemColumn(scope, last, context)
    if (system !== null) return system
    const item = findItem(scope, last)
    if (item !== null) return wholeRow(item)
    return scope.variables?.(names) ?? null
  }
  const item = itemNamed(names.slice(0, -1), scope, context)
  if (item !== null) return fieldOfItem(item, last, context)
  return scope.variables?.(names) ?? null
}

/** The item that `[database.[schema.]]relation` means. */
export function itemNamed(
  names: readonly string[],
  scope: Scope,
  context: Context,
): ScopeItem | null {
  const name = names.at(-1)
  if (name === undefined) return null
  if (names.length === 1) return findItem(scope, name)
  const schema = names.at(-2) ?? ''
  const actual = schema === 'pg_temp' ? (context.facts.temporarySchema ?? schema) : schema
  const relation = context.catalog.relation(actual, name)
  return relation === null ? null : findRelationItem(scope, relation)
}

/** The whole row of an item; of a scalar function's item, its only column's value is in the row. */
export function wholeRow(item: ScopeItem): Value {
  const value = rowValue(item.fields, item.rowType, item.system?.oid ?? 0)
  return item.open ? { ...value, opaque: true, fields: null } : value
}

function fieldOfItem(item: ScopeItem, name: string, context: Context): Value | null {
  const found = fieldOf(item.fields, name)
  if (found !== null) return found
  if (item.system !== null) {
    const system = fieldOf(context.names.systemFields(item.system), name)
    if (system !== null) return system
  }
  if (item.open) return opaqueValue
  return attributeCall(wholeRow(item), name, context)
}

/** `u.f` where u has no column f is f(u) (ParseFuncOrColumn with is_column). */
function attributeCall(row: Value, name: string, context: Context): Value | null {
  const form = { named: false, variadic: false, star: false, context }
  const called = functionCandidates(null, name, [row], form)
  return called.length === 0 ? null : callFunction(called, [row], context)
}

/** System columns are found after the user's, in the same level; one level is enough in practice. */
function systemColumn(start: Scope, name: string, context: Context): Value | null {
  for (let scope: Scope | null = start; scope !== null; scope = scope.parent) {
    for (const item of scope.items) {
      if (!item.columnsVisible || item.system === null) continue
      const found = fieldOf(context.names.systemFields(item.system), name)
      if (found !== null) return found
    }
  }
  return null
}

/** `(expression).field`, `(expression)[1]`, and chains of them. */
export function indirection(node: A_Indirection, scope: Scope, context: Context): Value {
  let value = context.passes.expression(node.arg, scope, context)
  for (const step of node.indirection ?? []) value = indirectionStep(value, step, scope, context)
  return value
}

export function indirectionStep(value: Value, step: Node, scope: Scope, context: Context): Value {
  if ('String' in step) {
    const name = step.String.sval ?? ''
    const field = project(value, name, context) ?? attributeCall(value, name, context)
    if (field !== null) return touch(field, context)
    if (value.opaque || value.type === 0 || value.type === 2249) {
      return { ...derive([value], false, 0), opaque: value.opaque }
    }
    return unresolved(name, context)
  }
  if ('A_Star' in step) return value
  if ('A_Indices' in step) return subscript(value, step, scope, context)
  context.recorder.fail('an indirection step is not known')
  return opaqueValue
}

/**
 * Out of range is NULL; what may fail is a subscript, or bringing it to the type that is wanted: int4
 * for an array (array_subscript_transform), text or int4 for jsonb. It is computed only where there is
 * an array.
 */
function subscript(
  value: Value,
  step: Extract<Node, { A_Indices: unknown }>,
  scope: Scope,
  context: Context,
): Value {
  const { lidx, uidx, is_slice: slice } = step.A_Indices
  const indexes: Value[] = []
  for (const index of [lidx, uidx]) {
    if (index !== undefined) indexes.push(context.passes.expression(index, scope, context))
  }
  const types = context.names.types
  const document = types.baseOf(value.type) === typeOids.jsonb
  const total = indexes.every((index) => {
    if (document && types.info(types.baseOf(index.type))?.category === 'S') return true
    return coercionTo(typeOids.int4, [index], context) === 'total'
  })
  const element = types.elementOf(value.type)
  const type = slice === true ? value.type : element === 0 ? value.type : element
  const whole = conditional([value, ...indexes], total, type)
  if (!whole.total) context.recorder.use(whole, 'argument')
  return whole
}

/** The columns that `(row).*` expands to; null where they are not known. */
export function rowFields(value: Value, context: Context): readonly Field[] | null {
  if (value.fields !== null) return value.fields
  const columns = context.names.compositeColumns(value.type)
  if (columns === null) return null
  return columns.map((column) => ({
    name: column.name,
    value: derive([value], true, column.type, column.modifier),
  }))
}
