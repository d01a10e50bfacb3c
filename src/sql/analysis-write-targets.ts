/**
 * Which rows a write reaches: those of the relation that it names, and where that is a view that the
 * server updates by itself, those of the relation that it is over, and so on
 * (src/backend/rewrite/rewriteHandler.c, rewriteTargetView).
 */
import type { Through } from './access.ts'
import { parseTrees } from './analysis-bodies.ts'
import { consequences, isReplaced, type Filled } from './analysis-consequences.ts'
import type { Context } from './analysis-context.ts'
import type { Write } from './analysis-triggers.ts'
import { fieldsOf, isFollowedView } from './scope-relations.ts'
import type { RelationRow } from './snapshot.ts'

/** Records what the write sets off, views followed; gives what fills columns, flows recorded. */
export function writeRows(write: Write, through: Through, context: Context): Filled {
  const { relation, action, columns } = write
  const filled = consequences(write, through, context)
  for (const [column, value] of filled) context.recorder.flow(value, column)
  if (!isFollowedView(relation) || action === 'truncate') return filled
  if (context.active.has(relation.oid) || isReplaced(relation, action, context)) return filled
  const base = baseOf(relation, context)
  if (base === null) return filled
  context.recorder.relation(base, action, 'view')
  for (const child of context.catalog.children(base.oid)) {
    if (child.kind !== 'index') context.recorder.relation(child, action, 'partition')
  }
  const names = new Set<string>()
  for (const field of fieldsOf(relation, context)) {
    if (!columns.includes(field.name)) continue
    for (const { column, via } of field.value.sources) {
      if (via === 'direct' && column.relation === base) names.add(column.name)
    }
  }
  const below = writeRows({ ...write, relation: base, columns: [...names] }, 'view', context)
  for (const [column, value] of below) filled.set(column, value)
  return filled
}

/** The one relation in FROM; without it the server updates nothing by itself. */
function baseOf(view: RelationRow, context: Context): RelationRow | null {
  const [tree] = parseTrees(view.definition ?? '', context) ?? []
  if (tree === undefined || !('SelectStmt' in tree)) return null
  const [only, ...others] = tree.SelectStmt.fromClause ?? []
  if (only === undefined || others.length > 0 || !('RangeVar' in only)) return null
  const { schemaname = '', relname = '' } = only.RangeVar
  return context.catalog.relation(schemaname, relname)
}
