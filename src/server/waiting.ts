/**
 * Connections that have not authenticated, by where they come from. Places are few. When all are
 * taken, the source that holds most of them gives one up to a source that holds fewer, so that a
 * flood from one place shuts out itself and nobody else. A proxy in front of many clients is one
 * source, and loses nothing while others do not ask for places.
 */
import type { Socket } from 'node:net'
import { Bag, type Place } from '../core/core.ts'

/** A connection that waits. */
export interface Waiter {
  readonly source: string
  readonly place: Place<Socket>
}

/** Holds `countMax` connections. */
export class WaitingRoom {
  readonly #countMax: number
  readonly #bySource = new Map<string, Bag<Socket>>()
  #count = 0

  constructor(countMax: number) {
    this.#countMax = countMax
  }

  get count(): number {
    return this.#count
  }

  /**
   * Lets a connection in. Where all places are taken, `instead` is the one that lost its place and is
   * to be closed; null where none may lose it: the connection's own source holds as many as any other.
   */
  enter(
    source: string,
    socket: Socket,
  ): { readonly waiter: Waiter; readonly instead: Socket | null } | null {
    const own = this.#bySource.get(source)
    let instead: Socket | null = null
    if (this.#count >= this.#countMax) {
      const fullest = this.#fullest()
      if (fullest === null || fullest.size <= (own?.size ?? 0) + 1) return null
      const gone = fullest.sample()
      if (gone !== null && fullest.delete(gone)) this.#count--
      instead = gone?.item ?? null
    }
    const bag = own ?? new Bag<Socket>()
    if (own === undefined) this.#bySource.set(source, bag)
    this.#count++
    return { waiter: { source, place: bag.add(socket) }, instead }
  }

  /** It has authenticated, or is closed. More than once is once. */
  leave({ source, place }: Waiter): void {
    const bag = this.#bySource.get(source)
    if (bag?.delete(place) !== true) return
    this.#count--
    if (bag.size === 0) this.#bySource.delete(source)
  }

  #fullest(): Bag<Socket> | null {
    let fullest: Bag<Socket> | null = null
    for (const bag of this.#bySource.values()) {
      if (fullest === null || bag.size > fullest.size) fullest = bag
    }
    return fullest
  }
}
