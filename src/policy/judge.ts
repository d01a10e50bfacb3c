/**
 * Judge: the active policy and a bounded cache of its decisions.
 *
 * A decision may be used again only where everything that the policy could see is the same. The key
 * holds all of it: the analysis (by identity of the immutable object), the statement's text or its
 * shape, protocol, place in the query string, identity and session. Decisions that saw a volatile
 * input or an approval are never kept, and a new policy starts with an empty cache.
 */
import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { ProxyError, systemClock, type Clock, type Limits } from '../core/core.ts'
import type { Analysis } from '../sql/sql.ts'
import type { ConnectDecision, StatementDecision, VolatileInput } from './decision.ts'
import {
  contextText,
  type ConnectFacts,
  type IdentityDocument,
  type SessionDocument,
  type StatementFacts,
} from './input.ts'
import type { Policy } from './loaded.ts'
import type { Shadow } from './shadow.ts'

export interface JudgeOptions {
  readonly policy: Policy
  readonly limits: Limits
  readonly clock?: Clock
  /** A candidate that is told of every evaluated judgement. */
  readonly shadow?: Shadow | null
}

/** A decision and where it came from. */
export interface Judgement {
  readonly decision: StatementDecision
  readonly cached: boolean
  readonly revision: string
  /** Microseconds of evaluation; 0 for a cached decision. */
  readonly durationUs: number
  /** Depends on nothing volatile: the same facts get the same decision while this policy is active. */
  readonly reusable: boolean
  /**
   * The policy wants the server's estimate and has not seen one: the statement may run only after it
   * was judged again with `volatile.estimate`. Never set for what is refused anyway.
   */
  readonly wantsEstimate: boolean
}

/** The last judgement of an analysis: what a prepared statement meets when it runs again. */
interface Slot {
  readonly text: string
  readonly shape: string | null
  readonly protocol: string
  readonly index: number
  readonly count: number
  readonly identity: IdentityDocument
  readonly session: SessionDocument
  readonly judgement: Judgement
}

/** Not a failure: the judgement runs in the worker thread; judge again when `until` is settled. */
export class EvaluationPending extends Error {
  override readonly name = 'EvaluationPending'
  readonly until: Promise<void>

  constructor(until: Promise<void>) {
    super('the evaluation runs in a worker thread')
    this.until = until
  }
}

type Late =
  | { readonly kind: 'decided'; readonly decision: StatementDecision }
  | { readonly kind: 'failed'; readonly error: ProxyError }

/** Answers that nobody came back for (a closed session) are forgotten beyond this many. */
const lateCountMax = 1_000

/** A rough size of a decision in memory; its masks share the policy's. */
const decisionBytes = (decision: StatementDecision): number =>
  256 + 2 * (decision.reason.length + decision.hint.length) + 160 * decision.masks.size

/** Judges statements by the active policy; swap() replaces it between two statements. */
export class Judge {
  readonly #limits: Limits
  readonly #clock: Clock
  readonly #shadow: Shadow | null
  readonly #ids = new WeakMap<Analysis, number>()
  #nextId = 1
  #policy: Policy
  #cache: LRUCache<string, Judgement>
  #slots = new WeakMap<Analysis, Slot>()
  /** Answers of the worker thread that wait for their statement to be judged again. */
  readonly #late = new Map<string, Late>()

  constructor(options: JudgeOptions) {
    this.#policy = options.policy
    this.#limits = options.limits
    this.#clock = options.clock ?? systemClock
    this.#shadow = options.shadow ?? null
    this.#cache = this.#emptyCache()
  }

  get policy(): Policy {
    return this.#policy
  }

  /** Statements judged from now on are judged by this policy. */
  swap(policy: Policy): void {
    if (policy !== this.#policy) this.#policy.close()
    this.#policy = policy
    this.#cache = this.#emptyCache()
    this.#slots = new WeakMap()
    this.#late.clear()
  }

  /** Judges a connection; throws policy_fault. */
  connect(facts: ConnectFacts): ConnectDecision {
    return this.#policy.connect(facts)
  }

  /**
   * Judges a statement. Throws policy_fault, which refuses it, or EvaluationPending, after which the same
   * facts are to be judged again.
   */
  statement(facts: StatementFacts): Judgement {
    const given = this.#policy.givenAtOnce
    if (given.size > 0 || facts.approval !== null) return this.#evaluate(facts, given)
    const first = this.#lookup(facts) ?? this.#evaluateAndKeep(facts)
    const more = this.#policy.asked(first.decision, facts, given)
    return more === null ? first : this.#evaluate(facts, more)
  }

  /** Entries of the decision cache, for metrics. */
  get cacheCount(): number {
    return this.#cache.size
  }

  #lookup(facts: StatementFacts): Judgement | null {
    const slot = this.#slots.get(facts.analysis)
    if (slot !== undefined && this.#same(slot, facts)) return slot.judgement
    const judgement = this.#cache.get(this.#key(facts))
    if (judgement === undefined) return null
    this.#remember(facts, judgement)
    return judgement
  }

  /** The first judgement, without anything volatile: what may be used again. */
  #evaluateAndKeep(facts: StatementFacts): Judgement {
    const start = this.#clock.monotonicUs()
    const decision = this.#decide(facts, this.#policy.givenAtOnce, false)
    if (decision.asks.length === 0) this.#shadow?.observe(facts, decision)
    const judgement: Judgement = {
      decision,
      cached: false,
      revision: this.#policy.revision,
      durationUs: this.#clock.monotonicUs() - start,
      reusable: decision.asks.length === 0,
      wantsEstimate: decision.asks.includes('estimate'),
    }
    const kept = { ...judgement, cached: true, durationUs: 0 }
    this.#cache.set(this.#key(facts), kept)
    this.#remember(facts, kept)
    return judgement
  }

  #evaluate(facts: StatementFacts, given: ReadonlySet<VolatileInput>): Judgement {
    const start = this.#clock.monotonicUs()
    const decision = this.#decide(facts, given, true)
    if (!this.#policy.wantsEstimate(decision, facts)) this.#shadow?.observe(facts, decision)
    return {
      decision,
      cached: false,
      revision: this.#policy.revision,
      durationUs: this.#clock.monotonicUs() - start,
      reusable: false,
      wantsEstimate: this.#policy.wantsEstimate(decision, facts),
    }
  }

  /**
   * In place where that is cheap; else the worker thread's answer where it has come, and if not,
   * EvaluationPending. `follow` answers what the decision asks for.
   */
  #decide(
    facts: StatementFacts,
    given: ReadonlySet<VolatileInput>,
    follow: boolean,
  ): StatementDecision {
    const policy = this.#policy
    const roughBytes =
      2 * (facts.statement.astJson.length + facts.analysis.access.columns.length * 100)
    if (policy.expectedUs(roughBytes) <= this.#limits.inPlaceEvaluationUsMax) {
      return follow ? policy.settle(facts, given) : policy.judge(facts, given)
    }
    const input = policy.input(facts, given)
    const key = createHash('sha256').update(input).digest('base64url')
    const late = this.#late.get(key)
    if (late !== undefined) {
      this.#late.delete(key)
      if (late.kind === 'failed') throw late.error
      const more = follow ? policy.asked(late.decision, facts, given) : null
      return more === null ? late.decision : this.#decide(facts, more, follow)
    }
    const until = policy.evaluateInThread(input).then(
      (answer) => this.#arrive(policy, key, () => policy.decode(answer)),
      (error: unknown) =>
        this.#arrive(policy, key, () => {
          throw error
        }),
    )
    throw new EvaluationPending(until)
  }

  /** The answer of a policy that is no longer active is nobody's: it is judged again. */
  #arrive(policy: Policy, key: string, decide: () => StatementDecision): void {
    if (policy !== this.#policy) return
    if (this.#late.size >= lateCountMax) this.#late.clear()
    try {
      this.#late.set(key, { kind: 'decided', decision: decide() })
    } catch (error) {
      if (!(error instanceof ProxyError)) throw error
      this.#late.set(key, { kind: 'failed', error })
    }
  }

  #same(slot: Slot, facts: StatementFacts): boolean {
    const { statement, identity, session, protocol } = facts
    return (
      slot.identity === identity &&
      slot.session === session &&
      slot.protocol === protocol &&
      slot.index === statement.index &&
      slot.count === statement.count &&
      slot.shape === this.#shape(facts) &&
      (slot.shape !== null || slot.text === statement.text)
    )
  }

  #remember(facts: StatementFacts, judgement: Judgement): void {
    this.#slots.set(facts.analysis, {
      text: facts.statement.text,
      shape: this.#shape(facts),
      protocol: facts.protocol,
      index: facts.statement.index,
      count: facts.statement.count,
      identity: facts.identity,
      session: facts.session,
      judgement,
    })
  }

  #shape(facts: StatementFacts): string | null {
    return this.#policy.declares.constants === 'hidden' ? (facts.shape?.key ?? null) : null
  }

  #key(facts: StatementFacts): string {
    const { statement, analysis, protocol } = facts
    const shape = this.#shape(facts)
    const source = shape === null ? `t${statement.text}` : `s${shape}`
    const place = `${String(this.#id(analysis))} ${protocol} ${String(statement.index)}/${String(statement.count)}`
    return `${place}\n${contextText(facts)}\n${source}`
  }

  #id(analysis: Analysis): number {
    const known = this.#ids.get(analysis)
    if (known !== undefined) return known
    this.#ids.set(analysis, this.#nextId)
    return this.#nextId++
  }

  #emptyCache(): LRUCache<string, Judgement> {
    return new LRUCache({
      maxSize: this.#limits.decisionCacheBytesMax,
      sizeCalculation: (judgement, key) => 2 * key.length + decisionBytes(judgement.decision),
    })
  }
}
