/**
 * Metrics in the Prometheus text format. The data plane counts in plain numbers; they are read only
 * when somebody asks for /metrics, so that counting costs the hot path nothing else.
 *
 * Names are stable: `regate_` first, unit and `_total` last. Labels are bounded: never a user, a
 * database that a client made up, or a text.
 */
import {
  AggregatorRegistry,
  collectDefaultMetrics,
  Counter,
  Gauge,
  type Histogram,
  Registry,
  type MetricObjectWithValues,
  type MetricValue,
} from 'prom-client'
import { bucketStartUs, type DurationsSnapshot } from '../core/core.ts'

/** The metrics of a process as plain data, for another process to show beside its own. */
export type MetricDocument = readonly MetricObjectWithValues<MetricValue<string>>[]

export interface MetricSource {
  readonly name: string
  readonly help: string
  readonly kind: 'counter' | 'gauge'
  /** Names of the labels; needed where `read` gives none of them yet. */
  readonly labels?: readonly string[]
  /** One value, or one per label set. */
  read(): number | readonly { readonly labels: Record<string, string>; readonly value: number }[]
}

export class Metrics {
  readonly #registry = new Registry()

  /** `processName` labels what is one process's own (memory, CPU, event loop); all else adds up. */
  constructor(version: string, processName = 'main') {
    collectDefaultMetrics({
      register: this.#registry,
      prefix: 'regate_',
      labels: { process: processName },
    })
    const info = new Gauge({
      name: 'regate_build_info',
      help: 'Version of regate and of Node; always 1.',
      labelNames: ['version', 'node'],
      registers: [this.#registry],
      aggregator: 'first',
    })
    info.set({ version, node: process.version }, 1)
  }

  /** Adds a number that lives elsewhere and is read when metrics are asked for. */
  watch(source: MetricSource): void {
    const { name, help, kind } = source
    const first = source.labels ?? source.read()
    const labelNames =
      typeof first === 'number'
        ? []
        : [
            ...new Set(
              first.flatMap((one) => (typeof one === 'string' ? [one] : Object.keys(one.labels))),
            ),
          ]
    const configuration = { name, help, labelNames, registers: [this.#registry] }
    const metric =
      kind === 'gauge'
        ? new Gauge({ ...configuration, collect: () => fill() })
        : new Counter({ ...configuration, collect: () => fill() })
    const fill = (): void => {
      metric.reset()
      const values = source.read()
      const list = typeof values === 'number' ? [{ labels: {}, value: values }] : values
      for (const { labels, value } of list) metric.inc(labels, value)
    }
  }

  /** Durations that are counted elsewhere in their own buckets, as a histogram in seconds. */
  durations(
    name: string,
    help: string,
    read: () => readonly {
      readonly labels: Record<string, string>
      readonly durations: DurationsSnapshot
    }[],
  ): void {
    const type = 'histogram'
    const get = (): Promise<object> =>
      Promise.resolve({
        ...{ name, help, type, aggregator: 'sum' },
        values: read().flatMap(({ labels, durations }) => histogramOf(name, labels, durations)),
      })
    // A metric is what has a name and gives its values: prom-client's own classes only count.
    const metric = { name, help, type, get, reset: () => undefined }
    this.#registry.registerMetric(metric as unknown as Histogram)
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  /** Everything, for `text` of the process that is asked for metrics. */
  async document(): Promise<MetricDocument> {
    return await this.#registry.getMetricsAsJSON()
  }

  /** The text format; numbers of the same name and labels in `others` are added up. */
  async text(others: readonly MetricDocument[] = []): Promise<string> {
    if (others.length === 0) return await this.#registry.metrics()
    const documents = [await this.document(), ...others] as MetricObjectWithValues<
      MetricValue<string>
    >[][]
    return await AggregatorRegistry.aggregate(documents).metrics()
  }
}

/** 1 µs to 67 s, each bound four times the one before: they fall between buckets of `Durations`. */
const boundsUs = Array.from({ length: 14 }, (_, index) => 4 ** index)

interface HistogramValue {
  readonly metricName: string
  readonly labels: Record<string, string | number>
  readonly value: number
}

function histogramOf(
  name: string,
  labels: Record<string, string>,
  durations: DurationsSnapshot,
): readonly HistogramValue[] {
  const values: HistogramValue[] = []
  let [at, seen] = [0, 0]
  for (const bound of boundsUs) {
    for (;;) {
      const bucket = durations.buckets[at]
      if (bucket === undefined || bucketStartUs(bucket[0]) >= bound) break
      seen += bucket[1]
      at++
    }
    const le = bound / 1e6
    values.push({ metricName: `${name}_bucket`, labels: { ...labels, le }, value: seen })
  }
  const { count, sumUs } = durations
  values.push({ metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: count })
  values.push({ metricName: `${name}_sum`, labels, value: sumUs / 1e6 })
  values.push({ metricName: `${name}_count`, labels, value: count })
  return values
}
