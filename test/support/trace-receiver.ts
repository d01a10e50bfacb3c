/** A collector for tests: takes OTLP/HTTP JSON as an OpenTelemetry collector does, and keeps the spans. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { vi, expect } from 'vitest'

export interface ReceivedSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string
  readonly name: string
  readonly kind: number
  readonly startNs: bigint
  readonly endNs: bigint
  readonly statusCode: number
  readonly attributes: Readonly<Record<string, string | number | boolean>>
  readonly resource: Readonly<Record<string, string | number | boolean>>
}

interface Value {
  readonly stringValue?: string
  readonly intValue?: string | number
  readonly boolValue?: boolean
}
interface KeyValue {
  readonly key: string
  readonly value: Value
}
interface RawSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: readonly KeyValue[]
  readonly status?: { readonly code?: number }
}
interface Body {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly KeyValue[] }
    readonly scopeSpans: readonly { readonly spans: readonly RawSpan[] }[]
  }[]
}

export interface TraceReceiver {
  readonly url: string
  readonly spans: readonly ReceivedSpan[]
  readonly bodies: readonly string[]
  readonly headers: readonly Readonly<Record<string, string | string[] | undefined>>[]
  /** Answers with this status from now on; 0 never answers. */
  status: number
  /** The spans of one trace, when this many are there. */
  trace(traceId: string, count: number): Promise<readonly ReceivedSpan[]>
  /** Waits for spans that fit. */
  find(fits: (span: ReceivedSpan) => boolean): Promise<ReceivedSpan>
  stop(): Promise<void>
}

const patience = { timeout: 25_000, interval: 50 }

export async function startTraceReceiver(): Promise<TraceReceiver> {
  const spans: ReceivedSpan[] = []
  const bodies: string[] = []
  const headers: Record<string, string | string[] | undefined>[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      headers.push(request.headers)
      if (receiver.status === 0) return
      const body = Buffer.concat(chunks).toString()
      const taken = receiver.status === 200 && request.url === '/v1/traces'
      if (taken) {
        bodies.push(body)
        spans.push(...spansOf(JSON.parse(body) as Body))
      }
      response.writeHead(receiver.status, { 'content-type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const receiver: TraceReceiver = {
    ...{ spans, bodies, headers, status: 200 },
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/traces`,
    trace: async (traceId, count) => {
      const found = (): ReceivedSpan[] => spans.filter((span) => span.traceId === traceId)
      await vi.waitFor(() => expect(found().length).toBeGreaterThanOrEqual(count), patience)
      return found()
    },
    find: async (fits) =>
      await vi.waitFor(() => {
        const found = spans.find(fits)
        if (found === undefined) throw new Error('no such span yet')
        return found
      }, patience),
    stop: async () => {
      server.closeAllConnections()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
  return receiver
}

function spansOf(body: Body): ReceivedSpan[] {
  return body.resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap((scope) =>
      scope.spans.map((span) => ({
        ...{ traceId: span.traceId, spanId: span.spanId, name: span.name, kind: span.kind },
        parentSpanId: span.parentSpanId ?? '',
        startNs: BigInt(span.startTimeUnixNano),
        endNs: BigInt(span.endTimeUnixNano),
        statusCode: span.status?.code ?? 0,
        attributes: valuesOf(span.attributes),
        resource: valuesOf(resource.attributes),
      })),
    ),
  )
}

function valuesOf(list: readonly KeyValue[]): Record<string, string | number | boolean> {
  return Object.fromEntries(
    list.map(({ key, value }) => [
      key,
      value.stringValue ?? value.boolValue ?? Number(value.intValue),
    ]),
  )
}
