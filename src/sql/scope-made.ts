/**
 * Relations that the catalog does not have: those a statement makes, and those whose name it could
 * not find. They are rows of the statement's own (oid 0), so that a policy sees their names.
 */
import type { RangeVar } from '@pgsql/types'
import type { Context } from './analysis-context.ts'
import type { ColumnRow, RelationKind, RelationRow } from './snapshot.ts'

/** The schema a written schema name means: pg_temp is the session's own. */
export function actualSchema(name: string, context: Context): string {
  if (name !== 'pg_temp') return name
  context.recorder.dependsOnSession = true
  return context.facts.temporarySchema ?? name
}

/** The schema in which a new relation of that name is made. */
function creationSchema(node: RangeVar, context: Context): string {
  if (node.schemaname !== undefined) return actualSchema(node.schemaname, context)
  context.recorder.dependsOnSession = true
  if (node.relpersistence === 't') return context.facts.temporarySchema ?? 'pg_temp'
  if (context.path === 'unknown') return 'unknown'
  const own = context.path.filter((name) => name !== 'pg_catalog' && !name.startsWith('pg_temp'))
  // The first that there is; `$user` mostly is none.
  return own.find((name) => context.catalog.schema(name) !== null) ?? 'unknown'
}

/** A relation that the catalog does not have (yet): oid 0. */
export function newRelation(
  node: RangeVar,
  kind: RelationKind,
  columns: readonly string[],
  context: Context,
): RelationRow {
  return {
    oid: 0,
    schema: creationSchema(node, context),
    name: node.relname ?? '',
    kind,
    rowType: 0,
    columns: columns.map(newColumn),
    definition: null,
    parents: [],
    isPartition: false,
    rowSecurity: false,
    rules: [],
    triggers: [],
    expressions: [],
    temporary: node.relpersistence === 't',
  }
}

function newColumn(name: string, index: number): ColumnRow {
  return {
    number: index + 1,
    name,
    type: 0,
    modifier: -1,
    notNull: false,
    default: null,
    generated: null,
    identity: false,
  }
}
