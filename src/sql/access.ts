/**
 * What a statement touches. `Access` is the public document a policy sees (`input.access`; every
 * field is always there); `Analysis` adds what the gate, the session and the mask plan need.
 */
import type { Oid } from './snapshot.ts'

export type Effect =
  | 'read'
  | 'write'
  | 'ddl'
  | 'dcl'
  | 'transaction'
  | 'session'
  | 'procedure'
  | 'file'
  | 'program'
  | 'lock'
  | 'notify'
  | 'maintenance'

export type Use =
  | 'output'
  | 'filter'
  | 'join'
  | 'group'
  | 'having'
  | 'order'
  | 'distinct'
  | 'window'
  | 'set_operation'
  | 'limit'
  | 'condition'
  | 'cardinality'
  | 'argument'
  | 'assign'
  | 'returning'

/** How a thing came into the statement: null is what the client named. */
export type Through = null | 'view' | 'function' | 'partition' | 'rule' | 'trigger' | 'generated'

export interface RelationAccess {
  readonly schema: string
  readonly name: string
  readonly kind: string
  /** select, insert, update, delete, truncate, lock, create, alter, drop, … */
  readonly actions: readonly string[]
  readonly through: Through
  /** A bare name that another search_path of the session would lead to another relation. */
  readonly by_path: boolean
}

export interface ColumnAccess {
  readonly schema: string
  readonly relation: string
  readonly name: string
  readonly uses: readonly Use[]
  readonly through: Through
}

/** A base column that an output's value comes from. */
export interface OutputSource {
  /** Dotted, each part quoted as quote_ident does where needed: public.users.ssn */
  readonly column: string
  readonly via: 'direct' | 'derived' | 'count'
  /** Only of `derived`: everything on the way is total, immutable and without side effect. */
  readonly total?: boolean
}

export interface OutputAccess {
  readonly index: number
  readonly name: string
  readonly sources: readonly OutputSource[]
}

export interface FlowAccess {
  readonly from: string
  readonly to: string
  readonly via: 'direct' | 'derived'
}

export type FunctionClass =
  'total' | 'partial' | 'volatile' | 'reads_by_text' | 'file' | 'admin' | 'opaque'

export interface FunctionAccess {
  readonly schema: string
  readonly name: string
  readonly language: string
  readonly volatility: 'immutable' | 'stable' | 'volatile' | 'unknown'
  readonly security_definer: boolean
  readonly class: FunctionClass
  readonly analysed: boolean
  /** How it came in: null is what the client called. */
  readonly through: Through
}

export interface SettingAccess {
  /** Lower case; null where the name is not constant. */
  readonly name: string | null
  readonly action: 'set' | 'set_local' | 'reset' | 'reset_all' | 'show' | 'discard'
  /** The constant value, else null. */
  readonly value: string | null
  readonly through: Through
}

export interface Access {
  readonly complete: boolean
  /** Why not, one short sentence each. */
  readonly incomplete: readonly string[]
  readonly effects: readonly Effect[]
  readonly relations: readonly RelationAccess[]
  readonly columns: readonly ColumnAccess[]
  readonly outputs: readonly OutputAccess[]
  readonly flows: readonly FlowAccess[]
  readonly functions: readonly FunctionAccess[]
  readonly settings: readonly SettingAccess[]
  /** UPDATE/DELETE/SELECT: has a WHERE (or, for a join, a condition) at the top of the statement. */
  readonly filtered: boolean
  /**
   * An UPDATE, DELETE or MERGE in it, at the top, in WITH, or in a DO block, may change every row: its
   * condition names no column. What functions and triggers do by themselves does not count.
   */
  readonly unfiltered: boolean
  /** Has a LIMIT or FETCH FIRST. */
  readonly limited: boolean
}

/** A column as the server names it in RowDescription. */
export interface Origin {
  readonly relation: Oid
  readonly attribute: number
}

/** One output column, for the mask plan. Parallel to `access.outputs`. */
export interface OutputTrace {
  readonly name: string
  readonly sources: readonly OutputSource[]
  /** Every origin that the server may report for this output besides 0: bases, views, partitions. */
  readonly origins: readonly Origin[]
  /** The trace is incomplete: the value may hold any column the statement could reach. */
  readonly opaque: boolean
}

/** What a statement does to the session when it succeeds: kept by the session's registry. */
export type SessionEffect =
  | { readonly kind: 'begin' | 'commit' | 'rollback'; readonly chain: boolean }
  | { readonly kind: 'savepoint' | 'release' | 'rollback_to'; readonly name: string }
  | { readonly kind: 'prepare_transaction' }
  /** `statement` is the whole PREPARE: the types it declares are converted to by EXECUTE. */
  | { readonly kind: 'prepare'; readonly name: string; readonly statement: SyntaxNode }
  | { readonly kind: 'execute'; readonly name: string }
  /** `name` null is ALL. */
  | { readonly kind: 'deallocate'; readonly name: string | null }
  | {
      readonly kind: 'declare'
      readonly name: string
      readonly hold: boolean
      readonly binary: boolean
      readonly statement: SyntaxNode
      readonly analysis: Analysis
    }
  | { readonly kind: 'fetch'; readonly name: string }
  | { readonly kind: 'close'; readonly name: string | null }
  | { readonly kind: 'discard'; readonly target: 'all' | 'plans' | 'sequences' | 'temp' }
  | {
      readonly kind: 'set'
      readonly name: string
      readonly value: string | null
      readonly local: boolean
    }
  | { readonly kind: 'reset'; readonly name: string | null }
  | { readonly kind: 'copy_in' | 'copy_out' }
  /** What runs is in no text: names and the transaction may be any other behind it. */
  | { readonly kind: 'unseen' }
  | { readonly kind: 'explain' }

/** A name of the statement's own that the catalog has not, as the server would report it. */
export interface MissingName {
  readonly sqlstate: '42703' | '42P01'
  readonly message: string
  /** Which name in reach is nearest. */
  readonly hint: string | null
  /** Bytes of the query string before it; null where the server gives no position. */
  readonly at: number | null
}

/** The analysis of one statement. Immutable and shared by caches. */
export interface Analysis {
  /** The statement's node in lower case without `Stmt`. */
  readonly kind: string
  readonly access: Access
  /** Null where the statement returns no rows by its kind. */
  readonly outputs: readonly OutputTrace[] | null
  readonly sessionEffects: readonly SessionEffect[]
  /** A setting that decides how SQL is read, or search_path or role, may change in a way the text does not show: probe before the next text. */
  readonly mayChangeSettings: boolean
  /** DDL: the catalog (the session's overlay inside a transaction) must be read again. */
  readonly changesCatalog: boolean
  /** Writes data or has an effect that cancelling the statement does not undo. */
  readonly writes: boolean
  /** A name was looked up and not found: a newer catalog could change the answer. */
  readonly unresolved: readonly string[]
  /** The first of them that is certain, where the statement itself names it. */
  readonly missing: MissingName | null
  /** Depends on search_path, temp schema, prepared statements or cursors of the session. */
  readonly dependsOnSession: boolean
  /** Rough memory use, for the cache. */
  readonly bytes: number
}

/** What stands behind a cursor or portal. */
export type OpenCursor =
  | {
      readonly statement: SyntaxNode
      /** Its rows lie ready since its transaction committed: what it meant then is what it gives. */
      readonly held: Analysis
    }
  | ({ readonly statement: SyntaxNode; readonly held: null } & NameLookup)

/** Where names were looked up when something was opened, and as whom. */
export type NameLookup = Pick<SessionFacts, 'searchPath' | 'role'>

/** What the analysis may know of the session. All synchronous, all of the moment. */
export interface SessionFacts {
  /** Schemas in the order the server searches them ($user expanded, pg_catalog and pg_temp as implied), or unknown. */
  readonly searchPath: readonly string[] | 'unknown'
  /** current_user upstream. */
  readonly role: string
  /** The session's pg_temp_N, null while it has none. */
  readonly temporarySchema: string | null
  /** Statements before this one in the same query string make the catalog another one. */
  readonly catalogMoved?: boolean
  /** What the end of the open transaction may undo. */
  readonly endsWithTransaction?: { readonly path: boolean; readonly catalog: boolean }
  /** The tree behind PREPARE name or a Parse of that name: the server reads it anew at EXECUTE. */
  prepared(name: string): SyntaxNode | undefined
  /** Undefined too where DDL of this session has moved what it means. */
  cursor(name: string): OpenCursor | undefined
}

/** One statement of a query string as the parser gave it. */
export interface ParsedStatement {
  /** This statement's own text, without the separator. */
  readonly text: string
  /** Raw JSON of the statement's tree, `{"SelectStmt":{…}}`: bytes, to be spliced into the policy's input. */
  readonly astJson: string
  /** `astJson` as it is kept: a large one stays the bytes that a thread made. */
  readonly tree: string | Buffer
  /**
   * Names a prepared statement or a cursor, which other sessions do not share: it, or where a thread
   * parsed it any statement of its text.
   */
  readonly usesNames: boolean
  /** The same tree, parsed. Lazily made; shared, never changed. */
  readonly ast: SyntaxNode
  readonly kind: string
  readonly index: number
  readonly count: number
}

/** A node of libpg_query's JSON: `{ "SelectStmt": { … } }`. */
export type SyntaxNode = { readonly [tag: string]: unknown }
