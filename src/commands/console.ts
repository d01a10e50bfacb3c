/**
 * The web console wired to the rest: who may sign in, what it shows live, what its sandbox asks.
 */
import { readSecret, type Configuration } from '../config/config.ts'
import { WebConsole, type Topic } from '../console/console.ts'
import {
  callerOf,
  consoleApiRoutes,
  permits,
  shownSession,
  type AdminOptions,
  type Health,
  type Observer,
  type PolicyKeeper,
  type TryAnswer,
  type TryQuestion,
} from '../control/control.ts'
import { systemClock } from '../core/core.ts'
import { AttemptLimiter, attemptLimitsOf, type RevocationList } from '../identity/identity.ts'
import type { SessionInfo } from '../server/server.ts'
import type { AdminAccess } from './admin-access.ts'
import type { Undo } from './undo.ts'
import type { Environment } from './wiring.ts'

export interface ConsoleParts {
  readonly configuration: Configuration
  readonly environment: Environment
  readonly access: AdminAccess
  readonly revocations: RevocationList
  readonly health: Health
  readonly keeper: PolicyKeeper
  readonly observer: Observer
  readonly version: string
  sessions(): Promise<readonly SessionInfo[]>
  /** Judges in a data plane. */
  judge(question: TryQuestion): Promise<TryAnswer>
  readonly log: (facts: Readonly<Record<string, unknown>>, message: string) => void
}

/** What the console adds to the options of the admin server. */
export async function startConsole(
  parts: ConsoleParts,
  undo: Undo,
): Promise<
  Pick<AdminOptions, 'authenticate' | 'isOpen' | 'hostNames'> & {
    routes: NonNullable<AdminOptions['routes']>
  }
> {
  const { configuration, access, revocations, log } = parts
  const { url, oidc } = configuration.admin
  const { authenticate } = access
  const open = authenticate === null
  const attempts = new AttemptLimiter(attemptLimitsOf(configuration.limits), systemClock)
  const web = await WebConsole.create({
    clock: systemClock,
    origin: url,
    isRevoked: ({ subject, user, onBehalfOf }, sinceMs) =>
      revocations.revokedSince([subject, user, onBehalfOf], sinceMs),
    oidc: oidc === null ? null : issuerOf(oidc, parts),
    byToken: access.byToken,
    attempts: {
      allows: (source) => attempts.allows(source, 'console'),
      failed: (source) => {
        attempts.failed(source, 'console')
      },
    },
    topics: topicsOf(parts),
    mayWatch: (request, _topic) => {
      const roles = callerOf(request)?.roles
      // What is live is read by whoever may read the pages it is for.
      return open || roles === undefined || permits(roles, 'GET', '/v1/sessions')
    },
    stillBears: async (request) => {
      if (authenticate === null) return true
      const roles = (await authenticate(request))?.roles
      return roles !== undefined && permits(roles, 'GET', '/v1/sessions')
    },
    log,
  })
  undo.push(() => {
    web.close()
  })
  return {
    isOpen: (path) => web.isOpen(path),
    hostNames: url === null ? [] : [new URL(url).hostname],
    authenticate:
      authenticate === null
        ? null
        : async (request) => {
            if (request.headers.authorization !== undefined) return await authenticate(request)
            const person = web.callerOf(request)
            return person === null ? null : access.callerOf(person)
          },
    routes: [
      (app) => {
        web.routes(app)
      },
      consoleApiRoutes({
        open,
        judge: (question) => parts.judge(question),
        known: () => ({
          databases: [...configuration.databases.keys()].filter((name) => name !== '*'),
          groups: groupsOf(parts.keeper),
        }),
      }),
    ],
  }
}

function issuerOf(
  oidc: NonNullable<Configuration['admin']['oidc']>,
  { access, environment }: ConsoleParts,
): NonNullable<Parameters<typeof WebConsole.create>[0]['oidc']> {
  const { issuer, clientId, clientSecret } = oidc
  return {
    ...{ issuer, clientId, scope: 'openid email profile' },
    clientSecret: async () =>
      clientSecret === null ? null : await readSecret(clientSecret, environment),
    identify: (claims) => access.identify(claims),
  }
}

function topicsOf(parts: ConsoleParts): ReadonlyMap<string, Topic> {
  const { observer, health, keeper, version } = parts
  const started = new Date().toISOString()
  return new Map<string, Topic>([
    [
      'overview',
      {
        everyMs: 2_000,
        read: () => ({
          ...{ version, started, ready: health.readiness },
          policy: {
            revision: keeper.policy.revision,
            activated: keeper.status.last_successful_activation,
            problem: keeper.status.code === null ? null : keeper.status.message,
          },
          ...observer.overview,
        }),
      },
    ],
    [
      'sessions',
      {
        everyMs: 1_000,
        read: async () => ({ sessions: (await parts.sessions()).map(shownSession) }),
      },
    ],
    ['rules', { everyMs: 2_000, read: () => ({ rules: observer.rules }) }],
  ])
}

/** Groups that the shipped pack's data knows; another pack's are typed in. */
function groupsOf(keeper: PolicyKeeper): readonly string[] {
  const regate = keeper.policy.data['regate']
  if (typeof regate !== 'object' || regate === null || !('groups' in regate)) return []
  const { groups } = regate
  return typeof groups === 'object' && groups !== null ? Object.keys(groups).sort() : []
}
