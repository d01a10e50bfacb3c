/**
 * Jobs that wait for a thread: the shortest first, so that who asks for little does not wait behind the
 * megabytes of others; every fourth time the oldest, so that no large one is put off for ever. Bounded.
 */
export interface QueueLimits {
  readonly countMax: number
  /** Of all that wait together; a job that waits alone may be larger. */
  readonly sizeMax: number
}

const oldestEvery = 4

export class JobQueue<Job> {
  readonly #limits: QueueLimits
  /** By age. */
  readonly #waiting: { readonly job: Job; readonly size: number }[] = []
  #size = 0
  #takenCount = 0

  constructor(limits: QueueLimits) {
    this.#limits = limits
  }

  get count(): number {
    return this.#waiting.length
  }

  /** false: too many or too much is waiting, and the job is not taken. */
  push(job: Job, size: number): boolean {
    const { countMax, sizeMax } = this.#limits
    const { length } = this.#waiting
    if (length >= countMax || (length > 0 && this.#size + size > sizeMax)) return false
    this.#waiting.push({ job, size })
    this.#size += size
    return true
  }

  /** The job whose turn it is; null where none waits. */
  take(): Job | null {
    this.#takenCount++
    let at = 0
    if (this.#takenCount % oldestEvery !== 0) {
      for (const [index, { size }] of this.#waiting.entries()) {
        if (size < (this.#waiting[at]?.size ?? 0)) at = index
      }
    }
    const [taken] = this.#waiting.splice(at, 1)
    if (taken === undefined) return null
    this.#size -= taken.size
    return taken.job
  }

  /** Everything that waits; the queue is empty behind it. */
  clear(): readonly Job[] {
    this.#size = 0
    return this.#waiting.splice(0).map(({ job }) => job)
  }
}
