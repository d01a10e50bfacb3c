/**
 * Trigger functions that are given whole rows: what is in a row that a masked client changes may be
 * copied, and may decide nothing. Directly on the server each of these tells; through regate none
 * may. The usual audit triggers stay allowed.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { directly, judge, run, type Connect } from './compare.ts'
import { startProxies, type Proxies } from './proxies.ts'
import { modes } from './raw-connection.ts'
import { buildWorlds, databaseName, type Worlds } from './worlds.ts'

const big = '> 77000500'
const stop = 'THEN RETURN NULL; END IF; RETURN NEW;'

/** Bodies of triggers before an UPDATE; what stands before a bar is declared. */
const telling: Readonly<Record<string, string>> = {
  document: `BEGIN IF (to_jsonb(OLD) ->> 'salary')::int ${big} ${stop} END`,
  variable: `DECLARE r record; BEGIN r := OLD; IF r.salary ${big} ${stop} END`,
  declared: `DECLARE j jsonb := to_jsonb(OLD); BEGIN IF (j ->> 'salary')::int ${big} ${stop} END`,
  holder: `DECLARE j jsonb; k jsonb; BEGIN j := to_jsonb(NEW); k := j; IF (k ->> 'salary')::int ${big} ${stop} END`,
  argument: `BEGIN IF is_big(to_jsonb(OLD)) ${stop} END`,
  star: `DECLARE s int; BEGIN SELECT x.salary INTO s FROM (SELECT OLD.*) x; IF s ${big} ${stop} END`,
  filter: `BEGIN INSERT INTO seen SELECT 1 WHERE (to_jsonb(OLD) ->> 'salary')::int ${big}; RETURN NEW; END`,
  failing: `DECLARE s int; BEGIN s := 1 / ((to_jsonb(OLD) ->> 'salary')::int - 77000900); RETURN NEW; END`,
  sqlstate: `BEGIN RAISE EXCEPTION 'x' USING ERRCODE = substr(OLD::text, 7, 5); END`,
}

/** The same, which copy rows, or compare what is the same in both. */
const copying: Readonly<Record<string, string>> = {
  audit: 'BEGIN INSERT INTO audit VALUES (to_jsonb(OLD), to_jsonb(NEW)); RETURN NEW; END',
  variables: `DECLARE a jsonb := to_jsonb(OLD); b jsonb; BEGIN b := to_jsonb(NEW); INSERT INTO audit VALUES (a, b); RETURN NEW; END`,
  either: 'BEGIN RETURN COALESCE(NEW, OLD); END',
  notices: "BEGIN RAISE NOTICE 'row %', NEW; RETURN NEW; END",
  mirrored: `BEGIN IF to_jsonb(NEW) - 'at' = to_jsonb(OLD) - 'at' THEN RETURN NEW; END IF; RETURN NEW; END`,
  distinct:
    'BEGIN IF NEW IS DISTINCT FROM OLD THEN INSERT INTO audit VALUES (to_jsonb(NEW)); END IF; RETURN NEW; END',
}

const made = (names: Readonly<Record<string, string>>): string =>
  Object.entries(names)
    .map(
      ([name, body]) => `CREATE TABLE t_${name} AS TABLE pay;
CREATE FUNCTION f_${name}() RETURNS trigger LANGUAGE plpgsql AS $f$ ${body} $f$;
CREATE TRIGGER fires BEFORE UPDATE ON t_${name} FOR EACH ROW EXECUTE FUNCTION f_${name}();`,
    )
    .join('\n')

const objects = `
CREATE TABLE pay AS SELECT id, salary, 0 AS bonus FROM users;
CREATE TABLE seen (n int);
CREATE TABLE audit (a jsonb, b jsonb);
CREATE FUNCTION is_big(jsonb) RETURNS boolean LANGUAGE sql AS 'SELECT ($1 ->> ''salary'')::int ${big}';
${made(telling)}
${made(copying)}
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TABLE t_condition AS TABLE pay;
CREATE TRIGGER fires BEFORE UPDATE ON t_condition FOR EACH ROW WHEN (OLD::text LIKE '%,77000013,%') EXECUTE FUNCTION nothing();
CREATE VIEW t_instead AS SELECT id, salary, bonus FROM pay;
CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN IF OLD.salary ${big} THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER fires INSTEAD OF UPDATE ON t_instead FOR EACH ROW EXECUTE FUNCTION instead();
CREATE VIEW t_back AS SELECT id, salary, bonus FROM pay;
CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN UPDATE public.pay SET salary = NEW.salary, bonus = NEW.bonus WHERE id = OLD.id; RETURN NEW; END';
CREATE TRIGGER fires INSTEAD OF UPDATE ON t_back FOR EACH ROW EXECUTE FUNCTION back();
`

let worlds: Worlds
let proxies: Proxies
const direct: Connect = (world) => directly(world, databaseName)
const looks = ['SELECT count(*) FROM seen', 'DELETE FROM seen WHERE n = 1']
const change = (name: string): string => `UPDATE t_${name} SET bonus = 7 WHERE id = 1`

beforeAll(async () => {
  worlds = await buildWorlds({ extra: { first: objects, other: objects } })
  const classified = { class: 'pii', mask: { kind: 'redact' } } as const
  const names = [...Object.keys(telling), ...Object.keys(copying), 'condition']
  const columns = ['pay', ...names.map((name) => `t_${name}`)].map(
    (table) => [`public.${table}.salary`, classified] as const,
  )
  const audited = [
    ['public.audit.a', classified],
    ['public.audit.b', classified],
  ] as const
  const all = Object.fromEntries([...columns, ...audited])
  proxies = await startProxies(worlds, all, { write: ['*'] })
}, 240_000)

afterAll(async () => {
  await proxies?.stop()
  await worlds?.stop()
})

describe('whole rows in triggers', () => {
  for (const name of [...Object.keys(telling), 'condition', 'instead']) {
    it(`that decide tell directly and not through regate: ${name}`, async () => {
      for (const mode of [modes[0], modes[1]]) {
        if (mode === undefined) continue
        const item = { name, steps: name === 'filter' ? [change(name), ...looks] : [change(name)] }
        const verdict = await judge(proxies.connect, worlds, item, mode)
        expect(verdict.kind, verdict.kind === 'leak' ? verdict.difference : '').toBe('equal')
        expect((await judge(direct, worlds, item, mode)).kind).toBe('leak')
      }
    }, 60_000)
  }

  for (const name of [...Object.keys(copying), 'back']) {
    it(`that are copied are allowed: ${name}`, async () => {
      for (const mode of [modes[0], modes[1]]) {
        if (mode === undefined) continue
        const item = { name, steps: [change(name)] }
        const { sqlstate } = await run(proxies.connect, worlds.first, item, mode)
        expect(sqlstate).toBeNull()
      }
    }, 60_000)
  }
})
