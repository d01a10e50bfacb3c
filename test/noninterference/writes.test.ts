/**
 * Writes to tables with masked columns: what decides about a row, fills it, or is printed with it
 * tells nothing that is masked, and ordinary writes go on working. Two servers that differ in masked
 * values only must answer alike.
 */
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type Proxy } from '../support/proxy.ts'
import { corpusText } from './cases.ts'
import { otherSchema } from './worlds.ts'

interface Sides {
  readonly server: TestPostgres
  readonly proxy: Proxy
}
const sides: Sides[] = []

const data = JSON.parse(corpusText('data.json')) as {
  regate: { columns: Record<string, unknown>; groups: Record<string, unknown> }
}
const redact = { class: 'pii', mask: { kind: 'redact' } }
Object.assign(data.regate.columns, {
  'public.pay.salary': { class: 'finance', mask: { kind: 'null' } },
  'public.paid.salary': redact,
  'public.checked.salary': redact,
  'public.moody.salary': redact,
  'public.steady.ssn': redact,
  'public.kept.ssn': redact,
  'public.ruling.ssn': redact,
  'public.stamped.ssn': redact,
  'public.late.salary': redact,
  'public.ppl.ssn': redact,
  'public.par.secret': redact,
  'public.tenants.code': redact,
  'public.tailed.code': redact,
  'public.typed.code': redact,
  'public.listed.code': redact,
  'public.base_only.secret': redact,
})
const writes = [
  'checked',
  'moody',
  'steady',
  'kept',
  'ruling',
  'scratch',
  'pay',
  'paid',
  'news',
  'sv',
  'orders',
  'gn',
  'users',
  'filled',
  'stamped',
]
const more = ['tenants', 'rated', 'ruled', 'people', 'notes', 'tree', 'events', 'logged', 'audited']
Object.assign(data.regate.groups, {
  writers: {
    read: ['*'],
    write: [...writes, ...more].map((name) => `public.${name}`).concat('t1.*'),
    ...{ ddl: 'deny', unmask: [], infer: false },
  },
  devs: { read: ['*'], write: ['*'], ddl: 'allow', unmask: [], infer: false },
  tenant: {
    read: { 't1.*': 'allow', '*': 'deny' },
    write: { 't1.*': 'allow', '*': 'deny' },
    ...{ ddl: 'deny', unmask: [], infer: false },
  },
})

const extra = `
CREATE TABLE pay (id int PRIMARY KEY, salary int, bonus int DEFAULT 0, note text,
  CHECK (bonus < salary - 77000000));
INSERT INTO pay SELECT id, salary, 0 FROM users;
CREATE TABLE paid AS SELECT id, salary, id AS bonus FROM users;
CREATE UNIQUE INDEX ON paid (bonus, (salary % 2));
ALTER TABLE users ADD CONSTRAINT ue UNIQUE (email);
CREATE TABLE news (id int, email text REFERENCES users (email));
CREATE VIEW sv AS SELECT id, a FROM scratch;
CREATE VIEW gn AS SELECT id, name, email, ssn FROM users;
CREATE TABLE filled (id int, a text DEFAULT ssn_of(1), b text DEFAULT 'x');
CREATE TABLE stamped (id int PRIMARY KEY, ssn text, touched int DEFAULT 0);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON stamped FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TABLE checked (id int PRIMARY KEY, salary int NOT NULL, bonus int, name text);
INSERT INTO checked SELECT id, salary, 0, name FROM users;
CREATE FUNCTION checks() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN IF NEW.bonus > NEW.salary - 77000000 THEN RAISE EXCEPTION ''too much''; END IF; RETURN NEW; END';
CREATE TRIGGER checks BEFORE UPDATE OF bonus ON checked FOR EACH ROW EXECUTE FUNCTION checks();
CREATE TABLE moody AS SELECT id, salary, name FROM users;
CREATE TRIGGER moody BEFORE UPDATE ON moody FOR EACH ROW WHEN (OLD.salary > 77000100) EXECUTE FUNCTION checks();
CREATE FUNCTION steady() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN IF NEW.ssn IS DISTINCT FROM OLD.ssn OR NEW.* IS DISTINCT FROM OLD.* OR NEW.name <> OLD.name THEN
   INSERT INTO public.history VALUES (NEW.id, to_jsonb(NEW) ->> ''name''); END IF; RETURN NEW; END';
CREATE TABLE history (id int, note text);
CREATE TABLE steady (id int PRIMARY KEY, ssn text, name text NOT NULL);
INSERT INTO steady SELECT id, ssn, name FROM users;
CREATE TRIGGER steady BEFORE UPDATE ON steady FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION steady();
CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO public.history VALUES (OLD.id, OLD.ssn); RETURN OLD; END';
CREATE TABLE kept AS SELECT id, ssn FROM users;
CREATE TRIGGER keeps AFTER DELETE ON kept FOR EACH ROW EXECUTE FUNCTION keeps();
CREATE TABLE ruling AS SELECT id, ssn, name FROM users;
CREATE RULE ruling AS ON UPDATE TO ruling DO ALSO INSERT INTO history VALUES (OLD.id, OLD.ssn);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN NEW.note := (SELECT email FROM public.users WHERE id = NEW.user_id); RETURN NEW; END';
CREATE TABLE notes (id int, user_id int, note text);
CREATE TRIGGER noted BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION noted();
CREATE FUNCTION shouts() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN RAISE NOTICE ''%'', (SELECT ssn FROM public.users WHERE id = 1); RETURN NEW; END';
CREATE TABLE logged (id int, a text);
CREATE TRIGGER shouts AFTER INSERT ON logged FOR EACH ROW EXECUTE FUNCTION shouts();
CREATE VIEW people AS SELECT id, a FROM logged;
CREATE TABLE tenants (id int, code text, UNIQUE (id, code));
INSERT INTO tenants SELECT 1, ssn FROM users;
CREATE TABLE rated (id int PRIMARY KEY, name text NOT NULL UNIQUE, n int CHECK (n > 0));
CREATE TABLE ruled (id int, a text);
CREATE TABLE audited (id int PRIMARY KEY, ssn text, note text);
CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree ON DELETE CASCADE);
INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2);
CREATE TABLE ppl (ssn text PRIMARY KEY, x int); INSERT INTO ppl SELECT ssn, id FROM users;
CREATE TABLE par (id int, secret text); CREATE TABLE kid () INHERITS (par);
INSERT INTO kid SELECT id, ssn FROM users;
CREATE TABLE base_only (id int, secret text);
CREATE DOMAIN pd AS text; CREATE TABLE typed (id int, code pd);
INSERT INTO typed SELECT id, ssn FROM users;
CREATE TABLE listed (code text, id int) PARTITION BY LIST (code);
CREATE TABLE listed_rest PARTITION OF listed DEFAULT; INSERT INTO listed SELECT ssn, id FROM users;
CREATE MATERIALIZED VIEW mm AS SELECT id, code FROM contact;
CREATE FUNCTION shown(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM public.users WHERE id = $1';
CREATE MATERIALIZED VIEW shown_all AS SELECT id, shown(id) AS x FROM users;
CREATE SCHEMA decoy; CREATE TABLE decoy.users (id int, ssn text);
CREATE FUNCTION late(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT ssn FROM users WHERE id = $1';
CREATE MATERIALIZED VIEW lates AS SELECT id, late(id) AS x FROM users WITH NO DATA;
DO $$ BEGIN IF current_setting('server_version_num')::int < 170000 THEN
  REFRESH MATERIALIZED VIEW lates; END IF; END $$;
CREATE FUNCTION tail(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT right($1, 4)';
CREATE TABLE tailed (id int, code text, short text GENERATED ALWAYS AS (tail(code)) STORED);
CREATE TABLE late AS SELECT id, salary, name FROM users;
ALTER TABLE late ADD CONSTRAINT late CHECK (salary > 0) NOT VALID;
CREATE TABLE lone (code text, id int);
CREATE SCHEMA t1; CREATE SCHEMA t2; CREATE TABLE t1.p (id int PRIMARY KEY);
CREATE TABLE t2.c (id int REFERENCES t1.p ON DELETE CASCADE);
INSERT INTO t1.p VALUES (1), (2); INSERT INTO t2.c VALUES (1), (2);
`

beforeAll(async () => {
  const schema = corpusText('schema.sql')
  for (const script of [schema, otherSchema(schema)]) {
    const server = await startPostgres({ settings: { shared_buffers: '32MB' } })
    const admin = new pg.Client({ connectionString: server.url() })
    await admin.connect()
    await admin.query('CREATE DATABASE corpus')
    await admin.end()
    const owner = new pg.Client({ connectionString: server.url('corpus') })
    await owner.connect()
    await owner.query(script)
    await owner.query(extra)
    await owner.end()
    const users = Object.fromEntries(
      ['writers', 'devs', 'tenant', 'admins'].map((name) => [name, { groups: [name] }]),
    )
    sides.push({ server, proxy: await startProxy(server, { data, users }) })
  }
}, 120_000)

afterAll(async () => {
  for (const { server, proxy } of sides) {
    await proxy.stop()
    await server.stop()
  }
})

interface Answer {
  readonly sqlstate: string | null
  readonly text: string
}

/** What a client sees of the steps, `@name ` before one being another user. */
async function answers(side: Sides, user: string, steps: readonly string[]): Promise<Answer[]> {
  const clients = new Map<string, pg.Client>()
  const found: Answer[] = []
  let notices: string[] = []
  for (const step of steps) {
    const [, name = user, text = ''] = /^(?:@(\w+) )?([^]*)$/.exec(step) ?? []
    let client = clients.get(name)
    if (client === undefined) {
      client = new pg.Client({ connectionString: side.proxy.url('corpus', name) })
      client.on('notice', (notice) => notices.push(notice.message ?? ''))
      await client.connect()
      clients.set(name, client)
    }
    notices = []
    try {
      const { command, rowCount, rows } = await client.query(text)
      found.push({ sqlstate: null, text: JSON.stringify([command, rowCount, rows, notices]) })
    } catch (error) {
      const { code, message, detail, constraint } = error as pg.DatabaseError
      const shown = JSON.stringify([message, detail, constraint, notices])
      found.push({ sqlstate: code ?? '', text: shown.replace(/decision [\w-]+/g, '') })
    }
  }
  for (const client of clients.values()) await client.end()
  return found
}

const secrets = /S3CR3T|s3cr3t|T4DS4U|w9kq7z|77000\d{3}/

async function both(user: string, steps: readonly string[]): Promise<Answer[]> {
  const [first, other] = await Promise.all(sides.map((side) => answers(side, user, steps)))
  expect(other).toEqual(first)
  expect(JSON.stringify(first)).not.toMatch(secrets)
  return first ?? []
}

const refused = '42501'

describe('a masked value does not show in what a write prints', () => {
  it.each([
    ['writers', 'UPDATE pay SET id = NULL WHERE id = 1'],
    ['devs', 'UPDATE users SET name = NULL WHERE id = 1'],
    ['writers', 'INSERT INTO users (id, name) VALUES (900, NULL)'],
    [
      'writers',
      "INSERT INTO pay (id, note) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET id = NULL",
    ],
    ['writers', 'UPDATE gn SET name = NULL WHERE id = 1'],
    ['devs', 'DELETE FROM users WHERE id = 1'],
    ['devs', "INSERT INTO people VALUES (1, 'x')"],
    ['devs', "INSERT INTO logged VALUES (1, 'x')"],
  ])('%s: %s', async (user, text) => {
    const [answer] = await both(user, [text])
    expect(answer?.text).not.toContain('Failing row')
  })
})

describe('what decides about a row is no oracle', () => {
  it.each([
    ['writers', 'UPDATE pay SET bonus = 500 WHERE id = 10'],
    ['writers', 'UPDATE paid SET bonus = 7 WHERE id IN (1, 2)'],
    ['writers', 'UPDATE tenants SET id = 2 WHERE id = 1'],
    ['devs', "UPDATE late SET name = 'x' WHERE id = 1"],
    ['devs', "INSERT INTO news VALUES (1, 's3cr3t-S3CR3T1@example.com')"],
    ['writers', "UPDATE gn SET ssn = '****' WHERE id = 3"],
    ['writers', "UPDATE gn SET email = 'guess' WHERE id = 50"],
  ])('%s: %s is refused', async (user, text) => {
    const [answer] = await both(user, [text])
    expect(answer?.sqlstate).toBe(refused)
  })
})

describe('OLD and NEW of triggers and rules are what was there', () => {
  it.each([
    'UPDATE checked SET bonus = 500 WHERE id = 10',
    "UPDATE moody SET name = 'x' WHERE id = 10",
    'DELETE FROM kept WHERE id = 1',
    "UPDATE ruling SET name = 'x' WHERE id = 1",
  ])('%s is refused', async (text) => {
    const [answer] = await both('writers', [text])
    expect(answer?.sqlstate).toBe(refused)
    expect(answer?.text).toMatch(/is masked for you/)
  })
})

describe('what fills a row is followed', () => {
  it.each([
    ['writers', 'INSERT INTO filled (id) VALUES (1) RETURNING a'],
    ['devs', 'INSERT INTO filled (id, a) VALUES (1, DEFAULT) RETURNING a'],
    [
      'devs',
      "INSERT INTO filled (id, a) VALUES (1, 'x') ON CONFLICT DO NOTHING; UPDATE filled SET a = DEFAULT",
    ],
    ['writers', 'INSERT INTO notes (id, user_id) VALUES (1, 1) RETURNING note'],
    ['writers', 'INSERT INTO notes (id, user_id) VALUES (1, 1)'],
  ])('%s: %s is refused', async (user, text) => {
    const [answer] = await both(user, [text])
    expect(answer?.sqlstate).toBe(refused)
  })
})

describe('what a foreign key takes along', () => {
  it('is named: TRUNCATE CASCADE needs the right to empty it', async () => {
    const [answer] = await both('tenant', ['TRUNCATE t1.p CASCADE'])
    expect(answer?.sqlstate).toBe(refused)
    expect(answer?.text).toContain('t2.c')
  })

  it('is the business of who made it where a row is deleted', async () => {
    const [answer] = await both('tenant', ['DELETE FROM t1.p WHERE id = 1'])
    expect(answer?.sqlstate).toBeNull()
  })
})

describe('DDL that holds rows against something, or unties copies, is refused', () => {
  it.each([
    'CREATE OR REPLACE VIEW contact AS SELECT id, name AS label, name AS code FROM users',
    "CREATE OR REPLACE FUNCTION shown(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT NULL::text'",
    'ALTER FUNCTION shown(int) RENAME TO hidden',
    'DROP FUNCTION shown(int)',
    "CREATE OR REPLACE FUNCTION tail(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT NULL::text'",
    'ALTER TABLE kid NO INHERIT par',
    'ALTER TABLE pay ADD CONSTRAINT ex EXCLUDE USING btree (salary WITH =)',
    'ALTER TABLE late VALIDATE CONSTRAINT late',
    'CREATE TABLE nn (e text REFERENCES ppl)',
    "ALTER DOMAIN pd ADD CONSTRAINT k CHECK (VALUE <> 'S3CR3T-9001')",
    'ALTER DOMAIN pd SET NOT NULL',
    "CREATE TABLE listed_one PARTITION OF listed FOR VALUES IN ('S3CR3T-9001')",
    "ALTER TABLE listed ATTACH PARTITION lone FOR VALUES IN ('S3CR3T-9001')",
  ])('%s', async (text) => {
    const [answer] = await both('devs', [text])
    expect(answer?.sqlstate).toBe(refused)
    expect(answer?.text).toMatch(/is masked for you|is classified/)
  })

  it.each([
    [
      'CREATE VIEW fine AS SELECT id, name FROM users',
      'CREATE OR REPLACE VIEW fine AS SELECT id, name FROM users',
      'DROP VIEW fine',
    ],
    [
      "CREATE FUNCTION fine(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
      'DROP FUNCTION fine(int)',
    ],
    ['CREATE TABLE plain_refs (u int REFERENCES users)', 'DROP TABLE plain_refs'],
    [
      'ALTER TABLE rated ADD CONSTRAINT ex EXCLUDE USING btree (id WITH =)',
      'ALTER TABLE rated DROP CONSTRAINT ex',
    ],
  ])('but not: %s', async (...steps) => {
    for (const answer of await both('devs', steps)) expect(answer).toMatchObject({ sqlstate: null })
  })
})

describe('what a materialized view holds', () => {
  it('does not depend on the search_path of who reads it', async () => {
    await both('writers', [
      'SET search_path = decoy, public',
      'SELECT x FROM public.lates WHERE id = 1',
    ])
  })
})

describe('ordinary writes go on', () => {
  it.each([
    [
      "INSERT INTO pay (id, note) VALUES (901, 'x') RETURNING id, note",
      'DELETE FROM pay WHERE id = 901',
    ],
    ["UPDATE pay SET note = 'y' WHERE id = 3 RETURNING note"],
    [
      "UPDATE users SET name = 'somebody' WHERE id = 4 RETURNING id, name",
      "UPDATE users SET name = 'user 4' WHERE id = 4",
    ],
    [
      "UPDATE gn SET name = 'somebody' WHERE id = 4 RETURNING id, name",
      "UPDATE users SET name = 'user 4' WHERE id = 4",
    ],
    ["INSERT INTO filled (id, a) VALUES (1, 'x') RETURNING a, b"],
    [
      'INSERT INTO stamped (id) VALUES (1) RETURNING touched',
      'UPDATE stamped SET id = 1 WHERE id = 1 RETURNING touched',
      'DELETE FROM stamped WHERE id = 1',
    ],
    [
      "INSERT INTO rated VALUES (1, 'a', 1) ON CONFLICT (id) DO UPDATE SET n = rated.n + 1 RETURNING n",
      'DELETE FROM rated WHERE id = 1',
    ],
    [
      "INSERT INTO orders VALUES (900, 1, 5, 'new', 'x') RETURNING id",
      'UPDATE orders SET user_id = 2 WHERE id = 900',
      'DELETE FROM orders WHERE id = 900',
    ],
    [
      "INSERT INTO sv VALUES (1, 'x') RETURNING a",
      "UPDATE sv SET a = 'y' WHERE id = 1",
      'DELETE FROM sv WHERE id = 1',
    ],
    ['DELETE FROM tree WHERE id = 1'],
    ["UPDATE checked SET name = 'x' WHERE id = 3"],
    ["UPDATE steady SET name = 'x' WHERE id = 3", 'DELETE FROM steady WHERE id = 3'],
    ["UPDATE events SET kind = 'k' WHERE id = 1"],
  ])('%s', async (...steps) => {
    for (const answer of await both('writers', steps))
      expect(answer).toMatchObject({ sqlstate: null })
  })
})
