/**
 * A result of the suite: what it says of the machine, its figures with their spread, the goals, and
 * the comparison of two results.
 */
import { execFileSync } from 'node:child_process'
import os from 'node:os'
import type { Case, Goal } from './cases.ts'
import { contestantTexts, type ContestantName } from './contestants.ts'
import { median, type Sample } from './measure.ts'

export interface GoalResult {
  readonly text: string
  /** Median over the rounds, with the extremes. */
  readonly median: number
  readonly low: number
  readonly high: number
  readonly reached: boolean
}

export interface CaseResult {
  readonly name: string
  readonly text: string
  readonly unit: string
  readonly per: string
  readonly better: 'higher' | 'lower'
  /** By contestant, one for each round. */
  readonly samples: Readonly<Partial<Record<ContestantName, readonly Sample[]>>>
  readonly goals: readonly GoalResult[]
  /** Why a contestant has no figures. */
  readonly trouble: readonly string[]
}

export interface Result {
  readonly name: string
  readonly date: string
  readonly quick: boolean
  readonly rounds: number
  readonly machine: Readonly<Record<string, string | number>>
  readonly cases: readonly CaseResult[]
}

function output(file: string, args: readonly string[]): string {
  try {
    return execFileSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
      .trim()
      .split('\n')[0] as string
  } catch {
    return 'not there'
  }
}

/** What a reader must know to judge the figures. */
export function machineFacts(postgresVersion: number): Result['machine'] {
  const cpus = os.cpus()
  return {
    cpu: cpus[0]?.model ?? 'unknown',
    cores: cpus.length,
    memory_gib: Math.round(os.totalmem() / 2 ** 30),
    system: `${os.type()} ${os.release()}`,
    node: process.version,
    postgres: postgresVersion,
    pgbench: output('pgbench', ['--version']),
    pgbouncer: output('pgbouncer', ['--version']),
    commit: output('git', ['rev-parse', '--short', 'HEAD']),
    load_before: Number(os.loadavg()[0]?.toFixed(1)),
  }
}

/** The goal over the rounds; null where one of the two has no figures. */
export function goalResult(goal: Goal, samples: CaseResult['samples']): GoalResult | null {
  const ours = samples[goal.of]
  const theirs = goal.over === null ? undefined : samples[goal.over]
  if (ours === undefined || (goal.over !== null && theirs === undefined)) return null
  const figures = ours.map(({ value }, round) => {
    if (goal.over === null) return value
    const other = theirs?.[round]?.value ?? Number.NaN
    return goal.difference === true ? value - other : value / other
  })
  const usable = figures.filter((figure) => Number.isFinite(figure))
  if (usable.length === 0) return null
  const middle = median(usable)
  const sign = goal.difference === true ? '−' : '÷'
  const name = goal.over === null ? goal.of : `${goal.of} ${sign} ${goal.over}`
  return {
    text: `${name} ${goal.kind} ${goal.must}`,
    median: middle,
    low: Math.min(...usable),
    high: Math.max(...usable),
    reached: goal.kind === 'at least' ? middle >= goal.must : middle <= goal.must,
  }
}

export function shown(value: number): string {
  if (!Number.isFinite(value)) return '–'
  const digits = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 10 ? 1 : 3
  return value.toLocaleString('en-US', { maximumFractionDigits: digits })
}

/** The figures of a case, for people. */
export function printCase(result: CaseResult): void {
  console.log(`\n${result.name}: ${result.text} (${result.unit})`)
  for (const [name, samples] of Object.entries(result.samples)) {
    const values = samples.map((sample) => sample.value)
    const cpu = samples.flatMap((sample) => (sample.cpuUs === null ? [] : [sample.cpuUs]))
    const spread = `${shown(Math.min(...values))} … ${shown(Math.max(...values))}`
    const cpuText = cpu.length === 0 ? '' : `   CPU ${shown(median(cpu))} µs/${result.per}`
    const label = contestantTexts[name as ContestantName]
    console.log(
      `  ${label.padEnd(46)} ${shown(median(values)).padStart(10)}  (${spread})${cpuText}`,
    )
  }
  for (const goal of result.goals) {
    const verdict = goal.reached ? 'reached' : 'NOT reached'
    console.log(
      `  ${goal.text}: ${shown(goal.median)} (${shown(goal.low)} … ${shown(goal.high)}) ${verdict}`,
    )
  }
  for (const line of result.trouble) console.log(`  ${line}`)
}

/**
 * What got slower (or faster) from one result to another beyond the noise. Figures are taken
 * relative to the relay, else to the server, of the same run; noise is the spread of both.
 */
export function compareResults(old: Result, fresh: Result): readonly string[] {
  const lines: string[] = []
  for (const now of fresh.cases) {
    const then = old.cases.find((known) => known.name === now.name)
    if (then === undefined) continue
    for (const name of Object.keys(now.samples) as ContestantName[]) {
      if (name === 'direct' || name === 'relay') continue
      const a = relative(then, name)
      const b = relative(now, name)
      if (a === null || b === null) continue
      const change = median(b) / median(a) - 1
      const noise = Math.max(spreadOf(a), spreadOf(b), 0.03)
      if (Math.abs(change) <= noise) continue
      const worse = now.better === 'higher' ? change < 0 : change > 0
      lines.push(
        `${worse ? 'WORSE ' : 'better'} ${now.name}, ${name}: ${(change * 100).toFixed(1)} % (noise ±${(noise * 100).toFixed(1)} %)`,
      )
    }
  }
  return lines
}

function relative(result: CaseResult, name: ContestantName): readonly number[] | null {
  const base = result.samples.relay ?? result.samples.direct
  const values = result.samples[name]
  if (values === undefined || values.length === 0) return null
  const figures = values.map(({ value }, round) => value / (base?.[round]?.value ?? 1))
  return figures.every((figure) => Number.isFinite(figure)) ? figures : null
}

/** Half of the range, relative. */
function spreadOf(values: readonly number[]): number {
  return (Math.max(...values) - Math.min(...values)) / 2 / median(values)
}

export function caseResult(
  measured: Case,
  samples: CaseResult['samples'],
  trouble: readonly string[],
): CaseResult {
  const { name, text, unit, per, better } = measured
  const goals = measured.goals.flatMap((goal) => goalResult(goal, samples) ?? [])
  return { name, text, unit, per, better, samples, goals, trouble }
}
