/** The face of `approval`: what the session and the control plane use of it. */
export type { Adapter, ApprovalEvent, ApprovalEventKind } from './adapter.ts'
export { bindingOf, type Bound } from './binding.ts'
export { DecisionError } from './deciding.ts'
export type { DeliveryRow } from './deliveries.ts'
export {
  approveGrant,
  grantMsMax,
  grantStatementsMax,
  makeGrant,
  revokeGrant,
  type GrantWish,
} from './granting.ts'
export { findGrant, listGrants, type GrantRow, type GrantState } from './grants.ts'
export { idPattern } from './ids.ts'
export type {
  ApprovalAsk,
  ApprovalPort,
  GivenApproval,
  HoldEvent,
  RefusedBecause,
  Requester,
  Requirement,
  ReviewFacts,
  ShownParameter,
  WithdrawReason,
} from './messages.ts'
export { outdatedBecause } from './outdated.ts'
export type { PayloadFormat } from './payloads.ts'
export { givenOf, obstacleOf, sayRequirements, type Reviewer, type Vote } from './people.ts'
export {
  findDetail,
  findRequest,
  listRequests,
  takeNonce,
  type RequestDetail,
  type RequestRow,
  type RequestState,
} from './requests.ts'
export { ApprovalService, type ApprovalOptions } from './service.ts'
export {
  checkCallback,
  ed25519Signer,
  headerNames,
  hmacSigner,
  signedHeaders,
  signedText,
  timestampSecondsMax,
  type Signer,
} from './signing.ts'
export { embeddedStore } from './store-embedded.ts'
export { postgresStore } from './store-postgres.ts'
export type { StoreDriver } from './store.ts'
export { sayDuration } from './texts.ts'
export { webhookAdapter } from './webhook.ts'
