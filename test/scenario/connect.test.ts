/** What the connect policy refuses: the client is told why, by which rule, and what to do. */
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

let upstream: TestPostgres
let proxy: ProxyInProcess

beforeAll(async () => {
  upstream = await startPostgres()
  proxy = await startProxy(upstream, { users: { ann: { groups: [] } } })
})
afterAll(async () => {
  await proxy.stop()
  await upstream.stop()
})

test('who is in no group that the policy knows is told so, with the hint', async () => {
  const client = new pg.Client({ connectionString: proxy.url('postgres', 'ann') })
  client.on('error', () => undefined)
  await expect(client.connect()).rejects.toMatchObject({
    code: '28000',
    message: 'none of your groups may connect',
    detail: 'Rule regate.connect.groups.',
    hint: 'ask for membership in one of the groups that the policy names',
  })
})
