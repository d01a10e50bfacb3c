/**
 * Memory over hours of churn (`npm run test:soak`, needs `npm run build`):
 *   npm run test:soak -- --minutes 60 --clients 16 --pause 20
 * Clients that log in, send statements of every kind (texts that are new each time, prepared ones,
 * big results, masked ones, errors, refusals, transactions, COPY, cancel requests) and go, one of them
 * after a spike. Resident memory of regate is read every five seconds. What must be flat is the floor
 * of each tenth of the run, because a garbage collector breathes: that of the last third may be no
 * more than 10 % and 16 MiB above that of the second.
 * Exit code 1 where it is not.
 */
import { once } from 'node:events'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { to as copyTo } from 'pg-copy-streams'
import { residentBytesOf } from '../bench/load/measure.ts'
import { execute, startPostgres } from './support/postgres.ts'
import { serveProxy } from './support/proxy.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '60' },
    clients: { type: 'string', default: '16' },
    /** Milliseconds between two statements of a client. */
    pause: { type: 'string', default: '20' },
  },
})
const endsAt = Date.now() + Number(values.minutes) * 60_000
const mebibyte = 1024 * 1024

const postgres = await startPostgres({
  settings: { log_statement: 'none', log_min_messages: 'fatal' },
})
await execute(
  postgres,

  `CREATE TABLE people AS SELECT g AS id, 'name ' || g AS name, 'ssn-' || g AS ssn FROM generate_series(1, 20000) g`,
)
const proxy = await serveProxy(postgres, {
  users: { [postgres.user]: { password: postgres.password, groups: ['analysts'] } },
  data: {
    regate: {
      columns: { 'public.people.ssn': { class: 'pii', mask: { kind: 'redact' } } },
      groups: { analysts: { read: ['*'], write: { 'public.people': 'allow' }, ddl: 'deny' } },
    },
  },
})
const url = proxy.url('postgres', postgres.user, postgres.password)
const counts = new Map<string, number>()
let serial = 0

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const below = (count: number): number => Math.floor(Math.random() * count)

type Kind = (client: pg.Client) => Promise<unknown>
const refusedOk = (work: Promise<unknown>): Promise<unknown> => work.catch(() => undefined)
const kinds: Readonly<Record<string, Kind>> = {
  distinct: (client) => client.query(`SELECT name FROM people WHERE id = ${++serial}`),
  shapes: (client) => client.query(`SELECT id AS a${++serial} FROM people LIMIT 1`),
  prepared: (client) =>
    client.query({
      name: 'by_id',
      text: 'SELECT name FROM people WHERE id = $1',
      values: [below(9)],
    }),
  masked: (client) => client.query('SELECT id, ssn FROM people WHERE id < 200'),
  big: (client) => client.query('SELECT a.id, a.name, a.ssn FROM people a LIMIT 20000'),
  error: (client) => refusedOk(client.query('SELECT 1 / 0')),
  syntax: (client) => refusedOk(client.query(`SELEC ${++serial}`)),
  refused: (client) => refusedOk(client.query(`SELECT 1 FROM people WHERE ssn = '${++serial}'`)),
  long: (client) =>
    client.query(`SELECT name FROM people WHERE id IN (${'1, '.repeat(5_000)}${++serial})`),
  transaction: async (client) => {
    await client.query('BEGIN')
    await client.query(`UPDATE people SET name = 'n ${++serial}' WHERE id = ${below(20_000)}`)
    await client.query(below(2) === 0 ? 'COMMIT' : 'ROLLBACK')
  },
  copy: async (client) => {
    const stream = client.query(copyTo('COPY people (id, name) TO STDOUT'))
    stream.resume()
    await once(stream, 'end')
  },
  cancel: async (client) => {
    const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }
    const running = refusedOk(client.query('SELECT pg_sleep(5)'))
    await pause(10)
    const canceller = new pg.Client({ connectionString: url })
    // node-postgres sends a CancelRequest on a connection of its own.
    const { connection } = canceller as unknown as {
      connection: { connect(port: number, host: string): void; once: typeof canceller.once } & {
        cancel(processId: number, secret: number): void
      }
    }
    connection.once('connect', () => connection.cancel(processID, secretKey))
    connection.connect(proxy.port, '127.0.0.1')
    await running
  },
}

async function churn(): Promise<void> {
  while (Date.now() < endsAt) {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => undefined)
    await client.connect()
    const statements = below(60)
    for (let n = 0; n < statements && Date.now() < endsAt; n++) {
      const names = Object.keys(kinds)
      // Big ones now and then, small ones most of the time.
      const name = names[below(4) === 0 ? below(names.length) : below(4)] ?? 'distinct'
      await kinds[name]?.(client)
      counts.set(name, (counts.get(name) ?? 0) + 1)
      await pause(Number(values.pause))
    }
    await client.end()
    counts.set('sessions', (counts.get('sessions') ?? 0) + 1)
  }
}

const readings: number[] = []
const timer = setInterval(() => {
  const bytes = residentBytesOf(proxy.child.pid ?? null)
  if (bytes !== null) readings.push(bytes)
  if (readings.length % 24 === 0) {
    const left = Math.round((endsAt - Date.now()) / 60_000)
    const shown = (readings.at(-1) ?? 0) / mebibyte
    console.log(
      `${shown.toFixed(0)} MiB, ${counts.get('sessions') ?? 0} sessions, ${left} min left`,
    )
  }
}, 5_000)
await Promise.all(Array.from({ length: Number(values.clients) }, churn))
clearInterval(timer)

const tenth = Math.max(1, Math.floor(readings.length / 10))
const floors = Array.from({ length: 10 }, (_, n) =>
  Math.min(...readings.slice(n * tenth, (n + 1) * tenth)),
)
console.log(`statements: ${JSON.stringify(Object.fromEntries(counts))}`)
console.log(
  `floors of ten tenths in MiB: ${floors.map((bytes) => (bytes / mebibyte).toFixed(0)).join(' ')}`,
)
console.log(`highest ${(Math.max(...readings) / mebibyte).toFixed(0)} MiB`)
const middle = Math.min(...floors.slice(3, 6))
const last = Math.min(...floors.slice(7))
const flat = last <= middle * 1.1 + 16 * mebibyte
console.log(flat ? 'flat' : 'it GROWS')
await proxy.stop()
await postgres.stop()
process.exitCode = flat ? 0 : 1
