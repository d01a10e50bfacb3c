/** What functions read into variables, how planning runs them, and where their names are looked up. */
import { afterAll, describe, expect, test } from 'vitest'
import { Catalog, type FunctionRow } from '../../../src/sql/sql.ts'
import { catalog, parser, sources, TestSession, uses } from './analysis-support.ts'

afterAll(() => parser.close())

/** A catalog with more functions, each `f(argument types) → text`, made as the loader gives them. */
function session(...rows: readonly Partial<FunctionRow>[]): TestSession {
  const functions = rows.map((row, index): FunctionRow => {
    const argumentTypes = row.argumentTypes ?? []
    return {
      ...{
        oid: 90_000 + index,
        schema: 'public',
        name: 'f',
        kind: 'function',
        language: 'plpgsql',
      },
      ...{ volatility: 'volatile', strict: false, securityDefiner: false, returnsSet: false },
      ...{ returnType: 25, argumentTypes, defaultCount: 0, variadic: false, bodyIsParsed: false },
      ...{ body: '', settings: [], extension: null },
      arguments: argumentTypes.map((type, at) => ({ name: `p${at + 1}`, mode: 'in', type })),
      ...row,
    }
  })
  const { snapshot } = catalog
  return new TestSession(
    Catalog.from({ ...snapshot, functions: [...snapshot.functions, ...functions] }),
  )
}

function one(sql: string, ...rows: readonly Partial<FunctionRow>[]) {
  const [analysis] = session(...rows).run(sql)
  if (analysis === undefined) throw new Error('no statement')
  return analysis
}

const ssn = 'public.users.ssn'

describe('variables of PL/pgSQL', () => {
  test('what was read into one may decide what the body does', () => {
    const body = `DECLARE x text; BEGIN SELECT ssn INTO x FROM users WHERE id = 1;
      IF x > 'T' THEN RAISE EXCEPTION 'e'; END IF; RETURN 'one'; END`
    const used = one('SELECT 1 FROM f()', { body })
    expect(uses(used, ssn)).toContain('argument')
    expect(used.access.complete).toBe(true)
    expect(uses(one(`DO $$${body.replace("RETURN 'one';", '')}$$`), ssn)).toContain('argument')
  })

  test('it flows into what the body writes', () => {
    const body = `DECLARE x text; BEGIN SELECT ssn INTO x FROM users;
      INSERT INTO scratch(id, a) VALUES (1, x); RETURN ''; END`
    expect(one('SELECT 1 FROM f()', { body }).access.flows).toContainEqual({
      from: ssn,
      to: 'public.scratch.a',
      via: 'derived',
    })
  })

  test('it is filtered by, joined on, and passed to other functions', () => {
    const body = `DECLARE r record; BEGIN FOR r IN SELECT * FROM users LOOP
      PERFORM 1 FROM scratch WHERE a = r.ssn; END LOOP; RETURN 'x'; END`
    expect(uses(one('SELECT 1 FROM f()', { body }), ssn)).toContain('filter')
  })

  test('an argument that the body looks at decides what it does', () => {
    const body = `BEGIN IF p1 > 'T' THEN RAISE EXCEPTION 'e'; END IF; RETURN 1; END`
    const sql = 'SELECT 1 FROM users u, LATERAL f(u.ssn)'
    expect(uses(one(sql, { body, argumentTypes: [25] }), ssn)).toContain('argument')
  })

  test('a column that is only written is not read', () => {
    const body = `BEGIN UPDATE users SET ssn = 'x' WHERE id = 1; RETURN 'x'; END`
    const analysis = one('SELECT f()', { body })
    expect(uses(analysis, ssn)).toEqual(['assign'])
    expect(sources(analysis)).toEqual(['public.users.id derived-'])
  })

  test('blocks in blocks are followed, and end', () => {
    const inner = `DO $i$ DECLARE x text; BEGIN SELECT ssn INTO x FROM users; END $i$`
    expect(uses(one(`DO $$ BEGIN ${inner}; END $$`), ssn)).toContain('argument')
    let block = inner
    for (let depth = 0; depth < 60; depth += 1) {
      block = `DO $d${depth}$ BEGIN ${block}; END $d${depth}$`
    }
    const analysis = one(block)
    expect(uses(analysis, ssn)).toContain('argument')
    // Twice at each level would be more steps than a statement may take.
    expect(analysis.access.complete).toBe(true)
  })

  test('a function without tables stays as harmless as it was', () => {
    const body = 'BEGIN RETURN upper(p1); END'
    const analysis = one("SELECT f('x'), id FROM users", { body, argumentTypes: [25] })
    expect(analysis.access.columns.map((column) => column.name)).toEqual(['id'])
  })
})

describe('cursors of PL/pgSQL', () => {
  const complete = (body: string): boolean =>
    one("SELECT f('mycur')", { body, argumentTypes: [1790] }).access.complete

  test.each([
    ['a parameter', 'DECLARE x text; BEGIN FETCH p1 INTO x; RETURN x; END'],
    ['a name', "DECLARE c refcursor := 'mycur'; x text; BEGIN FETCH c INTO x; RETURN x; END"],
    [
      'a new name',
      "DECLARE c refcursor; x text; BEGIN OPEN c FOR SELECT 1; c := 'mycur'; FETCH c INTO x; RETURN x; END",
    ],
    [
      'a name from a query',
      "DECLARE c refcursor; x text; BEGIN OPEN c FOR SELECT 1; SELECT 'mycur' INTO c; FETCH c INTO x; RETURN x; END",
    ],
    [
      'one that may not have been opened',
      'DECLARE c CURSOR FOR SELECT 1; x text; BEGIN IF false THEN OPEN c; END IF; FETCH c INTO x; RETURN x; END',
    ],
    ['MOVE', 'BEGIN MOVE p1; RETURN FOUND::text; END'],
  ])('a fetch from a cursor of the caller is not followed: %s', (_, body) => {
    expect(complete(body)).toBe(false)
  })

  test.each([
    'DECLARE c CURSOR FOR SELECT 1; x text; BEGIN OPEN c; FETCH c INTO x; CLOSE c; RETURN x; END',
    'DECLARE x text; BEGIN OPEN p1 FOR SELECT 1; LOOP FETCH p1 INTO x; EXIT WHEN NOT FOUND; END LOOP; RETURN x; END',
    'DECLARE c CURSOR FOR SELECT 1; BEGIN FOR r IN c LOOP MOVE c; END LOOP; RETURN 1; END',
    'BEGIN OPEN p1 FOR SELECT 1; RETURN p1; END',
  ])('one from a cursor that the body opened is: %s', (body) => {
    expect(complete(body)).toBe(true)
  })
})

describe('EXPLAIN without ANALYZE', () => {
  const body = 'SELECT ssn FROM users WHERE id = $1'
  const reads: Partial<FunctionRow> = { language: 'sql', argumentTypes: [23], body }

  test.each(['immutable', 'stable'] as const)('runs what is %s', (volatility) => {
    for (const sql of [
      'EXPLAIN VERBOSE SELECT f(1)',
      'EXPLAIN SELECT id FROM scratch WHERE a = f(1)',
      'EXPLAIN DECLARE c CURSOR FOR SELECT f(1)',
      'EXPLAIN CREATE TABLE t AS SELECT f(1) AS a',
      'EXPLAIN SELECT outer_f()',
    ]) {
      const calls = { name: 'outer_f', language: 'sql', body: 'SELECT f(1)' }
      const analysis = one(sql, { ...reads, volatility }, calls)
      expect(uses(analysis, ssn), sql).toContain('argument')
      expect(sources(analysis), sql).toContain(`${ssn} derived-`)
    }
  })

  test('does not run what is volatile, and shows no value of a column', () => {
    const analysis = one('EXPLAIN SELECT f(1), ssn FROM users', reads)
    expect(sources(analysis)).toEqual([])
    expect(uses(analysis, ssn)).not.toContain('argument')
  })

  test('has the effects that planning has', () => {
    const sets: Partial<FunctionRow> = {
      ...{ language: 'sql', volatility: 'immutable' },
      body: "DELETE FROM scratch; SELECT set_config('search_path', 'hr', false)",
    }
    const analysis = one('EXPLAIN SELECT f()', sets)
    expect(analysis.access.effects).toContain('write')
    expect(analysis.sessionEffects).toContainEqual(
      expect.objectContaining({ kind: 'set', name: 'search_path' }),
    )
    const volatile = one('EXPLAIN SELECT f()', { ...sets, volatility: 'volatile' })
    expect(volatile.access.effects).not.toContain('write')
    expect(volatile.sessionEffects.map(({ kind }) => kind)).toEqual(['explain'])
  })
})

describe('a search_path that changes while its statement runs', () => {
  /** Reads hr.users or public.users, as the path has it. */
  const reads: Partial<FunctionRow> = {
    body: 'BEGIN RETURN (SELECT max(id)::text FROM users); END',
  }
  const move = "set_config('search_path', 'hr', false)"
  const complete = (sql: string, ...rows: readonly Partial<FunctionRow>[]): boolean => {
    const own = session(...rows)
    own.run('PREPARE p AS SELECT f(); PREPARE q(text) AS SELECT max(id)::text FROM users')
    const [analysis] = own.run(sql)
    return analysis?.access.complete === true
  }

  test('bodies of functions may be looked up in either', () => {
    expect(complete('SELECT f()', reads)).toBe(true)
    expect(complete(`SELECT ${move}, f()`, reads)).toBe(false)
    expect(complete(`SELECT f(), set_config($1, 'hr', false)`, reads)).toBe(false)
    expect(complete(`SELECT set_config('role', 'x', false), f()`, reads)).toBe(false)
    expect(complete(`SELECT set_config('work_mem', '4MB', false), f()`, reads)).toBe(true)
    const sql: Partial<FunctionRow> = { language: 'sql', body: 'SELECT max(id)::text FROM users' }
    expect(complete(`SELECT ${move}, f()`, sql)).toBe(false)
    const fixed = { ...reads, settings: ['search_path=public'] }
    expect(complete(`SELECT ${move}, f()`, fixed)).toBe(true)
    const qualified = { body: 'BEGIN RETURN (SELECT max(id)::text FROM hr.users); END' }
    expect(complete(`SELECT ${move}, f()`, qualified)).toBe(true)
  })

  test('names in a body that changes it itself, too', () => {
    const after = `BEGIN PERFORM ${move}; RETURN (SELECT max(id)::text FROM users); END`
    expect(complete('SELECT f()', { body: after })).toBe(false)
    expect(complete('SELECT f()', { body: after, settings: ['search_path=public'] })).toBe(false)
    const set = 'BEGIN SET LOCAL search_path = hr; RETURN (SELECT max(id)::text FROM users); END'
    expect(complete('SELECT f()', { body: set })).toBe(false)
    const sql = `SELECT ${move}; SELECT max(id)::text FROM users`
    expect(complete('SELECT f()', { language: 'sql', body: sql })).toBe(false)
    expect(complete(`DO $$ BEGIN PERFORM ${move}; PERFORM 1 FROM users; END $$`)).toBe(false)
    const other = { ...reads, name: 'g' }
    expect(complete(`DO $$ BEGIN PERFORM ${move}; PERFORM g(); END $$`, other)).toBe(false)
    expect(
      complete(
        'SELECT f()',
        { body: `BEGIN PERFORM ${move}; RETURN g(); END` },
        { ...other, oid: 90_001 },
      ),
    ).toBe(false)
  })

  test('an argument of EXECUTE is computed before what it executes is looked up', () => {
    expect(complete('EXECUTE p', reads)).toBe(true)
    expect(complete("EXECUTE q('x')")).toBe(true)
    expect(complete(`EXECUTE q(${move})`)).toBe(false)
  })

  test('a function that only sets it, or a statement that only sets it, is followed', () => {
    const body = `BEGIN PERFORM set_config('search_path', quote_ident(p1) || ', public', false); RETURN p1; END`
    expect(complete("SELECT f('hr')", { body, argumentTypes: [25] })).toBe(true)
    expect(complete(`SELECT ${move}, set_config('role', $1, true)`)).toBe(true)
    expect(complete(`SELECT ${move}, id FROM users`)).toBe(true)
  })
})

describe('relations that the search_path of the session chose', () => {
  const reads: Partial<FunctionRow> = { body: 'BEGIN RETURN (SELECT max(id) FROM users); END' }
  const calls: Partial<FunctionRow> = { name: 'g', body: 'BEGIN RETURN f(); END' }
  const chosen = (analysis: ReturnType<typeof one>) =>
    analysis.access.relations.filter((row) => row.by_path).map((row) => row.through)

  test('are told, where a bare name may be several', () => {
    expect(chosen(one('SELECT f()', reads))).toEqual(['function'])
    expect(chosen(one('SELECT g()', reads, calls))).toEqual(['function'])
    expect(chosen(one('SELECT id FROM users'))).toEqual([null])
    const single = { body: 'BEGIN RETURN (SELECT max(id) FROM scratch); END' }
    expect(chosen(one('SELECT f()', single))).toEqual([])
  })

  test('are not those of a name that is fixed', () => {
    const settings = ['search_path=pg_catalog, public']
    expect(chosen(one('SELECT f()', { ...reads, settings }))).toEqual([])
    expect(chosen(one('SELECT g()', reads, { ...calls, settings }))).toEqual([])
    const own = session(reads, { ...calls, settings })
    const [fixed, free] = own.run('SELECT g(); SELECT f()')
    expect(fixed === undefined ? null : chosen(fixed)).toEqual([])
    expect(free === undefined ? null : chosen(free)).toEqual(['function'])
    expect(chosen(one('SELECT id FROM public.users'))).toEqual([])
    expect(chosen(one('SELECT id FROM vips'))).toEqual([])
  })
})

describe('where names of a body are looked up', () => {
  const read = (analysis: ReturnType<typeof one>): string[] =>
    analysis.access.relations.map((row) => `${row.schema}.${row.name}`)
  /** Reads cards: public.cards, or what the fixture's session has as a temporary table. */
  const cards: Partial<FunctionRow> = { body: 'BEGIN RETURN (SELECT max(id) FROM cards); END' }
  const users: Partial<FunctionRow> = { body: 'BEGIN RETURN (SELECT max(id) FROM users); END' }
  const under = (own: TestSession, path: readonly string[]): TestSession => {
    own.searchPath = path
    return own
  }

  test('pg_temp comes first in a path of its own, too', () => {
    const temporary = catalog.snapshot.relations.find(
      (row) => row.name === 'cards' && row.temporary,
    )
    for (const [setting, schema] of [
      ['public', temporary?.schema],
      ['public, pg_temp', 'public'],
    ] as const) {
      const own = session({ ...cards, settings: [`search_path=${setting}`] })
      own.temporarySchema = temporary?.schema ?? null
      const [analysis] = own.run('SELECT f()')
      expect(analysis === undefined ? [] : read(analysis)).toEqual([`${schema ?? ''}.cards`])
    }
  })

  test('its own path is split as the server splits it', () => {
    const settings = ['search_path="HR", hr']
    expect(read(one('SELECT f()', { ...users, settings }))).toEqual(['hr.users'])
    expect(read(one('SELECT f()', { ...users, settings: ['search_path=\u212A, public'] }))).toEqual(
      ['public.users'],
    )
  })

  test('$user is the owner where a function runs as its owner', () => {
    const path = ['pg_catalog', '', 'nobody', 'public']
    const relations = (...rows: readonly Partial<FunctionRow>[]): string[] => {
      const [analysis] = under(session(...rows), path).run('SELECT f()')
      return analysis?.access.complete === true ? read(analysis) : []
    }
    const definer: Partial<FunctionRow> = { ...users, securityDefiner: true }
    expect(relations(users)).toEqual(['public.users'])
    expect(relations({ ...definer, owner: 'hr' })).toEqual(['hr.users'])
    expect(relations({ ...definer, owner: 'bob' })).toEqual(['public.users'])
    // Whoever it is: what may be either is incomplete.
    expect(relations(definer)).toEqual([])
    const own = { settings: ['search_path="$user", public'] }
    expect(relations({ ...definer, ...own, owner: 'hr' })).toEqual(['hr.users'])
    expect(relations({ ...users, ...own })).toEqual(['public.users'])
    // What it calls runs as its owner, too.
    const calls = { body: 'BEGIN RETURN g(); END', securityDefiner: true, owner: 'hr' }
    expect(relations(calls, { ...users, name: 'g' })).toEqual(['hr.users'])
    expect(relations(calls, { ...users, ...own, name: 'g' })).toEqual(['hr.users'])
  })
})

describe('the result of an SQL function', () => {
  const salary = 'public.users.salary'
  const body = 'SELECT salary FROM public.users WHERE id = 1'

  test('is cast to the declared type, which may fail', () => {
    const narrow: Partial<FunctionRow> = { language: 'sql', returnType: 21, body }
    const called = one('SELECT 1 FROM f()', narrow)
    expect(uses(called, salary)).toContain('argument')
    expect(sources(one('SELECT f()', narrow))).toContain(`${salary} derived-`)
    const table: Partial<FunctionRow> = {
      ...{
        language: 'sql',
        returnType: 2249,
        returnsSet: true,
        body: `SELECT id, salary FROM users`,
      },
      arguments: [
        { name: 'a', mode: 'table', type: 23 },
        { name: 'b', mode: 'table', type: 21 },
      ],
    }
    expect(uses(one('SELECT a FROM f()', table), salary)).toContain('argument')
  })

  test('is as harmless as it was where the types are alike', () => {
    for (const returnType of [23, 20, 2278]) {
      const called = one('SELECT 1 FROM f()', { language: 'sql', returnType, body })
      expect(uses(called, salary)).not.toContain('argument')
    }
  })
})
