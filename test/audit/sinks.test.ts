/** Sinks against real receivers: an HTTP server, a PostgreSQL, files. Slow, failing, and restarted. */
import { createServer } from 'node:http'
import { connect, createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net'
import { mkdtempSync, readFileSync, rmSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { Agent } from 'undici'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import {
  FileAuditLog,
  fileSink,
  httpSink,
  otlpSink,
  postgresSink,
  Shipper,
  type AuditSink,
} from '../../src/audit/audit.ts'
import { segmentsOf } from '../../src/audit/segments.ts'
import { systemClock } from '../../src/core/core.ts'
import pg from 'pg'
import { execute, startPostgres } from '../support/postgres.ts'
import { startProxy } from '../support/proxy.ts'

let directory: string
let log: FileAuditLog
const closing: (() => unknown)[] = []

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'regate-audit-'))
  log = open()
})

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
  log.close()
  rmSync(directory, { recursive: true, force: true })
})

function open(worker = 'w1'): FileAuditLog {
  return FileAuditLog.open({
    ...{ directory, worker, fsync: 'batch', segmentBytesMax: 5_000, segmentMsMax: 1e9 },
    ...{ retainMs: 0, clock: systemClock, onNews: () => undefined },
  })
}

const hostile = JSON.stringify({ text: '\u0000\ud800\\N\t\n\u001b[2J"€' })

function write(count: number, to = log): void {
  for (let n = 0; n < count; n++) {
    to.append('statement_decided', `"n":${n},"session":"s","statement":${hostile}`)
    void to.commit()
  }
}

/** Every whole line of the log, in order. */
function written(): string[] {
  return segmentsOf(directory, 'w1').flatMap(({ path }) =>
    readFileSync(path, 'utf8').trimEnd().split('\n'),
  )
}

function ship(sink: AuditSink, over: object = {}): Shipper {
  const shipper = new Shipper({
    ...{ directory, sink, clock: systemClock, onNews: () => undefined, pollMs: 10 },
    ...{ retryMsMax: 20, batchCountMax: 7, ...over },
  })
  closing.push(() => shipper.close())
  return shipper
}

async function receiver(): Promise<{
  url: string
  bodies: string[]
  keys: (string | undefined)[]
  status: { code: number; answer: string }
}> {
  const bodies: string[] = []
  const keys: (string | undefined)[] = []
  const status = { code: 200, answer: '{}' }
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const body = gunzipSync(Buffer.concat(chunks)).toString()
      const tooLarge = status.code === 413 && body.trimEnd().split('\n').length > 2
      const code = status.code === 413 ? (tooLarge ? 413 : 200) : status.code
      if (code === 200) {
        bodies.push(body)
        keys.push(request.headers['idempotency-key'] as string | undefined)
      }
      response.statusCode = code
      response.end(status.answer)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}/v1/logs`, bodies, keys, status }
}

const target = (url: string) => ({
  ...{ url, headers: () => Promise.resolve({ authorization: 'Bearer t' }) },
  dispatcher: new Agent(),
})

const linesOf = (bodies: readonly string[]): string[] =>
  bodies.flatMap((body) => body.trimEnd().split('\n'))

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  await vi.waitFor(async () => expect(await holds()).toBe(true), { timeout: 20_000, interval: 20 })
}

it('sends what the log has and what comes, over segments, in order and once', async () => {
  const { url, bodies, keys } = await receiver()
  write(30)
  const shipper = ship(httpSink('http-a', target(url)))
  await until(() => linesOf(bodies).length === written().length)
  write(30)
  await until(() => linesOf(bodies).length === written().length)
  expect(linesOf(bodies)).toEqual(written())
  expect(segmentsOf(directory, 'w1').length).toBeGreaterThan(3)
  expect(new Set(keys).size).toBe(keys.length)
  await until(() => shipper.status.lagBytes === 0 && shipper.status.lagMs === 0)
})

it('tries again while the receiver fails, and shows the lag', async () => {
  const { url, bodies, status } = await receiver()
  status.code = 503
  write(20)
  const shipper = ship(httpSink('http-a', target(url)))
  await until(() => shipper.status.failureCount > 2)
  expect(shipper.status.failing).toBe(true)
  expect(shipper.status.lagBytes).toBeGreaterThan(1_000)
  // Meanwhile the log takes records as ever.
  write(10)
  expect(bodies).toEqual([])
  status.code = 200
  await until(() => linesOf(bodies).length === written().length)
  expect(linesOf(bodies)).toEqual(written())
  expect(shipper.status.failing).toBe(false)
})

it('goes on where it was after a restart', async () => {
  const path = join(directory, 'copy.ndjson')
  write(20)
  const first = ship(fileSink('file-a', path))
  await until(() => first.status.sentCount === written().length)
  await first.close()
  write(20)
  const second = ship(fileSink('file-a', path))
  await until(() => second.status.sentCount === 20)
  expect(readFileSync(path, 'utf8').trimEnd().split('\n')).toEqual(written())
})

it('reads the chains of all workers', async () => {
  const other = open('w2')
  closing.push(() => other.close())
  const { url, bodies } = await receiver()
  ship(httpSink('http-a', target(url)))
  write(10)
  write(10, other)
  await until(() => linesOf(bodies).length === 22)
})

it('halves a batch that the receiver finds too large', async () => {
  const { url, bodies, status } = await receiver()
  status.code = 413
  write(20)
  ship(httpSink('http-a', target(url)))
  await until(() => linesOf(bodies).length === written().length)
  expect(linesOf(bodies)).toEqual(written())
})

it('counts what retention took before it could be sent', async () => {
  const { url, bodies, status } = await receiver()
  write(10)
  const shipper = ship(httpSink('http-a', target(url)))
  await until(() => linesOf(bodies).length === 11)
  status.code = 503
  write(60)
  await until(() => shipper.status.failing)
  await shipper.close(10)
  for (const { path } of segmentsOf(directory, 'w1').slice(0, -2)) unlinkSync(path)
  status.code = 200
  const next = ship(httpSink('http-a', target(url)))
  const last = written().at(-1) ?? ''
  await until(() => linesOf(bodies).includes(last))
  const received = linesOf(bodies).length
  expect(next.status.lostCount).toBe(71 - received)
  expect(next.status.lostCount).toBeGreaterThan(0)
})

it('speaks OTLP', async () => {
  const { url, bodies, status } = await receiver()
  status.answer = '{"partialSuccess":{"rejectedLogRecords":"1","errorMessage":"no"}}'
  const rejected: string[] = []
  ship(
    otlpSink('otlp-a', target(url), 'host', (message) => rejected.push(message)),
    { batchCountMax: 100 },
  )
  write(3)
  await until(() => bodies.join('').split('logRecords').length > 1 && rejected.length > 0)
  const body = JSON.parse(bodies[0] ?? '') as {
    resourceLogs: { scopeLogs: { logRecords: Record<string, unknown>[] }[] }[]
  }
  const [first] = body.resourceLogs[0]?.scopeLogs[0]?.logRecords ?? []
  expect(first).toMatchObject({
    eventName: 'regate.audit_opened',
    severityNumber: 9,
    body: { stringValue: written()[0] },
  })
  expect(first?.['timeUnixNano']).toMatch(/^\d{13}000000$/)
  expect(rejected[0]).toMatch(/1 records were rejected: no/)
})

it('fills a table by COPY, each record once, with its hash intact', async () => {
  const server = await startPostgres()
  closing.push(() => server.stop())
  const options = {
    ...{ name: 'postgres-a', url: server.url().replace(/:[^:@/]*@/, '@') },
    ...{ password: () => Promise.resolve(server.password), table: 'public.regate_audit' },
  }
  write(20)
  const first = ship(postgresSink(options))
  await until(() => first.status.sentCount === 21)
  await first.close()
  // The note of where it was is lost: everything comes again.
  unlinkSync(join(directory, 'sinks', 'postgres-a.json'))
  write(20)
  const second = ship(postgresSink(options))
  await until(() => second.status.sentCount === 41)
  const result = await execute(
    server,
    "SELECT record::text AS line, session, type FROM regate_audit ORDER BY split_part(id, '-', 2)::int",
  )
  const rows = result.rows as { line: string; session: string | null; type: string }[]
  expect(rows.map(({ line }) => line)).toEqual(written())
  expect(rows[1]).toMatchObject({ session: 's', type: 'statement_decided' })
})

/** A TCP server that does with each connection what it is told to; open connections are ended. */
async function tcp(handle: (socket: Socket) => void): Promise<number> {
  const sockets = new Set<Socket>()
  const server = createTcpServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    handle(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

it('outlives a receiver that hangs, answers garbage, hangs up, and is well again', async () => {
  const { url, bodies } = await receiver()
  let mode: 'hang' | 'garbage' | 'half' | 'bye' | 'well' = 'hang'
  let count = 0
  const port = await tcp((socket) => {
    count++
    if (mode === 'well') {
      const onward = connect(Number(new URL(url).port), '127.0.0.1')
      onward.on('error', () => socket.destroy())
      socket.pipe(onward).pipe(socket)
    } else if (mode === 'garbage') socket.end('\u0000\u001b[2Jnot HTTP at all\r\n\r\n')
    else if (mode === 'half') socket.write('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"pa')
    else if (mode === 'bye') socket.destroy()
    else socket.resume()
  })
  write(20)
  const slow = { ...target(`http://127.0.0.1:${port}/v1/logs`), timeoutMs: 100 }
  const shipper = ship(httpSink('http-ill', slow))
  for (const ill of ['hang', 'garbage', 'half', 'bye'] as const) {
    mode = ill
    const before = [count, shipper.status.failureCount] as const
    await until(() => count > before[0] + 1 && shipper.status.failureCount > before[1] + 1)
    expect(shipper.status.failing).toBe(true)
    expect(shipper.status.sentCount).toBe(0)
    write(5)
  }
  mode = 'well'
  await until(() => linesOf(bodies).length >= written().length)
  expect([...new Set(linesOf(bodies))]).toEqual(written())
  await until(() => !shipper.status.failing && shipper.status.lagBytes === 0)
})

it('gives up a PostgreSQL that freezes, and goes on with it later, each record once', async () => {
  const server = await startPostgres()
  closing.push(() => server.stop())
  let frozen = false
  const pairs: (readonly [Socket, Socket])[] = []
  const port = await tcp((socket) => {
    const onward = connect(server.port, server.host)
    onward.on('error', () => socket.destroy())
    socket.on('close', () => onward.destroy())
    pairs.push([socket, onward])
    socket.on('data', (chunk) => {
      if (!frozen) onward.write(chunk)
    })
    onward.on('data', (chunk) => {
      if (!frozen) socket.write(chunk)
    })
  })
  const options = {
    ...{ name: 'postgres-ill', url: `postgres://${server.user}@127.0.0.1:${port}/postgres` },
    ...{ password: () => Promise.resolve(server.password), table: 'regate_audit' },
  }
  write(10)
  const shipper = ship(postgresSink({ ...options, timeoutMs: 3_000 }))
  await until(() => shipper.status.sentCount === 11)
  frozen = true
  write(10)
  await until(() => shipper.status.failing)
  frozen = false
  await until(() => shipper.status.sentCount >= 21)
  const { rows } = await execute(server, 'SELECT count(*)::int AS n FROM regate_audit')
  expect(rows).toEqual([{ n: 21 }])
  // One that hangs when regate stops keeps nobody.
  frozen = true
  write(10)
  await new Promise((resolve) => setTimeout(resolve, 100))
  await shipper.close(50)
  expect(shipper.status.lagBytes).toBeGreaterThan(0)
})

it('is never waited for by a statement, nor by the end of a regate', async () => {
  const server = await startPostgres()
  closing.push(() => server.stop())
  let asked = 0
  const port = await tcp((socket) => {
    asked++
    socket.resume()
  })
  const proxy = await startProxy(server, {
    configuration: {
      audit: {
        directory: 'audit',
        sinks: [
          { kind: 'http', url: `http://127.0.0.1:${port}/` },
          { kind: 'otlp', url: `http://127.0.0.1:${port}/v1/logs` },
          { kind: 'opa', url: `http://127.0.0.1:${port}` },
          { kind: 'postgres', url: `postgres://nobody@127.0.0.1:${port}/audit` },
          { kind: 'file', path: join(directory, 'nowhere', 'copy.ndjson') },
        ],
      },
    },
  })
  const client = new pg.Client({ connectionString: proxy.url('postgres', 'ann') })
  await client.connect()
  await until(() => asked >= 4)
  for (let n = 0; n < 100; n++) await client.query(`SELECT ${n} AS marked`)
  await client.end()
  const metrics = await (await fetch(`${proxy.adminUrl}/metrics`)).text()
  const lags = [...metrics.matchAll(/^regate_audit_sink_lag_bytes\{sink="([a-z]+)-\w+"\} (\d+)$/gm)]
  expect(lags.map(([, kind]) => kind).sort()).toEqual(['file', 'http', 'opa', 'otlp', 'postgres'])
  for (const [, kind, bytes] of lags) expect(Number(bytes), kind).toBeGreaterThan(10_000)
  expect(metrics).toMatch(/^regate_audit_sink_failing\{sink="file-\w+"\} 1$/m)
  const log = segmentsOf(join(proxy.directory, 'audit'), 'main')
    .map(({ path }) => readFileSync(path, 'utf8'))
    .join('')
  expect(log.match(/"type":"statement_decided"[^\n]*AS marked/g)).toHaveLength(100)
  await proxy.stop()
})
