/**
 * What converting to a type runs: the checks of domains. Analysed once per catalog and search_path.
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
import { plain } from './lineage.ts'
import { Scope } from './scope.ts'
import type { TypeRow } from './snapshot.ts'
import { definitionPath, runtimeKey } from './search-path.ts'

/** Takes over what the checks touch that converting to the type runs. */
export function domainChecks(type: number, context: Context): void {
  for (const row of context.names.checkedDomains(type)) {
    absorbBody(domainBody(row, context), 'generated', [], context)
  }
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
      else own.passes.expression(tree, scope, own)
    }
  }
  const body: Body = { recorder: own.recorder, fields: [], open: false }
  return isCutShort(context) || context.active.has(row.oid)
    ? body
    : remember(context.names.writes, key, body, bodiesMax)
}
