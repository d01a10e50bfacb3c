import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  auditFilter,
  AuditSearch,
  endsOf,
  FileAuditLog,
  type Found,
} from '../../../src/audit/audit.ts'
import { linesBackward, linesForward } from '../../../src/audit/lines.ts'
import { segmentsOf } from '../../../src/audit/segments.ts'

let directory: string
let nowMs: number
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'regate-audit-'))
  nowMs = Date.parse('2026-01-01T00:00:00Z')
})
afterEach(() => {
  rmSync(directory, { recursive: true, force: true })
})

function open(worker = 'w1', segmentBytesMax = 4_000): FileAuditLog {
  return FileAuditLog.open({
    ...{ directory, worker, fsync: 'batch', segmentBytesMax, segmentMsMax: 1e9, retainMs: 0 },
    clock: { nowMs: () => nowMs, monotonicUs: () => 0 },
    onNews: () => undefined,
  })
}

function decided(log: FileAuditLog, n: number, over: Record<string, unknown> = {}): void {
  nowMs += 1_000
  const record = {
    session: `s${n % 3}`,
    database: n % 2 === 0 ? 'shop' : 'hr',
    identity: {
      subject: `sub-${n % 4}`,
      user: `user${n % 4}`,
      groups: ['agents'],
      method: 'trust',
    },
    statement: { text: `SELECT ${n}`, fingerprint: `f${n % 5}`, kind: 'select' },
    access: { relations: ['public.users'], columns: ['public.users.ssn'] },
    decision: { action: 'allow', rule: 'regate.access.relations', decision_id: `d${n}` },
    outcome: null,
    ...over,
  }
  log.append('statement_decided', JSON.stringify(record).slice(1, -1))
  void log.commit()
}

function ended(log: FileAuditLog, n: number, sqlstate: string | null = null): void {
  nowMs += 10
  const record = {
    session: `s${n % 3}`,
    decision: { decision_id: `d${n}` },
    outcome: { forwarded: true, tag: 'SELECT 1', rows: 1, bytes: 10, sqlstate, duration_us: 5 },
  }
  log.append('statement_ended', JSON.stringify(record).slice(1, -1))
  void log.commit()
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}

interface Asked extends Record<string, string | string[] | undefined> {
  readonly order?: 'asc' | 'desc'
}

async function search(asked: Asked = {}, ends = false): Promise<Found[]> {
  const { order = 'asc', ...filter } = asked
  const options = { order, filter: auditFilter(filter, nowMs), ends }
  return await all(new AuditSearch(directory, options).records())
}

const ids = (found: readonly Found[]): string[] =>
  found.map(({ record }) => record.decision?.decision_id ?? record.type)

describe('lines', () => {
  it('are the same forwards and backwards, whatever their length', async () => {
    const log = open('w1', 1e9)
    for (let n = 0; n < 30; n++) {
      const text = 'x'.repeat(n % 7 === 0 ? 700_000 : n * 10)
      decided(log, n, { statement: { text } })
    }
    const path = log.path
    log.close()
    const forward = (await all(linesForward(path, 0))).flat()
    const backward = (await all(linesBackward(path, null))).flat()
    expect(forward).toHaveLength(31)
    const shown = ({ start, end, bytes }: (typeof forward)[number]): string =>
      `${start}-${end} ${bytes.length} ${bytes.toString('latin1', 0, 40)}`
    expect(backward.reverse().map(shown)).toEqual(forward.map(shown))
    const middle = forward[15]?.start ?? 0
    const rest = (await all(linesBackward(path, middle))).flat()
    expect(rest.reverse().map(shown)).toEqual(forward.slice(0, 15).map(shown))
  })
})

describe('search', () => {
  function fill(count = 40): void {
    const log = open()
    for (let n = 0; n < count; n++) {
      decided(log, n)
      ended(log, n, n === 7 ? '42P01' : null)
    }
    log.close()
    expect(segmentsOf(directory, 'w1').length).toBeGreaterThan(3)
  }

  it('finds by who, what, when', async () => {
    fill()
    expect(ids(await search({ user: 'user1' }))).toEqual(
      Array.from({ length: 10 }, (_, n) => `d${n * 4 + 1}`),
    )
    expect(ids(await search({ user: ['user1', 'sub-2'], database: 'hr' }))).toHaveLength(10)
    expect(ids(await search({ fingerprint: 'f3' }))).toHaveLength(8)
    expect(ids(await search({ session: 's1', decision: 'd4' }))).toEqual(['d4'])
    expect(ids(await search({ rule: 'regate.access' }))).toHaveLength(40)
    expect(ids(await search({ rule: 'regate.acc' }))).toEqual([])
    expect(ids(await search({ text: 'select 39' }))).toEqual(['d39'])
    for (const table of ['users', 'public.users', 'public.*', '*']) {
      expect(ids(await search({ table }))).toHaveLength(40)
    }
    expect(ids(await search({ table: 'sers' }))).toEqual([])
    expect(ids(await search({ table: '*s*r*' }))).toHaveLength(40)
    expect(ids(await search({ table: 'use*ers' }))).toEqual([])
    expect(ids(await search({ table: 'u.ers' }))).toEqual([])
    for (const column of ['ssn', 'users.ssn', 'public.users.ssn']) {
      expect(ids(await search({ column }))).toHaveLength(40)
    }
    const first = await search({ session: 's0' })
    const since = first[3]?.record.time
    const until = first[6]?.record.time
    const between = await search({ session: 's0', since, until })
    expect(ids(between)).toEqual(ids(first.slice(3, 6)))
    expect(ids(await search({ since: '5s', type: 'statement_decided' })).length).toBeLessThan(6)
  })

  it('finds the statement of an SQLSTATE that came at its end', async () => {
    fill()
    for (const order of ['asc', 'desc'] as const) {
      expect(ids(await search({ sqlstate: '42P01', order }))).toEqual(['d7'])
    }
    expect(ids(await search({ sqlstate: '42P01', user: 'user0' }))).toEqual([])
    expect(ids(await search({ sqlstate: '42P01', type: 'statement_ended' }))).toEqual(['d7'])
  })

  it('gives the same newest first', async () => {
    fill()
    const up = await search({ database: 'shop' })
    const down = await search({ database: 'shop', order: 'desc' })
    expect(ids(down.reverse())).toEqual(ids(up))
  })

  it('lets ends follow those they belong to, and no others', async () => {
    fill()
    const found = await search({ user: 'user1' }, true)
    expect(found).toHaveLength(20)
    const types = found.map(({ record }) => record.type)
    expect(types.filter((type) => type === 'statement_ended')).toHaveLength(10)
  })

  it('merges the chains of several workers by time', async () => {
    const [a, b] = [open('a'), open('b')]
    for (let n = 0; n < 30; n++) decided(n % 3 === 0 ? a : b, n)
    a.close()
    b.close()
    for (const order of ['asc', 'desc'] as const) {
      const found = ids(await search({ order, database: ['shop', 'hr'] }))
      const expected = Array.from({ length: 30 }, (_, n) => `d${n}`)
      expect(found).toEqual(order === 'asc' ? expected : expected.reverse())
    }
  })

  it('goes on from a cursor without a gap and without a repetition', async () => {
    const [a, b] = [open('a'), open('b')]
    for (let n = 0; n < 50; n++) decided(n % 2 === 0 ? a : b, n)
    a.close()
    b.close()
    for (const order of ['asc', 'desc'] as const) {
      const filter = auditFilter({ type: 'statement_decided' }, nowMs)
      const seen: string[] = []
      let cursor: string | null = null
      for (let page = 0; page < 100; page++) {
        const step: AuditSearch = new AuditSearch(directory, { order, filter, cursor })
        let count = 0
        for await (const one of step.records()) {
          seen.push(...ids([one]))
          if (++count === 7) break
        }
        cursor = step.cursor
        if (count < 7) break
      }
      const expected = Array.from({ length: 50 }, (_, n) => `d${n}`)
      expect(seen).toEqual(order === 'asc' ? expected : expected.reverse())
    }
  })

  it('pauses after so many bytes and says so', async () => {
    fill()
    const filter = auditFilter({ decision: 'd39' }, nowMs)
    let cursor: string | null = null
    let pages = 0
    for (; pages < 100; pages++) {
      const step: AuditSearch = new AuditSearch(directory, {
        ...{ order: 'asc', filter, cursor, bytesMax: 3_000 },
      })
      const found = await all(step.records())
      cursor = step.cursor
      if (found.length > 0) break
      expect(step.complete).toBe(false)
    }
    expect(pages).toBeGreaterThan(3)
  })

  it('looks ends up over segments', async () => {
    const log = open()
    for (let n = 0; n < 20; n++) decided(log, n)
    for (let n = 0; n < 20; n++) if (n !== 5) ended(log, n)
    log.close()
    const found = await search({ order: 'desc', type: 'statement_decided' })
    const ends = await endsOf(directory, found)
    expect(ends.size).toBe(19)
    expect(ends.get('d5')).toBeUndefined()
    expect(ends.get('d0')?.outcome).toMatchObject({ tag: 'SELECT 1', rows: 1 })
  })

  it('says which filter it does not understand', () => {
    expect(() => auditFilter({ since: 'soon' }, 0)).toThrow(/^since: /)
    expect(
      () => new AuditSearch(directory, { order: 'asc', filter: auditFilter({}, 0), cursor: 'x' }),
    ).toThrow(/^cursor: /)
  })
})
