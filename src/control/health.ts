/**
 * Readiness: a set of named conditions, each with its reason while it does not hold. regate is ready
 * when all hold and it is not draining. Liveness needs no state: who answers is alive.
 */

export interface Readiness {
  readonly ready: boolean
  /** `policy: the bundle does not compile: …`, one for each condition that does not hold. */
  readonly problems: readonly string[]
  /** What deserves a look and keeps nobody from serving. */
  readonly warnings: readonly string[]
}

export class Health {
  readonly #problems = new Map<string, string>()
  #warnings: readonly string[] = []
  #draining = false

  /** A condition that must hold; it does not until `ok` says so. */
  require(name: string, until: string): void {
    this.#problems.set(name, until)
  }

  ok(name: string): void {
    this.#problems.delete(name)
  }

  problem(name: string, reason: string): void {
    this.#problems.set(name, reason)
  }

  /** Replaces the warnings. */
  warn(warnings: readonly string[]): void {
    this.#warnings = warnings
  }

  /** New connections should go elsewhere; those that are open live on. */
  drain(): void {
    this.#draining = true
  }

  get readiness(): Readiness {
    const problems = [...this.#problems].map(([name, reason]) => `${name}: ${reason}`)
    if (this.#draining) problems.unshift('draining: sessions are being finished')
    return { ready: problems.length === 0, problems, warnings: this.#warnings }
  }
}
