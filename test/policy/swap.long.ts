/**
 * Policies swapped under load, the long way: 32 clients of pgbench, 200 swaps a minute between two
 * good bundles, with a broken one, a wrongly signed one and a half-written one in between; a minute
 * without swaps before it. regate is a process of its own, from dist/.
 *
 *   npm run test:swap            # exit code 1 where anything is not as it must be
 *   npm run test:swap -- --seconds 20
 */
import { loadavg } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startPostgres } from '../support/postgres.ts'
import { serveProxy } from '../support/proxy.ts'
import {
  auditedRevisions,
  makeBundles,
  pgbench,
  preparePgbench,
  startBundleServer,
  swap,
  swapConfiguration,
} from './support/swaps.ts'

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '60' } } })
const seconds = Number(values.seconds)
const perMinute = 200
const clients = 32

const postgres = await startPostgres({ settings: { log_statement: 'none', max_connections: 100 } })
const bundles = await makeBundles()
const server = await startBundleServer(bundles.good.get('a') ?? Buffer.alloc(0))
const problems: string[] = []
try {
  await preparePgbench(postgres)
  const proxy = await serveProxy(postgres, { configuration: swapConfiguration(bundles, server) })
  let stopped = false
  try {
    await pgbench(proxy.port, 'ann', { clients, seconds: 3 })
    const before = await pgbench(proxy.port, 'ann', { clients, seconds })
    const load = pgbench(proxy.port, 'ann', { clients, seconds })
    const done = await swap(bundles, server, proxy.adminUrl, { perMinute, seconds: seconds - 1 })
    const during = await load
    const after = await pgbench(proxy.port, 'ann', { clients, seconds: Math.min(seconds, 20) })
    const rate = (done.activated / done.seconds) * 60
    for (const [name, run] of Object.entries({ before, during, after })) {
      console.log(
        `${name.padEnd(6)} ${run.transactions} transactions, ${run.failed} failed, p50 ${run.p50.toFixed(2)} p99 ${run.p99.toFixed(2)} ms`,
      )
    }
    console.log(
      `${done.activated} swaps (${rate.toFixed(0)} a minute), ${done.refused} bundles refused; p99 during ÷ before ${(during.p99 / before.p99).toFixed(2)}; load ${(loadavg()[0] ?? 0).toFixed(1)}`,
    )
    proxy.child.kill('SIGTERM')
    await new Promise((resolve) => proxy.child.once('exit', resolve))
    stopped = true
    const audited = auditedRevisions(join(proxy.directory, 'audit'))
    console.log(
      `audit: ${audited.statements} statements decided, ${audited.activations} activations, ${audited.wrong.length} judged by a revision that was not active, by revision ${JSON.stringify(Object.fromEntries(audited.byRevision))}`,
    )
    const total = before.transactions + during.transactions + after.transactions
    must(during.failed === 0, 'statements failed')
    must(audited.refused === 0, 'statements were refused')
    must(audited.wrong.length === 0, `judged wrongly, the first: ${audited.wrong[0] ?? ''}`)
    must(audited.statements >= total, 'statements are missing in the audit')
    must(audited.activations === done.activated + 1, 'activations are missing in the audit')
    must(rate >= perMinute * 0.95, `only ${rate.toFixed(0)} swaps a minute`)
    must(during.p99 <= 2 * before.p99, 'p99 during the swaps is more than twice p99 before')
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
