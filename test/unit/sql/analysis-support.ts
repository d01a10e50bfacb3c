/** A session over the fixture's catalog, without a server: what the analysis tests share. */
import { readFileSync } from 'node:fs'
import { defaultLimits } from '../../../src/core/core.ts'
import {
  analyse,
  Catalog,
  SqlParser,
  type Analysis,
  type CatalogSnapshot,
  type ColumnAccess,
  type FunctionRow,
  type OpenCursor,
  type SessionFacts,
  type SyntaxNode,
  type Use,
} from '../../../src/sql/sql.ts'

const snapshot = JSON.parse(
  readFileSync(new URL('data/analysis-corpus.json', import.meta.url), 'utf8'),
) as CatalogSnapshot

export const catalog = Catalog.from(snapshot)

type Made = 'functions' | 'types' | 'relations'

/** The fixture's catalog with more objects in it. */
export function catalogWith(more: Partial<Pick<CatalogSnapshot, Made>>): Catalog {
  const { functions = [], types = [], relations = [] } = more
  return Catalog.from({
    ...snapshot,
    functions: [...snapshot.functions, ...functions],
    types: [...snapshot.types, ...types],
    relations: [...snapshot.relations, ...relations],
  })
}

/** A function in SQL that somebody made in public. */
export function sqlFunction(row: Partial<FunctionRow> & Pick<FunctionRow, 'oid' | 'name'>) {
  return {
    schema: 'public',
    kind: 'function',
    language: 'sql',
    volatility: 'volatile',
    strict: false,
    securityDefiner: false,
    returnsSet: false,
    returnType: 25,
    argumentTypes: [],
    arguments: [],
    defaultCount: 0,
    variadic: false,
    body: 'SELECT 1',
    bodyIsParsed: false,
    settings: [],
    extension: null,
    ...row,
  } as const satisfies FunctionRow
}
export const parser = await SqlParser.create({ limits: defaultLimits })

const tools = {
  parse: (text: string) => parser.parseBody(text),
  parsePlpgsql: (text: string) => parser.parsePlpgsql(text),
}

/** Follows prepared statements, cursors and search_path as a session's registry does. */
export class TestSession {
  searchPath: readonly string[] | 'unknown' = ['pg_catalog', 'public']
  temporarySchema: string | null = null
  readonly #prepared = new Map<string, SyntaxNode>()
  readonly #cursors = new Map<string, OpenCursor>()
  readonly #catalog: Catalog

  constructor(own: Catalog = catalog) {
    this.#catalog = own
  }

  /** Analyses every statement of the string; its effects hold for the next. */
  run(sql: string): Analysis[] {
    const result = parser.parse(Buffer.from(sql))
    if (result.kind !== 'parsed') throw new Error(`does not parse: ${sql}`)
    return result.statements.map((statement) => {
      const facts: SessionFacts = {
        searchPath: this.searchPath,
        role: 'app',
        temporarySchema: this.temporarySchema,
        prepared: (name) => this.#prepared.get(name),
        cursor: (name) => this.#cursors.get(name),
      }
      const analysis = analyse(statement, this.#catalog, facts, tools)
      for (const effect of analysis.sessionEffects) {
        if (effect.kind === 'prepare') this.#prepared.set(effect.name, effect.statement)
        if (effect.kind === 'declare') {
          const { statement, analysis: held } = effect
          this.#cursors.set(effect.name, { statement, held })
        }
        if (effect.kind === 'set' && effect.name === 'search_path' && effect.value !== null) {
          this.searchPath = ['pg_catalog', ...effect.value.split(',').map((name) => name.trim())]
        }
        if (effect.kind === 'reset' && effect.name === 'search_path') {
          this.searchPath = ['pg_catalog', 'public']
        }
      }
      return analysis
    })
  }
}

/** The analysis of one statement in a fresh session. */
export function one(
  sql: string,
  searchPath?: readonly string[] | 'unknown',
  own?: Catalog,
): Analysis {
  const session = new TestSession(own)
  if (searchPath !== undefined) session.searchPath = searchPath
  const [analysis] = session.run(sql)
  if (analysis === undefined) throw new Error('no statement')
  return analysis
}

/** `public.users.ssn` → every entry of the column, whatever way it came in. */
export function entries(analysis: Analysis, dotted: string): readonly ColumnAccess[] {
  return analysis.access.columns.filter(
    (column) => `${column.schema}.${column.relation}.${column.name}` === dotted,
  )
}

export function uses(analysis: Analysis, dotted: string): readonly Use[] {
  const all = new Set(entries(analysis, dotted).flatMap((column) => column.uses))
  return [...all].sort()
}

/** The sources of an output as `column via`, with + for total and - for not. */
export function sources(analysis: Analysis, index = 0): string[] {
  return (analysis.access.outputs[index]?.sources ?? [])
    .map((source) => {
      const total = source.via === 'derived' ? (source.total === true ? '+' : '-') : ''
      return `${source.column} ${source.via}${total}`
    })
    .sort()
}

/** Columns that the client named, sorted. */
export function columnNames(analysis: Analysis): string[] {
  const names = analysis.access.columns.map(
    (column) => `${column.schema}.${column.relation}.${column.name}`,
  )
  return [...new Set(names)].sort()
}

/** Named cases of a corpus file, each with its steps. */
export function corpus(file: string): { name: string; steps: string[] }[] {
  const text = readFileSync(new URL(`../../corpus/${file}`, import.meta.url), 'utf8')
  return text
    .split(/^-- case: /m)
    .slice(1)
    .map((block) => {
      const end = block.indexOf('\n')
      const steps = block.slice(end).split(';;')
      return { name: block.slice(0, end).trim(), steps: steps.map((step) => step.trim()) }
    })
}
