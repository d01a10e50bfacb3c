/**
 * Reads a CatalogSnapshot from a server: one repeatable-read snapshot, in pages, giving way to the
 * event loop between them, so that ten thousand relations stall nobody. Works as an ordinary role:
 * nothing that it reads is a secret.
 */
import { setImmediate as turn } from 'node:timers/promises'
import {
  Catalog,
  type CatalogOverlay,
  type CatalogSnapshot,
  type CastRow,
  type ColumnRow,
  type ConstraintRow,
  type FunctionRow,
  type OperatorRow,
  type ReferentialAction,
  type RelationKind,
  type RelationRow,
  type SchemaRow,
  type TypeKind,
  type TypeRow,
} from '../sql/sql.ts'
import {
  castsQuery,
  changedObjects,
  extensionsQuery,
  functionsQuery,
  headerQuery,
  loaderPath,
  operatorsQuery,
  presentQuery,
  relationsQuery,
  schemasQuery,
  storedSettingsQuery,
  typesQuery,
  type Scope,
} from './catalog-queries.ts'

/**
 * Runs statements one after the other in one transaction if it can (a session outside a transaction
 * block sends them in one Sync segment) and gives the rows of all of them, every value as text.
 */
export type CatalogQuery = (
  texts: readonly string[],
) => Promise<readonly (readonly (string | null)[])[]>

/** A catalog, and what is needed to see later whether it still is the server's. */
export interface LoadedCatalog {
  readonly catalog: Catalog
  /** pg_current_snapshot of the read. */
  readonly visible: string
  /** Oldest transaction (32 bits) that this read might not have seen. */
  readonly since: string
}

const pageRows = 500
/** Rows decoded between two turns of the event loop. */
const turnRows = 100

/** The whole catalog of the database that `query` is connected to. The connection must be idle. */
export async function loadCatalog(query: CatalogQuery): Promise<LoadedCatalog> {
  return await reading(query, async () => {
    const header = await one(query, headerQuery)
    const snapshot: CatalogSnapshot = {
      format: 1,
      database: String(header['database']),
      serverVersion: Number(header['version']),
      schemas: await rows(query, schemasQuery, decodeSchema),
      types: await pages(query, typesQuery, decodeType),
      relations: await pages(query, relationsQuery, decodeRelation),
      functions: await pages(query, functionsQuery, decodeFunction),
      operators: await pages(query, operatorsQuery, decodeOperator),
      casts: await rows(query, castsQuery, decodeCast),
      extensions: await rows(query, extensionsQuery, decodeExtension),
      storedSettings: await rows(query, storedSettingsQuery, decodeStoredSetting),
    }
    return {
      catalog: await Catalog.load(snapshot, turn),
      visible: String(header['snapshot']),
      since: String(header['xmin']),
    }
  })
}

/** What changed since `before` was loaded, applied to it: cheap where little did. */
export async function reloadCatalog(
  query: CatalogQuery,
  before: LoadedCatalog,
): Promise<LoadedCatalog> {
  return await reading(query, async () => {
    const header = await one(query, headerQuery)
    const { overlay, storedSettings } = await readChanges(query, before)
    return {
      catalog: await before.catalog.reload(overlay, storedSettings, turn),
      visible: String(header['snapshot']),
      since: String(header['xmin']),
    }
  })
}

async function reading<T>(query: CatalogQuery, read: () => Promise<T>): Promise<T> {
  await query(['BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY'])
  try {
    // A definition is deparsed under a lock on what it names, which DDL of an open transaction holds
    // against it: perhaps that of the very session that waits for this read.
    await query([
      `SET LOCAL search_path = ${loaderPath}`,
      `SET LOCAL lock_timeout = '${lockMsMax}'`,
    ])
    return await read()
  } catch (error) {
    throw lockNotAvailable(error) ? new CatalogLocked({ cause: error }) : error
  } finally {
    await query(['COMMIT'])
  }
}

const lockMsMax = 2_000

/** A definition cannot be read while a transaction with DDL on what it names is open. */
export class CatalogLocked extends Error {
  override readonly name = 'CatalogLocked'

  constructor(details: { readonly cause: unknown }) {
    super(
      'the catalog cannot be read while a transaction holds a table exclusively ' +
        '(ALTER TABLE, VACUUM FULL, LOCK); try again when it has ended',
      details,
    )
  }
}

/** SQLSTATE 55P03, as `pg` (code) and as a ProxyError (sqlstate) carry it. */
function lockNotAvailable(error: unknown): boolean {
  const { code, sqlstate } = error as { readonly code?: unknown; readonly sqlstate?: unknown }
  return code === '55P03' || sqlstate === '55P03'
}

/** What a session sees by itself: its uncommitted DDL and its temporary objects. */
export interface SessionOverlay {
  readonly overlay: CatalogOverlay
  /** Its pg_temp_N, null while it has none. */
  readonly temporarySchema: string | null
}

/**
 * What a session's open transaction sees that `base` does not know. Runs on that session's own
 * connection and leaves no trace but a snapshot: the path is put back at once, and where a
 * statement fails the transaction is undone, and the path with it.
 */
export async function loadOverlay(
  query: CatalogQuery,
  base: LoadedCatalog,
): Promise<SessionOverlay> {
  let temporarySchema: string | null = null
  const { overlay } = await readChanges(async (texts) => {
    const found = await query([
      `SELECT pg_catalog.set_config('regate.search_path', pg_catalog.current_setting('search_path'), true)`,
      `SELECT pg_catalog.set_config('search_path', '${loaderPath}', true)`,
      ...texts,
      `SELECT 'temporary', nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()`,
      `SELECT set_config('search_path', current_setting('regate.search_path'), true)`,
    ])
    temporarySchema = found.find((row) => row[0] === 'temporary')?.[1] ?? null
    return found
  }, base)
  return { overlay, temporarySchema }
}

interface Changes {
  readonly overlay: CatalogOverlay
  readonly storedSettings: CatalogSnapshot['storedSettings']
  /** Relation → triggers, rules, parents, expressions and constraints that it has now. */
  readonly attached: ReadonlyMap<number, number>
}

/** The changes, and the relations that lost something without being written to. */
async function readChanges(query: CatalogQuery, before: LoadedCatalog): Promise<Changes> {
  const changes = await decodeChanges(await query(changeTexts(before.since)))
  await turn()
  const read = new Set(changes.overlay.changed.relations.map((relation) => relation.oid))
  const present = new Set(changes.overlay.present.relations)
  const stale = [...before.catalog.relations()]
    .filter((relation) => !read.has(relation.oid) && present.has(relation.oid))
    .filter((relation) => !systemSchemas.has(relation.schema))
    .filter((relation) => attachedTo(relation) !== (changes.attached.get(relation.oid) ?? 0))
  await turn()
  if (stale.length === 0) return changes
  const scope: Scope = { kind: 'oids', oids: stale.map((relation) => relation.oid) }
  const found = await query([tagged('relation', relationsQuery(scope, 0, allRows))])
  const again = found
    .filter(([tag]) => tag === 'relation')
    .map(([, text]) => decodeRelation(JSON.parse(text ?? 'null') as Json))
  const { overlay } = changes
  const relations = [...overlay.changed.relations, ...again]
  return { ...changes, overlay: { ...overlay, changed: { ...overlay.changed, relations } } }
}

const allRows = 2_000_000_000

const systemSchemas: ReadonlySet<string> = new Set(['pg_catalog', 'information_schema'])

function attachedTo(relation: RelationRow): number {
  const { triggers, rules, expressions, constraints = [], parents } = relation
  return [triggers, rules, expressions, constraints, parents].reduce(
    (n, list) => n + list.length,
    0,
  )
}

/** The texts that read all changes since a transaction id; each row says what it is. */
function changeTexts(since: string): readonly string[] {
  if (!/^\d{1,10}$/.test(since)) throw new TypeError('a transaction id is a number')
  const scope: Scope = { kind: 'since', xid: since }
  const changed = [
    tagged('relation', relationsQuery(scope, 0, allRows)),
    tagged('type', typesQuery(scope, 0, allRows)),
    tagged('function', functionsQuery(scope, 0, allRows)),
    tagged('operator', operatorsQuery(scope, 0, allRows)),
  ]
  return [
    tagged('schema', schemasQuery),
    `${changedObjects(since)} ${changed.join(' UNION ALL ')}`,
    tagged('cast', castsQuery),
    tagged('extension', extensionsQuery),
    tagged('setting', storedSettingsQuery),
    tagged('present', presentQuery),
  ]
}

function tagged(tag: string, text: string): string {
  return `SELECT '${tag}', found.row FROM (${text}) AS found`
}

async function decodeChanges(found: readonly (readonly (string | null)[])[]): Promise<Changes> {
  const decoded = new Map<string, Json[]>()
  for (const [index, [tag, text]] of found.entries()) {
    if (index % turnRows === turnRows - 1) await turn()
    if (tag === null || tag === undefined || text === null || text === undefined) continue
    if (!text.startsWith('{')) continue
    const list = decoded.get(tag) ?? []
    decoded.set(tag, list)
    list.push(JSON.parse(text) as Json)
  }
  const all = <T>(tag: string, decode: (row: Json) => T): T[] =>
    (decoded.get(tag) ?? []).map(decode)
  await turn()
  const [present] = all('present', (row) => row as unknown as Present)
  if (present === undefined) throw new Error('the server did not say which objects are there')
  return {
    overlay: {
      changed: {
        relations: all('relation', decodeRelation),
        types: all('type', decodeType),
        functions: all('function', decodeFunction),
        operators: all('operator', decodeOperator),
      },
      present,
      schemas: all('schema', decodeSchema),
      casts: all('cast', decodeCast),
      extensions: all('extension', decodeExtension),
    },
    storedSettings: all('setting', decodeStoredSetting),
    attached: new Map(present.attached),
  }
}

type Present = CatalogOverlay['present'] & {
  readonly attached: readonly (readonly [number, number])[]
}

type Json = Readonly<Record<string, unknown>>

async function rows<T>(query: CatalogQuery, text: string, decode: (row: Json) => T): Promise<T[]> {
  const found = await query([text])
  const decoded: T[] = []
  for (const [index, [row]] of found.entries()) {
    if (index % turnRows === turnRows - 1) await turn()
    decoded.push(decode(JSON.parse(row ?? 'null') as Json))
  }
  return decoded
}

async function one(query: CatalogQuery, text: string): Promise<Json> {
  const [row] = await rows(query, text, (found) => found)
  if (row === undefined) throw new Error('the server answered a catalog query with no row')
  return row
}

async function pages<T extends { readonly oid: number }>(
  query: CatalogQuery,
  text: (scope: Scope, after: number, limit: number) => string,
  decode: (row: Json) => T,
): Promise<T[]> {
  const all: T[] = []
  for (;;) {
    const page = await rows(query, text({ kind: 'all' }, all.at(-1)?.oid ?? 0, pageRows), decode)
    for (const row of page) all.push(row)
    if (page.length < pageRows) return all
    await turn()
  }
}

function decodeSchema(row: Json): SchemaRow {
  const { oid, name, users } = row
  return {
    oid: oid as number,
    name: name as string,
    ...(users === null ? {} : { users: users as string[] }),
  }
}

function decodeOperator(row: Json): OperatorRow {
  return row as unknown as OperatorRow
}

function decodeExtension(row: Json): CatalogSnapshot['extensions'][number] {
  return { name: String(row['name']), schema: String(row['schema']) }
}

function decodeStoredSetting(row: Json): CatalogSnapshot['storedSettings'][number] {
  return row as unknown as CatalogSnapshot['storedSettings'][number]
}

const relationKinds: Readonly<Record<string, RelationKind>> = {
  r: 'table',
  p: 'partitioned_table',
  v: 'view',
  m: 'materialized_view',
  f: 'foreign_table',
  S: 'sequence',
  c: 'composite_type',
  i: 'index',
  I: 'index',
  t: 'toast',
}

function decodeRelation(row: Json): RelationRow {
  const { owner, reads, extension, ofType, columns, constraints, kind, ...rest } = row
  return {
    kind: relationKinds[String(kind)] ?? 'table',
    columns: (columns as unknown[][]).map(decodeColumn),
    constraints: (constraints as unknown[][]).map(decodeConstraint),
    ...(rest as unknown as Omit<RelationRow, 'kind' | 'columns' | 'constraints'>),
    ...(owner === null ? {} : { owner: owner as number }),
    ...(reads === null ? {} : { reads: reads as number[] }),
    ...(extension === null ? {} : { extension: extension as string }),
    ...(ofType === 0 ? {} : { ofType: ofType as number }),
  }
}

function decodeColumn(cells: readonly unknown[]): ColumnRow {
  const [number, name, type, modifier, notNull, expression, generated, identity, collation] = cells
  const text = expression as string | null
  return {
    number: number as number,
    name: name as string,
    type: type as number,
    modifier: modifier as number,
    notNull: notNull as boolean,
    default: generated === '' ? text : null,
    generated: generated === '' ? null : text,
    identity: identity !== '',
    ...(collation === null ? {} : { collation: collation as string }),
  }
}

const constraintKinds: Readonly<Record<string, ConstraintRow['kind']>> = {
  c: 'check',
  n: 'not_null',
  p: 'primary_key',
  u: 'unique',
  x: 'exclusion',
  f: 'foreign_key',
  k: 'partition_key',
}
const referentialActions: Readonly<Record<string, ReferentialAction>> = {
  a: 'no_action',
  r: 'restrict',
  c: 'cascade',
  n: 'set_null',
  d: 'set_default',
}

function decodeConstraint(cells: readonly unknown[]): ConstraintRow {
  const [kind, columns, nullsPass, validated, relation, referenced, onUpdate, onDelete] = cells
  const row = {
    kind: constraintKinds[String(kind)] ?? 'check',
    columns: columns as number[],
    nullsPass: nullsPass as boolean,
    validated: validated as boolean,
  }
  if (kind !== 'f') return row
  return {
    references: {
      relation: relation as number,
      columns: referenced as number[],
      onUpdate: referentialActions[String(onUpdate)] ?? 'no_action',
      onDelete: referentialActions[String(onDelete)] ?? 'no_action',
    },
    ...row,
  }
}

const typeKinds: Readonly<Record<string, TypeKind>> = {
  b: 'base',
  c: 'composite',
  d: 'domain',
  e: 'enum',
  p: 'pseudo',
  r: 'range',
  m: 'multirange',
}

function decodeType(row: Json): TypeRow {
  return { ...(row as unknown as TypeRow), kind: typeKinds[String(row['kind'])] ?? 'base' }
}

const functionKinds: Readonly<Record<string, FunctionRow['kind']>> = {
  f: 'function',
  p: 'procedure',
  a: 'aggregate',
  w: 'window',
}
const volatilities: Readonly<Record<string, FunctionRow['volatility']>> = {
  i: 'immutable',
  s: 'stable',
  v: 'volatile',
}
const argumentModes: Readonly<Record<string, FunctionRow['arguments'][number]['mode']>> = {
  i: 'in',
  o: 'out',
  b: 'inout',
  v: 'variadic',
  t: 'table',
}

function decodeFunction(row: Json): FunctionRow {
  const given = row['arguments'] as readonly { name: string; mode: string; type: number }[]
  return {
    ...(row as unknown as FunctionRow),
    kind: functionKinds[String(row['kind'])] ?? 'function',
    volatility: volatilities[String(row['volatility'])] ?? 'volatile',
    arguments: given.map(({ name, mode, type }) => ({
      name,
      mode: argumentModes[mode] ?? 'in',
      type,
    })),
  }
}

function decodeCast(row: Json): CastRow {
  const context = String(row['context'])
  const method = String(row['method'])
  return {
    source: Number(row['source']),
    target: Number(row['target']),
    function: Number(row['function']),
    context: context === 'i' ? 'implicit' : context === 'a' ? 'assignment' : 'explicit',
    method: method === 'f' ? 'function' : method === 'b' ? 'binary' : 'inout',
  }
}
