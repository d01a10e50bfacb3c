import {
  appendFileSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { FileAuditLog, verifyAudit, type Problem } from '../../../src/audit/audit.ts'
import { segmentsOf } from '../../../src/audit/segments.ts'
import { systemClock } from '../../../src/core/core.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'regate-audit-'))
  fill()
})
afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

function fill(retainMs = 0, nowMs = systemClock.nowMs): void {
  const log = FileAuditLog.open({
    ...{ directory, worker: 'w1', fsync: 'batch', segmentBytesMax: 3_000, segmentMsMax: 1e9 },
    ...{ retainMs, clock: { nowMs, monotonicUs: () => 0 }, onNews: () => undefined },
  })
  for (let n = 0; n < 40; n++) {
    log.append('statement_decided', `"n":${n},"text":"${'é'.repeat(20)}"`)
    void log.commit()
  }
  log.close()
}

const paths = (): string[] => segmentsOf(directory, 'w1').map(({ path }) => path)

function edit(path: string, change: (lines: string[]) => string[]): void {
  const lines = readFileSync(path, 'latin1').split('\n')
  writeFileSync(path, change(lines).join('\n'), 'latin1')
}

function idOf(path: string, line: number): string {
  const found = /^\{"id":"([^"]+)"/.exec(readFileSync(path, 'utf8').split('\n')[line] ?? '')
  return found?.[1] ?? ''
}

async function problems(): Promise<readonly Problem[]> {
  return (await verifyAudit(directory)).problems
}

it('finds nothing in a log that was left alone, and says how far it is proven', async () => {
  const { problems: found, chains, checkpointCount } = await verifyAudit(directory)
  expect(found).toEqual([])
  expect(checkpointCount).toBeGreaterThan(0)
  expect(chains).toMatchObject([
    { worker: 'w1', recordCount: 41, first: 'w1-1', last: 'w1-41', checkpointed: 'w1-41' },
  ])
  expect(chains[0]?.segmentCount).toBeGreaterThan(3)
})

it('names the record of every flipped byte, and no other', async () => {
  const path = paths()[1] ?? ''
  const whole = readFileSync(path)
  const lineStart = whole.indexOf('\n') + 1
  const lineEnd = whole.indexOf('\n', lineStart)
  const id = idOf(path, 1)
  for (let at = lineStart; at < lineEnd; at++) {
    const bytes = Buffer.from(whole)
    bytes[at] = (bytes[at] ?? 0) ^ 0x01
    writeFileSync(path, bytes)
    const found = await problems()
    expect(found, `byte ${at - lineStart}`).toHaveLength(1)
    expect(found[0]).toMatchObject({ worker: 'w1', line: 2, record: id })
    expect(path.endsWith(found[0]?.segment ?? '?')).toBe(true)
  }
})

it('names a removed line, the first and the last of a segment too', async () => {
  for (const index of [0, 2, -2]) {
    const path = paths()[1] ?? ''
    const whole = readFileSync(path)
    const count = whole.toString('latin1').split('\n').length - 1
    const line = index < 0 ? count - 1 : index
    const id = idOf(path, line)
    edit(path, (lines) => lines.filter((_, at) => at !== line))
    const found = await problems()
    expect(found).toMatchObject([{ kind: 'missing', record: id }])
    expect(found[0]?.message).toContain(`record ${id} is missing`)
    writeFileSync(path, whole)
  }
})

it('names lines that were moved or inserted', async () => {
  const path = paths()[1] ?? ''
  edit(path, ([a = '', b = '', ...rest]) => [a, b, b, ...rest])
  expect(await problems()).toMatchObject([{ kind: 'inserted', record: idOf(path, 1), line: 3 }])
})

it('finds a record that was replaced with a hash that fits', async () => {
  const other = mkdtempSync(join(tmpdir(), 'regate-audit-'))
  const log = FileAuditLog.open({
    ...{ directory: other, worker: 'w1', fsync: 'batch', segmentBytesMax: 1e9, segmentMsMax: 1e9 },
    ...{ retainMs: 0, clock: systemClock, onNews: () => undefined },
  })
  for (let n = 0; n < 40; n++) log.append('statement_decided', `"n":${n}`)
  const forged = log.path
  log.close()
  const path = paths()[0] ?? ''
  const line = readFileSync(forged, 'utf8').split('\n')[2] ?? ''
  edit(path, (lines) => lines.map((one, at) => (at === 2 ? line : one)))
  rmSync(other, { recursive: true })
  const found = await problems()
  expect(found.map(({ kind }) => kind)).toEqual(['rewritten', 'rewritten'])
  expect(found.map(({ record }) => record)).toEqual(['w1-3', 'w1-4'])
})

it('names a segment that is gone', async () => {
  const [, gone = ''] = paths()
  unlinkSync(gone)
  const found = await problems()
  expect(found.some(({ segment }) => gone.endsWith(segment ?? '?'))).toBe(true)
  expect(found.every(({ kind }) => kind === 'missing')).toBe(true)
})

it('finds a truncated file, wherever it was cut', async () => {
  const path = paths()[2] ?? ''
  const whole = readFileSync(path)
  for (const size of [0, 10, whole.indexOf('\n') + 1, whole.length - 1, whole.length - 100]) {
    truncateSync(path, size)
    const found = await problems()
    expect(found.length, String(size)).toBeGreaterThan(0)
    expect(found.every(({ kind }) => kind === 'missing' || kind === 'torn')).toBe(true)
    writeFileSync(path, whole)
  }
})

it('finds the newest end cut off, by the checkpoints', async () => {
  const newest = paths().at(-1) ?? ''
  const lines = readFileSync(newest, 'utf8').split('\n')
  writeFileSync(newest, `${lines.slice(0, -2).join('\n')}\n`)
  expect(await problems()).toMatchObject([{ kind: 'cut_off', record: 'w1-41' }])
  unlinkSync(newest)
  const [found] = await problems()
  expect(found).toMatchObject({ kind: 'cut_off' })
  expect(found?.message).toContain('w1-41 was signed at')
})

it('needs checkpoints from elsewhere where the log and its checkpoints were written anew', async () => {
  const kept = mkdtempSync(join(tmpdir(), 'regate-kept-'))
  const checkpoints = join(kept, 'checkpoints.ndjson')
  const key = join(kept, 'audit.pub')
  copyFileSync(join(directory, 'checkpoints-w1.ndjson'), checkpoints)
  copyFileSync(join(directory, 'audit.pub'), key)
  rmSync(directory, { recursive: true })
  fill()
  expect(await problems()).toEqual([])
  const report = await verifyAudit(directory, { checkpoints: [checkpoints], key })
  const kinds = new Set(report.problems.map(({ kind }) => kind))
  expect(kinds).toContain('rewritten')
  // The new log's own checkpoints are signed with a key of its own.
  expect(kinds).toContain('checkpoint')
  rmSync(kept, { recursive: true })
})

it('finds a checkpoint that somebody changed', async () => {
  const path = join(directory, 'checkpoints-w1.ndjson')
  writeFileSync(path, readFileSync(path, 'utf8').replace('"sequence":41', '"sequence":40'))
  const found = await problems()
  expect(found).toMatchObject([{ kind: 'checkpoint', record: 'w1-40' }])
})

it('accepts what retention took, and nothing else that is missing at the beginning', async () => {
  const later = systemClock.nowMs() + 1_000_000
  fill(500_000, () => later)
  const segments = segmentsOf(directory, 'w1')
  expect(segments[0]?.number).toBeGreaterThan(1)
  expect(await problems()).toEqual([])
  unlinkSync(segments[0]?.path ?? '')
  expect(await problems()).toMatchObject([{ kind: 'missing', record: 'w1-1' }])
})

it('tells a torn record at the end from a whole one', async () => {
  const newest = paths().at(-1) ?? ''
  appendFileSync(newest, '{"id":"w1-42","time":"2026')
  expect(await problems()).toMatchObject([{ kind: 'torn', record: 'w1-42' }])
})
