/** The face of `core`: what every other folder may use. */
export { assert, assertNever, AssertionError, present } from './assert.ts'
export { Bag, type Place } from './bag.ts'
export { systemClock, type Clock } from './clock.ts'
export { faults, ProxyError, wordsOf, type FaultCode, type FaultDetails } from './errors.ts'
export { cut, harmlessJson, jsonText, printable, printableLines } from './printable.ts'
export { Interrupt } from './interrupt.ts'
export { JobQueue } from './job-queue.ts'
export { nearest, nearestOf } from './nearest.ts'
export { defaultLimits, type Limits } from './limits.ts'
export {
  bucketStartUs,
  countNames,
  Durations,
  durationsSince,
  durationsTogether,
  noDurations,
  quantileUs,
  stages,
  Statistics,
  type CountName,
  type DurationsSnapshot,
  type Stage,
  type StatisticsSnapshot,
  type Tally,
} from './statistics.ts'
export { fewRandomBytes } from './random.ts'
export { yieldingThread } from './threads.ts'
export type {
  StatementSpan,
  StatementTracer,
  TracedEnd,
  TracedHold,
  TracedStatements,
} from './tracing.ts'
