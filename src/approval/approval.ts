/** The face of `approval`: what the session and the control plane use of it. */
export type { Adapter, ApprovalEvent, ApprovalEventKind } from './adapter.ts'
export { bindingOf, type Bound } from './binding.ts'
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
export { givenOf, obstacleOf, sayRequirements, type Reviewer, type Vote } from './people.ts'
export { ApprovalService, DecisionError, type ApprovalOptions } from './service.ts'
export { sayDuration } from './texts.ts'
