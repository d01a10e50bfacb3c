/**
 * A right to DDL is one on names: what is moved to another name, and what goes along with what is
 * dropped, is judged by that name, too.
 */
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

let postgres: TestPostgres
let proxy: ProxyInProcess

const groups = {
  lab: { read: ['*'], write: ['lab.*'], ddl: { 'lab.*': 'allow', 'public.tmp_*': 'allow' } },
  ddl: { read: ['*'], write: ['*'], ddl: 'allow' },
}

beforeAll(async () => {
  postgres = await startPostgres()
  await execute(
    postgres,
    `CREATE SCHEMA lab;
     CREATE TABLE lab.own (id int PRIMARY KEY, note text);
     CREATE TABLE lab.alone (id int, note text);
     CREATE TABLE public.tmp_one (id int);
     CREATE VIEW lab.mine AS SELECT id FROM lab.own;
     CREATE VIEW public.over_mine AS SELECT id FROM lab.mine;
     CREATE TABLE public.child (own int REFERENCES lab.own (id));
     CREATE SEQUENCE lab.numbers;
     CREATE TABLE public.people (id int, ssn text);`,
  )
  proxy = await startProxy(postgres, {
    users: { lab: { groups: ['lab'] }, ddl: { groups: ['ddl'] } },
    data: { regate: { columns: { 'public.people.ssn': { class: 'pii' } }, groups } },
  })
})
afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
})

/** What became of it, in a transaction that is rolled back. */
async function outcome(user: keyof typeof groups, text: string): Promise<string> {
  const client = new pg.Client({ connectionString: proxy.url('postgres', user) })
  await client.connect()
  try {
    await client.query('BEGIN')
    await client.query(text)
    return 'ran'
  } catch (error) {
    return (error as Error).message
  } finally {
    await client.end()
  }
}

const mayNot = (name: string): string => `you may not create, change or drop ${name}`

describe('DDL on some names only', () => {
  it.each([
    ['ALTER TABLE lab.own SET SCHEMA public', 'public.own'],
    ['ALTER VIEW lab.mine SET SCHEMA public', 'public.mine'],
    ['ALTER SEQUENCE lab.numbers SET SCHEMA public', 'public.numbers'],
    ['ALTER TABLE public.tmp_one RENAME TO customers', 'public.customers'],
    ['ALTER SCHEMA lab RENAME TO elsewhere', 'elsewhere.own'],
  ])('moves nothing to another: %s', async (text, name) => {
    expect(await outcome('lab', text)).toContain(mayNot(name).replace(/\.\w+$/, '.'))
  })

  it.each([
    ['DROP VIEW lab.mine CASCADE', 'public.over_mine'],
    ['DROP TABLE lab.own CASCADE', 'public.'],
    ['ALTER TABLE lab.own DROP COLUMN id CASCADE', 'public.'],
    ['DROP SCHEMA lab CASCADE', 'public.'],
  ])('takes nothing of others along: %s', async (text, name) => {
    expect(await outcome('lab', text)).toContain(mayNot(name))
  })

  it.each([
    'ALTER TABLE lab.own RENAME TO mine_now',
    'ALTER TABLE public.tmp_one RENAME TO tmp_two',
    'ALTER TABLE public.tmp_one SET SCHEMA lab',
    'ALTER TABLE lab.own DROP COLUMN note CASCADE',
    'DROP TABLE lab.alone CASCADE',
    'DROP SEQUENCE lab.numbers CASCADE',
    'DROP TABLE public.tmp_one',
  ])('leaves what stays within them: %s', async (text) => {
    expect(await outcome('lab', text)).toBe('ran')
  })
})

describe('a publication', () => {
  it.each([
    'CREATE PUBLICATION p FOR TABLE people',
    'CREATE PUBLICATION p FOR ALL TABLES',
    'CREATE PUBLICATION p FOR TABLES IN SCHEMA public',
    'CREATE PUBLICATION p FOR TABLES IN SCHEMA CURRENT_SCHEMA',
  ])('of masked columns is refused: %s', async (text) => {
    expect(await outcome('ddl', text)).toContain('public.people.ssn is masked for you')
  })

  it('of other tables is made', async () => {
    expect(await outcome('ddl', 'CREATE PUBLICATION p FOR TABLES IN SCHEMA lab')).toBe('ran')
  })
})
