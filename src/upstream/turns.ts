/**
 * Turns at a server: how many logins of this process are on their way to one address at a time. A
 * login costs the server a new process; a hundred at once on a machine with few cores push every
 * running session aside, while a hundred one after the other are as fast and disturb nobody.
 *
 * Invariants: first come, first served, each address by itself; whoever gives up leaves the queue; a
 * turn is given back exactly once, whatever happened in it.
 */

interface Queue {
  running: number
  readonly waiting: Set<() => void>
}

/** Counts the logins of a process by server. */
export class LoginTurns {
  readonly #servers = new Map<string, Queue>()

  /**
   * Runs `work` when fewer than `countMax` others of the same server run. Rejects with the signal's
   * reason where it is aborted before the turn comes.
   */
  async run<T>(
    server: string,
    countMax: number,
    signal: AbortSignal,
    work: () => Promise<T>,
  ): Promise<T> {
    const queue = this.#servers.get(server) ?? { running: 0, waiting: new Set() }
    this.#servers.set(server, queue)
    if (queue.running >= countMax) await turn(queue, signal)
    else queue.running++
    try {
      return await work()
    } finally {
      this.#leave(server, queue)
    }
  }

  /** How many wait for their turn at a server. */
  waitingCount(server: string): number {
    return this.#servers.get(server)?.waiting.size ?? 0
  }

  /** The turn goes to the next as it is, so that nobody who comes now overtakes it. */
  #leave(server: string, queue: Queue): void {
    const [next] = queue.waiting
    if (next !== undefined) {
      queue.waiting.delete(next)
      next()
      return
    }
    queue.running--
    if (queue.running === 0) this.#servers.delete(server)
  }
}

function turn(queue: Queue, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onTurn = (): void => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }
    const onAbort = (): void => {
      queue.waiting.delete(onTurn)
      reject(signal.reason as Error)
    }
    if (signal.aborted) {
      onAbort()
      return
    }
    signal.addEventListener('abort', onAbort, { once: true })
    queue.waiting.add(onTurn)
  })
}
