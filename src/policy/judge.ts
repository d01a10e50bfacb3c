/**
 * Judge: the active policy, asked in place where that is cheap and in its worker thread where it is
 * not. It remembers no decisions: whoever asks knows what the policy could see, and keeps a verdict
 * only where `reusable` says that nothing volatile was shown.
 */
import { ProxyError, systemClock, type Clock, type Limits } from '../core/core.ts'
import type { ConnectDecision, StatementDecision, VolatileInput } from './decision.ts'
import type { ConnectFacts, StatementFacts } from './input.ts'
import type { ParsedStatement } from '../sql/sql.ts'
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
  readonly revision: string
  /** Microseconds of evaluation. */
  readonly durationUs: number
  /** Depends on nothing volatile: the same facts get the same decision while this policy is active. */
  readonly reusable: boolean
  /**
   * The policy wants the server's estimate and has not seen one: the statement may run only after it
   * was judged again with `volatile.estimate`. Never set for what is refused anyway.
   */
  readonly wantsEstimate: boolean
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

/**
 * Answers of the worker thread about the statements of one text. Whoever waits for them holds them until
 * the whole text is judged, so none is evaluated twice, and they are gone with who never comes back.
 */
export class LateAnswers {
  #policy: Policy | null = null
  #known: Map<ParsedStatement, Map<string, StatementDecision | ProxyError>> | null = null

  /** What was answered under this policy; `key` is everything that it saw beside the statement. */
  get(
    policy: Policy,
    statement: ParsedStatement,
    key: string,
  ): StatementDecision | ProxyError | null {
    if (policy !== this.#policy) return null
    return this.#known?.get(statement)?.get(key) ?? null
  }

  set(
    policy: Policy,
    statement: ParsedStatement,
    key: string,
    answer: StatementDecision | ProxyError,
  ): void {
    if (policy !== this.#policy) this.clear()
    this.#policy = policy
    this.#known ??= new Map()
    const answers = this.#known.get(statement) ?? new Map<string, StatementDecision | ProxyError>()
    answers.set(key, answer)
    this.#known.set(statement, answers)
  }

  /** What they were about is over: the time that a policy saw, or what was known. */
  clear(): void {
    this.#known = null
  }
}

/** Judges statements by the active policy; swap() replaces it between two statements. */
export class Judge {
  readonly #limits: Limits
  readonly #clock: Clock
  readonly #shadow: Shadow | null
  #policy: Policy

  constructor(options: JudgeOptions) {
    this.#policy = options.policy
    this.#limits = options.limits
    this.#clock = options.clock ?? systemClock
    this.#shadow = options.shadow ?? null
  }

  get policy(): Policy {
    return this.#policy
  }

  /** Statements judged from now on are judged by this policy. */
  swap(policy: Policy): void {
    if (policy !== this.#policy) this.#policy.close()
    this.#policy = policy
  }

  /** Judges a connection; throws policy_fault. */
  connect(facts: ConnectFacts): ConnectDecision {
    return this.#policy.connect(facts)
  }

  /**
   * Judges a statement, by further evaluations where the decision asks for what the facts hold. Throws
   * policy_fault, which refuses it, or EvaluationPending, after which the same facts are to be judged
   * again, with the same `late`.
   */
  statement(facts: StatementFacts, late = new LateAnswers()): Judgement {
    const policy = this.#policy
    const start = this.#clock.monotonicUs()
    let seen = policy.givenAtOnce
    let decision = this.#decide(facts, seen, late)
    for (;;) {
      const more = policy.asked(decision, facts, seen)
      if (more === null) break
      seen = more
      decision = this.#decide(facts, seen, late)
    }
    const wantsEstimate = policy.wantsEstimate(decision, facts)
    if (!wantsEstimate) this.#shadow?.observe(facts, decision)
    return {
      decision,
      revision: policy.revision,
      durationUs: this.#clock.monotonicUs() - start,
      // What was asked for and is not there may be there the next time.
      reusable: seen.size === 0 && facts.approval === null && decision.asks.length === 0,
      wantsEstimate,
    }
  }

  /** Whether a statement of these facts would not be denied; false where asking is dear or fails. */
  admits(facts: StatementFacts): boolean {
    const policy = this.#policy
    if (this.#isSlow(facts)) return false
    try {
      return policy.judge(facts, policy.givenAtOnce).action !== 'deny'
    } catch (error) {
      if (error instanceof ProxyError) return false
      throw error
    }
  }

  /** Judging it in place would take too long for the other sessions. */
  #isSlow({ statement, analysis }: StatementFacts): boolean {
    const roughBytes = 2 * (statement.tree.length + analysis.access.columns.length * 100)
    return this.#policy.expectedUs(roughBytes) > this.#limits.inPlaceEvaluationUsMax
  }

  /**
   * In place where that is cheap; else the worker thread's answer where it has come, and if not,
   * EvaluationPending.
   */
  #decide(
    facts: StatementFacts,
    given: ReadonlySet<VolatileInput>,
    late: LateAnswers,
  ): StatementDecision {
    const policy = this.#policy
    const { statement } = facts
    if (!this.#isSlow(facts)) return policy.judge(facts, given)
    // Everything the policy sees but the statement itself, and the time, which moves while it thinks.
    const lasting = new Set([...given].filter((name) => name !== 'time'))
    const key = `${given.has('time')}${policy.keyBesideStatement(facts, lasting)}`
    const answer = late.get(policy, statement, key)
    if (answer instanceof ProxyError) throw answer
    if (answer !== null) return answer
    const until = policy.statementInThread(facts, given).then(
      (decision) => {
        late.set(policy, statement, key, decision)
      },
      (error: unknown) => {
        if (!(error instanceof ProxyError)) throw error
        late.set(policy, statement, key, error)
      },
    )
    throw new EvaluationPending(until)
  }
}
