/**
 * What an instance does for the store from time to time: it says that it lives, closes what has
 * expired, looks for waits of its own whose notification it has missed, and deletes what is old.
 * One timer for everything, whatever the number of waits, and none while nothing is open.
 */
import { ProxyError } from '../core/core.ts'
import * as requests from './requests.ts'
import type { RequestRow } from './requests.ts'
import type { Store } from './store.ts'

export interface BeatOptions {
  readonly store: Store
  readonly instance: string
  /** Closed requests are kept for so long. */
  readonly keptMs: number
  readonly nowMs: () => number
  /** Waits in this process. */
  readonly heldCount: () => number
  /** Given to one instance only. */
  onExpired(row: RequestRow): Promise<void>
  /** A request that this instance waits for is not pending any more. */
  onMoved(id: string): void
  readonly log: (error: unknown) => void
}

const beatMs = 5_000
const purgeMs = 60 * 60_000

export class Beat {
  readonly #options: BeatOptions
  #timer: NodeJS.Timeout | null = null
  #stopped = false
  #purgedAtMs = 0
  #seenAt = -Infinity

  constructor(options: BeatOptions) {
    this.#options = options
  }

  /** The store knows that this instance lives: others leave its waits alone. */
  async announce(): Promise<void> {
    if (performance.now() - this.#seenAt < beatMs) return
    await this.#sayAlive()
  }

  /** Everything is looked at again now: notifications may have been missed, the store may be new. */
  soon(): void {
    this.#seenAt = -Infinity
    this.plan(0)
  }

  /** Plans the next look at everything; once something is open, until nothing is. */
  plan(delayMs = beatMs): void {
    if (this.#stopped || (this.#timer !== null && delayMs > 0)) return
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      this.#timer = null
      void this.#beat()
    }, delayMs)
    this.#timer.unref()
  }

  stop(): void {
    this.#stopped = true
    if (this.#timer !== null) clearTimeout(this.#timer)
  }

  async #sayAlive(): Promise<void> {
    const at = performance.now()
    await requests.sayAlive(this.#options.store, this.#options.instance)
    this.#seenAt = at
  }

  async #beat(): Promise<void> {
    const options = this.#options
    const { store, instance, keptMs } = options
    let open = options.heldCount()
    try {
      for (const row of await requests.sweep(store)) await options.onExpired(row)
      await this.#sayAlive()
      for (const id of await requests.movedOf(store, instance)) options.onMoved(id)
      open = Math.max(open, await requests.openCount(store))
      const nowMs = options.nowMs()
      if (nowMs - this.#purgedAtMs > purgeMs) {
        this.#purgedAtMs = nowMs
        await requests.purge(store, keptMs)
      }
    } catch (error) {
      if (!(error instanceof ProxyError)) options.log(error)
    }
    if (open > 0) this.plan()
  }
}
