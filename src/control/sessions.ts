/**
 * Sessions and revocations over the admin API:
 *
 *   GET    /v1/sessions                 who is connected, as whom, since when
 *   DELETE /v1/sessions/{id}            ends a session between two statements
 *   GET    /v1/revocations              subjects that are revoked
 *   POST   /v1/revocations              { "subject": "ann" [, "until": "<RFC 3339>"] }
 *   DELETE /v1/revocations/{subject}    takes it back
 *
 * A claim of a token is never shown: the list is for finding a session, not for reading tokens.
 */
import type { FastifyInstance } from 'fastify'
import { z } from 'zod'
import type { Revocation, RevocationList } from '../identity/identity.ts'
import type { SessionInfo } from '../server/server.ts'
import { callerOf } from './admin.ts'

export interface SessionRouteOptions {
  sessions(): Promise<readonly SessionInfo[]>
  readonly revocations: RevocationList
  /** Resolves when every process knows the changes of `revocations` made so far, and they are saved. */
  applied(): Promise<unknown>
  /** What was done and by whom; for the log. */
  readonly log: (facts: Readonly<Record<string, unknown>>, message: string) => void
}

const revocationSchema = z.strictObject({
  subject: z.string().min(1).max(1_000),
  until: z.iso.datetime({ offset: true }).nullable().default(null),
})

/** Adds the routes. */
export function sessionRoutes(options: SessionRouteOptions): (app: FastifyInstance) => void {
  const { revocations, log } = options
  return (app) => {
    app.get('/v1/sessions', async () => {
      return { sessions: (await options.sessions()).map(shownSession) }
    })
    app.delete<{ Params: { id: string } }>('/v1/sessions/:id', async (request, reply) => {
      const { id } = request.params
      if (!(await options.sessions()).some((session) => session.id === id)) {
        return await reply.code(404).send({ error: `there is no session ${id}` })
      }
      revocations.revokeSession(id)
      await options.applied()
      log({ session: id, by: callerOf(request)?.subject ?? null }, 'session revoked')
      return await reply.code(202).send({ session: id })
    })
    app.get('/v1/revocations', () => ({ revocations: revocations.list().map(shownRevocation) }))
    app.post('/v1/revocations', async (request, reply) => {
      const parsed = revocationSchema.safeParse(request.body)
      if (!parsed.success) {
        return await reply.code(400).send({
          error: '{"subject": "…"} is expected, and "until" as an RFC 3339 time if it is to last',
        })
      }
      const { subject, until } = parsed.data
      const made = revocations.revokeSubject(subject, until === null ? null : Date.parse(until))
      log({ subject, until, by: callerOf(request)?.subject ?? null }, 'subject revoked')
      if (!(await saved(options))) return await reply.code(500).send({ error: unsaved })
      return await reply.code(201).send(shownRevocation(made))
    })
    app.delete<{ Params: { subject: string } }>(
      '/v1/revocations/:subject',
      async (request, reply) => {
        const { subject } = request.params
        revocations.restoreSubject(subject)
        log({ subject, by: callerOf(request)?.subject ?? null }, 'revocation taken back')
        if (!(await saved(options))) return await reply.code(500).send({ error: unsaved })
        return await reply.code(200).send({ subject })
      },
    )
  }
}

const unsaved =
  'it is in force, but could not be saved (the log says why): a restart of regate forgets it'

async function saved(options: SessionRouteOptions): Promise<boolean> {
  return await options.applied().then(
    () => true,
    () => false,
  )
}

/** A session as the API shows it. */
export function shownSession(session: SessionInfo): Record<string, unknown> {
  const { identity } = session
  const { subject, user, email, groups, type, on_behalf_of, method, expiresAtMs } = identity
  return {
    id: session.id,
    identity: { subject, user, email, groups, type, on_behalf_of, method },
    database: session.database,
    role: session.role,
    client_address: session.clientAddress,
    started: new Date(session.startedMs).toISOString(),
    expires: expiresAtMs === null ? null : new Date(expiresAtMs).toISOString(),
    transaction: session.transaction,
    waiting: session.waiting,
    process_id: session.processId,
    bytes: { from_client: session.clientBytes, from_upstream: session.upstreamBytes },
  }
}

function shownRevocation(revocation: Revocation): Record<string, unknown> {
  const at = new Date(revocation.atMs).toISOString()
  if (revocation.kind === 'session') return { session: revocation.session, at }
  const { subject, untilMs } = revocation
  return { subject, at, until: untilMs === null ? null : new Date(untilMs).toISOString() }
}
