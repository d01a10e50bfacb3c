/** A request that was asked under another policy or catalog can never run, and everybody is told so. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { execute } from '../support/postgres.ts'
import { failure, Harness, insert } from './harness.ts'

let held: Harness
let changes = 0

beforeAll(async () => {
  held = await Harness.start({ wait: '200ms' })
}, 120_000)
afterAll(() => held.stop())

/** Another revision, by which the same is held. */
async function changePolicy(): Promise<void> {
  const before = held.proxy.runtime.policyStatus.active_revision
  const engineers = { read: ['*'], write: { '*': 'approve' }, limits: { rows: 1_000 + ++changes } }
  const approvals = { groups: ['dba'], quorum: 1, wait: '200ms', ttl: '120s' }
  const data = { regate: { approvals, columns: {}, groups: { engineers } } }
  await writeFile(join(held.proxy.directory, 'data.json'), JSON.stringify(data))
  expect((await held.api('POST', '/v1/policy/reload', {})).status).toBe(200)
  expect(held.proxy.runtime.policyStatus.active_revision).not.toBe(before)
}

/** Asks and waits in vain: the request stays open. */
async function ask(text: string): Promise<string> {
  await held.with(async (client) => {
    expect((await failure(client.query(text))).message).toContain('waits for approval')
  })
  return (await held.pending(text)).id
}

test('it is shown as void, a yes is refused, and the next ask is told which one and why', async () => {
  const text = insert('pending')
  const id = await ask(text)
  await changePolicy()
  const shown = await held.detail(id)
  expect(shown).toMatchObject({ state: 'void', may_decide: false })
  expect(shown['outcome']).toMatch(/^the policy has changed since it was asked \(revision /)
  const yes = await held.api('POST', `/v1/approvals/${id}/approve`, {})
  expect(yes.status).toBe(409)
  expect(JSON.stringify(yes.body)).toMatch(/the request is void: the policy has changed/)
  expect((await held.list('void')).map((row) => row.id)).toContain(id)
  await held.with(async (client, notices) => {
    await failure(client.query(text))
    expect(notices.join('\n')).toMatch(
      new RegExp(`an earlier request for this is void Approval ${id}: the policy has changed`),
    )
  })
  expect((await held.pending(text)).id).not.toBe(id)
  // Said once.
  await held.with(async (client, notices) => {
    await failure(client.query(text))
    expect(notices.join('\n')).not.toContain('an earlier request')
  })
  await held.reject(text)
})

test('who was promised that it runs gets 42501 with the id, then may ask once more', async () => {
  const text = insert('promised')
  const id = await ask(text)
  await held.approve(text)
  await changePolicy()
  expect(await held.detail(id)).toMatchObject({ state: 'void' })
  await held.with(async (client) => {
    const error = await failure(client.query(text))
    expect([error.code, error.message]).toEqual(['42501', 'the approval is void'])
    expect(error.detail).toMatch(new RegExp(`Approval ${id}: void\\. the policy has changed`))
    expect(error.hint).toContain('Send the statement again')
    expect((await failure(client.query(text))).message).toContain('waits for approval')
  })
  expect((await held.pending(text)).id).not.toBe(id)
  expect(await held.ran('promised')).toBe(0)
  await held.reject(text)
})

test('another catalog makes it void as well', async () => {
  const text = insert('catalog')
  const id = await ask(text)
  await held.approve(text)
  await execute(held.server, 'ALTER TABLE ran ADD COLUMN extra int')
  await held.with(async (client) => {
    let said = ''
    for (let round = 0; round < 40 && !said.includes('void'); round++) {
      // Until the catalog is read again, the approval would still hold: nothing is sent before.
      await new Promise((resolve) => setTimeout(resolve, 250))
      const fresh = await client.query('SELECT extra FROM ran LIMIT 0').catch(() => null)
      if (fresh === null) continue
      const error = await failure(client.query(text))
      said = `${error.message}: ${error.detail ?? ''}`
    }
    expect(said).toMatch(new RegExp(`the approval is void: Approval ${id}: void. the catalog`))
  })
  expect(await held.ran('catalog')).toBe(0)
})

test('what was asked under the policy that holds is decided as ever', async () => {
  const text = insert('current')
  await ask(text)
  await held.approve(text)
  await held.with(async (client) => {
    expect((await client.query(text)).rows).toEqual([{ what: 'current' }])
  })
})
