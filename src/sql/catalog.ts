/**
 * The index over a catalog snapshot that names are resolved against, as the server resolves them
 * (src/backend/catalog/namespace.c). Immutable; a session's uncommitted DDL makes a new Catalog
 * (`with`), a layer over this one. Built-in functions, operators, casts and types come from the
 * tables behind classes.ts, everything else from the snapshot.
 *
 * A lookup that finds nothing says so (null, an empty list): it never guesses.
 */
import { createHash } from 'node:crypto'
import { FunctionIndex, type CatalogFunction, type CatalogOperator } from './catalog-functions.ts'
import { Layer, rowHash } from './catalog-layer.ts'
import { builtinTypes, rowTypeOf } from './catalog-types.ts'
import {
  builtinType,
  extensionRelationClass,
  systemRelationClass,
  type SystemRelationClass,
} from './classes.ts'
import type {
  CastRow,
  CatalogSnapshot,
  ColumnRow,
  FunctionRow,
  Oid,
  OperatorRow,
  RelationRow,
  SchemaRow,
  TypeRow,
} from './snapshot.ts'

export type { CatalogFunction, CatalogOperator } from './catalog-functions.ts'

/** What a session sees that is not committed yet: changed rows, and the oids that are left. */
export interface CatalogOverlay {
  readonly changed: Pick<CatalogSnapshot, 'relations' | 'types' | 'functions' | 'operators'>
  readonly present: {
    readonly relations: readonly Oid[]
    readonly types: readonly Oid[]
    readonly functions: readonly Oid[]
    readonly operators: readonly Oid[]
  }
  /** All of them, by oid. */
  readonly schemas: readonly SchemaRow[]
  readonly casts: readonly CastRow[]
  readonly extensions: CatalogSnapshot['extensions']
}

/** The columns every table has, by attribute number (src/backend/catalog/heap.c). */
export const systemColumns: readonly ColumnRow[] = [
  systemColumn(-1, 'ctid', 27),
  systemColumn(-2, 'xmin', 28),
  systemColumn(-3, 'cmin', 29),
  systemColumn(-4, 'xmax', 28),
  systemColumn(-5, 'cmax', 29),
  systemColumn(-6, 'tableoid', 26),
]

function systemColumn(number: number, name: string, type: Oid): ColumnRow {
  return {
    number,
    name,
    type,
    modifier: -1,
    notNull: true,
    default: null,
    generated: null,
    identity: false,
  }
}

const relationKindsWithRows: ReadonlySet<string> = new Set([
  'table',
  'partitioned_table',
  'materialized_view',
  'foreign_table',
  'sequence',
  'toast',
])

const nothing: readonly never[] = []

/** Rows indexed between two turns of the event loop by `Catalog.load`. */
const rowsPerTurn = 250
/** Layers of committed changes, above which everything is indexed anew. */
const depthMax = 8

/** What a relation is found under beside its oid and name: a kind and an oid in one number. */
const keyOf = {
  rowType: (oid: Oid) => 2 ** 33 + oid,
  rowArrayType: (oid: Oid) => 2 ** 34 + oid,
  parent: (oid: Oid) => 2 ** 35 + oid,
  reads: (oid: Oid) => 2 ** 36 + oid,
  references: (oid: Oid) => 2 ** 37 + oid,
}

function relationKeys(row: RelationRow): readonly number[] {
  const keys = row.parents.map(keyOf.parent)
  if (row.rowType !== 0) keys.push(keyOf.rowType(row.rowType))
  if ((row.rowArrayType ?? 0) !== 0) keys.push(keyOf.rowArrayType(row.rowArrayType ?? 0))
  for (const read of row.reads ?? nothing) keys.push(keyOf.reads(read))
  const referenced = new Set<Oid>()
  for (const { references } of row.constraints ?? nothing) {
    if (references !== undefined) referenced.add(references.relation)
  }
  for (const oid of referenced) keys.push(keyOf.references(oid))
  return keys
}

/** The rows that have an index of their own. */
interface Layers {
  readonly relations: Layer<RelationRow>
  readonly types: Layer<TypeRow>
  readonly functions: Layer<FunctionRow>
  readonly operators: Layer<OperatorRow>
}

/** All of a snapshot but the rows of the layers. */
type Rest = Omit<CatalogSnapshot, keyof Layers>

export class Catalog {
  readonly database: string
  readonly serverVersion: number
  /** 14 to 18. */
  readonly majorVersion: number
  readonly #rest: Rest
  readonly #layers: Layers
  readonly #schemas: ReadonlyMap<string, SchemaRow>
  /** Schemas that not everybody may use, and who may. */
  readonly #users = new Map<string, ReadonlySet<string>>()
  readonly #casts = new Map<Oid, CastRow[]>()
  readonly #calls: FunctionIndex
  readonly #columns = new WeakMap<RelationRow, ReadonlyMap<string, ColumnRow>>()
  readonly #rowTypes = new Map<Oid, TypeRow>()
  #snapshot: CatalogSnapshot | null
  #fingerprint: string | null = null

  private constructor(rest: Rest, layers: Layers, snapshot: CatalogSnapshot | null) {
    this.#rest = rest
    this.#layers = layers
    this.#snapshot = snapshot
    this.database = rest.database
    this.serverVersion = rest.serverVersion
    this.majorVersion = Math.floor(rest.serverVersion / 10_000)
    this.#schemas = new Map(rest.schemas.map((schema) => [schema.name, schema]))
    for (const { name, users } of rest.schemas) {
      if (users !== undefined) this.#users.set(name, new Set(users))
    }
    for (const cast of rest.casts) {
      const found = this.#casts.get(cast.source)
      if (found === undefined) this.#casts.set(cast.source, [cast])
      else found.push(cast)
    }
    this.#calls = new FunctionIndex(layers.functions, layers.operators, this.majorVersion, {
      oidOf: (name) => this.builtinTypeOid(name),
      nameOf: (type) => this.type(type)?.name ?? '',
    })
  }

  /** The index in one go: for snapshots of moderate size, and for tests. */
  static from(snapshot: CatalogSnapshot): Catalog {
    const layers = emptyLayers()
    for (const row of snapshot.types) layers.types.add(row)
    for (const row of snapshot.relations) layers.relations.add(row)
    for (const row of snapshot.functions) layers.functions.add(row)
    for (const row of snapshot.operators) layers.operators.add(row)
    return new Catalog(restOf(snapshot), layers, snapshot)
  }

  /** The same index with its fingerprint, giving way to the event loop as it goes. */
  static async load(snapshot: CatalogSnapshot, turn: () => Promise<void>): Promise<Catalog> {
    const fill = async <Row extends { readonly oid: Oid; readonly name: string }>(
      layer: Layer<Row>,
      rows: readonly Row[],
    ): Promise<void> => {
      let sum = 0n
      for (const [index, row] of rows.entries()) {
        if (index % rowsPerTurn === 0) await turn()
        layer.add(row)
        sum += rowHash(row)
      }
      layer.knowSum(sum)
    }
    const layers = emptyLayers()
    await fill(layers.types, snapshot.types)
    await fill(layers.relations, snapshot.relations)
    await fill(layers.functions, snapshot.functions)
    await fill(layers.operators, snapshot.operators)
    await turn()
    return new Catalog(restOf(snapshot), layers, snapshot)
  }

  /** A session's own view: the rows that its open transaction changed, without those it dropped. */
  with(overlay: CatalogOverlay): Catalog {
    return this.#over(overlay, this.#rest.storedSettings)
  }

  /** The next committed catalog; itself where nothing that it holds has changed. */
  async reload(
    overlay: CatalogOverlay,
    storedSettings: CatalogSnapshot['storedSettings'],
    turn: () => Promise<void>,
  ): Promise<Catalog> {
    const next = this.#over(overlay, storedSettings)
    await turn()
    if (next.fingerprint === this.fingerprint) return this
    const { relations, types, functions, operators } = next.#layers
    const depth = Math.max(relations.depth, types.depth, functions.depth, operators.depth)
    return depth > depthMax ? await Catalog.load(next.snapshot, turn) : next
  }

  #over(overlay: CatalogOverlay, storedSettings: CatalogSnapshot['storedSettings']): Catalog {
    const { changed, present, schemas, casts, extensions } = overlay
    const { relations, types, functions, operators } = this.#layers
    return new Catalog(
      { ...this.#rest, schemas, casts, extensions, storedSettings },
      {
        relations: relations.over(changed.relations, present.relations),
        types: types.over(changed.types, present.types),
        functions: functions.over(changed.functions, present.functions),
        operators: operators.over(changed.operators, present.operators),
      },
      null,
    )
  }

  /** The plain data behind it. */
  get snapshot(): CatalogSnapshot {
    if (this.#snapshot === null) {
      const { format, database, serverVersion, schemas, ...others } = this.#rest
      this.#snapshot = {
        format,
        ...{ database, serverVersion, schemas },
        relations: this.#layers.relations.sorted(),
        types: this.#layers.types.sorted(),
        functions: this.#layers.functions.sorted(),
        operators: this.#layers.operators.sorted(),
        ...others,
      }
    }
    return this.#snapshot
  }

  /** Hash of the whole content: two catalogs with the same one answer every lookup alike. */
  get fingerprint(): string {
    if (this.#fingerprint === null) {
      const { relations, types, functions, operators } = this.#layers
      const sums = [relations.sum, types.sum, functions.sum, operators.sum].map(String)
      const content = JSON.stringify([this.#rest, sums])
      this.#fingerprint = createHash('sha256').update(content).digest('hex')
    }
    return this.#fingerprint
  }

  // Schemas and relations

  get schemas(): readonly SchemaRow[] {
    return this.#rest.schemas
  }

  schema(name: string): SchemaRow | null {
    return this.#schemas.get(name) ?? null
  }

  /** Roles that may use the schema; null where all may. */
  usersOf(schema: string): ReadonlySet<string> | null {
    return this.#users.get(schema) ?? null
  }

  relation(schema: string, name: string): RelationRow | null {
    for (const row of this.#layers.relations.named(name)) if (row.schema === schema) return row
    return null
  }

  relationByOid(oid: Oid): RelationRow | null {
    return this.#layers.relations.get(oid) ?? null
  }

  /** All relations, in no order. */
  relations(): Iterable<RelationRow> {
    return this.#layers.relations.rows()
  }

  /** The first match along the path (RelnameGetRelid), or null. The path says where pg_catalog is. */
  resolveRelation(name: string, searchPath: readonly string[]): RelationRow | null {
    const named = this.#layers.relations.named(name)
    if (named.length === 0) return null
    for (const schema of searchPath) {
      for (const row of named) if (row.schema === schema) return row
    }
    return null
  }

  /** Every relation of that name, whatever its schema: what a bare name may mean. */
  relationsNamed(name: string): readonly RelationRow[] {
    return this.#layers.relations.named(name)
  }

  /** A column by name, system columns included where the relation has them. */
  column(relation: RelationRow, name: string): ColumnRow | null {
    const found = this.columnsOf(relation).get(name)
    if (found !== undefined) return found
    if (!relationKindsWithRows.has(relation.kind)) return null
    return systemColumns.find((column) => column.name === name) ?? null
  }

  /** User columns by name, in order of their attribute numbers. */
  columnsOf(relation: RelationRow): ReadonlyMap<string, ColumnRow> {
    let columns = this.#columns.get(relation)
    if (columns === undefined) {
      columns = new Map(relation.columns.map((column) => [column.name, column]))
      this.#columns.set(relation, columns)
    }
    return columns
  }

  /** Relations that inherit from it or are its partitions, at any depth, itself not included. */
  children(oid: Oid): readonly RelationRow[] {
    return this.#reachable(oid, (each) => this.#layers.relations.keyed(keyOf.parent(each)))
  }

  /** Relations it inherits from or is a partition of, at any depth. */
  parents(oid: Oid): readonly RelationRow[] {
    return this.#reachable(oid, (each) =>
      (this.relationByOid(each)?.parents ?? nothing).flatMap((parent) => {
        const row = this.relationByOid(parent)
        return row === null ? [] : [row]
      }),
    )
  }

  /** Views and materialized views that read it, at any depth. */
  viewsOver(oid: Oid): readonly RelationRow[] {
    return this.#reachable(oid, (each) => this.#layers.relations.keyed(keyOf.reads(each)))
  }

  /** Tables with a foreign key to it. */
  referencing(oid: Oid): readonly RelationRow[] {
    return this.#layers.relations.keyed(keyOf.references(oid))
  }

  #reachable(oid: Oid, next: (oid: Oid) => readonly RelationRow[]): readonly RelationRow[] {
    const direct = next(oid)
    if (direct.length === 0) return nothing
    const found = new Set([...direct].sort((a, b) => a.oid - b.oid))
    for (const row of found) for (const further of next(row.oid)) found.add(further)
    return [...found]
  }

  /** What a system or contrib relation holds; null for the user's own. */
  relationClass(relation: RelationRow): SystemRelationClass | null {
    const system = systemRelationClass(relation.schema, relation.name)
    if (system !== null || relation.extension === undefined) return system
    return extensionRelationClass(relation.extension, relation.name)
  }

  // Types

  type(oid: Oid): TypeRow | null {
    const found = this.#layers.types.get(oid) ?? builtinTypes().get(oid) ?? this.#rowTypes.get(oid)
    if (found !== undefined) return found
    const { relations } = this.#layers
    const [relation] = [
      ...relations.keyed(keyOf.rowType(oid)),
      ...relations.keyed(keyOf.rowArrayType(oid)),
    ]
    if (relation === undefined) return null
    const made = rowTypeOf(relation, oid)
    this.#rowTypes.set(oid, made)
    return made
  }

  /** A type in that schema, or with null the first along the path. */
  typeByName(schema: string | null, name: string, searchPath: readonly string[]): TypeRow | null {
    const named = this.#layers.types.named(name)
    for (const wanted of schema === null ? searchPath : [schema]) {
      const found = named.find((row) => row.schema === wanted)
      if (found !== undefined) return found
      if (wanted === 'pg_catalog') {
        const builtin = builtinTypes().get(builtinType(name)?.oid ?? 0)
        if (builtin !== undefined) return builtin
      }
      const relation = this.relation(wanted, name)
      if (relation !== null && relation.rowType !== 0) return this.type(relation.rowType)
    }
    return null
  }

  /** Every type of that name, whatever its schema: what a bare name may mean. */
  typesNamed(name: string): readonly TypeRow[] {
    const builtin = this.typeByName('pg_catalog', name, nothing)
    const own = this.#layers.types.named(name).filter((row) => row.schema !== 'pg_catalog')
    const rows = this.relationsNamed(name).map(({ rowType }) => this.type(rowType))
    return [builtin, ...own, ...rows].filter((row) => row !== null)
  }

  /** Oid of a type of pg_catalog by its pg_type.typname (`int4`, `_text`); 0 for none. */
  builtinTypeOid(name: string): Oid {
    const fixed = builtinType(name)
    if (fixed !== null && fixed.oid !== 0) return fixed.oid
    const row =
      this.typeByName('pg_catalog', name, nothing) ??
      this.typeByName('information_schema', name, nothing)
    return row?.oid ?? 0
  }

  /** The relation whose row type this is; null for every other type. */
  rowTypeRelation(type: Oid): RelationRow | null {
    const [relation] = this.#layers.relations.keyed(keyOf.rowType(type))
    if (relation !== undefined) return relation
    const row = this.#layers.types.get(type)
    return row === undefined || row.relation === 0 ? null : this.relationByOid(row.relation)
  }

  /** The type under a domain (of a domain …); every other type is its own. */
  baseType(type: Oid): Oid {
    let current = type
    for (let depth = 0; depth < 64; depth += 1) {
      const row = this.type(current)
      if (row?.kind !== 'domain') return current
      current = row.base
    }
    return current
  }

  // Functions, operators, casts

  /** A function of the snapshot by oid; built-ins have none of their own. */
  functionByOid(oid: Oid): CatalogFunction | null {
    return this.#calls.byOid(oid)
  }

  /**
   * What a call of that name may mean: in that schema, or with null along the path, where an
   * earlier schema hides the same signature of a later one. The temporary schema is never searched
   * for functions. An `unknown` path means every schema.
   */
  functions(
    schema: string | null,
    name: string,
    searchPath: readonly string[] | 'unknown',
  ): readonly CatalogFunction[] {
    return this.#calls.functions(schema, name, searchPath)
  }

  /** What an operator of that name may mean; schema and path as for `functions`. */
  operators(
    schema: string | null,
    name: string,
    searchPath: readonly string[] | 'unknown',
  ): readonly CatalogOperator[] {
    return this.#calls.operators(schema, name, searchPath)
  }

  /** Every cast of the snapshot. */
  casts(): readonly CastRow[] {
    return this.#rest.casts
  }

  /** Casts of the snapshot from that type; those between built-in types are in classes.ts. */
  castsFrom(source: Oid): readonly CastRow[] {
    return this.#casts.get(source) ?? nothing
  }
}

function emptyLayers(): Layers {
  const noKeys = (): readonly number[] => nothing
  return {
    relations: new Layer<RelationRow>(relationKeys),
    types: new Layer<TypeRow>(noKeys),
    functions: new Layer<FunctionRow>(noKeys),
    operators: new Layer<OperatorRow>(noKeys),
  }
}

function restOf(snapshot: CatalogSnapshot): Rest {
  const {
    relations: _relations,
    types: _types,
    functions: _functions,
    operators: _operators,
    ...rest
  } = snapshot
  return rest
}
