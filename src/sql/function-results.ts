/**
 * What a user's function gives: the columns of its body, cast to the types that it declares and
 * under the names that it declares.
 */
import type { Body } from './analysis-names.ts'
import type { Context, TypeShape } from './analysis-context.ts'
import type { CatalogFunction } from './catalog.ts'
import { outputNames } from './expression-calls.ts'
import { rowFields } from './expression-columns.ts'
import { assignedValue } from './expression-operators.ts'
import { derive, opaqueValue, typeOids, type Field, type Value } from './lineage.ts'

/** What the last statement of an SQL body gives is cast to the declared types, which may fail (int8 to int4). */
export function declaredFields(
  called: CatalogFunction,
  fields: readonly Field[],
  own: Context,
): readonly Field[] {
  const composite = own.names.compositeColumns(called.returnType)
  const alone = [{ type: called.returnType, modifier: -1 }]
  const shapes: readonly TypeShape[] =
    called.outputs.length > 0
      ? called.outputs.map(({ type }) => ({ type, modifier: -1 }))
      : (composite ?? alone)
  if (shapes.length !== fields.length) return fields
  return fields.map((field, index) => {
    const shape = shapes[index] ?? { type: 0, modifier: -1 }
    if (own.names.types.info(shape.type)?.kind === 'pseudo') return field
    return { name: field.name, value: assignedValue(field.value, shape, own) }
  })
}

/** The value of a call, with the placeholders of parameters still in it. */
export function resultValue(called: CatalogFunction, body: Body, context: Context): Value {
  const [first] = body.fields
  const whole = (opaque: boolean): Value => ({
    ...derive(
      body.fields.map((field) => field.value),
      false,
      called.returnType,
    ),
    opaque,
  })
  if (body.open) return whole(true)
  const total = isTotalBody(body)
  const names = resultNames(called, context)
  // A record's columns are named where it is called: they are those of the body, each its own.
  if (names === null && context.names.types.baseOf(called.returnType) === typeOids.record) {
    return { ...whole(false), total, fields: recordFields(body.fields, context) }
  }
  if (names === null) {
    if (first === undefined) return { ...derive([], total, called.returnType), total }
    return { ...first.value, type: called.returnType, total: total && first.value.total }
  }
  let fields: readonly Field[] = body.fields
  if (fields.length !== names.length) {
    const inner =
      first !== undefined && fields.length === 1 ? rowFields(first.value, context) : null
    if (inner === null || inner.length !== names.length) {
      const value = whole(false)
      return { ...value, fields: names.map((name) => ({ name, value })) }
    }
    fields = inner
  }
  const renamed = names.map((name, index) => ({ name, value: fields[index]?.value ?? opaqueValue }))
  return { ...whole(false), total, fields: renamed }
}

/** A single column that is a row is the record itself; one that may be is not told apart. */
function recordFields(fields: readonly Field[], context: Context): readonly Field[] | null {
  const [only, ...others] = fields
  if (only === undefined || others.length > 0) return fields
  const inner = rowFields(only.value, context)
  if (inner !== null) return inner
  const { type } = only.value
  return type === 0 || context.names.types.baseOf(type) === typeOids.record ? null : fields
}

/** Names of the columns that a function gives; null where it gives a single value. */
function resultNames(called: CatalogFunction, context: Context): readonly string[] | null {
  if (called.outputs.length > 0) {
    if (called.outputs.length === 1 && !called.returnsSet) return null
    return outputNames(called)
  }
  const columns = context.names.compositeColumns(called.returnType)
  return columns === null ? null : columns.map((column) => column.name)
}

/** Everything the body does is total, and it does nothing but read. */
function isTotalBody(body: Body): boolean {
  for (const effect of body.recorder.effects) if (effect !== 'read') return false
  for (const access of body.recorder.functions.values()) {
    if (access.class !== 'total') return false
  }
  const { incomplete, partials } = body.recorder
  return incomplete.size === 0 && partials === 0 && body.fields.every((one) => one.value.total)
}
