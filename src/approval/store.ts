/**
 * The store of approvals: one database, embedded or a PostgreSQL of its own, spoken to in the same
 * SQL. Opened when it is first needed, opened again by itself when it went away. Every change is
 * one SQL statement, so that one winner is the database's business, whoever else uses the store.
 */
import { ProxyError } from '../core/core.ts'
import { migrate } from './schema.ts'

export interface Sql {
  /** Runs one statement; `parameters` null runs several statements without any. */
  query<Row>(text: string, parameters: readonly unknown[] | null): Promise<readonly Row[]>
}

/** A connection to a database; closes by itself when it is lost. */
export interface StoreConnection extends Sql {
  /** Statements that nobody else's come between: for migrations. */
  alone<Result>(work: (sql: Sql) => Promise<Result>): Promise<Result>
  close(): Promise<void>
}

export interface StoreEvents {
  /** Payload of a notification: `request <id> <state>`, `grant <id> <state>`, `delivery <id>`. */
  onNotice(payload: string): void
  /** Notifications may have been missed: everything that waits is to be looked at again. */
  onGap(): void
  /** The connection is gone; the store opens another when it is next needed. */
  onLost(error: unknown): void
}

/** What opens a connection: store-embedded.ts, store-postgres.ts. */
export type StoreDriver = (events: StoreEvents) => Promise<StoreConnection>

export interface StoreOptions {
  readonly driver: StoreDriver
  onNotice(payload: string): void
  onGap(): void
  /** Went away, or came back (null); for the log and readiness. */
  onHealth(error: unknown): void
}

/** A store that cannot be reached refuses at once for this long, then is tried again. */
const retryMs = 1_000

export class Store implements Sql {
  readonly #options: StoreOptions
  #opening: Promise<StoreConnection> | null = null
  #failedAt = -Infinity
  #failure: unknown = null
  #closed = false

  constructor(options: StoreOptions) {
    this.#options = options
  }

  /** It was opened and has not been lost. */
  get open(): boolean {
    return this.#opening !== null
  }

  /** The last failure; null while all is well. */
  get failure(): unknown {
    return this.#failure
  }

  /** Opens it where it is not. Rejects with approvals_unavailable. */
  async start(): Promise<void> {
    await this.#connection()
  }

  async query<Row>(text: string, parameters: readonly unknown[] | null): Promise<readonly Row[]> {
    const connection = await this.#connection()
    try {
      return await connection.query<Row>(text, parameters)
    } catch (error) {
      if (error instanceof ProxyError || isRefusal(error)) throw error
      if ((error as { code?: unknown }).code === statementTimeout) throw busy()
      this.#lose(error)
      throw unavailable(error)
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    const opening = this.#opening
    this.#opening = null
    const connection = await opening?.catch(() => null)
    await connection?.close()
  }

  async #connection(): Promise<StoreConnection> {
    if (this.#closed) throw unavailable(new Error('regate stops'))
    if (this.#opening === null) {
      if (performance.now() - this.#failedAt < retryMs) throw unavailable(this.#failure)
      const opening = this.#openOne()
      this.#opening = opening
      opening.catch(() => {
        if (this.#opening === opening) this.#opening = null
      })
    }
    try {
      return await this.#opening
    } catch (error) {
      throw unavailable(error)
    }
  }

  async #openOne(): Promise<StoreConnection> {
    try {
      const connection = await this.#options.driver({
        onNotice: (payload) => {
          this.#options.onNotice(payload)
        },
        onGap: () => {
          this.#options.onGap()
        },
        onLost: (error) => {
          this.#lose(error)
        },
      })
      try {
        await migrate(connection)
      } catch (error) {
        await connection.close()
        throw error
      }
      const again = this.#failure !== null
      this.#failure = null
      if (again) this.#options.onHealth(null)
      this.#options.onGap()
      return connection
    } catch (error) {
      this.#fail(error)
      throw error
    }
  }

  #lose(error: unknown): void {
    const opening = this.#opening
    if (opening === null || this.#closed) return
    this.#opening = null
    this.#fail(error)
    void opening.then((connection) => connection.close()).catch(() => undefined)
  }

  #fail(error: unknown): void {
    this.#failedAt = performance.now()
    const first = this.#failure === null
    this.#failure = error
    if (first && !this.#closed) this.#options.onHealth(error)
  }
}

/** `statement_timeout`: the database is there, and slow. */
const statementTimeout = '57014'

/** The fault of a store that has too much to do. */
export function busy(): ProxyError {
  return new ProxyError('denied', 'the store of approvals is too busy', {
    sqlstate: '58000',
    hint: 'Send the statement again later; other statements run.',
  })
}

/** The database answered and said no: it is there, and the statement is to blame. */
function isRefusal(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code
  if (typeof code !== 'string' || !/^[0-9A-Z]{5}$/.test(code)) return false
  // Connections, passwords, shutdowns, a full disk, a store that became read-only.
  return !/^(08|28|53|57|58|XX|25006)/.test(code)
}

/** The fault of a store that does not answer. */
export function unavailable(cause: unknown): ProxyError {
  const why = cause instanceof Error ? cause.message : String(cause)
  return new ProxyError('denied', 'the store of approvals cannot be reached', {
    sqlstate: '58000',
    detail: why,
    hint: 'Nothing can be approved until it is back (approvals.store); other statements run.',
    cause,
  })
}
