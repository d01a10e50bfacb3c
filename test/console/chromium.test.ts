import { spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import pg from 'pg'
import { pino } from 'pino'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { startDemo, type Demo } from '../../src/commands/demo/start.ts'
import { chromiumPath, signIn, startBrowser, watchTroubles, type Troubles } from './browser.ts'

const without = chromiumPath === null
if (without) console.warn('the console in a browser: skipped, no Chromium is installed')

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const patience = { timeout: 60_000 }
const withPsql = spawnSync('psql', ['--version']).status === 0
if (!withPsql) console.warn('psql is not installed: node-postgres stands in for it')

/** `regate demo` with its OIDC provider, and people who use its console. */
describe.skipIf(without)('the console in Chromium', { timeout: 180_000 }, () => {
  let demo: Demo
  let browser: Browser
  let context: BrowserContext
  let page: Page
  let troubles: Troubles
  const clients: pg.Client[] = []

  beforeAll(async () => {
    demo = await startDemo({
      ...{ port: 0, adminPort: 0, environment: process.env, say: () => undefined },
      log: pino({ level: 'silent' }),
    })
    browser = await startBrowser()
  }, 180_000)
  afterAll(async () => {
    await browser.close()
    for (const client of clients) await client.end().catch(() => undefined)
    await demo.stop()
  })
  beforeEach(async () => {
    context = await browser.newContext()
    context.setDefaultTimeout(60_000)
    page = await context.newPage()
    troubles = watchTroubles(page)
  })
  afterEach(async () => {
    await context.close()
    expect(troubles).toEqual({ dialogs: [], violations: [], errors: [] })
  })

  async function connect(user: string, more: pg.ClientConfig = {}): Promise<pg.Client> {
    const { port } = demo.runtime
    const login = { host: '127.0.0.1', port, user, password: user, database: 'shop' }
    const client = new pg.Client({ ...login, ...more })
    client.on('error', () => undefined)
    await client.connect()
    clients.push(client)
    return client
  }

  /** What the statement prints, one value a line, when it has ended: by psql where it is installed. */
  async function rowsOf(sql: string): Promise<string> {
    if (!withPsql) {
      const { rows } = await (await connect('engineer')).query<Record<string, unknown>>(sql)
      return rows.map((row) => `${Object.values(row).join('|')}\n`).join('')
    }
    const address = `postgres://engineer@127.0.0.1:${demo.runtime.port}/shop`
    const child = spawn('psql', ['-X', '-q', '-At', '-c', sql, address], {
      env: { ...process.env, PGPASSWORD: 'engineer' },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let [shown, told] = ['', '']
    child.stdout.on('data', (chunk: Buffer) => (shown += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (told += chunk.toString()))
    const code = await new Promise((resolve) => child.once('close', resolve))
    expect(told).toContain('held for approval')
    expect(code, told).toBe(0)
    return shown
  }

  async function serious(): Promise<unknown[]> {
    // By the debugger, which the page's own policy does not bind.
    await page.evaluate(axe)
    return await page.evaluate(async () => {
      const { axe: checker } = globalThis as unknown as {
        axe: {
          run(): Promise<{
            violations: { id: string; impact: string; nodes: { html: string }[] }[]
          }>
        }
      }
      const { violations } = await checker.run()
      return violations
        .filter(({ impact }) => impact === 'serious' || impact === 'critical')
        .map(
          ({ id, nodes }) =>
            `${id}: ${nodes
              .map(({ html }) => html)
              .join('\n')
              .slice(0, 600)}`,
        )
    })
  }

  test('a held statement is approved by whom it is asked of, returns its rows, and is on record', async () => {
    const running = rowsOf('UPDATE products SET price = price WHERE id <= 3 RETURNING id')
    running.catch(() => undefined)
    await signIn(page, `${demo.runtime.adminUrl}/approvals`, 'grace')
    const entry = page.getByRole('list', { name: 'Requests' }).getByRole('link')
    await entry.filter({ hasText: 'UPDATE products' }).click()
    await page.getByRole('heading', { name: 'engineer asks' }).waitFor()
    await page.getByRole('button', { name: 'Reject' }).click()
    await page.getByText('Say why it is rejected').waitFor()
    await page.getByLabel('Comment').fill('looked at in the test')
    await page.getByRole('button', { name: 'Approve' }).click()
    expect((await running).split('\n').sort()).toEqual(['', '1', '2', '3'])

    await page.getByRole('link', { name: 'Audit' }).click()
    await page.getByLabel('Text').fill('UPDATE products SET price = price WHERE id')
    await page.getByRole('button', { name: 'Search' }).click()
    const row = page.getByRole('row').filter({ hasText: 'UPDATE products' }).first()
    await row.getByRole('button').click()
    await page.getByRole('link', { name: 'Play this session' }).click()
    await page.getByRole('heading', { name: 'Session replay' }).waitFor()
    await page.locator('.timeline').getByText('UPDATE products').first().waitFor()
    await page.getByRole('button', { name: 'Play' }).click()
    await page.locator('.timeline').getByText('UPDATE products').first().waitFor()
    await expect
      .poll(async () => await page.getByText(/^\d+ of \d+$/).textContent(), patience)
      .toMatch(/^(\d+) of \1$/)
  })

  test('a session is ended after a question, and its client is told', async () => {
    const agent = await connect('agent', { application_name: 'to be ended' })
    const ended = new Promise<Error>((resolve) => agent.once('error', resolve))
    await signIn(page, `${demo.runtime.adminUrl}/sessions`, 'grace')
    await page.getByRole('button', { name: 'End the session of agent' }).first().click()
    await page.getByRole('button', { name: 'Keep it' }).click()
    await expect.poll(async () => await page.getByRole('dialog').count(), patience).toBe(0)
    expect((await agent.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    await page.getByRole('button', { name: 'End the session of agent' }).first().click()
    await page.getByRole('button', { name: 'End the session', exact: true }).click()
    expect(String(await ended)).toMatch(/revoked|terminat/i)
    await page.getByText('Nobody is connected').or(page.getByRole('table')).first().waitFor()
    await expect
      .poll(
        async () => await page.getByRole('button', { name: 'End the session of agent' }).count(),
        patience,
      )
      .toBe(0)
  })

  test('a statement is tried without running it, by keyboard alone', async () => {
    await signIn(page, `${demo.runtime.adminUrl}/policy`, 'ada')
    await page.getByLabel('SQL').focus()
    await page.keyboard.type('SELECT name, ssn FROM customers')
    await page.keyboard.press('Tab')
    await page.getByLabel('Database').fill('shop')
    await page.getByLabel('Groups').fill('agents')
    await page.getByLabel('SQL').focus()
    await page.keyboard.press('Control+Enter')
    const outputs = page.getByRole('table', { name: 'Outputs and where they come from' })
    const ssn = outputs.getByRole('row').filter({ hasText: 'public.customers.ssn' })
    await ssn.getByText('redact').waitFor()
    expect(demo.postgres.log()).not.toContain('SELECT name, ssn FROM customers')
    // A viewer sees and tries, and is given nothing that changes something.
    expect(await page.getByRole('button', { name: 'Load again' }).count()).toBe(0)
    await page.getByRole('link', { name: 'Sessions' }).click()
    await page.getByRole('heading', { name: 'Sessions' }).waitFor()
    expect(await page.getByRole('button', { name: /^End the session/ }).count()).toBe(0)
  })

  test('hostile values are text: in SQL, names, a megabyte of it', async () => {
    const script = `<img src=x onerror=alert(1)><script>alert(2)</script>`
    const controls = '\u001b[31mred\u001b[0m \u202eevil\u202c \u0007'
    const client = await connect('agent', {
      application_name: `${script}${controls}`.slice(0, 200),
    })
    const fails = async (sql: string): Promise<void> => {
      await client.query(sql).catch(() => undefined)
    }
    await fails(`DELETE FROM orders /* ${script} ${controls} */`)
    await fails(`SELECT '${script}' AS "${script}" FROM "${script}"`)
    await fails(`DELETE FROM orders -- ${'x<b>'.repeat(250_000)}`)
    await signIn(page, `${demo.runtime.adminUrl}/audit?user=agent`, 'grace')
    const records = page.getByRole('table', { name: 'Records' })
    await records.waitFor()
    const buttons = records.getByRole('button').filter({ hasText: 'DELETE FROM orders' })
    for (let index = 0; index < (await buttons.count()); index++) {
      await buttons.nth(index).click()
      await page.getByRole('complementary', { name: 'The record' }).waitFor()
    }
    await page.getByRole('link', { name: 'Play this session' }).click()
    await page.locator('.timeline').waitFor()
    await expect
      .poll(async () => await page.locator('.timeline').textContent(), patience)
      .toContain('<script>alert(2)</script>')
    expect(await page.locator('.timeline img, .timeline script, .timeline b').count()).toBe(0)
    const shown = (await page.locator('main').textContent()) ?? ''
    expect(shown).not.toMatch(/[\u0000-\u0008\u001b\u202a-\u202e]/)
    await page.goto(`${demo.runtime.adminUrl}/policy`)
    await page.getByLabel('SQL').fill(`SELECT 1 AS "${script}"`)
    await page.getByLabel('Database').fill('shop')
    await page.getByLabel('User').fill(script)
    await page.getByLabel('Groups').fill('agents')
    await page.getByRole('button', { name: 'Judge it' }).click()
    await page.locator('.result').waitFor()
    expect(await page.locator('main img, main script').count()).toBe(0)
  })

  test('what is not there yet, is empty or has failed is said in words', async () => {
    const url = demo.runtime.adminUrl
    await signIn(page, url, 'grace')
    let release: () => void = () => undefined
    const gate = new Promise<void>((resolve) => (release = resolve))
    await page.route('**/v1/audit?*', async (route) => {
      await gate
      await route.continue()
    })
    await page.goto(`${url}/audit?user=nobody-of-this-name`)
    await page.getByText('Loading').first().waitFor()
    release()
    await page
      .getByText(/^(No record|Nothing)/)
      .first()
      .waitFor()
    await page.unroute('**/v1/audit?*')
    await page.goto(`${url}/approvals`)
    await page.getByText('Nothing waits for a decision').waitFor()
    for (const [path, api] of [
      ['/audit', '**/v1/audit?*'],
      ['/approvals', '**/v1/approvals?*'],
      ['/policy', '**/v1/policy'],
    ] as const) {
      let ill = true
      await page.route(api, async (route) => {
        if (ill) await route.fulfill({ status: 500, json: { error: 'the disk is gone' } })
        else await route.continue()
      })
      await page.goto(`${url}${path}`)
      const alert = page.getByRole('alert').filter({ hasText: 'the disk is gone' }).first()
      await alert.waitFor()
      expect(await serious()).toEqual([])
      ill = false
      await alert.getByRole('button', { name: 'Try again' }).click()
      await alert.waitFor({ state: 'detached' })
      await page.unroute(api)
    }
  })

  test('everything is reached by keyboard, and one sees where one is', async () => {
    const agent = await connect('agent', { application_name: 'by keyboard' })
    await agent.query('SELECT id FROM customers LIMIT 1')
    await signIn(page, `${demo.runtime.adminUrl}/audit?user=agent`, 'grace')
    await page.getByRole('table', { name: 'Records' }).waitFor()
    const names: string[] = []
    for (let step = 0; step < 80; step++) {
      await page.keyboard.press('Tab')
      const [name, outline] = await page.evaluate<[string, string]>(`(() => {
        const element = document.activeElement
        const label = element.labels?.[0]?.textContent
        const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element)
        return [
          label ?? element.getAttribute('aria-label') ?? element.textContent,
          outlineStyle + outlineWidth + boxShadow,
        ]
      })()`)
      names.push(name.trim())
      expect(outline, name).not.toBe('none0pxnone')
      if (name.includes('SELECT id FROM customers')) break
    }
    expect(names).toEqual(expect.arrayContaining(['Overview', 'Policy', 'Text', 'Search']))
    await page.keyboard.press('Enter')
    await page.getByRole('complementary', { name: 'The record' }).waitFor()
  })

  test.each(['/', '/sessions', '/approvals?state=all', '/audit', '/policy'])(
    'axe finds nothing serious on %s, in light and dark, wide and narrow',
    async (path) => {
      await connect('agent')
      await signIn(page, `${demo.runtime.adminUrl}${path}`, 'grace')
      await page.getByRole('heading', { level: 1 }).waitFor()
      await page.locator('main .card, main table, main .queue, main .empty').first().waitFor()
      for (const colorScheme of ['light', 'dark'] as const) {
        await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
        expect(await serious()).toEqual([])
      }
      await page.setViewportSize({ width: 375, height: 800 })
      expect(await serious()).toEqual([])
      const overflow = await page.evaluate<number>(
        'document.documentElement.scrollWidth - document.documentElement.clientWidth',
      )
      expect(overflow).toBeLessThanOrEqual(0)
    },
  )
})
