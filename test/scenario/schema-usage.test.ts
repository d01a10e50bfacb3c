/**
 * The server passes over a schema of the search_path in which the role has no USAGE: regate must not
 * find a harmless table there while the server reads the one behind it, whoever takes the right away,
 * in whichever session, and in functions that run as somebody else.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

interface Data extends Record<string, unknown> {
  regate: { groups: { agents: Record<string, unknown> } }
}

const pollMs = 100
const agent = { user: 'agent', password: 'agent' }
let server: TestPostgres
let proxy: ProxyInProcess

/** Decoys named as the masked table is, each in a schema with a right of its own. */
const decoys = `
  CREATE ROLE readers;
  CREATE ROLE owner_of_closed;
  CREATE SCHEMA closed AUTHORIZATION owner_of_closed;
  CREATE SCHEMA granted;
  CREATE SCHEMA inherited;
  CREATE SCHEMA moving;
  GRANT USAGE ON SCHEMA granted TO agent;
  GRANT USAGE ON SCHEMA inherited TO readers;
  GRANT readers TO agent;
  DO $$ DECLARE s text; BEGIN
    FOREACH s IN ARRAY '{closed,granted,inherited,moving}'::text[] LOOP
      EXECUTE format('CREATE TABLE %I.users (id int, ssn text)', s);
      EXECUTE format('INSERT INTO %I.users VALUES (1, %L)', s, s);
    END LOOP;
  END $$;
  GRANT SELECT ON ALL TABLES IN SCHEMA public, closed, granted, inherited, moving TO agent, owner_of_closed;
  CREATE SCHEMA own AUTHORIZATION agent;
  CREATE TABLE own.users AS SELECT 1 AS id, 'own'::text AS ssn;
  GRANT SELECT ON own.users TO agent;
  CREATE FUNCTION as_caller() RETURNS text LANGUAGE sql STABLE AS 'SELECT reverse(ssn) FROM users WHERE id = 1';
  CREATE FUNCTION calls_caller() RETURNS text LANGUAGE sql STABLE BEGIN ATOMIC SELECT as_caller(); END;
  CREATE FUNCTION as_owner() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT reverse(ssn) FROM users WHERE id = 1';
  CREATE FUNCTION path_of_closed() RETURNS text LANGUAGE sql STABLE SET search_path = closed, public
    AS 'SELECT reverse(ssn) FROM users WHERE id = 1';
  ALTER FUNCTION as_owner() OWNER TO owner_of_closed;
`

beforeAll(async () => {
  server = await startPostgres({ users: { agent: { password: agent.password } } })
  await execute(server, readFileSync('test/corpus/schema.sql', 'utf8'))
  await execute(server, decoys)
  const data = JSON.parse(readFileSync('test/corpus/data.json', 'utf8')) as Data
  data.regate.groups.agents.effects = { dcl: 'allow' }
  const { host, port } = server
  const roles = { default: { user: agent.user, password_env: 'TEST_PASSWORD_DEFAULT' } }
  const upstream = { host, port, tls: { mode: 'disable' } }
  proxy = await startProxy(server, {
    groups: ['agents'],
    data,
    upstream: agent,
    configuration: { databases: { '*': { upstream, roles, catalog_poll: `${pollMs}ms` } } },
  })
})

afterAll(async () => {
  await proxy.stop()
  await server.stop()
})

const derived = 'SELECT reverse(ssn) AS x FROM users WHERE id = 1'
const backwards = (text: string) => [...text].reverse().join('')

/** What the first row shows, or the SQLSTATE. */
async function shown(client: pg.Client, text: string): Promise<string> {
  try {
    const { rows } = await client.query<{ x: string }>(text)
    return String(rows[0]?.x)
  } catch (error) {
    return (error as { code: string }).code
  }
}

async function connected<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(proxy.url('postgres', 'agent'))
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

const masked = '****'

it.each([
  ['a schema without the right', 'closed, public', derived, masked],
  ['a function of the caller', 'closed, public', 'SELECT as_caller() AS x', masked],
  ['a function with a path of its own', 'public', 'SELECT path_of_closed() AS x', masked],
  [
    'a function of who has the right',
    'closed, public',
    'SELECT as_owner() AS x',
    backwards('closed'),
  ],
  ['a schema that was granted', 'granted, public', derived, backwards('granted')],
  ['one that comes with a role', 'inherited, public', derived, backwards('inherited')],
])('looks names up as the server does behind %s', async (_, path, text, expected) => {
  await connected(async (client) => {
    await client.query(`SET search_path = ${path}`)
    expect(await shown(client, text)).toBe(expected)
    // By name, so that it is judged again.
    expect(await shown(client, text.replace(' AS x', ' AS x /* again */'))).toBe(expected)
  })
})

it('notices what the session itself, and another one, does through regate', async () => {
  await connected(async (client) => {
    await client.query('SET search_path = own, public')
    expect(await shown(client, derived)).toBe(backwards('own'))
    await client.query('BEGIN')
    await client.query('REVOKE USAGE ON SCHEMA own FROM agent')
    expect(await shown(client, derived)).toBe(masked)
    await client.query('ROLLBACK')
    expect(await shown(client, derived)).toBe(backwards('own'))
    await connected((other) => other.query('REVOKE USAGE ON SCHEMA own FROM agent'))
    expect(await shown(client, derived)).toBe(masked)
  })
})

it('keeps apart what a function means under two paths', async () => {
  for (const [path, expected] of [
    ['granted', backwards('granted')],
    ['public', masked],
  ] as const) {
    await connected(async (client) => {
      await client.query(`SET search_path = ${path}`)
      expect(await shown(client, 'SELECT public.calls_caller() AS x')).toBe(expected)
    })
  }
})

it('notices that the right is taken away and given, in a session that is open', async () => {
  await connected(async (client) => {
    await client.query('SET search_path = moving, public')
    for (const [change, expected] of [
      ['GRANT USAGE ON SCHEMA moving TO readers', backwards('moving')],
      ['REVOKE readers FROM agent', masked],
      ['GRANT readers TO agent', backwards('moving')],
      ['REVOKE USAGE ON SCHEMA moving FROM readers', masked],
      ['ALTER ROLE agent SUPERUSER', backwards('moving')],
      ['ALTER ROLE agent NOSUPERUSER', masked],
    ] as const) {
      await execute(server, change)
      await delay(5 * pollMs)
      expect([change, await shown(client, derived)]).toEqual([change, expected])
    }
  })
})
