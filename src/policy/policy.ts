/**
 * The face of `policy`: a bundle's bytes → a loaded revision → decisions. Sans-I/O: bundles come as
 * bytes (control fetches them), time and estimates come with the facts.
 */
export type * from './decision.ts'
export { truncateUnits } from './decision.ts'
export {
  connectInput,
  statementInput,
  volatileClaims,
  type ApprovalDocument,
  type ConnectFacts,
  type Estimate,
  type IdentityDocument,
  type ParameterDocument,
  type SessionDocument,
  type ShapeFacts,
  type StatementFacts,
  type VolatileInputs,
} from './input.ts'
export {
  decodeConnectDecision,
  decodeMask,
  decodeStatementDecision,
  parseDuration,
} from './decode.ts'
export { fingerprintOf } from './fingerprint.ts'
export {
  EvaluationPending,
  Judge,
  LateAnswers,
  type Judgement,
  type JudgeOptions,
} from './judge.ts'
export { KnownPolicies, type Cost } from './known.ts'
export {
  connectEntrypoint,
  Policy,
  statementEntrypoint,
  type Declarations,
  type PolicyBundle,
  type PolicyOptions,
} from './loaded.ts'
export { readManifest, type Manifest } from './manifest.ts'
export { mergeData } from './merge.ts'
export {
  readBundle,
  readBundleFiles,
  unpackBundle,
  type BundleFiles,
  type ReadBundleOptions,
} from './bundle.ts'
export type { SigningAlgorithm, SigningOptions, VerificationKey } from './signature.ts'
export { TestModule, type TestOutcome } from './test-module.ts'
export { hostBuiltinNames } from './builtins.ts'
export {
  differs,
  isWider,
  Shadow,
  verdictOf,
  type ShadowDifference,
  type ShadowOptions,
  type ShadowStatus,
} from './shadow.ts'
