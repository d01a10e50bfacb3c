/**
 * A whole regate whose policy holds what its `engineers` write, with a PostgreSQL store, and what the
 * tests do to it: ask, look through the admin API, decide, count what the server ran.
 */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { until } from './support.ts'

export interface Summary {
  readonly id: string
  readonly state: string
  readonly held: boolean
  readonly statement: { readonly text: string }
  readonly outcome: string | null
}

export interface HarnessOptions {
  /** Of the policy; default 90 s. */
  readonly wait?: string
  readonly ttl?: string
  /** Members of `approvals` in regate.yaml beside the store; `null` for none at all. */
  readonly approvals?: Readonly<Record<string, unknown>>
  readonly limits?: Readonly<Record<string, number>>
  /** The store; default a database of the server. */
  readonly store?: string
  /** A regate beside this one, on the same server and store. */
  readonly beside?: Harness
}

export interface Answer {
  readonly status: number
  readonly body: Record<string, unknown>
}

export class Harness {
  readonly server: TestPostgres
  readonly proxy: ProxyInProcess
  readonly token: string
  readonly store: string
  readonly #ownsServer: boolean

  private constructor(
    server: TestPostgres,
    proxy: ProxyInProcess,
    token: string,
    store: string,
    ownsServer: boolean,
  ) {
    this.server = server
    this.proxy = proxy
    this.token = token
    this.store = store
    this.#ownsServer = ownsServer
  }

  static async start(options: HarnessOptions = {}): Promise<Harness> {
    const token = randomBytes(24).toString('hex')
    process.env['TEST_APPROVAL_TOKEN'] = token
    const server = options.beside?.server ?? (await startPostgres())
    if (options.beside === undefined) {
      await execute(server, 'CREATE TABLE ran (id serial, what text)')
      await execute(server, 'CREATE DATABASE approvals')
    }
    const store = new URL(options.store ?? options.beside?.store ?? server.url('approvals'))
    process.env['TEST_STORE_PASSWORD'] = decodeURIComponent(store.password)
    const full = store.href
    store.password = ''
    const engineers = {
      ...{ read: ['*'], write: { '*': 'approve' } },
      ddl: 'approve',
      effects: { session: 'allow', procedure: 'approve', maintenance: 'approve' },
    }
    const { wait = '90s', ttl = '120s' } = options
    const proxy = await startProxy(server, {
      data: {
        regate: {
          approvals: { groups: ['dba'], quorum: 1, wait, ttl },
          columns: { 'public.people.ssn': { class: 'pii', mask: { kind: 'redact' } } },
          groups: { engineers, timed: { ...engineers, settings: { statement_timeout: '1s' } } },
        },
      },
      users: {
        ...{ ann: { groups: ['engineers'] }, bob: { groups: ['engineers'] } },
        tim: { groups: ['timed'] },
      },
      limits: options.limits ?? {},
      configuration: {
        approvals: {
          ...{ store: store.href, store_password_env: 'TEST_STORE_PASSWORD' },
          ...options.approvals,
        },
        admin: { port: 0, token_env: 'TEST_APPROVAL_TOKEN', groups: ['dba', 'admins'] },
      },
    })
    return new Harness(server, proxy, token, full, options.beside === undefined)
  }

  async stop(): Promise<void> {
    await this.proxy.stop()
    if (this.#ownsServer) await this.server.stop()
  }

  async api(method: string, path: string, body?: object): Promise<Answer> {
    const response = await fetch(`${this.proxy.adminUrl}${path}`, {
      method,
      headers: { authorization: `Bearer ${this.token}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }

  async list(state = 'pending'): Promise<Summary[]> {
    const { body } = await this.api('GET', `/v1/approvals?state=${state}&limit=500`)
    return (body['approvals'] ?? []) as Summary[]
  }

  async detail(id: string): Promise<Record<string, unknown>> {
    return (await this.api('GET', `/v1/approvals/${id}`)).body
  }

  /** The request whose text holds this, once it is there. */
  async pending(text: string): Promise<Summary> {
    let found: Summary | undefined
    await until(`${text} is held`, async () => {
      found = (await this.list()).find(({ statement }) => statement.text.includes(text))
      return found !== undefined
    })
    return found as Summary
  }

  async approve(text: string): Promise<string> {
    const { id } = await this.pending(text)
    const { status, body } = await this.api('POST', `/v1/approvals/${id}/approve`, {})
    if (status !== 200) throw new Error(JSON.stringify(body))
    return id
  }

  async reject(text: string, reason = 'no'): Promise<string> {
    const { id } = await this.pending(text)
    await this.api('POST', `/v1/approvals/${id}/reject`, { reason })
    return id
  }

  /** The request has come to this. */
  async is(id: string, state: string): Promise<void> {
    await until(`${id} is ${state}`, async () => (await this.detail(id))['state'] === state)
  }

  async connect(user = 'ann'): Promise<{ client: pg.Client; notices: string[] }> {
    const client = new pg.Client({ connectionString: this.proxy.url('postgres', user) })
    const notices: string[] = []
    client.on('notice', ({ message, detail }) => notices.push(`${message ?? ''} ${detail ?? ''}`))
    client.on('error', () => undefined)
    await client.connect()
    return { client, notices }
  }

  async with<T>(
    work: (client: pg.Client, notices: string[]) => Promise<T>,
    user = 'ann',
  ): Promise<T> {
    const { client, notices } = await this.connect(user)
    try {
      return await work(client, notices)
    } finally {
      await client.end().catch(() => undefined)
    }
  }

  /** How often the server has run it. */
  async ran(what: string): Promise<number> {
    const sql = `SELECT count(*)::int AS n FROM ran WHERE what LIKE '${what}'`
    const { rows } = await execute(this.server, sql)
    return (rows[0] as { n: number }).n
  }
}

/** What the server, or regate, said against it. */
export function failure(promise: Promise<unknown>): Promise<pg.DatabaseError> {
  return promise.then(
    () => {
      throw new Error('it ran')
    },
    (error: unknown) => error as pg.DatabaseError,
  )
}

export const insert = (what: string): string =>
  `INSERT INTO ran (what) VALUES ('${what}') RETURNING what`
