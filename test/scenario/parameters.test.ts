/** Bind's values as a policy sees them that declares them. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

const connect = `package regate.connect

# METADATA
# entrypoint: true
decision := {"action": "allow", "role": "default"}
`
/** Refuses every execution, and says why in the values that it saw. */
const statement = `package regate.statement

# METADATA
# entrypoint: true
# custom:
#   regate:
#     inputs: [parameters]
default decision := {"action": "allow"}

decision := {"action": "deny", "reason": json.marshal(input.parameters)} if {
	count(input.parameters) > 0
}
`

let bundle: string
let upstream: TestPostgres
let proxy: ProxyInProcess

beforeAll(async () => {
  bundle = await mkdtemp(join(tmpdir(), 'regate-parameters-'))
  await writeFile(join(bundle, 'connect.rego'), connect)
  await writeFile(join(bundle, 'statement.rego'), statement)
  upstream = await startPostgres()
  proxy = await startProxy(upstream, { bundle, users: { ann: { groups: [] } } })
}, 120_000)

afterAll(async () => {
  await proxy.stop()
  await upstream.stop()
  await rm(bundle, { recursive: true, force: true })
})

test('bytes of a binary integer that look like a text are not judged as one', async () => {
  const client = new pg.Client({ connectionString: proxy.url('postgres', 'ann') })
  client.on('error', () => undefined)
  await client.connect()
  try {
    const seen = async (values: unknown[]): Promise<unknown> => {
      const error = await client
        .query('SELECT $1::int + $2::int', values)
        .then(() => null)
        .catch((thrown: unknown) => thrown as pg.DatabaseError)
      expect(error?.code).toBe('42501')
      return JSON.parse(error?.message ?? '')
    }
    const text = (value: string | null): object => ({ type: 0, format: 'text', value })
    expect(await seen(['7', null])).toEqual([text('7'), text(null)])
    // A Buffer is sent in binary: four ASCII digits, and an int4 of 808464439.
    expect(await seen([Buffer.from('0007'), '7'])).toEqual([
      { type: 0, format: 'binary', value: Buffer.from('0007').toString('base64') },
      text('7'),
    ])
  } finally {
    await client.end()
  }
})
