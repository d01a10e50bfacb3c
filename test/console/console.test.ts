import { gunzipSync, gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startDemoProvider, type DemoProvider } from '../../src/commands/demo/oidc-provider.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

/** A browser's cookies and headers, without the browser: what an attacker can send is plain. */
class Visitor {
  readonly #origin: string
  readonly #cookies = new Map<string, string>()

  constructor(origin: string) {
    this.#origin = origin
  }

  async go(
    path: string,
    init: Omit<RequestInit, 'headers'> & { headers?: Record<string, string> } = {},
  ): Promise<Response> {
    const headers: Record<string, string> = { ...init.headers }
    if (this.#cookies.size > 0) {
      headers['cookie'] = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    }
    const url = new URL(path, this.#origin)
    const response = await fetch(url, { ...init, headers, redirect: 'manual' })
    for (const cookie of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie) ?? []
      if (value === '') this.#cookies.delete(name)
      else this.#cookies.set(name, value)
    }
    return response
  }

  async token(token: string, origin = this.#origin): Promise<Response> {
    return await this.go('/sign-in/token', {
      method: 'POST',
      headers: { origin, 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ token, to: '/sessions' }).toString(),
    })
  }

  get cookies(): ReadonlyMap<string, string> {
    return this.#cookies
  }
}

describe('the console over HTTP', () => {
  let postgres: TestPostgres
  let provider: DemoProvider
  let proxy: ProxyInProcess
  let url: string

  beforeAll(async () => {
    process.env['TEST_CONSOLE_TOKEN'] = 'the-admin-token-of-this-test'
    postgres = await startPostgres()
    provider = await startDemoProvider({
      accounts: [],
      machines: [
        { id: 'boss', secret: 's', groups: ['admins'] },
        { id: 'eye', secret: 's', groups: ['watchers'] },
        { id: 'watch', secret: 's', groups: ['watchers'] },
        { id: 'judge', secret: 's', groups: ['dba'] },
        { id: 'other', secret: 's', groups: ['others'] },
      ],
      audience: 'regate',
    })
    const oidc = { issuer: provider.issuer, client_id: 'regate-console', audience: 'regate' }
    const groups = { groups: ['admins'], viewers: ['watchers'], reviewers: ['dba'] }
    proxy = await startProxy(postgres, {
      configuration: { admin: { port: 0, ...groups, token_env: 'TEST_CONSOLE_TOKEN', oidc } },
    })
    url = proxy.adminUrl
  })
  afterAll(async () => {
    await proxy.stop()
    await provider.stop()
    await postgres.stop()
  })

  async function signedIn(): Promise<Visitor> {
    const visitor = new Visitor(url)
    const response = await visitor.token('the-admin-token-of-this-test')
    expect([response.status, response.headers.get('location')]).toEqual([303, '/sessions'])
    return visitor
  }

  async function machine(id: string): Promise<Record<string, string>> {
    const response = await fetch(`${provider.issuer}/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from(`${id}:s`).toString('base64')}` },
      body: new URLSearchParams({ grant_type: 'client_credentials', scope: 'db' }),
    })
    const { access_token: token } = (await response.json()) as { access_token: string }
    return { authorization: `Bearer ${token}` }
  }

  test('who is not signed in sees the way in and nothing else', async () => {
    const visitor = new Visitor(url)
    const page = await visitor.go('/audit?action=deny')
    expect(page.status).toBe(303)
    expect(page.headers.get('location')).toBe('/sign-in?to=%2Faudit%3Faction%3Ddeny')
    for (const path of ['/v1/me', '/v1/sessions', '/v1/audit', '/v1/policy', '/v1/events']) {
      expect((await visitor.go(path)).status, path).toBe(401)
    }
    const forged = { cookie: `regate_session=${'A'.repeat(43)}` }
    expect((await fetch(`${url}/v1/me`, { headers: forged })).status).toBe(401)
  })

  test('the session cookie is out of reach of scripts and of other sites', async () => {
    const response = await new Visitor(url).token('the-admin-token-of-this-test')
    const [cookie = ''] = response.headers
      .getSetCookie()
      .filter((one) => one.startsWith('regate_session='))
    expect(cookie).toMatch(/; HttpOnly(;|$)/)
    expect(cookie).toMatch(/; SameSite=Lax(;|$)/)
    expect(cookie).toMatch(/; Path=\/(;|$)/)
  })

  test('a wrong token, and one that another site posts, sign nobody in', async () => {
    const visitor = new Visitor(url)
    expect((await visitor.token('wrong')).status).toBe(403)
    const foreign = await visitor.token('the-admin-token-of-this-test', 'https://evil.example')
    expect(foreign.status).toBe(403)
    expect((await visitor.token('the-admin-token-of-this-test', 'null')).status).toBe(403)
    expect(visitor.cookies.size).toBe(0)
  })

  test('signing in starts another session: a cookie that was planted is worth nothing', async () => {
    const [one, two] = [await signedIn(), await signedIn()]
    expect(one.cookies.get('regate_session')).not.toBe(two.cookies.get('regate_session'))
  })

  test('what changes something must come from a page of the console', async () => {
    const visitor = await signedIn()
    const change = async (headers: Record<string, string>): Promise<number> => {
      const json = { 'content-type': 'application/json', ...headers }
      const init = { method: 'POST', headers: json, body: '{}' }
      return (await visitor.go('/v1/policy/reload', init)).status
    }
    expect(await change({ origin: url })).toBe(200)
    expect(await change({})).toBe(401)
    expect(await change({ origin: 'https://evil.example' })).toBe(401)
    expect(await change({ origin: 'null' })).toBe(401)
    expect(await change({ origin: url, 'sec-fetch-site': 'cross-site' })).toBe(403)
    expect(await change({ origin: url, 'sec-fetch-site': 'same-site' })).toBe(403)
    expect(await change({ origin: url, 'content-type': 'text/plain' })).toBe(415)
    const form = 'application/x-www-form-urlencoded'
    expect(await change({ origin: url, 'content-type': form })).toBe(415)
  })

  test('signing out ends the session on the server too', async () => {
    const visitor = await signedIn()
    const cookie = `regate_session=${visitor.cookies.get('regate_session') ?? ''}`
    const forged = { method: 'POST', headers: { origin: 'https://evil.example' } }
    expect((await visitor.go('/sign-out', forged)).status).toBe(403)
    expect((await visitor.go('/v1/me')).status).toBe(200)
    const out = await visitor.go('/sign-out', { method: 'POST', headers: { origin: url } })
    expect(out.status).toBe(303)
    expect((await fetch(`${url}/v1/me`, { headers: { cookie } })).status).toBe(401)
  })

  test('a revoked subject is signed out with the next request', async () => {
    const visitor = await signedIn()
    expect((await visitor.go('/v1/me')).status).toBe(200)
    proxy.runtime.revocations.revokeSubject('token')
    expect((await visitor.go('/v1/me')).status).toBe(401)
    proxy.runtime.revocations.restoreSubject('token')
  })

  test('no way out of the site by the address to return to', async () => {
    for (const to of [
      '//evil.example',
      'https://evil.example',
      '/\\evil.example',
      '/%5cevil',
      '/nowhere',
      '/sessions\r\nx: y',
    ]) {
      const page = await new Visitor(url).go(`/sign-in?to=${encodeURIComponent(to)}`)
      const text = await page.text()
      expect(text, to).toContain('name="to" value="/"')
      expect(text).not.toContain('evil')
    }
    const quoted = await new Visitor(url).go(
      `/sign-in?to=${encodeURIComponent('/audit?text="><script>alert(1)</script>')}`,
    )
    expect(await quoted.text()).not.toContain('<script>')
  })

  test('a sign-in that began elsewhere, twice or never is not finished', async () => {
    const victim = new Visitor(url)
    for (const query of ['', '?code=x&state=y', '?error=access_denied']) {
      const response = await victim.go(`/sign-in/callback${query}`)
      expect(response.status).toBe(403)
    }
    expect(victim.cookies.size).toBe(0)
    const begun = await victim.go('/sign-in/oidc?to=/audit')
    const target = new URL(begun.headers.get('location') ?? '')
    expect(target.origin).toBe(provider.issuer)
    expect(target.searchParams.get('code_challenge_method')).toBe('S256')
    expect(target.searchParams.get('redirect_uri')).toBe(`${url}/sign-in/callback`)
    expect(target.searchParams.get('state')).toMatch(/.{20}/)
    expect(target.searchParams.get('nonce')).toMatch(/.{20}/)
    const wrongState = await victim.go('/sign-in/callback?code=x&state=wrong')
    expect(wrongState.status).toBe(403)
  })

  test('each role may do what it is for, by bearer token as by cookie', async () => {
    const cases: [string, string, number, number, number][] = [
      // path, method, boss, eye, judge
      ['/v1/me', 'GET', 200, 200, 200],
      ['/v1/sessions', 'GET', 200, 200, 403],
      ['/v1/audit', 'GET', 200, 200, 403],
      ['/v1/policy', 'GET', 200, 200, 403],
      ['/metrics', 'GET', 200, 200, 403],
      ['/v1/policy/reload', 'POST', 200, 403, 403],
      ['/v1/sessions/none', 'DELETE', 404, 403, 403],
      ['/v1/revocations', 'POST', 400, 403, 403],
      ['/v1/policy/try', 'POST', 400, 400, 403],
    ]
    const people = [await machine('boss'), await machine('eye'), await machine('judge')]
    for (const [path, method, ...expected] of cases) {
      for (const [index, headers] of people.entries()) {
        const init = { method, headers: { ...headers, 'content-type': 'application/json' } }
        const body = method === 'GET' ? {} : { body: '{}' }
        const { status } = await fetch(`${url}${path}`, { ...init, ...body })
        expect(status, `${method} ${path} by ${['boss', 'eye', 'judge'][index] ?? ''}`).toBe(
          expected[index],
        )
      }
    }
    const headers = await machine('other')
    expect((await fetch(`${url}/v1/me`, { headers })).status).toBe(401)
  })

  test('every page has the strict policy, and no script or style of its own', async () => {
    const visitor = await signedIn()
    for (const path of ['/', '/sessions', '/approvals', '/audit', '/policy', '/sign-in']) {
      const response = await visitor.go(path)
      const text = await response.text()
      const policy = response.headers.get('content-security-policy') ?? ''
      expect(policy).toContain("default-src 'none'")
      expect(policy).toContain("script-src 'self'")
      expect(policy).toContain("frame-ancestors 'none'")
      expect(policy).not.toContain('unsafe')
      expect(text).not.toMatch(/<script(?![^>]*\bsrc=)[^>]*>|<style|\son\w+=|\bstyle=/)
      expect(response.headers.get('x-content-type-options')).toBe('nosniff')
    }
  })

  test('a page weighs at most 200 KB with everything it loads', async () => {
    const visitor = await signedIn()
    const seen = new Set<string>()
    let bytes = 0
    const load = async (path: string): Promise<void> => {
      if (seen.has(path)) return
      seen.add(path)
      const response = await visitor.go(path)
      expect(response.status, path).toBe(200)
      const text = await response.text()
      bytes += gzipSync(text).length
      for (const [, next = ''] of text.matchAll(/(?:src|href)="(\/assets\/[^"]+)"/g))
        await load(next)
      for (const [, next = ''] of text.matchAll(/\bfrom\s*["']([^"'\s]+)["']/g)) {
        expect(next, `${path} imports ${next}`).toMatch(/^(\.\/|\/assets\/)/)
        await load(new URL(next, `http://x${path}`).pathname)
      }
    }
    await load('/')
    expect(seen).toContain('/assets/lib/preact.js')
    expect(seen).toContain('/assets/audit.js')
    expect(bytes).toBeLessThan(200_000)
    const gzipped = await fetch(`${url}/assets/main.js`, { headers: { 'accept-encoding': 'gzip' } })
    expect(gzipped.headers.get('content-encoding')).toBe('gzip')
    expect(gunzipSync(gzipSync(await gzipped.text())).length).toBeGreaterThan(1_000)
    const etag = gzipped.headers.get('etag') ?? ''
    const again = await fetch(`${url}/assets/main.js`, { headers: { 'if-none-match': etag } })
    expect(again.status).toBe(304)
    expect((await fetch(`${url}/assets/../package.json`)).status).not.toBe(200)
    expect((await fetch(`${url}/assets/%2e%2e/%2e%2e/package.json`)).status).not.toBe(200)
  })

  test('the sandbox judges with the live catalog and runs nothing', async () => {
    const headers = { ...(await machine('eye')), 'content-type': 'application/json' }
    const attempt = async (body: object): Promise<{ status: number; text: string }> => {
      const init = { method: 'POST', headers, body: JSON.stringify(body) }
      const response = await fetch(`${url}/v1/policy/try`, init)
      return { status: response.status, text: await response.text() }
    }
    const sql = 'CREATE TABLE made_by_the_sandbox (id int)'
    const judged = await attempt({ sql, database: 'postgres', groups: ['admins'] })
    expect(judged.status).toBe(200)
    expect(JSON.parse(judged.text)).toMatchObject({ statements: [{ kind: 'create' }] })
    expect(postgres.log()).not.toContain('made_by_the_sandbox')
    const broken = await attempt({ sql: 'SELEC', database: 'postgres' })
    expect(broken.status).toBe(422)
    expect(broken.text).toContain('syntax error')
    expect((await attempt({ sql: 'SELECT 1', database: 'no_such_database' })).status).toBe(422)
    expect((await attempt({ sql: 'x'.repeat(70_000), database: 'postgres' })).status).toBe(400)
    expect((await attempt({ sql: 'SELECT 1;'.repeat(60), database: 'postgres' })).status).toBe(422)
  })

  test('live events come while signed in, and end with the session', async () => {
    const visitor = await signedIn()
    const response = await visitor.go('/v1/events?topics=sessions,overview,nothing')
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    const reader = response.body!.getReader()
    const decoder = new TextDecoder()
    let text = ''
    while (!text.includes('event: overview') || !text.includes('event: sessions')) {
      const { value, done } = await reader.read()
      if (done) throw new Error(`the stream ended early: ${text}`)
      text += decoder.decode(value)
    }
    await visitor.go('/sign-out', { method: 'POST', headers: { origin: url } })
    for (;;) if ((await reader.read()).done) break
  })

  test('live events by a bearer token end with that token', async () => {
    const headers = await machine('watch')
    const response = await fetch(`${url}/v1/events?topics=sessions,overview`, { headers })
    expect(response.status).toBe(200)
    const reader = response.body!.getReader()
    expect((await reader.read()).done).toBe(false)
    proxy.runtime.revocations.revokeSubject('watch')
    for (;;) if ((await reader.read()).done) break
    expect((await fetch(`${url}/v1/events?topics=sessions`, { headers })).status).toBe(401)
  })
})
