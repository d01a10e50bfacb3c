/** The face of `control`: what commands use of the control plane. */
export {
  bearerMatches,
  callerOf,
  permits,
  startAdmin,
  type AdminCaller,
  type AdminOptions,
  type AdminRole,
  type AdminServer,
} from './admin.ts'
export {
  freePort,
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
} from './embedded-postgres.ts'
export { Health, type Readiness } from './health.ts'
export { Metrics, type MetricDocument, type MetricSource } from './metrics.ts'
export { findOpa, runOpa, type Opa, type OpaRun, type OpaSearch } from './opa.ts'
export {
  buildBundle,
  ignoreParameters,
  sourceHash,
  sourceStamp,
  type BuildOptions,
} from './bundles-build.ts'
export {
  PolicyKeeper,
  readDataFiles,
  type BundleSource,
  type KeeperOptions,
  type PolicyStatus,
} from './bundles.ts'
export { serviceAgent, serviceHeaders, serviceUrl, type ServiceOptions } from './bundles-remote.ts'
export { mergeShadows, type ControlPort, type DataPlanePort, type PlaneReport } from './planes.ts'
export {
  bundleOf,
  policyDocument,
  primaryMethods,
  workerMethods,
  workerProtocol,
  type PolicyDocument,
  type PrimaryMethods,
  type WorkerMethods,
} from './workers-messages.ts'
export { WorkerApprovals } from './workers-approvals.ts'
export {
  Channel,
  RemoteFailure,
  type Handlers,
  type Methods,
  type Params,
  type Received,
} from './workers-rpc.ts'
export { workerRoutes, type WorkerInfo, type WorkerRouteOptions } from './workers-routes.ts'
export { Observer, type OverviewSample, type PlaneObservation, type RuleCount } from './observe.ts'
export { trySchema, type TryAnswer, type Tried, type TryQuestion } from './sandbox.ts'
export { consoleApiRoutes, type ConsoleRouteOptions } from './console-routes.ts'
export { auditRoutes, type AuditRouteOptions } from './audit.ts'
export { sessionRoutes, shownSession, type SessionRouteOptions } from './sessions.ts'
export { policyRoutes, type PolicyRoutesOptions } from './bundles-routes.ts'
export { startTracing } from './tracing-start.ts'
export { decisionEvent, DecisionLog, type DecisionLogOptions } from './decision-log.ts'
export { approvalCallbackPath, approvalRoutes, type ApprovalRouteOptions } from './approvals.ts'
