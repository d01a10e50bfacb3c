/** The clock as a collaborator: the core never reads time by itself, tests give a fake one. */
export interface Clock {
  /** Wall time in milliseconds since the Unix epoch. */
  nowMs(): number
  /** Monotonic time in microseconds; only differences mean anything. */
  monotonicUs(): number
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicUs: () => performance.now() * 1000,
}
