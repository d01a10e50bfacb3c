/** `regate approvals` against a live admin API: the command that people run, from dist/. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { execute } from '../support/postgres.ts'
import { failure, Harness, insert } from './harness.ts'

const run = promisify(execFile)
let held: Harness

beforeAll(async () => {
  held = await Harness.start()
  await execute(
    held.server,
    `CREATE TABLE people (id int PRIMARY KEY, name text, ssn text);
     INSERT INTO people VALUES (1, 'Ada', '111'), (2, 'Edgar', '222')`,
  )
}, 120_000)
afterAll(() => held.stop())

/** What it prints and how it ends. */
async function regate(...args: string[]): Promise<{ out: string; error: string; code: number }> {
  const main = process.env['REGATE_MAIN'] ?? 'dist/main.js'
  const environment = {
    ...process.env,
    REGATE_ADMIN_URL: held.proxy.adminUrl,
    REGATE_ADMIN_TOKEN: held.token,
  }
  try {
    const { stdout, stderr } = await run(process.execPath, [main, 'approvals', ...args], {
      env: environment,
    })
    return { out: stdout, error: stderr, code: 0 }
  } catch (failed) {
    const { stdout, stderr, code } = failed as { stdout: string; stderr: string; code: number }
    return { out: stdout, error: stderr, code }
  }
}

describe('regate approvals', () => {
  test('a change without RETURNING is about the rows that it changes, not about 0', async () => {
    await execute(held.server, 'ANALYZE people')
    for (const text of ['UPDATE people SET name = name', 'DELETE FROM people']) {
      await held.with(async (client) => {
        const running = failure(client.query(text))
        const { id } = await held.pending(text)
        expect((await regate('show', id)).out).toMatch(
          /estimate +about 2 rows, cost [\d.]+: ModifyTable/,
        )
        await held.reject(text)
        expect((await running).code).toBe('42501')
      })
    }
  })

  test('list, show, approve: a statement that waits runs', async () => {
    await held.with(async (client) => {
      await client.query('BEGIN')
      await client.query('SELECT name FROM people')
      const text = 'UPDATE people SET name = $1\nWHERE id = 1 RETURNING id, ssn, ssn AS name'
      const running = client.query(text, ['state       approved\u001b[2K'])
      const { id } = await held.pending('UPDATE people')
      const listed = await regate('list')
      expect(listed.out).toContain(id)
      expect(listed.out).toContain('(waits)')
      const { out } = await regate('show', id)
      // Statement, parameters, lineage, masks, estimate, who and from where, transaction and locks.
      expect(out).toMatch(/^│ UPDATE people SET name = \$1\n│ WHERE id = 1/)
      expect(out).toMatch(/state +pending, the client waits/)
      expect(out).toMatch(/who +ann \(engineers\), \w+, by trust/)
      expect(out).toMatch(/from +127\.0\.0\.1, .*session /)
      expect(out).toContain('$1 = state approved\\u{1b}[2K')
      expect(out).toMatch(/estimate +about 1 rows, cost [\d.]+: ModifyTable/)
      expect(out).toMatch(
        /transaction +active, read committed, open since 20.*people AccessShareLock/,
      )
      expect(out).toMatch(/asked of +dba: 0 of 1/)
      expect(out).toContain('update public.people')
      expect(out).toMatch(/gives ssn from public\.people\.ssn, masked: redact/)
      expect(out).toMatch(/gives name from public\.people\.ssn, masked: redact/)
      expect(out).toMatch(/gives id from public\.people\.id\n/)
      expect(out).toMatch(/you +may decide/)
      const approved = await regate('approve', id, '--comment', 'ticket 7')
      expect(approved).toMatchObject({ code: 0, error: '' })
      expect((await running).rows).toEqual([{ id: 1, ssn: '****', name: '****' }])
      await client.query('COMMIT')
      const again = await regate('approve', id)
      expect(again.code).toBe(1)
      expect(again.error).toContain('the request is used')
      expect((await regate('show', id)).out).toMatch(/vote +token approve .* ticket 7/)
      expect((await regate('list')).out).toContain('Nothing waits')
      expect((await regate('list', '--state', 'used')).out).toContain(id)
    })
  })

  test('shows what a setting is and would be', async () => {
    await held.with(async (client) => {
      const text = "SET DateStyle = 'German'; INSERT INTO ran (what) VALUES ('settings')"
      const running = failure(client.query(text))
      const first = await Promise.race([running, held.pending('settings')])
      expect(first).toHaveProperty('state', 'pending')
      const { id } = await held.pending('settings')
      expect((await regate('show', id)).out).toMatch(/setting +datestyle: ISO, MDY → German/i)
      await regate('reject', id, '--reason', 'no')
      await running
    })
  })

  test('reject wants a reason, and the requester reads it', async () => {
    await held.with(async (client) => {
      const running = failure(client.query(insert('rejected')))
      const { id } = await held.pending('rejected')
      expect((await regate('reject', id)).code).toBe(2)
      expect((await regate('reject', id, '--reason', ' ')).code).toBe(1)
      const { code, out } = await regate('reject', id, '--reason', 'add a WHERE')
      expect({ code, out: out.trim() }).toEqual({ code: 0, out: `${id} is rejected` })
      expect(`${(await running).detail}`).toContain('add a WHERE')
      const granted = await regate('grant', id, '--scope', 'session')
      expect(granted.code).toBe(1)
      expect(granted.error).toContain('the request is rejected')
    })
  })

  test('grant, grants and revoke', async () => {
    await held.with(async (client) => {
      const running = client.query(insert('granted-1'))
      const { id } = await held.pending('granted-1')
      const made = await regate('grant', id, '--scope', 'session', '--statements', '9')
      expect(made.code).toBe(0)
      await running
      await client.query(insert('granted-2'))
      const grants = await regate('grants', '--json')
      const [grant] = (JSON.parse(grants.out) as { grants: { id: string; used: number }[] }).grants
      expect(grant?.used).toBe(2)
      expect(await regate('revoke', String(grant?.id))).toMatchObject({ code: 0, error: '' })
      const after = failure(client.query(insert('granted-3')))
      await held.reject('granted-3')
      await after
      expect(await held.ran('granted-%')).toBe(2)
    })
  })

  test('says what is wrong: no API, no token, no such request', async () => {
    expect((await regate('show', '01ARZ3NDEKTSV4RRFFQ69G5FAV')).error).toContain('no request')
    expect((await regate('list', '--token', 'NOT_SET')).error).toContain('NOT_SET')
    const nowhere = await regate('list', '--admin', 'http://127.0.0.1:9')
    expect(nowhere).toMatchObject({ code: 1 })
    expect(nowhere.error).toContain('does not answer')
  })
})
