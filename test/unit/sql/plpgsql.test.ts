import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits } from '../../../src/core/core.ts'
import { SqlParser } from '../../../src/sql/parser.ts'

let parser: SqlParser
beforeAll(async () => {
  parser = await SqlParser.create({ limits: defaultLimits })
})
afterAll(() => parser.close())

function define(returns: string, body: string): string {
  return `CREATE FUNCTION f(a int, b text) RETURNS ${returns} LANGUAGE plpgsql AS $body$${body}$body$`
}

const everyPlace = `
DECLARE x int := m1(); r record := m2(); y t.c%TYPE DEFAULT m3(); z record NOT NULL = m4();
  c CURSOR (k int) FOR SELECT m5() FROM t WHERE id = k; c1 refcursor; arr int[] := m6();
  p public.comp := m7(); k CONSTANT int NOT NULL := m8(); "D d" dom DEFAULT m9(); al ALIAS FOR x;
BEGIN
  x := m10(); x = m11();
  r.foo := m12(); arr[m13()] := m14(); z.a[m15()].b := m16();
  SELECT m17() INTO x FROM t; SELECT m18() INTO r.foo, x FROM t; SELECT m19() INTO STRICT z.a;
  INSERT INTO t VALUES (m20()) RETURNING id INTO x;
  PERFORM m21();
  FOR r IN SELECT m22() LOOP UPDATE t SET a = m23(); END LOOP;
  FOR i IN REVERSE m24()..m25() BY m26() LOOP NULL; END LOOP;
  FOREACH x SLICE 0 IN ARRAY m27() LOOP PERFORM m28(); END LOOP;
  FOR r IN c(m29()) LOOP PERFORM m30(); END LOOP; FOR r IN c(k := m31()) LOOP NULL; END LOOP;
  OPEN c(m32()); OPEN c1 FOR SELECT m33(); OPEN c1 SCROLL FOR SELECT m34();
  FETCH RELATIVE m35() FROM c1 INTO r; MOVE ABSOLUTE m36() FROM c1; CLOSE c1;
  RAISE NOTICE 'x %', m37() USING HINT = m38(), DETAIL = m39();
  RAISE EXCEPTION USING ERRCODE = m40(), MESSAGE := m41(); RAISE SQLSTATE '22012' USING MESSAGE = m42();
  ASSERT m43(), m44();
  IF m45() THEN PERFORM m46(); ELSIF m47() THEN PERFORM m48(); ELSE CALL m49(); END IF;
  CASE m50() WHEN m51(), m52() THEN PERFORM m53(); WHEN m54() THEN NULL; ELSE PERFORM m55(); END CASE;
  CASE WHEN m56() THEN PERFORM m57(); END CASE;
  WHILE m58() LOOP EXIT WHEN m59(); CONTINUE WHEN m60(); END LOOP;
  LOOP PERFORM m61(); EXIT; END LOOP;
  <<blk>> DECLARE q int := m62(); rr record := m63(); BEGIN PERFORM m64();
  EXCEPTION WHEN others THEN PERFORM m65(); GET STACKED DIAGNOSTICS x = MESSAGE_TEXT;
    WHEN SQLSTATE '22012' OR unique_violation THEN PERFORM m66(); END;
  GET DIAGNOSTICS x = ROW_COUNT;
  DO 'begin perform m67(); end';
  SET LOCAL foo = 1; COMMIT; ROLLBACK AND CHAIN;
  RETURN m68();
END`

describe('static contents of a PL/pgSQL body', () => {
  it('has the expression of every place that the grammar has', () => {
    const body = parser.parsePlpgsql(define('int', everyPlace))
    const all = body?.statements.join('\n') ?? ''
    const wanted = [...everyPlace.matchAll(/m\d+\(/g)].map((match) => match[0])
    expect(wanted).toHaveLength(68)
    expect(wanted.filter((call) => !all.includes(call))).toEqual([])
    expect(body?.dynamic).toBe(false)
    for (const statement of body?.statements ?? []) {
      expect(parser.parseBody(statement), statement).not.toBeNull()
    }
  })

  it('has RETURN QUERY and RETURN NEXT', () => {
    const body = parser.parsePlpgsql(
      define('SETOF int', 'BEGIN RETURN QUERY SELECT m1(); RETURN NEXT m2(); END'),
    )
    expect(body?.statements).toEqual(['SELECT m1()', 'SELECT m2()'])
  })

  it.each([
    ['int', "BEGIN EXECUTE 'x' || m1() USING m2(); END"],
    ['int', 'DECLARE r record; BEGIN FOR r IN EXECUTE m1() USING m2() LOOP NULL; END LOOP; END'],
    ['SETOF int', 'BEGIN RETURN QUERY EXECUTE m1() USING m2(); END'],
    ['int', 'DECLARE c refcursor; BEGIN OPEN c FOR EXECUTE m1() USING m2(); END'],
  ])('says that it is dynamic and still has the expressions: %s %s', (returns, text) => {
    const body = parser.parsePlpgsql(define(returns, text))
    expect(body?.dynamic).toBe(true)
    expect(body?.statements.join()).toMatch(/m1\(\).*m2\(\)/s)
  })

  it('takes DO blocks in every quoting', () => {
    for (const text of [
      'DO $$ DECLARE r record := f(); BEGIN DELETE FROM t; END $$',
      "DO LANGUAGE plpgsql 'DECLARE r record := f(); BEGIN DELETE FROM t; END'",
    ]) {
      expect(parser.parsePlpgsql(text)?.statements.toSorted()).toEqual([
        'DELETE FROM t',
        'SELECT  f()',
      ])
    }
  })

  it.each([
    ['a longer string elsewhere', "SET x = '%' AS 'DECLARE r record := evil(); BEGIN END'"],
    ['upper case', "AS 'DECLARE R record := evil(); BEGIN END'"],
    ['a comment between', "AS 'DECLARE r /* ; */ record -- ;\n := evil(); BEGIN END'"],
    ['a quoted name', `AS 'DECLARE "r""É;" record := evil(); BEGIN END'`],
    ['letters that are not ASCII', "AS 'DECLARE rÉ record := evil(); BEGIN END'"],
    ['a name that is cut off', `AS 'DECLARE ${'r'.repeat(70)} record := evil(); BEGIN END'`],
    ['a label', "AS '<<l>> DECLARE r record := evil(); BEGIN END'"],
    ['a nested block', "AS 'BEGIN DECLARE r record := evil(); BEGIN END; END'"],
    ['no space', `AS 'DECLARE r"record":=evil();BEGIN END'`],
  ])('does not lose the default of a record: %s', (_, text) => {
    const rest = text.replace('%', 'x'.repeat(300))
    const body = parser.parsePlpgsql(`CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql ${rest}`)
    expect(body?.statements.join()).toContain('evil()')
  })

  it('assigns to fields of row variables, and keeps arithmetic with a column called rowtype', () => {
    const text = define(
      'int',
      `DECLARE z public."T"%ROWTYPE; w t % rowtype := m1(); k CONSTANT t%ROWTYPE := m3(); rowtype int;
       BEGIN z.a := m2(); SELECT ssn%rowtype INTO z.b FROM users; w.x := a%rowtype; END`,
    )
    expect(parser.parsePlpgsql(text)?.statements).toEqual([
      'SELECT  m2()',
      'SELECT ssn%rowtype          FROM users',
      'SELECT  a%rowtype',
      'SELECT  m1()',
      'SELECT  m3()',
    ])
    const quoted = `DO 'DECLARE z t%ROWTYPE; BEGIN z.a := ''it''''s''; END'`
    expect(parser.parsePlpgsql(quoted)?.statements).toEqual([`SELECT  'it''s'`])
  })

  it('knows variables and types', () => {
    const body = parser.parsePlpgsql(
      define('int', 'DECLARE r record; n numeric(5); BEGIN RETURN 1; END'),
    )
    expect(body?.variables.toSorted()).toEqual(['a', 'b', 'found', 'n', 'r'])
    expect(body?.types).toContain('numeric(5)')
  })

  it.each([
    'SELECT 1',
    'DO LANGUAGE plpython3u $$ import os $$',
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    'CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END',
    "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1'",
    "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN SELECT FROM WHERE; END'",
    "DO 'BEGIN END'; DO 'BEGIN DELETE FROM t; END'",
    'nonsense',
    '',
  ])('gives null for what it does not know: %s', (text) => {
    expect(parser.parsePlpgsql(text)).toBeNull()
  })

  it('works after any number of errors', () => {
    for (let i = 0; i < 50; i++) {
      expect(parser.parsePlpgsql(`DO $$ BEGIN ${'IF x THEN '.repeat(i)} x := ; END $$`)).toBeNull()
    }
    expect(parser.parsePlpgsql('DO $$ BEGIN PERFORM 1; END $$')?.statements).toEqual(['SELECT 1'])
  })

  it('say where the value of an expression goes', () => {
    const text = `CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$
      DECLARE a int := 1; "B" int; r record := g(); c CURSOR FOR SELECT 2;
      BEGIN "B" := 3; A[4] := 5; IF 6 = 6 THEN PERFORM 7; END IF;
      RAISE NOTICE '%', 8 USING ERRCODE = 9; RETURN ROW(10); END $$`
    const body = parser.parsePlpgsql(text)
    const targets = [...(body?.targets ?? [])].map(
      ([position, name]) => [body?.statements[position]?.replace(/\s+/g, ' '), name] as const,
    )
    expect(Object.fromEntries(targets)).toEqual({
      'SELECT 1': 'a',
      'SELECT 3': 'B',
      'SELECT 5': 'a',
      'SELECT 8': '',
      'SELECT ROW(10)': '',
      'SELECT g()': 'r',
    })
    expect(body?.statements.length).toBeGreaterThan(targets.length)
  })
})
