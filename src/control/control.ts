/** The face of `control`: what commands use of the control plane. */
export {
  bearerMatches,
  callerOf,
  startAdmin,
  type AdminCaller,
  type AdminOptions,
  type AdminServer,
} from './admin.ts'
export {
  freePort,
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
} from './embedded-postgres.ts'
export { Health, type Readiness } from './health.ts'
export { Metrics, type MetricDocument, type MetricSource, type PlaneNumbers } from './metrics.ts'
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
export { sessionRoutes, type SessionRouteOptions } from './sessions.ts'
export { policyRoutes, type PolicyRoutesOptions } from './bundles-routes.ts'
export { decisionEvent, DecisionLog, type DecisionLogOptions } from './decision-log.ts'
