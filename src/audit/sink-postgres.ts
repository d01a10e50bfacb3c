/**
 * The PostgreSQL sink: batches go by COPY into a temporary table and from there into a table that is
 * created when it is missing, once each whatever is sent twice. Never through regate itself.
 *
 * `record` is json, not jsonb: it is the line as it was, so its hash still fits; jsonb would refuse some
 * strings that JSON allows (\u0000, lone surrogates).
 */
import { once } from 'node:events'
import { Socket } from 'node:net'
import pg from 'pg'
import { from as copyFrom } from 'pg-copy-streams'
import type { AuditSink, ShippedRecord } from './shipper.ts'

export interface PostgresSinkOptions {
  readonly name: string
  /** postgres://user@host:port/database, without a password. */
  readonly url: string
  readonly password: (() => Promise<string>) | null
  /** `table` or `schema.table`. */
  readonly table: string
  /** A delivery that takes longer is given up and begun anew; default 90 s. */
  readonly timeoutMs?: number
}

const columns = [
  ...['hash', 'id', 'time', 'type', 'session', 'database', 'user_name', 'action', 'rule'],
  ...['sqlstate', 'decision_id', 'record'],
] as const

const statementMs = 60_000
/** A server that does not even say that a statement took too long is not there. */
const timeoutMsDefault = 90_000

/** A connection of its own, made again when it is lost. */
export function postgresSink(options: PostgresSinkOptions): AuditSink {
  const table = options.table
    .split('.')
    .map((part) => pg.escapeIdentifier(part))
    .join('.')
  let client: pg.Client | null = null
  /** Of the connection in use: cut where it does not answer, which no query of pg's would notice. */
  let socket: Socket | null = null
  const connected = async (): Promise<pg.Client> => {
    if (client !== null) return client
    const url = new URL(options.url)
    // In the URL, since pg takes that of the URL even where there is none.
    if (options.password !== null) url.password = encodeURIComponent(await options.password())
    const opened = new Socket()
    socket = opened
    const made = new pg.Client({
      stream: () => opened,
      ...{ connectionString: url.href, application_name: 'regate audit' },
      ...{ statement_timeout: statementMs, connectionTimeoutMillis: 10_000 },
    })
    made.on('error', () => {
      client = null
    })
    await made.connect()
    try {
      await prepare(made, table)
    } catch (error) {
      await made.end().catch(() => undefined)
      throw error
    }
    client = made
    return made
  }
  return {
    name: options.name,
    deliver: async (records, signal) => {
      const { timeoutMs = timeoutMsDefault } = options
      const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
      const work = connected().then(async (open) => {
        await copy(open, table, records)
      })
      try {
        await Promise.race([work, rejectedWith(limit)])
      } catch (error) {
        work.catch(() => undefined)
        client = null
        socket?.destroy()
        throw error
      }
    },
    close: async () => {
      const ended = client?.end().catch(() => undefined)
      await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, endMs).unref())])
      socket?.destroy()
    },
  }
}

const endMs = 1_000

async function rejectedWith(signal: AbortSignal): Promise<never> {
  signal.throwIfAborted()
  await once(signal, 'abort')
  throw signal.reason
}

async function prepare(client: pg.Client, table: string): Promise<void> {
  await client.query(`CREATE TABLE IF NOT EXISTS ${table} (
    hash text PRIMARY KEY, id text NOT NULL, time timestamptz NOT NULL, type text NOT NULL,
    session text, database text, user_name text, action text, rule text, sqlstate text,
    decision_id text, record json NOT NULL)`)
  await client.query(
    `CREATE TEMPORARY TABLE regate_audit_batch (LIKE ${table}) ON COMMIT DELETE ROWS`,
  )
}

async function copy(
  client: pg.Client,
  table: string,
  records: readonly ShippedRecord[],
): Promise<void> {
  const list = columns.join(', ')
  await client.query('BEGIN')
  const stream = client.query(copyFrom(`COPY regate_audit_batch (${list}) FROM STDIN`))
  const finished = once(stream, 'finish')
  stream.end(records.map(row).join(''))
  await finished
  await client.query(
    `INSERT INTO ${table} (${list}) SELECT ${list} FROM regate_audit_batch ON CONFLICT (hash) DO NOTHING`,
  )
  await client.query('COMMIT')
}

/** One row of COPY's text format. */
function row({ record, line }: ShippedRecord): string {
  const { identity, decision, outcome } = record
  const values = [
    ...[record.hash, record.id, record.time, record.type, record.session, record.database],
    ...[identity?.user, decision?.action, decision?.rule],
    ...[outcome?.sqlstate, decision?.decision_id, line],
  ]
  return `${values.map(field).join('\t')}\n`
}

function field(value: string | null | undefined): string {
  if (value === null || value === undefined) return String.raw`\N`
  // A NUL has no place in PostgreSQL's text.
  return value.replaceAll('\0', '').replace(/[\\\n\r\t]/g, (character) => escapes[character] ?? '')
}

const escapes: Readonly<Record<string, string>> = {
  ...{ '\\': String.raw`\\`, '\n': String.raw`\n`, '\r': String.raw`\r`, '\t': String.raw`\t` },
}
