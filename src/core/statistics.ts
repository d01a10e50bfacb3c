/**
 * What a data plane counts while it works: plain numbers in plain fields, read when somebody asks
 * for metrics. Counting a statement is one increment, a duration two additions and a shift; nothing
 * is allocated on the way of a statement.
 *
 * A snapshot is plain JSON, so that a worker can send it to the process that shows it. Every label
 * is bounded: rules beyond `ruleCountMax` are counted together.
 */

/** Statements of one kind, action and rule. The same object while the process lives. */
export interface Tally {
  readonly kind: string
  readonly action: string
  readonly rule: string
  count: number
}

/** Buckets below 8 µs are exact; above, each power of two has eight: at most 12.5 % wide. */
const bucketCount = 232
const observedMax = 2 ** 31 - 1

/** Durations in microseconds, in logarithmic buckets that are allocated once. */
export class Durations {
  readonly buckets = new Float64Array(bucketCount)
  count = 0
  sumUs = 0

  observe(us: number): void {
    this.count++
    this.sumUs += us
    const whole = us > observedMax ? observedMax : us > 0 ? us | 0 : 0
    const index = bucketOf(whole)
    this.buckets[index] = (this.buckets[index] ?? 0) + 1
  }

  snapshot(): DurationsSnapshot {
    const buckets: [number, number][] = []
    for (const [index, count] of this.buckets.entries()) {
      if (count > 0) buckets.push([index, count])
    }
    return { count: this.count, sumUs: this.sumUs, buckets }
  }
}

/** Only buckets that hold something: [index, count], by index. */
export interface DurationsSnapshot {
  readonly count: number
  readonly sumUs: number
  readonly buckets: readonly (readonly [number, number])[]
}

export const noDurations: DurationsSnapshot = { count: 0, sumUs: 0, buckets: [] }

function bucketOf(whole: number): number {
  if (whole < 8) return whole
  const exponent = 31 - Math.clz32(whole)
  return (exponent - 2) * 8 + ((whole >>> (exponent - 3)) & 7)
}

/** The least microseconds that fall into a bucket. */
export function bucketStartUs(index: number): number {
  if (index < 8) return index
  return (8 + (index % 8)) * 2 ** (Math.floor(index / 8) - 1)
}

/** Microseconds that the given share of the durations stays below (0.5, 0.99); null without any. */
export function quantileUs(snapshot: DurationsSnapshot, share: number): number | null {
  const wanted = snapshot.count * share
  let seen = 0
  for (const [index, count] of snapshot.buckets) {
    if (seen + count >= wanted) {
      const start = bucketStartUs(index)
      return start + (bucketStartUs(index + 1) - start) * Math.max(0, (wanted - seen) / count)
    }
    seen += count
  }
  return null
}

/** What came between two snapshots of the same durations. */
export function durationsSince(
  now: DurationsSnapshot,
  before: DurationsSnapshot,
): DurationsSnapshot {
  const old = new Map(before.buckets)
  return {
    count: now.count - before.count,
    sumUs: now.sumUs - before.sumUs,
    buckets: now.buckets
      .map(([index, count]) => [index, count - (old.get(index) ?? 0)] as const)
      .filter(([, count]) => count > 0),
  }
}

/** The sum of several. */
export function durationsTogether(all: readonly DurationsSnapshot[]): DurationsSnapshot {
  const [first] = all
  if (first !== undefined && all.length === 1) return first
  const buckets = new Map<number, number>()
  for (const [index, count] of all.flatMap((one) => one.buckets)) {
    buckets.set(index, (buckets.get(index) ?? 0) + count)
  }
  return {
    count: all.reduce((sum, one) => sum + one.count, 0),
    sumUs: all.reduce((sum, one) => sum + one.sumUs, 0),
    buckets: [...buckets].sort(([a], [b]) => a - b),
  }
}

/** The stages that are timed. */
export const stages = ['parse', 'analysis', 'evaluation', 'audit', 'upstream'] as const
export type Stage = (typeof stages)[number]

export interface StatisticsSnapshot {
  readonly tallies: readonly Readonly<Tally>[]
  readonly durations: Readonly<Record<Stage, DurationsSnapshot>>
  readonly counts: Readonly<Record<CountName, number>>
}

export const countNames = [
  'rows',
  'bytes',
  'maskedRows',
  'serverErrors',
  'verdictHits',
  'verdictMisses',
] as const
export type CountName = (typeof countNames)[number]

const ruleCountMax = 500
const tallyCountMax = 5_000

/** The numbers of one data plane. */
export class Statistics {
  readonly #tallies = new Map<string, Tally>()
  readonly #rules = new Set<string>()
  readonly parse = new Durations()
  readonly analysis = new Durations()
  readonly evaluation = new Durations()
  readonly audit = new Durations()
  readonly upstream = new Durations()
  /** How long statements waited for people, and how often with which outcome. */
  readonly hold = new Durations()
  readonly holds = new Map<string, number>()
  rows = 0
  bytes = 0
  /** Rows in which at least one value was masked. */
  maskedRows = 0
  serverErrors = 0
  /** Texts whose verdict was known, and those that had to be judged. */
  verdictHits = 0
  verdictMisses = 0

  /** Where statements like this are counted: looked up when one is judged, not when it runs. */
  tally(kind: string, action: string, rule: string): Tally {
    const name = this.#bounded(rule)
    const key = `${kind}\n${action}\n${name}`
    const known = this.#tallies.get(key)
    if (known !== undefined) return known
    const full = this.#tallies.size >= tallyCountMax
    const tally = { kind: full ? 'other' : kind, action, rule: full ? 'other' : name, count: 0 }
    const slot = full ? `other\n${action}\nother` : key
    const made = this.#tallies.get(slot) ?? tally
    this.#tallies.set(slot, made)
    return made
  }

  #bounded(rule: string): string {
    if (this.#rules.has(rule)) return rule
    if (this.#rules.size >= ruleCountMax || rule.length > 200) return 'other'
    this.#rules.add(rule)
    return rule
  }

  /** A statement waited for people. `outcome` is one of few words. */
  held(us: number, outcome: string): void {
    this.hold.observe(us)
    this.holds.set(outcome, (this.holds.get(outcome) ?? 0) + 1)
  }

  /** A statement has ended: its time at the server in microseconds and what it gave. */
  ended(us: number, rows: number, bytes: number, masked: boolean, failed: boolean): void {
    this.upstream.observe(us)
    this.rows += rows
    this.bytes += bytes
    if (masked) this.maskedRows += rows
    if (failed) this.serverErrors++
  }

  snapshot(): StatisticsSnapshot {
    return {
      tallies: [...this.#tallies.values()].map((tally) => ({ ...tally })),
      durations: {
        parse: this.parse.snapshot(),
        analysis: this.analysis.snapshot(),
        evaluation: this.evaluation.snapshot(),
        audit: this.audit.snapshot(),
        upstream: this.upstream.snapshot(),
      },
      counts: {
        rows: this.rows,
        bytes: this.bytes,
        maskedRows: this.maskedRows,
        serverErrors: this.serverErrors,
        verdictHits: this.verdictHits,
        verdictMisses: this.verdictMisses,
      },
    }
  }
}
