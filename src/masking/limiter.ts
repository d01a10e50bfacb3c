/**
 * What a decision's `limits` allow one result, and budgets over many results. Counters only: the
 * clock is given, and stopping the read is the session's doing.
 */
import type { ResultLimits } from '../policy/policy.ts'

/** Takes one row from a budget; a text where it is spent. */
export type Spend = (
  budget: { readonly rows: number; readonly windowMs: number },
  nowMs: number,
) => string | null

/** Counts one result. */
export class ResultLimiter {
  readonly #limits: ResultLimits
  readonly #spend: Spend | null
  readonly #startedMs: number
  #rows = 0
  #bytes = 0

  /** `nowMs`: when the statement was forwarded. `spend` takes rows from the identity's budget. */
  constructor(limits: ResultLimits, nowMs: number, spend: Spend | null = null) {
    this.#limits = limits
    this.#spend = (limits.budget ?? null) === null ? null : spend
    this.#startedMs = nowMs
  }

  /**
   * Counts a row (DataRow or CopyData) of `bytes` that is about to be forwarded. Null lets it pass;
   * a text says which limit it passes, and the row must not leave.
   */
  row(bytes: number, nowMs: number): string | null {
    this.#rows += 1
    this.#bytes += bytes
    const { rows, bytes: bytesMax } = this.#limits
    if (rows !== null && this.#rows > rows) {
      return `the result has more than the ${rows} rows that the policy allows`
    }
    if (bytesMax !== null && this.#bytes > bytesMax) {
      return `the result has more than the ${bytesMax} bytes that the policy allows`
    }
    const { budget } = this.#limits
    if (this.#spend !== null && budget !== undefined && budget !== null) {
      const spent = this.#spend(budget, nowMs)
      if (spent !== null) return spent
    }
    return this.time(nowMs)
  }

  /** The same for time alone: a statement may run long before its first row. */
  time(nowMs: number): string | null {
    const { timeMs } = this.#limits
    if (timeMs === null || nowMs - this.#startedMs <= timeMs) return null
    return `the statement takes longer than the ${timeMs} ms that the policy allows`
  }

  /** When `time` will first say no; null without a time limit. */
  get deadlineMs(): number | null {
    return this.#limits.timeMs === null ? null : this.#startedMs + this.#limits.timeMs + 1
  }
}

/** A window is kept as this many slots: what leaves it is exact to one of them. */
const SLOT_COUNT = 60
const KEY_COUNT_MAX = 100_000

interface Usage {
  readonly counts: number[]
  /** Sum of the counts. */
  spent: number
  /** Number of the newest slot since the epoch. */
  newest: number
}

/** Rows of one budget. */
export interface RowsTaken {
  readonly key: string
  readonly windowMs: number
  readonly rows: number
}

/**
 * Rows read by each identity in a sliding window (`rows per hour`). Bounded: beyond the bound the
 * identity that was idle longest is forgotten first.
 */
export class RowBudgets {
  readonly #usages = new Map<string, Usage>()
  readonly #keyCountMax: number
  /** What was taken since `taken` was last asked; null where nobody asks. */
  #fresh: Map<string, RowsTaken> | null = null

  constructor(keyCountMax: number = KEY_COUNT_MAX) {
    this.#keyCountMax = keyCountMax
  }

  /** What was taken since the last call, for processes that share the budgets; the first says nothing. */
  taken(): readonly RowsTaken[] {
    const taken = [...(this.#fresh?.values() ?? [])]
    this.#fresh = new Map()
    return taken
  }

  /** Counts rows that another process has let through. */
  count({ key, windowMs, rows }: RowsTaken, nowMs: number): void {
    this.#add(this.#usage(key, windowMs, nowMs), rows)
  }

  /** Everything that is counted now, for a process that begins to share it. */
  all(nowMs: number): readonly RowsTaken[] {
    return [...this.#usages.keys()].map((name) => {
      const windowMs = Number(name.slice(0, name.indexOf(' ')))
      const key = name.slice(name.indexOf(' ') + 1)
      return { key, windowMs, rows: this.#usage(key, windowMs, nowMs).spent }
    })
  }

  /**
   * Counts `rows` for `key` (the identity's subject) if the budget holds them. Null: they may be
   * sent. A text says that the budget is spent; nothing was counted then.
   */
  take(
    key: string,
    budget: { readonly rows: number; readonly windowMs: number },
    rows: number,
    nowMs: number,
  ): string | null {
    const usage = this.#usage(key, budget.windowMs, nowMs)
    const { spent } = usage
    if (spent + rows > budget.rows) {
      return (
        `the budget of ${budget.rows} rows in ${windowText(budget.windowMs)} is spent ` +
        `(${spent} were read)`
      )
    }
    this.#add(usage, rows)
    if (this.#fresh !== null) {
      const { windowMs } = budget
      const before = this.#fresh.get(`${windowMs} ${key}`)?.rows ?? 0
      this.#fresh.set(`${windowMs} ${key}`, { key, windowMs, rows: before + rows })
    }
    return null
  }

  #add(usage: Usage, rows: number): void {
    const slot = usage.newest % SLOT_COUNT
    usage.counts[slot] = (usage.counts[slot] ?? 0) + rows
    usage.spent += rows
  }

  #usage(key: string, windowMs: number, nowMs: number): Usage {
    const slotMs = Math.max(1, Math.ceil(windowMs / SLOT_COUNT))
    const newest = Math.floor(nowMs / slotMs)
    // Two windows of one identity are two budgets.
    const name = `${windowMs} ${key}`
    let usage = this.#usages.get(name)
    this.#usages.delete(name)
    if (usage === undefined) {
      usage = { counts: new Array<number>(SLOT_COUNT).fill(0), spent: 0, newest }
    }
    // A clock that goes back must not reopen a window.
    for (
      let slot = usage.newest + 1;
      slot <= newest && slot <= usage.newest + SLOT_COUNT;
      slot += 1
    ) {
      usage.spent -= usage.counts[slot % SLOT_COUNT] ?? 0
      usage.counts[slot % SLOT_COUNT] = 0
    }
    usage.newest = Math.max(usage.newest, newest)
    this.#usages.set(name, usage)
    this.#forget()
    return usage
  }

  #forget(): void {
    if (this.#usages.size <= this.#keyCountMax) return
    const [oldest] = this.#usages.keys()
    if (oldest !== undefined) this.#usages.delete(oldest)
  }
}

function windowText(windowMs: number): string {
  if (windowMs % 3_600_000 === 0) return `${windowMs / 3_600_000} h`
  return windowMs % 60_000 === 0 ? `${windowMs / 60_000} min` : `${windowMs} ms`
}
