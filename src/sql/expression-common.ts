/**
 * The common type of several expressions, and what bringing each of them to it may do
 * (select_common_type in src/backend/parser/parse_coerce.c): branches of CASE, COALESCE, GREATEST,
 * ARRAY, columns of VALUES and of set operations, anycompatible arguments.
 *
 * Invariant: a type that is not known makes the common type unknown and the coercion not total.
 */
import type { Node, WindowDef } from '@pgsql/types'
import { worstClass } from './catalog-conversion.ts'
import type { FunctionClass, Use } from './access.ts'
import type { Context } from './analysis-context.ts'
import { computed } from './expression-operators.ts'
import { isLiteral, typeOids, withType, type Value } from './lineage.ts'
import type { Scope } from './scope.ts'
import type { Oid } from './snapshot.ts'

/** The value is sorted or compared for equality: among anonymous records that may fail. */
export function useCompared(value: Value, use: Use, context: Context): void {
  context.recorder.use(value, use)
  const type = context.names.types.baseOf(value.type)
  if (type === typeOids.record || type === typeOids.recordArray) context.recorder.partial()
}

/** Offsets of a window's frame: a negative one fails, and so may adding it to a value. */
export function frameOffsets(window: WindowDef, scope: Scope, context: Context): Value[] {
  const values: Value[] = []
  for (const part of [window.startOffset, window.endOffset]) {
    if (part === undefined) continue
    const value = context.passes.expression(part, scope, context)
    context.recorder.use(value, 'window')
    context.recorder.partial()
    values.push(value)
  }
  return values
}

/** What a window sorts and parts by, and the offsets of its frame. */
export function windowValues(over: WindowDef, scope: Scope, context: Context): readonly Value[] {
  const values: Value[] = []
  for (const part of [...(over.partitionClause ?? []), ...(over.orderClause ?? [])]) {
    const value = context.passes.expression(sortedNode(part), scope, context)
    useCompared(value, 'window', context)
    values.push(value)
  }
  values.push(...frameOffsets(over, scope, context))
  const name = over.name ?? over.refname
  if (name !== undefined) values.push(...(scope.windows.get(name) ?? []))
  return values
}

/** What ORDER BY sorts by. */
export function sortedNode(node: Node): Node | undefined {
  return 'SortBy' in node ? node.SortBy.node : node
}

/** UNKNOWN where all are untyped literals, 0 where it cannot be told. */
export function commonType(types: readonly Oid[], context: Context): Oid {
  const { types: names } = context.names
  let chosen: Oid = typeOids.unknown
  let same = true
  for (const type of types) {
    if (type === typeOids.unknown || type === chosen) continue
    if (type === 0) return 0
    if (chosen === typeOids.unknown) {
      chosen = type
      continue
    }
    same = false
    const [one, other] = [names.info(names.baseOf(chosen)), names.info(names.baseOf(type))]
    if (one === null || other === null) return 0
    if (one.category !== other.category) return 0
    const forward = names.implicitlyFits(one.oid, other.oid)
    const back = names.implicitlyFits(other.oid, one.oid)
    chosen = !one.preferred && forward && !back ? other.oid : one.oid
  }
  return same ? chosen : names.baseOf(chosen)
}

/** What a value's conversion to the common type may do. */
export function coercionTo(type: Oid, values: readonly Value[], context: Context): FunctionClass {
  let cls: FunctionClass = 'total'
  for (const value of values) {
    if (value.type === type || isLiteral(value)) continue
    if (type === 0 || value.type === 0) cls = worstClass(cls, 'partial')
    else if (context.names.types.baseOf(value.type) !== type) {
      cls = worstClass(cls, context.names.types.castClass(value.type, type))
    }
  }
  return cls
}

/** The values as a column of VALUES or a set operation holds them: of one type. */
export function coerced(value: Value, type: Oid, context: Context): Value {
  if (value.type === type || isLiteral(value)) return value
  const types = context.names.types
  const alike = types.info(value.type)?.category === 'S' && types.info(type)?.category === 'S'
  if (alike || types.baseOf(value.type) === type) return withType(value, type)
  const cls = coercionTo(type, [value], context)
  return computed([value], cls === 'total', type, context)
}

/** Two columns of a set operation or of VALUES, brought to their common type. */
export function alignedPair(left: Value, right: Value, context: Context): readonly [Value, Value] {
  if (left.type === right.type) return [left, right]
  const type = commonType([left.type, right.type], context)
  return [coerced(left, type, context), coerced(right, type, context)]
}
