/**
 * Statements about objects by name: DROP, TRUNCATE, COMMENT, GRANT, LOCK, maintenance, and every
 * DDL statement that names no data (types, roles, extensions …).
 */
import type { AlterDomainStmt, Node, RangeVar } from '@pgsql/types'
import { stringsOf, tagOf, type Context } from './analysis-context.ts'
import { pathKey } from './search-path.ts'
import { consequences } from './analysis-consequences.ts'
import { resolveType } from './expression-operators.ts'
import { unknownValue } from './lineage.ts'
import { queryItem } from './scope-from.ts'
import { recordRelations, resolveRelations } from './scope-relations.ts'
import { Scope } from './scope.ts'
import type { RelationRow } from './snapshot.ts'
import { cascades } from './utility-cascade.ts'
import { keepCopiesOfFunction, keepCopiesOfView } from './utility-copies.ts'
import {
  actOn,
  functionObjects,
  nameAsRelation,
  namesOfObject,
  touchColumn,
  touchColumns,
  touchSchema,
  useColumns,
} from './utility-targets.ts'

const relationObjects: ReadonlySet<string> = new Set([
  'OBJECT_TABLE',
  'OBJECT_VIEW',
  'OBJECT_MATVIEW',
  'OBJECT_FOREIGN_TABLE',
  'OBJECT_SEQUENCE',
  'OBJECT_INDEX',
])

/** Objects that hang on a relation, whose name is the one before the last: trigger, rule, policy. */
const attachedObjects: ReadonlySet<string> = new Set([
  'OBJECT_TRIGGER',
  'OBJECT_RULE',
  'OBJECT_POLICY',
  'OBJECT_TABCONSTRAINT',
])

export function drop(node: Node, context: Context): null {
  if (!('DropStmt' in node)) return null
  const { objects, removeType = '', missing_ok: missing, behavior } = node.DropStmt
  const dropped: RelationRow[] = []
  for (const object of objects ?? []) {
    const names = namesOfObject(object)
    if (relationObjects.has(removeType)) {
      const fine = missing === true || removeType === 'OBJECT_INDEX'
      const relations = actOn(nameAsRelation(names), 'drop', context, fine)
      touchColumns(relations, context)
      dropped.push(...relations)
      if (removeType === 'OBJECT_VIEW') keepCopiesOfView(names.at(-1) ?? '', context)
    } else if (functionObjects.has(removeType)) {
      keepCopiesOfFunction(names.at(-1) ?? '', context)
    } else if (attachedObjects.has(removeType)) {
      actOn(nameAsRelation(names.slice(0, -1)), 'alter', context, missing === true)
      if (removeType === 'OBJECT_POLICY') context.recorder.effects.add('dcl')
    } else if (removeType === 'OBJECT_SCHEMA') {
      dropped.push(...touchSchema(names.at(-1) ?? '', 'drop', context))
    }
  }
  if (behavior === 'DROP_CASCADE') cascades(dropped, null, context)
  return null
}

export function truncate(node: Node, context: Context): null {
  if (!('TruncateStmt' in node)) return null
  const { relations: named = [], behavior } = node.TruncateStmt
  const emptied = new Set<RelationRow>()
  for (const one of named) {
    if (!('RangeVar' in one)) continue
    const relations = resolveRelations(one.RangeVar, 'truncate', context)
    recordRelations(relations, 'truncate', one.RangeVar.inh === true, context)
    for (const relation of relations) emptied.add(relation)
  }
  // CASCADE empties what refers to them as if it was named: the server asks for the right to, too.
  for (const relation of emptied) {
    consequences({ relation, action: 'truncate', columns: [] }, null, context)
    if (behavior !== 'DROP_CASCADE') continue
    for (const part of [relation, ...context.catalog.children(relation.oid)]) {
      for (const other of context.catalog.referencing(part.oid)) {
        if (emptied.has(other)) continue
        emptied.add(other)
        recordRelations([other], 'truncate', true, context)
      }
    }
  }
  return null
}

export function comment(node: Node, context: Context): null {
  if (!('CommentStmt' in node)) return null
  const { objtype = '', object } = node.CommentStmt
  const names = namesOfObject(object)
  if (relationObjects.has(objtype)) {
    actOn(nameAsRelation(names), 'comment', context, objtype === 'OBJECT_INDEX')
  } else if (objtype === 'OBJECT_COLUMN' || attachedObjects.has(objtype)) {
    actOn(nameAsRelation(names.slice(0, -1)), 'comment', context)
  }
  return null
}

export function grant(node: Node, context: Context): null {
  if (!('GrantStmt' in node)) return null
  const { objtype, objects, targtype, is_grant: isGrant } = node.GrantStmt
  const action = isGrant === true ? 'grant' : 'revoke'
  if (objtype === 'OBJECT_SCHEMA') context.recorder.changesCatalog = true
  if (targtype === 'ACL_TARGET_ALL_IN_SCHEMA') {
    const schemas = new Set(stringsOf(objects))
    for (const relation of context.catalog.snapshot.relations) {
      if (!schemas.has(relation.schema) || relation.kind === 'index') continue
      context.recorder.relation(relation, action, null)
    }
    return null
  }
  if (objtype !== 'OBJECT_TABLE' && objtype !== 'OBJECT_SEQUENCE') return null
  for (const object of objects ?? []) {
    if ('RangeVar' in object) actOn(object.RangeVar, action, context)
  }
  return null
}

/** Who may use a schema, which decides what bare names mean, depends on roles and their members. */
export function changeRole(node: Node, context: Context): null {
  context.recorder.changesCatalog = true
  return otherObject(node, context)
}

export function lock(node: Node, context: Context): null {
  if (!('LockStmt' in node)) return null
  for (const one of node.LockStmt.relations ?? []) {
    if (!('RangeVar' in one)) continue
    const relations = resolveRelations(one.RangeVar, 'lock', context)
    recordRelations(relations, 'lock', one.RangeVar.inh === true, context)
  }
  return null
}

// Maintenance

export function vacuum(node: Node, context: Context): null {
  if (!('VacuumStmt' in node)) return null
  const action = node.VacuumStmt.is_vacuumcmd === true ? 'vacuum' : 'analyze'
  for (const one of node.VacuumStmt.rels ?? []) {
    if (!('VacuumRelation' in one)) continue
    actOn(one.VacuumRelation.relation, action, context)
  }
  return null
}

export function cluster(node: Node, context: Context): null {
  if ('ClusterStmt' in node) actOn(node.ClusterStmt.relation, 'cluster', context)
  return null
}

export function reindex(node: Node, context: Context): null {
  if ('ReindexStmt' in node) actOn(node.ReindexStmt.relation, 'reindex', context, true)
  return null
}

// Schemas and everything else

export function createSchema(node: Node, context: Context): null {
  if (!('CreateSchemaStmt' in node)) return null
  const { schemaname, schemaElts } = node.CreateSchemaStmt
  for (const element of schemaElts ?? []) {
    // The elements are made in the new schema, which is first in their search path.
    const path =
      schemaname === undefined || context.path === 'unknown'
        ? context.path
        : [schemaname, ...context.path]
    context.passes.statement(element, null, { ...context, path, pathText: pathKey(path) })
  }
  return null
}

/** Fields under which statements keep the relation that they are about. */
interface WithRelation {
  readonly relation?: RangeVar
  readonly sequence?: RangeVar
  readonly typevar?: RangeVar
}

/**
 * Everything else: what it names as a relation is recorded; defaults and checks are evaluated.
 * Statements that name no relation have no facts beyond their effects.
 */
export function otherObject(node: Node, context: Context): null {
  const body = bodyAs(node)
  const created = tagOf(node).startsWith('Create') || tagOf(node) === 'CompositeTypeStmt'
  const action = created ? 'create' : 'alter'
  for (const variable of [body.relation, body.sequence, body.typevar]) {
    if (variable !== undefined) actOn(variable, action, context, true)
  }
  if ('AlterOwnerStmt' in node && relationObjects.has(node.AlterOwnerStmt.objectType ?? '')) {
    actOn(nameAsRelation(namesOfObject(node.AlterOwnerStmt.object)), 'alter', context)
  }
  if ('SecLabelStmt' in node && relationObjects.has(node.SecLabelStmt.objtype ?? '')) {
    actOn(nameAsRelation(namesOfObject(node.SecLabelStmt.object)), 'alter', context)
  }
  if ('SecLabelStmt' in node && node.SecLabelStmt.objtype === 'OBJECT_COLUMN') {
    const names = namesOfObject(node.SecLabelStmt.object)
    const relations = actOn(nameAsRelation(names.slice(0, -1)), 'alter', context)
    touchColumn(relations, names.at(-1), context)
  }
  if ('CreateDomainStmt' in node) domainChecks(node.CreateDomainStmt.constraints, context)
  if ('AlterDomainStmt' in node) alterDomain(node.AlterDomainStmt, context)
  publication(node, context)
  return null
}

function bodyAs(node: Node): WithRelation {
  for (const tag in node) return (node as Record<string, WithRelation>)[tag] ?? {}
  return {}
}

/** A new check (C), one that is validated (V) and NOT NULL (O) are held against all columns of it. */
const domainScans: ReadonlySet<string> = new Set(['C', 'V', 'O'])

function alterDomain(node: AlterDomainStmt, context: Context): void {
  if (node.def !== undefined) domainChecks([node.def], context)
  if (!domainScans.has(node.subtype ?? '')) return
  const { type } = resolveType({ names: node.typeName ?? [], typemod: -1 }, context)
  if (type === 0) context.recorder.fail('the domain is not in the catalog')
  const { catalog } = context
  const isOf = (column: number): boolean => {
    let row = catalog.type(column)
    while (row !== null && row.kind === 'domain' && row.oid !== type) row = catalog.type(row.base)
    return row?.oid === type
  }
  for (const relation of catalog.relations()) {
    if (relation.kind === 'view') continue
    const numbers = relation.columns.filter((row) => isOf(row.type)).map((row) => row.number)
    useColumns(relation, numbers, 'condition', context)
  }
}

/** Checks of a domain see only VALUE. */
function domainChecks(nodes: readonly Node[] | undefined, context: Context): void {
  const item = queryItem({ fields: [{ name: 'value', value: unknownValue }], open: false }, '')
  const scope = new Scope(null, [item])
  for (const node of nodes ?? []) {
    if (!('Constraint' in node)) continue
    context.passes.expression(node.Constraint.raw_expr, scope, context)
  }
}

function publication(node: Node, context: Context): void {
  const statement =
    'CreatePublicationStmt' in node
      ? node.CreatePublicationStmt
      : 'AlterPublicationStmt' in node
        ? node.AlterPublicationStmt
        : null
  if (statement?.for_all_tables === true) publishAll(() => true, context)
  for (const object of statement?.pubobjects ?? []) {
    if (!('PublicationObjSpec' in object)) continue
    const { pubobjtype, name = '', pubtable } = object.PublicationObjSpec
    if (pubobjtype === 'PUBLICATIONOBJ_TABLES_IN_SCHEMA') {
      publishAll(({ schema }) => schema === name, context)
    } else if (pubobjtype === 'PUBLICATIONOBJ_TABLES_IN_CUR_SCHEMA') {
      const { path } = context
      publishAll(({ schema }) => path === 'unknown' || path.includes(schema), context)
    } else if (pubtable?.relation !== undefined) {
      touchColumns(actOn(pubtable.relation, 'publish', context), context)
    }
  }
}

/** All that are there now; those that come later are published, too. */
function publishAll(among: (relation: RelationRow) => boolean, context: Context): void {
  const tables = [...context.catalog.relations()].filter(
    (one) =>
      (one.kind === 'table' || one.kind === 'partitioned_table') &&
      !/^(pg_|information_schema$)/.test(one.schema) &&
      among(one),
  )
  for (const table of tables) context.recorder.relation(table, 'publish', null)
  touchColumns(tables, context)
}
