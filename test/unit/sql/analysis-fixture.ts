/**
 * Makes data/analysis-corpus.json, the catalog that the unit tests of the analysis resolve names
 * against: the corpus database, data/analysis-schema.sql, and a temporary table that shadows one.
 *   node scripts/run-ts.mjs test/unit/sql/analysis-fixture.ts
 */
import { readFileSync, writeFileSync } from 'node:fs'
import pg from 'pg'
import type { RelationRow } from '../../../src/sql/sql.ts'
import { loadCatalog } from '../../../src/upstream/catalog-load.ts'
import { execute, startPostgres } from '../../support/postgres.ts'

const here = new URL('.', import.meta.url)
/** System relations that the tests name; the others would only make the file large. */
const systemNames = new Set(
  'pg_class pg_namespace pg_stats pg_statistic pg_settings pg_locks pg_attribute columns'.split(
    ' ',
  ),
)

const server = await startPostgres({ version: 15 })
try {
  await execute(server, 'CREATE DATABASE corpus')
  const corpus = readFileSync(new URL('../../corpus/schema.sql', here), 'utf8')
  await execute(server, corpus, 'corpus')
  await execute(server, readFileSync(new URL('data/analysis-schema.sql', here), 'utf8'), 'corpus')
  const client = new pg.Client({ connectionString: server.url('corpus') })
  await client.connect()
  await client.query('CREATE TEMP TABLE cards (id int, pan text, harmless text)')
  const asText = { getTypeParser: () => (value: unknown) => value }
  const { catalog } = await loadCatalog(async (texts) => {
    const rows: (string | null)[][] = []
    for (const text of texts) {
      const result = await client.query({
        text,
        rowMode: 'array',
        types: asText,
      })
      rows.push(...(result.rows as (string | null)[][]))
    }
    return rows
  })
  await client.end()
  const isKept = (row: RelationRow): boolean =>
    !/^(pg_catalog|information_schema|pg_toast)/.test(row.schema) || systemNames.has(row.name)
  const relations = catalog.snapshot.relations.filter(isKept)
  const snapshot = { ...catalog.snapshot, relations }
  const lines = Object.entries(snapshot).map(([key, value]: [string, unknown]) =>
    Array.isArray(value)
      ? `${JSON.stringify(key)}: [\n${value.map((row) => JSON.stringify(row)).join(',\n')}\n]`
      : `${JSON.stringify(key)}: ${JSON.stringify(value)}`,
  )
  writeFileSync(new URL('data/analysis-corpus.json', here), `{\n${lines.join(',\n')}\n}\n`)
} finally {
  await server.stop()
}
