/**
 * What the admin API has for the console beside what other parts give it:
 *
 *   GET  /v1/me             who is calling and what they may do
 *   GET  /v1/policy/try     databases and groups that the sandbox can be asked about
 *   POST /v1/policy/try     a statement judged, never run
 */
import type { FastifyInstance } from 'fastify'
import { callerOf } from './admin.ts'
import { trySchema, type TryAnswer, type TryQuestion } from './sandbox.ts'

export interface ConsoleRouteOptions {
  /** Nobody has to sign in: everybody who can connect may do everything. */
  readonly open: boolean
  judge(question: TryQuestion): Promise<TryAnswer>
  known(): { readonly databases: readonly string[]; readonly groups: readonly string[] }
}

/** Adds the routes. */
export function consoleApiRoutes(options: ConsoleRouteOptions): (app: FastifyInstance) => void {
  return (app) => {
    app.get('/v1/me', (request) => {
      const caller = callerOf(request)
      return {
        subject: caller?.subject ?? null,
        groups: caller?.groups ?? [],
        roles: options.open ? ['admin'] : (caller?.roles ?? []),
        signed_in: caller !== null,
      }
    })
    app.get('/v1/policy/try', () => options.known())
    app.post('/v1/policy/try', async (request, reply) => {
      const parsed = trySchema.safeParse(request.body)
      if (!parsed.success) {
        const [issue] = parsed.error.issues
        const error = `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'is not right'}`
        return await reply.code(400).send({ error, hint: null })
      }
      const { kind, ...answer } = await options.judge(parsed.data)
      return await reply.code(kind === 'judged' ? 200 : 422).send(answer)
    })
  }
}
