import { readFileSync } from 'node:fs'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  catalogQuery,
  loadCatalog,
  loadOverlay,
  reloadCatalog,
} from '../../../src/upstream/upstream.ts'
import { Catalog } from '../../../src/sql/sql.ts'
import { startPostgres, type TestPostgres } from '../../support/postgres.ts'

let server: TestPostgres
const clients: pg.Client[] = []

async function connect(database = 'postgres'): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: server.url(database) })
  await client.connect()
  clients.push(client)
  return client
}

const over = catalogQuery

beforeAll(async () => {
  server = await startPostgres()
  const client = await connect()
  await client.query(readFileSync('test/corpus/schema.sql', 'utf8'))
})

afterAll(async () => {
  for (const client of clients) await client.end()
  await server?.stop()
})

describe('the catalog loader', () => {
  it('reads relations of every kind, with columns, definitions and inheritance', async () => {
    const { catalog } = await loadCatalog(over(await connect()))
    const users = catalog.relation('public', 'users')
    expect(users?.kind).toBe('table')
    expect(catalog.column(users!, 'ssn_tail')?.generated).toBe('"right"(ssn, 4)')
    expect(catalog.column(users!, 'ssn')).toMatchObject({ notNull: true, type: 25 })
    expect(catalog.relation('public', 'contact')?.definition).toContain('FROM public.users')
    expect(catalog.children(catalog.relation('public', 'events')!.oid).map((r) => r.name)).toEqual([
      'events_low',
      'events_high',
    ])
    expect(catalog.parents(catalog.relation('public', 'events_low')!.oid)[0]?.name).toBe('events')
    expect(catalog.viewsOver(users!.oid).map((row) => row.name)).toContain('contact_twice')
    expect(catalog.rowTypeRelation(users!.rowType)).toBe(users)
    const path = ['pg_catalog', 'hr', 'public']
    expect(catalog.resolveRelation('users', path)?.schema).toBe('hr')
    expect(catalog.functions(null, 'ssn_of', path)[0]?.row?.body).toContain('SELECT ssn')
  })

  it('reads what decides about a row: keys, checks, foreign keys, partition keys', async () => {
    const client = await connect()
    await client.query(`CREATE SCHEMA ruled; SET search_path = ruled;
      CREATE TABLE u (id int PRIMARY KEY, mail text UNIQUE, ssn text, CHECK (ssn <> mail));
      CREATE UNIQUE INDEX ON u (lower(ssn), id) INCLUDE (mail);
      CREATE TABLE n (e text REFERENCES u (mail) ON DELETE SET NULL, CHECK (n IS NOT NULL));
      CREATE TABLE p (a text, b int) PARTITION BY RANGE (b, upper(a))`)
    const { catalog } = await loadCatalog(over(await connect()))
    const read = (name: string): unknown[] =>
      (catalog.relation('ruled', name)?.constraints ?? []).map((one) => [
        ...[one.kind, [...new Set(one.columns)].sort(), one.nullsPass],
        ...(one.references === undefined ? [] : [one.references.onDelete, one.references.columns]),
      ])
    expect(read('u')).toEqual([
      ['check', [2, 3], true],
      ['primary_key', [1], true],
      ['unique', [2], true],
      ['unique', [1, 2, 3], false],
    ])
    expect(read('n')).toEqual([
      ['check', [0], true],
      ['foreign_key', [1], true, 'set_null', [2]],
    ])
    expect(read('p')).toEqual([['partition_key', [1, 2], false]])
    const [u, n] = ['u', 'n'].map((name) => catalog.relation('ruled', name))
    expect(catalog.referencing(u?.oid ?? 0)).toEqual([n])
    await client.query('DROP SCHEMA ruled CASCADE')
  })

  it('knows who may use a schema, as the server does', async () => {
    const client = await connect('template1')
    await client.query(`CREATE ROLE super SUPERUSER; CREATE ROLE of_super IN ROLE super;
      CREATE ROLE lender; CREATE ROLE heir IN ROLE lender; CREATE ROLE grandchild IN ROLE heir;
      CREATE ROLE no_heir NOINHERIT IN ROLE lender; CREATE ROLE reader IN ROLE pg_read_all_data;
      CREATE SCHEMA of_its_owner AUTHORIZATION lender; CREATE SCHEMA supers AUTHORIZATION super;
      CREATE SCHEMA given_up AUTHORIZATION lender; REVOKE ALL ON SCHEMA given_up FROM lender;
      CREATE SCHEMA to_heir; GRANT USAGE ON SCHEMA to_heir TO heir;
      CREATE SCHEMA to_all; GRANT USAGE ON SCHEMA to_all TO PUBLIC;
      CREATE SCHEMA only_create; GRANT CREATE ON SCHEMA only_create TO PUBLIC, heir;
      CREATE SCHEMA of_database AUTHORIZATION pg_database_owner; ALTER DATABASE template1 OWNER TO heir`)
    const { catalog } = await loadCatalog(over(client))
    const { rows } = await client.query<{ schema: string; role: string; allowed: boolean }>(
      `SELECT n.nspname AS schema, r.rolname AS role,
        has_schema_privilege(r.oid, n.oid, 'USAGE') AS allowed
       FROM pg_namespace n CROSS JOIN pg_roles r WHERE n.nspname !~ '^pg_(toast_)?temp_'`,
    )
    expect(rows.filter(({ allowed }) => allowed).length).toBeGreaterThan(30)
    for (const { schema, role, allowed } of rows) {
      const known = catalog.usersOf(schema)?.has(role) ?? true
      expect([schema, role, known]).toEqual([schema, role, allowed])
    }
  })

  it('is the same JSON in and out, and has the same fingerprint', async () => {
    const { catalog } = await loadCatalog(over(await connect()))
    const again = JSON.parse(JSON.stringify(catalog.snapshot)) as typeof catalog.snapshot
    expect(again).toEqual(catalog.snapshot)
    expect(Catalog.from(again).fingerprint).toBe(catalog.fingerprint)
  })
})

describe('a session with uncommitted DDL', () => {
  it('sees what it created, changed, renamed and dropped, and nobody else does', async () => {
    const observer = await connect()
    const base = await loadCatalog(over(observer))
    const client = await connect()
    await client.query(`SET search_path = hr, public; BEGIN; CREATE TABLE fresh (a int, b users);
      ALTER TABLE public.users RENAME COLUMN ssn TO social; DROP TABLE scratch;
      SAVEPOINT s; CREATE TYPE mood AS ENUM ('a'); ALTER TABLE public.cards ADD COLUMN extra text`)
    const { overlay, temporarySchema } = await loadOverlay(over(client), base)
    expect(temporarySchema).toBeNull()
    const catalog = base.catalog.with(overlay)
    expect(catalog.relation('hr', 'fresh')?.columns.map((column) => column.name)).toEqual([
      'a',
      'b',
    ])
    expect(catalog.relation('public', 'scratch')).toBeNull()
    const users = catalog.relation('public', 'users')
    expect(catalog.column(users!, 'social')?.type).toBe(25)
    expect(catalog.relation('public', 'contact')?.definition).toContain('social')
    expect(catalog.typeByName('hr', 'mood', [])?.labels).toEqual(['a'])
    expect(catalog.column(catalog.relation('public', 'cards')!, 'extra')).not.toBeNull()
    const shown = await client.query('SHOW search_path')
    expect(shown.rows).toEqual([{ search_path: 'hr, public' }])
    await client.query('ROLLBACK')
    const after = await loadCatalog(over(observer))
    expect(after.catalog.fingerprint).toBe(base.catalog.fingerprint)
  })
})

describe('temporary objects', () => {
  const objects = `CREATE TEMPORARY TABLE mine (id int, note text) ;
    CREATE TEMPORARY TABLE heir () INHERITS (public.users);
    CREATE TEMPORARY VIEW seen AS SELECT ssn FROM public.users;
    CREATE DOMAIN pg_temp.small AS int CHECK (VALUE < 10); CREATE TYPE pg_temp.mood AS ENUM ('sad');
    CREATE FUNCTION pg_temp.twice(int) RETURNS int RETURN $1 * 2`

  it('are in the view of their session, whenever they were made, and nowhere else', async () => {
    const reader = over(await connect())
    const before = await loadCatalog(reader)
    const owner = await connect()
    await owner.query(objects)
    const after = await reloadCatalog(reader, before)
    expect(after.catalog).toBe(before.catalog)
    const full = await loadCatalog(reader)
    expect(full.catalog.fingerprint).toBe(before.catalog.fingerprint)
    for (const base of [before, after, full]) {
      const { overlay, temporarySchema } = await loadOverlay(over(owner), base)
      const schema = temporarySchema ?? ''
      const catalog = base.catalog.with(overlay)
      expect(catalog.relation(schema, 'mine')?.columns).toHaveLength(2)
      expect(catalog.relation(schema, 'seen')?.definition).toContain('ssn')
      const users = catalog.relation('public', 'users')
      expect(catalog.children(users!.oid).map(({ name }) => name)).toEqual(['heir'])
      expect(catalog.typeByName(schema, 'small', [])?.checks).toHaveLength(1)
      expect(catalog.typeByName(schema, 'mood', [])?.labels).toEqual(['sad'])
      expect(catalog.functions(schema, 'twice', [])).toHaveLength(1)
      const toast = [...catalog.relations()].filter(({ owner: of }) =>
        [catalog.relation(schema, 'mine')?.oid].includes(of),
      )
      expect(toast.map(({ kind }) => kind)).toEqual(['toast'])
    }
    const other = await loadOverlay(over(await connect()), full)
    expect(other.temporarySchema).toBeNull()
    expect(full.catalog.with(other.overlay).fingerprint).toBe(full.catalog.fingerprint)
    // Two sessions that have one each see only their own.
    const second = await connect()
    await second.query('CREATE TEMPORARY TABLE mine (only_one int)')
    const { overlay, temporarySchema } = await loadOverlay(over(second), full)
    const seen = full.catalog.with(overlay)
    expect([...seen.relations()].filter(({ name }) => name === 'mine')).toHaveLength(1)
    expect(seen.relation(temporarySchema ?? '', 'mine')?.columns).toHaveLength(1)
    await owner.query('DISCARD TEMP')
    await second.query('DISCARD TEMP')
  })
})

describe('a catalog that others change', () => {
  it('is after reading the changes what a full read gives', async () => {
    const client = await connect()
    await client.query(`CREATE TABLE changing (id int PRIMARY KEY, a int CHECK (a > 0), b text);
      CREATE FUNCTION noticed() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER watch BEFORE INSERT ON changing FOR EACH ROW EXECUTE FUNCTION noticed();
      CREATE RULE quiet AS ON DELETE TO changing DO INSTEAD NOTHING;
      CREATE TABLE heir () INHERITS (changing); CREATE INDEX shout ON changing (upper(b));
      CREATE VIEW over_changing AS SELECT a, noticed_not.b FROM changing noticed_not;
      CREATE DOMAIN small AS int CHECK (VALUE < 10); CREATE TYPE mood AS ENUM ('sad');
      CREATE TABLE keyed (id int PRIMARY KEY, a int UNIQUE, b text, UNIQUE (b, a));
      CREATE TRIGGER keeps BEFORE UPDATE ON keyed FOR EACH ROW EXECUTE FUNCTION noticed();
      CREATE TABLE refers (k int CONSTRAINT refers_k REFERENCES keyed ON DELETE CASCADE);
      CREATE TABLE split (id int, b text) PARTITION BY LIST (lower(b));
      CREATE SCHEMA moving; CREATE TABLE moving.part (id int); CREATE SEQUENCE counted`)
    const steps = [
      'DROP TRIGGER watch ON changing',
      'DROP RULE quiet ON changing',
      'ALTER TABLE heir NO INHERIT changing',
      'DROP INDEX shout',
      'ALTER TABLE changing DROP CONSTRAINT changing_a_check',
      'ALTER TABLE changing RENAME COLUMN b TO c',
      'ALTER TABLE changing RENAME TO changed',
      'ALTER SCHEMA moving RENAME TO moved',
      'ALTER TABLE refers DROP CONSTRAINT refers_k',
      'ALTER TABLE refers ADD CONSTRAINT late FOREIGN KEY (k) REFERENCES keyed NOT VALID',
      'ALTER TABLE refers VALIDATE CONSTRAINT late',
      'ALTER TABLE keyed DROP CONSTRAINT keyed_a_key',
      'CREATE UNIQUE INDEX part ON keyed (lower(b)) WHERE a > 0',
      'ALTER TABLE keyed RENAME COLUMN b TO c',
      'DROP TABLE refers; DROP INDEX part',
      "ALTER TYPE mood ADD VALUE 'glad'",
      'ALTER DOMAIN small DROP CONSTRAINT small_check',
      'ALTER FUNCTION noticed() RENAME TO seen',
      'ALTER TABLE changed ALTER COLUMN a SET DEFAULT 7, ADD COLUMN d int',
      'ALTER TABLE changed DROP COLUMN d',
      'DROP TABLE heir; DROP VIEW over_changing; DROP TABLE changed',
      "ALTER DATABASE postgres SET search_path = 'hr, public'",
      'ALTER DATABASE postgres RESET search_path',
      'CREATE FUNCTION twice(int) RETURNS int RETURN $1 * 2',
      'CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)',
      'DROP OPERATOR === (int, int); DROP FUNCTION twice(int)',
      'CREATE EXTENSION IF NOT EXISTS citext; CREATE TABLE cited (name citext)',
      'DROP TABLE cited; DROP EXTENSION citext',
    ]
    let loaded = await loadCatalog(over(await connect()))
    const reader = over(await connect())
    for (const step of steps) {
      await client.query(step)
      loaded = await reloadCatalog(reader, loaded)
      const full = await loadCatalog(reader)
      expect(loaded.catalog.snapshot, step).toEqual(full.catalog.snapshot)
      expect(loaded.catalog.fingerprint, step).toBe(full.catalog.fingerprint)
    }
  })
})
