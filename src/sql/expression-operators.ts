/**
 * Operators and casts: which one the server takes, whether it is total, and what it gives. Built on
 * the class tables; operators and casts of users are functions and analysed like them.
 *
 * Invariant: several candidates count as the worst of them; what is not total is recorded as such
 * on every column behind the operands.
 */
import type { Node, TypeName } from '@pgsql/types'
import type { FunctionClass } from './access.ts'
import { stringsOf, type Context, type TypeShape } from './analysis-context.ts'
import { selectOperators } from './analysis-overloads.ts'
import type { OperatorSignature } from './analysis-names.ts'
import { modifierClass, worstClass } from './catalog-conversion.ts'
import type { CatalogOperator } from './catalog.ts'
import type { OutputForm } from './classes.ts'
import { commonCollation, derive, isLiteral, plain, typeOids, type Value } from './lineage.ts'
import type { Oid, TypeRow } from './snapshot.ts'

/** The value of a computation over `args`; what is not total marks their columns as arguments. */
export function computed(
  args: readonly Value[],
  total: boolean,
  type: Oid,
  context: Context,
  modifier = -1,
): Value {
  if (!total) for (const value of args) context.recorder.use(value, 'argument')
  return derive(args, total, type, modifier)
}

/** Longer keys are of no ordinary call. */
const keyLengthMax = 1_000
/** Cached candidates are few per catalog; this only bounds what a client can make of them. */
const cachedMax = 20_000

export function remember<V>(
  map: Map<string, V>,
  key: string,
  value: V,
  countMax: number = cachedMax,
): V {
  if (key.length > keyLengthMax) return value
  if (map.size >= countMax) map.clear()
  map.set(key, value)
  return value
}

function candidates(
  schema: string | null,
  name: string,
  args: readonly Value[],
  context: Context,
): readonly OperatorSignature[] {
  const types = args.map((value) => value.type)
  const key = `${schema ?? ''}\u0000${name}\u0000${types.join()}\u0000${context.pathText}`
  const known = context.names.operators.get(key)
  if (known !== undefined) return known
  const all: OperatorSignature[] = []
  for (const operator of context.catalog.operators(schema, name, context.path)) {
    if ((operator.left === 0) !== (args.length === 1)) continue
    const argumentTypes = args.length === 1 ? [operator.right] : [operator.left, operator.right]
    all.push({ argumentTypes, ...operator })
  }
  return remember(context.names.operators, key, selectOperators(all, types, context.names.types))
}

/** Collations under which no function of text raises. */
const plainCollations: ReadonlySet<string> = new Set(['C', 'POSIX', 'ucs_basic'])

/** What compares texts under it fails for every value that is not null: it may not be deterministic, or not one. */
export function mayRaise(collation: string | null): boolean {
  return collation !== null && !plainCollations.has(collation)
}

/** An operator over its operands; one operand is a prefix operator. */
export function applyOperator(
  nodes: readonly Node[] | undefined,
  args: readonly Value[],
  context: Context,
): Value {
  const parts = stringsOf(nodes)
  const name = parts.at(-1) ?? ''
  const schema = parts.length > 1 ? (parts.at(-2) ?? null) : null
  const found = candidates(schema, name, args, context)
  if (found.length === 0) return missingOperator(name, args, context)
  let cls: FunctionClass = 'total'
  let type: Oid | null = null
  const results: Value[] = []
  for (const operator of found) {
    if (operator.row !== null) {
      const called = context.catalog.functionByOid(operator.row.function)
      const result = called === null ? null : context.passes.callFunction([called], args, context)
      if (result === null) cls = worstClass(cls, 'opaque')
      else results.push(result)
    } else {
      cls = worstClass(cls, operator.class)
      cls = worstClass(cls, coercionClass(operator.argumentTypes, args, context))
      cls = worstClass(cls, printingClass(operator.outputForm, args, context))
      if (mayRaise(commonCollation(args))) cls = worstClass(cls, 'partial')
    }
    type = type === null || type === operator.result ? operator.result : 0
  }
  const builtIn = found.every((operator) => operator.row === null)
  if (cls !== 'total' && builtIn && harmlessConstant(name, args)) cls = 'total'
  if (cls === 'opaque') context.recorder.fail(`operator ${name} is not known`)
  if (cls !== 'total') noteComputation(name, cls, args, context)
  const resolved = resultType(type ?? 0, found.length === 1 ? found[0] : undefined, args, context)
  const value = computed(args, cls === 'total', resolved, context)
  if (results.length === 0) return cls === 'opaque' ? { ...value, opaque: true } : value
  const whole = derive(
    [value, ...results],
    results.every((one) => one.total),
    resolved,
  )
  return whole
}

/** Of a row whose columns are known, each is printed; anonymous ones are never known otherwise. */
function printsTotally(value: Value, form: OutputForm, context: Context): boolean {
  if (value.fields !== null && value.type === typeOids.record) {
    return value.fields.every((field) => printsTotally(field.value, form, context))
  }
  if (value.type === typeOids.unknown) return true
  return value.type !== 0 && context.names.types.outputClass(value.type, form) === 'total'
}

/** What prints its operands is as total as printing them is. */
export function printingClass(
  form: OutputForm,
  args: readonly Value[],
  context: Context,
): FunctionClass {
  if (form === null) return 'total'
  for (const value of args) {
    if (value.sources.length === 0 && value.type === 0) continue
    if (!printsTotally(value, form, context)) return 'partial'
  }
  return 'total'
}

/** The implicit casts that the server puts around the arguments of what it has chosen. */
export function coercionClass(
  formal: readonly Oid[],
  args: readonly Value[],
  context: Context,
): FunctionClass {
  const types = context.names.types
  let cls: FunctionClass = 'total'
  for (const [index, value] of args.entries()) {
    const wanted = formal[index] ?? 0
    if (isLiteral(value) || wanted === 0 || value.type === wanted) continue
    if (value.type === 0 || types.isPolymorphic(wanted)) continue
    if (types.baseOf(value.type) === wanted) continue
    if (value.type === typeOids.unknown) continue
    cls = worstClass(cls, types.castClass(value.type, wanted))
  }
  return cls
}

function missingOperator(name: string, args: readonly Value[], context: Context): Value {
  // Operands whose type the analysis does not know may hide the operator that the server takes.
  const known = args.every((value) => value.type !== 0)
  context.recorder.unresolved.add(name)
  if (known) context.recorder.fail(`operator ${name} is not in the catalog for these types`)
  else context.recorder.fail(`operator ${name} is not in the catalog`)
  noteComputation(name, 'opaque', args, context)
  return { ...computed(args, false, 0, context), opaque: true }
}

/** LIKE fails only on a pattern that ends in a backslash; integer division only by 0 or -1. */
function harmlessConstant(name: string, args: readonly Value[]): boolean {
  const right = args[1]
  if (right === undefined || right.constant === null) return false
  if (likeOperators.has(name)) return !right.constant.includes('\\')
  if (name !== '/' && name !== '%') return false
  const divisor = Number(right.constant)
  const types: readonly Oid[] = integerTypes
  return types.includes(args[0]?.type ?? 0) && Number.isInteger(divisor) && divisor > 0
}

const likeOperators: ReadonlySet<string> = new Set(['~~', '!~~', '~~*', '!~~*'])
const integerTypes = [typeOids.int2, typeOids.int4, typeOids.int8]

function resultType(
  type: Oid,
  only: CatalogOperator | undefined,
  args: readonly Value[],
  context: Context,
): Oid {
  const types = context.names.types
  if (!types.isPolymorphic(type)) return type
  return polymorphicType(
    types.info(type)?.name ?? '',
    only === undefined ? [] : only.left === 0 ? [only.right] : [only.left, only.right],
    args,
    context,
  )
}

/** The actual type of a polymorphic result (enforce_generic_type_consistency). */
export function polymorphicType(
  name: string,
  formal: readonly Oid[],
  args: readonly Value[],
  context: Context,
): Oid {
  const types = context.names.types
  for (const [index, wanted] of formal.entries()) {
    const actual = types.baseOf(args[index]?.type ?? 0)
    const info = types.info(wanted)
    if (info === null || actual === 0 || actual === typeOids.unknown) continue
    if (!types.isPolymorphic(wanted)) continue
    if (info.name === name) return actual
    const array = info.name.endsWith('array') && !info.name.endsWith('nonarray')
    if (name.endsWith('array') && !array) return types.arrayOf(actual)
    if (array && (name === 'anyelement' || name === 'anycompatible')) return types.elementOf(actual)
  }
  return 0
}

/** An operator or cast that is not total is listed among the functions; over constants it is not. */
export function noteComputation(
  name: string,
  cls: FunctionClass,
  args: readonly Value[],
  context: Context,
): void {
  if (cls !== 'opaque' && args.every((value) => value.sources.length === 0)) return
  context.recorder.function({
    schema: 'pg_catalog',
    name,
    language: 'internal',
    volatility: 'immutable',
    security_definer: false,
    class: cls,
    analysed: false,
    through: null,
  })
}

/** The type a TypeName means; 0 where it is not known. */
export function resolveType(node: TypeName | undefined, context: Context): TypeShape {
  if (node === undefined) return { type: 0, modifier: -1 }
  const names = stringsOf(node.names)
  const modifier = (node.typmods?.length ?? 0) > 0 ? 1 : -1
  if (node.pct_type === true) return { type: 0, modifier: -1 }
  const name = names.at(-1) ?? ''
  const schema = names.length > 1 ? (names.at(-2) ?? null) : null
  const row = typeNamed(schema, name, context)
  if (row === null) return { type: 0, modifier }
  let type = row.oid
  if ((node.arrayBounds?.length ?? 0) > 0) type = context.names.types.arrayOf(type)
  return { type, modifier }
}

/** The type of that name, as the path has it; of several under a path that is not known, the first. */
export function typeNamed(schema: string | null, name: string, context: Context): TypeRow | null {
  const { catalog, path, recorder } = context
  if (schema !== null) return catalog.typeByName(schema, name, [])
  if (path !== 'unknown') return catalog.typeByName(null, name, path)
  const [first = null, ...others] = catalog.typesNamed(name)
  if (others.length > 0) {
    recorder.fail(`search_path is not known, and ${name} may be one of several types`)
  }
  return first
}

/** The type that a TypeName means, to which something is converted there: its checks are run. */
export function convertedTo(node: TypeName | undefined, context: Context): TypeShape {
  const shape = resolveType(node, context)
  context.passes.domain(shape.type, context)
  return shape
}

/** `value::type`, and the same done by an assignment. */
export function applyCast(value: Value, shape: TypeShape, context: Context): Value {
  const { type, modifier } = shape
  context.passes.domain(type, context)
  const types = context.names.types
  const info = types.info(type)
  const checked = info !== null && info.kind === 'domain'
  if (value.constant !== null && value.type === typeOids.unknown && !checked) {
    return { ...plain(type, value.constant, modifier), collation: value.collation }
  }
  if (type !== 0 && value.type === type && modifier === -1) return value
  const own = userCast(value, type, context)
  const cast = castClass(value, type, modifier, context)
  // A user's own cast is opaque until its function is analysed; then that says what it is.
  const cls = own !== null && own.total ? 'total' : cast === 'opaque' ? 'partial' : cast
  if (cls !== 'total') noteComputation(`cast to ${info?.name ?? 'unknown'}`, cls, [value], context)
  const result = computed([value], cls === 'total', type, context, modifier)
  return own === null ? result : derive([result, own], own.total, type, modifier)
}

function castClass(value: Value, type: Oid, modifier: number, context: Context): FunctionClass {
  if (type === 0 || value.type === 0) return 'partial'
  const source = value.type === typeOids.unknown ? typeOids.text : value.type
  const printed =
    value.fields !== null &&
    (type === typeOids.text || type === typeOids.varchar) &&
    printsTotally(value, 'text', context)
  const cls = printed ? 'total' : context.names.types.castClass(source, type)
  if (modifier === -1) return cls
  return worstClass(cls, modifierClass(context.catalog, type, modifier, 'explicit'))
}

/** An argument that a user's own implicit cast brings to the type that is wanted. */
export function castArgument(value: Value, wanted: Oid, context: Context): Value {
  if (wanted === 0 || value.type === 0 || value.type === wanted) return value
  const own = userCast(value, wanted, context)
  return own === null ? value : derive([value, own], own.total, wanted)
}

/** An argument, or a result, as the body of a user's function gets, or gives, it. */
export function convertedValue(value: Value, wanted: Oid, context: Context): Value {
  const types = context.names.types
  if (wanted === 0 || value.type === wanted || isLiteral(value)) return value
  if (types.isPolymorphic(wanted) || types.baseOf(value.type) === wanted) return value
  // What the client declares for $1 is converted when it is bound.
  if (value.type === 0 && value.sources.length === 0) return value
  if (value.type !== 0 && types.castClass(value.type, wanted) === 'total') return value
  return computed([value], false, wanted, context)
}

/** A result as a column of a declared type gets it: what is too long for it is an error. */
export function assignedValue(value: Value, shape: TypeShape, context: Context): Value {
  const { type, modifier } = shape
  const converted = convertedValue(value, type, context)
  if (modifier === -1 || (value.type === type && value.modifier === modifier)) return converted
  const cls = modifierClass(context.catalog, type, modifier, 'assignment')
  return cls === 'total' ? converted : computed([converted], false, type, context, modifier)
}

/** A cast by a user's own function is a call of it. */
function userCast(value: Value, type: Oid, context: Context): Value | null {
  for (const cast of context.catalog.castsFrom(context.names.types.baseOf(value.type))) {
    if (cast.target !== type || cast.method !== 'function') continue
    const called = context.catalog.functionByOid(cast.function)
    if (called !== null) return context.passes.callFunction([called], [value], context)
  }
  return null
}
