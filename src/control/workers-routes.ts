/**
 * Workers over the admin API:
 *
 *   GET  /v1/workers          the worker processes: state, version, policy, sessions
 *   POST /v1/workers/reload   replaces them one by one by new ones, without ending a session
 *
 * With `workers: 1` the list is empty and there is nothing to replace.
 */
import type { FastifyInstance } from 'fastify'
import { callerOf } from './admin.ts'

/** What is shown of a worker. */
export interface WorkerInfo {
  readonly name: string
  readonly pid: number
  readonly state: string
  readonly version: string
  readonly revision: string
  readonly started: string
  readonly sessions: number
}

export interface WorkerRouteOptions {
  /** Null with one process. */
  readonly workers: { list(): readonly WorkerInfo[]; roll(): Promise<void> } | null
  readonly log: (facts: Readonly<Record<string, unknown>>, message: string) => void
}

/** Adds the routes. */
export function workerRoutes(options: WorkerRouteOptions): (app: FastifyInstance) => void {
  const { workers, log } = options
  return (app) => {
    app.get('/v1/workers', async () => Promise.resolve({ workers: workers?.list() ?? [] }))
    app.post('/v1/workers/reload', async (request, reply) => {
      if (workers === null) {
        return await reply.code(409).send({ error: 'workers is 1: there is no worker to replace' })
      }
      log({ by: callerOf(request)?.subject ?? null }, 'workers are replaced')
      try {
        await workers.roll()
        return await reply.send({ workers: workers.list() })
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error)
        return await reply.code(500).send({ error: message, workers: workers.list() })
      }
    })
  }
}
