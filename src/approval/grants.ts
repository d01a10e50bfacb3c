/**
 * Grants in the store: people's word for more than one statement, of one session or of one shape,
 * for a time and a number. Bound to the same identity, database, role and policy revision as the
 * request that it was asked from; counted in one UPDATE, so that the number holds everywhere.
 */
import { createHash } from 'node:crypto'
import type { Requester, Requirement } from './messages.ts'
import type { Vote } from './people.ts'
import type { Sql } from './store.ts'

export type GrantState = 'pending' | 'active' | 'used' | 'expired' | 'revoked'

export interface GrantDocument {
  readonly identity: Requester
  readonly database: string
  readonly role: string
  readonly session: string | null
  readonly shape: string | null
  readonly request: string
  readonly comment: string | null
}

export interface GrantRow {
  readonly id: string
  readonly state: GrantState
  readonly version: number
  readonly created: string
  readonly expires: string
  readonly scope: 'session' | 'shape'
  readonly statements: number
  readonly used: number
  readonly requirements: readonly Requirement[]
  readonly votes: readonly Vote[]
  readonly document: GrantDocument
  readonly revokedBy: string | null
}

const time = (column: string): string =>
  `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`

const columns = `g.id, CASE WHEN g.state = 'revoked' THEN g.state
    WHEN g.expires <= clock_timestamp() THEN 'expired'
    WHEN g.used >= g.statements THEN 'used' ELSE g.state END AS state,
  g.version, ${time('g.created')} AS created, ${time('g.expires')} AS expires, g.scope,
  g.statements, g.used, g.requirements, g.votes, g.document, g.revoked_by AS "revokedBy"`

const hash = (parts: readonly unknown[]): string =>
  createHash('sha256').update(JSON.stringify(parts)).digest('hex')

/** Who, where and under which policy: an ask must have the same. */
export function grantOwner(ask: {
  readonly identity: Requester
  readonly database: string
  readonly role: string
  readonly revision: string
}): string {
  const { subject, on_behalf_of, method, issuer } = ask.identity
  return hash([
    'grant',
    subject,
    on_behalf_of,
    method,
    issuer,
    ask.database,
    ask.role,
    ask.revision,
  ])
}

/** What a grant covers. */
export function grantTarget(scope: 'session' | 'shape', value: string): string {
  return hash([scope, value])
}

export async function insertGrant(
  sql: Sql,
  grant: {
    readonly id: string
    readonly state: 'pending' | 'active'
    readonly forMs: number
    readonly scope: 'session' | 'shape'
    readonly owner: string
    readonly target: string
    readonly statements: number
    readonly requirements: readonly Requirement[]
    readonly votes: readonly Vote[]
    readonly document: GrantDocument
  },
): Promise<GrantRow> {
  const rows = await sql.query<GrantRow>(
    `INSERT INTO regate.approval_grant AS g
       (id, state, expires, for_ms, scope, owner, target, statements, requirements, votes, document)
     VALUES ($1, $2, clock_timestamp() + $3::float8 * interval '1 millisecond', $3::float8, $4, $5, $6,
       $7::int, $8::jsonb, $9::jsonb, $10::json)
     RETURNING ${columns}`,
    [
      ...[grant.id, grant.state, grant.forMs, grant.scope, grant.owner, grant.target],
      ...[grant.statements, JSON.stringify(grant.requirements), JSON.stringify(grant.votes)],
      JSON.stringify(grant.document),
    ],
  )
  return rows[0] as GrantRow
}

/** Active grants that name this ask's session or shape. */
export async function grantsFor(
  sql: Sql,
  owner: string,
  targets: readonly string[],
): Promise<readonly GrantRow[]> {
  return await sql.query<GrantRow>(
    `SELECT ${columns} FROM regate.approval_grant g
     WHERE g.owner = $1 AND g.target IN ($2, $3) AND g.state = 'active'
       AND g.expires > clock_timestamp() AND g.used < g.statements
     ORDER BY g.id LIMIT 20`,
    [owner, targets[0] ?? '', targets[1] ?? ''],
  )
}

/** Counts one use; false where the grant is used up, over or revoked by now. */
export async function countUse(sql: Sql, id: string): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE regate.approval_grant g SET used = g.used + 1
     WHERE g.id = $1 AND g.state = 'active' AND g.used < g.statements
       AND g.expires > clock_timestamp()
     RETURNING g.used`,
    [id],
  )
  return rows.length === 1
}

export async function voteGrant(
  sql: Sql,
  before: GrantRow,
  votes: readonly Vote[],
  state: 'pending' | 'active',
): Promise<GrantRow | null> {
  const rows = await sql.query<GrantRow>(
    `UPDATE regate.approval_grant g
     SET votes = $3::jsonb, state = $4, version = g.version + 1,
       expires = CASE WHEN $4 = 'active'
         THEN clock_timestamp() + g.for_ms * interval '1 millisecond' ELSE g.expires END
     WHERE g.id = $1 AND g.version = $2 AND g.state = 'pending' AND g.expires > clock_timestamp()
     RETURNING ${columns}`,
    [before.id, before.version, JSON.stringify(votes), state],
  )
  return rows[0] ?? null
}

export async function revokeGrant(sql: Sql, id: string, by: string): Promise<GrantRow | null> {
  const rows = await sql.query<GrantRow>(
    `UPDATE regate.approval_grant g SET state = 'revoked', revoked_by = $2, version = g.version + 1
     WHERE g.id = $1 AND g.state <> 'revoked' RETURNING ${columns}`,
    [id, by],
  )
  return rows[0] ?? null
}

export async function findGrant(sql: Sql, id: string): Promise<GrantRow | null> {
  const rows = await sql.query<GrantRow>(
    `SELECT ${columns} FROM regate.approval_grant g WHERE g.id = $1`,
    [id],
  )
  return rows[0] ?? null
}

/** Newest first; only those that can still cover something, or all. */
export async function listGrants(sql: Sql, open: boolean): Promise<readonly GrantRow[]> {
  return await sql.query<GrantRow>(
    `SELECT ${columns} FROM regate.approval_grant g
     WHERE NOT $1::boolean OR (g.state <> 'revoked' AND g.expires > clock_timestamp()
       AND g.used < g.statements)
     ORDER BY g.id DESC LIMIT 500`,
    [open],
  )
}
