/**
 * The common type of several expressions, and what bringing each of them to it may do
 * (select_common_type in src/backend/parser/parse_coerce.c): branches of CASE, COALESCE, GREATEST,
 * ARRAY, columns of VALUES and of set operations, anycompatible arguments.
 *
 * Invariant: a type that is not known makes the common type unknown and the coercion not total.
 */
import { worstClass } from './catalog-conversion.ts'
import type { FunctionClass } from './access.ts'
import type { Context } from './analysis-context.ts'
import { computed } from './expression-operators.ts'
import { typeOids, withType, type Value } from './lineage.ts'
import type { Oid } from './snapshot.ts'

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

/** What a value's conversion to the common type may do; values of no column do not count. */
export function coercionTo(type: Oid, values: readonly Value[], context: Context): FunctionClass {
  let cls: FunctionClass = 'total'
  for (const value of values) {
    if (value.sources.length === 0 || value.type === type || value.type === typeOids.unknown) {
      continue
    }
    if (type === 0 || value.type === 0) cls = worstClass(cls, 'partial')
    else if (context.names.types.baseOf(value.type) !== type) {
      cls = worstClass(cls, context.names.types.castClass(value.type, type))
    }
  }
  return cls
}

/** The values as a column of VALUES or a set operation holds them: of one type. */
export function coerced(value: Value, type: Oid, context: Context): Value {
  if (value.type === type || value.sources.length === 0) return value
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
