/**
 * What /metrics shows of the data plane and the policy.
 */
import type { Metrics, PolicyKeeper } from '../control/control.ts'
import { detectorKinds, ValueDetectors, type DetectorKind } from '../masking/masking.ts'
import type { Server } from '../server/server.ts'

type Numbers = Record<string, [help: string, read: () => number]>

/** Registers the numbers of a data plane; they are read when somebody asks. */
export function watchServer(metrics: Metrics, server: Server): void {
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

/** Registers what is known of the active policy. */
export function watchPolicy(metrics: Metrics, keeper: PolicyKeeper): void {
  watchAll(metrics, 'gauge', {
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
