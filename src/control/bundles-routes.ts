/**
 * The policy's part of the admin API: what is active and since when, what the last load
 * said, the shadow's differences; reload and rollback. Runs behind the admin server's authentication.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { ShadowStatus } from '../policy/policy.ts'
import { callerOf } from './admin.ts'
import type { PolicyKeeper } from './bundles.ts'

export interface PolicyRoutesOptions {
  readonly keeper: PolicyKeeper
  /** Null where no candidate is configured. */
  readonly shadow: (() => Promise<ShadowStatus | null>) | null
  /** What was done and by whom; for the log. */
  readonly log: (facts: Readonly<Record<string, unknown>>, message: string) => void
}

/** GET /v1/policy, POST /v1/policy/reload, POST /v1/policy/rollback. */
export function policyRoutes(options: PolicyRoutesOptions): (app: FastifyInstance) => void {
  const { keeper, shadow, log } = options
  const report = async (): Promise<object> => {
    const { policy, status } = keeper
    const { inputs, onDemand, constants } = policy.declares
    return {
      revision: policy.revision,
      bundle: status,
      declares: { inputs: [...inputs], on_demand: [...onDemand], constants },
      classified_columns: policy.classified,
      shadow: shadow === null ? null : await shadow(),
    }
  }
  return (app) => {
    app.get('/v1/policy', report)
    const by = (request: FastifyRequest): string | null => callerOf(request)?.subject ?? null
    app.post('/v1/policy/reload', async (request, reply) => {
      log({ by: by(request) }, 'policy: a reload was asked for')
      try {
        const changed = await keeper.reload()
        return { changed, ...(await report()) }
      } catch (error) {
        const { message, detail, hint } = error as {
          message: string
          detail?: string
          hint?: string
        }
        return await reply.code(422).send({ error: message, detail, hint, ...(await report()) })
      }
    })
    app.post('/v1/policy/rollback', async (request, reply) => {
      const from = keeper.policy.revision
      if (await keeper.rollback()) {
        const { revision } = keeper.policy
        log({ by: by(request), from, revision }, 'policy: rolled back')
        return await report()
      }
      return await reply
        .code(409)
        .send({ error: 'there is no revision to go back to', ...(await report()) })
    })
  }
}
