/**
 * Masked results of every built-in type, read by drivers that decode binary formats strictly:
 * asyncpg (binary only), psycopg 3 (libpq, binary), pgjdbc (binary transfer) and node-postgres. What
 * is not installed is skipped and says so. The values are those of totality.ts.
 */
import { execFile, execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Mask } from '../../src/policy/policy.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type Proxy } from '../support/proxy.ts'
import { edgeClassified, edgeTables } from './totality.ts'

const masks: Readonly<Record<string, Mask>> = {
  nothing: { kind: 'null' },
  redact: { kind: 'redact' },
  hash: { kind: 'hash' },
  partial: { kind: 'partial', keep_start: 1, keep_end: 1 },
  bucket: { kind: 'bucket', size: 100 },
  truncate: { kind: 'truncate', unit: 'month', digits: 2 },
  noise: { kind: 'noise', ratio: 0.2 },
  constant: { kind: 'constant', value: 42 },
}

const worlds = ['first', 'other'] as const

let server: TestPostgres
let proxy: Proxy
let rowCount: number

beforeAll(async () => {
  server = await startPostgres({ settings: { log_statement: 'none' } })
  const admin = new pg.Client({ connectionString: server.url() })
  await admin.connect()
  const columns: Record<string, { class: string; mask: Mask }> = {}
  for (const world of worlds) {
    await admin.query(`DROP TABLE IF EXISTS edge; ${edgeTables[world]}`)
    rowCount = (await admin.query('SELECT FROM edge')).rowCount ?? 0
    for (const [name, mask] of Object.entries(masks)) {
      await admin.query(`CREATE TABLE ${world}_${name} AS TABLE edge`)
      for (const column of Object.keys(edgeClassified)) {
        const dotted = column.replace('public.edge.', `public.${world}_${name}.`)
        columns[dotted] = { class: 'pii', mask }
      }
    }
  }
  await admin.end()
  const groups = { agents: { read: ['*'], unmask: [], infer: false, limits: {} } }
  proxy = await startProxy(server, { data: { regate: { columns, groups } }, groups: ['agents'] })
}, 180_000)

afterAll(async () => {
  await proxy?.stop()
  await server?.stop()
})

const queriesOf = (world: 'first' | 'other'): readonly string[] =>
  Object.keys(masks).map((name) => `SELECT * FROM ${world}_${name} ORDER BY id`)
const queries = queriesOf('other')
/** Python has no dates before the year 1 and none after 9999, masked or not. */
const harmless = queriesOf('first')
const run = promisify(execFile)

function hasPython(module: string): boolean {
  return spawnSync('/usr/bin/python3', ['-c', `import ${module}`]).status === 0
}

const asyncpg = `
import asyncio, asyncpg, json, sys
async def main():
    c = await asyncpg.connect(sys.argv[1])
    print(json.dumps([len(await c.fetch(q)) for q in json.loads(sys.argv[2])]))
    await c.close()
asyncio.run(main())`

const psycopg = `
import json, psycopg, sys
with psycopg.connect(sys.argv[1], autocommit=True) as c:
    counts = []
    for q in json.loads(sys.argv[2]):
        for binary in (True, False):
            n = len(c.cursor(binary=binary).execute(q).fetchall())
        counts.append(n)
    print(json.dumps(counts))`

const java = `
import java.sql.*;
import java.util.*;
public class Masked {
  public static void main(String[] args) throws Exception {
    Properties p = new Properties();
    p.put("user", "agent"); p.put("binaryTransfer", "true"); p.put("prepareThreshold", "-1");
    StringBuilder out = new StringBuilder("[");
    try (Connection c = DriverManager.getConnection(args[0], p)) {
      for (int i = 1; i < args.length; i++) {
        int n = 0;
        try (PreparedStatement s = c.prepareStatement(args[i]); ResultSet r = s.executeQuery()) {
          while (r.next()) {
            for (int k = 1; k <= r.getMetaData().getColumnCount(); k++) { r.getObject(k); r.getString(k); }
            n++;
          }
        }
        out.append(i > 1 ? "," : "").append(n);
      }
    }
    System.out.println(out.append("]"));
  }
}`

const jar = '/usr/share/java/postgresql.jar'

describe('drivers read masked results of every type', () => {
  const expected = (): readonly number[] => queries.map(() => rowCount)

  it.skipIf(!hasPython('asyncpg'))(
    'asyncpg, which knows binary only',
    async () => {
      const url = proxy.url('postgres', 'agent')
      const { stdout } = await run('/usr/bin/python3', [
        '-c',
        asyncpg,
        url,
        JSON.stringify(harmless),
      ])
      expect(JSON.parse(stdout)).toEqual(expected())
    },
    60_000,
  )

  it.skipIf(!hasPython('psycopg'))(
    'psycopg 3 over libpq, binary and text',
    async () => {
      const url = proxy.url('postgres', 'agent')
      const { stdout } = await run('/usr/bin/python3', [
        '-c',
        psycopg,
        url,
        JSON.stringify(harmless),
      ])
      expect(JSON.parse(stdout)).toEqual(expected())
    },
    60_000,
  )

  it.skipIf(!existsSync(jar) || spawnSync('javac', ['-version']).error !== undefined)(
    'pgjdbc with binary transfer',
    async () => {
      const directory = await mkdtemp(join(tmpdir(), 'regate-jdbc-'))
      try {
        await writeFile(join(directory, 'Masked.java'), java)
        execFileSync('javac', ['-d', directory, join(directory, 'Masked.java')])
        const url = `jdbc:postgresql://${proxy.host}:${proxy.port}/postgres`
        const { stdout } = await run('java', [
          '-cp',
          `${directory}:${jar}`,
          'Masked',
          url,
          ...queries,
        ])
        expect(JSON.parse(stdout)).toEqual(expected())
      } finally {
        await rm(directory, { recursive: true, force: true })
      }
    },
    120_000,
  )

  it('node-postgres, text and binary', async () => {
    const client = new pg.Client({ connectionString: proxy.url('postgres', 'agent') })
    await client.connect()
    try {
      for (const text of queries) {
        expect((await client.query(text)).rowCount).toBe(rowCount)
        // Not in its types, but documented: results in binary.
        const config = { text, binary: true }
        expect((await client.query(config)).rowCount).toBe(rowCount)
      }
    } finally {
      await client.end()
    }
  }, 60_000)
})
