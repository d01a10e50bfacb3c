/**
 * Policies swapped under load, the long way: 32 clients of pgbench, 200 swaps a minute between good
 * bundles, with a broken one, a wrongly signed one and a half-written one in between. regate is a
 * process of its own, from dist/.
 *
 * One load goes on throughout, and quiet slices come in turn with slices of swapping, so that what
 * else the machine does falls on both: latencies of neighbouring slices are what is compared.
 *
 *   npm run test:swap               # exit code 1 where anything is not as it must be
 *   npm run test:swap -- --seconds 20 --fresh --workers 2
 *
 * `--fresh`: each good bundle is seen for the first time, instead of two in turn.
 */
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { startPostgres } from '../support/postgres.ts'
import { serveProxy } from '../support/proxy.ts'
import {
  auditedRevisions,
  makeBundles,
  percentile,
  pgbench,
  preparePgbench,
  startBundleServer,
  swapConfiguration,
  Swapper,
  type Swapping,
  type Transaction,
} from './support/swaps.ts'

const { values } = parseArgs({
  options: {
    /** Of swapping; as much again without. */
    seconds: { type: 'string', default: '60' },
    slice: { type: 'string', default: '10' },
    workers: { type: 'string', default: '1' },
    fresh: { type: 'boolean', default: false },
  },
})
const [seconds, slice, workers] = [values.seconds, values.slice, values.workers].map(Number) as [
  number,
  number,
  number,
]
/** What must be reached; a little more is asked for, since the last swap of a slice overruns it. */
const perMinute = 200
const askedPerMinute = 212
const clients = 32
const warmupSeconds = 5

const count = values.fresh ? Math.ceil((seconds * askedPerMinute) / 60) + 50 : 2
const postgres = await startPostgres({ settings: { log_statement: 'none', max_connections: 100 } })
const bundles = await makeBundles(count)
const server = await startBundleServer(bundles.good.get('a') ?? Buffer.alloc(0))
const problems: string[] = []
try {
  await preparePgbench(postgres)
  const configuration = { ...swapConfiguration(bundles, server), workers }
  const proxy = await serveProxy(postgres, { configuration })
  let stopped = false
  try {
    const slices = Math.max(1, Math.round(seconds / slice))
    const length = warmupSeconds + 2 * slices * slice + slice
    const load = pgbench(proxy.port, 'ann', { clients, seconds: length })
    await delay(warmupSeconds * 1_000)
    const swapper = new Swapper(bundles, server, proxy.adminUrl)
    const runs: Swapping[] = []
    const quiet: (readonly [from: number, to: number])[] = []
    for (let index = 0; index < slices; index++) {
      const from = Date.now()
      await delay(slice * 1_000)
      quiet.push([from, Date.now()])
      runs.push(await swapper.run({ perMinute: askedPerMinute, seconds: slice }))
    }
    const { transactions, failed } = await load
    proxy.child.kill('SIGTERM')
    await new Promise((resolve) => proxy.child.once('exit', resolve))
    stopped = true
    const before = during(transactions, quiet)
    const swapping = during(
      transactions,
      runs.map(({ from, to }) => [from, to]),
    )
    report('quiet', before)
    report('swaps', swapping)
    const ratio = percentile(swapping, 0.99) / percentile(before, 0.99)
    console.log(`p99 of swaps ÷ quiet ${ratio.toFixed(2)}, load ${(loadavg()[0] ?? 0).toFixed(1)}`)
    const activated = sum(runs.map((run) => run.activated))
    const refused = sum(runs.map((run) => run.refused))
    const rate = (activated / sum(runs.map((run) => run.seconds))) * 60
    const busyMs = sum(runs.flatMap((run) => [...run.takenMs, ...run.refusedMs]))
    console.log(
      `${activated} swaps, ${rate.toFixed(0)} a minute (${((activated / busyMs) * 60_000).toFixed(0)} without pauses), ${refused} bundles refused`,
    )
    times(
      'a good bundle',
      runs.flatMap((run) => run.takenMs),
    )
    times(
      'a bad bundle',
      runs.flatMap((run) => run.refusedMs),
    )
    const audited = auditedRevisions(join(proxy.directory, 'audit'))
    console.log(
      `audit: ${audited.statements} statements decided, ${audited.activations} activations, ${audited.wrong.length} judged by a revision that was not active, ${audited.byRevision.size} revisions`,
    )
    must(failed === 0, 'statements failed')
    must(audited.refused === 0, 'statements were refused')
    must(audited.wrong.length === 0, `judged wrongly, the first: ${audited.wrong[0] ?? ''}`)
    must(audited.statements >= transactions.length, 'statements are missing in the audit')
    must(audited.activations === workers * (activated + 1), 'activations are missing in the audit')
    must(rate >= perMinute, `only ${rate.toFixed(0)} swaps a minute`)
    must(ratio <= 2, 'p99 during the swaps is more than twice p99 without')
  } finally {
    if (!stopped) console.log(proxy.log().slice(-4_000))
    await proxy.stop()
  }
} finally {
  server.stop()
  bundles.remove()
  await postgres.stop()
}
for (const problem of problems) console.error(`FAILED: ${problem}`)
process.exitCode = problems.length > 0 ? 1 : 0

function must(holds: boolean, problem: string): void {
  if (!holds) problems.push(problem)
}

function during(
  transactions: readonly Transaction[],
  slices: readonly (readonly [from: number, to: number])[],
): readonly Transaction[] {
  return transactions.filter(({ at }) => slices.some(([from, to]) => at >= from && at < to))
}

function report(name: string, transactions: readonly Transaction[]): void {
  const [p50, p99] = [percentile(transactions, 0.5), percentile(transactions, 0.99)]
  console.log(
    `${name} ${transactions.length} transactions, p50 ${p50.toFixed(2)} p99 ${p99.toFixed(2)} ms`,
  )
}

function times(name: string, ms: readonly number[]): void {
  const sorted = [...ms].sort((one, two) => one - two)
  const at = (part: number): string => (sorted[Math.floor(sorted.length * part)] ?? 0).toFixed(0)
  console.log(`reload with ${name}: p50 ${at(0.5)} p99 ${at(0.99)} ms`)
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}
