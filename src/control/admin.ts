/**
 * The HTTP side of the control plane: /livez, /readyz, /metrics, and whatever routes the caller adds.
 * On loopback by default.
 *
 * Whoever may connect is not whoever may ask: with a token or OIDC everything but /livez and /readyz
 * asks for it. On loopback the Host header must be loopback too, so that a page in a browser cannot
 * reach the API under a name of its own (DNS rebinding); what changes something must be JSON, so that
 * no form of another site can send it; what a browser asks for another site is not answered at all.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { fastify, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Health } from './health.ts'
import type { MetricDocument, Metrics } from './metrics.ts'

/** `admin`: everything; `viewer`: sees everything; `reviewer`: approvals. */
export type AdminRole = 'admin' | 'viewer' | 'reviewer'

export interface AdminCaller {
  readonly subject: string
  readonly groups: readonly string[]
  /** Other names of the same person: nobody approves what they asked for under one of them. */
  readonly user?: string | null
  readonly email?: string | null
  readonly onBehalfOf?: string | null
  /** Absent: everything. */
  readonly roles?: readonly AdminRole[]
}

export interface AdminOptions {
  readonly host: string
  readonly port: number
  readonly health: Health
  readonly metrics: Metrics
  /** Metrics of other processes, shown with those of this one. */
  readonly otherMetrics?: () => Promise<readonly MetricDocument[]>
  /**
   * Who is calling, or null for nobody. Without it the API is open to everybody who can connect: the
   * configuration allows that on loopback only.
   */
  readonly authenticate: ((request: FastifyRequest) => Promise<AdminCaller | null>) | null
  /** More routes; they run behind `authenticate`. */
  readonly routes?: readonly ((app: FastifyInstance) => void | Promise<void>)[]
  /** Paths that answer without `authenticate`, beside /livez and /readyz (a login callback). */
  readonly isOpen?: (path: string) => boolean
  /** Host names that it answers to beside loopback's, where it listens on loopback only. */
  readonly hostNames?: readonly string[]
}

export interface AdminServer {
  readonly host: string
  readonly port: number
  readonly url: string
  close(): Promise<void>
}

const bodyBytesMax = 1024 * 1024
/** Nobody may hold a connection by sending slowly, nor take the descriptors that clients need. */
const requestMsMax = 30_000
const connectionCountMax = 1_000
const callers = new WeakMap<FastifyRequest, AdminCaller>()

/** Who made this request; for routes that record or restrict it. */
export function callerOf(request: FastifyRequest): AdminCaller | null {
  return callers.get(request) ?? null
}

/** Starts listening; rejects when the port is taken. */
export async function startAdmin(options: AdminOptions): Promise<AdminServer> {
  const app = fastify({
    ...{ bodyLimit: bodyBytesMax, forceCloseConnections: true, logger: false },
    requestTimeout: requestMsMax,
    // Here as well: Node limits the time of bodies only where that of headers is no longer.
    http: { requestTimeout: requestMsMax, connectionsCheckingInterval: requestMsMax / 6 },
  })
  app.server.maxConnections = connectionCountMax
  app.addHook('onRequest', async (request, reply) => {
    reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff')
    await guard(options, request, reply)
  })
  app.get('/livez', async () => ({ status: 'alive' }))
  app.get('/readyz', async (_request, reply) => {
    const { ready, problems, warnings } = options.health.readiness
    return await reply
      .code(ready ? 200 : 503)
      .send({ status: ready ? 'ready' : 'not ready', problems, warnings })
  })
  app.get('/metrics', async (_request, reply) => {
    const others = (await options.otherMetrics?.()) ?? []
    return await reply.type(options.metrics.contentType).send(await options.metrics.text(others))
  })
  for (const add of options.routes ?? []) await add(app)
  await app.listen({ host: options.host, port: options.port })
  const address = app.server.address()
  const port = typeof address === 'object' && address !== null ? address.port : options.port
  const shown = options.host.includes(':') ? `[${options.host}]` : options.host
  return {
    ...{ host: options.host, port, url: `http://${shown}:${port}` },
    close: async () => {
      await app.close()
    },
  }
}

async function guard(
  options: AdminOptions,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply | undefined> {
  const known = isLoopbackName(request.hostname) || options.hostNames?.includes(request.hostname)
  if (isLoopbackName(options.host) && known !== true) {
    return await reply.code(421).send({ error: 'this API answers only to a loopback name' })
  }
  const path = request.url.split('?')[0] ?? ''
  if (path === '/livez' || path === '/readyz' || options.isOpen?.(path) === true) {
    return undefined
  }
  if (isFromElsewhere(request)) {
    return await reply.code(403).send({ error: 'another site asked' })
  }
  const changes = !['GET', 'HEAD', 'OPTIONS'].includes(request.method)
  const type = request.headers['content-type'] ?? ''
  if (changes && !type.startsWith('application/json')) {
    return await reply.code(415).send({ error: 'content-type must be application/json' })
  }
  if (options.authenticate === null) return undefined
  const caller = await options.authenticate(request)
  if (caller === null) {
    return await reply
      .code(401)
      .header('www-authenticate', 'Bearer realm="regate"')
      .send({ error: 'a bearer token is needed' })
  }
  callers.set(request, caller)
  if (caller.roles === undefined || permits(caller.roles, request.method, path)) return undefined
  return await reply.code(403).send({
    error: 'none of your groups may do this',
    hint: 'admin.groups, admin.viewers and admin.reviewers in the configuration say who may',
  })
}

/** What each role may ask for; whatever is not named here is the admins' alone. */
export function permits(roles: readonly AdminRole[], method: string, path: string): boolean {
  if (roles.includes('admin')) return true
  const reads = method === 'GET' || method === 'HEAD'
  if (reads && (path === '/v1/me' || path === '/v1/events')) return roles.length > 0
  // Whether a request is asked of one of the caller's groups, the approvals say themselves.
  const approvals = /^\/v1\/(approvals|grants)(\/|$)/.test(path)
  const decides = /^\/v1\/(approvals\/[^/]+\/(approve|reject)|grants(\/[^/]+\/approve)?)$/.test(
    path,
  )
  const revokes = method === 'DELETE' && /^\/v1\/grants\/[^/]+$/.test(path)
  if (approvals && (reads || revokes || (method === 'POST' && decides))) return roles.length > 0
  if (!roles.includes('viewer')) return false
  return reads || (method === 'POST' && path === '/v1/policy/try')
}

/** A browser says which site made it ask; whatever else asks says nothing. */
function isFromElsewhere({ headers }: FastifyRequest): boolean {
  const site = headers['sec-fetch-site']
  return site !== undefined && site !== 'same-origin' && site !== 'none'
}

function isLoopbackName(name: string): boolean {
  const bare = name.replace(/^\[|\]$/g, '').toLowerCase()
  return bare === 'localhost' || bare === '::1' || /^127(\.\d{1,3}){3}$/.test(bare)
}

/** Compares a bearer token with the one that is expected, in constant time. */
export function bearerMatches(request: FastifyRequest, token: string): boolean {
  const given = /^Bearer +(.+)$/i.exec(request.headers.authorization ?? '')?.[1]
  if (given === undefined || token === '') return false
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(token))
}
