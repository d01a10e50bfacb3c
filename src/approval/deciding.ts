/**
 * A reviewer's word on one request: who may say it, and what follows from it. The row is written
 * under the version that was looked at, so a vote that lost a race is looked at again from the start.
 */
import { outdatedBecause } from './outdated.ts'
import { isMet, obstacleOf, reviewerNames, type Reviewer, type Vote } from './people.ts'
import * as requests from './requests.ts'
import type { RequestRow } from './requests.ts'
import type { Sql } from './store.ts'

/** A refusal of a reviewer's wish, for whoever asked. */
export class DecisionError extends Error {
  override readonly name = 'DecisionError'
  readonly kind: 'forbidden' | 'conflict' | 'missing' | 'invalid'

  constructor(kind: DecisionError['kind'], message: string) {
    super(message)
    this.kind = kind
  }
}

export interface Wish {
  readonly vote: 'approve' | 'reject'
  readonly comment: string | null
}

const retriesMax = 20

/**
 * Counts the vote; the row as it is then: void, and nothing counted, where nobody waits for it and a
 * yes could never be used, because the policy is of another revision now. Throws DecisionError, or approvals_unavailable. */
export async function castVote(
  sql: Sql,
  id: string,
  reviewer: Reviewer,
  wish: Wish,
  via: string,
  now: { readonly ms: number; readonly revision: string | null },
): Promise<RequestRow> {
  for (let attempt = 0; attempt < retriesMax; attempt++) {
    const before = await requests.findRequest(sql, id)
    if (before === null) throw new DecisionError('missing', `there is no request ${id}`)
    const { identity } = before.document
    const obstacle = obstacleOf(reviewer, identity, before.requirements, before.votes)
    if (obstacle?.kind === 'forbidden') throw new DecisionError('forbidden', obstacle.message)
    if (before.state !== 'pending') {
      throw new DecisionError(
        'conflict',
        `the request is ${before.state}: nothing is to be decided`,
      )
    }
    if (obstacle !== null) throw new DecisionError('conflict', obstacle.message)
    if (wish.vote === 'reject' && (wish.comment ?? '').trim() === '') {
      throw new DecisionError('invalid', 'a rejection must say why')
    }
    // Of one that a client waits for the session itself says what has changed, when the yes comes.
    const outdated = before.held ? null : outdatedBecause(before, now.revision)
    if (wish.vote === 'approve' && outdated !== null) {
      const row = await requests.voidOutdated(sql, before, outdated)
      if (row !== null) return row
      continue
    }
    const votes = [...before.votes, voteOf(reviewer, wish, via, now.ms)]
    const state =
      wish.vote === 'reject'
        ? 'rejected'
        : isMet(before.requirements, votes)
          ? 'approved'
          : 'pending'
    const outcome = state === 'pending' ? null : outcomeOf(state, votes, wish.comment)
    const after = await requests.vote(sql, before, votes, state, outcome)
    if (after !== null) return after
  }
  throw new DecisionError('conflict', 'too many people decide at once; try again')
}

/** The people who said yes. */
export function approversOf(votes: readonly Vote[]): readonly string[] {
  return votes.filter(({ vote }) => vote === 'approve').map(({ by }) => by)
}

/** A vote as it is stored. */
export function voteOf(reviewer: Reviewer, wish: Wish, via: string, nowMs: number): Vote {
  return {
    ...{ by: reviewer.subject, vote: wish.vote, at: new Date(nowMs).toISOString() },
    ...{ comment: wish.comment, via, names: reviewerNames(reviewer), groups: reviewer.groups },
  }
}

function outcomeOf(
  state: 'approved' | 'rejected',
  votes: readonly Vote[],
  comment: string | null,
): string {
  const last = votes.at(-1)?.by ?? ''
  if (state === 'rejected') return `rejected by ${last}: ${comment ?? ''}`
  return `approved by ${approversOf(votes).join(', ')}`
}
