/**
 * The audit's sinks as the configuration names them. They run in the control plane, one set in each
 * regate: they read the segments of all its workers.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { hostname } from 'node:os'
import type { Logger } from 'pino'
import {
  fileSink,
  httpSink,
  lineSink,
  otlpSink,
  postgresSink,
  Shipper,
  type AuditSink,
} from '../audit/audit.ts'
import { readSecret, type Configuration, type SinkConfiguration } from '../config/config.ts'
import {
  decisionEvent,
  DecisionLog,
  serviceAgent,
  serviceHeaders,
  type Metrics,
} from '../control/control.ts'
import { systemClock } from '../core/core.ts'
import { serviceOptions } from './policy-source.ts'
import type { Undo } from './undo.ts'
import type { Environment } from './wiring.ts'

export interface SinkOptions {
  readonly configuration: Configuration
  readonly environment: Environment
  readonly log: Logger
  readonly metrics: Metrics
}

const bundleName = 'regate'

/** Starts a shipper for each sink; the decision logs among them take status documents too. */
export async function startSinks(
  { configuration, environment, log, metrics }: SinkOptions,
  undo: Undo,
): Promise<readonly DecisionLog[]> {
  const { directory, sinks } = configuration.audit
  const decisionLogs: DecisionLog[] = []
  const shippers = new Map<string, Shipper>()
  // Together: each may take its time to send what is left.
  undo.push(async () => {
    await Promise.all([...shippers.values()].map((shipper) => shipper.close()))
  })
  for (const one of sinks) {
    const sink = await sinkOf(one, environment, log)
    if (sink instanceof DecisionLog) decisionLogs.push(sink)
    const shipper = new Shipper({
      ...{ directory, sink, clock: systemClock },
      onNews: (message, error) => {
        log.warn({ err: error }, message)
      },
    })
    shippers.set(sink.name, shipper)
  }
  if (shippers.size > 0) watchSinks(metrics, shippers)
  return decisionLogs
}

/** The same name after a restart, another one for another target. */
function nameOf(sink: SinkConfiguration): string {
  const target = 'url' in sink ? sink.url : 'path' in sink ? sink.path : ''
  const table = 'table' in sink ? sink.table : ''
  const digest = createHash('sha256').update(`${target}\0${table}`).digest('hex').slice(0, 8)
  return `${sink.kind}-${digest}`
}

async function sinkOf(
  sink: SinkConfiguration,
  environment: Environment,
  log: Logger,
): Promise<AuditSink> {
  const name = nameOf(sink)
  const labels = { app: 'regate', id: `${hostname()}-${process.pid}` }
  switch (sink.kind) {
    case 'stdout':
      return lineSink(name, writeStdout)
    case 'file':
      return fileSink(name, sink.path)
    case 'opa_file':
      return fileSink(name, sink.path, (shipped) => decisionEvent(shipped, { labels, bundleName }))
    case 'postgres': {
      const { url, table, password: source } = sink
      const password = source === null ? null : () => readSecret(source, environment)
      return postgresSink({ name, url, table, password })
    }
    case 'opa': {
      const service = await serviceOptions(sink, environment)
      const onError = (error: unknown): void => {
        log.warn({ err: error }, 'decision log: the status was not delivered')
      }
      return new DecisionLog(name, { service, labels, bundleName, onError })
    }
    default: {
      const service = await serviceOptions(sink, environment)
      const headers = (): Promise<Record<string, string>> => serviceHeaders(service)
      const target = { url: service.url, headers, dispatcher: serviceAgent(service) }
      if (sink.kind === 'http') return httpSink(name, target)
      return otlpSink(name, target, hostname(), (message) => {
        log.warn({ sink: name }, `audit sink: ${message}`)
      })
    }
  }
}

async function writeStdout(text: string, signal: AbortSignal): Promise<void> {
  if (!process.stdout.write(text)) await once(process.stdout, 'drain', { signal })
}

function watchSinks(metrics: Metrics, shippers: ReadonlyMap<string, Shipper>): void {
  const watch = (
    name: string,
    kind: 'counter' | 'gauge',
    help: string,
    read: (shipper: Shipper) => number,
  ): void => {
    metrics.watch({
      ...{ name, kind, help },
      read: () =>
        [...shippers].map(([sink, shipper]) => ({ labels: { sink }, value: read(shipper) })),
    })
  }
  watch(
    'regate_audit_sink_lag_bytes',
    'gauge',
    'Bytes of the log that a sink does not have.',
    (one) => one.status.lagBytes,
  )
  watch(
    'regate_audit_sink_lag_seconds',
    'gauge',
    'Age of the oldest record that a sink was offered and has not taken.',
    (one) => one.status.lagMs / 1_000,
  )
  watch('regate_audit_sink_failing', 'gauge', '1 while a sink does not take records.', (one) =>
    Number(one.status.failing),
  )
  watch(
    'regate_audit_sink_sent_total',
    'counter',
    'Records that a sink has taken.',
    (one) => one.status.sentCount,
  )
  watch(
    'regate_audit_sink_failures_total',
    'counter',
    'Deliveries that failed.',
    (one) => one.status.failureCount,
  )
  watch(
    'regate_audit_sink_lost_total',
    'counter',
    'Records that retention deleted before a sink had them.',
    (one) => one.status.lostCount,
  )
}
