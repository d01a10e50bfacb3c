/**
 * What the session needs of approvals: to ask, to be told, to withdraw. Who decides, where it is
 * stored and who is notified is behind the port.
 */
import type { Refusal } from '../gate/gate.ts'
import type { Admitted } from '../gate/gate.ts'
import type { ApprovalDocument, IdentityDocument, SessionDocument } from '../policy/policy.ts'

/** What an approval binds (contract: exact text, parameters, identity, database, role, revision). */
export interface HoldRequest {
  readonly sessionId: string
  readonly clientAddress: string
  readonly identity: IdentityDocument
  readonly session: SessionDocument
  /** The whole query string as sent. */
  readonly text: string
  /** Parameters of the portal as sent, with their format codes; null for a simple query. */
  readonly parameters: readonly (Buffer | null)[] | null
  readonly parameterFormats: readonly number[]
  readonly statements: readonly Admitted[]
  /** The statement whose decision asks. */
  readonly asking: Admitted
  /** Content hash of the catalog it was judged on. */
  readonly catalogFingerprint: string
  readonly transaction: SessionDocument['transaction']
}

export type HoldOutcome =
  | { readonly kind: 'approved'; readonly approval: ApprovalDocument }
  /** Rejected, expired, withdrawn, `wait` over, store away: contract §5 says with which text. */
  | { readonly kind: 'refused'; readonly refusal: Refusal }

export interface Hold {
  readonly id: string
  /** The NoticeResponse that the client gets at once; null where the answer was there already. */
  readonly notice: {
    readonly message: string
    readonly detail: string
    readonly hint: string
  } | null
  readonly outcome: Promise<HoldOutcome>
  /** The client cancelled, closed or went away. */
  withdraw(reason: 'cancel' | 'disconnect' | 'terminate'): void
}

export interface HoldPort {
  request(request: HoldRequest): Hold
}
