/**
 * The catalog store with connections of its own: to each database that sessions use, under the login
 * of the `default` role.
 */
import type { Logger } from 'pino'
import { ProxyError, type Interrupt, type Limits } from '../core/core.ts'
import type { DatabaseEntry, OpenCatalog } from '../server/server.ts'
import type { Catalog } from '../sql/sql.ts'
import { CatalogStore, connectCatalog, type CatalogConnection } from '../upstream/upstream.ts'
import { upstreamFor, type Upstream } from './wiring.ts'

/** How long the catalog of a database that only clients name is kept without sessions. */
const idleMs = 60_000

export interface CatalogsOptions {
  readonly upstreams: ReadonlyMap<string, Upstream>
  readonly limits: Limits
  readonly log: Logger
  /** A catalog was read and is another one than before. */
  readonly onChange: () => void
  /** A session here has committed DDL. */
  readonly onOutdated: (database: string) => void
}

export class Catalogs {
  readonly #options: CatalogsOptions
  /** One a configured entry, since each may poll at its own pace. */
  readonly #stores = new Map<string, CatalogStore>()

  constructor(options: CatalogsOptions) {
    this.#options = options
    for (const upstream of options.upstreams.values()) {
      const store = new CatalogStore({
        connect: (database, ending) => this.#connect(upstream, database, ending),
        pollMs: upstream.catalogPollMs,
        // Databases that the configuration names are known from the start on.
        idleMs: upstream.name === '*' ? idleMs : 0,
        onOutdated: (database) => {
          options.onOutdated(database)
        },
        onError: (database, error) => {
          options.log.warn(
            { database, err: error },
            'catalog: could not be read, the old one stays',
          )
        },
        onChange: (database, _catalog, reason) => {
          options.log.debug({ database, reason }, 'catalog: read')
          options.onChange()
        },
      })
      this.#stores.set(upstream.name, store)
    }
  }

  /** What the server needs to know of a database name; null for one that is not served. */
  entry(name: string): DatabaseEntry | null {
    const upstream = upstreamFor(this.#options.upstreams, name)
    if (upstream === null) return null
    return { ...upstream, catalog: (database) => this.open(database) }
  }

  /** `host:port` of the server that has the database. */
  address(name: string): string {
    const target = upstreamFor(this.#options.upstreams, name)?.target(name)
    return target === undefined ? 'nowhere' : `${target.host}:${String(target.port)}`
  }

  /** The database's catalog, as new as this call, until it is released. */
  async open(database: string): Promise<OpenCatalog> {
    const upstream = upstreamFor(this.#options.upstreams, database)
    const store = upstream === null ? undefined : this.#stores.get(upstream.name)
    if (store === undefined) {
      throw new ProxyError('invalid_authorization', `database "${database}" does not exist`, {
        sqlstate: '3D000',
      })
    }
    return await store.open(database)
  }

  /** DDL was committed elsewhere: a catalog of this name is read again. */
  async look(database: string): Promise<void> {
    await Promise.all([...this.#stores.values()].map((store) => store.look(database)))
  }

  /** Catalogs that were read until now. */
  loaded(): readonly Catalog[] {
    return [...this.#stores.values()].flatMap((store) =>
      store.databases.map((name) => store.current(name)).filter((catalog) => catalog !== null),
    )
  }

  /** Reads the catalogs of all databases that are configured by name; resolves with what failed. */
  async warm(): Promise<readonly { readonly database: string; readonly error: unknown }[]> {
    const names = [...this.#options.upstreams.keys()].filter((name) => name !== '*')
    const failed: { database: string; error: unknown }[] = []
    await Promise.all(
      names.map(async (database) => {
        try {
          const catalog = await this.open(database)
          catalog.release()
        } catch (error) {
          failed.push({ database, error })
        }
      }),
    )
    return failed
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#stores.values()].map((store) => store.stop()))
  }

  async #connect(
    upstream: Upstream,
    database: string,
    interrupt: Interrupt,
  ): Promise<CatalogConnection> {
    const role = upstream.roles.get('default')
    if (role === undefined) throw new ProxyError('configuration', 'there is no role `default`')
    return await connectCatalog({
      role,
      limits: this.#options.limits,
      target: upstream.target(database),
      interrupt,
      allowUnsupported: upstream.allowUnsupported,
    })
  }
}
