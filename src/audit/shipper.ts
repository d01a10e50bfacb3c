/**
 * Carries records from the segments to one sink. It reads the files, never the hot path: a slow or dead
 * sink delays nobody, and what the files have is not lost to it. Where it was is kept beside the log, so a
 * restart goes on there.
 *
 * At least once: after a crash between a delivery and the note of it a batch comes again. Every record has
 * its `hash`, by which a receiver knows it. In memory is never more than one batch.
 */
import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Clock } from '../core/core.ts'
import type { AuditRecord } from './filter.ts'
import { linesForward } from './lines.ts'
import { chainsOf, type Segment } from './segments.ts'

export interface ShippedRecord {
  readonly record: AuditRecord & { readonly hash?: string }
  /** Its line as it is in the log, without the newline. */
  readonly line: string
}

/** Where records go. One delivery at a time. */
export interface AuditSink {
  /** Names its position file; the same after a restart. */
  readonly name: string
  /** Resolves when the receiver has them all; rejects where they must be sent again. */
  deliver(records: readonly ShippedRecord[], signal: AbortSignal): Promise<void>
  close(): Promise<void> | void
}

export interface ShipperOptions {
  readonly directory: string
  readonly sink: AuditSink
  readonly clock: Clock
  /** A delivery failed, or works again, or retention was faster. */
  readonly onNews: (message: string, error: unknown) => void
  readonly batchBytesMax?: number
  readonly batchCountMax?: number
  readonly pollMs?: number
  readonly retryMsMax?: number
}

export interface ShipperStatus {
  readonly sentCount: number
  readonly failureCount: number
  /** Records that retention deleted before the sink had them. */
  readonly lostCount: number
  readonly failing: boolean
  /** Bytes in the log that the sink does not have. */
  readonly lagBytes: number
  /** Age of the oldest record that is waiting to be taken; 0 where none is. */
  readonly lagMs: number
}

interface Position {
  readonly segment: number
  readonly offset: number
  /** Of the last record delivered. */
  readonly sequence: number
}

const batchBytesDefault = 1024 * 1024
const batchCountDefault = 1_000
const pollMsDefault = 250
const retryMsMin = 250
const retryMsMaxDefault = 30_000

interface Batch {
  readonly records: readonly ShippedRecord[]
  readonly after: Position
}

export class Shipper {
  readonly #options: ShipperOptions
  readonly #path: string
  readonly #positions: Map<string, Position>
  readonly #stop = new AbortController()
  readonly #running: Promise<void>
  #wake: () => void = () => undefined
  #sentCount = 0
  #failureCount = 0
  #lostCount = 0
  #failing = false
  #waitingSinceMs: number | null = null

  constructor(options: ShipperOptions) {
    this.#options = options
    const directory = join(options.directory, 'sinks')
    mkdirSync(directory, { recursive: true, mode: 0o700 })
    this.#path = join(directory, `${options.sink.name}.json`)
    this.#positions = readPositions(this.#path)
    this.#running = this.#run()
  }

  get status(): ShipperStatus {
    return {
      sentCount: this.#sentCount,
      failureCount: this.#failureCount,
      ...{ lostCount: this.#lostCount, failing: this.#failing, lagBytes: this.#lagBytes() },
      lagMs:
        this.#waitingSinceMs === null
          ? 0
          : Math.max(0, this.#options.clock.nowMs() - this.#waitingSinceMs),
    }
  }

  /** Sends what is there once more, for at most so long, and ends. */
  async close(waitMs = 2_000): Promise<void> {
    const timer = setTimeout(() => {
      this.#stop.abort()
      this.#wake()
    }, waitMs)
    this.#closing = true
    this.#wake()
    await this.#running
    clearTimeout(timer)
    await this.#options.sink.close()
  }

  #closing = false

  async #run(): Promise<void> {
    for (;;) {
      let moved = false
      try {
        moved = await this.#round()
      } catch (error) {
        this.#options.onNews(`audit sink ${this.#options.sink.name}: the log cannot be read`, error)
      }
      if (this.#stop.signal.aborted || (this.#closing && !moved)) return
      if (!moved) await this.#pause(this.#options.pollMs ?? pollMsDefault)
    }
  }

  /** One batch of each chain; false where there was nothing new. */
  async #round(): Promise<boolean> {
    let moved = false
    for (const [worker, segments] of chainsOf(this.#options.directory)) {
      if (this.#stop.signal.aborted) return false
      const batch = await this.#nextBatch(worker, segments)
      if (batch === null) continue
      if (batch.records.length > 0 && !(await this.#deliver(batch))) return false
      this.#positions.set(worker, batch.after)
      this.#keepPositions()
      moved = true
    }
    return moved
  }

  /** Null where nothing is behind the chain's position. */
  async #nextBatch(worker: string, segments: readonly Segment[]): Promise<Batch | null> {
    const known = this.#positions.get(worker) ?? { segment: 0, offset: 0, sequence: 0 }
    const index = segments.findIndex(({ number }) => number >= known.segment)
    const segment = segments[index]
    if (segment === undefined) return null
    const sameSegment = segment.number === known.segment
    const from = sameSegment ? known.offset : 0
    const { batchBytesMax = batchBytesDefault, batchCountMax = batchCountDefault } = this.#options
    const records: ShippedRecord[] = []
    let [bytes, offset, sequence] = [0, from, known.sequence]
    reading: for await (const lines of linesForward(segment.path, from)) {
      for (const line of lines) {
        if (records.length > 0 && bytes + line.bytes.length > batchBytesMax) break reading
        bytes += line.bytes.length
        offset = line.end
        const shipped = parsed(line.bytes)
        if (shipped !== null) {
          records.push(shipped)
          sequence = this.#follow(sequence, shipped)
        }
        if (records.length >= batchCountMax) break reading
      }
    }
    if (offset > from) {
      return { records, after: { segment: segment.number, offset, sequence } }
    }
    const next = segments[index + 1]
    // The next segment is there only when this one is complete.
    if (next === undefined) return null
    return { records: [], after: { segment: next.number, offset: 0, sequence } }
  }

  /** Counts what retention took before it was sent. */
  #follow(before: number, { record }: ShippedRecord): number {
    const sequence = Number(/-(\d+)$/.exec(record.id)?.[1] ?? before + 1)
    if (before > 0 && sequence > before + 1) {
      const lost = sequence - before - 1
      this.#lostCount += lost
      const { name } = this.#options.sink
      this.#options.onNews(
        `audit sink ${name}: ${lost} records were deleted before it had them`,
        null,
      )
    }
    return sequence
  }

  /** Tries until it works; false where the shipper ends first. */
  async #deliver({ records }: Batch): Promise<boolean> {
    const { sink, onNews, retryMsMax = retryMsMaxDefault } = this.#options
    const { signal } = this.#stop
    this.#waitingSinceMs = Date.parse(records[0]?.record.time ?? '') || null
    for (let attempt = 0; ; attempt++) {
      try {
        await sink.deliver(records, signal)
        if (this.#failing) onNews(`audit sink ${sink.name}: delivers again`, null)
        this.#failing = false
        this.#sentCount += records.length
        this.#waitingSinceMs = null
        return true
      } catch (error) {
        this.#failureCount++
        if (!this.#failing) onNews(`audit sink ${sink.name}: not delivered, tried again`, error)
        this.#failing = true
      }
      if (signal.aborted || this.#closing) return false
      const backoff = Math.min(retryMsMax, retryMsMin * 2 ** Math.min(attempt, 16))
      await this.#pause(backoff * (0.5 + Math.random() / 2))
    }
  }

  async #pause(ms: number): Promise<void> {
    if (this.#closing) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms)
      timer.unref()
      const wake = (): void => {
        clearTimeout(timer)
        resolve()
      }
      this.#wake = wake
    })
  }

  #keepPositions(): void {
    const text = JSON.stringify(Object.fromEntries(this.#positions))
    writeFileSync(`${this.#path}.new`, text, { mode: 0o600 })
    renameSync(`${this.#path}.new`, this.#path)
  }

  #lagBytes(): number {
    let bytes = 0
    try {
      for (const [worker, segments] of chainsOf(this.#options.directory)) {
        const known = this.#positions.get(worker)
        for (const { number, path } of segments) {
          if (number < (known?.segment ?? 0)) continue
          const from = number === known?.segment ? known.offset : 0
          bytes += Math.max(0, statSync(path).size - from)
        }
      }
    } catch {
      // A segment that retention takes meanwhile is no lag.
    }
    return bytes
  }
}

function parsed(bytes: Buffer): ShippedRecord | null {
  const line = bytes.toString('utf8')
  try {
    return { record: JSON.parse(line) as ShippedRecord['record'], line }
  } catch {
    // A line that is no record is for `verify` to find.
    return null
  }
}

function readPositions(path: string): Map<string, Position> {
  try {
    const text = readFileSync(path, 'utf8')
    return new Map(Object.entries(JSON.parse(text) as Record<string, Position>))
  } catch {
    // None yet: everything that the log has is sent.
    return new Map()
  }
}
