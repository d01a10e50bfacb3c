/**
 * Keeps the catalog of each database fresh: loaded when the first session opens it, read again after
 * DDL that passed through, when a cheap poll sees that somebody else changed it, and when a session
 * meets a contradiction. Sessions hold a `DatabaseCatalog`; `current()` is synchronous and is the
 * newest catalog that was read.
 *
 * What was read once stays in use while the server cannot be reached: names are then as old as the
 * last read, and the failure is reported through `onError`.
 */
import { Interrupt, ProxyError } from '../core/core.ts'
import type { Catalog } from '../sql/sql.ts'
import {
  CatalogLocked,
  loadCatalog,
  loadOverlay,
  reloadCatalog,
  type CatalogQuery,
  type LoadedCatalog,
} from './catalog-load.ts'
import { fingerprintQuery, snapshotQuery } from './catalog-queries.ts'

/** An idle connection of the proxy's own to one database, as any role that may connect. */
export interface CatalogConnection {
  readonly query: CatalogQuery
  end(): Promise<void>
}

export interface CatalogStoreOptions {
  /** @param ending raised when the connection, or the attempt, is to end at once. */
  connect(database: string, ending: Interrupt): Promise<CatalogConnection>
  /** Between two looks at whether somebody changed the catalog; 0 is never. */
  readonly pollMs: number
  /** After this long everything is read again instead of what changed. */
  readonly fullMs?: number
  /** How long a database without sessions keeps its catalog; 0 is for good. */
  readonly idleMs?: number
  /** How long a database without sessions keeps its connection, which DROP DATABASE waits for. */
  readonly restMs?: number
  /** DDL was committed in the database; others that have its catalog should know. */
  onOutdated?(database: string): void
  onError?(database: string, error: unknown): void
  /** The catalog became another one: caches over the old one can go. */
  onChange?(database: string, catalog: Catalog, reason: string): void
}

/**
 * The server's own DROP DATABASE and CREATE DATABASE … TEMPLATE wait 5 s for others to leave
 * (CountOtherDBBackends in procarray.c): well below that.
 */
const restMsDefault = 2_000
/** How long a stop waits for the server. */
const stopMs = 500
/** The newest read is not older than this: `recheck` says null. */
const momentMs = 100

/** The catalogs of all databases that sessions use. */
export class CatalogStore {
  readonly #options: CatalogStoreOptions
  readonly #databases = new Map<string, DatabaseCatalog>()

  constructor(options: CatalogStoreOptions) {
    this.#options = options
  }

  /** The database's catalog, read or looked at now; `release` it when the session ends. */
  async open(database: string): Promise<DatabaseCatalog> {
    let found = this.#databases.get(database)
    if (found === undefined) {
      found = new DatabaseCatalog(database, this.#options, () => this.#databases.delete(database))
      this.#databases.set(database, found)
    }
    found.retain()
    try {
      await found.ready()
    } catch (error) {
      found.release()
      throw error
    }
    return found
  }

  /** The catalog where one was read; null else. */
  current(database: string): Catalog | null {
    return this.#databases.get(database)?.peek() ?? null
  }

  /** DDL was committed elsewhere: the catalog is read again, where one is in use. */
  async look(database: string): Promise<void> {
    await this.#databases.get(database)?.look()
  }

  /** Databases that are open now. */
  get databases(): readonly string[] {
    return [...this.#databases.keys()]
  }

  /** Ends every connection and timer. */
  async stop(): Promise<void> {
    await Promise.all([...this.#databases.values()].map((database) => database.stop()))
    this.#databases.clear()
  }
}

/** One database's catalog: what a session asks for names. */
export class DatabaseCatalog {
  readonly database: string
  readonly #options: CatalogStoreOptions
  readonly #forget: () => void
  #connection: Promise<CatalogConnection> | null = null
  #loaded: LoadedCatalog | null = null
  #serverFingerprint: string | null = null
  #fullAt = 0
  #checkedAt = -Infinity
  #generation = 0
  #outdated = false
  #users = 0
  #stopped = false
  readonly #ending = new Interrupt()
  /** The read that runs, and the one that was asked for while it ran. */
  #running: Promise<void> | null = null
  #next: Promise<void> | null = null
  #pollTimer: NodeJS.Timeout | null = null
  #idleTimer: NodeJS.Timeout | null = null
  #restTimer: NodeJS.Timeout | null = null

  constructor(database: string, options: CatalogStoreOptions, forget: () => void) {
    this.database = database
    this.#options = options
    this.#forget = forget
  }

  /** The newest catalog that was read. `ready` must have resolved once. */
  current(): Catalog {
    const loaded = this.#loaded
    if (loaded === null) throw new Error(`the catalog of ${this.database} was not read yet`)
    return loaded.catalog
  }

  peek(): Catalog | null {
    return this.#loaded?.catalog ?? null
  }

  /** DDL was committed since the newest read began. */
  get outdated(): boolean {
    return this.#outdated
  }

  /** Somebody committed DDL. */
  outdate(): void {
    this.#outdated = true
    this.#options.onOutdated?.(this.database)
  }

  /** Counts the catalogs: another number is another catalog. */
  get generation(): number {
    return this.#generation
  }

  retain(): void {
    this.#users += 1
    for (const timer of [this.#idleTimer, this.#restTimer]) {
      if (timer !== null) clearTimeout(timer)
    }
    this.#idleTimer = null
    this.#restTimer = null
  }

  /** One user less. Without any the connection is closed soon, and the catalog forgotten later. */
  release(): void {
    this.#users -= 1
    if (this.#users > 0 || this.#stopped) return
    const { idleMs = 60_000, restMs = restMsDefault } = this.#options
    this.#restTimer = setTimeout(() => void this.#rest(), restMs)
    this.#restTimer.unref()
    if (idleMs === 0) return
    this.#idleTimer = setTimeout(() => void this.stop(), idleMs)
    this.#idleTimer.unref()
  }

  /** Nobody uses the database: no connection, no poll. The next `ready` looks and polls again. */
  async #rest(): Promise<void> {
    if (this.#pollTimer !== null) clearTimeout(this.#pollTimer)
    this.#pollTimer = null
    await this.#turn.catch(() => undefined)
    if (this.#users === 0) await this.#disconnect()
  }

  /** Resolves when a catalog is there that was the server's at some moment after the call. */
  async ready(): Promise<void> {
    if (this.#loaded === null) await this.refresh('first use')
    else if (this.#outdated) await this.refresh('changed while nobody used it')
    else await this.recheck()
    this.#schedulePoll()
  }

  /** Resolves when the catalog is as new as the call. One read at a time, shared by all who wait. */
  refresh(reason: string): Promise<void> {
    if (this.#running === null) {
      this.#running = persistently(() => this.#read(reason)).finally(() => {
        this.#running = null
      })
      return this.#running
    }
    // The read that runs may have begun before what the caller knows of: one more, for everybody.
    this.#next ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#next = null
        return this.refresh(reason)
      })
    return this.#next
  }

  /**
   * Null where the catalog was looked at a moment ago; else resolves when it was, and was read
   * again if the server's had changed.
   */
  recheck(): Promise<void> | null {
    if (performance.now() - this.#checkedAt < momentMs) return null
    return persistently(() => this.#check())
  }

  /** DDL was committed elsewhere: resolves when it was read, at once where nobody uses the catalog. */
  async look(): Promise<void> {
    this.#outdated = true
    if (this.#users > 0) await this.refresh('changed elsewhere')
  }

  /**
   * What only this session sees: `query` runs texts on its own connection, in one transaction.
   */
  async overlay(
    query: CatalogQuery,
  ): Promise<{ readonly catalog: Catalog; readonly temporarySchema: string | null }> {
    const base = this.#loaded
    if (base === null) throw new Error(`the catalog of ${this.database} was not read yet`)
    const { overlay, temporarySchema } = await loadOverlay(query, base)
    return { catalog: base.catalog.with(overlay), temporarySchema }
  }

  /** What is being read, or connected, may end within a moment; then it is cut. */
  async stop(): Promise<void> {
    this.#stopped = true
    if (this.#pollTimer !== null) clearTimeout(this.#pollTimer)
    if (this.#idleTimer !== null) clearTimeout(this.#idleTimer)
    if (this.#restTimer !== null) clearTimeout(this.#restTimer)
    this.#forget()
    const cut = setTimeout(() => {
      this.#ending.raise(new Error(`the catalog of ${this.database} is not needed any more`))
    }, stopMs)
    await this.#running?.catch(() => undefined)
    await this.#disconnect()
    clearTimeout(cut)
  }

  #schedulePoll(): void {
    if (this.#stopped || this.#pollTimer !== null || this.#options.pollMs <= 0) return
    if (this.#users === 0) return
    this.#pollTimer = setTimeout(() => {
      this.#pollTimer = null
      void this.#check()
        .catch((error: unknown) => this.#options.onError?.(this.database, error))
        .finally(() => this.#schedulePoll())
    }, this.#options.pollMs)
    this.#pollTimer.unref()
  }

  async #check(): Promise<void> {
    const checkedAt = performance.now()
    const { query } = await this.#connected()
    const changed = await this.#onConnection(async () => {
      const [visible] = await query([snapshotQuery])
      if (visible?.[0] === this.#loaded?.visible) return false
      const [fingerprint] = await query([fingerprintQuery])
      return (fingerprint?.[0] ?? null) !== this.#serverFingerprint
    })
    if (changed) await this.refresh('changed by another session')
    else this.#checkedAt = checkedAt
  }

  async #read(reason: string): Promise<void> {
    const startedAt = performance.now()
    const wasOutdated = this.#outdated
    this.#outdated = false
    try {
      await this.#readSince(startedAt, reason)
    } catch (error) {
      this.#outdated ||= wasOutdated
      throw error
    }
  }

  async #readSince(startedAt: number, reason: string): Promise<void> {
    const { query } = await this.#connected()
    const before = this.#loaded
    const full = before === null || startedAt - this.#fullAt > (this.#options.fullMs ?? 600_000)
    const { fingerprint, loaded } = await this.#onConnection(async () => {
      // The fingerprint is older than the read: a change between them is seen at the next poll.
      const [found] = await query([fingerprintQuery])
      return {
        fingerprint: found?.[0] ?? null,
        loaded: await this.#load(query, before, full),
      }
    })
    this.#serverFingerprint = fingerprint
    this.#checkedAt = startedAt
    const same = before !== null && before.catalog.fingerprint === loaded.catalog.fingerprint
    this.#loaded = same ? { ...loaded, catalog: before.catalog } : loaded
    if (same) return
    this.#generation += 1
    this.#options.onChange?.(this.database, loaded.catalog, reason)
  }

  /** Everything, or what changed; what changed too where a lock is in the way of everything. */
  async #load(
    query: CatalogQuery,
    before: LoadedCatalog | null,
    full: boolean,
  ): Promise<LoadedCatalog> {
    if (before !== null && !full) return await reloadCatalog(query, before)
    try {
      const loaded = await loadCatalog(query)
      this.#fullAt = performance.now()
      return loaded
    } catch (error) {
      if (before === null || !(error instanceof CatalogLocked)) throw error
      return await reloadCatalog(query, before)
    }
  }

  /** Queries of one read must not mix with those of another: they share one connection. */
  #turn: Promise<unknown> = Promise.resolve()

  async #onConnection<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.catch(() => undefined).then(work)
    this.#turn = mine
    try {
      return await mine
    } catch (error) {
      await this.#disconnect()
      throw error
    }
  }

  async #connected(): Promise<CatalogConnection> {
    if (this.#connection === null) {
      const connection = this.#options.connect(this.database, this.#ending)
      this.#connection = connection
      connection.catch(() => {
        if (this.#connection === connection) this.#connection = null
      })
    }
    return await this.#connection
  }

  async #disconnect(): Promise<void> {
    const connection = this.#connection
    this.#connection = null
    if (connection !== null) {
      await connection.then((open) => open.end()).catch(() => undefined)
    }
  }
}

const attemptCount = 3

/**
 * Tries again what a lost connection, or an object that went away while it was read, made fail:
 * each attempt connects anew. The last error stands.
 */
async function persistently(work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await work()
      return
    } catch (error) {
      const hopeless = error instanceof ProxyError && hopelessCodes.has(error.code)
      if (hopeless || attempt === attemptCount) throw error
    }
  }
}

/** The server is not there, or does not take us: it will not in the next millisecond either. */
const hopelessCodes: ReadonlySet<string> = new Set([
  'upstream_unreachable',
  'upstream_rejected',
  'unsupported_server',
])
