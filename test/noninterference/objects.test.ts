/**
 * Objects that users made and that the statements of a masked client run: overloads of the server's
 * own names, domains whose checks look at other rows, STRICT functions, children without NOT NULL.
 * Directly on the server each of these tells; through regate none may.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  encodeBind,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeSync,
} from '../../src/wire/wire.ts'
import { directly, judge, judgeScript, type Connect } from './compare.ts'
import { startProxies, type Proxies } from './proxies.ts'
import { modes } from './raw-connection.ts'
import { buildWorlds, databaseName, type Worlds } from './worlds.ts'

const objects = `
CREATE FUNCTION count(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION unnest(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION unnest(text, text) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM users WHERE id = 1';
CREATE DOMAIN dq AS text;
CREATE FUNCTION ov(dq, int) RETURNS text LANGUAGE sql AS 'SELECT ssn FROM users WHERE id = 1';
CREATE FUNCTION ov(varchar, bigint) RETURNS text LANGUAGE sql AS 'SELECT ''x''';
CREATE FUNCTION known(text) RETURNS boolean LANGUAGE sql STABLE AS
  'SELECT NOT EXISTS (SELECT 1 FROM public.users WHERE ssn = $1)';
CREATE DOMAIN stranger AS text CHECK (known(VALUE));
CREATE FUNCTION takes(stranger) RETURNS int LANGUAGE sql AS 'SELECT length($1)';
CREATE FUNCTION gives(text) RETURNS stranger LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION andf(boolean, boolean) RETURNS boolean LANGUAGE sql AS 'SELECT $1 AND $2';
CREATE FUNCTION strict_one(text) RETURNS int LANGUAGE sql STRICT AS 'SELECT 1';
CREATE FUNCTION small(bigint) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE VIEW failing AS SELECT 1 AS x FROM generate_series(1, 2) g WHERE 1 / (g - g) > 0;
CREATE TABLE amounts AS SELECT id, (salary - 77000000)::bigint * 3200000 AS amount,
  CASE WHEN (salary - 77000000) % 16 = 10 THEN ssn END AS maybe FROM users;
CREATE TABLE par (id int, secret text, CONSTRAINT there NOT NULL secret NO INHERIT);
CREATE TABLE kid () INHERITS (par);
INSERT INTO kid SELECT id, maybe FROM amounts;
`

const cases: Readonly<Record<string, string>> = {
  'count of a user': 'SELECT count(ssn) FROM users WHERE id = 1',
  'a qualified unnest': "SELECT x FROM public.unnest('a'::text, 'b'::text) AS t(x)",
  'an overload with a domain': "SELECT ov('x'::text, 1)",
  'elements of a domain': `SELECT '{S3CR3T-9001}'::stranger[]`,
  'columns of a record function': `SELECT * FROM json_to_record('{"a":"S3CR3T-9001"}') AS t(a stranger)`,
  'an argument': "SELECT takes('S3CR3T-9001')",
  'a result': "SELECT gives('S3CR3T-9001')",
  'an argument that is too large': 'SELECT small(amount) FROM amounts WHERE id = 50',
  'an argument that is inlined': `SELECT andf(ssn > 'T', (SELECT true FROM generate_series(1, 2) g WHERE 1 / (g - g) > 0)) FROM users WHERE id = 1`,
  'a view that fails': `SELECT ssn > 'T' AND EXISTS (SELECT 1 FROM failing) FROM users WHERE id = 1`,
  'a STRICT function': 'SELECT id, strict_one(maybe) FROM amounts ORDER BY id',
  'a subscript': 'SELECT (ARRAY[1])[amount] FROM amounts WHERE id = 50',
  'a count over children': 'SELECT count(secret) FROM par',
}

let worlds: Worlds
let proxies: Proxies
const direct: Connect = (world) => directly(world, databaseName)

beforeAll(async () => {
  worlds = await buildWorlds({ extra: { first: objects, other: objects } })
  const classified = { class: 'pii', mask: { kind: 'redact' } } as const
  proxies = await startProxies(worlds, {
    'public.amounts.amount': classified,
    'public.amounts.maybe': classified,
    'public.par.secret': classified,
  })
}, 240_000)

afterAll(async () => {
  await proxies?.stop()
  await worlds?.stop()
})

describe('objects of users', () => {
  for (const [name, sql] of Object.entries(cases)) {
    it(`${name} tells directly and not through regate`, async () => {
      for (const mode of [modes[0], modes[1]]) {
        if (mode === undefined) continue
        const item = { name, steps: [sql] }
        expect((await judge(direct, worlds, item, mode)).kind, sql).toBe('leak')
        const verdict = await judge(proxies.connect, worlds, item, mode)
        expect(verdict.kind, verdict.kind === 'leak' ? verdict.difference : '').toBe('equal')
        const received = verdict.first.frames.map((frame) => frame.toString('latin1')).join()
        // What the statement itself holds may come back in a refusal.
        if (!sql.includes('S3CR3T')) expect(received).not.toMatch(/S3CR3T/)
      }
    }, 60_000)
  }

  it('a domain that Parse declares tells directly and not through regate', async () => {
    const { rows } = await worlds.first.admin.query<{ oid: number }>(
      "SELECT 'stranger'::regtype::oid::int AS oid",
    )
    const type = rows[0]?.oid ?? 0
    const script: Parameters<typeof judgeScript>[2] = async (connection) =>
      await connection.raw((out) => {
        encodeParse(out, {
          name: 's',
          text: 'SELECT 1 WHERE $1 IS NOT NULL',
          parameterTypes: [type],
        })
        encodeBind(out, { portal: '', statement: 's', parameters: [Buffer.from('S3CR3T-9001')] })
        encodeExecute(out, '')
        encodeSync(out)
        encodeQuery(out, "EXECUTE s('S3CR3T-9001')")
      }, 2)
    expect((await judgeScript(direct, worlds, script)).kind).toBe('leak')
    const verdict = await judgeScript(proxies.connect, worlds, script)
    expect(verdict.kind).toBe('equal')
    expect(verdict.first.sqlstate).toBe('0A000')
  }, 60_000)
})
