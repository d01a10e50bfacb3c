/**
 * What /metrics shows of the data plane and the policy.
 */
import type { Metrics, PolicyKeeper } from '../control/control.ts'
import { detectorKinds, ValueDetectors, type DetectorKind } from '../masking/masking.ts'
import type { Server } from '../server/server.ts'

/** Registers the numbers; they are read when somebody asks. */
export function watchServer(metrics: Metrics, server: Server, keeper: PolicyKeeper): void {
  const gauges: Record<string, [string, () => number]> = {
    regate_sessions: ['Sessions that are authenticated and connected.', () => server.sessionCount],
    regate_connections: ['Client connections, authenticated or not.', () => server.connectionCount],
    regate_sessions_waiting: [
      'Sessions whose client waits for something before its next statement.',
      () => server.sessions().filter(({ waiting }) => waiting !== null).length,
    ],
    regate_decision_cache_entries: [
      'Decisions that are cached.',
      () => server.gate.judge.cacheCount,
    ],
    regate_policy_ok: [
      '1 while the newest bundle is the active one.',
      () => (keeper.status.code === null ? 1 : 0),
    ],
  }
  for (const [name, [help, read]] of Object.entries(gauges)) {
    metrics.watch({ name, help, kind: 'gauge', read })
  }
  const counters: Record<string, [string, () => number]> = {
    regate_connections_accepted_total: ['Client connections accepted.', () => server.acceptedCount],
    regate_connections_refused_total: [
      'Client connections refused: limits, authentication, connect policy, upstream.',
      () => server.refusedCount,
    ],
    regate_policy_activations_total: [
      'Policies that became active.',
      () => keeper.status.activation_count,
    ],
    regate_policy_failures_total: [
      'Bundles that could not be loaded.',
      () => keeper.status.failure_count,
    ],
  }
  for (const [name, [help, read]] of Object.entries(counters)) {
    metrics.watch({ name, help, kind: 'counter', read })
  }
  metrics.watch({
    name: 'regate_policy_info',
    help: 'Revision of the active policy; always 1.',
    kind: 'gauge',
    read: () => [{ labels: { revision: keeper.status.active_revision }, value: 1 }],
  })
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
