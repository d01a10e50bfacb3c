/** The face of `approval`: what the session and the control plane use of it. */
export type { Adapter, ApprovalEvent, ApprovalEventKind } from './adapter.ts'
export { bindingOf, type Bound } from './binding.ts'
export type { DeliveryRow } from './deliveries.ts'
export {
  approveGrant,
  grantMsMax,
  grantStatementsMax,
  makeGrant,
  revokeGrant,
  type GrantWish,
} from './granting.ts'
export * as grants from './grants.ts'
export type { GrantRow, GrantState } from './grants.ts'
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
export type { PayloadFormat } from './payloads.ts'
export { givenOf, obstacleOf, sayRequirements, type Reviewer, type Vote } from './people.ts'
export * as requests from './requests.ts'
export type { RequestDetail, RequestRow, RequestState } from './requests.ts'
export { ApprovalService, DecisionError, type ApprovalOptions } from './service.ts'
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
