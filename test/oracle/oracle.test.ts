/**
 * The oracle in short: hand-written corners, the corpus and a small SQLsmith run's worth of shapes,
 * on an embedded server. The long versions are regress.long.ts and replay.long.ts.
 */
import { readFileSync } from 'node:fs'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits } from '../../src/core/core.ts'
import { SqlParser } from '../../src/sql/sql.ts'
import { catalogQuery, loadCatalog } from '../../src/upstream/upstream.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { compareQuery, parseOne, plainFacts, Tally, type OracleSession } from './oracle.ts'
import { queryWithin, scriptStatements } from './suite.ts'

let server: TestPostgres
let parser: SqlParser
let session: OracleSession

beforeAll(async () => {
  server = await startPostgres({ settings: { log_statement: 'none' } })
  parser = await SqlParser.create({ limits: defaultLimits })
  const client = new pg.Client({ connectionString: server.url() })
  await client.connect()
  await client.query(readFileSync('test/corpus/schema.sql', 'utf8'))
  const { catalog } = await loadCatalog(catalogQuery(client))
  await client.query('BEGIN')
  session = { client, parser, catalog, facts: plainFacts(['pg_catalog', 'public']) }
})

afterAll(async () => {
  await session?.client.end()
  await parser?.close()
  await server?.stop()
})

async function tallyOf(texts: readonly string[]): Promise<Tally> {
  const tally = new Tally()
  for (const text of texts) {
    const query = queryWithin(text)
    if (parseOne(parser, query)?.kind === 'select')
      tally.add(query, await compareQuery(session, query))
  }
  return tally
}

/** The steps of the corpus: cases are separated by a comment line, steps by `;;`. */
function corpusSteps(file: string): string[] {
  return readFileSync(file, 'utf8')
    .split(/^--.*$/m)
    .flatMap((part) => part.split(/;;|;\s*(?=\S)/))
    .map((step) => step.trim())
    .filter((step) => step !== '')
}

function expectAgreement(tally: Tally): void {
  expect(tally.missing).toEqual([])
  expect(tally.outputs).toEqual([])
  expect(tally.origins).toEqual([])
}

describe('PostgreSQL and the analysis agree', () => {
  it('on the corners of name resolution', async () => {
    const tally = await tallyOf(scriptStatements(readFileSync('test/oracle/corners.sql', 'utf8')))
    expectAgreement(tally)
    expect(tally.compared).toBeGreaterThan(100)
    expect([...tally.incompleteTexts]).toEqual([])
    // Whole rows: the server records no column of them, the analysis lists every one.
    const wholeRow = /\b(u|users|cards|c|s\.x)\b/
    expect(tally.largestSurplus.filter(({ text }) => !wholeRow.test(text))).toEqual([])
  })

  it('on the corpus of leaks and of what must work', async () => {
    const tally = await tallyOf([
      ...corpusSteps('test/corpus/leaks.sql'),
      ...corpusSteps('test/corpus/utility.sql'),
    ])
    expectAgreement(tally)
    expect(tally.compared).toBeGreaterThan(100)
  })

  it('would show a column that is missing, an output of another name and a strange origin', async () => {
    const { catalog, ...rest } = session
    // A catalog in which users has other columns: what a stale one would be.
    const users = catalog.relation('public', 'users')
    const wrong = catalog.with({
      changed: {
        ...{ types: [], functions: [], operators: [] },
        relations: [
          { ...users!, oid: 1, columns: users!.columns.filter(({ name }) => name !== 'ssn') },
        ],
      },
      present: {
        relations: [...catalog.relations()]
          .map(({ oid }) => oid)
          .filter((oid) => oid !== users!.oid),
        types: catalog.snapshot.types.map(({ oid }) => oid),
        functions: catalog.snapshot.functions.map(({ oid }) => oid),
        operators: [],
      },
      schemas: catalog.schemas,
      casts: [],
      extensions: [],
    })
    const verdict = await compareQuery({ ...rest, catalog: wrong }, 'SELECT * FROM users')
    if (verdict.kind !== 'compared') throw new Error(verdict.reason)
    expect(verdict.missing).toEqual(['public.users.ssn'])
    expect(verdict.outputs.length).toBeGreaterThan(0)
    expect(verdict.origins.length).toBeGreaterThan(0)
  })
})
