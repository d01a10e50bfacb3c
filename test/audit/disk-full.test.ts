/** No room for the log: nothing runs, and when there is room everything goes on. */
import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { FileAuditLog, verifyAudit } from '../../src/audit/audit.ts'
import { systemClock } from '../../src/core/core.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'regate-audit-'))
})
afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

/** /dev/full takes no byte: ENOSPC from the kernel, as a full disk gives it. */
it.runIf(process.platform === 'linux')('refuses while there is no room', () => {
  closeSync(openSync('/dev/full', 'r'))
  symlinkSync('/dev/full', join(directory, 'audit-w1-00000001.ndjson'))
  const open = (): FileAuditLog =>
    FileAuditLog.open({
      ...{ directory, worker: 'w1', fsync: 'batch', segmentBytesMax: 1e9, segmentMsMax: 1e9 },
      ...{ retainMs: 0, clock: systemClock, onNews: () => undefined },
    })
  expect(open).toThrow(/no room on its disk/)
  unlinkSync(join(directory, 'audit-w1-00000001.ndjson'))
  open().close()
})

it('lets statements wait for a slow disk, and one sync serve all that wait', async () => {
  const waiting: (() => void)[] = []
  const log = FileAuditLog.open({
    ...{ directory, worker: 'w1', fsync: 'always', segmentBytesMax: 1e9, segmentMsMax: 1e9 },
    ...{ retainMs: 0, clock: systemClock, onNews: () => undefined },
    sync: (_fd, done) => {
      waiting.push(() => {
        done(null)
      })
    },
  })
  const commits = [1, 2, 3, 4].map((n) => {
    log.append('statement_decided', `"n":${n}`)
    return log.commit()
  })
  let settled = 0
  for (const commit of commits) void commit?.then(() => settled++)
  await vi.waitFor(() => expect(waiting.length).toBeGreaterThan(0))
  expect(settled).toBe(0)
  expect(readFileSync(log.path, 'utf8')).toContain('"n":4')
  for (let turn = 0; turn < 100 && settled < 4; turn++) {
    waiting.shift()?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
  expect(settled).toBe(4)
  log.close()
  expect((await verifyAudit(directory)).problems).toEqual([])
})
