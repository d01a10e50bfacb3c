/**
 * How reviewers are told. An adapter sends one message somewhere; when to send it, again and until
 * when, is deliveries.ts. A team's own adapter is an object of this shape.
 */
import type { RequestDetail } from './requests.ts'

/** `requested`: somebody waits. `closed`: nothing is to be decided any more. */
export type ApprovalEventKind = 'requested' | 'closed'

export interface ApprovalEvent {
  readonly kind: ApprovalEventKind
  /** The same for every attempt at this message: a receiver that has seen it does nothing. */
  readonly deliveryId: string
  readonly request: RequestDetail
  /** Where a reviewer can look at it; null where that is not known. */
  readonly link: string | null
}

export interface Adapter {
  /** Names it in deliveries, metrics and logs. */
  readonly name: string
  /** Sends one message; rejects with a reason that requester and operator may read. */
  send(event: ApprovalEvent, signal: AbortSignal): Promise<void>
  close?(): Promise<void>
}
