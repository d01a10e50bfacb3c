/**
 * What DROP … CASCADE takes along, as if it was named: views that read what goes, and foreign keys of
 * other tables that refer to it. A right to drop a table is none to drop what others made of it.
 */
import type { Context } from './analysis-context.ts'
import { Recorder } from './analysis-recorder.ts'
import { anyRuntime, runtimeKey } from './search-path.ts'
import type { RelationRow } from './snapshot.ts'
import { touchColumns } from './utility-targets.ts'

/** `column`: only that column of them goes. */
export function cascades(
  dropped: readonly RelationRow[],
  column: string | null,
  context: Context,
): void {
  const { catalog, recorder } = context
  const gone = new Set(dropped.flatMap((one) => [one, ...catalog.children(one.oid)]))
  for (const relation of gone) {
    for (const view of catalog.viewsOver(relation.oid)) {
      if (gone.has(view) || (column !== null && !uses(view, gone, column, context))) continue
      recorder.relation(view, 'drop', null)
      touchColumns([view], context)
    }
    for (const other of catalog.referencing(relation.oid)) {
      if (gone.has(other) || (column !== null && !refersTo(other, relation, column))) continue
      recorder.relation(other, 'alter', null)
    }
  }
}

/** What a definition that cannot be looked into uses may be anything. */
function uses(
  view: RelationRow,
  gone: ReadonlySet<RelationRow>,
  name: string,
  context: Context,
): boolean {
  const aside = { ...context, recorder: new Recorder(), ...anyRuntime }
  const fields = context.passes.view(view, aside)
  const body = context.names.views.get(`${view.oid} ${runtimeKey(anyRuntime)}`)
  if (body === undefined) return true
  const shown = fields.flatMap(({ value }) => value.sources.map(({ column }) => column))
  return [...shown, ...body.recorder.columns.keys()].some(
    (column) => column.name === name && column.relation !== null && gone.has(column.relation),
  )
}

function refersTo(other: RelationRow, relation: RelationRow, name: string): boolean {
  const number = relation.columns.find((row) => row.name === name)?.number ?? 0
  return (other.constraints ?? []).some(
    ({ references }) =>
      references?.relation === relation.oid && references.columns.includes(number),
  )
}
