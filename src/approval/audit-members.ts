/** Members of the audit records of approvals: `approval {id, outcome, by}`. */
import type { GivenApproval } from './messages.ts'
import type { Reviewer, Vote } from './people.ts'
import type { RequestRow } from './requests.ts'

const json = (value: unknown): string => JSON.stringify(value)

/** Of a wait in this process. */
export function heldMembers(
  id: string,
  ask: {
    readonly sessionId: string
    readonly database: string
    readonly subject?: string
    readonly identity?: { readonly subject: string }
    readonly binding: string
  },
  outcome: string,
  given: GivenApproval | null = null,
): string {
  const subject = ask.identity?.subject ?? ask.subject ?? ''
  const approval = {
    ...{ id, outcome, binding: ask.binding },
    ...(given === null ? {} : { by: given.by, grant: given.grant }),
  }
  return (
    `"session":${json(ask.sessionId)},"database":${json(ask.database)},` +
    `"identity":${json({ subject })},"approval":${json(approval)}`
  )
}

/** Of a row; `session` is where it runs, which may be another than where it was asked. */
export function rowMembers(row: RequestRow, outcome: string, session: string): string {
  const { id, binding, grant, votes } = row
  const by = votes.filter(({ vote }) => vote === 'approve').map((vote) => vote.by)
  const { subject, user } = row.document.identity
  // Who said what, when and through what is said again where it counts: the instance that took the
  // last vote may have died between its row and its record.
  const said = outcome === 'used' ? { votes: votes.map(saidBy) } : {}
  return (
    `"session":${json(session)},"database":${json(row.database)},` +
    `"identity":${json({ subject, user })},` +
    `"approval":${json({ id, outcome, by, binding, grant, ...said })}`
  )
}

function saidBy({ by, vote, at, via, comment }: Vote): object {
  return { by, vote, at, via, comment }
}

/** Of a reviewer's word. */
export function decidedMembers(
  row: RequestRow,
  vote: 'approve' | 'reject',
  reviewer: Reviewer,
  comment: string | null,
  via: string,
): string {
  const given = { subject: reviewer.subject, groups: reviewer.groups, via }
  return `${rowMembers(row, row.state, row.session)},"vote":${json(vote)},"reviewer":${json(given)},"comment":${json(comment)}`
}
