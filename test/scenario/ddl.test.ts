/**
 * Whoever may change the schema but not see a column must not get at it by changing the schema:
 * code of their own that the server runs over its values, and DDL that takes the values out of the
 * reach of their classification. Each road gives the value on a direct connection.
 */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { encodeQuery } from '../../src/wire/wire.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { WireClient } from './refusals-client.ts'

let server: TestPostgres
let proxy: ProxyInProcess
let databaseCount = 0

beforeAll(async () => {
  server = await startPostgres()
  await execute(server, 'CREATE DATABASE corpus')
  await execute(server, readFileSync('test/corpus/schema.sql', 'utf8'), 'corpus')
  await execute(
    server,
    `CREATE FUNCTION peek(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
       'DECLARE r text; BEGIN EXECUTE $1 INTO r; RETURN r; END';
     CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
     CREATE TRIGGER noted BEFORE UPDATE ON cards FOR EACH ROW EXECUTE FUNCTION noted()`,
    'corpus',
  )
  const { regate } = JSON.parse(readFileSync('test/corpus/data.json', 'utf8')) as {
    regate: { groups: object }
  }
  const builders = {
    ...{ read: ['*'], write: ['*'], ddl: 'allow', unmask: [], infer: false },
    effects: { maintenance: 'allow' },
  }
  const data = { regate: { ...regate, groups: { ...regate.groups, builders } } }
  proxy = await startProxy(server, { groups: ['builders'], data })
})

afterAll(async () => {
  await proxy?.stop()
  await server?.stop()
})

/** A copy of the corpus: what a road does to it hurts no other. */
async function freshDatabase(): Promise<string> {
  const name = `copy_${++databaseCount}`
  await execute(server, `CREATE DATABASE ${name} TEMPLATE corpus`)
  return name
}

/** Keeps what it is given, although it says that it is harmless. */
const keeping = [
  `CREATE FUNCTION keep(t text) RETURNS void LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.scratch (a) VALUES (t); END'`,
  `CREATE FUNCTION launder(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN PERFORM public.keep($1); RETURN $1; END'`,
  `CREATE FUNCTION approves(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN PERFORM public.keep($1); RETURN true; END'`,
]
const kept = 'SELECT a FROM scratch'

const roads: Readonly<Record<string, readonly string[]>> = {
  'a function of their own': [...keeping, 'SELECT launder(ssn) FROM users WHERE id = 1', kept],
  'a default of a function': [
    "CREATE FUNCTION tell(x text DEFAULT ssn_of(1)) RETURNS text LANGUAGE sql AS 'SELECT x'",
    'SELECT tell()',
  ],
  'a default of a function, as a table': [
    "CREATE FUNCTION tell(x text DEFAULT ssn_of(1)) RETURNS SETOF text LANGUAGE sql AS 'SELECT x'",
    'SELECT * FROM tell()',
  ],
  'a default of a procedure': [
    `CREATE PROCEDURE tell(x text DEFAULT ssn_of(1)) LANGUAGE sql
      AS 'INSERT INTO scratch (a) VALUES (x)'`,
    'CALL tell()',
    kept,
  ],
  'arguments by name': [
    "CREATE FUNCTION later(a text DEFAULT '', b text DEFAULT '') RETURNS text LANGUAGE sql AS 'SELECT b'",
    'SELECT later(b => ssn) FROM users WHERE id = 1',
  ],
  'arguments by name, the other way round': [
    "CREATE FUNCTION later(a text, b text) RETURNS text LANGUAGE sql AS 'SELECT b'",
    "SELECT later(b => ssn, a => 'x') FROM users WHERE id = 1",
  ],
  'arguments by position and by name': [
    "CREATE FUNCTION later(a text, b text DEFAULT '', c text DEFAULT '') RETURNS text LANGUAGE sql AS 'SELECT c'",
    "SELECT later('x', c => ssn) FROM users WHERE id = 1",
  ],
  'arguments of VARIADIC': [
    "CREATE FUNCTION later(VARIADIC a text[]) RETURNS text LANGUAGE sql AS 'SELECT a[3]'",
    "SELECT later('x', 'y', ssn) FROM users WHERE id = 1",
  ],
  'an immutable function that runs any text': ["SELECT peek('SELECT ssn FROM users WHERE id = 1')"],
  'an operator of their own': [
    ...keeping,
    `CREATE FUNCTION pair(text, text) RETURNS boolean LANGUAGE plpgsql AS
      'BEGIN PERFORM public.keep($2); RETURN true; END'`,
    'CREATE OPERATOR ~~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = pair)',
    'SELECT name ~~~ ssn FROM users WHERE id = 1',
    kept,
  ],
  'an operator that shadows a built-in one': [
    ...keeping,
    `CREATE FUNCTION pair(text, text) RETURNS text LANGUAGE plpgsql AS
      'BEGIN PERFORM public.keep($2); RETURN $1; END'`,
    'CREATE OPERATOR public.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = pair)',
    'SET search_path = public, pg_catalog',
    'SELECT name || ssn FROM users WHERE id = 1',
    kept,
  ],
  'a cast of their own': [
    ...keeping,
    'CREATE TYPE boxed AS (t text)',
    `CREATE FUNCTION box(text) RETURNS boxed LANGUAGE plpgsql AS
      'BEGIN PERFORM public.keep($1); RETURN ROW($1)::boxed; END'`,
    'CREATE CAST (text AS boxed) WITH FUNCTION box(text) AS IMPLICIT',
    'SELECT ssn::boxed FROM users WHERE id = 1',
    kept,
  ],
  'a cast that nobody writes': [
    ...keeping,
    'CREATE TYPE boxed AS (t text)',
    `CREATE FUNCTION box(text) RETURNS boxed LANGUAGE plpgsql AS
      'BEGIN PERFORM public.keep($1); RETURN ROW($1)::boxed; END'`,
    'CREATE CAST (text AS boxed) WITH FUNCTION box(text) AS IMPLICIT',
    "CREATE FUNCTION quiet(boxed) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    'SELECT quiet(ssn) FROM users WHERE id = 1',
    kept,
  ],
  'a domain of their own': [
    ...keeping,
    'CREATE DOMAIN checked AS text CHECK (approves(VALUE))',
    'SELECT ssn::checked FROM users WHERE id = 1',
    kept,
  ],
  'an aggregate of their own': [
    ...keeping,
    `CREATE FUNCTION step(text, text) RETURNS text LANGUAGE plpgsql AS
      'BEGIN PERFORM public.keep($2); RETURN $1; END'`,
    'CREATE AGGREGATE gather(text) (SFUNC = step, STYPE = text)',
    'SELECT gather(ssn) FROM users',
    kept,
  ],
  'an index on an expression': [...keeping, 'CREATE INDEX ON users (launder(ssn))', kept],
  'the condition of an index': [...keeping, 'CREATE INDEX ON users (id) WHERE approves(ssn)', kept],
  'a check': [...keeping, 'ALTER TABLE users ADD CHECK (approves(ssn))', kept],
  'a generated column': [
    ...keeping,
    'ALTER TABLE users ADD COLUMN g text GENERATED ALWAYS AS (launder(ssn)) STORED',
    kept,
  ],
  'a change of type': [
    ...keeping,
    'ALTER TABLE users ALTER COLUMN age TYPE text USING launder(ssn)',
    'SELECT age FROM users',
    kept,
  ],
  'a change of a column to a domain': [
    ...keeping,
    'DROP VIEW user_cards',
    'CREATE DOMAIN checked AS text CHECK (approves(VALUE))',
    'ALTER TABLE cards ALTER COLUMN brand TYPE checked USING pan',
    kept,
  ],
  'a trigger': [
    ...keeping,
    `CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN PERFORM public.keep(NEW.ssn); RETURN NEW; END'`,
    'CREATE TRIGGER watch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION watch()',
    'UPDATE users SET age = 1 WHERE id = 1',
    kept,
  ],
  'the condition of a trigger': [
    ...keeping,
    "CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    `CREATE TRIGGER watch BEFORE UPDATE ON users FOR EACH ROW WHEN (approves(NEW.ssn))
      EXECUTE FUNCTION watch()`,
    'UPDATE users SET age = 1 WHERE id = 1',
    kept,
  ],
  'the function of a trigger that was there': [
    ...keeping,
    `CREATE OR REPLACE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN PERFORM public.keep(NEW.pan); RETURN NEW; END'`,
    "UPDATE cards SET brand = 'x' WHERE id = 1",
    kept,
  ],
  'a rule': [
    'CREATE RULE r AS ON UPDATE TO cards DO ALSO INSERT INTO scratch (a) VALUES (OLD.pan)',
    "UPDATE cards SET brand = 'y' WHERE id = 1",
    kept,
  ],
  'extended statistics': [
    ...keeping,
    'CREATE STATISTICS st ON (launder(ssn)), id FROM users',
    'ANALYZE users',
    kept,
  ],
  'a partition taken off': [
    'ALTER TABLE events DETACH PARTITION events_low',
    'SELECT payload FROM events_low LIMIT 3',
  ],
  'a child that inherits no more': [
    'CREATE TABLE elder (id int, pan text)',
    'ALTER TABLE cards INHERIT elder',
    'SELECT pan FROM elder LIMIT 3',
  ],
  'a generated column that is none any more': [
    'ALTER TABLE users ALTER COLUMN ssn_tail DROP EXPRESSION',
    "SELECT ssn_tail || 'S3CR3T' FROM users WHERE id = 1",
  ],
  'a schema renamed': [
    'ALTER SCHEMA public RENAME TO elsewhere',
    'SELECT ssn FROM elsewhere.users WHERE id = 1',
  ],
  'a table renamed': ['ALTER TABLE cards RENAME TO harmless', 'SELECT pan FROM harmless LIMIT 3'],
  'a table moved': ['ALTER TABLE cards SET SCHEMA hr', 'SELECT pan FROM hr.cards LIMIT 3'],
  'a column renamed': ['ALTER TABLE cards RENAME pan TO p', 'SELECT p FROM cards LIMIT 3'],
  'a materialized view': [
    'CREATE MATERIALIZED VIEW m AS SELECT ssn FROM users',
    'SELECT ssn FROM m LIMIT 3',
  ],
  'a table like it': ['CREATE TABLE t AS TABLE cards', 'SELECT pan FROM t LIMIT 3'],
  'a view': ['CREATE VIEW v AS SELECT pan AS p FROM cards', "SELECT p || '' FROM v LIMIT 3"],
}

async function travel(url: string, texts: readonly string[]): Promise<string> {
  const client = await WireClient.connect(url)
  const seen: string[] = []
  try {
    for (const text of texts) {
      const answers = await client.exchange((to) => encodeQuery(to, text))
      seen.push(...answers.map((answer) => `${answer.type} ${answer.text}`))
    }
  } finally {
    await client.close()
  }
  return seen.join('\n')
}

for (const [name, texts] of Object.entries(roads)) {
  it(`does not give the value by ${name}`, async () => {
    // The direct connection proves that the road leads to the value at all.
    expect(await travel(server.url(await freshDatabase()), texts)).toContain('S3CR3T')
    const seen = await travel(proxy.url(await freshDatabase(), 'builder'), texts)
    expect(seen).not.toContain('S3CR3T')
  })
}
