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

/** An answer of the worker thread. */
interface Late {
  readonly answer: StatementDecision | ProxyError
  readonly atUs: number
}

/** Answers about one statement that nobody came back for are forgotten beyond this many. */
const lateCountMax = 100
/** And are no answer any more after this long: the time that the policy saw is over. */
const lateUsMax = 10_000_000

/** Judges statements by the active policy; swap() replaces it between two statements. */
export class Judge {
  readonly #limits: Limits
  readonly #clock: Clock
  readonly #shadow: Shadow | null
  #policy: Policy
  /**
   * Answers of the worker thread that wait for their statement to be judged again: kept with the
   * statement (the object), by everything else that the policy saw. To hash a large one would hold
   * the other sessions up.
   */
  #late = new WeakMap<ParsedStatement, Map<string, Late>>()

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
    this.#late = new WeakMap()
  }

  /** Judges a connection; throws policy_fault. */
  connect(facts: ConnectFacts): ConnectDecision {
    return this.#policy.connect(facts)
  }

  /**
   * Judges a statement, by further evaluations where the decision asks for what the facts hold. Throws
   * policy_fault, which refuses it, or EvaluationPending, after which the same facts are to be judged
   * again.
   */
  statement(facts: StatementFacts): Judgement {
    const policy = this.#policy
    const start = this.#clock.monotonicUs()
    let seen = policy.givenAtOnce
    let decision = this.#decide(facts, seen)
    for (;;) {
      const more = policy.asked(decision, facts, seen)
      if (more === null) break
      seen = more
      decision = this.#decide(facts, seen)
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

  /**
   * In place where that is cheap; else the worker thread's answer where it has come, and if not,
   * EvaluationPending.
   */
  #decide(facts: StatementFacts, given: ReadonlySet<VolatileInput>): StatementDecision {
    const policy = this.#policy
    const { statement, analysis } = facts
    const roughBytes = 2 * (statement.tree.length + analysis.access.columns.length * 100)
    if (policy.expectedUs(roughBytes) <= this.#limits.inPlaceEvaluationUsMax) {
      return policy.judge(facts, given)
    }
    const key = this.#lateKey(facts, given)
    const answers = this.#late.get(statement)
    const late = answers?.get(key)
    const nowUs = this.#clock.monotonicUs()
    if (late !== undefined && nowUs - late.atUs < lateUsMax) {
      if (late.answer instanceof ProxyError) {
        answers?.delete(key)
        throw late.answer
      }
      // Kept where the next evaluation needs it again: it is found there until it is too old.
      if (late.answer.asks.length === 0) answers?.delete(key)
      return late.answer
    }
    const until = policy.statementInThread(facts, given).then(
      (answer) => {
        this.#arrive(policy, statement, key, answer)
      },
      (error: unknown) => {
        if (!(error instanceof ProxyError)) throw error
        this.#arrive(policy, statement, key, error)
      },
    )
    throw new EvaluationPending(until)
  }

  /** Everything the policy sees but the time, which moves while it thinks. */
  #lateKey(facts: StatementFacts, given: ReadonlySet<VolatileInput>): string {
    const lasting = new Set([...given].filter((name) => name !== 'time'))
    return `${given.has('time')}${this.#policy.keyBesideStatement(facts, lasting)}`
  }

  /** The answer of a policy that is no longer active is nobody's: it is judged again. */
  #arrive(policy: Policy, statement: ParsedStatement, key: string, answer: Late['answer']): void {
    if (policy !== this.#policy) return
    const answers = this.#late.get(statement) ?? new Map<string, Late>()
    if (answers.size >= lateCountMax) answers.clear()
    answers.set(key, { answer, atUs: this.#clock.monotonicUs() })
    this.#late.set(statement, answers)
  }
}
