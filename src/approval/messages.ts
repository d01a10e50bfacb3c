/**
 * What crosses the border between a session and the approval service: plain JSON values only, so
 * that a call in one process and a message between two carry the same. Times are milliseconds.
 */
import type { Estimate } from '../policy/policy.ts'

/** Who asks: the facts of the identity that an approval binds. */
export interface Requester {
  readonly subject: string
  readonly user: string
  readonly email: string | null
  readonly groups: readonly string[]
  readonly type: 'human' | 'machine'
  readonly on_behalf_of: string | null
  readonly method: string
  /** The `iss` claim; null where there is none. */
  readonly issuer: string | null
}

/** So many people of these groups must say yes. */
export interface Requirement {
  readonly groups: readonly string[]
  readonly quorum: number
}

/** A Bind parameter for a reviewer's eyes: text as it came, else base64; null is NULL. */
export interface ShownParameter {
  readonly format: 'text' | 'binary'
  readonly value: string | null
}

/** What a reviewer sees beyond the statement itself; JSON that only people read. */
export interface ReviewFacts {
  readonly statements: readonly object[]
  readonly estimate: Estimate | null
  readonly settings: readonly {
    readonly name: string
    readonly from: string | null
    readonly to: string | null
  }[]
  readonly transaction: object
  readonly application_name: string
  readonly search_path: readonly string[] | 'unknown'
  readonly current_role: string
  readonly catalog: string
}

/** One statement (or query string) that wants to run and needs people to agree. */
export interface ApprovalAsk {
  /** Made by the asker: names this wait in `next` and `withdraw`. */
  readonly holdId: string
  /** SHA-256 of all that an approval is for (binding.ts); equal asks, equal binding. */
  readonly binding: string
  /** False where equal bytes may mean another thing in another session: only this wait may use it. */
  readonly shareable: boolean
  readonly identity: Requester
  readonly database: string
  /** Key of the upstream role. */
  readonly role: string
  readonly sessionId: string
  readonly clientAddress: string
  readonly revision: string
  readonly text: string
  readonly kind: string
  readonly count: number
  readonly parameters: readonly ShownParameter[] | null
  /** What a grant by shape compares: the text without its constants, else the text itself. */
  readonly shape: string
  /** The shape with all that decides what it means: role, search path, relations. */
  readonly shapeKey: string
  readonly rule: string
  readonly reason: string
  /** All of them must be met. */
  readonly requirements: readonly Requirement[]
  readonly waitMs: number
  readonly ttlMs: number
  readonly review: ReviewFacts
  /** Audit members of the session and the statement, as the statement's own records have them. */
  readonly auditMembers: string
}

/** Where a grant or an approval came from, for the policy's `input.approval` and the audit. */
export interface GivenApproval {
  readonly id: string
  readonly by: readonly string[]
  /** RFC 3339. */
  readonly at: string
  /** The grant that covered it; null for an approval of this very request. */
  readonly grant: string | null
}

export type RefusedBecause =
  | 'rejected'
  | 'expired'
  | 'withdrawn'
  /** What it was asked under has changed. */
  | 'void'
  /** `wait` is over; the request is still open. */
  | 'wait'
  /** regate stops; the request is still open. */
  | 'restart'
  | 'unavailable'
  | 'too_many'

/** What the asker is told, in this order: held, any number of news, then one of the other two. */
export type HoldEvent =
  | {
      readonly kind: 'held'
      readonly id: string
      readonly requirements: readonly Requirement[]
      readonly waitMs: number
      readonly ttlMs: number
      /** Where a reviewer can look at it; null where that is not known. */
      readonly link: string | null
    }
  | { readonly kind: 'news'; readonly message: string; readonly detail: string }
  | { readonly kind: 'approved'; readonly approval: GivenApproval }
  | {
      readonly kind: 'refused'
      readonly because: RefusedBecause
      /** Null where no request was made. */
      readonly id: string | null
      readonly message: string
      readonly detail: string
      readonly hint: string
    }

export type WithdrawReason = 'cancel' | 'disconnect' | 'terminate'

/** The service as a session sees it. Every call may be carried by a message. */
export interface ApprovalPort {
  /** Answers at once: held, or what was decided before. Never rejects for want of the store. */
  ask(ask: ApprovalAsk): Promise<HoldEvent>
  /** The next event of a wait that is `held`. */
  next(holdId: string): Promise<HoldEvent>
  /** Nobody waits any more. */
  withdraw(holdId: string, reason: WithdrawReason): Promise<void>
  /** An approval that was given for this wait was not used: what it was for has changed. */
  voided(holdId: string, approval: GivenApproval, why: string): Promise<void>
}
