/**
 * Values that try to take over whoever looks at them: in SQL, names of users, application names, claims of
 * tokens, and values of the database. Shown by the console in Chromium, by every command in a terminal,
 * and by regate's own log. The regate is one that people run: a process of its own.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { startDemoProvider, type DemoProvider } from '../../src/commands/demo/oidc-provider.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { serveProxy, type ProxyChild } from '../support/proxy.ts'
import { chromiumPath, startBrowser, watchTroubles } from './browser.ts'

const script = '<img src=x onerror=alert(1)><script>alert(2)</script>'
const terminal = '\u001b]0;owned\u0007\u001b[2J\u009b31m\u0085\u007f\u202etxt.exe\u2066\u200b'
const hostile = `${script}${terminal}`
/** Everything that acts on a terminal or turns the direction of writing. */
const acting =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069]/
const adminToken = randomBytes(24).toString('hex')

let postgres: TestPostgres
let provider: DemoProvider
let proxy: ProxyChild
let held: Promise<unknown>
const clients: pg.Client[] = []

beforeAll(async () => {
  process.env['TEST_HOSTILE_TOKEN'] = adminToken
  postgres = await startPostgres()
  provider = await startDemoProvider({
    accounts: [],
    machines: [{ id: script, secret: 's', groups: ['agents', hostile] }],
    audience: 'regate',
  })
  await execute(
    postgres,
    `CREATE TABLE notes (id int, note text); CREATE TABLE "${hostile.slice(0, 50)}" (id int)`,
  )
  await execute(postgres, `INSERT INTO notes VALUES (1, ${pg.escapeLiteral(hostile)})`)
  await execute(postgres, 'CREATE DATABASE approvals')
  const store = new URL(postgres.url('approvals'))
  process.env['TEST_HOSTILE_STORE'] = decodeURIComponent(store.password)
  store.password = ''
  const { issuer } = provider
  proxy = await serveProxy(postgres, {
    data: {
      regate: {
        approvals: { groups: ['dba'], quorum: 1, wait: '170s', ttl: '180s' },
        groups: {
          agents: { read: ['*'], write: [], ddl: 'deny', effects: { session: 'allow' } },
          engineers: { read: ['*'], write: { '*': 'approve' }, effects: { session: 'allow' } },
        },
      },
    },
    configuration: {
      authentication: [
        { method: 'oidc', issuer, audience: 'regate', match: { user: 'token' } },
        { method: 'trust', groups: ['engineers'] },
      ],
      approvals: { store: store.href, store_password_env: 'TEST_HOSTILE_STORE' },
      admin: { port: 0, token_env: 'TEST_HOSTILE_TOKEN', groups: ['dba'] },
    },
  })
  const engineer = await connect(hostile)
  await tried(engineer, `SELECT 1 AS "${hostile}" /* ${hostile} */`)
  await tried(engineer, `SELECT * FROM "${hostile}"`)
  await tried(engineer, `SET application_name = ${pg.escapeLiteral(hostile)}`)
  await tried(engineer, `SELECT '${'<b>\u202e\u001b'.repeat(200_000)}'`)
  await tried(engineer, `GRANT ALL ON notes TO "${hostile}"`)
  const tokenClient = await connect('token', { password: await token() })
  await tried(tokenClient, `DELETE FROM notes -- ${hostile}`)
  // Names as long as a startup message may be, and longer.
  await tried(await connect('x<b>'.repeat(1_500)), 'SELECT 2')
  await connect('x<b>\u001b'.repeat(4_000)).catch(() => undefined)
  await connect('token', { password: hostile }).catch(() => undefined)
  const waiting = await connect(hostile)
  held = tried(waiting, `DELETE FROM notes /* ${hostile} ${'y<i>'.repeat(20_000)} */`)
  await vi.waitFor(async () => expect(await approvals()).toHaveLength(1), {
    timeout: 50_000,
    interval: 100,
  })
}, 180_000)

afterAll(async () => {
  for (const client of clients) await client.end().catch(() => undefined)
  await held
  await proxy.stop()
  await provider.stop()
  await postgres.stop()
})

async function token(): Promise<string> {
  const basic = Buffer.from(`${encodeURIComponent(script)}:s`).toString('base64')
  const answer = await fetch(`${provider.issuer}/token`, {
    method: 'POST',
    headers: { authorization: `Basic ${basic}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'db' }),
  })
  return ((await answer.json()) as { access_token: string }).access_token
}

async function connect(user: string, more: pg.ClientConfig = {}): Promise<pg.Client> {
  const client = new pg.Client({
    ...{ host: '127.0.0.1', port: proxy.port, database: 'postgres', user },
    ...{ application_name: hostile, ...more },
  })
  client.on('error', () => undefined)
  clients.push(client)
  await client.connect()
  return client
}

async function tried(client: pg.Client, sql: string): Promise<void> {
  await client.query(sql).catch(() => undefined)
}

async function approvals(): Promise<readonly { readonly id: string }[]> {
  const answer = await fetch(`${proxy.adminUrl}/v1/approvals?state=pending`, {
    headers: { authorization: `Bearer ${adminToken}` },
  })
  return ((await answer.json()) as { approvals: { id: string }[] }).approvals
}

/** The command as people run it: all it writes to both of its outputs. */
async function regate(...args: string[]): Promise<string> {
  const child = spawn(process.execPath, ['dist/main.js', ...args], {
    env: {
      ...process.env,
      ...{ REGATE_ADMIN_URL: proxy.adminUrl, REGATE_ADMIN_TOKEN: adminToken, NO_COLOR: '1' },
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let shown = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8')
    stream.on('data', (chunk: string) => (shown += chunk))
  }
  await new Promise((resolve) => child.once('close', resolve))
  return shown
}

/** Without the colours of tables, which are regate's own. */
const uncoloured = (text: string): string => text.replaceAll(/\u001b\[\d{1,2}m/g, '')

describe('in a terminal', { timeout: 120_000 }, () => {
  test('the audit and approvals show what would act as what it is', async () => {
    const directory = `${proxy.directory}/audit`
    const query = await regate('audit', 'query', '-d', directory, '--json', '--limit', '0')
    const records = query
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    const sessions = records.filter(({ type }) => type === 'session_started')
    // The value is what it was: only its way to the screen is harmless.
    const users = sessions.map((one) => (one['identity'] as { user: string }).user)
    expect(users).toContain(hostile)
    expect(JSON.stringify(records)).toContain(JSON.stringify(script).slice(1, -1))
    const session = sessions[0]?.['session'] as string
    const [approval] = await approvals()
    const shown = [
      query,
      await regate('audit', 'query', '-d', directory, '--limit', '0'),
      await regate('audit', 'export', '-d', directory, '--format', 'csv'),
      await regate('audit', 'play', session, '-d', directory, '--speed', '0'),
      await regate('approvals', 'list'),
      await regate('approvals', 'show', approval?.id ?? ''),
      await regate('approvals', 'show', approval?.id ?? '', '--json'),
    ]
    for (const [index, text] of shown.entries()) {
      expect(text.length, String(index)).toBeGreaterThan(100)
      expect(text, String(index)).toContain('<img src=x')
      expect(acting.exec(uncoloured(text).replaceAll('\r\n', '\n')), String(index)).toBeNull()
    }
  })

  test('so does the prompt, of rows, names of columns, errors and notices', async () => {
    const url = `postgres://${encodeURIComponent(hostile)}@127.0.0.1:${proxy.port}/postgres`
    const shown = await regate(
      ...['sql', url, '-c', 'SELECT note, 1 AS "' + hostile.slice(0, 50) + '" FROM notes'],
      ...['-c', `SELECT * FROM "${hostile}"`],
    )
    expect(shown).toContain('onerror=alert(1)')
    expect(shown).toContain('ERROR 42P01')
    expect(acting.exec(uncoloured(shown))).toBeNull()
    const refused = await regate('sql', url.replace('/postgres', `/${encodeURIComponent(hostile)}`))
    expect(refused).toMatch(/regate: /)
    expect(acting.exec(uncoloured(refused))).toBeNull()
  })
})

test('the log has a line for an entry, and nothing in it acts', () => {
  const log = proxy.log()
  const lines = log.trimEnd().split('\n')
  // It is said who was let in, and who was not.
  expect(log).toContain('onerror=alert(1)')
  expect(log).toContain('u202e')
  for (const line of lines) {
    expect(() => JSON.parse(line) as unknown, line.slice(0, 200)).not.toThrow()
    expect(line.length).toBeLessThan(20_000)
  }
  expect(acting.exec(log.replaceAll('\n', ''))).toBeNull()
})

test.skipIf(chromiumPath === null)(
  'the console shows all of it as text, on every page',
  { timeout: 180_000 },
  async () => {
    const browser: Browser = await startBrowser()
    const context = await browser.newContext()
    context.setDefaultTimeout(60_000)
    const page: Page = await context.newPage()
    const troubles = watchTroubles(page)
    const harmless = async (where: string): Promise<void> => {
      expect(await page.locator('main img, main script, main b, main i').count(), where).toBe(0)
      const text = (await page.locator('body').textContent()) ?? ''
      expect(acting.exec(text), where).toBeNull()
    }
    try {
      await page.goto(proxy.adminUrl)
      await page.getByLabel('Token').fill(adminToken)
      await page.getByRole('button', { name: 'Sign in' }).click()
      await page.getByRole('navigation', { name: 'Pages' }).waitFor()
      await page.goto(`${proxy.adminUrl}/sessions`)
      await page.getByText('onerror=alert(1)').first().waitFor()
      await harmless('sessions')
      await page.goto(`${proxy.adminUrl}/approvals`)
      await page.getByRole('list', { name: 'Requests' }).getByRole('link').first().click()
      await page.getByRole('heading', { name: /asks/ }).waitFor()
      await harmless('approvals')
      await page.goto(`${proxy.adminUrl}/audit`)
      const rows = page.getByRole('table', { name: 'Records' }).getByRole('button')
      await rows.nth(8).waitFor()
      for (let index = 0; index < (await rows.count()); index++) {
        await rows.nth(index).click()
        await page.getByRole('complementary', { name: 'The record' }).waitFor()
        await harmless(`record ${index}`)
      }
      await rows.filter({ hasText: 'DELETE FROM notes' }).first().click()
      await page.getByRole('link', { name: 'Play this session' }).click()
      await page.locator('.timeline li').first().waitFor()
      await harmless('replay')
      await page.goto(`${proxy.adminUrl}/audit?text=${encodeURIComponent(`"><script>${hostile}`)}`)
      await page.getByLabel('Text').waitFor()
      await harmless('a link with a hostile filter')
      await page.goto(`${proxy.adminUrl}/policy`)
      await page.getByLabel('SQL').waitFor()
      await harmless('policy')
      await page.goto(proxy.adminUrl)
      await page.getByText('Where time goes').waitFor()
      await harmless('overview')
      expect(troubles).toEqual({ dialogs: [], violations: [], errors: [] })
    } finally {
      await browser.close()
    }
  },
)
