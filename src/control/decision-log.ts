/**
 * Decision logs in OPA's own format, so that what already collects OPA's decisions collects regate's:
 * batches of events, gzip, POST <url>/logs; and OPA's status API, POST <url>/status.
 * https://www.openpolicyagent.org/docs/latest/management-decision-logs/
 *
 * Stands behind the audit log, never in front of it: an event that cannot be delivered delays nobody.
 * The buffer is bounded; what does not fit is dropped and counted. What the audit does not hold (the
 * syntax tree, parameters) is named in `erased`. Masked values never reach the audit, so never this.
 */
import { gzipSync } from 'node:zlib'
import { request, type Agent } from 'undici'
import type { Clock } from '../core/core.ts'
import { serviceAgent, serviceHeaders, serviceUrl, type ServiceOptions } from './bundles-remote.ts'
import type { PolicyStatus } from './bundles.ts'

export interface DecisionLogOptions {
  readonly service: ServiceOptions
  readonly labels: Readonly<Record<string, string>>
  readonly bundleName: string
  readonly clock: Clock
  /** Pause between uploads. */
  readonly intervalMs?: number
  /** Events that wait; older ones go first. */
  readonly bufferBytesMax?: number
  /** Uncompressed size of one upload. */
  readonly uploadBytesMax?: number
  readonly onError?: (error: unknown) => void
}

/** The members of a `statement_decided` record that become an event. */
interface Decided {
  readonly session?: string
  readonly database?: string
  readonly client_address?: string
  readonly identity?: unknown
  readonly statement?: unknown
  readonly decision?: {
    readonly decision_id?: string
    readonly revision?: string
    readonly duration_us?: number
  }
  readonly access?: unknown
  readonly approval?: unknown
}

const intervalMsDefault = 5_000
const bufferBytesDefault = 8 * 1024 * 1024
const uploadBytesDefault = 512 * 1024
const backoffMsMax = 60_000

/** One event in OPA's format, from the members of an audit record; null where it is no decision. */
export function decisionEvent(
  type: string,
  members: string,
  options: Pick<DecisionLogOptions, 'labels' | 'bundleName' | 'clock'>,
): string | null {
  if (type !== 'statement_decided') return null
  const record = JSON.parse(`{${members}}`) as Decided
  const { statement, identity, access, database, session, decision, approval } = record
  return JSON.stringify({
    labels: options.labels,
    decision_id: decision?.decision_id,
    bundles: { [options.bundleName]: { revision: decision?.revision ?? '' } },
    path: 'regate/statement/decision',
    input: { statement, identity, access, session: { id: session, database }, approval },
    result: decision,
    requested_by: record.client_address,
    timestamp: new Date(options.clock.nowMs()).toISOString(),
    metrics: { timer_rego_query_eval_ns: (decision?.duration_us ?? 0) * 1_000 },
    erased: ['/input/statement/ast', '/input/parameters', '/input/identity/claims'],
    masked: [],
  })
}

/** Collects and uploads. start() once, offer() for each record, close() at the end. */
export class DecisionLog {
  readonly #options: DecisionLogOptions
  readonly #agent: Agent
  readonly #stop = new AbortController()
  #events: string[] = []
  #bytes = 0
  #dropped = 0
  #sent = 0
  #failures = 0
  #timer: NodeJS.Timeout | null = null
  #running: Promise<void> = Promise.resolve()

  constructor(options: DecisionLogOptions) {
    this.#options = options
    this.#agent = serviceAgent(options.service)
    this.#plan()
  }

  /** For metrics. */
  get counts(): { readonly sent: number; readonly dropped: number; readonly waiting: number } {
    return { sent: this.#sent, dropped: this.#dropped, waiting: this.#events.length }
  }

  /** Takes an audit record. Never throws, never waits. */
  offer(type: string, members: string): void {
    let event: string | null
    try {
      event = decisionEvent(type, members, this.#options)
    } catch (error) {
      this.#dropped++
      this.#options.onError?.(error)
      return
    }
    if (event === null) return
    const bytesMax = this.#options.bufferBytesMax ?? bufferBytesDefault
    if (event.length > bytesMax) {
      this.#dropped++
      return
    }
    this.#events.push(event)
    this.#bytes += event.length
    while (this.#bytes > bytesMax) {
      this.#bytes -= this.#events.shift()?.length ?? 0
      this.#dropped++
    }
  }

  /** Sends OPA's status document; call it whenever the keeper's status changed. */
  async status(status: PolicyStatus): Promise<void> {
    const { labels, bundleName } = this.#options
    await this.#post('status', { labels, bundles: { [bundleName]: status } }).catch(
      (error: unknown) => {
        this.#options.onError?.(error)
      },
    )
  }

  /** Uploads everything that waits; resolves also where that fails, with the events kept. */
  async flush(): Promise<void> {
    this.#running = this.#running.then(() => this.#upload())
    await this.#running
  }

  /** One last upload, then nothing more. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#stop.abort()
    await this.flush()
    await this.#agent.destroy()
  }

  #plan(): void {
    if (this.#stop.signal.aborted) return
    const interval = this.#options.intervalMs ?? intervalMsDefault
    const backoff = Math.min(backoffMsMax, interval * 2 ** Math.min(this.#failures, 10))
    const delay = this.#failures === 0 ? interval : backoff * (0.5 + Math.random() / 2)
    this.#timer = setTimeout(() => {
      void this.flush().finally(() => {
        this.#plan()
      })
    }, delay)
    this.#timer.unref()
  }

  async #upload(): Promise<void> {
    const bytesMax = this.#options.uploadBytesMax ?? uploadBytesDefault
    while (this.#events.length > 0) {
      let [count, bytes] = [0, 0]
      while (count < this.#events.length) {
        bytes += this.#events[count]?.length ?? 0
        if (count > 0 && bytes > bytesMax) break
        count++
      }
      const batch = this.#events.splice(0, count)
      this.#bytes -= batch.reduce((sum, event) => sum + event.length, 0)
      try {
        await this.#post('logs', `[${batch.join(',')}]`)
        this.#sent += batch.length
        this.#failures = 0
      } catch (error) {
        this.#failures++
        this.#events = [...batch, ...this.#events]
        this.#bytes += batch.reduce((sum, event) => sum + event.length, 0)
        this.#options.onError?.(error)
        return
      }
    }
  }

  async #post(path: string, body: string | object): Promise<void> {
    const { service } = this.#options
    const text = typeof body === 'string' ? body : JSON.stringify(body)
    const answer = await request(serviceUrl(service, path), {
      method: 'POST',
      dispatcher: this.#agent,
      headers: {
        ...(await serviceHeaders(service)),
        'content-type': 'application/json',
        'content-encoding': 'gzip',
      },
      body: gzipSync(text),
      headersTimeout: 30_000,
      bodyTimeout: 30_000,
    })
    await answer.body.dump()
    if (answer.statusCode < 200 || answer.statusCode > 299) {
      throw new Error(`${service.url} answered ${String(answer.statusCode)} for /${path}`)
    }
  }
}
