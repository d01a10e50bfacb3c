/**
 * The catalog of one database as plain data: what `upstream` loads, what `regate catalog dump`
 * writes to a file, what `sql` resolves names against. Immutable; JSON in and out without loss.
 * Field names follow the system catalogs (https://www.postgresql.org/docs/18/catalogs.html).
 */

export type Oid = number

/** FirstNormalObjectId of src/include/access/transam.h: below it everything is the server's own. */
export const firstUserOid: Oid = 16_384

export interface CatalogSnapshot {
  readonly format: 1
  readonly database: string
  /** server_version_num, for example 150018. */
  readonly serverVersion: number
  readonly schemas: readonly SchemaRow[]
  readonly relations: readonly RelationRow[]
  /** Types outside the built-in table; row types and their arrays follow from the relations. */
  readonly types: readonly TypeRow[]
  /** All functions outside pg_catalog and information_schema; built-ins are in the class table. */
  readonly functions: readonly FunctionRow[]
  /** Operators outside pg_catalog. */
  readonly operators: readonly OperatorRow[]
  /** Casts whose source, target or function is outside pg_catalog. */
  readonly casts: readonly CastRow[]
  readonly extensions: readonly { readonly name: string; readonly schema: string }[]
  /** Settings stored by ALTER ROLE/DATABASE SET that apply at login. */
  readonly storedSettings: readonly {
    readonly role: string | null
    readonly name: string
    readonly value: string
  }[]
}

export interface SchemaRow {
  readonly oid: Oid
  readonly name: string
  /** Roles with USAGE, by themselves or by what they inherit; absent where everybody has it. */
  readonly users?: readonly string[]
}

/** pg_class.relkind in words. */
export type RelationKind =
  | 'table'
  | 'partitioned_table'
  | 'view'
  | 'materialized_view'
  | 'foreign_table'
  | 'sequence'
  | 'composite_type'
  | 'index'
  | 'toast'

export interface RelationRow {
  readonly oid: Oid
  readonly schema: string
  readonly name: string
  readonly kind: RelationKind
  /** Oid of the row type (pg_class.reltype), 0 for none. */
  readonly rowType: Oid
  /** Array type of the row type; absent or 0 for none. */
  readonly rowArrayType?: Oid
  /** Live columns only, by attribute number; system columns are implied. */
  readonly columns: readonly ColumnRow[]
  /**
   * Views and materialized views: pg_get_viewdef under `search_path = pg_catalog, pg_temp`. Null
   * for views of pg_catalog and information_schema, which are classed by themselves.
   */
  readonly definition: string | null
  /** Inheritance parents and partition parents (pg_inherits). */
  readonly parents: readonly Oid[]
  readonly isPartition: boolean
  readonly rowSecurity: boolean
  /** Rules other than _RETURN: pg_get_ruledef. */
  readonly rules: readonly { readonly name: string; readonly definition: string }[]
  /** Triggers that are not internal. */
  readonly triggers: readonly TriggerRow[]
  /** Index expressions, predicates, check constraints, as text: they run on write. */
  readonly expressions: readonly string[]
  /** What a written row is compared with; absent in files of before they were read. */
  readonly constraints?: readonly ConstraintRow[]
  readonly temporary: boolean
  /** Index: its table. Toast: the table whose values it holds. Absent for all others. */
  readonly owner?: Oid
  /** Views and materialized views: the relations that the definition names (pg_depend). */
  readonly reads?: readonly Oid[]
  /** Extension that owns it; absent for none. */
  readonly extension?: string
  /** The composite type of a typed table (CREATE TABLE … OF); absent for all others. */
  readonly ofType?: Oid
}

export interface TriggerRow {
  readonly name: string
  readonly function: Oid
  /** pg_get_triggerdef; absent in files of before it was read. */
  readonly definition?: string
}

/** A constraint, a unique index or a partition key: it decides whether a row may be written. */
export interface ConstraintRow {
  /** NOT NULL is listed while it is not valid; where it is, the column says so. */
  readonly kind:
    'check' | 'not_null' | 'primary_key' | 'unique' | 'exclusion' | 'foreign_key' | 'partition_key'
  /**
   * Attribute numbers that decide, in the order of the key, then those that its expressions and its
   * predicate read; 0 is the whole row.
   */
  readonly columns: readonly number[]
  /** A NULL in one of the columns settles it: no expression, no predicate, no NULLS NOT DISTINCT. */
  readonly nullsPass: boolean
  /** False: rows that were there before may violate it. */
  readonly validated: boolean
  readonly references?: ReferencesRow
}

/** The other side of a foreign key. */
export interface ReferencesRow {
  readonly relation: Oid
  readonly columns: readonly number[]
  readonly onUpdate: ReferentialAction
  readonly onDelete: ReferentialAction
}

/** pg_constraint.confupdtype and confdeltype in words. */
export type ReferentialAction = 'no_action' | 'restrict' | 'cascade' | 'set_null' | 'set_default'

export interface ColumnRow {
  readonly number: number
  readonly name: string
  readonly type: Oid
  /** atttypmod, -1 for none. */
  readonly modifier: number
  readonly notNull: boolean
  /** pg_get_expr of a default; null for none. */
  readonly default: string | null
  /** Expression of a generated column; null for none. */
  readonly generated: string | null
  readonly identity: boolean
  /** Name of its collation; absent where it has none, or the database's. */
  readonly collation?: string
}

/** pg_type.typtype in words. */
export type TypeKind = 'base' | 'composite' | 'domain' | 'enum' | 'pseudo' | 'range' | 'multirange'

export interface TypeRow {
  readonly oid: Oid
  readonly schema: string
  readonly name: string
  readonly kind: TypeKind
  /** pg_type.typcategory, one letter. */
  readonly category: string
  /** Element type of a true array (typelem where typsubscript is array), else 0. */
  readonly element: Oid
  /** Array type of this type, else 0. */
  readonly array: Oid
  /** Domain: the type it is based on, else 0. */
  readonly base: Oid
  /** Domain: type modifier of the base. */
  readonly modifier: number
  readonly notNull: boolean
  /** Domain: CHECK expressions as text. */
  readonly checks: readonly string[]
  /** Domain: pg_get_expr of its default; null or absent for none. */
  readonly default?: string | null
  /** Composite: the relation that holds its fields, else 0. */
  readonly relation: Oid
  /** Range and multirange: subtype, else 0. */
  readonly subtype: Oid
  /** Enum labels in order. */
  readonly labels: readonly string[]
  readonly delimiter: string
}

export interface FunctionRow {
  readonly oid: Oid
  readonly schema: string
  readonly name: string
  readonly kind: 'function' | 'procedure' | 'aggregate' | 'window'
  readonly language: string
  readonly volatility: 'immutable' | 'stable' | 'volatile'
  readonly strict: boolean
  readonly securityDefiner: boolean
  readonly returnsSet: boolean
  readonly returnType: Oid
  /** Input argument types (IN, INOUT, VARIADIC). */
  readonly argumentTypes: readonly Oid[]
  /** Names, modes and types of all arguments, OUT and TABLE columns included. */
  readonly arguments: readonly {
    readonly name: string
    readonly mode: 'in' | 'out' | 'inout' | 'variadic' | 'table'
    readonly type: Oid
  }[]
  readonly defaultCount: number
  /** pg_get_expr of the defaults, separated by commas; null or absent where they are not known. */
  readonly defaults?: string | null
  readonly variadic: boolean
  /** prosrc; for BEGIN ATOMIC bodies the text of pg_get_function_sqlbody. Null for C functions. */
  readonly body: string | null
  readonly bodyIsParsed: boolean
  /** SECURITY DEFINER: who it runs as; null for all others, absent where it is not known. */
  readonly owner?: string | null
  /** SET clauses of the function. */
  readonly settings: readonly string[]
  /** Extension that owns it, else null. */
  readonly extension: string | null
}

export interface OperatorRow {
  readonly oid: Oid
  readonly schema: string
  readonly name: string
  readonly left: Oid
  readonly right: Oid
  readonly function: Oid
  readonly result: Oid
}

export interface CastRow {
  readonly source: Oid
  readonly target: Oid
  /** Oid of the cast function, 0 for binary-coercible or input/output conversion. */
  readonly function: Oid
  readonly context: 'implicit' | 'assignment' | 'explicit'
  readonly method: 'function' | 'inout' | 'binary'
}
