/** Traces of a whole regate: real clients in front, an OTLP/HTTP receiver that decodes what arrives. */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { AuditLog } from '../../src/audit/audit.ts'
import { ProxyError } from '../../src/core/core.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import {
  startTraceReceiver,
  type ReceivedSpan,
  type TraceReceiver,
} from '../support/trace-receiver.ts'

const adminToken = randomBytes(24).toString('hex')
const collectorToken = randomBytes(24).toString('hex')
let postgres: TestPostgres
let receiver: TraceReceiver
let proxy: ProxyInProcess
const clients: pg.Client[] = []

const data = {
  regate: {
    approvals: { groups: ['dba'], quorum: 1, wait: '90s', ttl: '120s' },
    groups: {
      engineers: {
        ...{ read: ['*'], write: { '*': 'approve' }, ddl: 'deny' },
        effects: { session: 'allow' },
      },
    },
  },
}

beforeAll(async () => {
  process.env['TEST_TRACES_ADMIN'] = adminToken
  process.env['TEST_TRACES_TOKEN'] = collectorToken
  postgres = await startPostgres()
  receiver = await startTraceReceiver()
  await execute(postgres, 'CREATE TABLE people (id int); INSERT INTO people VALUES (1), (2)')
  await execute(postgres, 'CREATE DATABASE approvals')
  const store = new URL(postgres.url('approvals'))
  process.env['TEST_TRACES_STORE'] = decodeURIComponent(store.password)
  store.password = ''
  proxy = await startProxy(postgres, {
    data,
    users: { ann: { groups: ['engineers'] } },
    configuration: {
      traces: { url: receiver.url, token_env: 'TEST_TRACES_TOKEN', ratio: 0 },
      approvals: { store: store.href, store_password_env: 'TEST_TRACES_STORE' },
      admin: { port: 0, token_env: 'TEST_TRACES_ADMIN', groups: ['dba'] },
    },
  })
}, 120_000)

afterAll(async () => {
  for (const client of clients) await client.end().catch(() => undefined)
  await proxy.stop()
  await receiver.stop()
  await postgres.stop()
})

async function connect(through = proxy): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: through.url('postgres', 'ann') })
  client.on('error', () => undefined)
  await client.connect()
  clients.push(client)
  return client
}

/** A trace of the client's, and the comment that says so. */
function begun(flags = '01'): { traceId: string; spanId: string; comment: string } {
  const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')]
  return { traceId, spanId, comment: `/*traceparent='00-${traceId}-${spanId}-${flags}'*/` }
}

function named(spans: readonly ReceivedSpan[], name: string): ReceivedSpan {
  const found = spans.find((span) => span.name === name)
  if (found === undefined) throw new Error(`no ${name} in ${spans.map((one) => one.name).join()}`)
  return found
}

test('a statement joins the trace of its client, with judging and the server below it', async () => {
  const { traceId, spanId, comment } = begun()
  const client = await connect()
  await client.query(`SELECT id, 'secret-constant' FROM people ${comment}`)
  const spans = await receiver.trace(traceId, 3)
  const root = named(spans, 'SELECT postgres')
  expect(root.parentSpanId).toBe(spanId)
  expect(root.kind).toBe(2)
  expect(root.statusCode).toBe(0)
  expect(root.attributes).toMatchObject({
    'db.system.name': 'postgresql',
    'db.namespace': 'postgres',
    'db.operation.name': 'SELECT',
    'db.response.returned_rows': 2,
    'regate.decision.action': 'allow',
    'regate.decision.cached': false,
  })
  expect(root.attributes['regate.decision.id']).toMatch(/.{8}/)
  expect(root.resource).toMatchObject({ 'service.name': 'regate' })
  const [judge, upstream] = [named(spans, 'judge'), named(spans, 'upstream')]
  for (const child of [judge, upstream]) {
    expect(child.parentSpanId).toBe(root.spanId)
    expect(child.startNs).toBeGreaterThanOrEqual(root.startNs)
    expect(child.endNs).toBeGreaterThanOrEqual(child.startNs)
    expect(child.endNs).toBeLessThanOrEqual(root.endNs)
  }
  expect(upstream.startNs).toBeGreaterThanOrEqual(judge.endNs)
  expect(upstream.attributes).toMatchObject({ 'regate.tag': 'SELECT 2' })
  // What the statement says stays in the audit.
  expect(receiver.bodies.join('')).not.toMatch(/secret-constant|ann\b/)
  expect(receiver.headers[0]?.['authorization']).toBe(`Bearer ${collectorToken}`)
})

test('a prepared statement and a refused one are traced too, each run by itself', async () => {
  const client = await connect()
  const prepared = begun()
  const text = `SELECT id FROM people WHERE id = $1 ${prepared.comment}`
  await client.query({ name: 'one', text, values: [1] })
  await client.query({ name: 'one', text, values: [2] })
  const spans = await receiver.trace(prepared.traceId, 5)
  // Judged once, when it was parsed.
  expect(spans.filter(({ name }) => name === 'judge')).toHaveLength(1)
  const runs = spans.filter(({ name }) => name === 'SELECT postgres')
  expect(runs).toHaveLength(2)
  expect(runs.map(({ parentSpanId }) => parentSpanId)).toEqual([prepared.spanId, prepared.spanId])
  const refused = begun()
  await client.query(`DROP TABLE people ${refused.comment}`).catch(() => undefined)
  const [span] = await receiver.trace(refused.traceId, 1)
  expect(span).toMatchObject({ name: 'DROP postgres', statusCode: 2 })
  expect(span?.attributes).toMatchObject({
    'regate.decision.action': 'deny',
    'db.response.status_code': '42501',
  })
  const failed = begun()
  await client.query(`SELECT 1 / (id - id) FROM people ${failed.comment}`).catch(() => undefined)
  const root = named(await receiver.trace(failed.traceId, 2), 'SELECT postgres')
  expect(root).toMatchObject({ statusCode: 2 })
  expect(root.attributes).toMatchObject({ 'db.response.status_code': '22012' })
})

test('the texts of one shape keep their own traces apart', async () => {
  const client = await connect()
  const [one, two] = [begun(), begun()]
  await client.query(`SELECT 41 ${one.comment}`)
  await client.query(`SELECT 42 ${two.comment}`)
  expect((await receiver.trace(one.traceId, 2)).length).toBe(2 + 1)
  await receiver.trace(two.traceId, 2)
})

test('a hold is a span of its own, as long as people took', async () => {
  const { traceId, comment } = begun()
  const client = await connect()
  const running = client.query(`UPDATE people SET id = id ${comment}`)
  const headers = { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json' }
  const url = `${proxy.adminUrl}/v1/approvals`
  const id = await vi.waitFor(
    async () => {
      const answer = await fetch(`${url}?state=pending`, { headers })
      const { approvals } = (await answer.json()) as { approvals: { id: string }[] }
      if (approvals[0] === undefined) throw new Error('not held yet')
      return approvals[0].id
    },
    { timeout: 25_000, interval: 50 },
  )
  const heldAt = Date.now()
  await new Promise((resolve) => setTimeout(resolve, 50))
  const approved = await fetch(`${url}/${id}/approve`, { method: 'POST', headers, body: '{}' })
  expect(approved.status).toBe(200)
  await running
  const spans = await receiver.trace(traceId, 4)
  const [root, hold] = [named(spans, 'UPDATE postgres'), named(spans, 'hold')]
  expect(hold.parentSpanId).toBe(root.spanId)
  expect(hold.attributes).toEqual({ 'regate.approval.outcome': 'approved' })
  expect(hold.endNs - hold.startNs).toBeGreaterThan(50_000_000n)
  expect(root.startNs).toBeLessThan(BigInt(heldAt) * 1_000_000n)
  expect(named(spans, 'upstream').startNs).toBeGreaterThanOrEqual(hold.endNs)
  const metrics = await (await fetch(`${proxy.adminUrl}/metrics`, { headers })).text()
  expect(metrics).toMatch(/^regate_holds_total\{outcome="approved"\} 1$/m)
  expect(metrics).toMatch(/^regate_hold_seconds_count 1$/m)
  expect(metrics).toMatch(/^regate_approvals_held 0$/m)
})

test('who says no, or nothing, where the ratio is 0, is not traced', async () => {
  const client = await connect()
  const [no, yes] = [begun('00'), begun()]
  await client.query(`SELECT 1 AS unsampled ${no.comment}`)
  await client.query('SELECT 1 AS plain')
  await client.query(`SELECT 1 AS sampled ${yes.comment}`)
  await receiver.trace(yes.traceId, 2)
  expect(receiver.spans.filter(({ traceId }) => traceId === no.traceId)).toEqual([])
  expect(receiver.spans.every(({ parentSpanId }) => parentSpanId !== '')).toBe(true)
})

test('a hostile traceparent is nothing: the statement runs, and nothing of it is exported', async () => {
  const client = await connect()
  const before = receiver.spans.length
  for (const value of [
    `00-${'0'.repeat(32)}-${'1'.repeat(16)}-01`,
    `00-${'a'.repeat(32)}-${'1'.repeat(16)}-01-x`,
    '<script>alert(1)</script>',
    '%00%ff',
    '\u001b]0;owned\u0007\u202e',
    'x'.repeat(1_000_000),
  ]) {
    const { rows } = await client.query(`SELECT 7 AS n /*traceparent='${value}'*/`)
    expect(rows).toEqual([{ n: 7 }])
  }
  const last = begun()
  await client.query(`SELECT 8 ${last.comment}`)
  await receiver.trace(last.traceId, 2)
  const more = receiver.spans.slice(before)
  expect(more.every(({ traceId }) => traceId === last.traceId)).toBe(true)
  expect(receiver.bodies.join('')).not.toMatch(/script|owned|xxxx/)
})

test('a collector that fails loses spans, not statements, and is counted', async () => {
  const client = await connect()
  const count = async (outcome: string): Promise<number> => {
    const answer = await fetch(`${proxy.adminUrl}/metrics`, {
      headers: { authorization: `Bearer ${adminToken}` },
    })
    const found = new RegExp(`^regate_trace_spans_total\\{outcome="${outcome}"\\} (\\d+)$`, 'm')
    return Number(found.exec(await answer.text())?.[1] ?? Number.NaN)
  }
  expect(await count('sent')).toBeGreaterThan(5)
  receiver.status = 400
  for (let n = 0; n < 20; n++) await client.query(`SELECT ${n} ${begun().comment}`)
  await vi.waitFor(async () => expect(await count('failed')).toBeGreaterThan(0), {
    timeout: 25_000,
    interval: 100,
  })
  receiver.status = 200
  const again = begun()
  await client.query(`SELECT 'again' ${again.comment}`)
  await receiver.trace(again.traceId, 2)
})

test('with a ratio of 1 what begins here is traced, up to so many a second', async () => {
  let full = false
  const audit: AuditLog = {
    append: () => undefined,
    commit: () => {
      if (full) throw new ProxyError('audit_unavailable', 'no room')
    },
  }
  const other = await startProxy(postgres, {
    data,
    users: { ann: { groups: ['engineers'] } },
    configuration: { traces: { url: receiver.url, ratio: 1 } },
    limits: { tracedPerSecondMax: 1 },
    audit,
  })
  try {
    const client = await connect(other)
    const before = receiver.spans.length
    const seconds = new Set<number>()
    for (let n = 0; n < 200; n++) {
      seconds.add(Math.floor(performance.now() / 1000))
      await client.query('SELECT 1')
      seconds.add(Math.floor(performance.now() / 1000))
    }
    await receiver.find(
      (span) => span.parentSpanId === '' && receiver.spans.indexOf(span) >= before,
    )
    await client.end()
    const text = await (await fetch(`${other.adminUrl}/metrics`)).text()
    const dropped = Number(/spans_total\{outcome="dropped"\} (\d+)/.exec(text)?.[1])
    const first = Math.min(...seconds)
    const secondCount = Math.max(...seconds) - first + 1
    expect(dropped).toBeGreaterThanOrEqual(200 - secondCount)
    // What was admitted and could not be put on record did not run: its span says so.
    const unsent = await vi.waitFor(
      async () => {
        const client = await connect(other)
        const { traceId, comment } = begun()
        full = true
        await expect(client.query(`SELECT 3 ${comment}`)).rejects.toMatchObject({ code: '58030' })
        full = false
        await new Promise((resolve) => setTimeout(resolve, 1_500))
        return named(
          receiver.spans.filter((span) => span.traceId === traceId),
          'SELECT postgres',
        )
      },
      { timeout: 25_000, interval: 100 },
    )
    expect(unsent).toMatchObject({ statusCode: 2 })
    expect(unsent.attributes['db.response.status_code']).toBe('58030')
    // A collector that never answers keeps nobody: not the next statement, not the stop.
    receiver.status = 0
    const late = await connect(other)
    await late.query('SELECT 2')
    await late.end()
  } finally {
    await other.stop()
    receiver.status = 200
  }
})
