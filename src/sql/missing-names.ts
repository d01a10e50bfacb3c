/**
 * Names that a statement writes and the catalog does not have, in the words of the server: it would
 * refuse them in parse analysis, before it reads a row (errorMissingColumn and errorMissingRTE in
 * src/backend/parser/parse_relation.c). Whoever wrote the name can correct it by them.
 *
 * Only for names of the statement's own text: a body has a text, and a recorder, of its own.
 */
import type { RangeVar } from '@pgsql/types'
import { nearest } from '../core/core.ts'
import type { Context } from './analysis-context.ts'
import { findItem, type Scope } from './scope.ts'
import type { RelationRow } from './snapshot.ts'

/** A column reference means nothing in this scope. */
export function missingColumn(
  names: readonly string[],
  at: number | undefined,
  scope: Scope,
  context: Context,
): void {
  const name = names.at(-1) ?? ''
  const qualifier = names.at(-2)
  const known = qualifier === undefined || findItem(scope, qualifier) !== null
  if (!known) {
    const message = `missing FROM-clause entry for table "${qualifier}"`
    context.recorder.lacks({ sqlstate: '42P01', message, hint: null, at: at ?? 0 })
    return
  }
  const written = qualifier === undefined ? `"${name}"` : `${qualifier}.${name}`
  const meant = similarColumn(name, qualifier ?? null, scope)
  context.recorder.lacks({
    sqlstate: '42703',
    message: `column ${written} does not exist`,
    hint: meant === null ? null : `Perhaps you meant to reference the column "${meant}".`,
    at: at ?? 0,
  })
}

/** The column in reach whose name is nearest, as the server writes it. */
function similarColumn(name: string, qualifier: string | null, start: Scope): string | null {
  const reach = new Map<string, string>()
  for (let scope: Scope | null = start; scope !== null; scope = scope.parent) {
    for (const item of scope.items) {
      if (qualifier !== null && item.name !== qualifier) continue
      for (const field of item.fields) {
        if (reach.has(field.name)) continue
        reach.set(field.name, item.name === '' ? field.name : `${item.name}.${field.name}`)
      }
    }
  }
  const meant = nearest(name, [...reach.keys()])
  return meant === null ? null : (reach.get(meant) ?? null)
}

/** No relation has the name, which is written so. */
export function missingRelation(
  node: RangeVar,
  written: string,
  at: number | null,
  context: Context,
): void {
  if (node.catalogname !== undefined && node.catalogname !== context.catalog.database) return
  const message = `relation "${written}" does not exist`
  context.recorder.lacks({ sqlstate: '42P01', message, hint: null, at })
}

/** INSERT, UPDATE, MERGE or COPY writes a column that the relation has not. */
export function missingTarget(
  name: string,
  relation: RelationRow,
  at: number | null,
  context: Context,
): void {
  const meant = nearest(
    name,
    relation.columns.map((column) => column.name),
  )
  context.recorder.lacks({
    sqlstate: '42703',
    message: `column "${name}" of relation "${relation.name}" does not exist`,
    hint: meant === null ? null : `Perhaps you meant to reference the column "${meant}".`,
    at,
  })
}

/** USING names a column that one side of the join has not. */
export function missingUsing(name: string, side: 'left' | 'right', context: Context): void {
  context.recorder.lacks({
    sqlstate: '42703',
    message: `column "${name}" specified in USING clause does not exist in ${side} table`,
    hint: null,
    at: null,
  })
}
