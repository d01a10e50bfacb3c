/**
 * Time limits and an open transaction while a statement is held: a limit of the server ends neither
 * the connection nor the approval by surprise, and a wait is not counted as the statement's run.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { failure, Harness, insert } from './harness.ts'

let held: Harness

beforeAll(async () => {
  held = await Harness.start()
}, 120_000)
afterAll(() => held.stop())

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

describe('statement_timeout', () => {
  test.each(['simple', 'extended'])('counts the run, not the wait (%s)', async (protocol) => {
    await held.with(async (client) => {
      const what = `statement-timeout-${protocol}`
      const running =
        protocol === 'simple'
          ? client.query(insert(what))
          : client.query('INSERT INTO ran (what) VALUES ($1) RETURNING what', [what])
      const { id } = await held.pending(protocol === 'simple' ? what : '$1')
      await sleep(2_500)
      expect((await held.detail(id))['state']).toBe('pending')
      await held.api('POST', `/v1/approvals/${id}/approve`, {})
      expect((await running).rows).toEqual([{ what }])
      // And it counts the run of what was approved.
      const slow = failure(client.query(`${insert('slow')}, pg_sleep(5)`))
      await held.approve('slow')
      expect((await slow).code).toBe('57014')
      expect(await held.ran('slow')).toBe(0)
    }, 'tim')
  })
})

describe('what runs in no transaction block', () => {
  test.each(['simple', 'extended'])('runs once it is approved (%s)', async (protocol) => {
    await held.with(async (client) => {
      const text = `CREATE INDEX CONCURRENTLY by_what_${protocol} ON ran (what)`
      const running = client.query(protocol === 'simple' ? { text } : { text, name: 'index' })
      await held.approve(protocol)
      expect((await running).command).toBe('CREATE')
    })
  })
})

describe('a transaction', () => {
  test('shows its age and its locks, whatever its isolation', async () => {
    await held.with(async (client) => {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
      const running = failure(client.query(insert('repeatable')))
      const { id } = await held.pending('repeatable')
      // No snapshot is taken for a look at the locks: it would be the transaction's.
      expect((await held.detail(id))['transaction']).toMatchObject({
        ...{ state: 'active', isolation: 'repeatable read', locks: null },
      })
      await held.reject('repeatable')
      await running
    })
  })

  test('idle_in_transaction_session_timeout: an answer comes before the end', async () => {
    await held.with(async (client, notices) => {
      await client.query("SET idle_in_transaction_session_timeout = '2s'")
      await client.query('BEGIN')
      await client.query('SELECT 1')
      const error = await failure(client.query(insert('idle-limit')))
      expect(error).toMatchObject({ code: '42501', severity: 'ERROR' })
      expect(`${error.hint}`).toContain('sent again runs at once')
      expect(notices[0]).toMatch(/waits here for 2 s .*ends this connection after 2 s/)
      // The connection is there, the transaction is as after any error.
      expect((await failure(client.query('SELECT 1'))).code).toBe('25P02')
      await client.query('ROLLBACK')
      const id = await held.approve('idle-limit')
      expect((await held.detail(id))['transaction']).toMatchObject({ idle_limit_ms: 2_000 })
      await client.query('BEGIN')
      expect((await client.query(insert('idle-limit'))).rows).toEqual([{ what: 'idle-limit' }])
      await client.query('COMMIT')
      expect(await held.ran('idle-limit')).toBe(1)
    })
  })

  test('transaction_timeout counts from the transaction’s begin', async ({ skip }) => {
    if (held.server.version < 17) skip('the server is older than PostgreSQL 17')
    for (const isolation of ['READ COMMITTED', 'REPEATABLE READ']) {
      await held.with(async (client) => {
        await client.query("SET transaction_timeout = '6s'")
        await client.query(`BEGIN ISOLATION LEVEL ${isolation}`)
        await sleep(3_000)
        const error = await failure(client.query(insert('transaction-limit')))
        // Not 25P04, which ends the connection.
        expect(error).toMatchObject({ code: '42501', severity: 'ERROR' })
        await client.query('ROLLBACK')
        expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
        await held.reject('transaction-limit')
        await failure(client.query(insert('transaction-limit')))
      })
    }
  })

  test('idle_session_timeout: an answer comes before the end', async () => {
    await held.with(async (client) => {
      await client.query("SET idle_session_timeout = '2s'")
      const error = await failure(client.query(insert('session-limit')))
      expect(error).toMatchObject({ code: '42501', severity: 'ERROR' })
      await client.query("SET idle_session_timeout = '0'")
      await held.reject('session-limit')
    })
  })
})
