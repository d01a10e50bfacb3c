/**
 * `npm run screens`: the screenshots of docs/screens, from the demo with some traffic. Needs Chromium.
 */
import { mkdirSync, statSync } from 'node:fs'
import pg from 'pg'
import { pino } from 'pino'
import type { Page } from 'playwright-core'
import { startDemo } from '../src/commands/demo/start.ts'
import { signIn, startBrowser } from '../test/console/browser.ts'

const directory = process.argv[2] ?? 'docs/screens'
mkdirSync(directory, { recursive: true })

const demo = await startDemo({
  ...{ port: 0, adminPort: 0, environment: process.env },
  log: pino({ level: 'error' }),
  say: (line) => console.error(line),
})
const browser = await startBrowser()
const clients: pg.Client[] = []

async function connect(user: string): Promise<pg.Client> {
  const client = new pg.Client({
    ...{ host: '127.0.0.1', port: demo.runtime.port, user, password: user, database: 'shop' },
    application_name: 'screens',
  })
  client.on('error', () => undefined)
  await client.connect()
  clients.push(client)
  return client
}

const quietly = (): undefined => undefined

let over = false

async function traffic(): Promise<void> {
  const [agent, engineer] = [await connect('agent'), await connect('engineer')]
  for (let round = 0; !over; round++) {
    await agent.query(`SELECT status, count(*) FROM orders GROUP BY status`).catch(quietly)
    await agent.query('SELECT id, name, email, ssn FROM customers LIMIT 5').catch(quietly)
    await engineer
      .query('SELECT id, email FROM customers WHERE id = $1', [round % 40])
      .catch(quietly)
    if (round % 7 === 0) {
      await agent.query("SELECT count(*) FROM customers WHERE ssn LIKE '1%'").catch(quietly)
    }
    if (round % 11 === 0) await agent.query('DELETE FROM orders').catch(quietly)
    await new Promise((resolve) => setTimeout(resolve, 10 + 40 * Math.abs(Math.sin(round / 60))))
  }
}

async function shoot(page: Page, name: string): Promise<void> {
  const path = `${directory}/${name}.png`
  await page.screenshot({ path })
  console.log(`${path} ${Math.round(statSync(path).size / 1024)} KiB`)
}

try {
  const running = traffic()
  for (const sql of [
    'UPDATE products SET price = price',
    `INSERT INTO products (name, price)
       SELECT c.name || '''s choice', 10 FROM customers c JOIN orders o ON o.customer_id = c.id
       WHERE o.status = 'paid' LIMIT 3`,
    'ALTER TABLE orders ADD COLUMN shipped_at timestamptz',
  ]) {
    const engineer = await connect('engineer')
    engineer.query(sql).catch(quietly)
  }
  const url = demo.runtime.adminUrl
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } })
  const page = await context.newPage()
  await page.goto(url)
  await shoot(page, 'sign-in')
  await signIn(page, url, 'grace')
  await page.goto(`${url}/sessions`)
  await page.getByRole('table').waitFor()
  await shoot(page, 'sessions')
  const replay = page.getByRole('link', { name: /Replay the session of agent/ }).first()
  const session = await replay.getAttribute('href')
  await page.goto(`${url}/policy`)
  await page.getByLabel('SQL').fill('SELECT id, lower(email), ssn FROM customers WHERE id = 7')
  await page.getByLabel('Database').fill('shop')
  await page.getByLabel('User').fill('agent')
  await page.getByLabel('Groups').fill('agents')
  await page.getByRole('button', { name: 'Judge it' }).click()
  await page.locator('.result').first().waitFor()
  await shoot(page, 'policy')
  await page.goto(`${url}/approvals`)
  await page.locator('.queue li').nth(2).waitFor({ timeout: 60_000 })
  await shoot(page, 'approvals-queue')
  await page.locator('.queue a').filter({ hasText: 'INSERT' }).click({ timeout: 60_000 })
  await page.locator('.decide').waitFor()
  await shoot(page, 'approvals')
  await page.goto(`${url}/audit?action=deny&limit=5`)
  await page.waitForTimeout(1_500)
  await page.locator('button.row').first().click({ timeout: 5_000 }).catch(quietly)
  await shoot(page, 'audit')
  if (session !== null) await page.goto(`${url}${session}`)
  await page.locator('.timeline li').nth(3).waitFor({ timeout: 10_000 }).catch(quietly)
  await shoot(page, 'replay')
  await page.goto(url)
  await page.getByText('Where time goes').waitFor()
  // Long enough for the charts to have a shape.
  await page.waitForTimeout(30_000)
  await shoot(page, 'overview')
  await page.emulateMedia({ colorScheme: 'dark' })
  await shoot(page, 'overview-dark')
  await page.setViewportSize({ width: 390, height: 800 })
  await shoot(page, 'overview-phone')
  await page.goto(`${url}/sessions`)
  await page.getByRole('table').waitFor()
  await shoot(page, 'sessions-phone')
  await page.goto(`${url}/approvals`)
  await page.locator('.queue a').filter({ hasText: 'INSERT' }).click({ timeout: 60_000 })
  await page.locator('.decide').waitFor()
  await shoot(page, 'approvals-phone')
  await page.emulateMedia({ colorScheme: 'light' })
  await page.goto(`${url}/audit?user=agent&limit=8`)
  await page.locator('button.row').nth(3).waitFor()
  await shoot(page, 'audit-phone')
  over = true
  await running
} finally {
  over = true
  await browser.close()
  for (const client of clients) await client.end().catch(quietly)
  await demo.stop()
}
process.exit(0)
