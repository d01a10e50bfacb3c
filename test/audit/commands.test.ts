/**
 * `regate audit` and `GET /v1/audit` over a log that a real proxy wrote, with values in it that try to
 * take over the terminal.
 */
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import yargs from 'yargs'
import { FileAuditLog } from '../../src/audit/audit.ts'
import { CommandFailure, registerCommands } from '../../src/commands/commands.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

const escape = '\u001b]0;owned\u0007\u001b[2J'
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/

const token = 'a-token-of-this-test'
const authorization = `Bearer ${token}`
let postgres: TestPostgres
let proxy: ProxyInProcess
let directory: string

beforeAll(async () => {
  process.env['REGATE_TEST_AUDIT_TOKEN'] = token
  postgres = await startPostgres()
  proxy = await startProxy(postgres, {
    users: { ann: { groups: ['admins'] }, bot: { groups: ['agents'] } },
    data: {
      regate: {
        columns: { 'public.people.ssn': { class: 'pii', mask: { kind: 'redact' } } },
        groups: {
          agents: { read: ['public.*'], write: [], ddl: 'deny' },
          admins: {
            read: ['*'],
            write: ['*'],
            ddl: 'allow',
            unmask: ['*'],
            effects: { '*': 'allow' },
          },
        },
      },
    },
    configuration: {
      audit: { directory: 'audit', results: 'masked' },
      admin: { port: 0, token_env: 'REGATE_TEST_AUDIT_TOKEN' },
    },
  })
  directory = join(proxy.directory, 'audit')
  await as('ann', async (client) => {
    await client.query('CREATE TABLE people (id int, name text, ssn text)')
    await client.query(
      "INSERT INTO people VALUES (1, 'Ann', '078-05-1120'), (2, NULL, '219-09-9999')",
    )
    await client.query(`SELECT '${escape}\u009b2J\u202eevil' AS "x${escape}"`)
    await client.query('SELECT 1 / 0').catch(() => undefined)
    await client.query(`SELECT 1 /* ${'x'.repeat(1_000_000)} */`)
  })
  await as('bot', async (client) => {
    await client.query('SELECT id, ssn FROM people ORDER BY id')
    await client.query('DELETE FROM people').catch(() => undefined)
    await client.query('SELEC').catch(() => undefined)
  })
})

afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
})

async function as(user: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client({
    ...{ connectionString: proxy.url('postgres', user), application_name: `app${escape}` },
  })
  await client.connect()
  try {
    await work(client)
  } finally {
    await client.end()
  }
}

/** The command in this process: its output, and the failure that it ended with. */
async function regate(...args: string[]): Promise<string> {
  const chunks: string[] = []
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    chunks.push(typeof chunk === 'string' ? chunk : Buffer.from(chunk).toString('utf8'))
    return true
  })
  try {
    await registerCommands(yargs(['audit', ...args]))
      .strict()
      .exitProcess(false)
      .fail((message: string | null, error: Error | undefined) => {
        throw error ?? new Error(message ?? '')
      })
      .parseAsync()
  } catch (error) {
    if (error instanceof CommandFailure) Object.assign(error, { stdout: chunks.join('') })
    throw error
  } finally {
    write.mockRestore()
  }
  return chunks.join('')
}

interface Page {
  readonly records: readonly {
    readonly id: string
    readonly type: string
    readonly statement?: { readonly text: string }
    readonly ended?: { readonly outcome: unknown; readonly result: unknown } | null
    readonly [name: string]: unknown
  }[]
  readonly next: string | null
  readonly error?: string
}

async function ask(query: string): Promise<Page> {
  const answer = await fetch(`${proxy.adminUrl}/v1/audit?${query}`, { headers: { authorization } })
  return (await answer.json()) as Page
}

describe('GET /v1/audit', () => {
  it('finds who read what, with how it ended and what was seen', async () => {
    const { records } = await ask('user=bot&column=people.ssn')
    expect(records).toMatchObject([
      {
        type: 'statement_decided',
        identity: { user: 'bot', groups: ['agents'] },
        decision: { action: 'mask' },
        access: { masked_columns: ['public.people.ssn'] },
        outcome: null,
        ended: {
          outcome: { forwarded: true, tag: 'SELECT 2', rows: 2, sqlstate: null },
          result: {
            columns: ['id', 'ssn'],
            rows: [
              ['1', '****'],
              ['2', '****'],
            ],
            truncated: false,
          },
        },
      },
    ])
  })

  it('asks who is asking', async () => {
    expect((await fetch(`${proxy.adminUrl}/v1/audit`)).status).toBe(401)
  })

  it('tells what was refused from what ended with an error', async () => {
    const denied = await ask('sqlstate=42501')
    expect(denied.records).toMatchObject([
      {
        decision: { action: 'deny' },
        outcome: { forwarded: false, sqlstate: '42501' },
        ended: null,
      },
    ])
    const failed = await ask('sqlstate=22012')
    expect(failed.records).toMatchObject([
      { statement: { text: 'SELECT 1 / 0' }, ended: { outcome: { sqlstate: '22012' } } },
    ])
    expect((await ask('sqlstate=42601')).records).toMatchObject([{ statement: { text: 'SELEC' } }])
  })

  it('pages without a gap, in both orders', async () => {
    for (const order of ['asc', 'desc']) {
      const whole = await ask(`order=${order}&limit=1000`)
      expect(whole.next).toBeNull()
      const ids: string[] = []
      let cursor = ''
      do {
        const page = await ask(`order=${order}&limit=3&cursor=${cursor}`)
        ids.push(...page.records.map(({ id }) => id))
        cursor = page.next ?? ''
      } while (cursor !== '')
      expect(ids).toEqual(whole.records.map(({ id }) => id))
    }
  })

  it('streams NDJSON, ends behind those they belong to', async () => {
    const answer = await fetch(`${proxy.adminUrl}/v1/audit?user=ann&order=asc`, {
      headers: { accept: 'application/x-ndjson', authorization },
    })
    expect(answer.headers.get('content-type')).toBe('application/x-ndjson')
    const lines = (await answer.text()).trimEnd().split('\n')
    const types = lines.map((line) => (JSON.parse(line) as { type: string }).type)
    expect(types.filter((type) => type === 'statement_decided')).toHaveLength(5)
    expect(types.filter((type) => type === 'statement_ended')).toHaveLength(5)
  })

  it('names the parameter that is wrong', async () => {
    expect((await ask('since=soon')).error).toMatch(/^since/)
    expect((await ask('limit=0')).error).toMatch(/^limit/)
    expect((await ask('colour=red')).error).toMatch(/^colour/)
    expect((await ask('cursor=zzz')).error).toMatch(/^cursor/)
  })
})

describe('hostile values', () => {
  it('are harmless in the files', () => {
    const files = readdirSync(directory).filter((name) => name.endsWith('.ndjson'))
    for (const name of files) {
      const text = readFileSync(join(directory, name), 'utf8').replaceAll('\n', '')
      expect(controls.test(text)).toBe(false)
      for (const line of readFileSync(join(directory, name), 'utf8').split('\n')) {
        expect(line.length).toBeLessThan(200_000)
      }
    }
  })

  it('are harmless in the terminal', async () => {
    const session = (await ask('user=ann&type=session_started')).records[0]?.['session'] as string
    for (const args of [
      ['query', '--limit', '0'],
      ['query', '--json', '--limit', '0'],
      ['export'],
      ['export', '--format', 'csv'],
      ['play', session, '--speed', '0'],
      ['verify', '--json'],
    ]) {
      const shown = await regate(...args, '-d', directory)
      expect(shown.length, args[0]).toBeGreaterThan(100)
      expect(controls.test(shown.replaceAll('\r\n', '')), args.join(' ')).toBe(false)
    }
  })
})

describe('regate audit', () => {
  it('prints a line a statement', async () => {
    const shown = await regate('query', '-d', directory, '--user', 'bot', '--order', 'asc')
    const lines = shown.trimEnd().split('\n')
    expect(
      lines.some((line) =>
        /bot@postgres {2}mask {2}2 rows in [\d.]+ ms {2}SELECT id, ssn/.test(line),
      ),
    ).toBe(true)
    expect(lines.some((line) => /deny {2}refused 42501 .*DELETE FROM people/.test(line))).toBe(true)
  })

  it('plays a session with what its client saw', async () => {
    const session = (await ask('user=bot&type=session_started')).records[0]?.['session'] as string
    const shown = await regate(
      'play',
      session,
      '--speed',
      '50',
      '--max-wait',
      '50ms',
      '-d',
      directory,
    )
    expect(shown).toMatch(/bot \(agents\) connected to postgres/)
    expect(shown).toMatch(/postgres=> SELECT id, ssn FROM people/)
    expect(shown).toMatch(/SELECT 2 2 rows in/)
    expect(shown).toContain('****')
    expect(shown).not.toContain('078-05-1120')
    expect(shown).toMatch(/refused 42501/)
    expect(shown).toMatch(/session ended/)
  })

  it('plays in the rhythm of the session: as fast as asked, and no pause above the longest', async () => {
    const played = join(proxy.directory, 'played')
    let nowMs = Date.parse('2026-01-01T00:00:00Z')
    const log = FileAuditLog.open({
      ...{
        directory: played,
        worker: 'w',
        fsync: 'batch',
        segmentBytesMax: 1e9,
        segmentMsMax: 1e9,
      },
      ...{ retainMs: 0, clock: { nowMs: () => nowMs, monotonicUs: () => 0 } },
      onNews: () => undefined,
    })
    for (const afterMs of [0, 10_000, 20_000]) {
      nowMs += afterMs
      const text = JSON.stringify({ session: 's1', statement: { text: `SELECT ${afterMs}` } })
      log.append('statement_decided', text.slice(1, -1))
      void log.commit()
    }
    log.close()
    const timed = async (...more: string[]): Promise<number> => {
      const started = performance.now()
      const shown = await regate('play', 's1', '-d', played, ...more)
      expect(shown).toMatch(/00:00\.000\] => SELECT 0\n[^]*00:10\.000\] => SELECT 10000\n/)
      expect(shown).toMatch(/00:30\.000\] => SELECT 20000\n/)
      return performance.now() - started
    }
    // Timers may be late, and are early by less than a millisecond.
    expect(await timed('--speed', '100')).toBeGreaterThan(297)
    expect(await timed('--speed', '1', '--max-wait', '200ms')).toBeGreaterThan(397)
    await timed('--speed', '0')
  })

  it('writes CSV that no spreadsheet runs', async () => {
    await as('ann', async (client) => {
      await client.query('SELECT 2')
    })
    const csv = await regate('export', '--format', 'csv', '--user', 'ann', '-d', directory)
    const [head, ...rows] = csv.trimEnd().split('\r\n')
    expect(head).toMatch(/^time,id,type,session,user,/)
    expect(rows.length).toBeGreaterThan(6)
    for (const row of rows) expect(row).not.toMatch(/,[=+@]/)
  })

  it('verifies a log that is being written, and names what was altered', async () => {
    expect(await regate('verify', '-d', directory)).toMatch(/sound: every record has its hash/)
    const copy = join(proxy.directory, 'copy')
    cpSync(directory, copy, { recursive: true })
    const segment = join(copy, 'audit-main-00000001.ndjson')
    writeFileSync(segment, readFileSync(segment, 'utf8').replace('DELETE', 'SELECT'))
    const failed = await regate('verify', '-d', copy).catch((error: unknown) => error)
    expect(failed).toMatchObject({ exitCode: 1 })
    expect((failed as { stdout: string }).stdout).toMatch(
      /! audit-main-00000001\.ndjson:\d+: record main-\d+ was altered/,
    )
  })

  it('says what is wrong with the command line', async () => {
    for (const args of [
      ['query', '--since', 'soon'],
      ['verify', '--key', 'nowhere'],
      ['play', 'x', '--max-wait', 'y'],
    ]) {
      const failed = await regate(...args, '-d', directory).catch((error: unknown) => error)
      expect(failed, args.join(' ')).toMatchObject({ exitCode: 2 })
    }
    const none = await regate('query', '-d', '/nowhere').catch((error: unknown) => error)
    expect(none).toMatchObject({ exitCode: 2 })
  })
})
