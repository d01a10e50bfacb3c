/**
 * Copies whose lineage is found through a definition: a materialized view holds what its definition
 * gave when it was refreshed, a stored generated column what its expression gave when the row was
 * written. DDL that gives a view or a function under them another meaning leaves the copies as they
 * are, with nothing that ties them to what they were made from: it counts as copying that.
 */
import { anyRuntime, runtimeKey } from './search-path.ts'
import type { Context } from './analysis-context.ts'
import { Recorder } from './analysis-recorder.ts'
import type { Value } from './lineage.ts'
import type { RelationRow } from './snapshot.ts'

/** Views of that name get another definition, or go. Names alone count: bodies look them up late. */
export function keepCopiesOfView(name: string, context: Context): void {
  keepCopies(context, (recorder) => [...recorder.relations.keys()].some((one) => one.name === name))
}

/** The same of functions; generated columns call them too. */
export function keepCopiesOfFunction(name: string, context: Context): void {
  keepCopies(context, (recorder) =>
    [...recorder.functions.values()].some((one) => one.name === name),
  )
  for (const relation of context.catalog.relations()) {
    for (const row of relation.columns) {
      if (row.generated?.includes(name) !== true) continue
      const fields = context.passes.table(relation, aside(context))
      const value = fields.find((field) => field.name === row.name)?.value
      keep(relation, row.name, value, context)
    }
  }
}

function keepCopies(context: Context, uses: (recorder: Recorder) => boolean): void {
  for (const relation of context.catalog.relations()) {
    if (relation.kind !== 'materialized_view') continue
    const fields = context.passes.view(relation, aside(context))
    const body = context.names.views.get(`${relation.oid} ${runtimeKey(anyRuntime)}`)
    if (body !== undefined && !uses(body.recorder)) continue
    for (const { name, value } of fields) keep(relation, name, value, context)
  }
}

/** Looks something up without recording that the statement touches it. */
function aside(context: Context): Context {
  return { ...context, recorder: new Recorder() }
}

function keep(
  relation: RelationRow,
  name: string,
  value: Value | undefined,
  context: Context,
): void {
  const column = context.names.columnNamed(relation, name)
  if (column === null || value === undefined) return
  if (value.opaque) context.recorder.fail(`what ${relation.name} holds cannot be followed`)
  const sources = value.sources.filter((source) => source.column !== column)
  context.recorder.flow({ ...value, sources }, column)
}
