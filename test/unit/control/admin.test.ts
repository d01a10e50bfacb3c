import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { request as rawRequest } from 'node:http'
import {
  bearerMatches,
  callerOf,
  Health,
  Metrics,
  startAdmin,
  type AdminServer,
} from '../../../src/control/control.ts'

const health = new Health()
const metrics = new Metrics('0.0.0-test')
let open: AdminServer
let guarded: AdminServer
let changes = 0

beforeAll(async () => {
  const common = { host: '127.0.0.1', port: 0, health, metrics }
  open = await startAdmin({
    ...common,
    authenticate: null,
    routes: [(app) => void app.post('/v1/change', async () => ({ changes: ++changes }))],
  })
  guarded = await startAdmin({
    ...common,
    authenticate: async (request) =>
      bearerMatches(request, 'right') ? { subject: 'operator', groups: ['dba'] } : null,
    routes: [(app) => void app.get('/v1/me', async (request) => callerOf(request))],
  })
})
afterAll(async () => {
  await open.close()
  await guarded.close()
})

function withHost(server: AdminServer, host: string, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const options = { host: server.host, port: server.port, path, headers: { host } }
    rawRequest(options, (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
      .on('error', reject)
      .end()
  })
}

describe('health', () => {
  test('ready only while every condition holds and nothing drains', async () => {
    expect((await fetch(`${open.url}/readyz`)).status).toBe(200)
    health.require('policy', 'no bundle is loaded yet')
    const response = await fetch(`${open.url}/readyz`)
    expect(response.status).toBe(503)
    expect(await response.json()).toEqual({
      status: 'not ready',
      problems: ['policy: no bundle is loaded yet'],
      warnings: [],
    })
    expect((await fetch(`${open.url}/livez`)).status).toBe(200)
    health.ok('policy')
    expect((await fetch(`${open.url}/readyz`)).status).toBe(200)
  })
})

describe('a page of another site', () => {
  test.each(['cross-site', 'same-site'])('is told nothing (%s)', async (site) => {
    const ask = (path: string) =>
      fetch(`${open.url}${path}`, { headers: { 'sec-fetch-site': site } })
    expect((await ask('/metrics')).status).toBe(403)
    expect((await ask('/v1/anything')).status).toBe(403)
    expect((await ask('/livez')).status).toBe(200)
  })

  test.each(['same-origin', 'none'])(
    'the console and who types the address are (%s)',
    async (site) => {
      const headers = { 'sec-fetch-site': site }
      expect((await fetch(`${open.url}/metrics`, { headers })).status).toBe(200)
    },
  )
})

describe('metrics', () => {
  test('numbers are read when they are asked for, and labels stay apart', async () => {
    let count = 1
    metrics.watch({
      name: 'regate_test_total',
      help: 'A test.',
      kind: 'counter',
      read: () => count,
    })
    metrics.watch({
      name: 'regate_labels',
      help: 'A test.',
      kind: 'gauge',
      read: () => [
        { labels: { action: 'allow' }, value: 3 },
        { labels: { action: 'deny' }, value: 4 },
      ],
    })
    count = 7
    for (let again = 0; again < 2; again++) {
      const text = await (await fetch(`${open.url}/metrics`)).text()
      expect(text).toMatch(/^regate_test_total 7$/m)
      expect(text).toMatch(/^regate_labels{action="allow"} 3$/m)
      expect(text).toMatch(/^regate_labels{action="deny"} 4$/m)
      expect(text).toMatch(/^regate_build_info{version="0.0.0-test"/m)
    }
  })
})

describe('who may ask', () => {
  test('a token is asked for everywhere but for health', async () => {
    expect((await fetch(`${guarded.url}/readyz`)).status).toBe(200)
    for (const path of ['/metrics', '/v1/me', '/nowhere']) {
      expect((await fetch(`${guarded.url}${path}`)).status, path).toBe(401)
      const wrong = { headers: { authorization: 'Bearer wrong' } }
      expect((await fetch(`${guarded.url}${path}`, wrong)).status, path).toBe(401)
    }
    const right = await fetch(`${guarded.url}/v1/me`, {
      headers: { authorization: 'bearer right' },
    })
    expect(await right.json()).toEqual({ subject: 'operator', groups: ['dba'] })
  })

  test('a page in a browser reaches it neither under another name nor by a form', async () => {
    expect(await withHost(open, 'evil.example', '/metrics')).toBe(421)
    expect(await withHost(open, `localhost:${open.port}`, '/metrics')).toBe(200)
    const form = await fetch(`${open.url}/v1/change`, {
      method: 'POST',
      headers: { 'content-type': 'text/plain' },
      body: '{}',
    })
    expect(form.status).toBe(415)
    expect((await fetch(`${open.url}/v1/change`, { method: 'POST' })).status).toBe(415)
    expect(changes).toBe(0)
    const json = await fetch(`${open.url}/v1/change`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    })
    expect(await json.json()).toEqual({ changes: 1 })
  })

  test('an empty token never matches', async () => {
    const empty = await startAdmin({
      ...{ host: '127.0.0.1', port: 0, health, metrics },
      authenticate: async (request) =>
        bearerMatches(request, '') ? { subject: '', groups: [] } : null,
    })
    const headers = { authorization: 'Bearer ' }
    expect((await fetch(`${empty.url}/metrics`, { headers })).status).toBe(401)
    await empty.close()
  })
})
