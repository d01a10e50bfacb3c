/**
 * Errors of texts that do not parse, against a real server: message, SQLSTATE, position, DETAIL, HINT.
 * REGATE_TEST_POSTGRES_URLS names further servers (comma-separated URLs), of any version.
 */
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits } from '../../../src/core/core.ts'
import { SqlParser } from '../../../src/sql/parser.ts'
import { startPostgres, type TestPostgres } from '../../support/postgres.ts'
import { brokenStatements } from './parser-broken.ts'

interface Report {
  readonly message: string
  readonly sqlstate: string
  readonly position: number | undefined
  readonly detail: string | undefined
  readonly hint: string | undefined
}

let parser: SqlParser
let server: TestPostgres
beforeAll(async () => {
  parser = await SqlParser.create({ limits: defaultLimits })
  server = await startPostgres()
}, 60_000)
afterAll(async () => {
  await server.stop()
  await parser.close()
})

/** PostgreSQL's sources that run before parse analysis; tablecmds.c: PARTITION BY foo, before 16. */
const grammarFiles = new Set([
  'scan.l',
  'gram.y',
  'parser.c',
  'scansup.c',
  'mbutils.c',
  'tablecmds.c',
])

/** The server's report where its grammar refuses the text. */
async function serverReport(client: pg.Client, text: string): Promise<Report | null> {
  await client.query('BEGIN')
  try {
    await client.query(text)
    return null
  } catch (cause) {
    if (!(cause instanceof pg.DatabaseError) || !grammarFiles.has(cause.file ?? '')) return null
    return {
      message: cause.message,
      sqlstate: cause.code ?? '',
      position: cause.position === undefined ? undefined : Number(cause.position),
      detail: cause.detail,
      hint: cause.hint,
    }
  } finally {
    await client.query('ROLLBACK')
  }
}

function ourReport(text: string, version: number): Report | null {
  const result = parser.parse(Buffer.from(text), version)
  if (result.kind === 'later') throw new Error('too large for this test')
  if (result.kind === 'parsed') return null
  const { message, sqlstate, position, detail, hint } = result.error
  return { message, sqlstate, position, detail, hint }
}

/** Texts that only the newer grammar has words for: its message differs, and that is listed. */
const newerGrammar =
  /ENFORCED|JSON_TABLE|JSON\(|PUBLICATION|MERGE|^SELECT [0-9$]|ON UPDATE SET (NULL|DEFAULT)|__pg__/

async function compare(url: string): Promise<{ compared: number; version: number }> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    const { rows } = await client.query<{ server_version_num: string }>('SHOW server_version_num')
    const version = Number(rows[0]?.server_version_num)
    let compared = 0
    for (const text of brokenStatements) {
      const theirs = await serverReport(client, text)
      const ours = ourReport(text, version)
      // What only the older grammar refuses is forwarded: the server's own error reaches the client.
      if (version < 180_000 && (ours === null || newerGrammar.test(text))) continue
      // libpg_query takes `$1abc` for `$1 abc`, as PostgreSQL 14 does: the server refuses it itself.
      if (text === 'SELECT $1abc') continue
      expect({ text, ...ours }).toEqual({ text, ...theirs })
      if (theirs !== null) compared += 1
    }
    return { compared, version }
  } finally {
    await client.end()
  }
}

describe('the error of a text that does not parse', () => {
  it('is the one that the server gives', { timeout: 60_000 }, async () => {
    const { compared } = await compare(server.url())
    expect(compared).toBeGreaterThan(400)
  })

  const others = (process.env['REGATE_TEST_POSTGRES_URLS'] ?? '').split(',').filter(Boolean)
  it.each(others)('is the one that another server gives: %s', { timeout: 60_000 }, async (url) => {
    const { compared, version } = await compare(url)
    console.log(`${version}: ${compared} errors are equal`)
    expect(compared).toBeGreaterThan(300)
  })

  it('counts characters, not bytes or UTF-16 units', () => {
    expect(ourReport("SELECT '😀ü' x y", 180_000)?.position).toBe(15)
  })

  it('says where the token behind stands on older servers', () => {
    const text = "(SELECT 'ü' LIMIT 1) LIMIT /* 😀 */ 2"
    expect(ourReport(text, 150_000)?.position).toBe(36)
    expect(ourReport(text, 180_000)?.position).toBe(22)
  })
})
