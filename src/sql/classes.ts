/**
 * What PostgreSQL's own functions, operators, casts, types and relations are to a policy: the
 * reader of the generated tables in data/ (`npm run generate:classes`, which holds the rules and
 * their reasons). What is not listed is opaque: every lookup fails closed.
 *
 * `total` means: for every non-null value of its argument types it returns without an error
 * (memory limits aside), without side effect, reading nothing but its arguments, the session's
 * settings and the clock, and its result is bounded linearly by its arguments.
 */
import type { Effect, FunctionClass } from './access.ts'
import type { FunctionRow, TypeKind } from './snapshot.ts'
import { extensionTable } from './data/extensions.ts'
import { castTable, functionTable, operatorTable, typeTable } from './data/functions.ts'
import { relationTable } from './data/relations.ts'

/**
 * The output a total function makes of arguments whose type it does not know by itself: it is only
 * as total as those types' own output functions are (`row_to_json`, `concat`, `array_to_string`).
 */
export type OutputForm = 'text' | 'json' | 'jsonb' | null

/** Longest literal for which `totalIfLiteral` holds: a result stays linear in the data. */
export const literalBytesMax = 1_000

/** One signature of a built-in function. Types are names of pg_catalog (`int4`, `_text`). */
export interface BuiltinFunction {
  readonly name: string
  /** Stable over versions; 0 where it is not. */
  readonly oid: number
  readonly kind: FunctionRow['kind']
  readonly class: FunctionClass
  readonly outputForm: OutputForm
  /**
   * A partial function that is total where the arguments at these positions (from 0) are literals
   * of at most `literalBytesMax`; `keys` is every other argument, from the first. Empty: never.
   */
  readonly totalIfLiteral: readonly number[] | 'keys'
  readonly volatility: FunctionRow['volatility']
  readonly strict: boolean
  readonly returnsSet: boolean
  readonly variadic: boolean
  readonly defaultCount: number
  readonly argumentTypes: readonly string[]
  readonly returnType: string
  /** OUT and TABLE columns, where it has any. */
  readonly outputs: readonly { readonly name: string; readonly type: string }[]
}

/** One built-in operator; `left` is null for a prefix operator. */
export interface BuiltinOperator {
  readonly name: string
  readonly left: string | null
  readonly right: string
  readonly result: string
  readonly class: FunctionClass
  readonly outputForm: OutputForm
}

/** One row of pg_cast between types of pg_catalog. */
export interface BuiltinCast {
  readonly source: string
  readonly target: string
  readonly method: 'function' | 'inout' | 'binary'
  readonly context: 'implicit' | 'assignment' | 'explicit'
  readonly class: FunctionClass
}

/** A type of pg_catalog that is no relation's row type. */
export interface BuiltinType {
  readonly name: string
  readonly oid: number
  readonly kind: TypeKind
  readonly category: string
  /** Element of a true array, '' for none. */
  readonly element: string
  /** Subtype of a range or multirange, '' for none. */
  readonly subtype: string
  /** Class of the conversion from text (the input function). */
  readonly input: FunctionClass
  /** Class of the conversion to text (the output function); of arrays and ranges: their own part. */
  readonly output: FunctionClass
}

/**
 * harmless: names and definitions. values: holds values of rows. activity: what other sessions do.
 * secrets: verifiers, passwords, connection strings. settings: can be written to, or shows files.
 */
export type SystemRelationClass = 'harmless' | 'values' | 'activity' | 'secrets' | 'settings'

const classLetters: Readonly<Record<string, FunctionClass>> = {
  t: 'total',
  p: 'partial',
  v: 'volatile',
  r: 'reads_by_text',
  f: 'file',
  a: 'admin',
  o: 'opaque',
}
const volatilityLetters: Readonly<Record<string, FunctionRow['volatility']>> = {
  i: 'immutable',
  s: 'stable',
  v: 'volatile',
}
const outputForms: Readonly<Record<string, OutputForm>> = { T: 'text', J: 'json', B: 'jsonb' }

function classOf(letter: string | undefined): FunctionClass {
  return classLetters[letter ?? ''] ?? 'opaque'
}

/** Splits `name rest` lines of a table into a map; parsing of the rest waits for its first use. */
function linesByName(table: string): Map<string, string> {
  const lines = new Map<string, string>()
  for (const line of table.split('\n')) {
    const space = line.indexOf(' ')
    if (space > 0) lines.set(line.slice(0, space), line.slice(space + 1))
  }
  return lines
}

/** `@16` is since 16, `@-15` until 15, `@15-16` from to; nothing is all of them. */
function coversVersion(mark: string | undefined, major: number): boolean {
  if (mark === undefined) return true
  const dash = mark.indexOf('-')
  const from = dash === -1 ? mark : mark.slice(0, dash)
  const to = dash === -1 ? '' : mark.slice(dash + 1)
  return (from === '' || major >= Number(from)) && (to === '' || major <= Number(to))
}

function list(text: string): readonly string[] {
  return text === '' ? [] : text.split(',')
}

/** `871 tis text>text`, with marks of kind behind the three letters and `{name:type}` outputs. */
const functionPattern = /^(\d+) (\w)(\w)([s-])(\w*) ([^>]*)>([^ {@]+)(?:\{([^}]*)\})?(?:@(\S+))?$/

function parseFunction(name: string, text: string, major: number): BuiltinFunction | null {
  const match = functionPattern.exec(text)
  if (match === null || !coversVersion(match[9], major)) return null
  const marks = match[5] ?? ''
  const form = /[TJB]/.exec(marks)
  const literals = /C([a-z]+)/.exec(marks)?.[1] ?? ''
  return {
    name,
    oid: Number(match[1]),
    class: classOf(match[2]),
    volatility: volatilityLetters[match[3] ?? ''] ?? 'volatile',
    strict: match[4] === 's',
    kind: marks.includes('A')
      ? 'aggregate'
      : marks.includes('W')
        ? 'window'
        : marks.includes('P')
          ? 'procedure'
          : 'function',
    returnsSet: marks.includes('R'),
    variadic: marks.includes('V'),
    defaultCount: Number(/\d+/.exec(marks)?.[0] ?? '0'),
    outputForm: form === null ? null : (outputForms[form[0]] ?? null),
    totalIfLiteral: marks.includes('Z')
      ? 'keys'
      : [...literals].map((letter) => letter.charCodeAt(0) - 97),
    argumentTypes: list(match[6] ?? ''),
    returnType: match[7] ?? '',
    outputs: list(match[8] ?? '').map((output) => {
      const colon = output.lastIndexOf(':')
      return { name: output.slice(0, colon), type: output.slice(colon + 1) }
    }),
  }
}

const functionLines = linesByName(functionTable)
const operatorLines = linesByName(operatorTable)
const castLines = linesByName(castTable)
const typeLines = linesByName(typeTable)
const relationLines = linesByName(relationTable)
const extensionLines = linesByName(extensionTable)

/** Bounded by the tables: names that are not in them are not kept. */
const functionsParsed = new Map<string, readonly BuiltinFunction[]>()
const operatorsParsed = new Map<string, readonly BuiltinOperator[]>()
const typesParsed = new Map<string, BuiltinType>()
const noFunctions: readonly BuiltinFunction[] = []
const noOperators: readonly BuiltinOperator[] = []

/** Every signature of that name in pg_catalog of this major version (14 to 18). */
export function builtinFunctions(name: string, major: number): readonly BuiltinFunction[] {
  return qualifiedFunctions(name, major)
}

/** The same of information_schema. */
export function informationSchemaFunctions(
  name: string,
  major: number,
): readonly BuiltinFunction[] {
  return qualifiedFunctions(`information_schema.${name}`, major)
}

function qualifiedFunctions(key: string, major: number): readonly BuiltinFunction[] {
  const line = functionLines.get(key)
  if (line === undefined) return noFunctions
  const cacheKey = `${major} ${key}`
  let parsed = functionsParsed.get(cacheKey)
  if (parsed === undefined) {
    const name = key.startsWith('information_schema.') ? key.slice(19) : key
    parsed = line
      .split(' ; ')
      .map((text) => parseFunction(name, text, major))
      .filter((entry) => entry !== null)
    functionsParsed.set(cacheKey, parsed)
  }
  return parsed
}

/** Built-in operators of that name, for this major version. */
export function builtinOperators(name: string, major: number): readonly BuiltinOperator[] {
  const line = operatorLines.get(name)
  if (line === undefined) return noOperators
  const cacheKey = `${major} ${name}`
  let parsed = operatorsParsed.get(cacheKey)
  if (parsed === undefined) {
    parsed = line.split(' ; ').flatMap((text) => {
      const match = /^(\w)([TJB]?) ([^,]*),([^>]+)>([^@]+)(?:@(\S+))?$/.exec(text)
      if (match === null || !coversVersion(match[6], major)) return []
      const left = match[3] ?? ''
      return [
        {
          name,
          left: left === '' ? null : left,
          right: match[4] ?? '',
          result: match[5] ?? '',
          class: classOf(match[1]),
          outputForm: outputForms[match[2] ?? ''] ?? null,
        },
      ]
    })
    operatorsParsed.set(cacheKey, parsed)
  }
  return parsed
}

/** The row of pg_cast for two types of pg_catalog; null where there is none. */
export function builtinCast(source: string, target: string, major: number): BuiltinCast | null {
  const line = castLines.get(source)
  if (line === undefined) return null
  for (const text of line.split(' ; ')) {
    const match = /^(\w)(\w)(\w) ([^@]+)(?:@(\S+))?$/.exec(text)
    if (match === null || match[4] !== target || !coversVersion(match[5], major)) continue
    return {
      source,
      target,
      class: classOf(match[1]),
      method: match[2] === 'f' ? 'function' : match[2] === 'i' ? 'inout' : 'binary',
      context: match[3] === 'i' ? 'implicit' : match[3] === 'a' ? 'assignment' : 'explicit',
    }
  }
  return null
}

const typeKinds: Readonly<Record<string, TypeKind>> = {
  b: 'base',
  c: 'composite',
  d: 'domain',
  e: 'enum',
  p: 'pseudo',
  r: 'range',
  m: 'multirange',
}

/** A type of pg_catalog by its pg_type.typname; null where the table has none. */
export function builtinType(name: string): BuiltinType | null {
  const line = typeLines.get(name)
  if (line === undefined) return null
  let parsed = typesParsed.get(name)
  if (parsed === undefined) {
    const [oid, letters = '', inner = ''] = line.split(' ')
    const isRange = letters.startsWith('r') || letters.startsWith('m')
    parsed = {
      name,
      oid: Number(oid),
      kind: typeKinds[letters[0] ?? ''] ?? 'pseudo',
      category: letters[1] ?? 'X',
      input: classOf(letters[2]),
      output: classOf(letters[3]),
      element: isRange ? '' : inner,
      subtype: isRange ? inner : '',
    }
    typesParsed.set(name, parsed)
  }
  return parsed
}

/** Names of all types of the table. */
export function builtinTypeNames(): IterableIterator<string> {
  return typeLines.keys()
}

const relationClasses: ReadonlySet<string> = new Set<SystemRelationClass>([
  'harmless',
  'values',
  'activity',
  'secrets',
  'settings',
])

/**
 * What a relation of pg_catalog or information_schema holds; of pg_toast: values. Null for every
 * other schema; a system relation that is not listed counts as `secrets`.
 */
export function systemRelationClass(schema: string, name: string): SystemRelationClass | null {
  if (schema === 'pg_toast' || schema.startsWith('pg_toast_temp_')) return 'values'
  if (schema !== 'pg_catalog' && schema !== 'information_schema') return null
  const found = relationLines.get(schema === 'pg_catalog' ? name : `${schema}.${name}`)
  const word = found?.split(' ')[0] ?? ''
  return relationClasses.has(word) ? (word as SystemRelationClass) : 'secrets'
}

/** What relations of contrib extensions hold (pg_stat_statements); null where not listed. */
export function extensionRelationClass(
  extension: string,
  name: string,
): SystemRelationClass | null {
  const word = relationLines.get(`${extension}:${name}`)?.split(' ')[0] ?? ''
  return relationClasses.has(word) ? (word as SystemRelationClass) : null
}

/**
 * The class of a C function that belongs to a contrib extension; opaque where it is not listed.
 * `argumentTypes` are bare type names, as in pg_type.typname.
 */
export function extensionFunctionClass(
  extension: string,
  name: string,
  argumentTypes: readonly string[],
): FunctionClass {
  const line = extensionLines.get(`${extension}:${name}`)
  if (line === undefined) return 'opaque'
  const wanted = argumentTypes.join(',')
  for (const text of line.split(' ; ')) {
    if (text.slice(2) === wanted) return classOf(text[0])
  }
  return 'opaque'
}

/** What calling a function does beside returning a value: names of pg_catalog and extensions. */
const functionEffectPatterns: readonly (readonly [RegExp, Effect])[] = [
  [/^(nextval|setval)$/, 'write'],
  [/^pg_(try_)?advisory_/, 'lock'],
  [/^pg_notify$/, 'notify'],
  [/^set_config$/, 'session'],
  [/^(setseed|set_limit)$/, 'session'],
]

/**
 * The effect of calling a function of that class and name; null for a mere computation. Volatile
 * functions of users and PL bodies are not asked here: their bodies say, or nobody knows.
 */
export function functionEffect(name: string, class_: FunctionClass): Effect | null {
  if (class_ === 'file') return 'file'
  if (class_ === 'admin') return 'maintenance'
  if (class_ !== 'volatile') return null
  return functionEffectPatterns.find(([pattern]) => pattern.test(name))?.[1] ?? null
}
