/**
 * The keys of one OIDC issuer: discovery document, JWKS, cache, rotation, outage.
 *
 * Invariants: only https, except to loopback; no redirect is followed; answers have a size limit and
 * a deadline; the document must name the issuer it was asked of; only public asymmetric keys are
 * kept; an unknown `kid` causes at most one fetch per cool-down, whoever sends it.
 */
import { createLocalJWKSet, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose'
import { Agent, fetch, type Dispatcher } from 'undici'
import { z } from 'zod'
import type { Clock } from '../core/core.ts'
import type { OidcEntry } from './options.ts'

const fetchMsMax = 5_000
const documentBytesMax = 1024 * 1024
const keyCountMax = 200
/** Between two fetches that an unknown key or a failure asked for. */
const cooldownMs = 5_000

/** A failure to get an issuer's keys; for the log. */
export class IssuerError extends Error {
  override readonly name = 'IssuerError'
}

const discoverySchema = z.looseObject({
  issuer: z.string(),
  jwks_uri: z.string(),
  introspection_endpoint: z.string().optional(),
})

const jwksSchema = z.looseObject({ keys: z.array(z.looseObject({ kty: z.string() })) })

export interface IssuerOptions {
  readonly entry: OidcEntry
  readonly clock: Clock
  /** One line for people: a fetch that failed, keys that changed. */
  readonly log: (message: string, facts: Readonly<Record<string, unknown>>) => void
}

interface KeySet {
  readonly get: JWTVerifyGetKey
  readonly keyIds: ReadonlySet<string>
  readonly introspectionUrl: string | null
  readonly fetchedAtMs: number
}

/** Fetches and keeps the keys of one issuer. */
export class Issuer {
  readonly #options: IssuerOptions
  readonly #dispatcher: Dispatcher
  #keys: KeySet | null = null
  #fetching: Promise<KeySet> | null = null
  #triedAtMs = Number.NEGATIVE_INFINITY

  constructor(options: IssuerOptions) {
    this.#options = options
    const ca = options.entry.issuerCa
    this.#dispatcher = new Agent({
      connect: ca === null ? { timeout: fetchMsMax } : { timeout: fetchMsMax, ca },
      headersTimeout: fetchMsMax,
      bodyTimeout: fetchMsMax,
    })
  }

  /** Where clients find the issuer's discovery document. */
  get discoveryUrl(): string {
    return discoveryUrlOf(this.#options.entry.issuer)
  }

  /** The keys for a token with this `kid`. Throws IssuerError where none can be had. */
  async keysFor(keyId: string | undefined): Promise<JWTVerifyGetKey> {
    const { clock, entry } = this.#options
    const keys = this.#keys
    if (keys === null) return (await this.#fetch(false)).get
    const ageMs = clock.nowMs() - keys.fetchedAtMs
    const known = keyId === undefined || keys.keyIds.has(keyId)
    if (known && ageMs < entry.jwksMaxAgeMs) return keys.get
    if (known && ageMs < entry.jwksMaxAgeMs + entry.jwksStaleMs) {
      // Still usable: fetch beside it, so that no login waits for a slow issuer.
      if (this.#mayFetch()) void this.#fetch(true).catch(() => undefined)
      return keys.get
    }
    if (!this.#mayFetch() && this.#fetching === null) {
      if (ageMs < entry.jwksMaxAgeMs + entry.jwksStaleMs) return keys.get
      throw new IssuerError('the keys are too old and the issuer was asked a moment ago')
    }
    try {
      return (await this.#fetch(true)).get
    } catch (error) {
      if (ageMs < entry.jwksMaxAgeMs + entry.jwksStaleMs) return keys.get
      throw error
    }
  }

  /** RFC 7662 endpoint from the discovery document, null where it names none. */
  async introspectionUrl(): Promise<string | null> {
    return (this.#keys ?? (await this.#fetch(false))).introspectionUrl
  }

  async close(): Promise<void> {
    await this.#dispatcher.destroy()
  }

  /** A request to the issuer with the same rules as for keys. */
  async post(
    url: string,
    body: URLSearchParams,
    headers: Readonly<Record<string, string>>,
  ): Promise<unknown> {
    return this.#request(url, { method: 'POST', body: body.toString(), headers })
  }

  #mayFetch(): boolean {
    return this.#options.clock.nowMs() - this.#triedAtMs >= cooldownMs
  }

  /** One fetch at a time; all who ask meanwhile get its outcome. */
  #fetch(refresh: boolean): Promise<KeySet> {
    if (this.#fetching !== null) return this.#fetching
    if (!refresh && !this.#mayFetch()) {
      return Promise.reject(new IssuerError('the issuer could not be reached a moment ago'))
    }
    this.#triedAtMs = this.#options.clock.nowMs()
    this.#fetching = this.#load()
      .then((keys) => {
        this.#options.log('issuer keys loaded', {
          issuer: this.#options.entry.issuer,
          keys: keys.keyIds.size,
        })
        this.#keys = keys
        return keys
      })
      .catch((error: unknown) => {
        const reason = error instanceof Error ? error.message : String(error)
        this.#options.log('issuer keys could not be fetched', {
          issuer: this.#options.entry.issuer,
          reason,
        })
        throw error instanceof IssuerError ? error : new IssuerError(reason, { cause: error })
      })
      .finally(() => {
        this.#fetching = null
      })
    return this.#fetching
  }

  async #load(): Promise<KeySet> {
    const { entry, clock } = this.#options
    let jwksUri = entry.jwksUri
    let introspectionUrl: string | null = null
    if (jwksUri === null || entry.introspection !== null) {
      const document = discoverySchema.parse(
        await this.#request(this.discoveryUrl, { method: 'GET' }),
      )
      if (document.issuer !== entry.issuer) {
        throw new IssuerError(`the discovery document names the issuer ${document.issuer}`)
      }
      jwksUri ??= document.jwks_uri
      introspectionUrl = document.introspection_endpoint ?? null
    }
    const parsed = jwksSchema.parse(await this.#request(jwksUri, { method: 'GET' }))
    const usable = parsed.keys.filter(isPublicKey)
    if (usable.length === 0) throw new IssuerError('the issuer publishes no usable key')
    if (usable.length > keyCountMax) throw new IssuerError('the issuer publishes too many keys')
    const set: JSONWebKeySet = { keys: usable }
    const keyIds = new Set(usable.map((key) => key['kid']).filter((id) => typeof id === 'string'))
    return { get: createLocalJWKSet(set), keyIds, introspectionUrl, fetchedAtMs: clock.nowMs() }
  }

  async #request(
    url: string,
    init: {
      readonly method: string
      readonly body?: string
      readonly headers?: Readonly<Record<string, string>>
    },
  ): Promise<unknown> {
    if (!isAllowedUrl(url)) throw new IssuerError(`${url} is neither https nor loopback`)
    const response = await fetch(url, {
      method: init.method,
      headers: { accept: 'application/json', ...init.headers },
      ...(init.body === undefined ? {} : { body: init.body }),
      redirect: 'error',
      signal: AbortSignal.timeout(fetchMsMax),
      dispatcher: this.#dispatcher,
    })
    if (!response.ok) {
      await response.body?.cancel()
      throw new IssuerError(`${url} answered ${response.status}`)
    }
    return readJson(response.body, url)
  }
}

async function readJson(body: AsyncIterable<Uint8Array> | null, url: string): Promise<unknown> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body ?? []) {
    bytes += chunk.length
    if (bytes > documentBytesMax) throw new IssuerError(`the answer of ${url} is too large`)
    chunks.push(chunk)
  }
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as unknown
}

/** Symmetric and private keys in a JWKS are a mistake of the issuer; they are never used. */
function isPublicKey(key: Readonly<Record<string, unknown>>): boolean {
  const kind = key['kty']
  const use = key['use']
  return (
    (kind === 'RSA' || kind === 'EC' || kind === 'OKP') &&
    key['d'] === undefined &&
    (use === undefined || use === 'sig')
  )
}

/** https anywhere; http to this machine only. */
export function isAllowedUrl(text: string): boolean {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    return false
  }
  if (url.protocol === 'https:') return true
  const loopback = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname)
  return url.protocol === 'http:' && loopback
}

/** OpenID Connect Discovery 1.0 §4: the path is appended to the issuer without its last slash. */
export function discoveryUrlOf(issuer: string): string {
  return `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`
}
