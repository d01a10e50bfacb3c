/**
 * Turns at a server: how many logins of this process are on their way to one address at a time. A
 * login costs the server a new process; a hundred at once on a machine with few cores push every
 * running session aside, while a hundred one after the other are as fast and disturb nobody.
 *
 * Invariants: first come, first served, each address by itself; whoever gives up leaves the queue; a
 * turn is given back exactly once, whatever happened in it.
 */

import type { Interrupt } from '../core/core.ts'

interface Queue {
  running: number
  readonly waiting: (() => void)[]
}

/** Counts the logins of a process by server. */
export class LoginTurns {
  /** As many as are configured. */
  readonly #servers = new Map<string, Queue>()

  /**
   * Runs `work` when fewer than `countMax` others of the same server run. Rejects with the
   * interrupt's reason where it is raised before the turn comes.
   */
  async run<T>(
    server: string,
    countMax: number,
    interrupt: Interrupt,
    work: () => Promise<T>,
  ): Promise<T> {
    const queue = this.#servers.get(server) ?? { running: 0, waiting: [] }
    this.#servers.set(server, queue)
    if (queue.running >= countMax) await turn(queue, interrupt)
    else queue.running++
    try {
      return await work()
    } finally {
      this.#leave(queue)
    }
  }

  /** How many wait for their turn at a server. */
  waitingCount(server: string): number {
    return this.#servers.get(server)?.waiting.length ?? 0
  }

  /** The turn goes to the next as it is, so that nobody who comes now overtakes it. */
  #leave(queue: Queue): void {
    const next = queue.waiting.shift()
    if (next !== undefined) {
      next()
      return
    }
    queue.running--
  }
}

function turn(queue: Queue, interrupt: Interrupt): Promise<void> {
  return new Promise((resolve, reject) => {
    const onTurn = (): void => {
      interrupt.off(onRaised)
      resolve()
    }
    const onRaised = (): void => {
      const at = queue.waiting.indexOf(onTurn)
      if (at >= 0) queue.waiting.splice(at, 1)
      reject(interrupt.reason)
    }
    if (interrupt.raised) {
      onRaised()
      return
    }
    interrupt.on(onRaised)
    queue.waiting.push(onTurn)
  })
}
