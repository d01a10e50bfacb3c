/**
 * Who may use the admin API: whoever has the configured token, or a token of the configured OIDC
 * issuer whose groups are among `admin.groups`. Null is everybody who can connect, which the
 * configuration allows on loopback only.
 */
import { readSecret, type Configuration } from '../config/config.ts'
import { bearerMatches, type AdminCaller, type AdminOptions } from '../control/control.ts'
import { systemClock } from '../core/core.ts'
import { oidcEntryDefaults, TokenVerifier, type OidcEntry } from '../identity/identity.ts'
import type { RevocationList } from '../identity/identity.ts'
import type { Environment } from './wiring.ts'

type Log = (message: string, facts: Readonly<Record<string, unknown>>) => void

export interface AdminAccess {
  readonly authenticate: AdminOptions['authenticate']
  close(): Promise<void>
}

/** The check of the admin API; fetches the issuer's keys when the first token comes. */
export function adminAccess(
  configuration: Configuration,
  environment: Environment,
  revocations: RevocationList,
  log: Log,
): AdminAccess {
  const { token, oidc, groups } = configuration.admin
  if (token === null && oidc === null) {
    return { authenticate: null, close: () => Promise.resolve() }
  }
  const verifier = new TokenVerifier({ clock: systemClock, revocations, log })
  const entry: OidcEntry | null =
    oidc === null
      ? null
      : {
          ...{ ...oidcEntryDefaults, method: 'oidc', issuer: oidc.issuer },
          audience: oidc.audience.length === 0 ? [oidc.clientId] : oidc.audience,
          groupsClaim: oidc.groupsClaim,
        }
  return {
    authenticate: async (request): Promise<AdminCaller | null> => {
      if (token !== null && bearerMatches(request, await readSecret(token, environment))) {
        return { subject: 'token', groups }
      }
      const bearer = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
      if (entry === null || bearer === undefined) return null
      const result = await verifier.verify(bearer, [entry])
      if (result.kind === 'rejected') {
        log('admin API: a token was refused', { reason: result.reason })
        return null
      }
      const { identity } = result
      const allowed = identity.groups.some((group) => groups.includes(group))
      return allowed ? { subject: identity.subject, groups: identity.groups } : null
    },
    close: () => verifier.close(),
  }
}
