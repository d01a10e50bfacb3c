/**
 * Who may use the admin API: whoever has the configured token, or a token of the configured OIDC
 * issuer whose groups are among `admin.groups`, `admin.viewers` or `admin.reviewers`. Null is
 * everybody who can connect, which the configuration allows on loopback only.
 *
 * The console's people are the same: they sign in by the same issuer or with the same token, and the
 * same groups say what they may do.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { readSecret, type Configuration } from '../config/config.ts'
import type { FastifyRequest } from 'fastify'
import type { Person } from '../console/console.ts'
import {
  bearerMatches,
  type AdminCaller,
  type AdminOptions,
  type AdminRole,
} from '../control/control.ts'
import { systemClock } from '../core/core.ts'
import {
  identityOfClaims,
  oidcEntryDefaults,
  TokenVerifier,
  type OidcEntry,
} from '../identity/identity.ts'
import type { Identity, RevocationList } from '../identity/identity.ts'
import type { Environment } from './wiring.ts'

type Log = (message: string, facts: Readonly<Record<string, unknown>>) => void

export interface AdminAccess {
  readonly authenticate: AdminOptions['authenticate']
  /** A person of the console with what they may do; null for nobody that may do anything. */
  callerOf(person: Person): AdminCaller | null
  /** Who the admin token stands for; null without one. */
  readonly byToken: ((token: string) => Promise<Person | null>) | null
  /** Who an ID token's verified claims are; a sentence where it is nobody that may come in. */
  identify(claims: Readonly<Record<string, unknown>>): Person | string
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
  const verifier = new TokenVerifier({ clock: systemClock, revocations, log })
  const entry = oidc === null ? null : entryOf(oidc)
  const callerOf = (person: Person): AdminCaller | null => {
    const { subject, groups: of, user = null, email = null, onBehalfOf = null } = person
    const roles = rolesOf(of, configuration.admin)
    const caller = { subject, groups: of, user, email, onBehalfOf }
    // The token is the administrator's, whatever groups are named.
    if (subject === tokenSubject && token !== null) return { ...caller, roles: ['admin'] }
    return roles.length === 0 ? null : { ...caller, roles }
  }
  const tokenPerson: Person = { subject: tokenSubject, name: tokenSubject, groups }
  const authenticate = async (request: FastifyRequest): Promise<AdminCaller | null> => {
    if (token !== null && bearerMatches(request, await readSecret(token, environment))) {
      return callerOf(tokenPerson)
    }
    const bearer = /^Bearer +(\S+)$/i.exec(request.headers.authorization ?? '')?.[1]
    if (entry === null || bearer === undefined) return null
    const result = await verifier.verify(bearer, [entry])
    if (result.kind === 'rejected') {
      log('admin API: a token was refused', { reason: result.reason })
      return null
    }
    const person = personOf(result.identity)
    return person.subject === tokenSubject ? null : callerOf(person)
  }
  return {
    authenticate: token === null && oidc === null ? null : authenticate,
    callerOf,
    byToken:
      token === null
        ? null
        : async (given) =>
            sameSecret(given, await readSecret(token, environment)) ? tokenPerson : null,
    identify: (claims) => {
      if (entry === null) return 'No identity provider is configured.'
      const result = identityOfClaims(claims, entry)
      if (result.kind === 'unusable') return `Your account cannot be used: ${result.reason}.`
      const person = personOf(result.identity)
      if (revocations.refusesLogin(result.identity)) return 'Your access was revoked.'
      const known = person.subject !== tokenSubject && callerOf(person) !== null
      return known ? person : 'None of your groups may use this console.'
    },
    close: () => verifier.close(),
  }
}

/** With every name of theirs: nobody approves what they asked for under another. */
function personOf({ subject, user, email, groups, on_behalf_of: onBehalfOf }: Identity): Person {
  return { subject, name: email ?? subject, groups, user, email, onBehalfOf }
}

/** No person may be called so: the token's rights are not those of a name that an issuer gave. */
const tokenSubject = 'token'

function rolesOf(of: readonly string[], admin: Configuration['admin']): AdminRole[] {
  const lists: Readonly<Record<AdminRole, readonly string[]>> = {
    admin: admin.groups,
    viewer: admin.viewers,
    reviewer: admin.reviewers,
  }
  return (['admin', 'viewer', 'reviewer'] as const).filter((role) =>
    of.some((group) => lists[role].includes(group)),
  )
}

function entryOf(oidc: NonNullable<Configuration['admin']['oidc']>): OidcEntry {
  return {
    ...{ ...oidcEntryDefaults, method: 'oidc', issuer: oidc.issuer },
    audience: oidc.audience.length === 0 ? [oidc.clientId] : oidc.audience,
    groupsClaim: oidc.groupsClaim,
  }
}

function sameSecret(given: string, expected: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return expected !== '' && timingSafeEqual(digest(given), digest(expected))
}
