/**
 * PostgreSQL's regression suite, statement by statement, with the catalog as it is at each of them:
 *
 *   npm run test:oracle:replay -- [--only test,test] [--failures file]
 *
 * Starts Debian's PostgreSQL 15; `--url postgres://…/scratch` takes another, whose database should
 * be empty: the suite leaves its objects there. `--suite` names another copy of the suite.
 *
 * Every statement is analysed before it runs; SELECTs go through the oracle, inside whatever
 * transaction the suite has open. Counts how many of the statements that the server then accepts
 * have a complete analysis, and compares those of hand-checked.json with what a person found right.
 * `--sample 200 --seed 1` writes such a list, to be read statement by statement, to standard output.
 */
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { defaultLimits } from '../../src/core/core.ts'
import {
  analyse,
  SqlParser,
  type Analysis,
  type Catalog,
  type OpenCursor,
  type SyntaxNode,
} from '../../src/sql/sql.ts'
import {
  catalogQuery,
  loadCatalog,
  loadOverlay,
  reloadCatalog,
  type LoadedCatalog,
} from '../../src/upstream/upstream.ts'
import { HandChecked } from './hand-checked.ts'
import { analysisTools, compareQuery, Tally } from './oracle.ts'
import { startSuiteServer, suiteFolder, suiteScript, suiteVariables } from './suite-server.ts'
import { scheduleTests, scriptStatements } from './suite.ts'

const { values } = parseArgs({
  options: {
    url: { type: 'string' },
    suite: { type: 'string' },
    only: { type: 'string' },
    failures: { type: 'string' },
    sample: { type: 'string' },
    seed: { type: 'string', default: '1' },
  },
})
const server = values.url === undefined ? await startSuiteServer(values.suite, false) : null
const suite = server?.suite ?? suiteFolder(values.suite)
const url = server?.url ?? values.url ?? ''

const tally = new Tally()
const checked = new HandChecked()
let statements = 0
let accepted = 0
let complete = 0
let dynamic = 0
const exceptions: string[] = []
const incompleteCases: string[] = []
const kinds = new Map<string, { accepted: number; complete: number }>()
const reasons = new Map<string, number>()

/** One connection, as psql has one for each test. */
class Replay {
  readonly #test: string
  readonly #client: pg.Client
  readonly #observer: pg.Client
  readonly #parser: SqlParser
  #base: LoadedCatalog
  #overlay: Catalog | null = null
  #searchPath: readonly string[] | 'unknown' = 'unknown'
  #temporarySchema: string | null = null
  #transaction: 'I' | 'T' | 'E' = 'I'
  readonly #prepared = new Map<string, SyntaxNode>()
  readonly #cursors = new Map<string, OpenCursor>()

  constructor(
    test: string,
    client: pg.Client,
    observer: pg.Client,
    parser: SqlParser,
    base: LoadedCatalog,
  ) {
    this.#test = test
    this.#client = client
    this.#observer = observer
    this.#parser = parser
    this.#base = base
    const connection = (client as unknown as { connection: NodeJS.EventEmitter }).connection
    connection.on('readyForQuery', ({ status }: { status: 'I' | 'T' | 'E' }) => {
      this.#transaction = status
    })
  }

  get base(): LoadedCatalog {
    return this.#base
  }

  get catalog(): Catalog {
    return this.#overlay ?? this.#base.catalog
  }

  async begin(): Promise<void> {
    await this.#client.query("SET statement_timeout = '10s'; SET lock_timeout = '2s'")
    await this.#facts()
  }

  async run(text: string): Promise<void> {
    if (this.#transaction === 'E') {
      await this.#execute(text, null)
      return
    }
    const parsed = this.#parser.parseBody(text)
    if (parsed?.length !== 1 || parsed[0] === undefined) {
      await this.#execute(text, null)
      return
    }
    statements += 1
    let analysis: Analysis | null = null
    try {
      analysis = analyse(parsed[0], this.catalog, this.#sessionFacts(), analysisTools(this.#parser))
    } catch (error) {
      exceptions.push(`-- ${String(error)}\n${text}`)
    }
    if (parsed[0].kind === 'select') await this.#compare(text)
    await this.#execute(text, analysis)
  }

  async #compare(text: string): Promise<void> {
    const outside = this.#transaction === 'I'
    if (outside) await this.#client.query('BEGIN')
    const facts = this.#sessionFacts()
    const session = { client: this.#client, parser: this.#parser, catalog: this.catalog, facts }
    tally.add(text, await compareQuery(session, text))
    if (outside) await this.#client.query('ROLLBACK')
  }

  async #execute(text: string, analysis: Analysis | null): Promise<void> {
    let ok = true
    try {
      await this.#client.query(text)
    } catch (error) {
      if ((error as { code?: string }).code === undefined) throw error
      ok = false
      // The error comes before the ReadyForQuery that tells the state of the transaction.
      await this.#client.query('')
    }
    if (analysis !== null && ok) {
      count(text, analysis)
      checked.add(this.#test, text, analysis)
    }
    const reads = analysis?.kind === 'select' && !analysis.changesCatalog
    if (!reads) await this.#after(analysis, ok)
  }

  async #after(analysis: Analysis | null, ok: boolean): Promise<void> {
    if (analysis !== null && ok) {
      for (const effect of analysis.sessionEffects) {
        if (effect.kind === 'prepare') this.#prepared.set(effect.name, effect.statement)
        if (effect.kind === 'declare') {
          const { statement, analysis: held } = effect
          this.#cursors.set(effect.name, { statement, held })
        }
      }
    }
    if (this.#transaction === 'E') return
    await this.#facts()
    if (this.#transaction === 'I') {
      this.#overlay = null
      const changes = analysis === null || analysis.changesCatalog || endings.has(analysis.kind)
      if (changes) this.#base = await reloadCatalog(catalogQuery(this.#observer), this.#base)
    } else if (analysis === null || analysis.changesCatalog || analysis.kind === 'transaction') {
      const { overlay } = await loadOverlay(catalogQuery(this.#client), this.#base)
      this.#overlay = this.#base.catalog.with(overlay)
    }
  }

  async #facts(): Promise<void> {
    const { rows } = await this.#client.query<{ path: string[]; temporary: string | null }>(
      `SELECT pg_catalog.current_schemas(true)::pg_catalog.text[] AS path,
        (SELECT n.nspname FROM pg_catalog.pg_namespace n
         WHERE n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()) AS temporary`,
    )
    this.#searchPath = rows[0]?.path ?? 'unknown'
    this.#temporarySchema = rows[0]?.temporary ?? null
  }

  #sessionFacts(): Parameters<typeof analyse>[2] {
    return {
      searchPath: this.#searchPath,
      role: 'postgres',
      temporarySchema: this.#temporarySchema,
      prepared: (name) => this.#prepared.get(name),
      cursor: (name) => this.#cursors.get(name),
    }
  }
}

const endings: ReadonlySet<string> = new Set(['transaction', 'do', 'call', 'discard'])

function count(text: string, analysis: Analysis): void {
  const entry = kinds.get(analysis.kind) ?? { accepted: 0, complete: 0 }
  kinds.set(analysis.kind, entry)
  const { incomplete } = analysis.access
  if (
    ['do', 'call'].includes(analysis.kind) ||
    incomplete.some((reason) => reason.includes('runs SQL that it makes itself'))
  ) {
    dynamic += 1
    return
  }
  accepted += 1
  entry.accepted += 1
  if (analysis.access.complete) {
    complete += 1
    entry.complete += 1
    return
  }
  for (const reason of incomplete) reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
  incompleteCases.push(`-- ${incomplete.slice(0, 4).join(' | ')}\n${text.trim()}\n`)
}

async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

/** An interrupted run reports what it has. */
let stopped = false
process.once('SIGINT', () => {
  stopped = true
})

async function main(directory: string): Promise<void> {
  const parser = await SqlParser.create({ limits: defaultLimits })
  const observer = await connect()
  let base = await loadCatalog(catalogQuery(observer))
  const variables = suiteVariables(directory, new URL(url).pathname.slice(1))
  const only = values.only?.split(',')
  for (const test of scheduleTests(join(directory, 'parallel_schedule'))) {
    const file = join(directory, 'sql', `${test}.sql`)
    if (!existsSync(file) || (only !== undefined && !only.includes(test))) continue
    base = await reloadCatalog(catalogQuery(observer), base)
    const client = await connect()
    const replay = new Replay(test, client, observer, parser, base)
    await replay.begin()
    try {
      for (const text of scriptStatements(suiteScript(directory, test), variables)) {
        await replay.run(text)
      }
    } catch (error) {
      process.stderr.write(`${test}: ${String(error)}\n`)
    }
    base = replay.base
    await client.end()
    process.stderr.write(`${test}: ${statements} statements, ${tally.summary()}\n`)
    if (stopped) break
  }
  await observer.end()
  await parser.close()
  report()
}

function report(): void {
  const share = ((100 * complete) / accepted).toFixed(2)
  const lines = [
    tally.summary(),
    `${statements} statements, ${accepted} accepted by the server and neither DO, CALL nor dynamic ` +
      `(${dynamic} are): complete ${complete} (${share} %); exceptions: ${exceptions.length}`,
  ]
  if (values.sample !== undefined) {
    const sample = checked.sample(Number(values.sample), Number(values.seed))
    process.stdout.write(`${JSON.stringify(sample, null, 1)}\n`)
    return
  }
  lines.push(checked.summary())
  process.stdout.write(`${lines.join('\n')}\n`)
  if (checked.wrong.length > 0) process.exitCode = 1
  if (values.failures === undefined) return
  lines.push('\n## exceptions', ...exceptions, '\n## fewer columns than the server')
  for (const { text, names } of tally.missing) lines.push(`-- ${names.join(' | ')}\n${text}\n`)
  lines.push('\n## outputs differ')
  for (const { text, differences } of tally.outputs) {
    lines.push(`-- ${differences.join(' | ')}\n${text}\n`)
  }
  lines.push('\n## origins unknown')
  for (const { text, unknown } of tally.origins) lines.push(`-- ${unknown.join(' | ')}\n${text}\n`)
  lines.push('\n## surplus')
  for (const { text, names } of tally.largestSurplus)
    lines.push(`-- ${names.join(' | ')}\n${text}\n`)
  lines.push('\n## kinds')
  for (const [kind, entry] of kinds) lines.push(`${kind}: ${entry.complete} of ${entry.accepted}`)
  lines.push('\n## reasons')
  for (const [reason, times] of [...reasons].sort((a, b) => b[1] - a[1])) {
    lines.push(`${times} × ${reason}`)
  }
  lines.push('\n## incomplete', ...incompleteCases)
  writeFileSync(values.failures, lines.join('\n'))
}

try {
  await main(suite)
} finally {
  await server?.stop()
}
