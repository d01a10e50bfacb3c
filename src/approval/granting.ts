/**
 * People's word for more than one statement: made from a request that they see, voted on like one,
 * revoked at once. Only who may approve the request may grant what it stands for, and never for
 * themselves.
 */
import { DecisionError, voteOf } from './deciding.ts'
import * as store from './grants.ts'
import type { GrantRow } from './grants.ts'
import { newId } from './ids.ts'
import { isAsked, isMet, obstacleOf, type Reviewer } from './people.ts'
import { findRequest, type RequestState } from './requests.ts'
import type { ApprovalService } from './service.ts'

export interface GrantWish {
  /** The request that it is asked from. */
  readonly approval: string
  readonly scope: 'session' | 'shape'
  readonly forMs: number
  readonly statements: number
  readonly comment: string | null
}

export const grantMsMax = 24 * 60 * 60 * 1_000
export const grantStatementsMax = 100_000
const retriesMax = 20

/** A request that was said no to, or that nobody stands behind any more, is made no rule of. */
const grantable: ReadonlySet<RequestState> = new Set(['pending', 'approved', 'used'])

const json = (value: unknown): string => JSON.stringify(value)

/** Makes a grant; active at once where one person's word is enough. Throws DecisionError. */
export async function makeGrant(
  service: ApprovalService,
  wish: GrantWish,
  reviewer: Reviewer,
  via: string,
): Promise<GrantRow> {
  const sql = service.store
  const request = await findRequest(sql, wish.approval)
  if (request === null) throw new DecisionError('missing', `there is no request ${wish.approval}`)
  const { document, requirements, database, session } = request
  const obstacle = obstacleOf(reviewer, document.identity, requirements, [])
  if (obstacle !== null) throw new DecisionError(obstacle.kind, obstacle.message)
  if (!grantable.has(request.state)) {
    const message = `the request is ${request.state}: what people have not agreed to is no model`
    throw new DecisionError('conflict', message)
  }
  if (wish.scope === 'shape' && !document.shareable) {
    const message = 'what the statement means depends on names of its session: grant the session'
    throw new DecisionError('conflict', message)
  }
  const vote = { vote: 'approve', comment: wish.comment } as const
  const votes = [voteOf(reviewer, vote, via, service.nowMs())]
  const target = wish.scope === 'session' ? session : document.shapeKey
  const grant = await store.insertGrant(sql, {
    id: newId(service.nowMs()),
    state: isMet(requirements, votes) ? 'active' : 'pending',
    ...{ forMs: wish.forMs, scope: wish.scope, statements: wish.statements, requirements, votes },
    owner: store.grantOwner({ ...document, database }),
    target: store.grantTarget(wish.scope, target),
    document: {
      ...{ identity: document.identity, database, role: document.role, request: request.id },
      session: wish.scope === 'session' ? session : null,
      shape: wish.scope === 'shape' ? document.shape : null,
      comment: wish.comment,
    },
  })
  await record(service, 'grant_created', grant, reviewer, via)
  return grant
}

/** One more vote for a grant whose quorum is above one. Throws DecisionError. */
export async function approveGrant(
  service: ApprovalService,
  id: string,
  comment: string | null,
  reviewer: Reviewer,
  via: string,
): Promise<GrantRow> {
  for (let attempt = 0; attempt < retriesMax; attempt++) {
    const before = await store.findGrant(service.store, id)
    if (before === null) throw new DecisionError('missing', `there is no grant ${id}`)
    const { document, requirements, votes } = before
    const obstacle = obstacleOf(reviewer, document.identity, requirements, votes)
    if (obstacle !== null) throw new DecisionError(obstacle.kind, obstacle.message)
    if (before.state !== 'pending') {
      throw new DecisionError('conflict', `the grant is ${before.state}: nothing is to be decided`)
    }
    const more = [...votes, voteOf(reviewer, { vote: 'approve', comment }, via, service.nowMs())]
    const state = isMet(requirements, more) ? 'active' : 'pending'
    const after = await store.voteGrant(service.store, before, more, state)
    if (after === null) continue
    await record(service, 'grant_decided', after, reviewer, via)
    return after
  }
  throw new DecisionError('conflict', 'too many people decide at once; try again')
}

/** Ends a grant: whoever may approve, and the operator. Throws DecisionError. */
export async function revokeGrant(
  service: ApprovalService,
  id: string,
  reviewer: Reviewer,
  via: string,
  isOperator = false,
): Promise<GrantRow> {
  const known = await store.findGrant(service.store, id)
  if (known === null) throw new DecisionError('missing', `there is no grant ${id}`)
  if (!isOperator && !isAsked(reviewer, known.requirements)) {
    const message = 'only who may approve what it covers, and an administrator, may revoke a grant'
    throw new DecisionError('forbidden', message)
  }
  const grant = await store.revokeGrant(service.store, id, reviewer.subject)
  if (grant === null) throw new DecisionError('conflict', 'the grant is revoked already')
  await record(service, 'grant_revoked', grant, reviewer, via)
  return grant
}

async function record(
  service: ApprovalService,
  type: string,
  grant: GrantRow,
  reviewer: Reviewer,
  via: string,
): Promise<void> {
  const { id, state, scope, statements, used, expires, document } = grant
  const { identity, database, request, session, shape, comment } = document
  const about = { id, state, scope, session, shape, statements, used, expires, request }
  service.auditLog.append(
    type,
    `"database":${json(database)},"identity":${json({ subject: identity.subject, user: identity.user })},` +
      `"grant":${json(about)},"reviewer":${json({ subject: reviewer.subject, groups: reviewer.groups, via })},` +
      `"comment":${json(comment)}`,
  )
  await service.auditLog.commit()
}
