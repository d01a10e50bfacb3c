/**
 * A misspelt name is told in PostgreSQL's own words, as the server itself tells it: both are asked the
 * same, one directly, one through regate by a group that may read and not see everything.
 */
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type Proxy } from '../support/proxy.ts'

interface Told {
  readonly code?: string
  readonly message?: string
  readonly position?: string
  readonly hint?: string
  readonly detail?: string
}

let postgres: TestPostgres
let proxy: Proxy
let direct: Client
const through = new Map<string, Client>()

const groups = {
  agents: { read: ['*'], write: [], unmask: [] },
  writers: { read: ['*'], write: ['public.customers'], unmask: [], infer: false },
  some: { read: ['public.orders'], write: [], unmask: [] },
}

beforeAll(async () => {
  postgres = await startPostgres()
  await execute(
    postgres,
    `CREATE TABLE customers (id int PRIMARY KEY, name text, ssn text);
     CREATE TABLE orders (id int PRIMARY KEY, customer_id int, note text);
     CREATE VIEW names AS SELECT id, name FROM customers;
     CREATE FUNCTION late() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT gone FROM nowhere); END $$`,
  )
  direct = new Client({ connectionString: postgres.url('postgres') })
  await direct.connect()
  proxy = await startProxy(postgres, {
    data: {
      regate: {
        groups,
        columns: { 'public.customers.ssn': { class: 'pii', mask: { kind: 'redact' } } },
      },
    },
    users: Object.fromEntries(
      Object.keys(groups).map((name) => [name, { password: name, groups: [name] }]),
    ),
  })
  for (const name of Object.keys(groups)) {
    const client = new Client({ connectionString: proxy.url('postgres', name, name) })
    await client.connect()
    through.set(name, client)
  }
}, 120_000)

afterAll(async () => {
  for (const client of through.values()) await client.end()
  await direct.end()
  await proxy.stop()
  await postgres.stop()
})

async function told(client: Client | undefined, sql: string): Promise<Told> {
  if (client === undefined) throw new Error('no such client')
  return client.query(sql).then(
    () => ({}),
    (error: unknown) => error as Told,
  )
}

const spoken = ({ code, message, position }: Told): Told => ({
  ...(code === undefined ? {} : { code }),
  ...(message === undefined ? {} : { message }),
  ...(position === undefined ? {} : { position }),
})

describe('a name that is not there', () => {
  it.each([
    ['agents', 'SELECT nam FROM customers'],
    ['agents', 'SELECT id FROM custmers'],
    ['agents', 'SELECT id FROM publik.customers'],
    ['agents', 'SELECT id FROM public.custmers c WHERE c.id = 1'],
    ['agents', "SELECT 'é', c.nam FROM customers c"],
    ['agents', 'SELECT x.id FROM customers c'],
    ['agents', 'SELECT x.* FROM customers c'],
    ['agents', 'SELECT id FROM customers WHERE nam = 1'],
    ['agents', 'SELECT id FROM customers ORDER BY nam'],
    ['agents', 'SELECT count(*) FROM customers c JOIN orders o ON o.custmer_id = c.id'],
    ['agents', 'SELECT count(*) FROM customers JOIN orders USING (custmer_id)'],
    ['agents', 'SELECT (SELECT max(nam) FROM names) FROM orders'],
    ['agents', 'WITH c AS (SELECT id FROM customers) SELECT name FROM c'],
    ['agents', 'SELECT 1; SELECT nam FROM customers'],
    ['agents', 'EXPLAIN SELECT nam FROM customers'],
    ['agents', 'PREPARE p AS SELECT nam FROM customers'],
    ['agents', 'COPY (SELECT nam FROM customers) TO STDOUT'],
    ['writers', "INSERT INTO customers (id, nam) VALUES (1, 'x')"],
    ['writers', "UPDATE customers SET nam = 'x' WHERE id = 1"],
    ['writers', 'UPDATE customers SET name = nam WHERE id = 1'],
    ['writers', 'DELETE FROM customers WHERE nam = 1'],
    ['writers', 'DELETE FROM custmers WHERE id = 1'],
    ['writers', 'UPDATE custmers SET id = 1 WHERE id = 2'],
    ['writers', "INSERT INTO customers (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET nam = 'x'"],
  ])('%s: %s', async (group, sql) => {
    const expected = spoken(await told(direct, sql))
    expect(expected.code).toMatch(/^42/)
    const refused = await told(through.get(group), sql)
    expect(spoken(refused)).toEqual(expected)
    expect(refused.detail).toContain('regate.access.incomplete')
  })

  it('is spelt out to whom the policy lets read it', async () => {
    const refused = await told(through.get('agents'), 'SELECT c.nam FROM customers c')
    expect(refused.hint).toBe('Perhaps you meant to reference the column "c.name".')
  })

  it('tells nothing of a relation that may not be read', async () => {
    const refused = await told(through.get('some'), 'SELECT nam FROM customers')
    expect(refused).toMatchObject({ code: '42703', hint: undefined })
    const allowed = await told(through.get('some'), 'SELECT not FROM orders'.replace('not', 'nots'))
    expect(allowed.hint).toContain('"orders.note"')
  })

  it('is no excuse for what the policy denies', async () => {
    const refused = await told(through.get('agents'), 'DELETE FROM customers WHERE ssn = $$x$$')
    expect(refused.code).toBe('42501')
  })

  it('in a body is not the statement’s', async () => {
    for (const sql of ['SELECT late()', 'DO $$ BEGIN PERFORM gone FROM nowhere; END $$']) {
      expect((await told(through.get('agents'), sql)).code).toBe('42501')
    }
  })

  it('may be made by what stands before it', async () => {
    const sql = 'CREATE TABLE fresh (id int); SELECT id FROM fresh'
    expect((await told(through.get('agents'), sql)).code).toBe('42501')
  })
})
