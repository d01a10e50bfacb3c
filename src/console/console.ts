/**
 * The face of `console`: the web console that the admin server serves at `/`. Pages are a shell and
 * ES modules; what they show comes from the admin API, asked with the cookie of a
 * session here. What the API lets somebody do is the API's business.
 *
 * A cookie is sent by the browser whoever made the page that asks, so whatever changes something must
 * come from a page of this origin: SameSite, and the Origin header, which no page can choose.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { loadAssets, type Asset } from './assets.ts'
import { Events, type Topic } from './events.ts'
import { pageHeaders, shellPage, signInPage } from './pages.ts'
import { attemptSecondsMax, OidcSignIn, type IssuerOptions } from './sign-in.ts'
import { Cookies, WebSessions, type Person, type WebSessionOptions } from './web-sessions.ts'

export type { Topic } from './events.ts'
export type { IssuerOptions } from './sign-in.ts'
export type { Person } from './web-sessions.ts'

export interface ConsoleOptions extends WebSessionOptions {
  /** `https://regate.example.com`: where people reach it; null: at the address they asked for. */
  readonly origin: string | null
  readonly oidc: IssuerOptions | null
  /** Who a token stands for; null where there is none to sign in with. */
  readonly byToken: ((token: string) => Promise<Person | null>) | null
  /** Asked before a token is looked at, and told of those that were wrong. */
  readonly attempts: { allows(source: string): boolean; failed(source: string): void }
  /** What is sent live, by name. */
  readonly topics: ReadonlyMap<string, Topic>
  /** Whether this caller may watch a topic. */
  mayWatch(request: FastifyRequest, topic: string): boolean
  /** Asked again now and then of who watches with a bearer token: whether it is still good. */
  stillBears(request: FastifyRequest): Promise<boolean>
  readonly log: (facts: Readonly<Record<string, unknown>>, message: string) => void
}

const sessionCookie = 'regate_session'
const attemptCookie = 'regate_sign_in'
const sessionSecondsMax = 8 * 60 * 60
const bearerCheckMs = 3_000
const pages = ['/', '/sessions', '/approvals', '/audit', '/policy']

export class WebConsole {
  readonly #options: ConsoleOptions
  readonly #sessions: WebSessions
  readonly #cookies: Cookies
  readonly #events: Events
  readonly #oidc: OidcSignIn | null
  readonly #assets: ReadonlyMap<string, Asset>

  static async create(options: ConsoleOptions): Promise<WebConsole> {
    return new WebConsole(options, await loadAssets())
  }

  private constructor(options: ConsoleOptions, assets: ReadonlyMap<string, Asset>) {
    this.#options = options
    this.#assets = assets
    this.#sessions = new WebSessions(options)
    this.#cookies = new Cookies(options.origin?.startsWith('https:') === true)
    this.#events = new Events(options.topics)
    this.#oidc = options.oidc === null ? null : new OidcSignIn(options.oidc)
  }

  /** Paths that say nothing and may be asked for by anybody: sign-in, the shell, its files. */
  isOpen(path: string): boolean {
    return pages.includes(path) || path === '/sign-out' || /^\/(sign-in|assets)(\/|$)/.test(path)
  }

  /** Who sent this, by the cookie; null for nobody, and for what another site made a browser send. */
  callerOf(request: FastifyRequest): Person | null {
    const session = this.#sessions.find(this.#nameOf(request))
    if (session === null) return null
    const reads = request.method === 'GET' || request.method === 'HEAD'
    return reads || this.#isOwnPage(request) ? session.person : null
  }

  /** Adds the routes. */
  routes(app: FastifyInstance): void {
    app.addContentTypeParser(
      'application/x-www-form-urlencoded',
      { parseAs: 'string', bodyLimit: 8_192 },
      (_request, body, done) => {
        done(null, Object.fromEntries(new URLSearchParams(String(body))))
      },
    )
    for (const path of pages) app.get(path, (request, reply) => this.#page(request, reply))
    app.get('/assets/*', (request, reply) => this.#asset(request, reply))
    app.get('/sign-in', (request, reply) => this.#signInPage(reply, destinationOf(request), null))
    app.get('/sign-in/oidc', (request, reply) => this.#begin(request, reply))
    app.get('/sign-in/callback', (request, reply) => this.#finish(request, reply))
    app.post('/sign-in/token', (request, reply) => this.#byToken(request, reply))
    app.post('/sign-out', (request, reply) => this.#signOut(request, reply))
    app.get('/v1/events', (request, reply) => this.#watch(request, reply))
  }

  close(): void {
    this.#events.close()
  }

  get #needsSignIn(): boolean {
    return this.#oidc !== null || this.#options.byToken !== null
  }

  #nameOf(request: FastifyRequest): string | null {
    return this.#cookies.read(request.headers.cookie, sessionCookie)
  }

  #originOf(request: FastifyRequest): string {
    return this.#options.origin ?? `http://${request.headers.host ?? ''}`
  }

  /** A page of this origin sent it: a browser says so, and no other page can make it say so. */
  #isOwnPage(request: FastifyRequest): boolean {
    const site = request.headers['sec-fetch-site']
    if (site !== undefined && site !== 'same-origin') return false
    return request.headers.origin === this.#originOf(request)
  }

  async #page(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const signedIn = this.#sessions.find(this.#nameOf(request)) !== null
    if (this.#needsSignIn && !signedIn) {
      return await reply.redirect(`/sign-in?to=${encodeURIComponent(request.url)}`, 303)
    }
    return await html(reply, shellPage())
  }

  async #asset(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const asset = this.#assets.get(request.url.split('?')[0] ?? '')
    if (asset === undefined) return await reply.code(404).send({ error: 'there is no such file' })
    reply.headers({ ...pageHeaders, 'cache-control': 'no-cache', etag: asset.etag })
    reply.header('vary', 'accept-encoding')
    if (request.headers['if-none-match'] === asset.etag) return await reply.code(304).send()
    reply.type(asset.type)
    const gzip = /\bgzip\b/.test(request.headers['accept-encoding'] ?? '')
    if (!gzip) return await reply.send(asset.body)
    return await reply.header('content-encoding', 'gzip').send(asset.gzipped)
  }

  async #signInPage(
    reply: FastifyReply,
    to: string,
    problem: string | null,
  ): Promise<FastifyReply> {
    if (!this.#needsSignIn) return await reply.redirect(to, 303)
    const [oidc, token] = [this.#oidc !== null, this.#options.byToken !== null]
    if (problem !== null) reply.code(403)
    return await html(reply, signInPage({ oidc, token, to, problem }))
  }

  async #begin(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const to = destinationOf(request)
    if (this.#oidc === null) return await this.#signInPage(reply, to, null)
    try {
      const redirectUri = `${this.#originOf(request)}/sign-in/callback`
      const { url, attempt } = await this.#oidc.begin(redirectUri, to)
      reply.header('set-cookie', this.#cookies.write(attemptCookie, attempt, attemptSecondsMax))
      return await reply.redirect(url, 303)
    } catch (error) {
      this.#options.log({ err: error }, 'console: the issuer cannot be reached')
      return await this.#signInPage(reply, to, 'The identity provider cannot be reached.')
    }
  }

  async #finish(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const attempt = this.#cookies.read(request.headers.cookie, attemptCookie)
    const at = request.url.indexOf('?')
    const query = at === -1 ? '' : request.url.slice(at)
    const result = await this.#oidc?.finish(attempt, query)
    reply.header('set-cookie', this.#cookies.clear(attemptCookie))
    if (result === undefined) return await this.#signInPage(reply, '/', null)
    if (result.kind === 'failed') {
      const { reason, error } = result
      this.#options.log({ reason, err: error }, 'console: a sign-in failed')
      return await this.#signInPage(reply, '/', reason)
    }
    return await this.#signedIn(reply, result.person, result.to)
  }

  async #byToken(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { byToken, attempts } = this.#options
    const fields = (request.body ?? {}) as Record<string, unknown>
    const text = (name: string): string => (typeof fields[name] === 'string' ? fields[name] : '')
    const to = safeDestination(text('to'))
    if (byToken === null || !this.#isOwnPage(request)) {
      return await this.#signInPage(reply, to, 'This form did not come from this page.')
    }
    if (!attempts.allows(request.ip)) {
      return await this.#signInPage(reply, to, 'Too many attempts: wait a minute.')
    }
    const person = await byToken(text('token'))
    if (person === null) {
      attempts.failed(request.ip)
      this.#options.log({ address: request.ip }, 'console: a wrong admin token')
      return await this.#signInPage(reply, to, 'That is not the admin token.')
    }
    return await this.#signedIn(reply, person, to)
  }

  /** A new name for a new session: one that was planted before is worth nothing. */
  async #signedIn(reply: FastifyReply, person: Person, to: string): Promise<FastifyReply> {
    const name = this.#sessions.begin(person)
    this.#options.log({ subject: person.subject, groups: person.groups }, 'console: signed in')
    const cookies = [this.#cookies.clear(attemptCookie)]
    cookies.push(this.#cookies.write(sessionCookie, name, sessionSecondsMax))
    return await reply.header('set-cookie', cookies).redirect(to, 303)
  }

  async #signOut(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    if (!this.#isOwnPage(request))
      return await reply.code(403).send({ error: 'another site asked' })
    const name = this.#nameOf(request)
    if (name !== null) this.#sessions.end(name)
    return await reply
      .header('set-cookie', this.#cookies.clear(sessionCookie))
      .redirect('/sign-in', 303)
  }

  async #watch(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { topics } = request.query as { topics?: unknown }
    const asked = typeof topics === 'string' ? topics.split(',').slice(0, 20) : []
    const allowed = asked.filter((topic) => this.#options.mayWatch(request, topic))
    const name = this.#nameOf(request)
    const bears = request.headers.authorization !== undefined
    const alive = bears
      ? this.#bearerAlive(request)
      : (): boolean => name === null || this.#sessions.find(name, false) !== null
    const opened = this.#events.open(request, reply, allowed, alive)
    return opened ? reply : await reply.code(503).send({ error: 'too many pages are watching' })
  }

  /** A stream ends with its token: it is asked for again every few seconds, beside what is sent. */
  #bearerAlive(request: FastifyRequest): () => boolean {
    const { clock } = this.#options
    let [good, asking, askedMs] = [true, false, clock.nowMs()]
    return () => {
      if (good && !asking && clock.nowMs() - askedMs >= bearerCheckMs) {
        asking = true
        void this.#options
          .stillBears(request)
          .catch(() => false)
          .then((answer) => {
            good = answer
            asking = false
            askedMs = clock.nowMs()
          })
      }
      return good
    }
  }
}

async function html(reply: FastifyReply, page: string): Promise<FastifyReply> {
  return await reply.headers(pageHeaders).type('text/html; charset=utf-8').send(page)
}

function destinationOf(request: FastifyRequest): string {
  return safeDestination((request.query as { to?: unknown }).to)
}

/** A path of ours and nothing else: no other site, no `//host`, no backslash that a browser turns. */
function safeDestination(to: unknown): string {
  if (typeof to !== 'string' || to.length > 2_000) return '/'
  const path = to.split('?')[0] ?? ''
  return pages.includes(path) && /^[\x21-\x7e]*$/.test(to) && !to.includes('\\') ? to : '/'
}
