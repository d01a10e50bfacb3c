/**
 * What the admin API has for the console beside what other parts give it:
 *
 *   GET  /v1/me             who is calling and what they may do
 *   GET  /v1/policy/try     databases and groups that the sandbox can be asked about
 *   POST /v1/policy/try     a statement judged, never run
 */
import type { FastifyInstance } from 'fastify'
import type { z } from 'zod'
import { callerOf } from './admin.ts'

export interface ConsoleRouteOptions<Question> {
  /** Nobody has to sign in: everybody who can connect may do everything. */
  readonly open: boolean
  readonly question: z.ZodType<Question>
  judge(question: Question): Promise<unknown>
  /** Words for an error of `judge`; null for a fault that is nobody's business. */
  problem(error: unknown): { readonly error: string; readonly hint: string | null } | null
  known(): { readonly databases: readonly string[]; readonly groups: readonly string[] }
}

/** Adds the routes. */
export function consoleApiRoutes<Question>(
  options: ConsoleRouteOptions<Question>,
): (app: FastifyInstance) => void {
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
      const parsed = options.question.safeParse(request.body)
      if (!parsed.success) {
        const [issue] = parsed.error.issues
        const error = `${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'is not right'}`
        return await reply.code(400).send({ error, hint: null })
      }
      try {
        return await options.judge(parsed.data)
      } catch (error) {
        const problem = options.problem(error)
        if (problem === null) throw error
        return await reply.code(422).send(problem)
      }
    })
  }
}
