/** Approvals and grants as the admin API shows them (docs/guides/approvals.md). */
import {
  givenOf,
  obstacleOf,
  outdatedBecause,
  type DeliveryRow,
  type GrantRow,
  type RequestDetail,
  type RequestRow,
  type Requirement,
  type Reviewer,
  type Vote,
} from '../approval/approval.ts'

type Json = Record<string, unknown>

/** One row of a list; `reviewer` is who asks, null for nobody known. */
export function summaryOf(
  given: RequestRow,
  reviewer: Reviewer | null,
  revision: string | null,
): Json {
  const row = asOf(given, revision)
  const { document, requirements, votes } = row
  const { identity } = document
  const open = row.state === 'pending'
  return {
    id: row.id,
    state: row.state,
    held: row.held,
    created: row.created,
    expires: row.expires,
    decided: row.decided,
    identity: {
      subject: identity.subject,
      user: identity.user,
      email: identity.email,
      groups: identity.groups,
      type: identity.type,
      on_behalf_of: identity.on_behalf_of,
      method: identity.method,
    },
    database: row.database,
    role: document.role,
    session: row.session,
    client_address: document.clientAddress,
    statement: {
      text: row.statement,
      truncated: row.statementLength > [...row.statement].length,
      kind: document.kind,
      count: document.count,
    },
    rule: document.rule,
    reason: document.reason,
    requirements: requirements.map((requirement) => shownRequirement(requirement, votes)),
    votes: votes.map(shownVote),
    outcome: row.outcome,
    grant: row.grant,
    ...mayDecide(open, reviewer, () => obstacleFor(reviewer, row)),
  }
}

/** Everything a reviewer needs. */
export function detailOf(
  row: RequestDetail,
  deliveries: readonly DeliveryRow[],
  reviewer: Reviewer | null,
  revision: string | null,
): Json {
  const { review } = row
  return {
    ...summaryOf(row, reviewer, revision),
    parameters: review.parameters,
    statements: review.statements,
    estimate: review.estimate,
    settings: review.settings,
    transaction: review.transaction,
    application_name: review.application_name,
    search_path: review.search_path,
    current_role: review.current_role,
    policy_revision: row.document.revision,
    catalog: review.catalog,
    binding: row.binding,
    wait_ms: row.waitMs,
    ttl_ms: row.ttlMs,
    deliveries: deliveries.map(({ adapter, event, state, attempts, lastError, next }) => ({
      ...{ adapter, event, state, attempts, last_error: lastError, next },
    })),
  }
}

/** A request of another revision of the policy is void, whether or not that is stored already. */
function asOf(row: RequestRow, revision: string | null): RequestRow {
  const outcome = row.held ? null : outdatedBecause(row, revision)
  return outcome === null ? row : { ...row, state: 'void', outcome }
}

export function grantOf(grant: GrantRow, reviewer: Reviewer | null): Json {
  const { document, requirements, votes } = grant
  return {
    id: grant.id,
    state: grant.state,
    scope: grant.scope,
    shape: document.shape,
    session: document.session,
    identity: document.identity,
    database: document.database,
    role: document.role,
    request: document.request,
    statements: grant.statements,
    used: grant.used,
    created: grant.created,
    expires: grant.expires,
    requirements: requirements.map((requirement) => shownRequirement(requirement, votes)),
    votes: votes.map(shownVote),
    comment: document.comment,
    revoked_by: grant.revokedBy,
    ...mayDecide(grant.state === 'pending', reviewer, () =>
      reviewer === null
        ? null
        : (obstacleOf(reviewer, document.identity, requirements, votes)?.message ?? null),
    ),
  }
}

function obstacleFor(reviewer: Reviewer | null, row: RequestRow): string | null {
  if (reviewer === null) return null
  const { document, requirements, votes } = row
  return obstacleOf(reviewer, document.identity, requirements, votes)?.message ?? null
}

function mayDecide(open: boolean, reviewer: Reviewer | null, obstacle: () => string | null): Json {
  const because = !open
    ? 'nothing is to be decided'
    : reviewer === null
      ? 'who you are is not known here: admin.oidc or admin.token_env'
      : obstacle()
  return { may_decide: because === null, may_not_because: because }
}

function shownRequirement(requirement: Requirement, votes: readonly Vote[]): Json {
  return { ...requirement, given: givenOf(requirement, votes) }
}

function shownVote({ by, vote, at, comment, via }: Vote): Json {
  return { by, vote, at, comment, via }
}
