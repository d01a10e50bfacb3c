/**
 * The face of `masking`: decision + lineage → plan (plan.ts), plan + the server's own description →
 * rewriter (bind.ts, row.ts, copy.ts). Sans-I/O; rows never leave with a field that the plan hides.
 */
export { maskedColumnsOf, planMasks, stronger, type MaskPlan, type OutputMask } from './plan.ts'
export { bindPlan, type BoundPlan, type ResultFormats } from './bind.ts'
export { RowRewriter } from './row.ts'
export { genericText, redactDiagnostics } from './diagnostics.ts'
export type { TypeSource } from './types.ts'
export { CopyRewriter } from './copy.ts'
export { ResultLimiter, RowBudgets, type RowsTaken, type Spend } from './limiter.ts'
export {
  detectorKinds,
  ValueDetectors,
  type DetectorKind,
  type DetectorOptions,
} from './detectors.ts'
