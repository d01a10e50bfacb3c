/**
 * The oracle over many queries (`npm run test:oracle`):
 *
 *   npm run test:oracle -- [--sqlsmith 1000] [--seed 1] [--failures file]
 *
 * Starts Debian's PostgreSQL 15, runs PostgreSQL's regression suite on it and compares the queries of
 * the suite, and SQLsmith's, on the database that it leaves behind. `--url postgres://…/regression`
 * takes another one, `--file` adds a script. Nothing of the suite is in this repository.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { defaultLimits } from '../../src/core/core.ts'
import { SqlParser } from '../../src/sql/sql.ts'
import { catalogQuery, loadCatalog } from '../../src/upstream/upstream.ts'
import { compareQuery, parseOne, plainFacts, Tally } from './oracle.ts'
import { startSuiteServer } from './suite-server.ts'
import { queryWithin, scriptStatements } from './suite.ts'

const { values } = parseArgs({
  options: {
    url: { type: 'string' },
    suite: { type: 'string' },
    file: { type: 'string' },
    sqlsmith: { type: 'string' },
    seed: { type: 'string', default: '1' },
    failures: { type: 'string' },
  },
})

const server = values.url === undefined ? await startSuiteServer(values.suite, true) : null
const url = server?.url ?? values.url ?? ''
const suite = server?.suite ?? values.suite

async function main(): Promise<void> {
  const parser = await SqlParser.create({ limits: defaultLimits })
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  const { catalog } = await loadCatalog(catalogQuery(client))
  await client.query("SET statement_timeout = '5s'; SET search_path = public")
  await client.query('BEGIN')
  const facts = plainFacts(['pg_catalog', 'public'])
  const tally = new Tally()
  const seen = new Set<string>()
  for (const text of queries()) {
    const query = queryWithin(text)
    if (seen.has(query)) continue
    seen.add(query)
    if (parseOne(parser, query)?.kind !== 'select') continue
    tally.add(query, await compareQuery({ client, parser, catalog, facts }, query))
  }
  await client.end()
  await parser.close()
  report(tally)
}

function* queries(): Generator<string> {
  if (suite !== undefined) {
    const directory = join(suite, 'sql')
    for (const file of readdirSync(directory).sort()) {
      if (!file.endsWith('.sql')) continue
      yield* scriptStatements(readFileSync(join(directory, file), 'utf8'))
    }
  }
  if (values.file !== undefined) yield* scriptStatements(readFileSync(values.file, 'utf8'))
  if (values.sqlsmith !== undefined) {
    const { hostname, port, username, pathname, password } = new URL(url)
    const target = `host=${hostname} port=${port} user=${username} dbname=${pathname.slice(1)}`
    const output = execFileSync(
      'sqlsmith',
      [
        `--target=${target}`,
        '--dry-run',
        `--max-queries=${values.sqlsmith}`,
        `--seed=${values.seed}`,
        '--exclude-catalog',
      ],
      {
        maxBuffer: 1 << 30,
        env: { ...process.env, PGPASSWORD: decodeURIComponent(password) },
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    ).toString()
    yield* output.split(/;\n/)
  }
}

function report(tally: Tally): void {
  const lines: string[] = []
  const show = (
    title: string,
    cases: readonly { text: string }[],
    names: (index: number) => readonly string[],
  ) => {
    lines.push(`\n## ${title}: ${cases.length}`)
    for (const [index, { text }] of cases.entries()) {
      lines.push(`-- ${names(index).slice(0, 12).join(' | ')}\n${text.trim()}\n`)
    }
  }
  show('fewer columns than the server', tally.missing, (i) => tally.missing[i]?.names ?? [])
  show('outputs differ', tally.outputs, (i) => tally.outputs[i]?.differences ?? [])
  show('origins unknown', tally.origins, (i) => tally.origins[i]?.unknown ?? [])
  const count = (reasons: ReadonlyMap<string, number>): string =>
    [...reasons]
      .sort((a, b) => b[1] - a[1])
      .slice(0, 60)
      .map(([reason, times]) => `${times} × ${reason}`)
      .join('\n')
  lines.push(`\n## incomplete\n${count(tally.incompleteReasons)}\n`)
  for (const [reason, text] of tally.incompleteTexts) lines.push(`-- ${reason}\n${text.trim()}\n`)
  lines.push(`\n## skipped\n${count(tally.skipReasons)}`)
  show('surplus', tally.largestSurplus.slice(0, 60), (i) => tally.largestSurplus[i]?.names ?? [])
  if (values.failures !== undefined) writeFileSync(values.failures, lines.join('\n'))
  process.stdout.write(`${tally.summary()}\n`)
  if (tally.missing.length > 0 || tally.outputs.length > 0) process.exitCode = 1
}

try {
  await main()
} finally {
  await server?.stop()
}
