/**
 * Metrics in the Prometheus text format. The data plane counts in plain numbers; they are read only
 * when somebody asks for /metrics, so that counting costs the hot path nothing else.
 *
 * Names are stable: `regate_` first, unit and `_total` last. Labels are bounded: never a user, a
 * database that a client made up, or a text.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'

/** Numbers of a data plane since it started; gauges are of the moment. */
export interface PlaneNumbers {
  readonly [name: string]: number
}

export interface MetricSource {
  readonly name: string
  readonly help: string
  readonly kind: 'counter' | 'gauge'
  /** One value, or one per label set. */
  read(): number | readonly { readonly labels: Record<string, string>; readonly value: number }[]
}

export class Metrics {
  readonly #registry = new Registry()

  constructor(version: string) {
    collectDefaultMetrics({ register: this.#registry, prefix: 'regate_' })
    const info = new Gauge({
      name: 'regate_build_info',
      help: 'Version of regate and of Node; always 1.',
      labelNames: ['version', 'node'],
      registers: [this.#registry],
    })
    info.set({ version, node: process.version }, 1)
  }

  /** Adds a number that lives elsewhere and is read when metrics are asked for. */
  watch(source: MetricSource): void {
    const { name, help, kind } = source
    const first = source.read()
    const labelNames =
      typeof first === 'number'
        ? []
        : [...new Set(first.flatMap(({ labels }) => Object.keys(labels)))]
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

  /** A histogram in seconds that its owner observes. */
  histogram(
    name: string,
    help: string,
    bucketsSeconds: readonly number[],
  ): (seconds: number) => void {
    const buckets = [...bucketsSeconds]
    const histogram = new Histogram({ name, help, buckets, registers: [this.#registry] })
    return (seconds) => {
      histogram.observe(seconds)
    }
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  async text(): Promise<string> {
    return await this.#registry.metrics()
  }
}
