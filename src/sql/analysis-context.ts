/**
 * What every pass of the analysis shares: the catalog, the session's facts, the recorder, and the
 * passes themselves. The passes (expressions, queries, FROM, writes, bodies, utilities) call one
 * another through this object, so that their files import each other in one direction only.
 */
import type { Node, SelectStmt } from '@pgsql/types'
import type { Analysis, OutputTrace, ParsedStatement, SessionFacts } from './access.ts'
import type { CatalogNames } from './analysis-names.ts'
import type { Catalog } from './catalog.ts'
import type { Field, Value } from './lineage.ts'
import type { Recorder } from './analysis-recorder.ts'
import type { Scope } from './scope.ts'
import type { CatalogFunction } from './catalog.ts'
import type { PlpgsqlBody } from './plpgsql.ts'
import type { RelationRow } from './snapshot.ts'

/** The parsers, as far as the analysis needs them for bodies. Null: it does not parse. */
export interface AnalysisTools {
  parse(text: string): readonly ParsedStatement[] | null
  /** @param text a whole `CREATE FUNCTION … LANGUAGE plpgsql` or `DO` statement. */
  parsePlpgsql(text: string): PlpgsqlBody | null
}

/** The columns a query gives; `open` where their number or names are not known. */
export interface QueryShape {
  readonly fields: readonly Field[]
  readonly open: boolean
  /** The outputs of the statement behind EXECUTE or FETCH, as they were analysed. */
  readonly traces?: readonly OutputTrace[]
}

export interface Passes {
  /** Any query: SELECT, VALUES, set operation. */
  query(node: SelectStmt, parent: Scope | null, context: Context): QueryShape
  /** A query or data-modifying statement as a tagged node (CTE, COPY, EXPLAIN …). */
  statement(node: Node, parent: Scope | null, context: Context): QueryShape | null
  expression(node: Node | undefined, scope: Scope, context: Context): Value
  /** A call of one of these functions, whichever it is. */
  callFunction(called: readonly CatalogFunction[], args: readonly Value[], context: Context): Value
  from(clause: readonly Node[] | undefined, scope: Scope, context: Context): void
  /** Columns of a view, followed to what it reads; what its body touches is recorded. */
  view(relation: RelationRow, context: Context): readonly Field[]
  /** Columns of a table, generated ones traced to what they are generated from. */
  table(relation: RelationRow, context: Context): readonly Field[]
  /** What converting to the type runs: checks of domains, in its elements and fields, too. */
  domain(type: number, context: Context): void
  /** What casts of users from and to the type do, wherever the server puts them; 0 is any type. */
  casts(type: number, context: Context): void
  functionBody(called: CatalogFunction, parameters: readonly Value[], context: Context): CallShape
  utility(node: Node, context: Context): QueryShape | null
  /** A statement inside another, with an analysis of its own. */
  inner(node: Node, kind: string, context: Context): Analysis
}

export interface TypeShape {
  readonly type: number
  readonly modifier: number
}

/** What a call gives: its value, and the columns of a row where it gives rows. */
export interface CallShape {
  readonly value: Value
  readonly analysed: boolean
}

/** OLD and NEW of a trigger, as far as a function names fields of them. */
export interface TriggerRows {
  /** `new.salary`; null for what is no field of a row. */
  field(names: readonly string[]): Value | null
  /** The statement without comparisons of a field that is the same in both rows. */
  prepare(node: Node): Node
}

export interface Context {
  readonly catalog: Catalog
  readonly names: CatalogNames
  readonly facts: SessionFacts
  readonly tools: AnalysisTools
  readonly recorder: Recorder
  readonly passes: Passes
  /** Where bare names are looked up; a body has its own. */
  readonly path: readonly string[] | 'unknown'
  /** `path` as part of a key. */
  readonly pathText: string
  /** The search_path in force while it runs: what function bodies without one of their own see. */
  readonly runtimePath: readonly string[] | 'unknown'
  /** current_user while it runs; null where it is not known. */
  readonly role: string | null
  /** Functions that were called while they were being analysed; shared by all bodies. */
  readonly recursed: Set<number>
  /** Functions and views that are being analysed: recursion ends here. */
  readonly active: ReadonlySet<number>
  /** Expressions (constants aside) and queries visited for this statement, all bodies included. */
  readonly steps: { value: number }
  /** How deep the walk is, in this statement or body. */
  readonly depth: { value: number }
  /** Name of the first column of the scalar sub-select seen last. */
  readonly lastScalarName: { value: string | null }
  /** The rows that the trigger function which is being analysed is given. */
  readonly rows: TriggerRows | null
  /** Inside a PL/pgSQL body; a survey is after what it reads only, which variables do not change. */
  readonly block: 'none' | 'survey' | 'whole'
  /** What bodies without parameters read, by path and text: blocks in blocks are surveyed once. */
  readonly surveyed: Map<string, Recorder>
  /** The text of the whole statement: a DO block is compiled from it. */
  readonly text: string
}

/** Nesting of expressions and queries beyond which a statement is not followed. */
export const analysisDepthMax = 1500

/** Visits that every statement may take, besides one for each of its characters. */
const stepsFree = 50_000

/** A statement is not followed for longer than its length explains: nested recursive CTEs multiply. */
export function isExhausted(context: Context): boolean {
  return context.steps.value > stepsFree + context.text.length
}

/** Counts a visit; false where there have been too many, which makes the statement incomplete. */
export function mayVisit(context: Context): boolean {
  context.steps.value += 1
  if (!isExhausted(context)) return true
  context.recorder.fail('the statement takes too many steps to follow')
  return false
}

/** The tag and the body of a node: `{ "SelectStmt": { … } }`. */
export function tagOf(node: Node): string {
  for (const tag in node) return tag
  return ''
}

/** Names in a list of String nodes; anything else is left out. */
export function stringsOf(nodes: readonly Node[] | undefined): string[] {
  const names: string[] = []
  for (const node of nodes ?? []) {
    if ('String' in node) names.push(node.String.sval ?? '')
  }
  return names
}
