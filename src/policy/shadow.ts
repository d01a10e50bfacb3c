/**
 * A candidate policy beside the active one: judges what the active one has judged, later and off the
 * client's path, and counts where they differ. Never enforced; a fault of the candidate is a
 * difference and nothing else. What does not fit into its queue is counted, not judged.
 *
 * Sees every judgement that was evaluated, not those that came from a cache: each statement, identity
 * and session once, not each execution.
 */
import { cut } from '../core/core.ts'
import { holdsSecret, redactLiterals } from '../sql/sql.ts'
import type { StatementDecision } from './decision.ts'
import type { StatementFacts } from './input.ts'
import type { Policy } from './loaded.ts'

export interface ShadowOptions {
  readonly policy: Policy
  /** `redact`: no constant of a statement is shown. Those of statements with a password never are. */
  readonly literals: 'keep' | 'redact'
  /** Runs work later, when nothing else waits (setImmediate). */
  readonly schedule: (work: () => void) => void
  /** Called with each difference, for the audit; bounded by `sampleCountMax` a rule pair. */
  readonly onDifference?: (difference: ShadowDifference) => void
}

/** How one statement would be judged differently. */
export interface ShadowDifference {
  /** The candidate's. */
  readonly revision: string
  readonly statement: string
  readonly user: string
  readonly active: Verdict
  readonly candidate: Verdict
  /** The candidate lets through what the active policy does not, or with fewer masks. */
  readonly wider: boolean
}

interface Verdict {
  readonly action: string
  readonly rule: string
  readonly masks: readonly string[]
}

/** What is told of a candidate. */
export interface ShadowStatus {
  readonly revision: string
  readonly judged: number
  readonly different: number
  readonly wider: number
  readonly dropped: number
  readonly waiting: number
  /** "deny regate.access.effects → allow regate.access.allowed": how often. */
  readonly changes: Readonly<Record<string, number>>
  readonly samples: readonly ShadowDifference[]
}

const queueCountMax = 1_000
const sampleCountMax = 5
const samplesMax = 200
const changesMax = 1_000
const textLengthMax = 4_096

/** From the least to the most that a client gets. */
const openness: Readonly<Record<string, number>> = {
  deny: 0,
  fault: 0,
  approve: 1,
  mask: 2,
  allow: 3,
}

/** True where `after` gives the client more than `before`. */
export function isWider(before: Verdict, after: Verdict): boolean {
  const [from, to] = [openness[before.action] ?? 0, openness[after.action] ?? 0]
  if (to > from) return true
  return to > 0 && from > 0 && before.masks.some((column) => !after.masks.includes(column))
}

/** The parts of a decision that a client notices. */
export function verdictOf(decision: StatementDecision): Verdict {
  const masks = [...decision.masks].map(([column, mask]) => `${column} ${JSON.stringify(mask)}`)
  return { action: decision.action, rule: decision.rule, masks: masks.sort() }
}

/** True where a client would notice: the rule's name alone is no difference. */
export function differs(first: Verdict, second: Verdict): boolean {
  return first.action !== second.action || first.masks.join('\n') !== second.masks.join('\n')
}

export class Shadow {
  readonly #options: ShadowOptions
  readonly #queue: { readonly facts: StatementFacts; readonly decision: StatementDecision }[] = []
  readonly #changes = new Map<string, number>()
  readonly #samples: ShadowDifference[] = []
  #policy: Policy
  #scheduled = false
  #judged = 0
  #different = 0
  #wider = 0
  #dropped = 0

  constructor(options: ShadowOptions) {
    this.#options = options
    this.#policy = options.policy
  }

  /** Another candidate: counting starts anew. */
  swap(policy: Policy): void {
    this.#policy = policy
    this.#queue.length = 0
    this.#changes.clear()
    this.#samples.length = 0
    this.#judged = 0
    this.#different = 0
    this.#wider = 0
    this.#dropped = 0
  }

  /** The active policy has judged; costs nothing but a place in the queue. */
  observe(facts: StatementFacts, decision: StatementDecision): void {
    if (this.#queue.length >= queueCountMax) {
      this.#dropped++
      return
    }
    this.#queue.push({ facts, decision })
    this.#schedule()
  }

  get status(): ShadowStatus {
    return {
      revision: this.#policy.revision,
      judged: this.#judged,
      different: this.#different,
      wider: this.#wider,
      dropped: this.#dropped,
      waiting: this.#queue.length,
      changes: Object.fromEntries(this.#changes),
      samples: this.#samples,
    }
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    this.#options.schedule(() => {
      this.#scheduled = false
      const next = this.#queue.shift()
      if (next === undefined) return
      this.#compare(next.facts, next.decision)
      if (this.#queue.length > 0) this.#schedule()
    })
  }

  #compare(facts: StatementFacts, decision: StatementDecision): void {
    // What would need the thread is not judged in the shadow: it may cost the clients nothing.
    if (this.#policy.expectedUs(2 * facts.statement.tree.length) > 20_000) {
      this.#dropped++
      return
    }
    const active = verdictOf(decision)
    let candidate: Verdict
    try {
      candidate = verdictOf(this.#policy.statement(facts))
    } catch (error) {
      candidate = { action: 'fault', rule: (error as Error).message, masks: [] }
    }
    this.#judged++
    if (!differs(active, candidate)) return
    this.#different++
    const wider = isWider(active, candidate)
    if (wider) this.#wider++
    const change = `${active.action} ${active.rule} → ${candidate.action} ${candidate.rule}`
    const count = (this.#changes.get(change) ?? 0) + 1
    if (count > 1 || this.#changes.size < changesMax) this.#changes.set(change, count)
    if (count > sampleCountMax) return
    const difference = {
      revision: this.#policy.revision,
      statement: this.#shown(facts.statement.text),
      user: facts.identity.user,
      active,
      candidate,
      wider,
    }
    if (this.#samples.length < samplesMax) this.#samples.push(difference)
    this.#options.onDifference?.(difference)
  }
  #shown(text: string): string {
    const redacted = this.#options.literals === 'redact' || holdsSecret(text)
    return cut(redacted ? redactLiterals(text) : text, textLengthMax)
  }
}
