/** Decision logs in OPA's format against a real HTTP server. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gunzipSync } from 'node:zlib'
import { afterEach, expect, it } from 'vitest'
import type { ShippedRecord } from '../../src/audit/audit.ts'
import { DecisionLog } from '../../src/control/decision-log.ts'

interface Received {
  readonly path: string
  readonly authorization: string | undefined
  readonly zipped: boolean
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
      const packed = Buffer.concat(chunks)
      const zipped = request.headers['content-encoding'] === 'gzip'
      const body: unknown = JSON.parse((zipped ? gunzipSync(packed) : packed).toString())
      if (answer.code === 200) {
        received.push({
          path: request.url ?? '',
          authorization: request.headers.authorization,
          zipped,
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

function logTo(url: string): DecisionLog {
  const log = new DecisionLog('opa-test', {
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
  })
  closing.push(() => log.close())
  return log
}

function shipped(id: string, type = 'statement_decided'): ShippedRecord {
  const record = {
    ...{ id: `w1-${id}`, time: '2026-01-02T03:04:05.678Z', type, session: 's', database: 'shop' },
    ...{ client_address: '127.0.0.1', identity: { user: 'ada' }, statement: { text: 'SELECT 1' } },
    decision: { action: 'allow', revision: 'r1', decision_id: id, duration_us: 12 },
    access: {},
  }
  return { record, line: JSON.stringify(record) }
}

const { signal } = new AbortController()

it('uploads decisions as OPA does: a gzipped array of events', async () => {
  const { url, received } = await service()
  const log = logTo(url)
  await log.deliver([shipped('d1'), shipped('d1', 'statement_ended'), shipped('d2')], signal)
  expect(received).toHaveLength(1)
  expect(received[0]).toMatchObject({ path: '/logs', authorization: 'Bearer t', zipped: true })
  expect(received[0]?.body).toMatchObject([
    {
      decision_id: 'd1',
      labels: { app: 'regate' },
      bundles: { regate: { revision: 'r1' } },
      path: 'regate/statement/decision',
      input: { statement: { text: 'SELECT 1' }, identity: { user: 'ada' } },
      result: { action: 'allow' },
      requested_by: '127.0.0.1',
      timestamp: '2026-01-02T03:04:05.678Z',
      metrics: { timer_rego_query_eval_ns: 12_000 },
      masked: [],
    },
    { decision_id: 'd2' },
  ])
})

it('rejects what the service did not take, so that it is sent again', async () => {
  const { url, received, answer } = await service()
  const log = logTo(url)
  answer.code = 503
  await expect(log.deliver([shipped('d1')], signal)).rejects.toThrow(/answered 503/)
  answer.code = 200
  await log.deliver([shipped('d1')], signal)
  expect(received).toHaveLength(1)
})

it('sends nothing where nothing was decided', async () => {
  const { url, received } = await service()
  await logTo(url).deliver([shipped('d1', 'session_started')], signal)
  expect(received).toEqual([])
})

it('reports the status of the bundle', async () => {
  const { url, received } = await service()
  await logTo(url).status({ name: 'regate', active_revision: 'r1' } as never)
  expect(received[0]).toMatchObject({
    path: '/status',
    zipped: false,
    body: { labels: { app: 'regate' }, bundles: { regate: { active_revision: 'r1' } } },
  })
})
