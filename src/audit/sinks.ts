/**
 * Sinks that take records over HTTP or as lines: NDJSON by POST, OpenTelemetry logs (OTLP/HTTP, JSON), a
 * stream, a file. Each rejects where its receiver did not take the whole batch; the shipper tries again.
 */
import { appendFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { request, type Dispatcher } from 'undici'
import type { AuditSink, ShippedRecord } from './shipper.ts'

const gzipped = promisify(gzip)

/** A receiver over HTTP; headers are made for every request, so that tokens can change. */
export interface HttpTarget {
  readonly url: string
  readonly headers: () => Promise<Record<string, string>>
  readonly dispatcher: Dispatcher
  readonly timeoutMs?: number
}

const timeoutMsDefault = 30_000
const answerBytesMax = 64 * 1024

/** Posts a body; the answer's text. Rejects with HttpRefused for what is not 2xx. */
export async function post(
  target: HttpTarget,
  body: string | Buffer,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<string> {
  const timeoutMs = target.timeoutMs ?? timeoutMsDefault
  const answer = await request(target.url, {
    method: 'POST',
    dispatcher: target.dispatcher,
    headers: { ...(await target.headers()), ...headers },
    body,
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    signal,
  })
  const text = await answerText(answer.body)
  if (answer.statusCode >= 200 && answer.statusCode <= 299) return text
  throw new HttpRefused(target.url, answer.statusCode)
}

/** What a receiver says matters little: who never ends saying it is not listened to for ever. */
async function answerText(body: AsyncIterable<Buffer> & { destroy(): unknown }): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body) {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes > answerBytesMax) {
      body.destroy()
      break
    }
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** post() of a body that is compressed on its way. */
export async function postCompressed(
  target: HttpTarget,
  body: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<string> {
  return await post(target, await gzipped(body), { ...headers, 'content-encoding': 'gzip' }, signal)
}

/** The receiver answered, and not with 2xx. */
export class HttpRefused extends Error {
  override readonly name = 'HttpRefused'
  readonly status: number

  constructor(url: string, status: number) {
    super(`${url} answered ${status}`)
    this.status = status
  }
}

const tooLarge = 413

/** Halves a batch that the receiver finds too large. */
export async function deliverHalving(
  records: readonly ShippedRecord[],
  send: (records: readonly ShippedRecord[]) => Promise<void>,
): Promise<void> {
  try {
    await send(records)
  } catch (error) {
    if (!(error instanceof HttpRefused) || error.status !== tooLarge || records.length < 2) {
      throw error
    }
    const middle = records.length >> 1
    await deliverHalving(records.slice(0, middle), send)
    await deliverHalving(records.slice(middle), send)
  }
}

/**
 * NDJSON. `Idempotency-Key` is the hash of the batch's last record with their count: a batch that comes
 * again has the same key, unless it was cut differently after a restart; each record has its own `hash`.
 */
export function httpSink(name: string, target: HttpTarget): AuditSink {
  const send = async (records: readonly ShippedRecord[], signal: AbortSignal): Promise<void> => {
    const body = records.map(({ line }) => `${line}\n`).join('')
    const key = `${records.at(-1)?.record.hash ?? ''}-${records.length}`
    const headers = { 'content-type': 'application/x-ndjson', 'idempotency-key': key }
    await postCompressed(target, body, headers, signal)
  }
  return {
    name,
    deliver: (records, signal) => deliverHalving(records, (some) => send(some, signal)),
    close: () => target.dispatcher.destroy(),
  }
}

/** OTLP/HTTP with JSON: https://opentelemetry.io/docs/specs/otlp/#otlphttp */
export function otlpSink(
  name: string,
  target: HttpTarget,
  instance: string,
  onRejected: (message: string) => void,
): AuditSink {
  const send = async (records: readonly ShippedRecord[], signal: AbortSignal): Promise<void> => {
    const body = JSON.stringify(otlpLogs(records, instance))
    const answer = await postCompressed(
      target,
      body,
      { 'content-type': 'application/json' },
      signal,
    )
    const rejected = rejectedOf(answer)
    // The protocol forbids to send these again.
    if (rejected !== null) onRejected(rejected)
  }
  return {
    name,
    deliver: (records, signal) => deliverHalving(records, (some) => send(some, signal)),
    close: () => target.dispatcher.destroy(),
  }
}

function rejectedOf(answer: string): string | null {
  try {
    const { partialSuccess } = JSON.parse(answer) as {
      partialSuccess?: { rejectedLogRecords?: string | number; errorMessage?: string }
    }
    const count = Number(partialSuccess?.rejectedLogRecords ?? 0)
    return count === 0
      ? null
      : `${count} records were rejected: ${partialSuccess?.errorMessage ?? ''}`
  } catch {
    return null
  }
}

const severityInfo = 9
const severityWarn = 13

type OtlpValue = { stringValue: string } | { intValue: string } | { boolValue: boolean }

/** ExportLogsServiceRequest of opentelemetry.proto.collector.logs.v1. */
export function otlpLogs(records: readonly ShippedRecord[], instance: string): object {
  return {
    resourceLogs: [
      {
        resource: {
          attributes: attributes({ 'service.name': 'regate', 'service.instance.id': instance }),
        },
        scopeLogs: [{ scope: { name: 'regate.audit' }, logRecords: records.map(otlpRecord) }],
      },
    ],
  }
}

function otlpRecord({ record, line }: ShippedRecord): object {
  const refused = record.outcome?.forwarded === false
  return {
    timeUnixNano: `${Date.parse(record.time)}000000`,
    severityNumber: refused ? severityWarn : severityInfo,
    severityText: refused ? 'WARN' : 'INFO',
    eventName: `regate.${record.type}`,
    body: { stringValue: line },
    attributes: attributes({
      'log.record.uid': record.hash,
      'session.id': record.session,
      'user.name': record.identity?.user,
      'db.system.name': 'postgresql',
      'db.namespace': record.database,
      'db.query.text': record.statement?.text,
      'db.operation.name': record.statement?.kind ?? undefined,
      'db.response.status_code': record.outcome?.sqlstate ?? undefined,
      'db.response.returned_rows': record.outcome?.rows,
      'regate.decision.action': record.decision?.action,
      'regate.decision.rule': record.decision?.rule,
      'regate.decision.id': record.decision?.decision_id,
      'regate.policy.revision': record.decision?.revision,
    }),
  }
}

function attributes(
  values: Readonly<Record<string, string | number | undefined>>,
): readonly { key: string; value: OtlpValue }[] {
  return Object.entries(values).flatMap(([key, value]) => {
    if (value === undefined) return []
    const shown = typeof value === 'number' ? { intValue: String(value) } : { stringValue: value }
    return [{ key, value: shown }]
  })
}

/** One record a line to whatever writes them: a stream such as stdout. */
export function lineSink(
  name: string,
  write: (text: string, signal: AbortSignal) => Promise<void>,
): AuditSink {
  return {
    name,
    deliver: (records, signal) => write(records.map(({ line }) => `${line}\n`).join(''), signal),
    close: () => undefined,
  }
}

/** Appends lines to a file, opened for each batch so that it may be moved away meanwhile. */
export function fileSink(
  name: string,
  path: string,
  lineOf: (shipped: ShippedRecord) => string | null = ({ line }) => line,
): AuditSink {
  return {
    name,
    deliver: async (records) => {
      const lines = records.map(lineOf).filter((line) => line !== null)
      if (lines.length > 0) await appendFile(path, `${lines.join('\n')}\n`, { mode: 0o600 })
    },
    close: () => undefined,
  }
}
