/** Decision logs in OPA's format against a real HTTP server. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { afterEach, expect, it } from 'vitest'
import { systemClock } from '../../src/core/core.ts'
import { DecisionLog } from '../../src/control/decision-log.ts'

interface Received {
  readonly path: string
  readonly authorization: string | undefined
  readonly body: unknown
}

const closing: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closing.splice(0)) await close()
})

async function service(): Promise<{ url: string; received: Received[]; answer: { code: number } }> {
  const received: Received[] = []
  const answer = { code: 200 }
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body: unknown = JSON.parse(gunzipSync(Buffer.concat(chunks)).toString())
      if (answer.code === 200) {
        received.push({
          path: request.url ?? '',
          authorization: request.headers.authorization,
          body,
        })
      }
      response.statusCode = answer.code
      response.end()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    url: `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`,
    received,
    answer,
  }
}

function logTo(url: string, over: object = {}): DecisionLog {
  const log = new DecisionLog({
    service: {
      url,
      headers: {},
      token: () => Promise.resolve('t'),
      ca: null,
      cert: null,
      key: null,
    },
    labels: { app: 'regate' },
    bundleName: 'regate',
    clock: systemClock,
    intervalMs: 60_000,
    ...over,
  })
  closing.push(() => log.close())
  return log
}

const members = (id: string, text = 'SELECT 1'): string =>
  `"session":"s","database":"shop","client_address":"127.0.0.1","identity":{"user":"ada"},` +
  `"statement":{"text":${JSON.stringify(text)}},"decision":{"action":"allow","revision":"r1","decision_id":"${id}","duration_us":12},"access":{}`

it('uploads decisions as OPA does: a gzipped array of events', async () => {
  const { url, received } = await service()
  const log = logTo(url)
  log.offer('statement_decided', members('d1'))
  log.offer('statement_ended', '"decision":{"decision_id":"d1"}')
  log.offer('statement_decided', members('d2'))
  await log.flush()
  expect(received).toHaveLength(1)
  expect(received[0]).toMatchObject({ path: '/logs', authorization: 'Bearer t' })
  expect(received[0]?.body).toMatchObject([
    {
      decision_id: 'd1',
      labels: { app: 'regate' },
      bundles: { regate: { revision: 'r1' } },
      path: 'regate/statement/decision',
      input: { statement: { text: 'SELECT 1' }, identity: { user: 'ada' } },
      result: { action: 'allow' },
      requested_by: '127.0.0.1',
      metrics: { timer_rego_query_eval_ns: 12_000 },
      masked: [],
    },
    { decision_id: 'd2' },
  ])
  expect(log.counts).toEqual({ sent: 2, dropped: 0, waiting: 0 })
})

it('keeps what could not be delivered, in order, and sends it later', async () => {
  const { url, received, answer } = await service()
  const log = logTo(url)
  answer.code = 503
  log.offer('statement_decided', members('d1'))
  await log.flush()
  log.offer('statement_decided', members('d2'))
  expect(log.counts).toEqual({ sent: 0, dropped: 0, waiting: 2 })
  answer.code = 200
  await log.flush()
  expect(received[0]?.body).toMatchObject([{ decision_id: 'd1' }, { decision_id: 'd2' }])
})

it('is bounded: the oldest are dropped and counted', async () => {
  const { url } = await service()
  const log = logTo(url, { bufferBytesMax: 5_000 })
  for (let index = 0; index < 100; index++)
    log.offer('statement_decided', members(`d${String(index)}`))
  const { waiting, dropped } = log.counts
  expect(waiting + dropped).toBe(100)
  expect(waiting).toBeLessThan(15)
})

it('splits uploads', async () => {
  const { url, received } = await service()
  const log = logTo(url, { uploadBytesMax: 2_000 })
  for (let index = 0; index < 20; index++)
    log.offer('statement_decided', members(`d${String(index)}`))
  await log.flush()
  expect(received.length).toBeGreaterThan(3)
  expect(received.flatMap(({ body }) => body as unknown[])).toHaveLength(20)
})

it('reports the status of the bundle', async () => {
  const { url, received } = await service()
  await logTo(url).status({ name: 'regate', active_revision: 'r1' } as never)
  expect(received[0]).toMatchObject({
    path: '/status',
    body: { labels: { app: 'regate' }, bundles: { regate: { active_revision: 'r1' } } },
  })
})
