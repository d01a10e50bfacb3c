/**
 * Many executions of one prepared statement in flight, under a policy that decides by the parameters: each
 * is answered as it was judged, whatever was judged behind it meanwhile.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  encodeBind,
  encodeDescribe,
  encodeExecute,
  encodeParse,
  encodeSync,
  type ByteWriter,
} from '../../src/wire/wire.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { WireClient } from './refusals-client.ts'

const connect = `package regate.connect

# METADATA
# entrypoint: true
decision := {"action": "allow", "role": "default"}
`
/** Everybody sees the row of ann only. */
const statement = `package regate.statement

# METADATA
# entrypoint: true
# custom:
#   regate:
#     inputs: [parameters]
default decision := {"action": "allow"}

decision := {"action": "mask", "masks": {"public.people.ssn": {"kind": "redact"}}} if {
	some parameter in input.parameters
	parameter.value != "ann"
}
`

let bundle: string
let server: TestPostgres
let proxy: ProxyInProcess

beforeAll(async () => {
  bundle = await mkdtemp(join(tmpdir(), 'regate-executes-'))
  await writeFile(join(bundle, 'connect.rego'), connect)
  await writeFile(join(bundle, 'statement.rego'), statement)
  server = await startPostgres()
  await execute(
    server,
    `CREATE TABLE people (name text PRIMARY KEY, ssn text);
     INSERT INTO people VALUES ('ann', '111-ann'), ('bob', '222-bob');
     CREATE TABLE written (n serial, what text)`,
  )
  proxy = await startProxy(server, { bundle })
}, 120_000)

afterAll(async () => {
  await proxy.stop()
  await server.stop()
  await rm(bundle, { recursive: true, force: true })
})

async function rows(write: (to: ByteWriter) => void): Promise<string[]> {
  const client = await WireClient.connect(proxy.url('postgres', 'anna'))
  try {
    const answers = await client.exchange(write)
    return answers.filter(({ type }) => 'DE'.includes(type)).map(({ text }) => text)
  } finally {
    await client.close()
  }
}

const portal = (to: ByteWriter, name: string, value: string, isDescribed = false): void => {
  encodeBind(to, { portal: name, statement: 's', parameters: [Buffer.from(value)] })
  if (isDescribed) encodeDescribe(to, 'portal', name)
  encodeExecute(to, name)
}

it.each([true, false])(
  'masks what was judged to be masked (described by the client: %s)',
  async (isDescribed) => {
    const seen = await rows((to) => {
      encodeParse(to, { name: 's', text: 'SELECT ssn FROM people WHERE name = $1' })
      portal(to, 'a', 'ann', isDescribed)
      portal(to, 'b', 'bob', isDescribed)
      portal(to, 'c', 'ann', isDescribed)
      portal(to, 'd', 'bob', isDescribed)
      encodeSync(to)
    })
    expect(seen).toEqual(['111-ann', '****', '111-ann', '****'])
  },
)

it.each([true, false])(
  'gives the rows of writes (described by the client: %s)',
  async (isDescribed) => {
    const values = ['one', 'two', 'three']
    const seen = await rows((to) => {
      encodeParse(to, { name: 's', text: 'INSERT INTO written (what) VALUES ($1) RETURNING what' })
      for (const value of values) portal(to, '', value, isDescribed)
      encodeSync(to)
    })
    expect(seen).toEqual(values)
  },
)
