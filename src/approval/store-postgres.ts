/**
 * The store in a PostgreSQL of its own, by URL: what several replicas share. A small pool for
 * statements and one connection that listens; the listener comes back by itself, and says that it
 * may have missed something.
 */
import pg from 'pg'
import {
  busy,
  type Sql,
  type StoreConnection,
  type StoreDriver,
  type StoreEvents,
} from './store.ts'

export interface PostgresStoreOptions {
  /** Without a password. */
  readonly url: string
  /** Read when the store is opened, and again when the server takes it no more. */
  readonly password: (() => Promise<string>) | null
}

export const notifyChannel = 'regate_approvals'
const poolSize = 6
const connectMsMax = 5_000
/** The server ends a statement first; who hears nothing for longer has lost it. */
const statementMsMax = 10_000
const answerMsMax = 15_000
/** For a turn, while all connections are in use: a busy store is no store that is away. */
const turnMsMax = 15_000
const retryMsLeast = 500
const retryMsMost = 15_000

/** Opens the pool and the listener. */
export function postgresStore(options: PostgresStoreOptions): StoreDriver {
  return async (events) => {
    const settings: pg.PoolConfig = {
      connectionString: await withPassword(options),
      application_name: 'regate approvals',
      connectionTimeoutMillis: connectMsMax,
      query_timeout: answerMsMax,
      statement_timeout: statementMsMax,
      keepAlive: true,
    }
    const pool = new pg.Pool({ ...settings, max: poolSize })
    // A connection that breaks while nobody uses it; the next query opens another.
    pool.on('error', () => undefined)
    const listener = new Listener(settings, events)
    try {
      await listener.start()
    } catch (error) {
      await pool.end()
      throw error
    }
    return connectionOf(pool, listener)
  }
}

/** What a URL says of the password, even nothing, goes before any other option of the driver. */
async function withPassword({ url, password }: PostgresStoreOptions): Promise<string> {
  if (password === null) return url
  const parsed = new URL(url)
  parsed.password = encodeURIComponent(await password())
  return parsed.href
}

function connectionOf(pool: pg.Pool, listener: Listener): StoreConnection {
  const turns = new Turns(poolSize)
  const run = async <Row>(
    client: pg.Pool | pg.PoolClient,
    text: string,
    parameters: readonly unknown[] | null,
  ): Promise<readonly Row[]> => {
    const result =
      parameters === null
        ? await client.query(text)
        : await client.query({ text, values: [...parameters] })
    return result.rows as Row[]
  }
  return {
    query: (text, parameters) => turns.take(() => run(pool, text, parameters)),
    alone: <Result>(work: (sql: Sql) => Promise<Result>) =>
      turns.take(async () => {
        const client = await pool.connect()
        try {
          return await work({ query: (text, parameters) => run(client, text, parameters) })
        } finally {
          client.release()
        }
      }),
    close: async () => {
      await listener.close()
      await pool.end()
    },
  }
}

/**
 * So many at a time, the others in order. The pool would do it too, but its limit for a connection
 * counts the wait for a turn: a busy store would look like one that cannot be reached.
 */
class Turns {
  readonly #waiting: (() => void)[] = []
  #free: number

  constructor(count: number) {
    this.#free = count
  }

  async take<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.#free > 0) this.#free--
    else await this.#turn()
    try {
      return await work()
    } finally {
      const next = this.#waiting.shift()
      if (next === undefined) this.#free++
      else next()
    }
  }

  #turn(): Promise<void> {
    return new Promise((resolve, reject) => {
      const go = (): void => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(() => {
        this.#waiting.splice(this.#waiting.indexOf(go), 1)
        reject(busy())
      }, turnMsMax)
      this.#waiting.push(go)
    })
  }
}

/** One connection that listens, for ever. */
class Listener {
  readonly #settings: pg.ClientConfig
  readonly #events: StoreEvents
  #client: pg.Client | null = null
  #timer: NodeJS.Timeout | null = null
  #failures = 0
  #closed = false

  constructor(settings: pg.ClientConfig, events: StoreEvents) {
    this.#settings = settings
    this.#events = events
  }

  /** Rejects where the first connection fails; later ones are tried again. */
  async start(): Promise<void> {
    const client = new pg.Client({ ...this.#settings, application_name: 'regate approvals listen' })
    const lost = (): void => {
      if (this.#client !== client) return
      this.#client = null
      this.#again()
    }
    client.on('error', lost)
    client.on('end', lost)
    client.on('notification', ({ payload }) => {
      this.#events.onNotice(payload ?? '')
    })
    try {
      await client.connect()
      await client.query(`LISTEN ${notifyChannel}`)
    } catch (error) {
      void client.end().catch(() => undefined)
      throw error
    }
    if (this.#closed) {
      await client.end()
      return
    }
    this.#client = client
    this.#failures = 0
  }

  async close(): Promise<void> {
    this.#closed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    const client = this.#client
    this.#client = null
    await client?.end().catch(() => undefined)
  }

  #again(): void {
    if (this.#closed) return
    const delay = Math.min(retryMsMost, retryMsLeast * 2 ** Math.min(this.#failures++, 10))
    this.#timer = setTimeout(
      () => {
        this.start().then(
          () => {
            this.#events.onGap()
          },
          () => {
            this.#again()
          },
        )
      },
      delay * (0.5 + Math.random() / 2),
    )
    this.#timer.unref()
  }
}
