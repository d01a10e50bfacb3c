/** Temporary objects: what a session makes for itself is known to it, and to nobody else. */
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type Proxy } from '../support/proxy.ts'

let server: TestPostgres
let proxy: Proxy

beforeAll(async () => {
  server = await startPostgres()
  await execute(server, 'CREATE TABLE note (id int, body text); INSERT INTO note VALUES (1, $$x$$)')
  await execute(server, 'CREATE TABLE person (id int, ssn text)')
  await execute(server, "INSERT INTO person VALUES (1, 'S3CR3T')")
  const columns = { 'public.person.ssn': { class: 'pii', mask: { kind: 'redact' } } }
  const effects = { '*': 'allow' }
  const engineers = { read: ['*'], write: ['*'], ddl: 'allow', effects }
  proxy = await startProxy(server, {
    data: { regate: { columns, groups: { engineers } } },
    groups: ['engineers'],
  })
}, 120_000)

afterAll(async () => {
  await proxy?.stop()
  await server?.stop()
})

async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: proxy.url('postgres', 'eve') })
  await client.connect()
  return client
}

describe('a temporary table', () => {
  it('is read after it was made, in a transaction or without one, also by later statements', async () => {
    const client = await connect()
    try {
      await client.query('CREATE TEMP TABLE scratch AS SELECT id FROM note')
      expect((await client.query('SELECT id FROM scratch')).rows).toEqual([{ id: 1 }])
      await client.query('CREATE TABLE other (id int)')
      await client.query('DROP TABLE other')
      expect((await client.query('SELECT id FROM pg_temp.scratch')).rows).toEqual([{ id: 1 }])
      await client.query('BEGIN')
      await client.query('CREATE TEMPORARY TABLE more (n int)')
      await client.query('INSERT INTO more VALUES (7)')
      await client.query('COMMIT')
      expect((await client.query('SELECT n FROM more')).rows).toEqual([{ n: 7 }])
      expect((await client.query('SELECT id FROM scratch')).rows).toEqual([{ id: 1 }])
    } finally {
      await client.end()
    }
  })

  it('that hides a table is what is meant, and the table again when it is gone', async () => {
    const client = await connect()
    try {
      await client.query("CREATE TEMP TABLE person AS SELECT 2 AS id, 'mine' AS ssn")
      expect((await client.query('SELECT ssn FROM person')).rows).toEqual([{ ssn: 'mine' }])
      expect((await client.query('SELECT ssn FROM public.person')).rows).toEqual([{ ssn: '****' }])
      await client.query('DROP TABLE person')
      expect((await client.query('SELECT ssn FROM person')).rows).toEqual([{ ssn: '****' }])
      await client.query("CREATE TEMP TABLE person AS SELECT 2 AS id, 'mine' AS ssn")
      await client.query('DISCARD TEMP')
      expect((await client.query('SELECT ssn FROM person')).rows).toEqual([{ ssn: '****' }])
    } finally {
      await client.end()
    }
  })

  it('takes no masked value along', async () => {
    const client = await connect()
    try {
      const laundering = client.query('CREATE TEMP TABLE person AS SELECT ssn FROM public.person')
      await expect(laundering).rejects.toMatchObject({ code: '42501' })
    } finally {
      await client.end()
    }
  })
})
