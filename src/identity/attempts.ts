/**
 * Failed attempts by source, by user, and by both. A counter leaks away evenly over the window, so a
 * burst is stopped and a slow typist is not. Bounded: the least recently seen key is forgotten.
 *
 * A user's own counter is wide, because anyone who knows a name can fill it; the narrow one is of
 * source and user together.
 */
import { LRUCache } from 'lru-cache'
import type { Clock, Limits } from '../core/core.ts'

export interface AttemptLimits {
  readonly perSourceMax: number
  readonly perUserMax: number
  readonly perSourceAndUserMax: number
  readonly windowMs: number
}

/** The limits of the configuration that this file is about. */
export function attemptLimitsOf(limits: Limits): AttemptLimits {
  return {
    perSourceMax: limits.failedAttemptsPerSourceMax,
    perUserMax: limits.failedAttemptsPerUserMax,
    perSourceAndUserMax: limits.failedAttemptsPerSourceAndUserMax,
    windowMs: limits.failedAttemptsWindowMs,
  }
}

interface Counter {
  level: number
  atMs: number
}

const keyCountMax = 20_000

/** Counts failures; asked before a credential is looked at. */
export class AttemptLimiter {
  readonly #limits: AttemptLimits
  readonly #clock: Clock
  readonly #counters = new LRUCache<string, Counter>({ max: keyCountMax })

  constructor(limits: AttemptLimits, clock: Clock) {
    this.#limits = limits
    this.#clock = clock
  }

  /** false: one more failure would be too many; refuse whatever the credential is. */
  allows(source: string, user: string): boolean {
    return this.#keys(source, user).every(([key, max]) => this.#level(key, max) + 1 <= max)
  }

  /** Counts a failure. */
  failed(source: string, user: string): void {
    for (const [key, max] of this.#keys(source, user)) {
      this.#counters.set(key, { level: this.#level(key, max) + 1, atMs: this.#clock.nowMs() })
    }
  }

  /** A success forgives the pair, not the source: others may be guessed from there. */
  succeeded(source: string, user: string): void {
    this.#counters.delete(`p ${source} ${user}`)
  }

  #keys(source: string, user: string): readonly (readonly [string, number])[] {
    return [
      [`s ${source}`, this.#limits.perSourceMax],
      [`u ${user}`, this.#limits.perUserMax],
      [`p ${source} ${user}`, this.#limits.perSourceAndUserMax],
    ]
  }

  #level(key: string, max: number): number {
    const counter = this.#counters.get(key)
    if (counter === undefined) return 0
    const elapsedMs = Math.max(0, this.#clock.nowMs() - counter.atMs)
    return Math.max(0, counter.level - (elapsedMs / this.#limits.windowMs) * max)
  }
}
