import { spawn } from 'node:child_process'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { formatMessage, formatResult, splitComplete } from '../../../src/commands/sql-prompt.ts'
import { startPostgres, type TestPostgres } from '../../support/postgres.ts'

describe('where a statement ends', () => {
  test.each([
    ['SELECT 1;', ''],
    ['SELECT 1; SELECT 2', ' SELECT 2'],
    ["SELECT ';'", "SELECT ';'"],
    ["SELECT 'it''s;';", ''],
    ["SELECT E'a\\';b';", ''],
    ['SELECT ";";', ''],
    ['SELECT $$;$$;', ''],
    ['SELECT $a$ ; $b$ ; $a$;', ''],
    ['SELECT $a$ ; $a', 'SELECT $a$ ; $a'],
    ['SELECT 1 -- ; no\n;', ''],
    ['SELECT 1 -- ; no', 'SELECT 1 -- ; no'],
    ['SELECT /* ; /* ; */ ; */ 1;', ''],
    ['SELECT /* ;', 'SELECT /* ;'],
    ['CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);', ''],
    ['SELECT a$b$ FROM t; -- $b$', ' -- $b$'],
    ['', ''],
  ])('%s', (text, rest) => {
    expect(splitComplete(text)).toEqual({
      complete: text.slice(0, text.length - rest.length),
      rest,
    })
  })

  test('nothing is lost or added, whatever the text', () => {
    const part = fc.constantFrom(
      "'",
      '"',
      ';',
      '$$',
      '$a$',
      '--',
      '/*',
      '*/',
      '\n',
      '(',
      ')',
      'E',
      'x',
      '\\',
      ' ',
    )
    fc.assert(
      fc.property(fc.array(part, { maxLength: 40 }), (parts) => {
        const text = parts.join('')
        const { complete, rest } = splitComplete(text)
        expect(complete + rest).toBe(text)
      }),
    )
  })
})

describe('what is shown', () => {
  test('a table with NULL, a count, and no escape sequence of the data', () => {
    const shown = formatResult({
      ...{ command: 'SELECT', rowCount: 2, fields: [{ name: 'a' }, { name: 'b' }] },
      rows: [
        ['1', null],
        ['\u001b[31mred\u0007', 'x'],
      ],
    })
    expect(shown).toContain('NULL')
    expect(shown).toContain('(2 rows)')
    expect(shown).not.toContain('\u001b')
    expect(shown).not.toContain('\u0007')
  })

  test('an error has its code, the place in the text, DETAIL and HINT', () => {
    const message = {
      severity: 'ERROR',
      code: '42501',
      message: 'no',
      detail: 'rule x',
      hint: 'do y',
    }
    expect(formatMessage({ ...message, position: '10' }, 'SELECT 1,\n  é + x')).toBe(
      'ERROR 42501: no\nLINE 1: SELECT 1,\n                 ^\nDETAIL: rule x\nHINT: do y',
    )
    const second = formatMessage({ ...message, position: '17' }, 'SELECT 1,\n  é + x')
    expect(second.split('\n').slice(1, 3)).toEqual(['LINE 2:   é + x', '              ^'])
  })
})

describe('regate sql', () => {
  let server: TestPostgres
  beforeAll(async () => {
    server = await startPostgres()
  })
  afterAll(() => server.stop())

  function run(args: readonly string[], input: string | null) {
    return new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
      const child = spawn(process.execPath, ['dist/main.js', ...args], { stdio: 'pipe' })
      let out = ''
      let err = ''
      child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
      child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
      child.on('close', (code) => resolve({ code, out, err }))
      child.stdin.end(input ?? '')
    })
  }

  test('-c shows every result of a query string as the server sent it', async () => {
    const sql = "SELECT 1 AS one, NULL AS none, '{a,b}'::text[] AS list; SELECT now() IS NULL AS t"
    const { code, out, err } = await run(['sql', server.url(), '-c', sql], null)
    expect(err).toBe('')
    expect(code).toBe(0)
    expect(out).toContain('{a,b}')
    expect(out).toContain('NULL')
    expect(out).toContain('(1 row)')
    expect(out).toMatch(/ f /)
  })

  test('a statement that fails is exit code 1, shows the whole error, and the rest of stdin runs', async () => {
    const input = "RAISE;\nDO $$ BEGIN RAISE NOTICE 'hello'; END $$;\nSELECT 'after' AS word;"
    const { code, out } = await run(['sql', server.url()], input)
    expect(code).toBe(1)
    expect(out).toMatch(/ERROR 42601: syntax error at or near "RAISE"\nLINE 1: RAISE;\n {8}\^/)
    expect(out).toContain('NOTICE 00000: hello')
    expect(out).toContain('after')
  })

  test('sslmode=verify-full never falls back to cleartext', async () => {
    const url = `${server.url()}?sslmode=verify-full`
    const { code, out, err } = await run(['sql', url, '-c', 'SELECT 1'], null)
    expect([code, out]).toEqual([1, ''])
    expect(err).toMatch(/does not support SSL[\s\S]*hint: sslmode asks for TLS/)
  })

  test('a server that is not there, and a URL that is none, say what to do', async () => {
    const gone = await run(['sql', 'postgres://x@127.0.0.1:1/x', '-c', 'SELECT 1'], null)
    expect(gone.code).toBe(1)
    expect(gone.err).toMatch(/hint: is the proxy running/)
    const url = new URL(server.url())
    url.password = ''
    const silent = await run(['sql', url.href, '-c', 'SELECT 1'], null)
    expect(silent.err).toContain('hint: no password: set PGPASSWORD')
    url.password = 'wrong'
    const refused = await run(['sql', url.href, '-c', 'SELECT 1'], null)
    // The server answered: whether it runs is no question.
    expect(refused.err).toContain('28P01')
    expect(refused.err).not.toContain('hint: is the proxy running')
    const none = await run(['sql', 'mysql://x', '-c', 'SELECT 1'], null)
    expect(none.code).toBe(2)
  })
})

describe('regate', () => {
  function run(...args: string[]) {
    return new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
      const child = spawn(process.execPath, ['dist/main.js', ...args], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
      let out = ''
      let err = ''
      child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
      child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
      child.on('close', (code) => resolve({ code, out, err }))
    })
  }

  test('misuse is exit code 2 and no stack trace', async () => {
    for (const args of [[], ['nonsense'], ['serve', '--nonsense'], ['sql', '-p', 'x', '--wat']]) {
      const { code, err } = await run(...args)
      expect(code, args.join(' ')).toBe(2)
      expect(err).not.toMatch(/\n {4}at /)
    }
  })

  test('every command has help with an example', async () => {
    const { out } = await run('--help')
    const names = [...out.matchAll(/^ {2}regate (\w+)/gm)].map(([, name]) => name ?? '')
    expect(names).toContain('serve')
    for (const name of names) {
      const help = await run(name, '--help')
      expect(help.code, name).toBe(0)
      expect(help.out, name).toMatch(/Examples:|Commands:/)
    }
  })

  test('--version is the version of the package', async () => {
    expect((await run('--version')).out.trim()).toMatch(/^\d+\.\d+\.\d+/)
  })
})
