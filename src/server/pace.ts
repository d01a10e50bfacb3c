/**
 * The pace of handshakes: how many of their steps run in one turn of the event loop. Sessions that
 * run come first: in a storm of new connections all of them are ready to be read at once, and a
 * statement would wait behind every one. So a step waits in a queue, and each turn, when its sockets
 * were read, takes a few from the front.
 *
 * Invariants: first come, first served, so nobody starves; every step that was asked for comes, also
 * for a connection that has gone meanwhile; an empty queue costs nothing.
 */

/** Hands out steps of handshakes; one per process. */
export class HandshakePace {
  readonly #stepCountMax: number
  readonly #schedule: (work: () => void) => void
  readonly #waiting: (() => void)[] = []
  /** Of the first that waits: what is before it was taken already. */
  #head = 0

  /** At most `stepCountMax` in a turn. `schedule` runs work at a turn's end (setImmediate). */
  constructor(stepCountMax: number, schedule: (work: () => void) => void) {
    this.#stepCountMax = stepCountMax
    this.#schedule = schedule
  }

  /** Resolves when the caller may do one step. */
  step(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#waiting.push(resolve) - this.#head === 1) this.#schedule(this.#run)
    })
  }

  readonly #run = (): void => {
    const end = Math.min(this.#waiting.length, this.#head + this.#stepCountMax)
    while (this.#head < end) this.#waiting[this.#head++]?.()
    if (this.#head === this.#waiting.length) {
      this.#waiting.length = 0
      this.#head = 0
      return
    }
    // What was taken is let go once it is more than what waits.
    if (this.#head * 2 > this.#waiting.length) {
      this.#waiting.splice(0, this.#head)
      this.#head = 0
    }
    this.#schedule(this.#run)
  }
}
