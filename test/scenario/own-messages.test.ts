/**
 * What regate asks the server on the client's connection leaves the transaction as the client made it:
 * the same script, directly and through regate, gives the same answers and the same rows.
 */
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  encodeBind,
  encodeClose,
  encodeExecute,
  encodeFlush,
  encodeParse,
  encodeQuery,
  encodeSync,
  written,
  type ByteWriter,
} from '../../src/wire/wire.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { typesOf } from '../support/session.ts'
import { ready, WireClient } from './refusals-client.ts'

let server: TestPostgres
let proxy: ProxyInProcess
beforeAll(async () => {
  server = await startPostgres()
  await execute(server, 'CREATE TABLE written (n int)')
  proxy = await startProxy(server)
})
afterAll(async () => {
  await proxy.stop()
  await server.stop()
})

const insert = 'INSERT INTO written VALUES (1)'
const parse = (to: ByteWriter, name: string, text = 'SELECT 1'): void =>
  encodeParse(to, { name, text })
const run = (to: ByteWriter): void => {
  encodeBind(to, { portal: '', statement: 'a' })
  encodeExecute(to, '')
}
/** After it regate knows neither search_path nor role. */
const forget = (to: ByteWriter): void => encodeQuery(to, 'DISCARD ALL')

const scripts: Readonly<Record<string, (to: ByteWriter) => void>> = {
  'Parse, then Query': (to) => {
    parse(to, 'a')
    encodeQuery(to, insert)
  },
  'Parse, Flush, then Query': (to) => {
    parse(to, 'a')
    encodeFlush(to)
    encodeQuery(to, insert)
  },
  'after DISCARD ALL': (to) => {
    forget(to)
    parse(to, 'a', 'SHOW search_path')
    encodeQuery(to, insert)
  },
  'asked for a Parse already': (to) => {
    forget(to)
    parse(to, 'a')
    parse(to, 'b', 'SELECT n FROM written')
    encodeQuery(to, insert)
    encodeQuery(to, insert)
  },
  'a temporary table, whose catalog is read': (to) => {
    encodeQuery(to, 'CREATE TEMPORARY TABLE own (n int)')
    parse(to, 'a')
    encodeQuery(to, 'INSERT INTO own VALUES (1)')
    encodeQuery(to, insert)
  },
  'what runs in no transaction block, behind Close': (to) => {
    forget(to)
    encodeClose(to, 'statement', 'before')
    parse(to, 'a', 'VACUUM written')
    run(to)
    encodeSync(to)
  },
  'what runs in no transaction block, behind a Parse whose name is taken': (to) => {
    forget(to)
    parse(to, 'a', 'VACUUM written')
    parse(to, 'a', 'SELECT n FROM written')
    run(to)
    encodeSync(to)
  },
  'a portal that is bound already': (to) => {
    forget(to)
    parse(to, 'a')
    encodeBind(to, { portal: 'p', statement: 'a' })
    parse(to, 'b', 'SELECT n FROM written')
    encodeBind(to, { portal: '', statement: 'b' })
    encodeExecute(to, '')
    encodeExecute(to, 'p')
    encodeSync(to)
  },
  'the client executed something itself': (to) => {
    forget(to)
    parse(to, 'a')
    run(to)
    encodeQuery(to, insert)
    encodeQuery(to, 'ROLLBACK')
  },
  'in a transaction block': (to) => {
    encodeQuery(to, 'BEGIN')
    parse(to, 'a')
    encodeBind(to, { portal: 'p', statement: 'a' })
    encodeQuery(to, insert)
    encodeExecute(to, 'p')
    encodeSync(to)
    encodeQuery(to, 'ROLLBACK')
  },
  'behind an error the Query is skipped': (to) => {
    forget(to)
    parse(to, 'a', 'SELECT nosuch')
    encodeQuery(to, insert)
    encodeSync(to)
  },
  'an error of the Query': (to) => {
    parse(to, 'a')
    encodeQuery(to, 'INSERT INTO written VALUES (1 / 0)')
    run(to)
    encodeSync(to)
  },
}

async function seen(url: string, write: (to: ByteWriter) => void): Promise<readonly string[]> {
  await execute(server, 'TRUNCATE written')
  const client = await WireClient.connect(url)
  const frames = written(write)
  const skipped = write === scripts['behind an error the Query is skipped'] ? 1 : 0
  const count = typesOf([frames]).replaceAll(/[^QS]/g, '').length - skipped
  const answers = await client.bytes(frames, ready(count))
  await client.close()
  const { rows } = await execute(server, 'SELECT count(*)::int AS n FROM written')
  const shown = answers.filter(({ type }) => type !== 'S' && type !== 'N')
  return [...shown.map(({ type, text }) => `${type} ${text}`), JSON.stringify(rows)]
}

it.each(Object.entries(scripts))('%s', async (_, write) => {
  expect(await seen(proxy.url('postgres', 'anna'), write)).toEqual(await seen(server.url(), write))
})
