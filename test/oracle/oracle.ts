/**
 * PostgreSQL as the judge of the analysis: a query is made a view, and the columns that the server
 * recorded for the view in pg_depend are compared with `access.columns`. Never one fewer; how many
 * more is counted. The outputs must agree in number and name with what the server describes, and
 * every origin that it reports must be on the output's path.
 *
 * Everything happens in a transaction that is rolled back.
 */
import type pg from 'pg'
import {
  analyse,
  type Analysis,
  type Catalog,
  type ParsedStatement,
  type SessionFacts,
  type SqlParser,
} from '../../src/sql/sql.ts'

export type Verdict =
  /** The server takes no view of it: an error of its own, a data-modifying CTE. */
  | { readonly kind: 'skipped'; readonly reason: string }
  | {
      readonly kind: 'compared'
      readonly complete: boolean
      readonly incomplete: readonly string[]
      /** Recorded by the server and not in the analysis: a leak. */
      readonly missing: readonly string[]
      /** In the analysis, named by the client, and not recorded by the server. */
      readonly surplus: readonly string[]
      readonly recorded: number
      /** What differs between the outputs and the server's description. */
      readonly outputs: readonly string[]
      /** Origins that the server reports and the trace does not know. */
      readonly origins: readonly string[]
    }

export interface OracleSession {
  readonly client: pg.Client
  readonly parser: SqlParser
  readonly catalog: Catalog
  readonly facts: SessionFacts
}

/** Facts of a session with that search path and nothing prepared. */
export function plainFacts(searchPath: readonly string[], temporarySchema: string | null = null) {
  const facts: SessionFacts = {
    searchPath,
    role: 'postgres',
    temporarySchema,
    prepared: () => undefined,
    cursor: () => undefined,
  }
  return facts
}

/** What `analyse` asks of the parser. */
export function analysisTools(parser: SqlParser): Parameters<typeof analyse>[3] {
  return {
    parse: (text) => parser.parseBody(text),
    parsePlpgsql: (text) => parser.parsePlpgsql(text),
  }
}

/** The one statement of a text; null where it does not parse as one. */
export function parseOne(parser: SqlParser, text: string): ParsedStatement | null {
  const statements = parser.parseBody(text)
  return statements?.length === 1 ? (statements[0] ?? null) : null
}

/** Pinned objects (the system catalogs) are never recorded; composite types hold no values. */
const recordedQuery = `SELECT DISTINCT n.nspname AS schema, c.relname AS relation, a.attname AS name
  FROM pg_catalog.pg_depend d
  JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
    AND d.objid OPERATOR(pg_catalog.=) r.oid
  JOIN pg_catalog.pg_class c ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
    AND c.oid OPERATOR(pg_catalog.=) d.refobjid
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid
    AND a.attnum OPERATOR(pg_catalog.=) d.refobjsubid AND d.refobjsubid OPERATOR(pg_catalog.<>) 0
  WHERE r.ev_class OPERATOR(pg_catalog.=) 'pg_temp.regate_oracle'::pg_catalog.regclass
    AND c.oid OPERATOR(pg_catalog.<>) r.ev_class AND c.relkind OPERATOR(pg_catalog.<>) 'c'`

const pinned: ReadonlySet<string> = new Set(['pg_catalog', 'information_schema'])

interface Recorded {
  readonly schema: string
  readonly relation: string
  /** null: the relation as a whole. */
  readonly name: string | null
}

/** Compares one SELECT. The session's search path must be that of the facts. */
export async function compareQuery(session: OracleSession, text: string): Promise<Verdict> {
  const { client, parser, catalog, facts } = session
  const parsed = parseOne(parser, text)
  if (parsed === null) return { kind: 'skipped', reason: 'does not parse as one statement' }
  const analysis = analyse(parsed, catalog, facts, analysisTools(parser))
  await client.query('SAVEPOINT regate_oracle')
  try {
    const described = await client.query({
      text: `SELECT * FROM (${text}\n) AS regate_oracle_query LIMIT 0`,
      rowMode: 'array',
    })
    const names = described.fields.map((_, index) => `c${index + 1}`).join(', ')
    const list = names === '' ? '' : `(${names})`
    await client.query(`CREATE TEMPORARY VIEW regate_oracle ${list} AS ${text}\n`)
    const recorded = await client.query<Recorded>(recordedQuery)
    return verdict(text, analysis, recorded.rows, described.fields)
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    if (code === undefined) throw error
    return { kind: 'skipped', reason: `${code} ${message}` }
  } finally {
    await client.query('ROLLBACK TO SAVEPOINT regate_oracle')
  }
}

function verdict(
  text: string,
  analysis: Analysis,
  recorded: readonly Recorded[],
  fields: readonly pg.FieldDef[],
): Verdict {
  const key = (column: { schema: string; relation: string; name: string }): string =>
    `${column.schema}.${column.relation}.${column.name}`
  const listed = new Set(analysis.access.columns.map(key))
  const relations = new Set(
    analysis.access.relations.map((relation) => `${relation.schema}.${relation.name}`),
  )
  const missing: string[] = []
  const wanted = new Set<string>()
  for (const row of recorded) {
    if (row.name === null) {
      const name = `${row.schema}.${row.relation}`
      // 'users'::regclass depends on users, but reads nothing of it.
      const mentioned = new RegExp(`'[^']*\\b${row.relation}\\b[^']*'`, 'i').test(text)
      if (!relations.has(name) && !mentioned) missing.push(name)
      continue
    }
    const name = key({ ...row, name: row.name })
    wanted.add(name)
    // A function in FROM that returns a table's row type depends on its columns, and reads nothing.
    const named = text.toLowerCase().includes(row.relation) || /u&"/i.test(text)
    if (!listed.has(name) && named) missing.push(name)
  }
  const surplus = analysis.access.columns
    .filter((column) => column.through === null && !pinned.has(column.schema))
    .filter((column) => !wanted.has(key(column)))
    .map(key)
  return {
    kind: 'compared',
    complete: analysis.access.complete,
    incomplete: analysis.access.incomplete,
    missing,
    surplus: [...new Set(surplus)],
    recorded: wanted.size,
    outputs: compareOutputs(analysis, fields),
    origins: unknownOrigins(analysis, fields),
  }
}

function compareOutputs(analysis: Analysis, fields: readonly pg.FieldDef[]): readonly string[] {
  const { outputs } = analysis.access
  if (outputs.length !== fields.length) {
    return [`${outputs.length} outputs, the server has ${fields.length}`]
  }
  const differences: string[] = []
  for (const [index, field] of fields.entries()) {
    const name = outputs[index]?.name
    if (name !== field.name) differences.push(`${index + 1}: ${name} is ${field.name}`)
  }
  return differences
}

function unknownOrigins(analysis: Analysis, fields: readonly pg.FieldDef[]): readonly string[] {
  const unknown: string[] = []
  for (const [index, field] of fields.entries()) {
    if (field.tableID === 0) continue
    const trace = analysis.outputs?.[index]
    if (trace === undefined) continue
    const known = trace.origins.some(
      (origin) => origin.relation === field.tableID && origin.attribute === field.columnID,
    )
    if (!known) unknown.push(`${index + 1}: ${field.tableID}.${field.columnID}`)
  }
  return unknown
}

/** Sums over many verdicts, with the cases that failed. */
export class Tally {
  compared = 0
  skipped = 0
  incomplete = 0
  recorded = 0
  surplus = 0
  surplusQueries = 0
  readonly missing: { text: string; names: readonly string[] }[] = []
  readonly outputs: { text: string; differences: readonly string[] }[] = []
  readonly origins: { text: string; unknown: readonly string[] }[] = []
  readonly largestSurplus: { text: string; names: readonly string[] }[] = []
  /** Queries for which the server recorded a column at all. */
  withColumns = 0
  readonly incompleteReasons = new Map<string, number>()
  readonly incompleteTexts = new Map<string, string>()
  readonly skipReasons = new Map<string, number>()

  add(text: string, result: Verdict): void {
    if (result.kind === 'skipped') {
      this.skipped += 1
      const reason = result.reason.slice(0, 60)
      this.skipReasons.set(reason, (this.skipReasons.get(reason) ?? 0) + 1)
      return
    }
    this.compared += 1
    this.recorded += result.recorded
    if (result.recorded > 0) this.withColumns += 1
    // An opaque output names everything within reach: its surplus is no measure of the tracing.
    if (result.complete) this.surplus += result.surplus.length
    if (result.complete && result.surplus.length > 0) {
      this.surplusQueries += 1
      this.largestSurplus.push({ text, names: result.surplus })
    }
    if (!result.complete) {
      this.incomplete += 1
      for (const reason of result.incomplete) {
        this.incompleteReasons.set(reason, (this.incompleteReasons.get(reason) ?? 0) + 1)
        if (!this.incompleteTexts.has(reason)) this.incompleteTexts.set(reason, text)
      }
    }
    if (result.missing.length > 0) this.missing.push({ text, names: result.missing })
    if (result.outputs.length > 0) this.outputs.push({ text, differences: result.outputs })
    if (result.origins.length > 0) this.origins.push({ text, unknown: result.origins })
  }

  /** One line of figures. */
  summary(): string {
    return (
      `${this.compared} compared (${this.withColumns} with columns), ${this.skipped} skipped; ` +
      `fewer: ${this.missing.length}; outputs differ: ${this.outputs.length}; ` +
      `origins unknown: ${this.origins.length}; incomplete: ${this.incomplete}; ` +
      `surplus: ${this.surplus} columns in ${this.surplusQueries} queries ` +
      `(${this.recorded} recorded)`
    )
  }
}
