/**
 * Things that come and go for as long as the process lives: connections, sessions. Not a Set or a Map:
 * in V8 a table that was outgrown points to the one that replaced it, and keeps what was in it. Once
 * one of them has become old, everything that was ever in those behind it survives each scavenge until
 * the next full collection, and with a session goes all that hangs on it (measured in
 * docs/decisions/performance.md). Here what was taken out is not referred to any more.
 */

/** Where a thing lies in its bag. */
export interface Place<T> {
  readonly item: T
  /** -1 when it was taken out. */
  at: number
}

export class Bag<T> implements Iterable<T> {
  readonly #places: Place<T>[] = []

  get size(): number {
    return this.#places.length
  }

  /** Puts it in; the place is for taking it out. */
  add(item: T): Place<T> {
    const place = { item, at: this.#places.length }
    this.#places.push(place)
    return place
  }

  /** Takes it out; false where it was out already. In constant time: the last one moves there. */
  delete(place: Place<T>): boolean {
    if (place.at < 0) return false
    const last = this.#places.pop()
    if (last !== undefined && last !== place) {
      this.#places[place.at] = last
      last.at = place.at
    }
    place.at = -1
    return true
  }

  /** One of them, each as likely as any other; null where there is none. */
  sample(): Place<T> | null {
    return this.#places[Math.floor(Math.random() * this.#places.length)] ?? null
  }

  /** Over what is in it now, in no order; things may come and go meanwhile. */
  [Symbol.iterator](): Iterator<T> {
    return this.#places.map(({ item }) => item)[Symbol.iterator]()
  }
}
