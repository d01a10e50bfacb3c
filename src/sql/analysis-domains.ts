/**
 * What converting to a type runs: the checks of domains. Analysed once per catalog and search_path.
 */
import {
  absorbBody,
  bodiesMax,
  bodyContext,
  definitionPath,
  isCutShort,
  parseExpression,
  pathKey,
} from './analysis-bodies.ts'
import type { Context } from './analysis-context.ts'
import type { Body } from './analysis-names.ts'
import { remember } from './expression-operators.ts'
import { plain } from './lineage.ts'
import { Scope } from './scope.ts'
import type { TypeRow } from './snapshot.ts'

/** Takes over what the checks touch that converting to the type runs. */
export function domainChecks(type: number, context: Context): void {
  for (const row of context.names.checkedDomains(type)) {
    absorbBody(domainBody(row, context), 'generated', [], context)
  }
}

function domainBody(row: TypeRow, context: Context): Body {
  const key = `domain ${row.oid} ${pathKey(context.runtimePath)}`
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
