/**
 * Function calls: which functions a call may mean, what they are to a policy (class, volatility),
 * what they do to the session, and the value they give. Bodies are analysed in analysis-bodies.ts.
 *
 * Invariants: a function that is not known, or whose body cannot be followed, makes the result
 * opaque and the statement incomplete; several candidates count as the worst of them.
 */
import type { FuncCall } from '@pgsql/types'
import type { FunctionClass } from './access.ts'
import { stringsOf, type Context } from './analysis-context.ts'
import { selectCandidates } from './analysis-overloads.ts'
import type { CatalogFunction } from './catalog.ts'
import { functionEffect, literalBytesMax } from './classes.ts'
import { worstClass } from './catalog-conversion.ts'
import {
  applyCast,
  castArgument,
  coercionClass,
  computed,
  convertedValue,
  mayRaise,
  polymorphicType,
  printingClass,
  remember,
  typeNamed,
} from './expression-operators.ts'
import {
  coercionTo,
  commonType,
  sortedNode,
  useCompared,
  windowValues,
} from './expression-common.ts'
import { settingCall } from './expression-settings.ts'
import {
  commonCollation,
  conditional,
  derive,
  opaqueValue,
  typeOids,
  unknownValue,
  withSources,
  withType,
  type BaseColumn,
  type Field,
  type Source,
  type Value,
} from './lineage.ts'
import { fieldOf, type Scope } from './scope.ts'
import type { Oid } from './snapshot.ts'

/** A FuncCall node: arguments, aggregate decorations, window, and the call itself. */
export function callExpression(node: FuncCall, scope: Scope, context: Context): Value {
  const recorder = context.recorder
  const args: Value[] = []
  let named = false
  for (const argument of node.args ?? []) {
    named ||= 'NamedArgExpr' in argument
    args.push(context.passes.expression(argument, scope, context))
  }
  const extra: Value[] = []
  for (const order of node.agg_order ?? []) {
    const sorted = context.passes.expression(sortedNode(order), scope, context)
    if (node.agg_within_group === true) args.push(sorted)
    else extra.push(sorted)
    useCompared(sorted, 'order', context)
  }
  if (node.agg_filter !== undefined) {
    const filter = context.passes.expression(node.agg_filter, scope, context)
    recorder.use(filter, 'condition')
    extra.push(filter)
  }
  if (node.agg_distinct === true) for (const value of args) useCompared(value, 'distinct', context)
  if (node.over !== undefined) extra.push(...windowValues(node.over, scope, context))
  if (isPlainCount(node, args, context)) return counted(args[0], extra, context)
  const value = resolveCall(node, args, named, context)
  if (extra.length === 0) return value
  const whole = conditional([value, ...extra], true, value.type)
  if (!whole.total) recorder.use(whole, 'argument')
  return whole
}

/** The server's own `count(col)` without DISTINCT, FILTER or ORDER BY. */
function isPlainCount(node: FuncCall, args: readonly Value[], context: Context): boolean {
  const names = stringsOf(node.funcname)
  if (names.at(-1) !== 'count' || args.length !== 1) return false
  if (node.agg_distinct === true || node.agg_filter !== undefined) return false
  if (node.agg_order !== undefined || node.func_variadic === true) return false
  const argument = node.args?.[0]
  if (argument === undefined || !('ColumnRef' in argument)) return false
  const sources = args[0]?.sources ?? []
  if (sources.length === 0 || args[0]?.total !== true) return false
  if (!sources.every((one) => one.via === 'direct' && isNeverNull(one.column, context)))
    return false
  const form = { named: false, variadic: false, star: false, context }
  const called = functionCandidates(schemaOf(names), 'count', args, form)
  return called.length > 0 && called.every((one) => one.row === null)
}

/** A child may hold nulls where its parent by inheritance must not. */
function isNeverNull(column: BaseColumn, context: Context): boolean {
  if (!column.notNull || column.relation === null) return false
  return context.catalog
    .children(column.relation.oid)
    .every((child) => context.names.columnNamed(child, column.name)?.notNull !== false)
}

/** The schema of a qualified name, null of a bare one. */
function schemaOf(names: readonly string[]): string | null {
  return names.length > 1 ? (names.at(-2) ?? null) : null
}

function counted(value: Value | undefined, extra: readonly Value[], context: Context): Value {
  note(countFunction, 'total', true, context)
  const sources: Source[] = (value?.sources ?? []).map((source) => ({ ...source, via: 'count' }))
  const count: Value = { ...derive([], true, typeOids.int8), sources }
  return extra.length === 0 ? count : conditional([count, ...extra], true, typeOids.int8)
}

function resolveCall(
  node: FuncCall,
  args: readonly Value[],
  named: boolean,
  context: Context,
): Value {
  const names = stringsOf(node.funcname)
  const name = names.at(-1) ?? ''
  const schema = schemaOf(names)
  const called = functionCandidates(schema, name, args, {
    named,
    variadic: node.func_variadic === true,
    star: node.agg_star === true,
    context,
  })
  const type = schema === 'pg_temp' || args.length !== 1 ? 0 : calledType(schema, name, context)
  if (type !== 0 && !isExact(called, args)) {
    const [argument] = args
    const cast = applyCast(argument ?? unknownValue, { type, modifier: -1 }, context)
    if (called.length === 0 || argument?.type === typeOids.unknown) return cast
    const call = callFunction(called, args, context)
    return { ...derive([cast, call], true, type), opaque: call.opaque }
  }
  if (called.length === 0) {
    const projected = schema === null && args.length === 1 ? project(args[0], name, context) : null
    if (projected !== null) return projected
    return missingFunction(names.join('.'), args, context)
  }
  const given = named ? inAnyOrder(called, args) : args
  const setting = settingCall(name, called, given, context)
  const value = callFunction(called, given, context)
  return setting ? { ...value, total: false } : value
}

/** With named arguments each parameter may be any of them: which one is which is the server's. */
function inAnyOrder(called: readonly CatalogFunction[], args: readonly Value[]): readonly Value[] {
  const count = Math.max(args.length, ...called.map((one) => one.argumentTypes.length))
  return new Array<Value>(count).fill(derive(args, true, 0))
}

/** A call whose name is a type's, with one argument, may be a cast (func_get_detail). */
function calledType(schema: string | null, name: string, context: Context): Oid {
  return typeNamed(schema, name, context)?.oid ?? 0
}

function isExact(called: readonly CatalogFunction[], args: readonly Value[]): boolean {
  return called.some((one) => one.argumentTypes[0] === args[0]?.type)
}

/** `f(u)` and `u.f` for a row: the field of that name (ParseComplexProjection). */
export function project(value: Value | undefined, name: string, context: Context): Value | null {
  if (value === undefined) return null
  if (value.fields !== null) return fieldOf(value.fields, name)
  const columns = context.names.compositeColumns(value.type)
  const column = columns?.find((row) => row.name === name)
  return column === undefined ? null : derive([value], true, column.type, column.modifier)
}

function missingFunction(name: string, args: readonly Value[], context: Context): Value {
  context.recorder.unresolved.add(name)
  context.recorder.fail(`function ${name} is not in the catalog for these arguments`)
  context.recorder.function({
    schema: '',
    name,
    language: 'unknown',
    volatility: 'unknown',
    security_definer: false,
    class: 'opaque',
    analysed: false,
    through: null,
  })
  return { ...computed(args, false, 0, context), opaque: true }
}

interface CallForm {
  readonly named: boolean
  readonly variadic: boolean
  readonly star: boolean
  readonly context: Context
}

/** The functions that a call may mean, by name and arguments. */
export function functionCandidates(
  schema: string | null,
  name: string,
  args: readonly Value[],
  form: CallForm,
): readonly CatalogFunction[] {
  const { context } = form
  const types = form.named ? args.map(() => 0) : args.map((value) => value.type)
  const flags = `${form.named ? 'n' : ''}${form.variadic ? 'v' : ''}${form.star ? 's' : ''}`
  const key = `${schema ?? ''}\u0000${name}\u0000${types.join()}${flags}\u0000${context.pathText}`
  const known = context.names.calls.get(key)
  if (known !== undefined) return known
  const wanted = schema === 'pg_temp' ? (context.facts.temporarySchema ?? schema) : schema
  const all = context.catalog.functions(wanted, name, context.path)
  let found: readonly CatalogFunction[]
  if (form.named) found = all.filter((one) => namedFits(one, args.length))
  else found = selectCandidates(all, types, form.variadic, context.names.types)
  return remember(context.names.calls, key, found)
}

/** With named arguments only their number is compared: which one is which is the server's. */
function namedFits(candidate: CatalogFunction, count: number): boolean {
  const formal = candidate.argumentTypes.length
  return count <= formal && count >= formal - candidate.defaultCount
}

/** The value of a call of one of these functions, recorded with what they are and do. */
export function callFunction(
  called: readonly CatalogFunction[],
  args: readonly Value[],
  context: Context,
): Value {
  let cls: FunctionClass = 'total'
  let type: Oid | null = null
  let set = false
  let opaque = false
  let fields: readonly Field[] | null = null
  const bodies: Value[] = []
  for (const candidate of called) {
    const outcome = callOne(candidate, args, context)
    cls = worstClass(cls, outcome.class)
    set ||= candidate.returnsSet
    opaque ||= outcome.opaque
    const resolved = returnType(candidate, args, context)
    context.passes.domain(resolved, context)
    type = type === null || type === resolved ? resolved : 0
    if (outcome.body !== null) bodies.push(outcome.body)
    fields = called.length === 1 ? (outcome.body?.fields ?? outcome.fields) : null
  }
  if (set) for (const value of args) context.recorder.use(value, 'cardinality')
  const total = cls === 'total'
  const [only] = bodies
  if (only !== undefined && bodies.length === called.length) {
    const value = bodies.length === 1 ? only : derive(bodies, total, type ?? 0)
    const all = total && !set && args.every((argument) => argument.total)
    return { ...value, type: type ?? 0, total: all, fields, opaque }
  }
  const value = computed([...args, ...bodies], total, type ?? 0, context)
  if (!opaque && !set && fields === null) return value
  return { ...value, opaque, fields, total: value.total && !set }
}

interface Outcome {
  readonly class: FunctionClass
  readonly opaque: boolean
  /** The value that an analysed body gives; null where the arguments say all. */
  readonly body: Value | null
  readonly fields: readonly Field[] | null
}

function callOne(called: CatalogFunction, given: readonly Value[], context: Context): Outcome {
  const args = given.map((value, index) =>
    castArgument(value, called.argumentTypes[index] ?? 0, context),
  )
  if (called.row !== null && called.class === 'opaque') return callUser(called, args, context)
  const effect = functionEffect(called.name, called.class)
  if (effect !== null) context.recorder.effects.add(effect)
  const own = called.class === 'partial' && literalTotal(called, args) ? 'total' : called.class
  let cls = worstClass(own, printingClass(called.outputForm, args, context))
  cls = worstClass(cls, coercionClass(called.argumentTypes, args, context))
  cls = worstClass(cls, compatibleClass(called.argumentTypes, args, context))
  if (mayRaise(commonCollation(args))) cls = worstClass(cls, 'partial')
  note(called, cls, called.row === null, context)
  const opaque = cls === 'reads_by_text' || cls === 'opaque'
  if (cls === 'reads_by_text') {
    context.recorder.fail(`function ${called.name} reads what its text argument says`)
    context.recorder.mayChangeSettings ||= called.volatility === 'volatile'
  }
  if (cls === 'opaque') context.recorder.fail(`function ${called.name} cannot be followed`)
  return { class: cls, opaque, body: null, fields: outputFields(called, args, cls, context) }
}

/** Arguments of anycompatible types are brought to one type before the call. */
function compatibleClass(
  formal: readonly Oid[],
  args: readonly Value[],
  context: Context,
): FunctionClass {
  const types = context.names.types
  const compatible: Value[] = []
  for (const [index, value] of args.entries()) {
    const name = types.info(formal[Math.min(index, formal.length - 1)] ?? 0)?.name ?? ''
    if (!name.startsWith('anycompatible')) continue
    const array = name === 'anycompatiblearray'
    compatible.push(array ? withType(value, types.elementOf(value.type)) : value)
  }
  if (compatible.length < 2) return 'total'
  const type = commonType(
    compatible.map((value) => value.type),
    context,
  )
  return coercionTo(type, compatible, context)
}

/** Partial functions that only a bad argument makes fail, where that argument is a literal. */
function literalTotal(called: CatalogFunction, args: readonly Value[]): boolean {
  const literal = (value: Value | undefined): boolean =>
    value !== undefined && value.constant !== null && value.constant.length <= literalBytesMax
  const positions = called.totalIfLiteral
  if (positions === 'keys') return args.every((value, index) => index % 2 === 1 || literal(value))
  return positions.length > 0 && positions.every((position) => literal(args[position]))
}

function callUser(called: CatalogFunction, given: readonly Value[], context: Context): Outcome {
  const wanted = wantedTypes(called, given, context)
  const args = given.map((value, index) => convertedValue(value, wanted[index] ?? 0, context))
  for (const type of called.argumentTypes) context.passes.domain(type, context)
  for (const output of called.outputs) context.passes.domain(output.type, context)
  const shape = context.passes.functionBody(called, args, context)
  if (shape.analysed) {
    const value = called.strict ? strictValue(shape.value, args, context) : shape.value
    const own = value.total && !called.returnsSet ? 'total' : classByKind(called)
    note(called, own, true, context)
    return { class: own, opaque: value.opaque, body: value, fields: null }
  }
  note(called, 'opaque', false, context)
  // What is declared immutable may not read tables, so its arguments say all. That is believed of
  // C, which superusers install, and of extensions: PostgreSQL itself holds nobody to it.
  const compiled = called.kind === 'function' && compiledLanguages.has(called.language)
  const owned = compiled || (called.row?.extension ?? null) !== null
  const blind = called.volatility === 'immutable' && owned
  if (!blind) {
    context.recorder.fail(`function ${called.schema}.${called.name} cannot be followed`)
    context.recorder.mayChangeSettings = true
    // Languages that run SQL of their own, such as PL/Python. C functions are too many, and no client's.
    context.recorder.changesCatalog ||= !compiled && called.volatility === 'volatile'
  }
  const cls = blind ? 'partial' : 'opaque'
  return {
    class: cls,
    opaque: !blind,
    body: null,
    fields: outputFields(called, args, cls, context),
  }
}

/** A STRICT function gives NULL, and runs nothing, where an argument is null: all of them tell. */
function strictValue(body: Value, args: readonly Value[], context: Context): Value {
  const given = computed(args, body.total, 0, context)
  const depending = (value: Value): Value => {
    const known = new Set(value.sources.map((source) => source.column))
    const more = given.sources.filter((source) => !known.has(source.column))
    const fields = value.fields?.map((one) => ({ name: one.name, value: depending(one.value) }))
    return { ...withSources(value, more), fields: fields ?? null }
  }
  return { ...depending(body), opaque: body.opaque || given.opaque }
}

/** The type that each argument is brought to; VARIADIC takes elements, or the array of them. */
function wantedTypes(
  called: CatalogFunction,
  args: readonly Value[],
  context: Context,
): readonly Oid[] {
  if (!called.variadic) return called.argumentTypes
  const last = called.argumentTypes.length - 1
  const array = called.argumentTypes[last] ?? 0
  const element = context.names.types.elementOf(array)
  return args.map((value, index) => {
    if (index < last) return called.argumentTypes[index] ?? 0
    return value.type === array ? array : element
  })
}

const compiledLanguages: ReadonlySet<string> = new Set(['c', 'internal'])

function classByKind(called: CatalogFunction): FunctionClass {
  return called.volatility === 'volatile' ? 'volatile' : 'partial'
}

/** The columns of a function that gives rows; null where it gives one value. */
function outputFields(
  called: CatalogFunction,
  args: readonly Value[],
  cls: FunctionClass,
  context: Context,
): readonly Field[] | null {
  const make = (name: string, type: Oid): Field => {
    const value = derive(args, cls === 'total', type)
    return { name, value: cls === 'opaque' || cls === 'reads_by_text' ? opaqueOf(value) : value }
  }
  if (called.outputs.length > 0) {
    const names = outputNames(called)
    return called.outputs.map((output, index) => make(names[index] ?? '', output.type))
  }
  const columns = context.names.compositeColumns(called.returnType)
  return columns === null ? null : columns.map((column) => make(column.name, column.type))
}

/** Columns of a function without a name are called column1, column2 … where there are several. */
export function outputNames(called: CatalogFunction): readonly string[] {
  return called.outputs.map((output, index) =>
    output.name !== '' || called.outputs.length === 1 ? output.name : `column${index + 1}`,
  )
}

function opaqueOf(value: Value): Value {
  return { ...opaqueValue, sources: value.sources, type: value.type }
}

function returnType(called: CatalogFunction, args: readonly Value[], context: Context): Oid {
  const types = context.names.types
  if (called.outputs.length > 1) return typeOids.record
  if (!types.isPolymorphic(called.returnType)) return called.returnType
  const name = types.info(called.returnType)?.name ?? ''
  return polymorphicType(name, called.argumentTypes, args, context)
}

function note(
  called: CatalogFunction,
  cls: FunctionClass,
  analysed: boolean,
  context: Context,
): void {
  context.recorder.function({
    schema: called.schema,
    name: called.name,
    language: called.language,
    volatility: called.volatility,
    security_definer: called.securityDefiner,
    class: cls,
    analysed,
    through: null,
  })
}

const countFunction: CatalogFunction = {
  oid: 2147,
  schema: 'pg_catalog',
  name: 'count',
  kind: 'aggregate',
  language: 'internal',
  volatility: 'immutable',
  strict: false,
  securityDefiner: false,
  returnsSet: false,
  variadic: false,
  defaultCount: 0,
  class: 'total',
  outputForm: null,
  totalIfLiteral: [],
  argumentTypes: [2276],
  returnType: typeOids.int8,
  outputs: [],
  row: null,
}
