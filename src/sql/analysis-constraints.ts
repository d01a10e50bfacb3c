/**
 * What decides whether a row may be written: checks, keys, exclusions, partition bounds, foreign
 * keys. Their outcome tells about every column that they look at and that the client did not give:
 * the other columns of an updated row, those of the rows it is compared with, and those that a
 * foreign key refers to. What a NULL settles tells nothing.
 *
 * Columns are recorded with the use `condition`, those on the other side of a foreign key and those
 * that refer to a row with `join`. This file knows nothing of syntax trees.
 */
import type { Context } from './analysis-context.ts'
import type { Write } from './analysis-triggers.ts'
import type { ColumnRow, ConstraintRow, RelationRow } from './snapshot.ts'

/** Records what tells whether the write succeeds. */
export function constrain(write: Write, context: Context): void {
  const { relation, action } = write
  if (action === 'truncate') return
  if (action !== 'delete') {
    for (const constraint of relation.constraints ?? []) decided(constraint, write, context)
    for (const parent of context.catalog.parents(relation.oid)) partitionKey(parent, write, context)
  }
  if (action !== 'insert') stillReferenced(write, context)
}

function decided(constraint: ConstraintRow, write: Write, context: Context): void {
  const { relation, action } = write
  const all = constraint.columns.includes(0)
  const columns = relation.columns.filter((row) => all || constraint.columns.includes(row.number))
  const others = columns.filter((row) => !write.columns.includes(row.name))
  const { references } = constraint
  if (action === 'insert') {
    // The checks and the bounds of a new row meet nothing but what it is given.
    if (constraint.kind === 'check' || constraint.kind === 'partition_key') return
    if (isSettled(constraint, others, relation, context)) return
  } else {
    const involved = columns.some((row) => isWritten(row, write, context))
    if (!involved && constraint.validated) return
  }
  if (action === 'update' || references === undefined) conditions(relation, others, context)
  if (references === undefined) return
  const target = context.catalog.relationByOid(references.relation)
  if (target === null) context.recorder.fail('the table of a foreign key is not in the catalog')
  else joins(target, references.columns, context)
}

/** A column that is not given is NULL, which equals nothing, or new by itself (a serial, a uuid). */
function isSettled(
  constraint: ConstraintRow,
  others: readonly ColumnRow[],
  relation: RelationRow,
  context: Context,
): boolean {
  const { kind, nullsPass } = constraint
  if (kind !== 'foreign_key' && (others.length === 0 || others.some(isNew))) return true
  if (!nullsPass) return false
  return others.some((row) => {
    const given = row.default !== null || row.generated !== null || row.identity
    return !given && !mayFill(relation, row, context)
  })
}

/** A trigger gives the column a value only where its function names it, or cannot be read. */
function mayFill(relation: RelationRow, row: ColumnRow, context: Context): boolean {
  return relation.triggers.some((trigger) => {
    const body = context.catalog.functionByOid(trigger.function)?.row?.body ?? null
    return body === null || body.toLowerCase().includes(row.name.toLowerCase())
  })
}

/** Functions that give another value each time. */
const newValue =
  /^(?:pg_catalog\.)?(?:nextval|gen_random_uuid|uuidv4|uuidv7|(?:\w+\.)?uuid_generate_v[14])\(/

function isNew(row: ColumnRow): boolean {
  return row.identity || (row.default !== null && newValue.test(row.default))
}

/** Written, or generated from what is. */
function isWritten(row: ColumnRow, write: Write, context: Context): boolean {
  if (write.columns.includes(row.name)) return true
  if (row.generated === null) return false
  const field = context.passes.table(write.relation, context).find(({ name }) => name === row.name)
  return (field?.value.sources ?? []).some(
    ({ column }) => column.relation === write.relation && write.columns.includes(column.name),
  )
}

function conditions(relation: RelationRow, rows: readonly ColumnRow[], context: Context): void {
  for (const row of rows) {
    context.recorder.column(context.names.column(relation, row), 'generated', 'condition')
    if (row.generated === null) continue
    const field = context.passes.table(relation, context).find(({ name }) => name === row.name)
    for (const { column } of field?.value.sources ?? []) {
      context.recorder.column(column, 'generated', 'condition')
    }
  }
}

/** The bounds of a partition are over the key of its parent, whose columns have the same names. */
function partitionKey(parent: RelationRow, write: Write, context: Context): void {
  if (write.action !== 'update') return
  for (const { kind, columns } of parent.constraints ?? []) {
    if (kind !== 'partition_key') continue
    const names = parent.columns.filter((row) => columns.includes(row.number))
    if (!names.some((row) => write.columns.includes(row.name))) continue
    conditions(
      parent,
      names.filter((row) => !write.columns.includes(row.name)),
      context,
    )
  }
}

function joins(relation: RelationRow, numbers: readonly number[], context: Context): void {
  for (const row of relation.columns) {
    if (!numbers.includes(row.number)) continue
    context.recorder.column(context.names.column(relation, row), 'generated', 'join')
  }
}

// The side that is referred to

/** Foreign keys to the written columns of a row: to all of a deleted one. */
function* referencesTo(write: Write, context: Context): Generator<[RelationRow, ConstraintRow]> {
  const { relation, action, columns } = write
  for (const other of context.catalog.referencing(relation.oid)) {
    for (const constraint of other.constraints ?? []) {
      const { references } = constraint
      if (references?.relation !== relation.oid) continue
      const touched = relation.columns.some(
        (row) => references.columns.includes(row.number) && columns.includes(row.name),
      )
      if (action === 'delete' || touched) yield [other, constraint]
    }
  }
}

/** A row that is still referred to can neither go nor get another key. */
function stillReferenced(write: Write, context: Context): void {
  for (const [other, { columns, references }] of referencesTo(write, context)) {
    if (references === undefined) continue
    const taken = write.action === 'delete' ? references.onDelete : references.onUpdate
    if (taken === 'cascade' || taken === 'set_null') continue
    joins(write.relation, references.columns, context)
    joins(other, columns, context)
  }
}

/** What foreign keys write in turn (CASCADE, SET NULL, SET DEFAULT), each once. */
export function referentialWrites(write: Write, context: Context): readonly Write[] {
  const found: Write[] = []
  if (write.action !== 'delete' && write.action !== 'update') return found
  const { catalog } = context
  const { oid } = write.relation
  if (catalog.referencing(oid).length === 0 && catalog.children(oid).length === 0) return found
  const seen = new Set<string>()
  const queue = [write, ...childrenOf(write, context)]
  for (const one of queue) {
    for (const [relation, { columns, references }] of referencesTo(one, context)) {
      const taken = one.action === 'delete' ? references?.onDelete : references?.onUpdate
      if (taken === undefined || taken === 'no_action' || taken === 'restrict') continue
      const deletes = taken === 'cascade' && one.action === 'delete'
      const key = `${relation.oid} ${deletes ? '' : `${taken} ${columns.join()}`}`
      if (seen.has(key)) continue
      seen.add(key)
      const names = relation.columns.filter((row) => columns.includes(row.number))
      const next: Write = {
        relation,
        action: deletes ? 'delete' : 'update',
        columns: deletes ? [] : names.map((row) => row.name),
        defaulted: taken === 'set_default',
      }
      found.push(next)
      queue.push(next, ...childrenOf(next, context))
    }
  }
  return found
}

function childrenOf(write: Write, context: Context): readonly Write[] {
  return context.catalog.children(write.relation.oid).map((relation) => ({ ...write, relation }))
}
