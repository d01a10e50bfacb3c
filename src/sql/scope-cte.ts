/**
 * WITH clauses (src/backend/parser/parse_cte.c). A CTE is analysed when it is first named, at the
 * latest at the end of its clause, in a scope that sees the CTEs before it (all of them under
 * RECURSIVE). A recursive one is analysed until what its columns hold no longer grows.
 */
import type { SelectStmt, WithClause } from '@pgsql/types'
import { isExhausted, stringsOf, type Context, type QueryShape } from './analysis-context.ts'
import { derive, either, plain, typeOids, unionSources, type Field, type Value } from './lineage.ts'
import { renamed } from './scope-relations.ts'
import { Scope, type Cte } from './scope.ts'

/** Rounds after which every column of a recursive CTE is taken to hold what any of them does. */
const roundsMax = 8

/** Enters the CTEs of a WITH clause into the scope, and analyses them all. */
export function withClause(node: WithClause | undefined, scope: Scope, context: Context): void {
  if (node === undefined) return
  const recursive = node.recursive === true
  const all = new Map<string, Cte>()
  let visible = new Scope(scope.parent, [], null, scope.variables, scope.parameters)
  if (recursive) visible.ctes = all
  const entered: Cte[] = []
  for (const part of node.ctes ?? []) {
    if (!('CommonTableExpr' in part)) continue
    const own = part.CommonTableExpr
    const cte: Cte = {
      node: own,
      recursive,
      state: 'new',
      fields: [],
      open: false,
      partial: false,
      selfReferenced: false,
      scope: visible,
    }
    entered.push(cte)
    all.set(own.ctename ?? '', cte)
    if (!recursive) visible = new Scope(visible, [], new Map([[own.ctename ?? '', cte]]))
  }
  scope.ctes = all
  for (const cte of entered) cteShape(cte, context)
}

/** The columns of a CTE; of one that is being analysed, what is known so far. */
export function cteShape(cte: Cte, context: Context): QueryShape {
  if (cte.state === 'new') analyseCte(cte, context)
  else if (cte.state === 'working') cte.selfReferenced = true
  return { fields: cte.fields, open: cte.open }
}

function analyseCte(cte: Cte, context: Context): void {
  cte.state = 'working'
  const before = context.recorder.partials
  const query = cte.node.ctequery
  if (query === undefined) {
    cte.open = true
  } else if (cte.recursive && 'SelectStmt' in query && query.SelectStmt.op === 'SETOP_UNION') {
    analyseRecursive(cte, query.SelectStmt, context)
  } else {
    take(cte, context.passes.statement(query, cte.scope, context))
  }
  addGenerated(cte, context)
  const reads = query !== undefined && 'SelectStmt' in query
  cte.partial = !reads || context.recorder.partials > before
  cte.state = 'done'
}

function take(cte: Cte, shape: QueryShape | null): void {
  cte.fields = renamed(shape?.fields ?? [], stringsOf(cte.node.aliascolnames))
  cte.open = shape === null || shape.open
}

function analyseRecursive(cte: Cte, query: SelectStmt, context: Context): void {
  const { larg } = query
  if (larg === undefined) {
    cte.open = true
    return
  }
  const own = larg.withClause ?? query.withClause
  const first: SelectStmt = own === undefined ? larg : { ...larg, withClause: own }
  take(cte, context.passes.query(first, cte.scope, context))
  for (let round = 0; round < roundsMax; round += 1) {
    const before = cte.fields
    const beforeOpen = cte.open
    const shape = context.passes.query(query, cte.scope, context)
    const grown = renamed(shape.fields, stringsOf(cte.node.aliascolnames))
    cte.fields = grown.map((field, index) => {
      const known = before[index]
      return known === undefined
        ? field
        : { name: field.name, value: either(known.value, field.value) }
    })
    cte.open ||= shape.open
    if (!cte.selfReferenced || isExhausted(context)) return
    if (beforeOpen === cte.open && same(before, cte.fields)) return
  }
  const everything = cte.fields.reduce<Value>(
    (sum, field) => ({ ...sum, sources: unionSources(sum.sources, field.value.sources) }),
    plain(0),
  )
  cte.fields = cte.fields.map((field) => ({
    name: field.name,
    value: derive([field.value, everything], false, field.value.type),
  }))
}

function same(before: readonly Field[], after: readonly Field[]): boolean {
  if (before.length !== after.length) return false
  return before.every((field, index) => {
    const other = after[index]?.value
    if (other === undefined || other.sources.length !== field.value.sources.length) return false
    if (other.opaque !== field.value.opaque || other.type !== field.value.type) return false
    return field.value.sources.every((source, position) => {
      const now = other.sources[position]
      return now?.column === source.column && now.via === source.via && now.total === source.total
    })
  })
}

/** SEARCH and CYCLE add columns of their own, made from those they name. */
function addGenerated(cte: Cte, context: Context): void {
  const { search_clause: search, cycle_clause: cycle } = cte.node
  if (search === undefined && cycle === undefined) return
  const fields = [...cte.fields]
  const behind = (names: readonly string[], use: 'order' | 'condition', type: number): Value => {
    const values = cte.fields.filter((one) => names.includes(one.name)).map((one) => one.value)
    for (const value of values) context.recorder.use(value, use)
    return derive(values, true, type)
  }
  if (search !== undefined) {
    const value = behind(stringsOf(search.search_col_list), 'order', typeOids.record)
    fields.push({ name: search.search_seq_column ?? '', value })
  }
  if (cycle !== undefined) {
    const columns = stringsOf(cycle.cycle_col_list)
    fields.push({
      name: cycle.cycle_mark_column ?? '',
      value: behind(columns, 'condition', cycle.cycle_mark_value === undefined ? typeOids.bool : 0),
    })
    fields.push({
      name: cycle.cycle_path_column ?? '',
      value: behind(columns, 'condition', 0),
    })
  }
  cte.fields = fields
}
