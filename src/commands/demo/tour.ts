/**
 * The demo's tour: what its guide tells people to try, tried by a real client, with what should come
 * out. Each step says what it did; the number of steps that went wrong is returned.
 */
import pg from 'pg'
import { formatMessage, formatResult, type ServerMessage, type TextResult } from '../sql-prompt.ts'
import { demoAccounts, type Demo } from './start.ts'

interface Step {
  readonly user: string
  readonly sql: string
  readonly what: string
  /** null: it came out right; else what is wrong. */
  readonly expect: (outcome: Outcome, demo: Demo) => string | null
}

type Outcome =
  | { readonly kind: 'result'; readonly result: TextResult; readonly transaction: string }
  | { readonly kind: 'error'; readonly error: ServerMessage; readonly transaction: string }

const allowed = (check: (rows: TextResult['rows']) => boolean) => (outcome: Outcome) => {
  if (outcome.kind === 'error') return 'it was refused'
  return check(outcome.result.rows) ? null : 'the rows are not what they should be'
}

const denied = (outcome: Outcome, demo: Demo, sql: string): string | null => {
  if (outcome.kind === 'result') return 'it was allowed'
  const { code, detail } = outcome.error
  if (code !== '42501') return `SQLSTATE is ${code ?? 'missing'}, not 42501`
  if (detail === undefined || !/rule|decision/i.test(detail)) return 'DETAIL does not name the rule'
  return demo.postgres.log().includes(sql) ? 'the refused text reached PostgreSQL' : null
}

const steps: readonly Step[] = [
  {
    user: 'agent',
    sql: 'SELECT status, count(*) FROM orders GROUP BY status ORDER BY status',
    what: 'an agent counts orders: allowed',
    expect: allowed((rows) => rows.length === 4),
  },
  {
    user: 'agent',
    sql: 'SELECT id, name, ssn FROM customers ORDER BY id LIMIT 3',
    what: 'an agent reads customers: the ssn is masked',
    expect: allowed(
      (rows) => rows.length === 3 && rows.every(([, name, ssn]) => name !== null && ssn === '****'),
    ),
  },
  {
    user: 'agent',
    sql: "SELECT count(*) FROM customers WHERE ssn LIKE '1%'",
    what: 'an agent filters by what is masked: denied',
    expect: (outcome, demo) => denied(outcome, demo, "ssn LIKE '1%'"),
  },
  {
    user: 'agent',
    sql: "UPDATE products SET price = 0 WHERE name = 'Oak desk'",
    what: 'an agent changes a price: denied',
    expect: (outcome, demo) => denied(outcome, demo, 'SET price = 0'),
  },
  {
    user: 'agent',
    sql: 'DROP TABLE payments',
    what: 'an agent drops a table: denied',
    expect: (outcome, demo) => denied(outcome, demo, 'DROP TABLE payments'),
  },
  {
    user: 'agent',
    sql: "INSERT INTO notes (body) VALUES ('written by an agent') RETURNING id",
    what: 'an agent writes where it may: allowed',
    expect: allowed((rows) => rows.length === 1),
  },
  {
    user: 'admin',
    sql: 'SELECT id, name, ssn FROM customers ORDER BY id LIMIT 3',
    what: 'an admin reads customers: nothing is masked',
    expect: allowed((rows) => rows.every(([, , ssn]) => /^\d{3}-\d{2}-\d{4}$/.test(ssn ?? ''))),
  },
  {
    user: 'ada',
    sql: 'SELECT id, email, ssn FROM customers ORDER BY id LIMIT 1',
    what: 'an engineer who logged in by OIDC: sees contacts, and no ssn',
    expect: allowed(([row]) => row?.[1]?.startsWith('ada.') === true && row[2] === '****'),
  },
  {
    user: 'agent',
    sql: 'BEGIN',
    what: 'an agent opens a transaction',
    expect: (outcome) => (outcome.transaction === 'T' ? null : 'no transaction is open'),
  },
  {
    user: 'agent',
    sql: 'DELETE FROM orders',
    what: 'a DELETE without WHERE inside it: denied, and the transaction has failed as it would have',
    expect: (outcome, demo) =>
      denied(outcome, demo, 'DELETE FROM orders') ??
      (outcome.transaction === 'E'
        ? null
        : `the transaction is ${outcome.transaction}, not failed`),
  },
  {
    user: 'agent',
    sql: 'ROLLBACK',
    what: 'the session lives on',
    expect: (outcome) => (outcome.transaction === 'I' ? null : 'the session is not idle'),
  },
]

/** Runs every step and says what came out; returns how many went wrong. */
export async function takeTour(demo: Demo, say: (line: string) => void): Promise<number> {
  const clients = new Map<string, Client>()
  let failed = 0
  try {
    for (const { user, sql, what, expect } of steps) {
      const client = clients.get(user) ?? (await Client.connect(demo, user))
      clients.set(user, client)
      const outcome = await client.run(sql)
      const wrong = expect(outcome, demo)
      if (wrong !== null) failed++
      say(`${wrong === null ? 'ok  ' : 'FAIL'} ${what}`)
      say(`     ${user}=> ${sql}`)
      const shown =
        outcome.kind === 'error' ? formatMessage(outcome.error, null) : formatResult(outcome.result)
      for (const line of shown.split('\n')) say(`     ${line}`)
      if (wrong !== null) say(`     WRONG: ${wrong}`)
    }
    failed += await checkHealth(demo, say)
  } finally {
    for (const client of clients.values()) await client.end()
  }
  say(`${steps.length + 1 - failed} passed, ${failed} failed`)
  return failed
}

async function checkHealth(demo: Demo, say: (line: string) => void): Promise<number> {
  const response = await fetch(`${demo.runtime.adminUrl}/readyz`)
  const body = await response.text()
  say(`${response.ok ? 'ok  ' : 'FAIL'} /readyz: ${body}`)
  return response.ok ? 0 : 1
}

/** What pg has no type for. */
interface Connection {
  on(event: 'readyForQuery', listener: (message: { readonly status: string }) => void): void
  on(event: 'end', listener: () => void): void
}

class Client {
  readonly #client: pg.Client
  #transaction = 'I'
  #wake: () => void = () => undefined

  private constructor(client: pg.Client) {
    this.#client = client
    const { connection } = client as unknown as { readonly connection: Connection }
    connection.on('readyForQuery', ({ status }) => {
      this.#transaction = status
      this.#wake()
    })
    connection.on('end', () => {
      this.#wake()
    })
  }

  static async connect(demo: Demo, user: string): Promise<Client> {
    const { port } = demo.runtime
    const byToken = demoAccounts.some(({ id }) => id === user)
    const password = byToken ? await demo.provider.tokenOf(user) : user
    const rawText = { getTypeParser: () => (value: string) => value }
    const client = new pg.Client({
      ...{ host: '127.0.0.1', port, user, password, database: 'shop' },
      application_name: 'regate demo',
      types: rawText as unknown as pg.CustomTypesConfig,
    })
    client.on('error', () => undefined)
    await client.connect()
    return new Client(client)
  }

  async run(sql: string): Promise<Outcome> {
    // It may come a packet behind the error: then the state is known.
    const ready = new Promise<void>((resolve) => {
      this.#wake = resolve
    })
    try {
      const result: unknown = await this.#client.query({ text: sql, rowMode: 'array' })
      return { kind: 'result', result: result as TextResult, transaction: this.#transaction }
    } catch (error) {
      await ready
      return { kind: 'error', error: error as ServerMessage, transaction: this.#transaction }
    }
  }

  async end(): Promise<void> {
    await this.#client.end().catch(() => undefined)
  }
}
