import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { FileAuditLog, verifyAudit, type FileAuditOptions } from '../../../src/audit/audit.ts'
import { genesis, linkOf } from '../../../src/audit/chain.ts'
import { systemClock } from '../../../src/core/core.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'regate-audit-'))
})
afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

function open(more: Partial<FileAuditOptions> = {}): FileAuditLog {
  return FileAuditLog.open({
    directory,
    worker: 'w1',
    fsync: 'batch',
    segmentBytesMax: 1_000_000,
    segmentMsMax: 1_000_000,
    retainMs: 0,
    clock: systemClock,
    onNews: () => undefined,
    ...more,
  })
}

function lines(): string[] {
  return readdirSync(directory)
    .filter((name) => name.startsWith('audit-w1-'))
    .sort()
    .flatMap((name) => readFileSync(join(directory, name), 'utf8').split('\n'))
    .filter((line) => line !== '')
}

function brokenAt(records: readonly string[]): number | null {
  let prev = genesis('w1').hash
  for (const [index, line] of records.entries()) {
    const link = linkOf(Buffer.from(line))
    if (link === null || !link.sound || link.prev !== prev) return index
    prev = link.hash
  }
  return null
}

it('has a record in the file when commit returns', () => {
  const log = open()
  log.append('statement_decided', '"n":1')
  void log.commit()
  const last: unknown = JSON.parse(lines().at(-1) ?? '')
  expect(last).toMatchObject({ id: 'w1-2', type: 'statement_decided', n: 1 })
  log.close()
})

it('resolves only after a sync when every record must be durable', async () => {
  const log = open({ fsync: 'always' })
  log.append('statement_decided', '"n":1')
  await expect(log.commit()).resolves.toBeUndefined()
  log.close()
})

it('chains records over segments and restarts', () => {
  for (let run = 0; run < 3; run++) {
    const log = open({ segmentBytesMax: 600 })
    for (let n = 0; n < 5; n++) {
      log.append('statement_decided', `"n":${n}`)
      void log.commit()
    }
    log.close()
  }
  expect(readdirSync(directory).filter((name) => name.endsWith('.ndjson')).length).toBeGreaterThan(
    3,
  )
  expect(brokenAt(lines())).toBeNull()
})

it('breaks where a byte was changed or a record removed', () => {
  const log = open()
  for (let n = 0; n < 6; n++) log.append('statement_decided', `"n":${n}`)
  void log.commit()
  log.close()
  const records = lines()
  const changed = records.map((line, index) =>
    index === 3 ? line.replace('"n":2', '"n":9') : line,
  )
  expect(brokenAt(changed)).toBe(3)
  expect(brokenAt(records.filter((_, index) => index !== 4))).toBe(4)
})

it('cuts a torn last record off and says so', () => {
  const first = open()
  first.append('statement_decided', '"n":1')
  void first.commit()
  const { path } = first
  first.close()
  appendFileSync(path, '{"id":"w1-3","time":"20')
  const log = open()
  log.close()
  const records = lines()
  expect(brokenAt(records)).toBeNull()
  expect(records.some((line) => line.includes('"type":"audit_repaired","torn_bytes":23'))).toBe(
    true,
  )
})

it('refuses to open where the directory cannot be used', () => {
  writeFileSync(join(directory, 'file'), '')
  expect(() => open({ directory: join(directory, 'file') })).toThrow(/audit log cannot be written/)
})

it('begins a segment by size and by time, and takes what is too old away, saying so', async () => {
  const hourMs = 3_600_000
  let nowMs = Date.now()
  const clock = { nowMs: () => nowMs, monotonicUs: () => 0 }
  const segments = (): string[] =>
    readdirSync(directory)
      .filter((name) => /^audit-w1-\d+\.ndjson$/.test(name))
      .sort()
  const write = (log: FileAuditLog, count: number): void => {
    for (let n = 0; n < count; n++) {
      log.append('statement_decided', `"n":${n}`)
      void log.commit()
    }
  }
  const bySize = open({ clock, segmentBytesMax: 2_000, segmentMsMax: hourMs })
  write(bySize, 30)
  const full = segments()
  expect(full.length).toBeGreaterThan(2)
  for (const name of full.slice(0, -1)) {
    const { size } = statSync(join(directory, name))
    expect(size).toBeGreaterThanOrEqual(2_000)
    expect(size).toBeLessThan(2_600)
  }
  bySize.close()
  const byTime = open({ clock, segmentBytesMax: 1e9, segmentMsMax: hourMs })
  write(byTime, 3)
  const before = segments().length
  nowMs += hourMs
  write(byTime, 1)
  write(byTime, 1)
  expect(segments()).toHaveLength(before + 1)
  byTime.close()
  // A month later nothing of it is wanted but the newest, and the chain says what is gone.
  nowMs += 31 * 24 * hourMs
  const later = open({ clock, retainMs: 30 * 24 * hourMs })
  write(later, 1)
  later.close()
  expect(segments()).toEqual([expect.stringContaining(`${before + 1}.ndjson`)])
  const retired = lines()
    .map((line) => JSON.parse(line) as { type: string; segment?: string })
    .filter(({ type }) => type === 'audit_retired')
    .map(({ segment }) => segment)
  expect(retired).toHaveLength(before)
  expect(retired).toEqual(expect.arrayContaining(full))
  expect((await verifyAudit(directory)).problems).toEqual([])
})

it('chains a batch that is larger than the buffer of a line, and than that of many', () => {
  const log = open()
  for (const letter of ['a', 'é', '漢', '😀']) {
    for (let n = 0; n < 4; n++)
      log.append('statement_decided', `"text":"${letter.repeat(300_000)}"`)
  }
  void log.commit()
  log.append('statement_ended', '"n":1')
  void log.commit()
  log.close()
  const records = lines()
  expect(records.filter((line) => line.includes('"statement_'))).toHaveLength(17)
  expect(brokenAt(records)).toBeNull()
})
