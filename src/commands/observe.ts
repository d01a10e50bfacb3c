/**
 * What /metrics shows of the data plane and the policy.
 */
import { monitorEventLoopDelay, type IntervalHistogram } from 'node:perf_hooks'
import { FileAuditLog, type AuditLog } from '../audit/audit.ts'
import { stages, type Statistics } from '../core/core.ts'
import type { Metrics, PlaneObservation, PolicyKeeper } from '../control/control.ts'
import { detectorKinds, ValueDetectors, type DetectorKind } from '../masking/masking.ts'
import type { Server } from '../server/server.ts'

type Numbers = Record<string, [help: string, read: () => number]>

/** Registers the numbers of a data plane; they are read when somebody asks. */
export function watchServer(metrics: Metrics, server: Server, name = 'main'): void {
  watchStatistics(metrics, server.gate.statistics, name)
  watchAll(metrics, 'gauge', {
    regate_sessions: ['Sessions that are authenticated and connected.', () => server.sessionCount],
    regate_connections: ['Client connections, authenticated or not.', () => server.connectionCount],
    regate_sessions_waiting: [
      'Sessions whose client waits for something before its next statement.',
      () => server.sessions().filter(({ waiting }) => waiting !== null).length,
    ],
    regate_decision_cache_entries: [
      'Texts whose verdicts are cached.',
      () => server.gate.cacheCount,
    ],
  })
  watchAll(metrics, 'counter', {
    regate_connections_accepted_total: ['Client connections accepted.', () => server.acceptedCount],
    regate_connections_refused_total: [
      'Client connections refused: limits, authentication, connect policy, upstream.',
      () => server.refusedCount,
    ],
  })
}

/** What the data plane counts of statements; `process` tells the data planes of one regate apart. */
export function watchStatistics(metrics: Metrics, statistics: Statistics, name: string): void {
  metrics.watch({
    name: 'regate_statements_total',
    help: 'Statements by their kind, what was decided and by which rule.',
    kind: 'counter',
    labels: ['kind', 'action', 'rule'],
    read: () =>
      statistics.snapshot().tallies.map(({ kind, action, rule, count }) => ({
        labels: { kind, action, rule },
        value: count,
      })),
  })
  metrics.watch({
    name: 'regate_process_statements_total',
    help: 'Statements by the process that judged them.',
    kind: 'counter',
    labels: ['process'],
    read: () => [
      {
        labels: { process: name },
        value: statistics.snapshot().tallies.reduce((sum, { count }) => sum + count, 0),
      },
    ],
  })
  watchAll(metrics, 'counter', {
    regate_rows_total: ['Rows that clients got.', () => statistics.rows],
    regate_result_bytes_total: ['Bytes of those rows.', () => statistics.bytes],
    regate_masked_rows_total: ['Rows in which a value was masked.', () => statistics.maskedRows],
    regate_server_errors_total: [
      'Statements that ended with an error of the server.',
      () => statistics.serverErrors,
    ],
  })
  metrics.watch({
    name: 'regate_holds_total',
    help: 'Statements that waited for people, by what came of it.',
    kind: 'counter',
    labels: ['outcome'],
    read: () => [...statistics.holds].map(([outcome, value]) => ({ labels: { outcome }, value })),
  })
  metrics.durations('regate_hold_seconds', 'Time that statements waited for people.', () => [
    { labels: {}, durations: statistics.hold.snapshot() },
  ])
  const lookups = (hit: () => number, miss: () => number) => () => [
    { labels: { outcome: 'hit' }, value: hit() },
    { labels: { outcome: 'miss' }, value: miss() },
  ]
  metrics.watch({
    name: 'regate_verdict_cache_lookups_total',
    help: 'Texts whose verdict was known, and those that had to be judged.',
    kind: 'counter',
    read: lookups(
      () => statistics.verdictHits,
      () => statistics.verdictMisses,
    ),
  })
  const stageNames = stages.filter((stage) => stage !== 'upstream')
  metrics.durations('regate_stage_seconds', "Time of the gate's stages.", () => {
    const { durations } = statistics.snapshot()
    return stageNames.map((stage) => ({ labels: { stage }, durations: durations[stage] }))
  })
  metrics.durations(
    'regate_upstream_seconds',
    'Time from forwarding a statement to its last answer.',
    () => [{ labels: {}, durations: statistics.upstream.snapshot() }],
  )
}

/** Registers what a data plane's audit log has done. */
export function watchAudit(metrics: Metrics, audit: AuditLog): void {
  if (!(audit instanceof FileAuditLog)) return
  watchAll(metrics, 'gauge', {
    regate_audit_failing: [
      '1 while records cannot be written: statements are refused.',
      () => Number(audit.failing),
    ],
  })
  watchAll(metrics, 'counter', {
    regate_audit_records_total: ['Records that were written.', () => audit.writtenCount],
    regate_audit_bytes_total: ['Bytes of those records.', () => audit.writtenBytes],
    regate_audit_failures_total: ['Writes that failed.', () => audit.failedCount],
  })
}

/** Registers what is known of the active policy. */
export function watchPolicy(metrics: Metrics, keeper: PolicyKeeper): void {
  watchAll(metrics, 'gauge', {
    regate_policy_activated_timestamp_seconds: [
      'When the active bundle became active, in seconds since the epoch.',
      () => Date.parse(keeper.status.last_successful_activation ?? '') / 1000 || 0,
    ],
    regate_policy_ok: [
      '1 while the newest bundle is the active one.',
      () => (keeper.status.code === null ? 1 : 0),
    ],
  })
  watchAll(metrics, 'counter', {
    regate_policy_activations_total: [
      'Policies that became active.',
      () => keeper.status.activation_count,
    ],
    regate_policy_failures_total: [
      'Bundles that could not be loaded.',
      () => keeper.status.failure_count,
    ],
  })
  metrics.watch({
    name: 'regate_policy_info',
    help: 'Revision of the active policy; always 1.',
    kind: 'gauge',
    read: () => [{ labels: { revision: keeper.status.active_revision }, value: 1 }],
  })
}

function watchAll(metrics: Metrics, kind: 'counter' | 'gauge', numbers: Numbers): void {
  for (const [name, [help, read]] of Object.entries(numbers)) {
    metrics.watch({ name, help, kind, read })
  }
}

/** The value detectors of these kinds, counted; null where there are none. */
export function startDetectors(
  kinds: readonly DetectorKind[],
  metrics: Metrics,
): ValueDetectors | null {
  if (kinds.length === 0) return null
  const detectors = new ValueDetectors({ kinds })
  metrics.watch({
    name: 'regate_detected_values_total',
    help: 'Values that a detector has found and hidden in text that no mask covers.',
    kind: 'counter',
    read: () =>
      detectorKinds.map((kind) => ({
        labels: { kind },
        value: detectors.counts.get(kind) ?? 0,
      })),
  })
  return detectors
}

const loopResolutionMs = 20

/** What the console's overview is told of a data plane in this process. */
export class PlaneObserver {
  readonly #name: string
  readonly #server: Server
  readonly #loop: IntervalHistogram

  constructor(name: string, server: Server) {
    this.#name = name
    this.#server = server
    this.#loop = monitorEventLoopDelay({ resolution: loopResolutionMs })
    this.#loop.enable()
  }

  /** Its numbers now; the event loop's since the last time. */
  observe(): PlaneObservation {
    const server = this.#server
    const loop = this.#loop
    // The histogram holds the pauses between its ticks: what is above one tick is delay.
    const p99Us = loop.count === 0 ? null : loop.percentile(99) / 1_000 - loopResolutionMs * 1_000
    loop.reset()
    return {
      name: this.#name,
      sessions: server.sessionCount,
      connections: server.connectionCount,
      waiting: server.sessions().filter(({ waiting }) => waiting !== null).length,
      memoryBytes: process.memoryUsage.rss(),
      loopP99Us: p99Us === null ? null : Math.max(0, p99Us),
      statistics: server.gate.statistics.snapshot(),
    }
  }

  stop(): void {
    this.#loop.disable()
  }
}
