/** A regate with workers, for tests: its admin API, clients, and what they meet. */
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { TestPostgres } from '../support/postgres.ts'
import { serveProxy, type ProxyChild, type ProxyOptions } from '../support/proxy.ts'

export interface ShownWorker {
  readonly name: string
  readonly pid: number
  readonly state: string
  readonly revision: string
  readonly sessions: number
}

const token = 'workers-admin-token-0123456789'

/** `regate serve` with two workers. */
export async function serveWorkers(
  postgres: TestPostgres,
  options: ProxyOptions = {},
): Promise<ProxyChild> {
  process.env['TEST_WORKERS_ADMIN_TOKEN'] = token
  const { configuration = {}, ...more } = options
  return await serveProxy(postgres, {
    log: 'info',
    ...more,
    configuration: {
      workers: 2,
      admin: { port: 0, token_env: 'TEST_WORKERS_ADMIN_TOKEN', groups: ['admins'] },
      ...configuration,
    },
  })
}

/** A call of the admin API; its answer whatever the status. */
export async function admin(
  proxy: ProxyChild,
  method: string,
  path: string,
  body?: object,
): Promise<{ readonly status: number; readonly body: unknown; readonly text: string }> {
  const answer = await fetch(`${proxy.adminUrl}${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    ...(method === 'GET' ? {} : { body: JSON.stringify(body ?? {}) }),
  })
  const text = await answer.text()
  const json = (answer.headers.get('content-type') ?? '').includes('json')
  return { status: answer.status, text, body: json ? (JSON.parse(text) as unknown) : null }
}

export async function workersOf(proxy: ProxyChild): Promise<readonly ShownWorker[]> {
  const { body } = await admin(proxy, 'GET', '/v1/workers')
  return (body as { readonly workers: readonly ShownWorker[] }).workers
}

export async function openClient(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

/** New clients until each of the workers has two of them. */
export async function clientsOnAll(proxy: ProxyChild, url: string): Promise<pg.Client[]> {
  const running = async (): Promise<readonly ShownWorker[]> =>
    (await workersOf(proxy)).filter(({ state }) => state === 'running')
  const before = new Map((await running()).map(({ pid, sessions }) => [pid, sessions]))
  const clients: pg.Client[] = []
  while (clients.length < 40) {
    clients.push(await openClient(url))
    const workers = await running()
    const enough = workers.every(({ pid, sessions }) => sessions >= (before.get(pid) ?? 0) + 2)
    if (workers.length > 1 && enough) return clients
  }
  throw new Error('the workers do not share the clients')
}

export async function endAll(clients: readonly pg.Client[]): Promise<void> {
  await Promise.all(clients.map((client) => client.end().catch(() => undefined)))
}

/** Waits for a condition; fails with what it waited for. */
export async function until(what: string, holds: () => Promise<boolean> | boolean): Promise<void> {
  const started = Date.now()
  while (!(await holds())) {
    if (Date.now() - started > 90_000) throw new Error(`waited in vain: ${what}`)
    await delay(50)
  }
}

/** A CancelRequest on a connection of its own; resolves when the proxy has closed it. */
export async function cancel(port: number, processId: number, secret: Buffer): Promise<void> {
  const request = Buffer.alloc(12 + secret.length)
  request.writeInt32BE(request.length, 0)
  request.writeInt32BE(80877102, 4)
  request.writeInt32BE(processId, 8)
  secret.copy(request, 12)
  await new Promise<void>((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port }, () => socket.write(request))
    socket.once('error', reject)
    socket.once('close', () => {
      resolve()
    })
    socket.resume()
  })
}

/** The key that node-postgres was given for its session. */
export function keyOf(client: pg.Client): { readonly processId: number; readonly secret: Buffer } {
  const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }
  const secret = Buffer.alloc(4)
  secret.writeInt32BE(secretKey)
  return { processId: processID, secret }
}

/** The SQLSTATE that a promise rejects with; a lost connection is its code or message. */
export async function failureOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
    return 'none'
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    return code ?? message
  }
}

/** Runs statements on a client until it is told to stop; counts them, and keeps what failed. */
export class Load {
  readonly failures: string[] = []
  count = 0
  #stopped = false
  readonly #done: Promise<void>

  constructor(client: pg.Client) {
    this.#done = this.#run(client)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#done
  }

  async #run(client: pg.Client): Promise<void> {
    while (!this.#stopped) {
      try {
        const { rows } = await client.query<{ n: number }>(`SELECT ${this.count} AS n`)
        if (rows[0]?.n !== this.count) this.failures.push(`${this.count}: wrong answer`)
        this.count++
      } catch (error) {
        this.failures.push((error as Error).message)
        return
      }
    }
  }
}
