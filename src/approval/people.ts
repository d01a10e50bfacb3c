/**
 * Who may decide. One human may have several identities (a login of her own, an agent that acts on
 * her behalf, the same address under two methods), so people are compared by every name that an
 * identity carries: whoever shares one with the requester is the requester, and counts once.
 */
import type { Requester, Requirement } from './messages.ts'

/** Someone who decides, as the admin API or an adapter has authenticated them. */
export interface Reviewer {
  readonly subject: string
  readonly user: string | null
  readonly email: string | null
  readonly onBehalfOf: string | null
  readonly groups: readonly string[]
}

export interface Vote {
  /** The reviewer's subject. */
  readonly by: string
  readonly vote: 'approve' | 'reject'
  readonly at: string
  readonly comment: string | null
  /** `api`, or the adapter it came through. */
  readonly via: string
  /** Every name of the reviewer, folded. */
  readonly names: readonly string[]
  readonly groups: readonly string[]
}

function folded(names: readonly (string | null)[]): string[] {
  const all = names.filter((name) => name !== null && name !== '')
  return [...new Set(all.map((name) => String(name).normalize('NFKC').trim().toLowerCase()))]
}

/** Every name of a reviewer. */
export function reviewerNames(reviewer: Reviewer): string[] {
  return folded([reviewer.subject, reviewer.user, reviewer.email, reviewer.onBehalfOf])
}

/** Every name of a requester. */
export function requesterNames(requester: Requester): string[] {
  return folded([requester.subject, requester.user, requester.email, requester.on_behalf_of])
}

/** How many people have met a requirement. */
export function givenOf(requirement: Requirement, votes: readonly Vote[]): number {
  return votes.filter(
    ({ vote, groups }) => vote === 'approve' && shares(groups, requirement.groups),
  ).length
}

/** Every requirement has its quorum. */
export function isMet(requirements: readonly Requirement[], votes: readonly Vote[]): boolean {
  return (
    requirements.length > 0 &&
    requirements.every((requirement) => givenOf(requirement, votes) >= requirement.quorum)
  )
}

/** Somebody of this reviewer's groups is asked. */
export function isAsked(reviewer: Reviewer, requirements: readonly Requirement[]): boolean {
  return requirements.some(({ groups }) => shares(reviewer.groups, groups))
}

/** The same people are asked, in the same numbers. */
export function asksTheSame(some: readonly Requirement[], others: readonly Requirement[]): boolean {
  const said = (list: readonly Requirement[]): string =>
    JSON.stringify(list.map(({ groups, quorum }) => [[...groups].sort(), quorum]))
  return said(some) === said(others)
}

/** Why this reviewer may not decide, with what kind of error it is; null where they may. */
export function obstacleOf(
  reviewer: Reviewer,
  requester: Requester,
  requirements: readonly Requirement[],
  votes: readonly Vote[],
): { readonly kind: 'forbidden' | 'conflict'; readonly message: string } | null {
  const names = reviewerNames(reviewer)
  if (names.length === 0) return { kind: 'forbidden', message: 'a reviewer needs a name' }
  if (shares(names, requesterNames(requester))) {
    return { kind: 'forbidden', message: 'nobody decides on a request of their own' }
  }
  if (!isAsked(reviewer, requirements)) {
    const groups = [...new Set(requirements.flatMap((requirement) => requirement.groups))]
    return { kind: 'forbidden', message: `only members of ${groups.join(', ')} may decide` }
  }
  if (votes.some((vote) => shares(vote.names, names))) {
    return { kind: 'conflict', message: 'you have voted already; a quorum is of different people' }
  }
  return null
}

/** Requirements as people say them: `dba (2 needed) and security (1 needed)`. */
export function sayRequirements(requirements: readonly Requirement[]): string {
  return requirements
    .map(({ groups, quorum }) => `${groups.join(' or ')} (${String(quorum)} needed)`)
    .join(' and of ')
}

function shares(some: readonly string[], others: readonly string[]): boolean {
  return some.some((name) => others.includes(name))
}
