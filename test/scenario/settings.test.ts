/**
 * Settings that the policy gives, locks, or does not let be changed: by none of the ways that lead to
 * one, under none of its names, and not at the start of the session either.
 */
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

let postgres: TestPostgres
let proxy: ProxyInProcess

const groups = {
  agents: { read: ['*'] },
  readers: { read: ['*'], write: ['*'], settings: { default_transaction_read_only: 'on' } },
  tuned: { read: ['*'], effects: { '*': 'allow' }, locked: ['work_mem'] },
}

beforeAll(async () => {
  postgres = await startPostgres({ users: { app: { password: 'app' } } })
  await execute(
    postgres,
    `CREATE TABLE rows (id int, tenant int);
     INSERT INTO rows VALUES (1, 1), (2, 7);
     ALTER TABLE rows ENABLE ROW LEVEL SECURITY;
     CREATE POLICY tenant ON rows USING (tenant = current_setting('app.tenant', true)::int);
     GRANT ALL ON rows TO app;`,
  )
  proxy = await startProxy(postgres, {
    upstream: { user: 'app', password: 'app' },
    users: Object.fromEntries(Object.keys(groups).map((name) => [name, { groups: [name] }])),
    data: { regate: { columns: {}, groups } },
  })
})
afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
})

async function as<T>(
  user: keyof typeof groups,
  options: string,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client({ connectionString: proxy.url('postgres', user), options })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

describe('a setting that SET may not change', () => {
  it.each(['-c app.tenant=7', '-c App.Tenant=7', '--app.tenant=7'])(
    'may not be brought along: %s',
    async (options) => {
      await expect(
        as('agents', options, (client) => client.query('SELECT * FROM rows')),
      ).rejects.toMatchObject({
        code: '28000',
        message: 'you may not set app.tenant when connecting',
        detail: 'Rule regate.connect.settings.',
      })
    },
  )

  it('leaves those that may be', async () => {
    const options = '-c statement_timeout=5s -c DateStyle=ISO -c search_path=public'
    const { rows } = await as('agents', options, (client) => client.query('SHOW statement_timeout'))
    expect(rows).toEqual([{ statement_timeout: '5s' }])
  })
})

describe('a locked setting', () => {
  it.each([
    "SET sort_mem = '1GB'",
    "SELECT set_config('Sort_Mem', '1GB', false)",
    'RESET sort_mem',
  ])('is locked under its old name: %s', async (text) => {
    await expect(as('tuned', '', (client) => client.query(text))).rejects.toMatchObject({
      code: '42501',
      message: 'the setting "work_mem" is locked by the policy',
    })
  })

  it('is so at the start, too', async () => {
    await expect(
      as('tuned', '-c sort_mem=1GB', (client) => client.query('SHOW work_mem')),
    ).rejects.toThrow('the setting "work_mem" is locked by the policy')
  })

  it.each([
    'BEGIN READ WRITE',
    'START TRANSACTION READ WRITE',
    'BEGIN; SET TRANSACTION READ WRITE',
    'BEGIN; SET transaction_read_only = off',
    "BEGIN; SELECT set_config('transaction_read_only', 'off', true)",
    'SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE',
  ])('of transactions holds in each of them: %s', async (text) => {
    await expect(
      as('readers', '', (client) => client.query(`${text}; INSERT INTO rows VALUES (3, 3)`)),
    ).rejects.toMatchObject({ code: '42501' })
  })

  it('may be asked for as it is', async () => {
    const { rows } = await as('readers', '', async (client) => {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY')
      return await client.query('SHOW transaction_read_only')
    })
    expect(rows).toEqual([{ transaction_read_only: 'on' }])
  })
})
