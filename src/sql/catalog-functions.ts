/**
 * What a call or an operator may mean: built-ins of the class tables and rows of the snapshot, along
 * a search path as the server goes along it (FuncnameGetCandidates and OpernameGetCandidates in
 * src/backend/catalog/namespace.c). All candidates are given; which one it is, argument types tell.
 */
import type { FunctionClass } from './access.ts'
import type { Layer } from './catalog-layer.ts'
import {
  builtinFunctions,
  builtinOperators,
  extensionFunctionClass,
  informationSchemaFunctions,
  type BuiltinFunction,
  type OutputForm,
} from './classes.ts'
import type { FunctionRow, Oid, OperatorRow } from './snapshot.ts'

/** A function as a call may mean it: built in, or a row of the snapshot. */
export interface CatalogFunction {
  readonly oid: Oid
  readonly schema: string
  readonly name: string
  readonly kind: FunctionRow['kind']
  readonly language: string
  readonly volatility: FunctionRow['volatility']
  readonly strict: boolean
  readonly securityDefiner: boolean
  readonly returnsSet: boolean
  readonly variadic: boolean
  readonly defaultCount: number
  /** Opaque for what is neither built in nor of a known extension, until its body is analysed. */
  readonly class: FunctionClass
  /** A total function that prints its arguments: see `outputClass` of classes-conversion.ts. */
  readonly outputForm: OutputForm
  /** Partial, but total where these arguments are short literals: see BuiltinFunction. */
  readonly totalIfLiteral: readonly number[] | 'keys'
  /** Input arguments; 0 stands for a type that the catalog does not know. */
  readonly argumentTypes: readonly Oid[]
  readonly returnType: Oid
  /** OUT, INOUT and TABLE columns, in order. */
  readonly outputs: readonly { readonly name: string; readonly type: Oid }[]
  /** Null for built-ins. */
  readonly row: FunctionRow | null
}

export interface CatalogOperator {
  readonly schema: string
  readonly name: string
  /** 0 for a prefix operator. */
  readonly left: Oid
  readonly right: Oid
  readonly result: Oid
  readonly class: FunctionClass
  readonly outputForm: OutputForm
  readonly row: OperatorRow | null
}

/** What the index asks of the types: oid of a built-in's name, name of an oid ('' for none). */
export interface TypeNames {
  oidOf(builtinName: string): Oid
  nameOf(type: Oid): string
}

/** Only a superuser makes functions in these, so an extension's own are what the table knows. */
const nativeLanguages: ReadonlySet<string> = new Set(['c', 'internal'])
const outputModes: ReadonlySet<string> = new Set(['out', 'inout', 'table'])
const nothing: readonly never[] = []

function isTemporarySchema(name: string): boolean {
  return name === 'pg_temp' || name.startsWith('pg_temp_')
}

export class FunctionIndex {
  readonly #functions: Layer<FunctionRow>
  readonly #operators: Layer<OperatorRow>
  readonly #major: number
  readonly #types: TypeNames
  /** Bounded by what there is: names that mean nothing are not kept. */
  readonly #made = new Map<Oid, CatalogFunction>()
  readonly #builtins = new Map<string, readonly CatalogFunction[]>()
  readonly #builtinOperators = new Map<string, readonly CatalogOperator[]>()

  constructor(
    functions: Layer<FunctionRow>,
    operators: Layer<OperatorRow>,
    major: number,
    types: TypeNames,
  ) {
    this.#functions = functions
    this.#operators = operators
    this.#major = major
    this.#types = types
  }

  byOid(oid: Oid): CatalogFunction | null {
    const row = this.#functions.get(oid)
    return row === undefined ? null : this.#ofRow(row)
  }

  functions(
    schema: string | null,
    name: string,
    searchPath: readonly string[] | 'unknown',
  ): readonly CatalogFunction[] {
    const rows = this.#functions.named(name)
    if (schema !== null) return this.#functionsIn(schema, name, rows)
    if (searchPath === 'unknown') {
      return [
        ...this.#builtinsIn('pg_catalog', name),
        ...this.#builtinsIn('information_schema', name),
        ...rows.map((row) => this.#ofRow(row)),
      ]
    }
    if (rows.length === 0 && !searchPath.includes('information_schema')) {
      return searchPath.includes('pg_catalog') ? this.#builtinsIn('pg_catalog', name) : nothing
    }
    return firstOfEachSignature(
      searchPath,
      (path) => this.#functionsIn(path, name, rows),
      (candidate) => candidate.argumentTypes.join(),
    )
  }

  #functionsIn(
    schema: string,
    name: string,
    rows: readonly FunctionRow[],
  ): readonly CatalogFunction[] {
    const builtins = this.#builtinsIn(schema, name)
    const own = rows.filter((row) => row.schema === schema)
    return own.length === 0 ? builtins : [...builtins, ...own.map((row) => this.#ofRow(row))]
  }

  #builtinsIn(schema: string, name: string): readonly CatalogFunction[] {
    const isCatalog = schema === 'pg_catalog'
    if (!isCatalog && schema !== 'information_schema') return nothing
    const key = isCatalog ? name : `${schema}.${name}`
    let made = this.#builtins.get(key)
    if (made === undefined) {
      const lookup = isCatalog ? builtinFunctions : informationSchemaFunctions
      const found = lookup(name, this.#major)
      if (found.length === 0) return nothing
      made = found.map((row) => this.#ofBuiltin(schema, row))
      this.#builtins.set(key, made)
    }
    return made
  }

  #ofBuiltin(schema: string, builtin: BuiltinFunction): CatalogFunction {
    const oidOf = (name: string): Oid => this.#types.oidOf(name)
    return {
      schema,
      language: 'internal',
      securityDefiner: false,
      row: null,
      ...builtin,
      argumentTypes: builtin.argumentTypes.map(oidOf),
      returnType: oidOf(builtin.returnType),
      outputs: builtin.outputs.map(({ name, type }) => ({ name, type: oidOf(type) })),
    }
  }

  #ofRow(row: FunctionRow): CatalogFunction {
    const known = this.#made.get(row.oid)
    if (known !== undefined) return known
    const argumentNames = row.argumentTypes.map((oid) => this.#types.nameOf(oid))
    const made: CatalogFunction = {
      oid: row.oid,
      schema: row.schema,
      name: row.name,
      kind: row.kind,
      language: row.language,
      volatility: row.volatility,
      strict: row.strict,
      securityDefiner: row.securityDefiner,
      returnsSet: row.returnsSet,
      variadic: row.variadic,
      defaultCount: row.defaultCount,
      class:
        row.extension !== null && nativeLanguages.has(row.language)
          ? extensionFunctionClass(row.extension, row.name, argumentNames)
          : 'opaque',
      outputForm: null,
      totalIfLiteral: nothing,
      argumentTypes: row.argumentTypes,
      returnType: row.returnType,
      outputs: row.arguments.filter((argument) => outputModes.has(argument.mode)),
      row,
    }
    this.#made.set(row.oid, made)
    return made
  }

  operators(
    schema: string | null,
    name: string,
    searchPath: readonly string[] | 'unknown',
  ): readonly CatalogOperator[] {
    const rows = this.#operators.named(name)
    if (schema !== null) return this.#operatorsIn(schema, name, rows)
    if (searchPath === 'unknown') {
      return [...this.#builtinOperatorsNamed(name), ...rows.map((row) => this.#ofOperator(row))]
    }
    if (rows.length === 0) {
      return searchPath.includes('pg_catalog') ? this.#builtinOperatorsNamed(name) : nothing
    }
    return firstOfEachSignature(
      searchPath,
      (path) => this.#operatorsIn(path, name, rows),
      (candidate) => `${candidate.left},${candidate.right}`,
    )
  }

  #operatorsIn(
    schema: string,
    name: string,
    rows: readonly OperatorRow[],
  ): readonly CatalogOperator[] {
    const own = rows.filter((row) => row.schema === schema).map((row) => this.#ofOperator(row))
    if (schema !== 'pg_catalog') return own
    const builtins = this.#builtinOperatorsNamed(name)
    return own.length === 0 ? builtins : [...own, ...builtins]
  }

  #ofOperator(row: OperatorRow): CatalogOperator {
    const called = this.byOid(row.function)
    return { class: called?.class ?? 'opaque', outputForm: null, row, ...row }
  }

  #builtinOperatorsNamed(name: string): readonly CatalogOperator[] {
    let made = this.#builtinOperators.get(name)
    if (made === undefined) {
      const found = builtinOperators(name, this.#major)
      if (found.length === 0) return nothing
      made = found.map((operator) => ({
        schema: 'pg_catalog',
        name,
        left: operator.left === null ? 0 : this.#types.oidOf(operator.left),
        right: this.#types.oidOf(operator.right),
        result: this.#types.oidOf(operator.result),
        class: operator.class,
        outputForm: operator.outputForm,
        row: null,
      }))
      this.#builtinOperators.set(name, made)
    }
    return made
  }
}

/** Along the path an earlier schema hides the same signature of a later one; pg_temp is left out. */
function firstOfEachSignature<T>(
  searchPath: readonly string[],
  candidates: (schema: string) => readonly T[],
  signatureOf: (candidate: T) => string,
): readonly T[] {
  const found: T[] = []
  const hidden = new Set<string>()
  for (const schema of searchPath) {
    if (isTemporarySchema(schema)) continue
    const own = candidates(schema).filter((candidate) => !hidden.has(signatureOf(candidate)))
    for (const candidate of own) {
      hidden.add(signatureOf(candidate))
      found.push(candidate)
    }
  }
  return found
}
