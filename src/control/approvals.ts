/**
 * Approvals and grants over the admin API (shapes in docs/guides/approvals.md), and
 * the signed callback of a webhook's receiver, the one route that no login protects.
 *
 * A reviewer is who the admin API says is calling; a callback's reviewer is who the receiver says,
 * which is why it must be signed.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { z } from 'zod'
import {
  approveGrant,
  checkCallback,
  DecisionError,
  grantMsMax,
  grantStatementsMax,
  findDetail,
  findGrant,
  idPattern,
  makeGrant,
  listGrants,
  listRequests,
  takeNonce,
  revokeGrant,
  timestampSecondsMax,
  type ApprovalService,
  type RequestState,
  type Reviewer,
  type Signer,
} from '../approval/approval.ts'
import { ProxyError } from '../core/core.ts'
import { callerOf } from './admin.ts'
import { detailOf, grantOf, summaryOf } from './approvals-view.ts'

/** Where a webhook's receiver answers; behind no login. */
export const approvalCallbackPath = '/v1/approvals/callback'

export interface ApprovalRouteOptions {
  readonly service: ApprovalService
  /** Nothing was ever asked: lists are empty without a store being made. */
  readonly isUntouched: () => boolean
  /** Checks callbacks; null where no webhook is configured. */
  readonly signer: (() => Promise<Signer>) | null
  readonly log: (facts: Readonly<Record<string, unknown>>, message: string) => void
}

const text = (max: number) =>
  z
    .string()
    .max(max)
    .refine((value) => !value.includes('\0'), 'must hold no NUL')
const comment = text(4_000).nullish()
const reason = text(4_000).refine((value) => value.trim() !== '', 'must say why')
const name = text(500).min(1)

const bodies = {
  approve: z.strictObject({ comment }),
  reject: z.strictObject({ reason }),
  grant: z.strictObject({
    approval: z.string().regex(idPattern),
    scope: z.enum(['session', 'shape']),
    for_ms: z.int().min(1_000).max(grantMsMax),
    statements: z.int().min(1).max(grantStatementsMax),
    comment,
  }),
  callback: z.strictObject({
    approval: z.string().regex(idPattern),
    decision: z.enum(['approve', 'reject']),
    comment,
    by: z.strictObject({
      subject: name,
      user: name.nullish(),
      email: name.nullish(),
      groups: z.array(name).max(1_000),
    }),
  }),
}

const states = ['pending', 'approved', 'rejected', 'used', 'expired', 'withdrawn', 'void'] as const
const query = z.strictObject({
  state: z.string().default('pending'),
  session: text(200).optional(),
  subject: text(1_000).optional(),
  database: text(200).optional(),
  before: z.string().regex(idPattern).optional(),
  limit: z.coerce.number().int().min(1).max(500).default(100),
})

/** A fault of the one who asks: status, and what to say. */
class RouteError extends Error {
  readonly status: number
  readonly hint: string | undefined

  constructor(status: number, message: string, hint?: string) {
    super(message)
    this.status = status
    this.hint = hint
  }
}

/** Adds the routes. */
export function approvalRoutes(options: ApprovalRouteOptions): (app: FastifyInstance) => void {
  return (app) => {
    readRoutes(app, options)
    decideRoutes(app, options)
    grantRoutes(app, options)
    if (options.signer !== null) callbackRoute(app, options, options.signer)
  }
}

function readRoutes(app: FastifyInstance, { service, isUntouched }: ApprovalRouteOptions): void {
  app.get('/v1/approvals', (request, reply) =>
    answer(reply, async () => {
      const filter = parsed(query, request.query)
      const wanted = statesOf(filter.state)
      if (isUntouched()) return { approvals: [], next: null }
      const rows = await listRequests(service.store, {
        states: wanted,
        session: filter.session ?? null,
        subject: filter.subject ?? null,
        database: filter.database ?? null,
        before: filter.before ?? null,
        limit: filter.limit,
      })
      const reviewer = reviewerOf(request)
      return {
        approvals: rows.map((row) => summaryOf(row, reviewer, service.revision)),
        next: rows.length === filter.limit ? (rows.at(-1)?.id ?? null) : null,
      }
    }),
  )
  app.get<{ Params: { id: string } }>('/v1/approvals/:id', (request, reply) =>
    answer(reply, async () => {
      if (isUntouched()) throw new RouteError(404, 'there is no such request')
      return await detail(service, request.params.id, reviewerOf(request))
    }),
  )
}

function decideRoutes(app: FastifyInstance, { service, log }: ApprovalRouteOptions): void {
  for (const vote of ['approve', 'reject'] as const) {
    app.post<{ Params: { id: string } }>(`/v1/approvals/:id/${vote}`, (request, reply) =>
      answer(reply, async () => {
        const { id } = request.params
        const body = request.body ?? {}
        const said =
          vote === 'approve'
            ? (parsed(bodies.approve, body).comment ?? null)
            : parsed(bodies.reject, body).reason
        const reviewer = knownReviewer(request)
        if (!idPattern.test(id)) throw new RouteError(404, `there is no request ${id}`)
        await service.decide(id, reviewer, { vote, comment: said }, 'api')
        log({ approval: id, vote, by: reviewer.subject }, 'approval decided')
        return await detail(service, id, reviewer)
      }),
    )
  }
}

function grantRoutes(app: FastifyInstance, options: ApprovalRouteOptions): void {
  const { service, isUntouched, log } = options
  app.get<{ Querystring: { state?: string } }>('/v1/grants', (request, reply) =>
    answer(reply, async () => {
      const reviewer = reviewerOf(request)
      const rows = isUntouched()
        ? []
        : await listGrants(service.store, request.query.state !== 'all')
      return { grants: rows.map((row) => grantOf(row, reviewer)) }
    }),
  )
  app.get<{ Params: { id: string } }>('/v1/grants/:id', (request, reply) =>
    answer(reply, async () => {
      const row = isUntouched() ? null : await findGrant(service.store, request.params.id)
      if (row === null) throw new RouteError(404, `there is no grant ${request.params.id}`)
      return grantOf(row, reviewerOf(request))
    }),
  )
  app.post('/v1/grants', (request, reply) =>
    answer(reply, async () => {
      const { for_ms: forMs, comment: said, ...wish } = parsed(bodies.grant, request.body ?? {})
      const reviewer = knownReviewer(request)
      const made = await makeGrant(
        service,
        { ...wish, forMs, comment: said ?? null },
        reviewer,
        'api',
      )
      log({ grant: made.id, scope: made.scope, by: reviewer.subject }, 'grant made')
      reply.code(201)
      return grantOf(made, reviewer)
    }),
  )
  app.post<{ Params: { id: string } }>('/v1/grants/:id/approve', (request, reply) =>
    answer(reply, async () => {
      const said = parsed(bodies.approve, request.body ?? {}).comment ?? null
      const reviewer = knownReviewer(request)
      const row = await approveGrant(service, request.params.id, said, reviewer, 'api')
      return grantOf(row, reviewer)
    }),
  )
  app.delete<{ Params: { id: string } }>('/v1/grants/:id', (request, reply) =>
    answer(reply, async () => {
      const reviewer = knownReviewer(request)
      const roles = callerOf(request)?.roles
      const isOperator = roles === undefined || roles.includes('admin')
      const row = await revokeGrant(service, request.params.id, reviewer, 'api', isOperator)
      log({ grant: row.id, by: reviewer.subject }, 'grant revoked')
      return grantOf(row, reviewer)
    }),
  )
}

/** The exact bytes are what is signed, so this route parses its body by itself. */
function callbackRoute(
  app: FastifyInstance,
  { service, log }: ApprovalRouteOptions,
  signer: () => Promise<Signer>,
): void {
  void app.register((scope, _options, done) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser(
      'application/json',
      { parseAs: 'buffer' },
      (_request, body, parsedBody) => {
        parsedBody(null, body)
      },
    )
    scope.post(approvalCallbackPath, (request, reply) =>
      answer(reply, async () => {
        const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0)
        const checked = checkCallback(await signer(), request.headers, body, service.nowMs())
        if ('refused' in checked) {
          log({ address: request.ip, reason: checked.refused }, 'approval callback refused')
          throw new RouteError(401, checked.refused)
        }
        const said = parsed(bodies.callback, jsonOf(body))
        // As long as its timestamp could still be taken, from either side of now.
        const keepMs = timestampSecondsMax * 2_000
        if (!(await takeNonce(service.store, checked.nonce, keepMs))) {
          log({ address: request.ip, approval: said.approval }, 'approval callback was replayed')
          throw new RouteError(401, 'this callback was received before')
        }
        if (said.decision === 'reject' && (said.comment ?? '').trim() === '') {
          throw new RouteError(400, '"comment" must say why it is rejected')
        }
        const { subject, user = null, email = null, groups } = said.by
        const reviewer = { subject, user, email, groups, onBehalfOf: null }
        const wish = { vote: said.decision, comment: said.comment ?? null }
        const row = await service.decide(said.approval, reviewer, wish, 'webhook')
        log({ approval: row.id, vote: said.decision, by: subject }, 'approval decided by callback')
        return { id: row.id, state: row.state }
      }),
    )
    done()
  })
}

async function detail(
  service: ApprovalService,
  id: string,
  reviewer: Reviewer | null,
): Promise<object> {
  const row = idPattern.test(id) ? await findDetail(service.store, id) : null
  if (row === null) throw new RouteError(404, `there is no request ${id}`)
  return detailOf(row, await service.deliveries.of(id), reviewer, service.revision)
}

function reviewerOf(request: FastifyRequest): Reviewer | null {
  const caller = callerOf(request)
  if (caller === null) return null
  const { subject, groups, user = null, email = null, onBehalfOf = null } = caller
  return { subject, groups, user, email, onBehalfOf }
}

function knownReviewer(request: FastifyRequest): Reviewer {
  const reviewer = reviewerOf(request)
  if (reviewer !== null) return reviewer
  const hint = 'Set admin.oidc, or admin.token_env with admin.groups.'
  throw new RouteError(403, 'who decides must be known, and this API asks for no login', hint)
}

function statesOf(wish: string): readonly RequestState[] | null {
  if (wish === 'all') return null
  const wanted = wish.split(',')
  const known = states.filter((state) => wanted.includes(state))
  if (known.length !== wanted.length || known.length === 0) {
    throw new RouteError(400, `state: one or more of ${states.join(', ')}, or all`)
  }
  return known
}

function parsed<Shape>(schema: z.ZodType<Shape>, value: unknown): Shape {
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const said = result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`)
  throw new RouteError(400, said.join('; '))
}

function jsonOf(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch {
    throw new RouteError(400, 'the body is no JSON')
  }
}

const decisionStatus = { forbidden: 403, conflict: 409, missing: 404, invalid: 400 } as const

/** Faults as the guide lists them; everything else is the admin API's own to report. */
async function answer(reply: FastifyReply, work: () => Promise<object>): Promise<object> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof RouteError) {
      return await reply.code(error.status).send({ error: error.message, hint: error.hint })
    }
    if (error instanceof DecisionError) {
      return await reply.code(decisionStatus[error.kind]).send({ error: error.message })
    }
    if (error instanceof ProxyError) {
      const { message, detail: why, hint } = error
      return await reply.code(503).send({ error: `${message}: ${why ?? ''}`, hint })
    }
    throw error
  }
}
