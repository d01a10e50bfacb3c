/**
 * A bundle from a bundle server, by OPA's protocol: GET with ETag, polling with jitter, long polling
 * where the server answers that it can, bearer token and client certificate.
 * https://www.openpolicyagent.org/docs/latest/management-bundles/#bundle-service-api
 *
 * Only fetches bytes. What they are worth is decided by who loads them; the ETag is remembered only
 * when they were (`accept`), so that a bundle that failed to load is asked for again.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Agent, request, type Dispatcher } from 'undici'
import { ProxyError } from '../core/core.ts'

/** A service as the configuration gives it, with secrets as sources and PEM files read. */
export interface ServiceOptions {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** Read for every request, so that a rotated token is taken over. */
  readonly token: (() => Promise<string>) | null
  readonly ca: string | null
  readonly cert: string | null
  readonly key: string | null
}

export interface RemoteBundleOptions {
  readonly service: ServiceOptions
  readonly resource: string
  readonly polling: {
    readonly minDelayMs: number
    readonly maxDelayMs: number
    readonly longPollingMs: number | null
  }
  readonly bundleBytesMax: number
}

/** What a request gave. */
export type Fetched =
  | { readonly kind: 'unchanged' }
  | { readonly kind: 'bundle'; readonly bytes: Buffer; readonly etag: string | null }

const bundleType = 'application/vnd.openpolicyagent.bundles'
const requestMsMax = 60_000
const retryMsLeast = 500

/** undici's agent for a service: system CAs unless the configuration names others. */
export function serviceAgent(service: ServiceOptions): Agent {
  const { ca, cert, key } = service
  return new Agent({
    connect: {
      ...(ca === null ? {} : { ca }),
      ...(cert === null ? {} : { cert }),
      ...(key === null ? {} : { key }),
    },
    connectTimeout: 10_000,
  })
}

/** Headers of a request to a service, the bearer token read anew. */
export async function serviceHeaders(service: ServiceOptions): Promise<Record<string, string>> {
  const token = service.token === null ? null : await service.token()
  return { ...service.headers, ...(token === null ? {} : { authorization: `Bearer ${token}` }) }
}

/** `url` and `path` with exactly one slash between them. */
export function serviceUrl(service: ServiceOptions, path: string): string {
  return `${service.url.replace(/\/+$/, '')}/${path.replace(/^\/+/, '')}`
}

/** One bundle of one server. */
export class RemoteBundle {
  readonly #options: RemoteBundleOptions
  readonly #agent: Agent
  #etag: string | null = null
  #longPolling = false
  #failures = 0
  /** Status of the last answer; 0 where there was none. */
  httpCode = 0

  constructor(options: RemoteBundleOptions) {
    this.#options = options
    this.#agent = serviceAgent(options.service)
  }

  /** Asks the server; `fresh` asks without waiting and without an ETag. Throws upstream_unreachable. */
  async fetch(signal: AbortSignal, fresh = false): Promise<Fetched> {
    const { service, resource, polling } = this.#options
    const wait =
      polling.longPollingMs === null || fresh ? null : Math.ceil(polling.longPollingMs / 1000)
    const waiting = wait !== null && this.#longPolling
    const headers = {
      ...(await serviceHeaders(service)),
      ...(this.#etag === null || fresh ? {} : { 'if-none-match': this.#etag }),
      prefer: `${waiting ? `wait=${String(wait)};` : ''}modes=snapshot`,
    }
    const timeout = requestMsMax + (waiting ? (polling.longPollingMs ?? 0) : 0)
    try {
      const answer = await request(serviceUrl(service, resource), {
        dispatcher: this.#agent,
        headers,
        headersTimeout: timeout,
        bodyTimeout: requestMsMax,
        signal,
      })
      const fetched = await this.#read(answer)
      this.#failures = 0
      return fetched
    } catch (cause) {
      this.#failures++
      if (cause instanceof ProxyError) throw cause
      throw new ProxyError(
        'upstream_unreachable',
        `the bundle server ${service.url} did not answer`,
        { cause },
      )
    }
  }

  async #read(answer: Dispatcher.ResponseData): Promise<Fetched> {
    this.httpCode = answer.statusCode
    this.#longPolling = headerOf(answer, 'content-type').startsWith(bundleType)
    if (answer.statusCode === 304) {
      await answer.body.dump()
      return { kind: 'unchanged' }
    }
    if (answer.statusCode !== 200) {
      await answer.body.dump()
      throw new ProxyError(
        'upstream_unreachable',
        `the bundle server answered ${String(answer.statusCode)} for ${this.#options.resource}`,
        { hint: statusHint(answer.statusCode) },
      )
    }
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > this.#options.bundleBytesMax) {
        answer.body.destroy()
        throw new ProxyError(
          'program_limit_exceeded',
          'the bundle is larger than limits.bundleBytesMax',
        )
      }
      chunks.push(chunk)
    }
    return { kind: 'bundle', bytes: Buffer.concat(chunks), etag: headerOf(answer, 'etag') || null }
  }

  /** The fetched bundle is in use: its ETag may be sent from now on. */
  accept(etag: string | null): void {
    this.#etag = etag
  }

  /** Waits until it is time to ask again: at once while long polling works, else with jitter. */
  async pause(signal: AbortSignal): Promise<void> {
    const { minDelayMs, maxDelayMs, longPollingMs } = this.#options.polling
    if (this.#failures > 0) {
      const backoff = Math.min(maxDelayMs, retryMsLeast * 2 ** Math.min(this.#failures, 16))
      await sleep(backoff * (0.5 + Math.random() / 2), undefined, { signal, ref: false })
      return
    }
    if (longPollingMs !== null && this.#longPolling) return
    const delay = minDelayMs + Math.random() * Math.max(0, maxDelayMs - minDelayMs)
    await sleep(delay, undefined, { signal, ref: false })
  }

  async close(): Promise<void> {
    await this.#agent.destroy()
  }
}

function headerOf(answer: Dispatcher.ResponseData, name: string): string {
  const value = answer.headers[name]
  return (Array.isArray(value) ? value[0] : value) ?? ''
}

function statusHint(status: number): string {
  if (status === 401 || status === 403) return 'check policy.bundle.service.token'
  if (status === 404) return 'check policy.bundle.resource'
  return 'the active policy stays; it is asked again'
}
