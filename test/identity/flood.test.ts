/**
 * Ten thousand connections of somebody who never authenticates: a limit with a clear error, sessions
 * that go on, memory that comes back, and a door that opens again.
 */
import net from 'node:net'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { decodeErrorOrNotice, FrameReader } from '../../src/wire/wire.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { serveProxy, type ProxyChild } from '../support/proxy.ts'
import { streamFrom } from '../support/source.ts'

const connectionCount = 10_000
const batchCount = 500
const unauthenticatedMax = 200

let postgres: TestPostgres
let proxy: ProxyChild

beforeAll(async () => {
  postgres = await startPostgres()
  proxy = await serveProxy(postgres, { limits: { unauthenticatedMax } })
}, 120_000)
afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
})

/** @param from the address that it comes from. */
function session(from = '127.0.0.1'): pg.Client {
  const client = new pg.Client({
    connectionString: proxy.url('postgres', 'ann'),
    stream: streamFrom(from),
  })
  client.on('error', () => undefined)
  return client
}

/** Connects and says nothing; resolves with the error's SQLSTATE, or `open` while it is kept. */
function connectSilently(): { readonly socket: net.Socket; readonly said: Promise<string> } {
  const socket = net.connect({ host: '127.0.0.1', port: proxy.port })
  const reader = new FrameReader({ frameBytesMax: 10_000 })
  const said = new Promise<string>((resolve) => {
    socket.on('error', (error) => resolve(error.message))
    socket.on('close', () => resolve('closed without a word'))
    socket.on('data', (chunk: Buffer) => {
      reader.push(chunk)
      if (reader.next() !== 'frame') return
      const fields = decodeErrorOrNotice(reader)
      resolve(`${fields.get('S') ?? ''} ${fields.get('C') ?? ''} ${fields.get('M') ?? ''}`)
    })
    socket.on('end', () => socket.end())
  })
  return { socket, said }
}

it('refuses who is too many, and nobody who is there', async () => {
  const running = session()
  await running.connect()
  let over = false
  let answered = 0
  const work = (async () => {
    while (!over) {
      const { rows } = await running.query<{ value: number }>('SELECT 1 AS value')
      answered += rows[0]?.value ?? 0
    }
  })()

  const silent = Array.from({ length: unauthenticatedMax }, connectSilently)
  const refusals = new Map<string, number>()
  let made = silent.length
  while (made < connectionCount) {
    const before = answered
    const batch = Array.from({ length: batchCount }, connectSilently)
    made += batch.length
    for (const { said } of batch) {
      const text = await said
      refusals.set(text, (refusals.get(text) ?? 0) + 1)
    }
    await expect.poll(() => answered).toBeGreaterThan(before)
  }
  expect([...refusals.keys()]).toEqual(['FATAL 53300 sorry, too many clients already'])
  expect(refusals.get('FATAL 53300 sorry, too many clients already')).toBe(made - silent.length)

  // The places are one source's: another one is let in all the same, each time.
  for (let n = 0; n < 5; n++) {
    const other = session('127.0.0.2')
    await other.connect()
    expect((await other.query('SELECT 3 AS value')).rows).toEqual([{ value: 3 }])
    await other.end()
  }

  // Those who wait in front of the door are let go, then it opens.
  for (const { socket } of silent) socket.destroy()
  await expect
    .poll(async () => {
      const client = session()
      await client.connect().catch(() => undefined)
      const { rows } = await client
        .query<{ value: number }>('SELECT 2 AS value')
        .catch(() => ({ rows: [] }))
      await client.end().catch(() => undefined)
      return rows[0]?.value
    })
    .toBe(2)
  over = true
  await work
  await running.end()
}, 120_000)
