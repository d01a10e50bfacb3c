/**
 * One end for several waits: whoever waits says what is to happen, whoever knows that it is over
 * raises it once. What an AbortSignal is for, at a fraction of its price: Node 20 makes one by giving an
 * EventTarget another prototype, which costs V8 some microseconds and a hidden class of its own, old
 * from birth, for each (docs/decisions/performance.md). Every login has two.
 */
import { present } from './assert.ts'

export class Interrupt {
  #reason: Error | null = null
  readonly #handlers: (() => void)[] = []

  get raised(): boolean {
    return this.#reason !== null
  }

  /** Why it was raised; to be asked once it was. */
  get reason(): Error {
    return present(this.#reason, 'the interrupt was not raised')
  }

  /** Calls every handler, in order; a second time nothing happens. Handlers must not throw. */
  raise(reason: Error): void {
    if (this.#reason !== null) return
    this.#reason = reason
    for (let next = this.#handlers.shift(); next !== undefined; next = this.#handlers.shift())
      next()
  }

  /** Raises it after so long, with a TimeoutError, unless the timer is cleared. */
  raiseAfter(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.raise(new DOMException('the server did not answer in time', 'TimeoutError'))
    }, ms)
  }

  /** To be called when it is raised, once. One that comes too late is not called: ask `raised`. */
  on(handler: () => void): void {
    if (this.#reason === null) this.#handlers.push(handler)
  }

  off(handler: () => void): void {
    const at = this.#handlers.indexOf(handler)
    if (at >= 0) this.#handlers.splice(at, 1)
  }
}
