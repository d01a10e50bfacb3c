/**
 * Searching the log: a stream over the segments of all workers, merged by time, forwards or backwards,
 * that can be stopped and gone on with. Nothing is indexed: what cannot match is not parsed, segments
 * outside the time asked for are not read.
 *
 * `sqlstate` belongs to two records: a refusal, or the end of a statement. For the latter the decided
 * record is looked up near its end; it comes where the statement ended.
 */
import { statSync } from 'node:fs'
import {
  FilterError,
  matcher,
  needlesOf,
  type AuditFilter,
  type AuditOutcome,
  type AuditRecord,
} from './filter.ts'
import { linesBackward, linesForward, type Line } from './lines.ts'
import { chainsOf, type Segment } from './segments.ts'

export type Order = 'asc' | 'desc'

/** A record and where it is. */
export interface Found {
  readonly record: AuditRecord
  /** Its line without the newline. */
  readonly bytes: Buffer
  readonly segment: Segment
  readonly start: number
  readonly end: number
}

export interface SearchOptions {
  readonly order: Order
  readonly filter: AuditFilter
  /** From an earlier search with the same order and filter. */
  readonly cursor?: string | null
  /** After reading so much the search pauses: `complete` is false. */
  readonly bytesMax?: number
  /** Ends of statements come as records of their own, behind those they belong to. */
  readonly ends?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (bytesRead: number, bytesTotal: number) => void
}

/** Clocks may be set back a little; a chain's times are trusted to this. */
const slackMs = 10 * 60_000
/** How far from a decided record its end is looked for, and the other way round. */
export const windowBytes = 16 * 1024 * 1024
const followedCountMax = 100_000

/** One chain's lines in the order of the search. */
class Cursor {
  readonly segments: readonly Segment[]
  readonly #order: Order
  #index: number
  #offset: number | null
  #lines: readonly Line[] = []
  #at = 0
  #source: AsyncGenerator<readonly Line[]> | null = null
  line: Line | null = null
  time = ''
  bytesRead = 0

  /** Goes on at `position`: number of the segment and offset in it. */
  constructor(
    segments: readonly Segment[],
    order: Order,
    position: readonly [number, number] | null,
  ) {
    this.segments = segments
    this.#order = order
    this.#index = order === 'asc' ? 0 : segments.length - 1
    this.#offset = order === 'asc' ? 0 : null
    if (position === null) return
    const [number, offset] = position
    const same = segments.findIndex((segment) => segment.number === number)
    if (same !== -1) {
      this.#index = same
      this.#offset = offset
      return
    }
    // Retention has taken it: the next one in this direction.
    const later = segments.findIndex((segment) => segment.number > number)
    const beyond = later === -1 ? segments.length : later
    this.#index = order === 'asc' ? beyond : beyond - 1
  }

  get segment(): Segment | null {
    return this.segments[this.#index] ?? null
  }

  get position(): readonly [number, number] | null {
    const { segment } = this
    if (segment === null) return null
    if (this.line === null) return this.#offset === null ? null : [segment.number, this.#offset]
    return [segment.number, this.#order === 'asc' ? this.line.start : this.line.end]
  }

  /** To the next line; false at the end of the chain. */
  async next(): Promise<boolean> {
    for (;;) {
      const line = this.#lines[this.#at]
      if (line !== undefined) {
        this.#at++
        this.line = line
        this.#offset = this.#order === 'asc' ? line.end : line.start
        this.time = timeOf(line.bytes)
        this.bytesRead += line.bytes.length + 1
        return true
      }
      const { segment } = this
      if (segment === null) {
        this.line = null
        return false
      }
      this.#source ??=
        this.#order === 'asc'
          ? linesForward(segment.path, this.#offset ?? 0)
          : linesBackward(segment.path, this.#offset)
      const chunk = await this.#source.next()
      if (chunk.done !== true) {
        this.#lines = chunk.value
        this.#at = 0
        continue
      }
      this.#source = null
      this.line = null
      const last = this.#index === (this.#order === 'asc' ? this.segments.length - 1 : 0)
      // The newest segment grows: what comes later is behind where it ended now.
      if (last && this.#order === 'asc') return false
      this.#index += this.#order === 'asc' ? 1 : -1
      this.#offset = this.#order === 'asc' ? 0 : null
    }
  }

  async close(): Promise<void> {
    await this.#source?.return(undefined)
  }
}

/** The time of a line as it stands there; '' where it has none. */
function timeOf(bytes: Buffer): string {
  const head = bytes.toString('latin1', 0, Math.min(bytes.length, 260))
  const at = head.indexOf('","time":"')
  return at === -1 ? '' : head.slice(at + 10, at + 34)
}

/** One search. records() once; `cursor` and `complete` after or while it runs. */
export class AuditSearch {
  readonly #options: SearchOptions
  readonly #chains: Cursor[]
  readonly #directory: string
  #paused = false

  /** Throws FilterError for a cursor that is none; and where the directory cannot be read. */
  constructor(directory: string, options: SearchOptions) {
    this.#options = options
    this.#directory = directory
    const { order, filter, cursor = null } = options
    const positions = cursor === null ? null : decodeCursor(cursor, order)
    this.#chains = [...chainsOf(directory).entries()]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([worker, segments]) => {
        const inTime = segments.filter((segment) => mayHold(segment, filter))
        return new Cursor(inTime, order, positions?.get(worker) ?? null)
      })
  }

  /** Where to go on; null when everything was read. */
  get cursor(): string | null {
    const positions: Record<string, readonly [number, number]> = {}
    let open = false
    for (const chain of this.#chains) {
      const { position, segments } = chain
      const worker = segments[0]?.worker
      if (worker === undefined || position === null) continue
      positions[worker] = position
      open = true
    }
    if (!open) return null
    const text = JSON.stringify({ order: this.#options.order, positions })
    return Buffer.from(text).toString('base64url')
  }

  /** False where the search stopped because it had read enough. */
  get complete(): boolean {
    return !this.#paused
  }

  /** Bytes in the segments that are looked at. */
  get bytesTotal(): number {
    let total = 0
    for (const { segments } of this.#chains) {
      for (const { path } of segments) total += statSync(path).size
    }
    return total
  }

  async *records(): AsyncGenerator<Found> {
    const { filter, order, signal, onProgress, bytesMax = Number.POSITIVE_INFINITY } = this.#options
    const total = onProgress === undefined ? 0 : this.bytesTotal
    const match = this.#matches()
    const open: Cursor[] = []
    let read = 0
    let toldAt = 0
    try {
      for (const chain of this.#chains) if (await chain.next()) open.push(chain)
      while (open.length > 0) {
        if (signal?.aborted === true) return
        const chain = open.reduce((best, one) => (before(one, best, order) ? one : best))
        const { line, segment } = chain
        if (line === null || segment === null || this.#isPast(chain)) {
          open.splice(open.indexOf(chain), 1)
          continue
        }
        if (read > bytesMax) {
          this.#paused = true
          return
        }
        const inTime =
          (filter.since === null || chain.time >= filter.since) &&
          (filter.until === null || chain.time < filter.until)
        const found = inTime ? await match(line, segment) : null
        read += line.bytes.length + 1
        if (!(await chain.next())) open.splice(open.indexOf(chain), 1)
        if (found !== null) yield found
        if (onProgress !== undefined && read - toldAt > progressBytes) {
          toldAt = read
          onProgress(read, total)
        }
      }
      onProgress?.(total, total)
    } finally {
      for (const chain of this.#chains) await chain.close()
    }
  }

  /** Nothing of this chain can match any more. */
  #isPast(chain: Cursor): boolean {
    const { filter, order } = this.#options
    if (chain.time === '') return false
    if (order === 'asc') return filter.until !== null && chain.time > shifted(filter.until, slackMs)
    return filter.since !== null && chain.time < shifted(filter.since, -slackMs)
  }

  /** Finds the record that a line stands for: itself, or the decided record of an end. */
  #matches(): (line: Line, segment: Segment) => Promise<Found | null> {
    const { filter, ends = false } = this.#options
    const matches = matcher(filter)
    const needles = needlesOf(filter)
    const sqlstates = filter.values.get('sqlstate')
    const listsEnds = filter.values.get('type')?.includes('statement_ended') ?? false
    const followed = new Set<string>()
    return async (line, segment) => {
      const isEnd = hasType(line.bytes, 'statement_ended')
      if (isEnd && sqlstates !== undefined) {
        const end = parsed(line, segment)
        const state = end?.record.outcome?.sqlstate ?? ''
        if (end === null || !sqlstates.includes(state)) return null
        if (listsEnds) return matches(end.record) ? end : null
        const decided = await this.#decidedBefore(end)
        return decided !== null && matches(decided.record) ? decided : null
      }
      if (isEnd && !listsEnds) {
        if (!ends || followed.size === 0) return null
        const end = parsed(line, segment)
        return end !== null && followed.delete(end.record.decision?.decision_id ?? '') ? end : null
      }
      if (needles?.every((needle) => !line.bytes.includes(needle)) === true) return null
      const found = parsed(line, segment)
      if (found === null || !matches(found.record)) return null
      const refusedWith = found.record.outcome?.sqlstate ?? ''
      if (sqlstates?.includes(refusedWith) === false) return null
      const id = found.record.decision?.decision_id
      if (ends && id !== undefined && found.record.outcome === null) {
        followed.add(id)
        if (followed.size > followedCountMax) followed.delete(followed.values().next().value ?? '')
      }
      return found
    }
  }

  async #decidedBefore(end: Found): Promise<Found | null> {
    const id = end.record.decision?.decision_id
    if (id === undefined) return null
    const needle = Buffer.from(`"decision_id":"${id}"`)
    let left = windowBytes
    const chain = chainsOf(this.#directory).get(end.segment.worker) ?? []
    const older = chain.filter(({ number }) => number <= end.segment.number).reverse()
    for (const segment of older) {
      const to = segment.number === end.segment.number ? end.start : null
      for await (const lines of linesBackward(segment.path, to)) {
        for (const line of lines) {
          left -= line.bytes.length
          if (left < 0) return null
          if (!hasType(line.bytes, 'statement_decided') || !line.bytes.includes(needle)) continue
          const found = parsed(line, segment)
          if (found?.record.decision?.decision_id === id) return found
        }
      }
    }
    return null
  }
}

const progressBytes = 4 * 1024 * 1024

function before(a: Cursor, b: Cursor, order: Order): boolean {
  return order === 'asc' ? a.time < b.time : a.time > b.time
}

function shifted(time: string, ms: number): string {
  return new Date(Date.parse(time) + ms).toISOString()
}

/** By its file's time alone. */
function mayHold(segment: Segment, filter: AuditFilter): boolean {
  if (filter.since === null) return true
  return statSync(segment.path).mtimeMs >= Date.parse(filter.since) - slackMs
}

function hasType(bytes: Buffer, type: string): boolean {
  return bytes.subarray(0, 300).includes(`"type":"${type}"`)
}

function parsed({ bytes, start, end }: Line, segment: Segment): Found | null {
  try {
    const record = JSON.parse(bytes.toString('utf8')) as AuditRecord
    return { record, bytes, segment, start, end }
  } catch {
    // A line that is no record is for `verify` to find.
    return null
  }
}

function decodeCursor(
  cursor: string,
  order: Order,
): ReadonlyMap<string, readonly [number, number]> {
  try {
    const { order: made, positions } = JSON.parse(
      Buffer.from(cursor, 'base64url').toString('utf8'),
    ) as { order: string; positions: Record<string, [number, number]> }
    const entries = Object.entries(positions)
    const sound = entries.every(([, position]) =>
      position.every((n) => Number.isSafeInteger(n) && n >= 0),
    )
    if (made === order && sound) return new Map(entries)
  } catch {
    // Said below.
  }
  throw new FilterError('cursor: not the `next` of a page with this order')
}

/** The end of a statement. */
export interface Ended {
  readonly time: string
  readonly outcome: AuditOutcome | null
  readonly result: unknown
}

/** The ends of decided records, by decision id, where they are within reach. */
export async function endsOf(
  directory: string,
  decided: readonly Found[],
): Promise<ReadonlyMap<string, Ended>> {
  const ends = new Map<string, Ended>()
  const chains = new Map<string, Found[]>()
  for (const found of decided) {
    const { type, outcome } = found.record
    if (type !== 'statement_decided' || (outcome ?? null) !== null) continue
    const { worker } = found.segment
    chains.set(worker, [...(chains.get(worker) ?? []), found])
  }
  const known = chainsOf(directory)
  for (const [worker, wanted] of chains) {
    wanted.sort((a, b) => a.segment.number - b.segment.number || a.start - b.start)
    await sweep(known.get(worker) ?? [], wanted, ends)
  }
  return ends
}

/** Reads on from each wanted record, once over what several of them share. */
async function sweep(
  segments: readonly Segment[],
  wanted: readonly Found[],
  ends: Map<string, Ended>,
): Promise<void> {
  let index = 0
  while (index < wanted.length) {
    const first = wanted[index]
    if (first === undefined) return
    let read = 0
    const missing = new Map<string, number>()
    const take = (segment: Segment, to: number): void => {
      for (; index < wanted.length; index++) {
        const next = wanted[index]
        const number = next?.segment.number ?? 0
        if (next === undefined || number > segment.number) return
        if (number === segment.number && next.start >= to) return
        missing.set(next.record.decision?.decision_id ?? '', read)
      }
    }
    reading: for (const segment of segments) {
      if (segment.number < first.segment.number) continue
      const from = segment.number === first.segment.number ? first.start : 0
      for await (const lines of linesForward(segment.path, from)) {
        for (const line of lines) {
          read += line.bytes.length
          take(segment, line.end)
          if (hasType(line.bytes, 'statement_ended')) note(line, segment, missing, ends)
          if (missing.size === 0) break reading
        }
        for (const [id, since] of missing) if (read - since > windowBytes) missing.delete(id)
        if (missing.size === 0) break reading
      }
    }
    // Records that lie in segments which are gone are passed over.
    if (wanted[index] === first) index++
  }
}

function note(
  line: Line,
  segment: Segment,
  missing: Map<string, number>,
  ends: Map<string, Ended>,
): void {
  const record = parsed(line, segment)?.record
  const id = record?.decision?.decision_id ?? ''
  if (record === undefined || !missing.delete(id)) return
  ends.set(id, {
    time: record.time,
    outcome: record.outcome ?? null,
    result: record.result ?? null,
  })
}
