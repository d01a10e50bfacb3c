/**
 * What a user's function gives: the columns of its body, cast to the types that it declares and
 * under the names that it declares.
 */
import type { Body } from './analysis-names.ts'
import type { Context } from './analysis-context.ts'
import type { CatalogFunction } from './catalog.ts'
import { outputNames } from './expression-calls.ts'
import { rowFields } from './expression-columns.ts'
import { convertedValue } from './expression-operators.ts'
import { derive, opaqueValue, type Field, type Value } from './lineage.ts'

/** What the last statement of an SQL body gives is cast to the declared types, which may fail (int8 to int4). */
export function declaredFields(
  called: CatalogFunction,
  fields: readonly Field[],
  own: Context,
): readonly Field[] {
  const composite = own.names.compositeColumns(called.returnType)
  const types =
    called.outputs.length > 0
      ? called.outputs.map((output) => output.type)
      : (composite?.map((column) => column.type) ?? [called.returnType])
  if (types.length !== fields.length) return fields
  return fields.map((field, index) => {
    const type = types[index] ?? 0
    if (own.names.types.info(type)?.kind === 'pseudo') return field
    return { name: field.name, value: convertedValue(field.value, type, own) }
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
