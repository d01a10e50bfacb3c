/**
 * What converting to a type runs: the checks of domains, and casts that users made; and what fills a
 * column of a domain, its default. Analysed once per catalog and search_path.
 *
 * A cast runs where nothing names it: in an assignment, as an argument, where a condition is wanted.
 * All casts from and to a type count where a value of it comes up; those that read nothing besides
 * their argument leave no trace.
 */
import {
  absorbBody,
  bodiesMax,
  bodyContext,
  isCutShort,
  parseExpression,
} from './analysis-bodies.ts'
import type { Context } from './analysis-context.ts'
import { namesOf, type Body } from './analysis-names.ts'
import type { Catalog } from './catalog.ts'
import { remember } from './expression-operators.ts'
import { Recorder } from './analysis-recorder.ts'
import { everythingRead } from './analysis-plpgsql.ts'
import { opaqueValue, plain, type Value } from './lineage.ts'
import { Scope } from './scope.ts'
import type { CastRow, TypeRow } from './snapshot.ts'
import { definitionPath, runtimeKey } from './search-path.ts'

/** Takes over what the checks touch that converting to the type runs. */
export function domainChecks(type: number, context: Context): void {
  for (const row of context.names.checkedDomains(type)) {
    absorbBody(domainBody(row, context), 'generated', [], context)
  }
  userCasts(type, context)
}

/** Takes over what casts of users from or to the type read; 0 is a type that is not known. */
export function userCasts(type: number, context: Context): void {
  for (const cast of context.names.castsOf(type)) {
    const body = castBody(cast, context)
    if (body !== null) absorbBody(body, 'function', [], context)
  }
}

/** What the function of a cast reads besides its argument; null where that is nothing. */
function castBody(cast: CastRow, context: Context): Body | null {
  const called = context.catalog.functionByOid(cast.function)
  // The call converts to and from the type again; its negative stands for the cast itself.
  if (called === null || context.active.has(-cast.function)) return null
  const key = `cast ${cast.function} ${runtimeKey(context)}`
  let body = context.names.writes.get(key)
  if (body === undefined) {
    const own: Context = {
      ...context,
      recorder: new Recorder(),
      active: new Set([...context.active, -cast.function]),
      depth: { value: 0 },
      lastScalarName: { value: null },
    }
    const value = own.passes.callFunction([called], [plain(cast.source)], own)
    own.recorder.use({ ...value, total: false }, 'argument')
    own.recorder.use(everythingRead(own.recorder), 'argument')
    body = { recorder: own.recorder, fields: [], open: false }
    if (!isCutShort(context)) remember(context.names.writes, key, body, bodiesMax)
  }
  const { columns, incomplete } = body.recorder
  return columns.size === 0 && incomplete.size === 0 ? null : body
}

/** What a column of the type is filled with that has no default of its own; null for nothing. */
export function domainDefault(type: number, context: Context): Value | null {
  const text = context.catalog.type(type)?.default ?? null
  if (text === null) return null
  const tree = parseExpression(text, context)
  if (tree !== null) return context.passes.expression(tree, new Scope(null), context)
  context.recorder.fail('the default of a domain does not parse')
  return opaqueValue
}

/**
 * The domain whose checks name more than the value and what the server has itself, where the server
 * runs them because a client declares this type for a parameter; null where there is none.
 */
export function checkedElsewhere(catalog: Catalog, type: number): TypeRow | null {
  const named = (text: string): boolean => qualifiedName.test(text.replaceAll(literal, ''))
  return (
    namesOf(catalog)
      .checkedDomains(type)
      .find(({ checks }) => checks.some(named)) ?? null
  )
}

/** In a definition of the catalog loader everything that is not of pg_catalog has its schema. */
const qualifiedName = /["\w$]\.["\p{L}_]/u
const literal = /'(?:[^']|'')*'/g

function domainBody(row: TypeRow, context: Context): Body {
  const key = `domain ${row.oid} ${runtimeKey(context)}`
  const known = context.names.writes.get(key)
  if (known !== undefined) return known
  const own = bodyContext(row.oid, definitionPath(context), context)
  const field = { name: 'value', value: plain(row.base) }
  const scope = new Scope(null, [
    {
      name: '',
      ...{ relation: null, system: null, fields: [field], rowType: 0, open: false },
      ...{ relationVisible: false, columnsVisible: true },
    },
  ])
  if (!context.active.has(row.oid)) {
    for (const text of row.checks) {
      const tree = parseExpression(text, own)
      if (tree === null) own.recorder.fail(`a check of domain ${row.name} does not parse`)
      else own.recorder.use(own.passes.expression(tree, scope, own), 'condition')
    }
  }
  const body: Body = { recorder: own.recorder, fields: [], open: false }
  return isCutShort(context) || context.active.has(row.oid)
    ? body
    : remember(context.names.writes, key, body, bodiesMax)
}
