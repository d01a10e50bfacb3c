/** Traces as the configuration asks for them, with their metrics. */
import { hostname } from 'node:os'
import type { Logger } from 'pino'
import type { Configuration } from '../config/config.ts'
import { startTracing, type Metrics } from '../control/control.ts'
import { systemClock, type StatementTracer } from '../core/core.ts'
import { serviceOptions } from './policy-source.ts'
import type { Undo } from './undo.ts'
import { packageVersion } from './version.ts'
import type { Environment } from './wiring.ts'

export interface TracerParts {
  readonly configuration: Configuration
  readonly environment: Environment
  readonly log: Logger
  readonly metrics: Metrics
  /** Of the data plane. */
  readonly name: string
}

/** Who is told of the statements of a data plane; null where nothing is traced. */
export async function tracerOf(
  { configuration, environment, log, metrics, name }: TracerParts,
  undo: Undo,
): Promise<StatementTracer | null> {
  const { traces, limits } = configuration
  if (traces === null) return null
  const tracing = await startTracing({
    service: await serviceOptions(traces.service, environment),
    ratio: traces.ratio,
    perSecondMax: limits.tracedPerSecondMax,
    clock: systemClock,
    instance: `${hostname()}-${name}`,
    version: packageVersion(),
    onNews: (message, error) => {
      log.warn({ err: error }, message)
    },
  })
  undo.push(() => tracing.close())
  metrics.watch({
    name: 'regate_trace_spans_total',
    help: 'Spans that the collector took, did not take, and that were too many.',
    kind: 'counter',
    labels: ['outcome'],
    read: () => {
      const { sent, failed, dropped } = tracing.counts
      return [
        { labels: { outcome: 'sent' }, value: sent },
        { labels: { outcome: 'failed' }, value: failed },
        { labels: { outcome: 'dropped' }, value: dropped },
      ]
    },
  })
  return tracing
}
