/**
 * What the console's overview shows: numbers of all data planes, sampled every two seconds while
 * regate runs and kept for ten minutes, so that a page that opens has a past to show.
 */
import {
  durationsSince,
  durationsTogether,
  noDurations,
  quantileUs,
  stages,
  type Clock,
  type DurationsSnapshot,
  type Stage,
  type StatisticsSnapshot,
} from '../core/core.ts'

/** One data plane's numbers: plain data, since a worker sends them to another process. */
export interface PlaneObservation {
  /** Of its process, as metrics show it. */
  readonly name: string
  readonly sessions: number
  readonly connections: number
  readonly waiting: number
  readonly memoryBytes: number
  /** p99 of the event loop's delay since it was asked last; null where it was not measured. */
  readonly loopP99Us: number | null
  readonly statistics: StatisticsSnapshot
}

/** What came within one interval, by all data planes. */
export interface OverviewSample {
  readonly at: string
  readonly seconds: number
  readonly actions: Readonly<Record<string, number>>
  readonly upstream: { readonly p50: number | null; readonly p99: number | null }
  readonly loop_p99_us: number | null
}

export interface ObserverOptions {
  readonly clock: Clock
  observe(): Promise<readonly PlaneObservation[]>
}

export interface RuleCount {
  readonly rule: string
  readonly action: string
  readonly kinds: Readonly<Record<string, number>>
  readonly count: number
}

const everyMs = 2_000
const sampleCountMax = 300

interface Totals {
  readonly actions: Readonly<Record<string, number>>
  readonly durations: Readonly<Record<Stage, DurationsSnapshot>>
}

export class Observer {
  readonly #options: ObserverOptions
  readonly #samples: OverviewSample[] = []
  /** What the durations were at each sample, for quantiles of the whole past that is kept. */
  readonly #totals: Totals[] = []
  #planes: readonly PlaneObservation[] = []
  #atMs: number
  #timer: NodeJS.Timeout | null = null
  #sampling: Promise<void> | null = null

  constructor(options: ObserverOptions) {
    this.#options = options
    this.#atMs = options.clock.nowMs()
  }

  start(): void {
    this.#timer = setInterval(() => void this.sample().catch(() => undefined), everyMs)
    this.#timer.unref()
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }

  /** Takes a sample now; one at a time. */
  sample(): Promise<void> {
    this.#sampling ??= this.#take().finally(() => {
      this.#sampling = null
    })
    return this.#sampling
  }

  /** The last sample and its past. */
  get overview(): {
    readonly sessions: number
    readonly connections: number
    readonly waiting: number
    readonly history: readonly OverviewSample[]
    readonly totals: Readonly<Record<string, number>>
    readonly stages: readonly {
      readonly stage: Stage
      readonly count: number
      readonly p50: number | null
      readonly p99: number | null
    }[]
    readonly workers: readonly {
      readonly name: string
      readonly sessions: number
      readonly memory_bytes: number
      readonly loop_p99_us: number | null
    }[]
  } {
    const planes = this.#planes
    const [first, last] = [this.#totals[0], this.#totals.at(-1)]
    return {
      sessions: sum(planes.map(({ sessions }) => sessions)),
      connections: sum(planes.map(({ connections }) => connections)),
      waiting: sum(planes.map(({ waiting }) => waiting)),
      history: this.#samples,
      totals: last?.actions ?? {},
      stages: stages.map((stage) => {
        const now = last?.durations[stage] ?? noDurations
        const lately = durationsSince(now, first?.durations[stage] ?? noDurations)
        const [p50, p99] = [quantileUs(lately, 0.5), quantileUs(lately, 0.99)]
        return { stage, count: lately.count, p50, p99 }
      }),
      workers: planes.map(({ name, sessions, memoryBytes, loopP99Us }) => ({
        ...{ name, sessions, memory_bytes: memoryBytes, loop_p99_us: loopP99Us },
      })),
    }
  }

  /** Rules by how often they decided, since the data planes started. */
  get rules(): readonly RuleCount[] {
    const rules = new Map<string, { rule: string; action: string; kinds: Record<string, number> }>()
    for (const tally of this.#planes.flatMap(({ statistics }) => statistics.tallies)) {
      if (tally.count === 0) continue
      const key = `${tally.action}\n${tally.rule}`
      const known = rules.get(key) ?? { rule: tally.rule, action: tally.action, kinds: {} }
      known.kinds[tally.kind] = (known.kinds[tally.kind] ?? 0) + tally.count
      rules.set(key, known)
    }
    return [...rules.values()]
      .map((one) => ({ ...one, count: sum(Object.values(one.kinds)) }))
      .sort((a, b) => b.count - a.count)
  }

  async #take(): Promise<void> {
    const planes = await this.#options.observe()
    const nowMs = this.#options.clock.nowMs()
    const before = this.#totals.at(-1) ?? emptyTotals
    const now = totalsOf(planes)
    // A process that ended took its counts along: what is less than before began anew.
    const begun = Object.keys(before.actions).some(
      (name) => (now.actions[name] ?? 0) < (before.actions[name] ?? 0),
    )
    if (begun) this.#totals.length = 0
    const since = begun ? emptyTotals : before
    const upstream = durationsSince(now.durations.upstream, since.durations.upstream)
    const actions = Object.fromEntries(
      Object.entries(now.actions).map(([name, count]) => [
        name,
        count - (since.actions[name] ?? 0),
      ]),
    )
    const loops = planes.map(({ loopP99Us }) => loopP99Us).filter((us) => us !== null)
    this.#planes = planes
    this.#totals.push(now)
    if (this.#totals.length > sampleCountMax) this.#totals.shift()
    this.#samples.push({
      at: new Date(nowMs).toISOString(),
      seconds: Math.max(0.001, (nowMs - this.#atMs) / 1000),
      actions,
      upstream: { p50: quantileUs(upstream, 0.5), p99: quantileUs(upstream, 0.99) },
      loop_p99_us: loops.length === 0 ? null : Math.max(...loops),
    })
    if (this.#samples.length > sampleCountMax) this.#samples.shift()
    this.#atMs = nowMs
  }
}

const emptyTotals: Totals = { actions: {}, durations: durationsOf(() => noDurations) }

function durationsOf(of: (stage: Stage) => DurationsSnapshot): Record<Stage, DurationsSnapshot> {
  return Object.fromEntries(stages.map((stage) => [stage, of(stage)])) as Record<
    Stage,
    DurationsSnapshot
  >
}

function totalsOf(planes: readonly PlaneObservation[]): Totals {
  const actions: Record<string, number> = {}
  for (const { action, count } of planes.flatMap(({ statistics }) => statistics.tallies)) {
    actions[action] = (actions[action] ?? 0) + count
  }
  const together = (stage: Stage): DurationsSnapshot =>
    durationsTogether(planes.map(({ statistics }) => statistics.durations[stage]))
  return { actions, durations: durationsOf(together) }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
