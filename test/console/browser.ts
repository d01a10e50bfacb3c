/**
 * Chromium for the console's tests and screenshots: the system's own, driven by playwright-core. Where
 * there is none, tests are skipped and say so.
 */
import { existsSync } from 'node:fs'
import { chromium, type Browser, type Page } from 'playwright-core'

const places = [
  process.env['REGATE_CHROMIUM'],
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
]

/** The browser's executable, null where none is installed. */
export const chromiumPath =
  places.find((path) => path !== undefined && path !== '' && existsSync(path)) ?? null

export async function startBrowser(): Promise<Browser> {
  if (chromiumPath === null) throw new Error('no Chromium is installed')
  return await chromium.launch({
    executablePath: chromiumPath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  })
}

/** What happened in a page that must never happen, gathered while it is used. */
export interface Troubles {
  readonly dialogs: string[]
  readonly violations: string[]
  readonly errors: string[]
}

/** Watches a page for dialogs, violations of its security policy and errors of its scripts. */
export function watchTroubles(page: Page): Troubles {
  const troubles: Troubles = { dialogs: [], violations: [], errors: [] }
  page.on('dialog', (dialog) => {
    troubles.dialogs.push(dialog.message())
    void dialog.dismiss()
  })
  page.on('console', (message) => {
    const text = message.text()
    if (/Content.Security.Policy|Trusted Type/i.test(text)) troubles.violations.push(text)
  })
  page.on('pageerror', (error) => troubles.errors.push(error.message))
  return troubles
}

/** Signs in at the demo provider as one of its people; ends on the page that was asked for. */
export async function signIn(page: Page, url: string, person: string): Promise<void> {
  await page.goto(url)
  await page.getByRole('link', { name: 'Sign in with your organization' }).click()
  await page.locator('input[name=login]').fill(person)
  await page.locator('input[name=password]').fill('any')
  await page.locator('button[type=submit]').click()
  // The provider asks for consent the first time.
  const consent = page.locator('button[type=submit]', { hasText: 'Continue' })
  const navigation = page.getByRole('navigation', { name: 'Pages' })
  await consent.or(navigation).or(page.getByRole('alert')).first().waitFor({ timeout: 60_000 })
  if (await consent.isVisible()) await consent.click()
  await navigation.or(page.getByRole('alert')).first().waitFor({ timeout: 60_000 })
}
