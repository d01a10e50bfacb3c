/**
 * Records of many sessions are committed together: nothing goes upstream whose commit failed, and what
 * does go is on record before, in the order of its session. A real server counts what arrived.
 */
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AuditLog, RecordMembers } from '../../src/audit/audit.ts'
import { ProxyError } from '../../src/core/core.ts'
import { encodeQuery, encodeTerminate, written } from '../../src/wire/wire.ts'
import { RawClient } from '../identity/support/raw.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

/** Keeps records; a commit fails while it is told to, and then forgets what was not committed. */
class TestAudit implements AuditLog {
  failure: 'none' | 'throws' | 'throws once' | 'rejects' | 'is slow' = 'none'
  readonly committed: string[] = []
  commits = 0
  #pending: string[] = []

  append(type: string, members: RecordMembers): void {
    this.#pending.push(`${type} ${members}`)
  }

  commit(): void | Promise<void> {
    const error = new ProxyError('audit_unavailable', 'the test says so')
    const pending = this.#pending
    this.#pending = []
    if (this.failure === 'throws') throw error
    if (this.failure === 'throws once') {
      this.failure = 'none'
      throw error
    }
    if (this.failure === 'rejects') return Promise.reject(error)
    this.commits++
    this.committed.push(...pending)
    if (this.failure === 'is slow') return delay(100)
  }
}

const clientCount = 12
let postgres: TestPostgres
let proxy: ProxyInProcess
const audit = new TestAudit()
let clients: pg.Client[] = []

beforeAll(async () => {
  postgres = await startPostgres()
  proxy = await startProxy(postgres, { audit })
}, 120_000)
afterAll(async () => {
  await Promise.all(clients.map((client) => client.end().catch(() => undefined)))
  await proxy.stop()
  await postgres.stop()
})

async function connect(): Promise<void> {
  await Promise.all(clients.map((client) => client.end().catch(() => undefined)))
  clients = Array.from(
    { length: clientCount },
    () => new pg.Client({ connectionString: proxy.url('postgres', 'postgres') }),
  )
  for (const client of clients) client.on('error', () => undefined)
  await Promise.all(clients.map((client) => client.connect()))
}

async function countOf(table: string): Promise<number> {
  const direct = new pg.Client({ connectionString: postgres.url() })
  await direct.connect()
  try {
    const { rows } = await direct.query<{ n: number }>(`SELECT count(*)::int AS n FROM ${table}`)
    return rows[0]?.n ?? Number.NaN
  } finally {
    await direct.end()
  }
}

describe('the end of a turn', () => {
  it('commits for all, each record before its statement and in the order of its session', async () => {
    await connect()
    await clients[0]?.query('CREATE TABLE good (client int, n int)')
    const before = audit.committed.length
    const runs = clients.map(async (client, index) => {
      for (let n = 0; n < 30; n++) {
        const tag = `/* c${index} n${n} */`
        await client.query(`INSERT INTO good VALUES (${index}, ${n}) ${tag}`)
        // The answer is here: its record must have been committed.
        expect(audit.committed.some((record) => record.includes(tag))).toBe(true)
      }
    })
    await Promise.all(runs)
    const records = audit.committed.slice(before)
    for (let index = 0; index < clientCount; index++) {
      const numbers = records.flatMap((record) => {
        const found = new RegExp(`^statement_decided .*/\\* c${index} n(\\d+) \\*/`).exec(record)
        return found === null ? [] : [Number(found[1])]
      })
      expect(numbers).toEqual(Array.from({ length: 30 }, (_, n) => n))
    }
    const decided = records.filter((record) => record.startsWith('statement_decided'))
    expect(audit.commits).toBeLessThanOrEqual(decided.length + 2 * clientCount + 10)
    expect(await countOf('good')).toBe(30 * clientCount)
  }, 60_000)

  it.each(['simple', 'extended'] as const)(
    'refuses all of a turn whose commit throws, and lets the sessions live: %s',
    async (protocol) => {
      await connect()
      const table = `bad_${protocol}`
      await clients[0]?.query(`CREATE TABLE ${table} (n int)`)
      audit.failure = 'throws'
      const outcomes = await Promise.allSettled(
        clients.map((client, n) =>
          protocol === 'extended'
            ? client.query(`INSERT INTO ${table} VALUES ($1)`, [n])
            : client.query(`INSERT INTO ${table} VALUES (${n})`),
        ),
      )
      audit.failure = 'none'
      for (const outcome of outcomes) {
        expect(outcome.status).toBe('rejected')
        const { reason } = outcome as { readonly reason: { readonly message: string } }
        expect(reason.message).toContain('the test says so')
      }
      expect(await countOf(table)).toBe(0)
      const again = await Promise.all(clients.map((client) => client.query('SELECT 1 AS one')))
      expect(again.every(({ rows }) => rows.length === 1)).toBe(true)
    },
    60_000,
  )

  it('ends the sessions whose records could not be made durable, and sends nothing of theirs', async () => {
    await connect()
    await clients[0]?.query('CREATE TABLE lost (n int)')
    audit.failure = 'rejects'
    const outcomes = await Promise.allSettled(
      clients.map((client, n) => client.query(`INSERT INTO lost VALUES (${n})`)),
    )
    audit.failure = 'none'
    expect(outcomes.every(({ status }) => status === 'rejected')).toBe(true)
    expect(await countOf('lost')).toBe(0)
  }, 60_000)

  it.each([
    ['none', 'in one packet'],
    ['is slow', 'in one packet'],
    ['is slow', 'in two packets'],
  ] as const)(
    'sends what came right before Terminate: %s, %s',
    async (failure, packets) => {
      await connect()
      await clients[0]?.query('DROP TABLE IF EXISTS last; CREATE TABLE last (n int)')
      audit.failure = failure
      await Promise.all(
        clients.map(async (_, n) => {
          const client = await RawClient.connect(proxy.port)
          client.startup('postgres', { database: 'postgres' })
          for (;;) {
            const said = await client.next()
            if (said.kind === 'other' && said.type === 'Z') break
            if (said.kind === 'error' || said.kind === 'closed') throw new Error(said.kind)
          }
          const insert = written((to) => encodeQuery(to, `INSERT INTO last VALUES (${n})`))
          const goodbye = written((to) => encodeTerminate(to))
          if (packets === 'in one packet') client.send(Buffer.concat([insert, goodbye]))
          else {
            client.send(insert)
            await delay(20)
            client.send(goodbye)
          }
          client.socket.end()
        }),
      )
      audit.failure = 'none'
      // Nobody waited for the answers: the server runs them when it comes to them.
      await expect.poll(() => countOf('last'), { timeout: 30_000 }).toBe(clientCount)
    },
    60_000,
  )
})

describe("an EXPLAIN of regate's own", () => {
  let estimating: ProxyInProcess
  const estimateAudit = new TestAudit()
  const explained = (mark: string): boolean =>
    postgres
      .log()
      .split('\n')
      .some((line) => line.includes('EXPLAIN (FORMAT JSON)') && line.includes(`/* ${mark} */`))

  beforeAll(async () => {
    const direct = new pg.Client({ connectionString: postgres.url() })
    await direct.connect()
    await direct.query('CREATE TABLE planned AS SELECT 1 AS n')
    await direct.end()
    estimating = await startProxy(postgres, {
      audit: estimateAudit,
      data: {
        regate: {
          groups: { admins: { read: ['*'], estimate: { rows: 1_000_000, above: 'deny' } } },
        },
      },
    })
  }, 60_000)
  afterAll(async () => {
    await estimating.stop()
  })

  const run = async (client: pg.Client, how: string, mark: string): Promise<unknown> =>
    how === 'extended'
      ? client.query(`SELECT n FROM planned WHERE n < $1 /* ${mark} */`, [5])
      : client.query(`SELECT n FROM planned WHERE n < 5 /* ${mark} */`)

  describe.each(['simple', 'extended', 'in a transaction'])('%s', (how) => {
    const named = (failure: string): string => `${failure} ${how}`.replaceAll(' ', '_')

    it.each(['throws', 'throws once'] as const)(
      'is not sent where its record is not taken: %s',
      async (failure) => {
        const mark = named(failure)
        const client = new pg.Client({ connectionString: estimating.url('postgres', 'postgres') })
        await client.connect()
        try {
          await run(client, how, `before_${mark}`)
          expect(explained(`before_${mark}`)).toBe(true)
          if (how === 'in a transaction') await client.query('BEGIN')
          estimateAudit.failure = failure
          const refused = run(client, how, mark)
          await expect(refused).rejects.toMatchObject({
            message: expect.stringContaining('the test says so') as string,
            code: new ProxyError('audit_unavailable', '').sqlstate,
          })
          estimateAudit.failure = 'none'
          if (how === 'in a transaction') {
            await expect(client.query('SELECT 1')).rejects.toThrow()
            await client.query('ROLLBACK')
          }
          await run(client, how, `after_${mark}`)
          expect(explained(`after_${mark}`)).toBe(true)
          expect(explained(mark)).toBe(false)
          const told = estimateAudit.committed.filter((record) => record.includes(`/* ${mark} */`))
          expect(told.filter((record) => !record.includes('"forwarded":false'))).toEqual([])
        } finally {
          estimateAudit.failure = 'none'
          await client.end()
        }
      },
      60_000,
    )

    it('is not sent where its record is not durable', async () => {
      const mark = named('rejects')
      const client = new pg.Client({ connectionString: estimating.url('postgres', 'postgres') })
      client.on('error', () => undefined)
      await client.connect()
      if (how === 'in a transaction') await client.query('BEGIN')
      estimateAudit.failure = 'rejects'
      await expect(run(client, how, mark)).rejects.toThrow()
      estimateAudit.failure = 'none'
      await client.end().catch(() => undefined)
      expect(explained(mark)).toBe(false)
    }, 60_000)
  })
})
