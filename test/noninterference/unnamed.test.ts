/**
 * What runs, or tells, without being named in the statement: casts of users' own, defaults and checks
 * of domains and tables that call functions, keys of partitions, columns of records, collations that
 * do not agree, constraints that DDL holds against rows. Directly on the server each of these tells;
 * through regate none may, whatever the client may write and make.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { directly, judge, run, type Connect } from './compare.ts'
import { startProxies, type Proxies } from './proxies.ts'
import { modes } from './raw-connection.ts'
import { buildWorlds, databaseName, type Worlds } from './worlds.ts'

const objects = `
CREATE TABLE lengths AS SELECT id, CASE WHEN vip THEN repeat('x', 20) ELSE 'x' END::varchar AS secret FROM users;
CREATE FUNCTION records() RETURNS SETOF record LANGUAGE sql AS 'SELECT id, ssn FROM users WHERE id < 3';
CREATE FUNCTION nested() RETURNS record LANGUAGE sql AS 'SELECT records()';
CREATE FUNCTION amount_records() RETURNS SETOF record LANGUAGE sql AS 'SELECT id, secret FROM lengths WHERE id = 3';
CREATE TYPE mood AS ENUM ('a', 'b');
CREATE FUNCTION mood_text(mood) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.users WHERE id = 1';
CREATE CAST (mood AS text) WITH FUNCTION mood_text(mood) AS ASSIGNMENT;
CREATE TYPE word AS ENUM ('a', 'b');
CREATE FUNCTION word_text(word) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM public.users WHERE id = 1';
CREATE CAST (word AS text) WITH FUNCTION word_text(word) AS IMPLICIT;
CREATE TYPE flag AS ENUM ('a', 'b');
CREATE FUNCTION flag_bool(flag) RETURNS boolean LANGUAGE sql AS 'SELECT vip FROM public.users WHERE id = 3';
CREATE CAST (flag AS boolean) WITH FUNCTION flag_bool(flag) AS ASSIGNMENT;
CREATE TYPE plainly AS ENUM ('a', 'b');
CREATE FUNCTION plainly_int(plainly) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE CAST (plainly AS int) WITH FUNCTION plainly_int(plainly) AS IMPLICIT;
CREATE TYPE target AS ENUM ('a', 'b');
CREATE FUNCTION text_target(text) RETURNS target LANGUAGE sql AS
  'SELECT CASE WHEN vip THEN ''a''::public.target ELSE ''b'' END FROM public.users WHERE id = 3';
CREATE CAST (text AS target) WITH FUNCTION text_target(text) AS ASSIGNMENT;
CREATE TABLE targets (id int, t target);
CREATE FUNCTION sets_target() RETURNS text LANGUAGE plpgsql AS
  'DECLARE x public.target; y text := ''a''; BEGIN x := y; RETURN x; END';
CREATE DOMAIN filled AS text DEFAULT ssn_of(1);
CREATE TABLE fills (id int, a filled);
CREATE DOMAIN other_ssn AS text CHECK (VALUE <> ssn_of(1));
CREATE TABLE checked (id int, a text CHECK (a <> ssn_of(1)));
CREATE FUNCTION routed_by(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT salary FROM public.users WHERE id = 1';
CREATE TABLE routed (id int) PARTITION BY RANGE (routed_by(id));
CREATE TABLE routed_low PARTITION OF routed FOR VALUES FROM (0) TO (77000500);
CREATE TABLE gaps AS SELECT id, CASE WHEN vip THEN 'x' END AS secret FROM users;
ALTER TABLE gaps ADD CONSTRAINT there NOT NULL secret NOT VALID;
CREATE TABLE holes AS SELECT id, CASE WHEN id <> 3 OR vip THEN 'x' END AS secret FROM users;
ALTER TABLE holes ADD CONSTRAINT there NOT NULL secret NOT VALID;
CREATE TYPE row_kind AS (id int, secret text);
CREATE TABLE typed OF row_kind;
INSERT INTO typed SELECT id, ssn FROM users;
CREATE TABLE known (secret text PRIMARY KEY);
INSERT INTO known SELECT ssn FROM users;
CREATE TABLE claims (id int, secret text);
INSERT INTO claims VALUES (1, 'S3CR3T-9001');
ALTER TABLE claims ADD CONSTRAINT refers FOREIGN KEY (secret) REFERENCES known NOT ENFORCED;
CREATE TABLE addresses_by_name (k text PRIMARY KEY);
INSERT INTO addresses_by_name VALUES ('x');
CREATE TABLE listed (secret text) PARTITION BY LIST (secret);
CREATE TABLE keys (k text PRIMARY KEY);
INSERT INTO keys SELECT 'x' UNION ALL SELECT ssn FROM users;
CREATE TABLE keyed (k text DEFAULT ssn_of(1) REFERENCES keys ON DELETE SET DEFAULT);
INSERT INTO keyed VALUES ('x');
CREATE TABLE plain_keyed (k text DEFAULT ssn_of(1) REFERENCES addresses_by_name ON DELETE SET NULL);
`

const conflict = `(SELECT 'a'::text COLLATE "C" AS x) b`
const cases: Readonly<Record<string, string>> = {
  'a record': 'SELECT records()',
  'columns of a record': 'SELECT * FROM records() AS t(a int, b text)',
  'a record of a record': 'SELECT * FROM nested() AS t(a int, b text)',
  'a column of a record that is too short':
    'SELECT a FROM amount_records() AS t(a int, b varchar(5))',
  'a cast by assignment': "INSERT INTO scratch(a) VALUES ('a'::mood) RETURNING a",
  'a cast of what a star gives':
    "INSERT INTO scratch(a) SELECT s.* FROM (SELECT 'a'::mood) s RETURNING a",
  'a cast to a condition': "SELECT 1 WHERE 'a'::flag",
  'a cast behind NOT': "SELECT NOT 'a'::flag",
  'a cast in a test': "SELECT ('a'::flag) IS TRUE",
  'a cast of an argument': "SELECT upper('a'::word)",
  'a cast of elements': "SELECT ARRAY['a'::mood]::text[]",
  'a cast of a parameter': "PREPARE p(word) AS SELECT upper($1) ;; EXECUTE p('a')",
  'a cast to the type of a column': "INSERT INTO targets VALUES (1, 'a'::text) RETURNING t",
  'a cast to the type of a variable': 'SELECT sets_target()',
  'the default of a domain': 'INSERT INTO fills(id) VALUES (1) RETURNING a',
  'a default that a foreign key sets':
    "BEGIN ;; DELETE FROM keys WHERE k = 'x' ;; SELECT k FROM keyed ;; ROLLBACK",
  'a check of a domain': "SELECT 'S3CR3T-9001'::other_ssn",
  'a check of a table': "INSERT INTO checked VALUES (1, 'S3CR3T-9001')",
  'the key of a partition': 'INSERT INTO routed VALUES (1)',
  'the frame of a JSON aggregate':
    'SELECT JSON_ARRAYAGG(id) OVER (ORDER BY id ROWS BETWEEN (SELECT (salary - 77000000) / 300 FROM users WHERE id = 1) PRECEDING AND CURRENT ROW) FROM users WHERE id < 5',
  'collations that do not agree': `SELECT s < x FROM (SELECT secret COLLATE "POSIX" AS s FROM holes WHERE id = 3) a, ${conflict}`,
  'a value of two collations': `SELECT upper(s || x) FROM (SELECT secret COLLATE "POSIX" AS s FROM holes WHERE id = 3) a, ${conflict}`,
  'a count of what may be NULL yet': 'SELECT count(secret) FROM gaps',
  'a typed table whose type is renamed':
    'ALTER TYPE row_kind RENAME ATTRIBUTE secret TO open CASCADE ;; SELECT open FROM typed ORDER BY id LIMIT 1 ;; ALTER TYPE row_kind RENAME ATTRIBUTE open TO secret CASCADE',
  'the bound of a partition':
    "CREATE TABLE one PARTITION OF listed FOR VALUES IN (ssn_of(1)) ;; SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'one' ;; DROP TABLE one",
}

/** What directly on the server leaves the worlds different: in one mode only. */
const lasting: Readonly<Record<string, string>> = {
  'NOT NULL that is validated': 'ALTER TABLE holes VALIDATE CONSTRAINT there',
  'a foreign key that is enforced': 'ALTER TABLE claims ALTER CONSTRAINT refers ENFORCED',
}

const harmless: readonly string[] = [
  "SELECT 'a'::plainly + 1",
  "INSERT INTO scratch(n) VALUES ('a'::plainly)",
  'SELECT id, ssn, upper(ssn), ssn || \'x\' FROM users ORDER BY name COLLATE "C" LIMIT 2',
  "SELECT relname, relname ~ '^(users)$' COLLATE pg_catalog.default FROM pg_class WHERE relname = 'users'",
  'SELECT count(ssn) FROM users',
  "DELETE FROM addresses_by_name WHERE k = 'x'",
  'ALTER TABLE scratch ADD CONSTRAINT small CHECK (n < 100)',
  'ALTER TABLE scratch VALIDATE CONSTRAINT small',
  'ALTER TABLE scratch DROP CONSTRAINT small',
  'SELECT JSON_ARRAYAGG(id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM users LIMIT 2',
]

let worlds: Worlds
let proxies: Proxies
const direct: Connect = (world) => directly(world, databaseName)

beforeAll(async () => {
  worlds = await buildWorlds({ version: 18, extra: { first: objects, other: objects } })
  const classified = { class: 'pii', mask: { kind: 'redact' } } as const
  const tables = ['lengths', 'gaps', 'holes', 'typed', 'known', 'claims']
  const columns = tables.map((name) => [`public.${name}.secret`, classified] as const)
  proxies = await startProxies(worlds, Object.fromEntries(columns), { write: ['*'], ddl: 'allow' })
}, 240_000)

afterAll(async () => {
  await proxies?.stop()
  await worlds?.stop()
})

describe('what is not named', () => {
  for (const [name, sql] of Object.entries({ ...cases, ...lasting })) {
    it(`${name} tells directly and not through regate`, async () => {
      for (const mode of modes.slice(0, name in lasting ? 1 : 2)) {
        const item = { name, steps: sql.split(' ;; ') }
        const verdict = await judge(proxies.connect, worlds, item, mode)
        expect(verdict.kind, verdict.kind === 'leak' ? verdict.difference : '').toBe('equal')
        const received = verdict.first.frames.map((frame) => frame.toString('latin1')).join()
        if (!sql.includes('S3CR3T')) expect(received).not.toMatch(/S3CR3T/)
        expect((await judge(direct, worlds, item, mode)).kind, sql).toBe('leak')
      }
    }, 60_000)
  }

  it('what tells nothing stays allowed', async () => {
    for (const mode of [modes[0], modes[1]]) {
      if (mode === undefined) continue
      for (const sql of harmless) {
        const item = { name: sql, steps: [sql] }
        const { sqlstate } = await run(proxies.connect, worlds.first, item, mode)
        expect(sqlstate, sql).toBeNull()
      }
    }
  }, 60_000)
})
