/**
 * The store goes away and comes back, seen by clients: what would be held is refused with a clear
 * error, everything else goes on, who waits keeps waiting, and nothing runs without the store's word.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { failure, Harness, insert } from './harness.ts'
import { until } from './support.ts'

/** A door to the store that can be shut. */
class Door {
  readonly #sockets = new Set<Socket>()
  #server: Server | null = null
  port = 0
  readonly #target: { readonly host: string; readonly port: number }

  constructor(target: { readonly host: string; readonly port: number }) {
    this.#target = target
  }

  async open(): Promise<void> {
    const server = createServer((inside) => {
      const outside = connect(this.#target.port, this.#target.host)
      for (const [one, other] of [
        [inside, outside],
        [outside, inside],
      ] as const) {
        this.#sockets.add(one)
        one.on('error', () => undefined)
        one.on('close', () => other.destroy())
        one.pipe(other)
      }
    })
    await new Promise<void>((resolve) => server.listen(this.port, '127.0.0.1', resolve))
    this.port = (server.address() as AddressInfo).port
    this.#server = server
  }

  async shut(): Promise<void> {
    const closed = new Promise((resolve) => this.#server?.close(resolve))
    for (const socket of this.#sockets) socket.destroy()
    this.#sockets.clear()
    await closed
  }
}

let storeServer: TestPostgres
let door: Door
let held: Harness

beforeAll(async () => {
  storeServer = await startPostgres()
  await execute(storeServer, 'CREATE DATABASE approvals')
  const url = new URL(storeServer.url('approvals'))
  door = new Door({ host: url.hostname, port: Number(url.port) })
  await door.open()
  url.hostname = '127.0.0.1'
  url.port = String(door.port)
  held = await Harness.start({ store: url.href })
}, 120_000)

afterAll(async () => {
  await held.stop()
  await door.shut()
  await storeServer.stop()
})

test('the store is away: new holds are refused, the rest runs, who waits is decided later', async () => {
  const waiting = await held.connect()
  const running = waiting.client.query(insert('waits through it'))
  const { id } = await held.pending('waits through it')
  await door.shut()
  await held.with(async (client) => {
    const error = await failure(client.query(insert('refused')))
    expect(error).toMatchObject({ code: '58000', severity: 'ERROR' })
    expect(error.message).toContain('none can be asked for now')
    expect(`${error.hint}`).toContain('Other statements run')
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    const { status } = await held.api('POST', `/v1/approvals/${id}/approve`, {})
    expect(status).toBe(503)
    const metrics = await fetch(`${held.proxy.adminUrl}/metrics`, {
      headers: { authorization: `Bearer ${held.token}` },
    })
    expect(await metrics.text()).toMatch(/^regate_approval_store_ok(\{.*\})? 0/m)
    expect(await held.ran('%')).toBe(0)
    // Decided elsewhere while this regate cannot hear of it.
    await door.open()
    await until('it can be decided again', async () => {
      return (await held.api('POST', `/v1/approvals/${id}/approve`, {})).status === 200
    })
    expect((await running).rows).toEqual([{ what: 'waits through it' }])
    const again = client.query(insert('held again'))
    await held.approve('held again')
    expect((await again).rows).toEqual([{ what: 'held again' }])
  })
  await waiting.client.end()
  expect(await held.ran('refused')).toBe(0)
}, 120_000)
