/**
 * The active policy and how it is replaced. Owns: where the bundle comes from, the load pipeline
 * (read → verify → compile → builtins → self-check → swap), what is told of it, and the way back.
 *
 * Invariants: a bundle that fails anywhere in the pipeline changes nothing, the policy that was active
 * stays; loads run one after the other; `onPolicy` sees only policies that passed everything.
 */
import { createHash } from 'node:crypto'
import { mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { parse as parseYaml } from 'yaml'
import { ProxyError, type Clock, type Limits } from '../core/core.ts'
import {
  KnownPolicies,
  Policy,
  readBundle,
  type PolicyBundle,
  type SigningOptions,
} from '../policy/policy.ts'
import { buildBundle, sourceStamp } from './bundles-build.ts'
import { RemoteBundle, type RemoteBundleOptions } from './bundles-remote.ts'
import { findOpa, type OpaSearch } from './opa.ts'

export type BundleSource =
  /** A directory of Rego (built by OPA), or a `.tar.gz`. */
  | { readonly kind: 'path'; readonly path: string }
  | ({
      readonly kind: 'remote'
      readonly signing: SigningOptions | null
      /** Directory for the last good bundle, for a start without the server. */
      readonly persist: string | null
    } & Omit<RemoteBundleOptions, 'bundleBytesMax'>)

export interface KeeperOptions {
  readonly name: string
  readonly source: BundleSource
  /** Paths of JSON or YAML files merged over the bundle's data, watched like it. */
  readonly dataFiles: readonly string[]
  readonly limits: Limits
  readonly clock: Clock
  readonly opa: OpaSearch
  readonly cacheDirectory: string | null
  /** Called with every policy that becomes active after the first one; a promise is waited for. */
  readonly onPolicy: (policy: Policy) => unknown
  /** Called with the status whenever a load ended, well or not. */
  readonly onStatus?: (status: PolicyStatus) => void
  /** Called when a load ended, well or not: once each, where onStatus hears every step. */
  readonly onLoaded?: (status: PolicyStatus) => void
  /** How often a path is looked at for changes; 0 never. */
  readonly watchMs?: number
}

/** In the terms of OPA's status API, with regate's own additions. */
export interface PolicyStatus {
  readonly name: string
  readonly active_revision: string
  readonly previous_revision: string | null
  readonly type: 'snapshot'
  readonly size: number
  readonly last_request: string
  readonly last_successful_request: string | null
  readonly last_successful_download: string | null
  readonly last_successful_activation: string | null
  readonly activation_count: number
  readonly failure_count: number
  /** `bundle_error` while the newest bundle could not be loaded. */
  readonly code: string | null
  readonly message: string | null
  readonly errors: readonly string[]
  readonly http_code: string | null
  readonly rolled_back: boolean
}

interface Raw {
  readonly packed: Buffer
  readonly etag: string | null
}

const watchMsDefault = 1_000
const historyCountMax = 4

/** Keeps one policy loaded and current. */
export class PolicyKeeper {
  readonly #options: KeeperOptions
  readonly #remote: RemoteBundle | null
  readonly #stop = new AbortController()
  readonly #history: { readonly policy: Policy; readonly hash: string }[] = []
  readonly #known: KnownPolicies
  #policy: Policy
  #stamp = ''
  #bytesHash = ''
  /** Hash of bytes and data that were rolled back: not taken again by itself. */
  #refused: string | null = null
  #queue: Promise<unknown> = Promise.resolve()
  #status: PolicyStatus

  /** Loads the first policy; rejects where there is none that can be used. */
  static async start(options: KeeperOptions): Promise<PolicyKeeper> {
    const remote =
      options.source.kind === 'remote'
        ? new RemoteBundle({ ...options.source, bundleBytesMax: options.limits.bundleBytesMax })
        : null
    const first = await firstPolicy(options, remote)
    return new PolicyKeeper(options, remote, first)
  }

  private constructor(options: KeeperOptions, remote: RemoteBundle | null, first: FirstPolicy) {
    this.#options = options
    this.#remote = remote
    this.#policy = first.policy
    this.#known = first.known
    this.#bytesHash = first.hash
    this.#stamp = first.stamp
    const now = this.#now()
    this.#status = {
      name: options.name,
      active_revision: first.policy.revision,
      previous_revision: null,
      type: 'snapshot',
      size: first.bytes,
      last_request: now,
      last_successful_request: first.error === null ? now : null,
      last_successful_download: first.error === null ? now : null,
      last_successful_activation: now,
      activation_count: 1,
      failure_count: first.error === null ? 0 : 1,
      code: first.error === null ? null : 'bundle_error',
      message: first.error?.message ?? null,
      errors: first.error === null ? [] : describe(first.error),
      http_code: remote === null ? null : String(remote.httpCode),
      rolled_back: false,
    }
    options.onLoaded?.(this.#status)
    if (remote !== null) void this.#poll(remote)
    else this.#watch()
  }

  get policy(): Policy {
    return this.#policy
  }

  get status(): PolicyStatus {
    return this.#status
  }

  /** Loads again now, whatever was seen before. True where another policy became active. */
  reload(): Promise<boolean> {
    this.#refused = null
    return this.#enqueue(async () => this.#load(await this.#read(true)))
  }

  /** Goes back to the policy that was active before; false where there is none. */
  rollback(): Promise<boolean> {
    return this.#enqueue(async () => {
      const previous = this.#history.pop()
      if (previous === undefined) return false
      this.#refused = this.#bytesHash
      this.#policy = previous.policy
      this.#bytesHash = previous.hash
      await this.#options.onPolicy(previous.policy)
      this.#report({
        active_revision: previous.policy.revision,
        previous_revision: this.#history.at(-1)?.policy.revision ?? null,
        last_successful_activation: this.#now(),
        activation_count: this.#status.activation_count + 1,
        rolled_back: true,
      })
      this.#options.onLoaded?.(this.#status)
      return true
    })
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#queue.catch(() => undefined)
    this.#known.close()
    await this.#remote?.close()
  }

  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work, work)
    this.#queue = done.catch(() => undefined)
    return done
  }

  async #read(fresh: boolean): Promise<Raw | null> {
    this.#report({ last_request: this.#now() })
    try {
      const raw = await readRaw(this.#options, this.#remote, this.#stop.signal, fresh)
      const now = this.#now()
      this.#report({
        last_successful_request: now,
        http_code: this.#remote === null ? null : String(this.#remote.httpCode),
        ...(raw === null ? {} : { last_successful_download: now }),
      })
      return raw
    } catch (error) {
      if (!this.#stop.signal.aborted) this.#fail(error)
      throw error
    }
  }

  /** The pipeline. Rejects, with the old policy active, where the bundle is not good. */
  async #load(raw: Raw | null): Promise<boolean> {
    if (raw === null) return false
    try {
      const extraData = await readDataFiles(this.#options.dataFiles)
      const hash = hashOf(raw.packed, extraData)
      if (hash === this.#refused) return false
      if (hash === this.#bytesHash) {
        this.#accept(raw, hash)
        return false
      }
      const policy = await loadPolicy(this.#options, raw.packed, extraData, this.#known)
      this.#history.push({ policy: this.#policy, hash: this.#bytesHash })
      if (this.#history.length > historyCountMax) this.#history.shift()
      const previous = this.#policy
      this.#policy = policy
      await this.#options.onPolicy(policy)
      this.#refused = null
      this.#accept(raw, hash)
      await persist(this.#options, raw.packed).catch((error: unknown) => {
        this.#report({
          errors: [`the bundle could not be kept for the next start: ${String(error)}`],
        })
      })
      this.#report({
        active_revision: policy.revision,
        previous_revision: previous.revision,
        last_successful_activation: this.#now(),
        activation_count: this.#status.activation_count + 1,
        size: raw.packed.length,
        rolled_back: false,
      })
      this.#options.onLoaded?.(this.#status)
      return true
    } catch (error) {
      this.#fail(error)
      throw error
    }
  }

  #accept(raw: Raw, hash: string): void {
    this.#bytesHash = hash
    this.#remote?.accept(raw.etag)
    this.#report({ code: null, message: null, errors: [] })
  }

  #fail(error: unknown): void {
    this.#report({
      code: 'bundle_error',
      http_code: this.#remote === null ? null : String(this.#remote.httpCode),
      message: error instanceof Error ? error.message : String(error),
      errors: describe(error),
      failure_count: this.#status.failure_count + 1,
    })
    this.#options.onLoaded?.(this.#status)
  }

  #report(change: Partial<PolicyStatus>): void {
    this.#status = { ...this.#status, ...change }
    this.#options.onStatus?.(this.#status)
  }

  async #poll(remote: RemoteBundle): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      await remote.pause(signal).catch(() => undefined)
      if (signal.aborted) return
      // What went wrong is in the status; the loop goes on.
      await this.#enqueue(async () => this.#load(await this.#read(false))).catch(() => undefined)
    }
  }

  #watch(): void {
    const every = this.#options.watchMs ?? watchMsDefault
    if (every <= 0) return
    let busy = false
    const timer = setInterval(() => {
      if (busy) return
      busy = true
      void this.#look()
        .catch(() => undefined)
        .finally(() => (busy = false))
    }, every)
    timer.unref()
    this.#stop.signal.addEventListener('abort', () => {
      clearInterval(timer)
    })
  }

  async #look(): Promise<void> {
    const stamp = await stampOf(this.#options)
    if (stamp === this.#stamp) return
    this.#stamp = stamp
    await this.#enqueue(async () => this.#load(await this.#read(false)))
  }

  #now(): string {
    return new Date(this.#options.clock.nowMs()).toISOString()
  }
}

interface FirstPolicy {
  readonly policy: Policy
  readonly hash: string
  readonly stamp: string
  readonly bytes: number
  /** Why the source itself could not be used, where the persisted bundle took its place. */
  readonly error: Error | null
  readonly known: KnownPolicies
}

async function firstPolicy(
  options: KeeperOptions,
  remote: RemoteBundle | null,
): Promise<FirstPolicy> {
  const extraData = await readDataFiles(options.dataFiles)
  const stamp = await stampOf(options)
  const known = new KnownPolicies()
  try {
    const raw = await readRaw(options, remote, AbortSignal.timeout(60_000), true)
    if (raw === null) throw new ProxyError('policy_fault', 'the bundle server has no bundle')
    const policy = await loadPolicy(options, raw.packed, extraData, known)
    remote?.accept(raw.etag)
    await persist(options, raw.packed)
    return {
      policy,
      hash: hashOf(raw.packed, extraData),
      stamp,
      bytes: raw.packed.length,
      error: null,
      known,
    }
  } catch (error) {
    const kept = await persisted(options)
    if (kept === null) throw error
    const policy = await loadPolicy(options, kept, extraData, known)
    const cause = error instanceof Error ? error : new Error(String(error))
    return {
      policy,
      hash: hashOf(kept, extraData),
      stamp,
      bytes: kept.length,
      error: cause,
      known,
    }
  }
}

async function readRaw(
  options: KeeperOptions,
  remote: RemoteBundle | null,
  signal: AbortSignal,
  fresh: boolean,
): Promise<Raw | null> {
  if (remote !== null) {
    const fetched = await remote.fetch(signal, fresh)
    return fetched.kind === 'unchanged' ? null : { packed: fetched.bytes, etag: fetched.etag }
  }
  const { path } = options.source as Extract<BundleSource, { kind: 'path' }>
  return { packed: await readPath(path, options), etag: null }
}

/** A directory is built by OPA, a file is read. */
async function readPath(
  path: string,
  options: Pick<KeeperOptions, 'opa' | 'cacheDirectory' | 'limits'>,
): Promise<Buffer> {
  const found = await stat(path).catch((cause: unknown) => {
    throw new ProxyError('configuration', `policy.bundle: ${path} is not there`, { cause })
  })
  if (found.isDirectory()) {
    const opa = await findOpa(options.opa)
    return buildBundle({ opa, directory: path, cacheDirectory: options.cacheDirectory })
  }
  if (found.size > options.limits.bundleBytesMax) {
    throw new ProxyError('program_limit_exceeded', `${path} is larger than limits.bundleBytesMax`)
  }
  return readFile(path)
}

async function loadPolicy(
  options: KeeperOptions,
  packed: Buffer,
  extraData: readonly Readonly<Record<string, unknown>>[],
  known: KnownPolicies,
): Promise<Policy> {
  const bundle: PolicyBundle = await readBundle(packed, {
    limits: options.limits,
    name: options.name,
    signing: options.source.kind === 'remote' ? options.source.signing : null,
    nowMs: options.clock.nowMs(),
  })
  return Policy.load(bundle, { limits: options.limits, extraData, known })
}

/** Reads the data files of the configuration; throws `configuration` that names the file. */
export async function readDataFiles(
  paths: readonly string[],
): Promise<readonly Readonly<Record<string, unknown>>[]> {
  return Promise.all(
    paths.map(async (path) => {
      let document: unknown
      try {
        const text = await readFile(path, 'utf8')
        document = path.endsWith('.json') ? JSON.parse(text) : parseYaml(text)
      } catch (cause) {
        const form = path.endsWith('.json') ? 'JSON' : 'YAML'
        const said = cause instanceof Error ? cause.message : String(cause)
        // The system's own errors are about the file, the parser's about what is in it.
        const what =
          (cause as NodeJS.ErrnoException).syscall === undefined
            ? `is not valid ${form}: ${said.split('\n', 1)[0] ?? ''}`
            : 'cannot be read'
        throw new ProxyError('configuration', `policy.data: ${path} ${what}`, { cause })
      }
      if (typeof document !== 'object' || document === null || Array.isArray(document)) {
        throw new ProxyError('configuration', `policy.data: ${path} must hold an object`)
      }
      return document as Readonly<Record<string, unknown>>
    }),
  )
}

async function stampOf(options: KeeperOptions): Promise<string> {
  const paths = [...options.dataFiles]
  if (options.source.kind === 'path') paths.push(options.source.path)
  const stamps = await Promise.all(paths.map((path) => sourceStamp(path).catch(() => 'missing')))
  return stamps.join('\n')
}

function persistedPath(options: KeeperOptions): string | null {
  const { source } = options
  if (source.kind !== 'remote' || source.persist === null) return null
  return join(source.persist, `${basename(options.name)}.bundle.tar.gz`)
}

async function persist(options: KeeperOptions, packed: Buffer): Promise<void> {
  const path = persistedPath(options)
  if (path === null) return
  await mkdir(join(path, '..'), { recursive: true, mode: 0o700 })
  const making = `${path}.making`
  await writeFile(making, packed, { mode: 0o600, flush: true })
  await rename(making, path)
}

async function persisted(options: KeeperOptions): Promise<Buffer | null> {
  const path = persistedPath(options)
  return path === null ? null : readFile(path).catch(() => null)
}

function hashOf(packed: Buffer, extraData: readonly unknown[]): string {
  return createHash('sha256').update(packed).update(JSON.stringify(extraData)).digest('hex')
}

function describe(error: unknown): readonly string[] {
  if (!(error instanceof ProxyError)) return [String(error)]
  const parts = [
    error.message,
    error.detail,
    error.hint,
    (error.cause as Error | undefined)?.message,
  ]
  return parts.filter((part): part is string => typeof part === 'string' && part !== '')
}
