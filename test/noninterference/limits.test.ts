/**
 * What a decision's limits stop: rows, bytes, time and budgets, with a clear error, a cancel
 * upstream and a session that lives on.
 */
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type Proxy } from '../support/proxy.ts'

let server: TestPostgres
let proxy: Proxy

const read = { read: ['*'], unmask: [], infer: true }
const groups = {
  rows: { ...read, limits: { rows: 10 } },
  bytes: { ...read, limits: { bytes: 10_000 } },
  time: { ...read, limits: { time: '1s' } },
  budget: { ...read, limits: { budget: { rows: 100, per: '1h' } } },
}

beforeAll(async () => {
  server = await startPostgres()
  const users = Object.fromEntries(Object.keys(groups).map((name) => [name, { groups: [name] }]))
  proxy = await startProxy(server, { data: { regate: { groups } }, users })
}, 120_000)

afterAll(async () => {
  await proxy?.stop()
  await server?.stop()
})

async function as<Result>(
  user: string,
  use: (client: pg.Client) => Promise<Result>,
): Promise<Result> {
  const client = new pg.Client({ connectionString: proxy.url('postgres', user) })
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

interface Refusal {
  readonly code: string
  readonly message: string
}

async function refusalOf(client: pg.Client, sql: string): Promise<Refusal> {
  return await client.query(sql).then(
    () => ({ code: '00000', message: 'not refused' }),
    (error: unknown) => error as Refusal,
  )
}

describe('value detectors', () => {
  it('hide what nobody classified, are off by default and are counted', async () => {
    const sql = "SELECT 'card 4111 1111 1111 1111' AS a, 'plain' AS b, 4111 AS c"
    const row = async (watching: Proxy): Promise<unknown> => {
      const client = new pg.Client({ connectionString: watching.url('postgres', 'x') })
      await client.connect()
      try {
        expect((await client.query({ text: sql, values: [] })).rows).toEqual(
          (await client.query(sql)).rows,
        )
        return (await client.query<Record<string, unknown>>(sql)).rows[0]
      } finally {
        await client.end()
      }
    }
    const watching = await startProxy(server, {
      configuration: { masking: { detectors: ['card'] } },
    })
    const plain = await startProxy(server, {})
    try {
      expect(await row(watching)).toEqual({ a: '****', b: 'plain', c: 4111 })
      expect(await row(plain)).toMatchObject({ a: 'card 4111 1111 1111 1111' })
      const metrics = await (await fetch(new URL('/metrics', watching.adminUrl))).text()
      expect(metrics).toContain('regate_detected_values_total{kind="card"} 3')
    } finally {
      await watching.stop()
      await plain.stop()
    }
  })
})

describe('limits of a decision', () => {
  it('stop a read after the rows that are allowed; the session lives on', async () => {
    await as('rows', async (client) => {
      const allowed = await client.query('SELECT g FROM generate_series(1, 10) g')
      expect(allowed.rowCount).toBe(10)
      for (const sql of [
        'SELECT g FROM generate_series(1, 11) g',
        'SELECT g FROM generate_series(1, 9999999) g',
      ]) {
        expect(await refusalOf(client, sql)).toMatchObject({ code: '54000' })
      }
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    })
  })

  it('stop a read after the bytes that are allowed', async () => {
    await as('bytes', async (client) => {
      const refusal = await refusalOf(
        client,
        "SELECT repeat('x', 200) FROM generate_series(1, 100)",
      )
      expect(refusal).toMatchObject({ code: '54000' })
      expect(refusal.message).toContain('10000 bytes')
    })
  })

  it('stop a statement in time even if it gives no row, simple and extended', async () => {
    await as('time', async (client) => {
      for (const values of [undefined, []]) {
        const began = Date.now()
        const sleep = { text: 'SELECT count(*) FROM generate_series(1, 3000000000)', values }
        const refusal = await client.query(sleep as pg.QueryConfig).then(
          () => ({ code: '00000', message: 'not refused' }),
          (error: unknown) => error as Refusal,
        )
        expect(refusal).toMatchObject({ code: '54000' })
        expect(refusal.message).toContain('1000 ms')
        expect(Date.now() - began).toBeLessThan(15_000)
      }
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    })
  }, 60_000)

  it('count the rows of an identity over all its sessions', async () => {
    await as('budget', async (client) => {
      expect((await client.query('SELECT g FROM generate_series(1, 60) g')).rowCount).toBe(60)
    })
    await as('budget', async (client) => {
      const refusal = await refusalOf(client, 'SELECT g FROM generate_series(1, 60) g')
      expect(refusal).toMatchObject({ code: '54000' })
      expect(refusal.message).toContain('100 rows in 1 h')
    })
  })
})
