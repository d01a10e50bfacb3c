/** `GET /v1/audit` as a stream: as much of the log is in memory as its reader takes, not all of it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { FileAuditLog } from '../../../src/audit/audit.ts'
import {
  auditRoutes,
  Health,
  Metrics,
  startAdmin,
  type AdminServer,
} from '../../../src/control/control.ts'
import { systemClock } from '../../../src/core/core.ts'

const recordCount = 8_000
const recordBytes = 8_192
let directory: string
let admin: AdminServer

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'regate-audit-'))
  const log = FileAuditLog.open({
    ...{ directory, worker: 'w1', fsync: 'batch', segmentBytesMax: 16e6, segmentMsMax: 1e9 },
    ...{ retainMs: 0, clock: systemClock, onNews: () => undefined },
  })
  const text = 'x'.repeat(recordBytes)
  for (let n = 0; n < recordCount; n++) {
    log.append('statement_decided', `"session":"s","statement":{"text":"${text}"}`)
    if (n % 100 === 0) void log.commit()
  }
  log.close()
  admin = await startAdmin({
    ...{ host: '127.0.0.1', port: 0, authenticate: null },
    ...{ health: new Health(), metrics: new Metrics('0.0.0-test') },
    routes: [auditRoutes({ directory, clock: systemClock })],
  })
})
afterAll(async () => {
  await admin.close()
  rmSync(directory, { recursive: true, force: true })
})

async function opened(): Promise<IncomingMessage> {
  const headers = { accept: 'application/x-ndjson' }
  return await new Promise((resolve, reject) => {
    get(`${admin.url}/v1/audit?session=s&order=asc`, { headers }, resolve).once('error', reject)
  })
}

test('a reader that does not read is waited for, with little in memory', async () => {
  const before = process.memoryUsage().arrayBuffers
  const readers = await Promise.all([opened(), opened(), opened()])
  let last = -1
  for (let now = 0; now !== last;) {
    await new Promise((resolve) => setTimeout(resolve, 300))
    last = now
    now = process.memoryUsage().arrayBuffers
  }
  const heldBytes = last - before
  expect(heldBytes).toBeLessThan((recordCount * recordBytes) / 2)
  // It goes on where it was, and nothing is missing.
  const [first, ...others] = readers
  for (const other of others) other.destroy()
  let lineCount = 0
  for await (const chunk of first) {
    for (const byte of chunk as Buffer) if (byte === 0x0a) lineCount++
  }
  expect(lineCount).toBe(recordCount)
})
