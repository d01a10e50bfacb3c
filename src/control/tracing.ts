/**
 * Traces by OpenTelemetry: a span for the statements of a message, with spans below it for judging, the
 * wait for people and the time at the server. Joined to the client's trace where a comment names one.
 *
 * Spans say what was decided and how long it took, never a text, a value or who asked: `regate.decision.id`
 * leads to the audit, which has its own readers. Bounded everywhere: spans a second, the queue, the time
 * of an export. What does not fit is dropped and counted; no statement ever waits.
 */
import {
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Attributes,
  type HrTime,
  type Span,
  type Tracer,
} from '@opentelemetry/api'
import { ExportResultCode } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
  type ReadableSpan,
  type SpanExporter,
} from '@opentelemetry/sdk-trace'
import type {
  Clock,
  StatementSpan,
  StatementTracer,
  TracedEnd,
  TracedStatements,
} from '../core/core.ts'
import { traceParentOf } from '../sql/sql.ts'
import { serviceHeaders, type ServiceOptions } from './bundles-remote.ts'

export interface TracingOptions {
  /** The collector; `url` ends in /v1/traces. */
  readonly service: ServiceOptions
  /** Share of the traces that begin here; a client's own says for itself whether it is sampled. */
  readonly ratio: number
  /** More statements than these in a second are not traced. */
  readonly perSecondMax: number
  readonly clock: Clock
  /** Of this process. */
  readonly instance: string
  readonly version: string
  /** The collector did not take spans, or takes them again. */
  readonly onNews: (message: string, error: unknown) => void
  readonly delayMs?: number
}

export interface TracingCounts {
  /** Spans that the collector took, did not take, and that did not fit. */
  readonly sent: number
  readonly failed: number
  readonly dropped: number
}

const queueCountMax = 4_096
const batchCountMax = 512
const delayMsDefault = 1_000
const exportMsMax = 10_000
const closeMsMax = 2_000
const secondUs = 1e6

/** Tells the collector of statements. */
export class Tracing implements StatementTracer {
  readonly #options: TracingOptions
  readonly #provider: TracerProvider
  readonly #tracer: Tracer
  readonly #exporter: CountingExporter
  #second = 0
  #secondCount = 0
  #ended = 0
  #skipped = 0

  constructor(options: TracingOptions) {
    this.#options = options
    const { service, ratio, instance, version, delayMs = delayMsDefault } = options
    const { ca, cert, key } = service
    const exporter = new OTLPTraceExporter({
      url: service.url,
      headers: headersOf(service, options.onNews),
      timeoutMillis: exportMsMax,
      concurrencyLimit: 1,
      httpAgentOptions: {
        keepAlive: true,
        ...(ca === null ? {} : { ca }),
        ...(cert === null ? {} : { cert }),
        ...(key === null ? {} : { key }),
      },
    })
    this.#exporter = new CountingExporter(exporter, options.onNews)
    this.#provider = new TracerProvider({
      resource: resourceFromAttributes({
        'service.name': 'regate',
        'service.version': version,
        'service.instance.id': instance,
      }),
      sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio) }),
      spanProcessors: [
        new BatchSpanProcessor({
          exporter: this.#exporter,
          maxQueueSize: queueCountMax,
          maxExportBatchSize: batchCountMax,
          scheduledDelayMillis: delayMs,
          exportTimeoutMillis: exportMsMax * 2,
        }),
      ],
    })
    this.#tracer = this.#provider.getTracer('regate', version)
  }

  get counts(): TracingCounts {
    const { sent, failed } = this.#exporter
    // What was ended and neither sent nor failed waits in the queue, or did not fit into it.
    const waiting = this.#ended - sent - failed
    const dropped = this.#skipped + Math.max(0, waiting - queueCountMax - batchCountMax)
    return { sent, failed, dropped }
  }

  admitted(statements: TracedStatements): StatementSpan | null {
    const times = this.#timesOf()
    const span = this.#begin(statements, times)
    if (span === null) return null
    this.#judged(span, statements, times)
    return new RunSpan(span, statements, {
      clock: this.#options.clock,
      child: (name, kind, fromUs, toUs, attributes) => {
        this.#child(span, name, kind, times(fromUs), times(toUs), attributes)
      },
      end: (us) => {
        this.#end(span, times(us))
      },
    })
  }

  refused(statements: TracedStatements, sqlstate: string): void {
    const times = this.#timesOf()
    const span = this.#begin(statements, times)
    if (span === null) return
    this.#judged(span, statements, times)
    span.setAttribute('db.response.status_code', sqlstate)
    span.setAttribute('error.type', sqlstate)
    span.setStatus({ code: SpanStatusCode.ERROR })
    this.#end(span, times(statements.decidedUs))
  }

  /** Sends what is there, for at most two seconds. */
  async close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, closeMsMax)
    })
    await Promise.race([this.#provider.shutdown().catch(() => undefined), late])
    clearTimeout(timer)
  }

  #begin(statements: TracedStatements, times: Times): Span | null {
    const parent = statements.text === null ? null : traceParentOf(statements.text)
    const context =
      parent === null
        ? ROOT_CONTEXT
        : trace.setSpanContext(ROOT_CONTEXT, {
            ...{ traceId: parent.traceId, spanId: parent.spanId, isRemote: true },
            traceFlags: parent.sampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
          })
    const operation = statements.kind.toUpperCase()
    const span = this.#tracer.startSpan(
      `${operation} ${statements.database}`,
      {
        kind: SpanKind.SERVER,
        startTime: times(statements.arrivedUs),
        attributes: {
          'db.system.name': 'postgresql',
          'db.namespace': statements.database,
          'db.operation.name': operation,
          ...(statements.statementCount > 1
            ? { 'db.operation.batch.size': statements.statementCount }
            : {}),
          'regate.session.id': statements.session,
          'regate.decision.id': statements.decisionId,
          'regate.decision.action': statements.action,
          'regate.decision.rule': statements.rule,
          'regate.decision.cached': statements.cached,
        },
      },
      context,
    )
    if (!span.isRecording()) return null
    if (this.#allows()) return span
    this.#skipped++
    return null
  }

  /** A client that says of all it sends that it is sampled costs so much, and no more. */
  #allows(): boolean {
    const second = Math.floor(this.#options.clock.monotonicUs() / secondUs)
    if (second !== this.#second) [this.#second, this.#secondCount] = [second, 0]
    return ++this.#secondCount <= this.#options.perSecondMax
  }

  #judged(span: Span, statements: TracedStatements, times: Times): void {
    const { held, judgedUs, decidedUs } = statements
    if (judgedUs > 0) {
      // Right behind the arrival: where it waited for facts first, not to the microsecond.
      const { arrivedUs } = statements
      const toUs = Math.min(arrivedUs + judgedUs, held?.fromUs ?? decidedUs)
      this.#child(span, 'judge', SpanKind.INTERNAL, times(arrivedUs), times(toUs))
    }
    if (held === null) return
    this.#child(span, 'hold', SpanKind.INTERNAL, times(held.fromUs), times(held.toUs), {
      'regate.approval.outcome': held.outcome,
    })
  }

  #child(
    parent: Span,
    name: string,
    kind: SpanKind,
    startTime: HrTime,
    endTime: HrTime,
    attributes: Attributes = {},
  ): void {
    const context = trace.setSpan(ROOT_CONTEXT, parent)
    this.#end(this.#tracer.startSpan(name, { kind, startTime, attributes }, context), endTime)
  }

  #end(span: Span, time: HrTime): void {
    this.#ended++
    span.end(time)
  }

  /** From the monotonic clock to the time of day, by one look at both for all of a message. */
  #timesOf(): Times {
    const { clock } = this.#options
    const offsetUs = clock.nowMs() * 1_000 - clock.monotonicUs()
    return (us) => {
      const epochUs = us + offsetUs
      const seconds = Math.floor(epochUs / secondUs)
      return [seconds, Math.round((epochUs - seconds * secondUs) * 1_000)]
    }
  }
}

type Times = (us: number) => HrTime

/** How a span of a run is written. */
interface SpanWriter {
  readonly clock: Clock
  child(name: string, kind: SpanKind, fromUs: number, toUs: number, more: Attributes): void
  end(us: number): void
}

/** The span of what was admitted: its statements end one by one. */
class RunSpan implements StatementSpan {
  readonly #span: Span
  readonly #writer: SpanWriter
  #fromUs: number
  #rowCount = 0

  constructor(span: Span, statements: TracedStatements, writer: SpanWriter) {
    this.#span = span
    this.#writer = writer
    this.#fromUs = statements.decidedUs
  }

  ended({ tag, rowCount, bytes, sqlstate, fate, last }: TracedEnd): void {
    const nowUs = this.#writer.clock.monotonicUs()
    this.#rowCount += rowCount
    if (fate === 'answered' || fate === 'lost') {
      this.#writer.child('upstream', SpanKind.CLIENT, this.#fromUs, nowUs, {
        'db.system.name': 'postgresql',
        'db.response.returned_rows': rowCount,
        'regate.result.bytes': bytes,
        ...(tag === null ? {} : { 'regate.tag': tag }),
        ...(sqlstate === null ? {} : { 'db.response.status_code': sqlstate }),
      })
      this.#fromUs = nowUs
    }
    if (sqlstate !== null || fate === 'lost' || fate === 'unsent') {
      this.#span.setAttribute('error.type', sqlstate ?? fate)
      if (sqlstate !== null) this.#span.setAttribute('db.response.status_code', sqlstate)
      this.#span.setStatus({ code: SpanStatusCode.ERROR })
    }
    if (!last) return
    this.#span.setAttribute('db.response.returned_rows', this.#rowCount)
    this.#writer.end(nowUs)
  }
}

/** Counts what became of spans, and says so where it changes. */
class CountingExporter implements SpanExporter {
  readonly #exporter: SpanExporter
  readonly #onNews: TracingOptions['onNews']
  sent = 0
  failed = 0
  #failing = false

  constructor(exporter: SpanExporter, onNews: TracingOptions['onNews']) {
    this.#exporter = exporter
    this.#onNews = onNews
  }

  export(spans: ReadableSpan[], done: Parameters<SpanExporter['export']>[1]): void {
    this.#exporter.export(spans, (result) => {
      const taken = result.code === ExportResultCode.SUCCESS
      if (taken) this.sent += spans.length
      else this.failed += spans.length
      if (taken && this.#failing) this.#onNews('traces: the collector takes spans again', null)
      if (!taken && !this.#failing) {
        this.#onNews('traces: the collector did not take spans; they are lost', result.error)
      }
      this.#failing = !taken
      done(result)
    })
  }

  async forceFlush(): Promise<void> {
    await this.#exporter.forceFlush?.()
  }

  async shutdown(): Promise<void> {
    await this.#exporter.shutdown()
  }
}

/** The exporter's headers must not throw: without a token the collector refuses, which is counted. */
function headersOf(
  service: ServiceOptions,
  onNews: TracingOptions['onNews'],
): () => Promise<Record<string, string>> {
  return async () => {
    try {
      return await serviceHeaders(service)
    } catch (error) {
      onNews('traces: the token of the collector cannot be read', error)
      return {}
    }
  }
}
