/**
 * Where a client that came in is connected to: the entry of its database, and the role that the connect
 * policy chose for it.
 */
import { ProxyError, type Clock } from '../core/core.ts'
import type { Identity } from '../identity/identity.ts'
import type { ConnectDecision, IdentityDocument, Judge } from '../policy/policy.ts'
import type { UpstreamRole, UpstreamTarget } from '../upstream/upstream.ts'
import type { CatalogPort } from '../session/session.ts'
import { settingName } from '../sql/sql.ts'
import type { AcceptedClient } from './handshake.ts'

/** One entry of `databases`, ready to use. */
export interface DatabaseEntry {
  /** Where a client that asked for `database` is connected to. */
  target(database: string): UpstreamTarget
  readonly roles: ReadonlyMap<string, UpstreamRole>
  readonly allowUnsupported: boolean
  /** The catalog of the database, loaded: a session begins when it is there. */
  catalog(database: string): Promise<OpenCatalog>
}

/** A catalog that a session uses until it releases it. */
export interface OpenCatalog extends CatalogPort {
  release(): void
}

export interface Destination {
  readonly entry: DatabaseEntry
  readonly decision: ConnectDecision
  readonly role: UpstreamRole
  readonly roleName: string
}

export interface DestinationOptions {
  /** The entry for a database name, null for one that is not served. */
  database(name: string): DatabaseEntry | null
  readonly judge: Judge
  readonly clock: Clock
}

/** Throws a ProxyError where the database is not served, or the policy says no or names no such role. */
export function destinationOf(client: AcceptedClient, options: DestinationOptions): Destination {
  const { startup, identity } = client
  const entry = options.database(startup.database)
  if (entry === null) {
    throw new ProxyError('invalid_authorization', `database "${startup.database}" does not exist`, {
      sqlstate: '3D000',
      hint: 'Ask for one of the databases that regate is configured to serve.',
    })
  }
  const decision = options.judge.connect({
    identity: identityDocument(identity),
    startup: Object.fromEntries([
      ...[...startup.parameters].map(([name, value]) => [settingName(name), value] as const),
      ['user', startup.user],
      ['database', startup.database],
    ]),
    clientAddress: client.address,
    nowMs: options.clock.nowMs(),
  })
  if (decision.action === 'deny') {
    const { reason, rule, hint } = decision
    throw new ProxyError('denied', reason, {
      sqlstate: '28000',
      ...(rule === '' ? {} : { detail: `Rule ${rule}.` }),
      ...(hint === '' ? {} : { hint }),
    })
  }
  const roleName = decision.role ?? 'default'
  const role = entry.roles.get(roleName)
  if (role === undefined) {
    throw new ProxyError(
      'policy_fault',
      `the policy chose the role "${roleName}", which is not configured`,
      {
        sqlstate: '28000',
        hint: `Add databases.<name>.roles.${roleName}, or change the connect policy.`,
      },
    )
  }
  return { entry, decision, role, roleName }
}

/** By `trust` anybody is whom they say: no name to put into pg_stat_activity as theirs. */
export function provenSubject(identity: Identity): string | null {
  return identity.method === 'trust' ? null : identity.subject
}

/** What a policy is told of who asks. */
export function identityDocument(identity: Identity): IdentityDocument {
  const { subject, user, email, groups, type, on_behalf_of, method, claims } = identity
  return { subject, user, email, groups, type, on_behalf_of, method, claims }
}
