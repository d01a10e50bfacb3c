/** Names resolved as the server resolves them, lineage, flows and effects, with the tricks. */
import { afterAll, describe, expect, test } from 'vitest'
import {
  columnNames,
  entries,
  one,
  parser,
  sources,
  TestSession,
  uses,
} from './analysis-support.ts'

afterAll(() => parser.close())

describe('names', () => {
  test('a CTE hides a table in FROM, an inner one an outer one', () => {
    expect(sources(one('WITH users AS (SELECT 1 AS ssn) SELECT ssn FROM users'))).toEqual([])
    const inner = `WITH t AS (SELECT name AS x FROM users)
      SELECT x FROM (WITH t AS (SELECT ssn AS x FROM users) SELECT x FROM t) s`
    expect(sources(one(inner))).toEqual(['public.users.ssn direct'])
  })

  test('a CTE never hides the target of a write', () => {
    const sql = 'WITH scratch AS (SELECT 1 AS id) DELETE FROM scratch WHERE id = 1'
    expect(one(sql).access.relations).toMatchObject([
      { schema: 'public', name: 'scratch', actions: ['delete', 'select'] },
    ])
  })

  test('a CTE does not see itself without RECURSIVE, nor the ones after it', () => {
    const sql = 'WITH users AS (SELECT ssn AS x FROM users) SELECT x FROM users'
    expect(sources(one(sql))).toEqual(['public.users.ssn direct'])
    const forward = 'WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a'
    expect(one(forward).access.incomplete).toEqual(['relation b is not in the catalog'])
  })

  test('a qualified name is never a CTE', () => {
    const sql = 'WITH users AS (SELECT 1 AS ssn) SELECT ssn FROM public.users'
    expect(sources(one(sql))).toEqual(['public.users.ssn direct'])
    expect(sources(one('SELECT ssn FROM corpus.public.users'))).toEqual(['public.users.ssn direct'])
    expect(one('SELECT ssn FROM elsewhere.public.users').access.complete).toBe(false)
  })

  test('search_path decides, and while it is unknown every candidate counts', () => {
    expect(columnNames(one('SELECT name FROM users', ['pg_catalog', 'hr', 'public']))).toEqual([
      'hr.users.name',
    ])
    const unknown = one('SELECT name FROM users', 'unknown')
    expect(columnNames(unknown)).toEqual(['hr.users.name', 'public.users.name'])
    expect(unknown.access.complete).toBe(false)
  })

  test('a statement inside another asks for the search_path as it would alone', () => {
    for (const sql of [
      'SELECT name FROM users',
      'PREPARE p AS SELECT name FROM users',
      'DECLARE c CURSOR FOR SELECT name FROM users',
      'EXPLAIN SELECT name FROM users',
      'COPY (SELECT name FROM users) TO STDOUT',
    ]) {
      expect(one(sql, 'unknown').dependsOnSession, sql).toBe(true)
    }
  })

  test('a temporary table shadows a permanent one, and pg_temp names the own schema', () => {
    const session = new TestSession()
    session.temporarySchema = 'pg_temp_3'
    session.searchPath = ['pg_temp_3', 'pg_catalog', 'public']
    const [shadow, own, permanent] = session.run(
      'SELECT pan FROM cards; SELECT pan FROM pg_temp.cards; SELECT pan FROM public.cards',
    )
    expect(shadow === undefined ? [] : columnNames(shadow)).toEqual(['pg_temp_3.cards.pan'])
    expect(own === undefined ? [] : columnNames(own)).toEqual(['pg_temp_3.cards.pan'])
    expect(permanent === undefined ? [] : columnNames(permanent)).toEqual(['public.cards.pan'])
  })

  test('identifiers fold, quoted ones do not, Unicode escapes count as what they say', () => {
    expect(columnNames(one('SELECT SSN FROM USERS'))).toEqual(['public.users.ssn'])
    expect(columnNames(one('SELECT "Col", COL FROM "Mixed"'))).toEqual([
      'public.Mixed.Col',
      'public.Mixed.col',
    ])
    expect(one('SELECT "SSN" FROM users').access.complete).toBe(false)
    expect(sources(one('SELECT U&"\\0073sn" FROM U&"\\0075sers"'))).toEqual([
      'public.users.ssn direct',
    ])
    expect(sources(one('SELECT "weird.name" FROM "Mixed"'))).toEqual([
      'public."Mixed"."weird.name" direct',
    ])
  })

  test('column capture: an inner name that is not there means the outer one', () => {
    const sql = 'SELECT id FROM orders WHERE EXISTS (SELECT 1 FROM addresses WHERE total > 5)'
    expect(uses(one(sql), 'public.orders.total')).toEqual(['filter'])
    const captured = 'SELECT (SELECT ssn) FROM users'
    expect(sources(one(captured))).toEqual(['public.users.ssn direct'])
  })

  test('LATERAL sees its left, a plain sub-select does not', () => {
    const lateral = 'SELECT s.x FROM users u, LATERAL (SELECT u.ssn AS x) s'
    expect(sources(one(lateral))).toEqual(['public.users.ssn direct'])
    const plain = 'SELECT s.x FROM users u, (SELECT u.ssn AS x) s'
    expect(one(plain).access.complete).toBe(false)
  })

  test('column aliases rename from the left', () => {
    expect(sources(one('SELECT c FROM users AS u(a, b, c)'))).toEqual(['public.users.email direct'])
    expect(sources(one('WITH t(x) AS (SELECT ssn, id FROM users) SELECT x FROM t'))).toEqual([
      'public.users.ssn direct',
    ])
  })

  test('USING and NATURAL merge columns, and the rest follows', () => {
    const using = one('SELECT * FROM addresses a JOIN orders o USING (id)')
    expect(using.outputs?.map((output) => output.name)).toEqual([
      ...['id', 'city', 'zip'],
      ...['user_id', 'total', 'status', 'note'],
    ])
    const full = one('SELECT id FROM addresses FULL JOIN orders USING (id)')
    expect(sources(full)).toEqual(['public.addresses.id direct', 'public.orders.id direct'])
    const natural = one('SELECT pan FROM cards NATURAL JOIN user_cards')
    expect(uses(natural, 'public.user_cards.id')).toContain('join')
  })

  test('an alias hides the name of the relation', () => {
    expect(one('SELECT users.ssn FROM users u').access.complete).toBe(false)
    expect(one('SELECT public.users.ssn FROM users').access.complete).toBe(true)
    expect(
      one('SELECT j.ssn FROM (users u JOIN orders o ON o.user_id = u.id) j').outputs,
    ).toHaveLength(1)
  })

  test('system columns and whole rows', () => {
    expect(sources(one('SELECT ctid FROM users'))).toEqual(['public.users.ctid direct'])
    const row = one('SELECT u FROM users u')
    expect(sources(row)).toContain('public.users.ssn derived+')
    expect(row.outputs?.[0]?.origins).toContainEqual(expect.objectContaining({ attribute: 0 }))
  })

  test('GROUP BY prefers input columns, ORDER BY output names', () => {
    const sql = 'SELECT ssn AS name, count(*) FROM users GROUP BY name, ssn ORDER BY name'
    const analysis = one(sql)
    expect(uses(analysis, 'public.users.name')).toEqual(['group'])
    expect(uses(analysis, 'public.users.ssn')).toEqual(['group', 'order', 'output'])
    expect(uses(one('SELECT id, ssn FROM users ORDER BY 2'), 'public.users.ssn')).toContain('order')
  })
})

describe('rows and functions in disguise', () => {
  test.each([
    ['SELECT (u).ssn FROM users u', ['public.users.ssn direct']],
    ['SELECT ssn(u) FROM users u', ['public.users.ssn direct']],
    [
      'SELECT (SELECT x FROM (SELECT u.*) AS s(a, b, c, x)) FROM users u',
      ['public.users.ssn direct'],
    ],
    ['SELECT (s.r).ssn FROM (SELECT u AS r FROM users u) s', ['public.users.ssn direct']],
    ['SELECT u.code_of FROM users u', null],
    ['SELECT code_of(u) FROM users u', null],
    ['SELECT u.row_to_json FROM users u', null],
    ['SELECT xmlelement(name x, ssn) FROM users', ['public.users.ssn derived-']],
    ['SELECT ssn FROM all_users()', ['public.users.ssn direct']],
    ['SELECT (all_users()).ssn', ['public.users.ssn direct']],
    ['SELECT b FROM two()', ['public.users.email direct']],
    ['SELECT (two()).b', ['public.users.email direct']],
    ['SELECT v FROM table_of(1)', null],
    ['SELECT pan FROM as_owner()', ['public.cards.pan direct']],
    ['SELECT atomic(1)', ['public.cards.pan direct']],
    ['SELECT v FROM users, unnest(ARRAY[ssn], ARRAY[name]) AS x(v, w)', null],
    [
      'SELECT v FROM users u, LATERAL ROWS FROM (upper(u.ssn)) AS x(v)',
      ['public.users.ssn derived+'],
    ],
    ['TABLE contact', null],
  ])('%s', (sql, expected) => {
    const analysis = one(sql)
    expect(analysis.access.incomplete).toEqual([])
    const all = (analysis.outputs ?? []).flatMap((_, index) => sources(analysis, index))
    if (expected !== null) expect(all).toEqual(expected)
    expect(all.some((source) => /users\.(ssn|email|token)|cards\.pan/.test(source))).toBe(true)
  })

  test('a composite column passes its parts on', () => {
    expect(sources(one('SELECT (home).zip FROM people'))).toEqual(['public.people.home derived+'])
    expect(sources(one('SELECT (p.home).* FROM people p'), 1)).toEqual([
      'public.people.home derived+',
    ])
  })

  test('a function of an earlier schema hides the built-in one', () => {
    const sql = "SELECT upper('x')"
    expect(one(sql).access.columns).toEqual([])
    const hidden = one(sql, ['hr', 'pg_catalog', 'public'])
    expect(uses(hidden, 'public.cards.pan')).toContain('output')
    expect(uses(one(sql, 'unknown'), 'public.cards.pan')).toContain('output')
  })

  test("a user's operator is its function", () => {
    const analysis = one("SELECT 'x'::text === 1")
    expect(uses(analysis, 'public.users.ssn')).toContain('filter')
  })

  test('a domain check that reads a table is not total, nor free of it', () => {
    const analysis = one('SELECT name::checked FROM users')
    expect(sources(analysis)).toEqual(['public.users.name derived-'])
  })

  test('what a domain checks is read, by a cast and by a write', () => {
    const cast = one('SELECT name::checked FROM users WHERE id = 1')
    expect(uses(cast, 'public.users.ssn')).toContain('filter')
    const write = one("INSERT INTO with_domain VALUES (1, 'x')")
    expect(uses(write, 'public.users.ssn')).toContain('filter')
  })

  test('recursive functions give what they read, whichever is asked first', () => {
    expect(sources(one('SELECT rec(3)'))).toContain('public.cards.pan derived-')
    for (const sql of ['SELECT odd(3)', 'SELECT even(3)']) {
      const analysis = one(sql)
      expect(analysis.access.incomplete).toEqual([])
      expect(sources(analysis)).toEqual([
        'public.addresses.city derived-',
        'public.users.ssn derived-',
      ])
    }
  })

  test('a deep statement does not spoil the view that it is the first to use', () => {
    const deep = `SELECT ${'abs('.repeat(240)}(SELECT max(id) FROM contact_twice)${')'.repeat(240)}`
    expect(() => one(deep)).not.toThrow()
    expect(one('SELECT who FROM contact_twice').access.complete).toBe(true)
  })

  test('a parameter may have any type, so it narrows nothing', () => {
    expect(sources(one('SELECT salary > $1 FROM users'))).toEqual(['public.users.salary derived+'])
    expect(sources(one('SELECT balance = $1 FROM users'))[0]).toMatch(/balance/)
    expect(sources(one('SELECT name LIKE $1 FROM users'))).toEqual(['public.users.name derived-'])
    expect(one('SELECT coalesce(name, $1) FROM users LIMIT $2').access.complete).toBe(true)
  })

  test('casts to a common type that may fail are not total', () => {
    const sql = 'SELECT CASE WHEN true THEN balance ELSE 1.5::float4 END FROM users'
    expect(sources(one(sql))).toEqual(['public.users.balance derived-'])
    const union = 'SELECT born FROM users UNION ALL SELECT now()'
    expect(sources(one(union))[0]).toMatch(/^public\.users\.born derived/)
    expect(sources(one('SELECT id FROM users UNION ALL SELECT total FROM orders'))).toEqual([
      'public.orders.total direct',
      'public.users.id derived+',
    ])
  })

  test('dynamic SQL and unknown functions are incomplete', () => {
    expect(one("SELECT dynamic('SELECT 1')").access.complete).toBe(false)
    // What runs unread may be DDL, so names are looked up again after it.
    expect(one("SELECT dynamic('SELECT 1')").changesCatalog).toBe(true)
    expect(one("DO $$ BEGIN EXECUTE 'DROP TABLE t'; END $$").changesCatalog).toBe(true)
    expect(one('DO LANGUAGE plperl $$ 1 $$').changesCatalog).toBe(true)
    expect(one('DO $$ BEGIN PERFORM 1; END $$').changesCatalog).toBe(false)
    expect(one('SELECT ssn_of(1)').changesCatalog).toBe(false)
    const unknown = one('SELECT no_such_function(name) FROM users')
    expect(unknown.access.complete).toBe(false)
    expect(unknown.outputs?.[0]?.opaque).toBe(true)
    expect(sources(unknown)).toContain('public.users.ssn derived-')
  })
})

describe('totality', () => {
  test.each([
    ['upper(ssn)', '+'],
    ["ssn || 'x'", '+'],
    ['left(ssn, 3)', '+'],
    ['salary > 5', '+'],
    ['salary / 12', '+'],
    ['1 / salary', '-'],
    ['salary + 1', '-'],
    ['ssn::int', '-'],
    ['salary::text', '+'],
    ["ssn LIKE 'S%'", '+'],
    ['name LIKE ssn', '-'],
    ['CASE WHEN vip THEN 1 ELSE 2 END', '+'],
    ["CASE WHEN vip THEN nextval('counter') END", '-'],
    ['CASE WHEN vip THEN 1/0 END', '-'],
    ['CASE WHEN vip THEN (SELECT id FROM orders) END', '-'],
    ['vip AND 1/(id-id) = 1', '-'],
    ['coalesce(ssn, (1/0)::text)', '-'],
    ['ARRAY[ssn, name]', '+'],
    ['ROW(ssn, 1)', '+'],
    ['pg_sleep(salary)', '-'],
    ['ssn COLLATE "C"', '+'],
  ])('%s', (expression, mark) => {
    const analysis = one(`SELECT ${expression} FROM users`)
    const all = (analysis.access.outputs[0]?.sources ?? []).filter((source) =>
      /ssn|salary|vip/.test(source.column),
    )
    expect(all.length).toBeGreaterThan(0)
    for (const source of all) {
      expect(source.via === 'direct' || source.total === true).toBe(mark === '+')
    }
    const used = [...uses(analysis, 'public.users.ssn'), ...uses(analysis, 'public.users.salary')]
    if (mark === '-' && !expression.includes('vip')) expect(used).toContain('argument')
  })

  test('what is not total shows even where its value reaches no output', () => {
    const sql = 'SELECT 1 FROM (SELECT 1 / (salary - 7) AS x FROM users OFFSET 0) s'
    expect(uses(one(sql), 'public.users.salary')).toContain('argument')
  })

  test('a plain count shows nothing, any other does', () => {
    expect(sources(one('SELECT count(ssn) FROM users'))).toEqual(['public.users.ssn count'])
    expect(sources(one('SELECT count(ssn) + 1 FROM users'))).toEqual(['public.users.ssn count'])
    expect(sources(one('SELECT count(DISTINCT ssn) FROM users'))).toEqual([
      'public.users.ssn derived+',
    ])
    expect(sources(one('SELECT count(zip) FROM addresses'))).toEqual([
      'public.addresses.zip derived+',
    ])
    expect(sources(one('SELECT count(ssn) FILTER (WHERE vip) FROM users'))).toContain(
      'public.users.vip derived+',
    )
  })
})

describe('views, generated columns, inheritance', () => {
  test('a view lists itself and what it reads', () => {
    const analysis = one('SELECT number FROM user_cards')
    expect(sources(analysis)).toEqual([
      'public.cards.pan direct',
      'public.user_cards.number direct',
    ])
    expect(entries(analysis, 'public.cards.pan').map((column) => column.through)).toEqual(['view'])
    expect(analysis.access.relations.map((one) => [one.name, one.through])).toEqual(
      expect.arrayContaining([
        ['user_cards', null],
        ['cards', 'view'],
        ['users', 'view'],
      ]),
    )
  })

  test('columns of a view that are not asked for are not touched', () => {
    expect(columnNames(one('SELECT brand FROM user_cards'))).not.toContain('public.cards.pan')
  })

  test('what a view filters by shows', () => {
    expect(uses(one('SELECT name FROM vips'), 'public.users.vip')).toEqual(['filter'])
  })

  test('a classification holds along inheritance, both ways', () => {
    expect(sources(one('SELECT secret FROM child_t'))).toEqual([
      'public.base_t.secret direct',
      'public.child_t.secret direct',
    ])
    expect(sources(one('SELECT secret FROM base_t'))).toContain('public.child_t.secret direct')
    expect(entries(one('SELECT 1 FROM base_t WHERE secret > $1'), 'public.child_t.secret')).toEqual(
      [expect.objectContaining({ uses: ['filter'], through: 'partition' })],
    )
  })
})

describe('writes', () => {
  const flows = (sql: string): string[] =>
    one(sql)
      .access.flows.map((flow) => `${flow.from} > ${flow.to} ${flow.via}`)
      .sort()

  test.each([
    [
      'INSERT INTO scratch (a) SELECT ssn FROM users',
      ['public.users.ssn > public.scratch.a direct'],
    ],
    [
      "INSERT INTO scratch (id, a) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET a = (SELECT max(ssn) FROM users)",
      ['public.users.ssn > public.scratch.a derived'],
    ],
    [
      'UPDATE scratch SET a = u.ssn FROM users u WHERE u.id = scratch.id',
      ['public.users.ssn > public.scratch.a direct'],
    ],
    [
      'UPDATE scratch SET (a, b) = (SELECT name, ssn FROM users WHERE id = 1)',
      ['public.users.name > public.scratch.a direct', 'public.users.ssn > public.scratch.b direct'],
    ],
    [
      "MERGE INTO scratch s USING users u ON s.id = u.id WHEN MATCHED THEN UPDATE SET a = u.ssn || 'x'",
      ['public.users.ssn > public.scratch.a derived'],
    ],
    [
      'CREATE TABLE stolen AS SELECT ssn AS x FROM users',
      ['public.users.ssn > public.stolen.x direct'],
    ],
    ['SELECT ssn AS x INTO stolen FROM users', ['public.users.ssn > public.stolen.x direct']],
    [
      'CREATE VIEW stolen(y) AS SELECT ssn FROM users',
      ['public.users.ssn > public.stolen.y direct'],
    ],
    [
      'WITH x AS (INSERT INTO scratch (a) SELECT ssn FROM users RETURNING a) SELECT a FROM x',
      ['public.users.ssn > public.scratch.a direct'],
    ],
    [
      'INSERT INTO v_scratch (alpha) SELECT ssn FROM users',
      [
        'public.users.ssn > public.scratch.a direct',
        'public.users.ssn > public.v_scratch.alpha direct',
      ],
    ],
  ])('%s', (sql, expected) => {
    expect(flows(sql)).toEqual(expected)
  })

  test('RETURNING shows what was written', () => {
    const sql = 'INSERT INTO scratch (id, a) SELECT id, ssn FROM users RETURNING a'
    expect(sources(one(sql))).toEqual(['public.scratch.a direct', 'public.users.ssn direct'])
    const cte =
      'WITH w AS (UPDATE scratch SET a = (SELECT max(ssn) FROM users) RETURNING a) TABLE w'
    expect(sources(one(cte))).toContain('public.users.ssn derived+')
    const names = 'UPDATE scratch SET a = $1 RETURNING WITH (OLD AS o) o.a, new.b'
    expect(one(names).access.incomplete).toEqual([])
  })

  test('a data-modifying CTE makes a SELECT a write', () => {
    const analysis = one('WITH x AS (DELETE FROM orders RETURNING id) SELECT id FROM x')
    expect(analysis.access.effects).toEqual(['read', 'write'])
    expect(analysis.writes).toBe(true)
  })

  test('triggers, rules and defaults come in', () => {
    const trigger = one("INSERT INTO watched VALUES (1, 'x')")
    expect(entries(trigger, 'public.users.ssn')).toEqual([
      expect.objectContaining({ through: 'trigger' }),
    ])
    expect(trigger.access.relations).toContainEqual(
      expect.objectContaining({ name: 'audit_log', through: 'trigger' }),
    )
    const rule = one("INSERT INTO ruled VALUES (1, 'x')")
    expect(entries(rule, 'public.cards.pan').map((one) => one.through)).toEqual(['rule'])
    const byDefault = one('INSERT INTO with_default (id) VALUES (1)')
    expect(columnNames(byDefault)).toContain('public.users.ssn')
  })

  test('a relation that the catalog does not have is named with the action', () => {
    for (const sql of ['DELETE FROM secret_table', 'INSERT INTO secret_table VALUES (1)']) {
      const { access } = one(sql)
      expect(access.complete).toBe(false)
      expect(access.relations).toMatchObject([{ schema: 'public', name: 'secret_table' }])
    }
    expect(one('SELECT 1 FROM nowhere.x').access.relations).toMatchObject([
      { schema: 'nowhere', name: 'x', actions: ['select'] },
    ])
  })

  test('DDL names the columns at stake', () => {
    for (const sql of [
      'ALTER TABLE users RENAME ssn TO harmless',
      'ALTER TABLE users RENAME TO people2',
      'ALTER TABLE users DROP COLUMN ssn',
      'DROP TABLE users',
      'ALTER TABLE users SET SCHEMA hr',
      'DROP SCHEMA public CASCADE',
    ]) {
      const analysis = one(sql)
      expect(uses(analysis, 'public.users.ssn')).toContain('assign')
      expect(analysis.access.effects).toContain('ddl')
      expect(analysis.changesCatalog).toBe(true)
    }
  })
})

describe('effects and settings', () => {
  test.each([
    ['SELECT 1', ['read']],
    ['VALUES (1)', ['read']],
    ['SELECT * FROM orders FOR UPDATE', ['read', 'lock']],
    ["SELECT nextval('counter')", ['read', 'write']],
    ["SELECT pg_notify('a', 'b')", ['read', 'notify']],
    ["SELECT pg_read_file('x')", ['read', 'file']],
    ['SELECT pg_advisory_lock(1)', ['read', 'lock']],
    ["COPY orders TO PROGRAM 'cat'", ['read', 'program']],
    ["COPY orders FROM '/etc/passwd'", ['write', 'file']],
    ['COPY orders FROM STDIN', ['write']],
    ['EXPLAIN DELETE FROM orders', ['read', 'session']],
    ['EXPLAIN (ANALYZE off) DELETE FROM orders', ['write', 'session']],
    ['EXPLAIN ANALYZE DELETE FROM orders WHERE id = 1', ['read', 'write', 'session']],
    ['LOCK TABLE orders', ['lock']],
    ['VACUUM orders', ['maintenance']],
    ['ANALYZE orders', ['maintenance']],
    ['GRANT SELECT ON orders TO app', ['dcl']],
    ['ALTER ROLE app SUPERUSER', ['dcl']],
    ['TRUNCATE orders', ['write']],
    ['LISTEN x', ['notify']],
    ['BEGIN', ['transaction']],
    ['CREATE TABLE x (id int)', ['ddl']],
    ['CALL wipe()', ['write', 'procedure']],
    ['DO $$ BEGIN DELETE FROM orders WHERE id = 1; END $$', ['read', 'write', 'procedure']],
  ])('%s', (sql, expected) => {
    expect(one(sql).access.effects).toEqual(expected)
  })

  test.each([
    ['SET role TO admin', 'role', 'set'],
    ['SET ROLE admin', 'role', 'set'],
    ['SET LOCAL ROLE admin', 'role', 'set_local'],
    ['RESET ROLE', 'role', 'reset'],
    ['SET SESSION AUTHORIZATION admin', 'session_authorization', 'set'],
    ['RESET ALL', null, 'reset_all'],
    ['DISCARD ALL', null, 'discard'],
    ["SELECT set_config('ROLE', 'admin', false)", 'role', 'set'],
    ["SELECT set_config('ro' || 'le', 'admin', true)", null, 'set_local'],
    ["SELECT pg_catalog.set_config('search_path', $1, false)", 'search_path', 'set'],
    ["SELECT 1 WHERE set_config('role', 'x', true) > ''", 'role', 'set_local'],
    ["UPDATE pg_settings SET setting = 'x' WHERE name = 'role'", null, 'set'],
    ["SET NAMES 'SJIS'", 'client_encoding', 'set'],
    ['SET standard_conforming_strings = off', 'standard_conforming_strings', 'set'],
  ])('%s', (sql, name, action) => {
    const analysis = one(sql)
    expect(analysis.access.settings).toContainEqual(expect.objectContaining({ name, action }))
    expect(analysis.mayChangeSettings).toBe(true)
  })

  test('harmless settings need no probe', () => {
    expect(one("SET statement_timeout = '5s'").mayChangeSettings).toBe(false)
    expect(one('SHOW ALL').outputs?.map((output) => output.name)).toEqual([
      'name',
      'setting',
      'description',
    ])
  })

  test('EXECUTE and FETCH carry what stands behind the name', () => {
    const session = new TestSession()
    const all = session.run(`PREPARE p AS SELECT ssn FROM users WHERE id = $1; EXECUTE p(1);
      DECLARE c CURSOR FOR SELECT pan FROM cards; FETCH ALL c; MOVE 1 c; EXECUTE other`)
    const [, execute, , fetch, move, other] = all
    expect(execute?.access.outputs[0]?.sources).toEqual([
      { column: 'public.users.ssn', via: 'direct' },
    ])
    expect(fetch?.outputs?.[0]?.origins).toHaveLength(1)
    expect(move?.outputs).toBeNull()
    expect(other?.access.complete).toBe(false)
  })

  test('CREATE TABLE AS EXECUTE writes what the prepared statement gives', () => {
    const session = new TestSession()
    const [, created] = session.run(
      'PREPARE p AS SELECT ssn FROM users; CREATE TABLE stolen (x) AS EXECUTE p',
    )
    expect(created?.access.incomplete).toEqual([])
    expect(created?.access.flows).toEqual([
      { from: 'public.users.ssn', to: 'public.stolen.x', via: 'direct' },
    ])
  })

  test('filtered and limited are said of the top of the statement', () => {
    expect(one('DELETE FROM orders').access.filtered).toBe(false)
    expect(one('DELETE FROM orders WHERE id = 1').access.filtered).toBe(true)
    expect(one('DELETE FROM orders WHERE 1 = 1 AND true').access.filtered).toBe(false)
    expect(one('SELECT 1 FROM orders LIMIT 5').access.limited).toBe(true)
    expect(one('SELECT 1 FROM orders LIMIT ALL').access.limited).toBe(false)
  })

  test.each([
    ['DELETE FROM orders WHERE 1 = 1', true],
    ['UPDATE orders SET id = 1', true],
    ['DELETE FROM orders WHERE id = 1', false],
    ['WITH x AS (DELETE FROM orders WHERE true RETURNING id) SELECT id FROM x WHERE id = 1', true],
    ['WITH x AS (DELETE FROM orders WHERE id = 1 RETURNING id) SELECT id FROM x', false],
    ['PREPARE p AS WITH x AS (DELETE FROM orders RETURNING id) SELECT id FROM x', true],
    ['EXPLAIN ANALYZE DELETE FROM orders WHERE true', true],
    ['DO $$BEGIN DELETE FROM orders; END$$', true],
    ['DO $$BEGIN DELETE FROM orders WHERE id = 1; END$$', false],
    ['MERGE INTO orders USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE', true],
    ['MERGE INTO orders o USING users u ON o.id = u.id WHEN MATCHED THEN DELETE', false],
    ['MERGE INTO orders o USING users u ON true WHEN MATCHED AND o.id = 1 THEN DELETE', false],
    [
      'MERGE INTO orders o USING users u ON o.id = u.id WHEN NOT MATCHED BY SOURCE THEN DELETE',
      true,
    ],
    [
      'MERGE INTO orders USING (SELECT 1) s ON false WHEN NOT MATCHED THEN INSERT DEFAULT VALUES',
      false,
    ],
    ['INSERT INTO orders SELECT * FROM orders', false],
    ['SELECT id FROM orders', false],
  ])('%s changes every row: %s', (text, unfiltered) => {
    expect(one(text).access.unfiltered).toBe(unfiltered)
  })
})

describe('never an exception', () => {
  test('nesting beyond the limit is incomplete', () => {
    const sql = `SELECT ${'('.repeat(400)}1${')'.repeat(400)}`
    expect(one(sql).access.complete).toBe(true)
    const deep = `SELECT ${'-('.repeat(200)}salary${')'.repeat(200)} FROM users`
    expect(sources(one(deep))).toEqual(['public.users.salary derived-'])
  })
})

describe('work is bounded', () => {
  test('recursive CTEs in recursive CTEs end in an incomplete analysis, not in a hang', () => {
    let inner = 'SELECT id FROM users'
    for (let depth = 0; depth < 16; depth += 1) {
      inner = `WITH RECURSIVE r(a) AS (SELECT id FROM users UNION SELECT a + x FROM r, (${inner}) AS q(x)) SELECT a FROM r`
    }
    const began = performance.now()
    one(inner)
    expect(performance.now() - began).toBeLessThan(20_000)
    expect(one('SELECT id FROM users').access.complete).toBe(true)
  })

  test('a hundred thousand constants are one comparison', () => {
    const list = Array.from({ length: 2_000 }, (_, index) => String(index)).join()
    expect(one(`SELECT name FROM users WHERE id IN (${list})`).access.complete).toBe(true)
  })
})
