/**
 * The audit log on disk: NDJSON segments, each record chained to the one before by SHA-256.
 *
 * Invariants: what `commit()` accepted is in the file (`batch`: written; `always`: synced) before it
 * returns or resolves; a batch that could not be written whole leaves no trace and no gap in the
 * chain; a record torn by a crash is cut off when the log is opened, and the log says so.
 * One chain per worker: the file's name says whose it is. Owns its files; nobody else writes them.
 */
import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { ProxyError, type Clock } from '../core/core.ts'
import type { AuditLog } from './audit.ts'
import { chained, genesis, tailOf, type Tail } from './chain.ts'
import { Checkpoints } from './checkpoint.ts'

export interface FileAuditOptions {
  readonly directory: string
  /** Names the chain: one per process that writes. */
  readonly worker: string
  readonly fsync: 'batch' | 'always'
  readonly segmentBytesMax: number
  readonly segmentMsMax: number
  /** Segments whose last record is older are deleted. */
  readonly retainMs: number
  readonly clock: Clock
  /** Something an operator should know: a torn record, a disk that is full again writable. */
  readonly onNews: (message: string, error: unknown) => void
}

interface Pending {
  readonly type: string
  readonly members: string
  readonly timeMs: number
}

/** How long a record that nobody commits may wait. */
const lingerMs = 20
/** `fsync: batch`: how often the file is synced in the background. */
const syncMs = 200

/** Writes are synchronous: one write of some hundred bytes to the page cache costs less than a turn. */
export class FileAuditLog implements AuditLog {
  readonly #options: FileAuditOptions
  readonly #checkpoints: Checkpoints
  #fd: number
  #path: string
  #bytes: number
  #openedMs: number
  #tail: Tail
  #pending: Pending[] = []
  #timer: NodeJS.Timeout | null = null
  #dirty = false
  #syncTimer: NodeJS.Timeout
  #syncing: Promise<void> | null = null
  #nextSync: Promise<void> | null = null
  #failing = false
  writtenCount = 0
  writtenBytes = 0
  failedCount = 0

  private constructor(options: FileAuditOptions, checkpoints: Checkpoints, found: Found) {
    this.#options = options
    this.#checkpoints = checkpoints
    this.#tail = found.tail
    this.#openedMs = options.clock.nowMs()
    this.#path = join(options.directory, segmentName(options.worker, found.segment))
    this.#fd = openSync(this.#path, 'a+')
    this.#bytes = statSync(this.#path).size
    this.#syncTimer = setInterval(() => {
      this.#syncInBackground()
    }, syncMs)
    this.#syncTimer.unref()
  }

  /**
   * Opens the worker's chain where it ended: cuts a torn last record off, and says so in the log.
   * Throws ProxyError('audit_unavailable') where the directory cannot be used.
   */
  static open(options: FileAuditOptions): FileAuditLog {
    try {
      mkdirSync(options.directory, { recursive: true, mode: 0o700 })
      const checkpoints = Checkpoints.open(options.directory)
      const found = findTail(options)
      const log = new FileAuditLog(options, checkpoints, found)
      if (found.tornBytes > 0) {
        options.onNews(`audit: a torn last record of ${found.tornBytes} bytes was cut off`, null)
        log.append('audit_repaired', `"torn_bytes":${found.tornBytes}`)
      }
      log.append(
        'audit_opened',
        `"worker":${JSON.stringify(options.worker)},"public_key":${JSON.stringify(checkpoints.publicKey)}`,
      )
      log.#write()
      log.#retain()
      return log
    } catch (error) {
      throw unavailable(error)
    }
  }

  /** The segment that is written now. */
  get path(): string {
    return this.#path
  }

  /** The last write failed: statements are refused until one succeeds. */
  get failing(): boolean {
    return this.#failing
  }

  append(type: string, members: string): void {
    this.#pending.push({ type, members, timeMs: this.#options.clock.nowMs() })
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.#flushQuietly()
    }, lingerMs).unref()
  }

  commit(): void | Promise<void> {
    this.#write()
    if (this.#options.fsync === 'always') return this.#groupSync()
  }

  /** Writes what is there, a signed checkpoint, and closes. */
  close(): void {
    clearInterval(this.#syncTimer)
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    this.#flushQuietly()
    this.#checkpoint()
    closeSync(this.#fd)
  }

  #flushQuietly(): void {
    try {
      this.#write()
    } catch (error) {
      this.#options.onNews('audit: records could not be written', error)
    }
  }

  /** Writes the batch in one go; throws audit_unavailable and forgets what asked to run. */
  #write(): void {
    const batch = this.#pending
    if (batch.length === 0) return
    this.#pending = []
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    let tail = this.#tail
    let text = ''
    for (const record of batch) {
      const next = chained(tail, this.#options.worker, record)
      text += next.line
      tail = next.tail
    }
    const bytes = Buffer.from(text)
    try {
      this.#append(bytes)
    } catch (error) {
      this.#failedBatch(batch)
      throw unavailable(error)
    }
    if (this.#failing) this.#options.onNews('audit: records can be written again', null)
    this.#failing = false
    this.#tail = tail
    this.#bytes += bytes.length
    this.#dirty = true
    this.writtenCount += batch.length
    this.writtenBytes += bytes.length
    if (this.#due()) this.#rotate()
  }

  /** All or nothing: a short write is taken back. */
  #append(bytes: Buffer): void {
    let at = 0
    try {
      while (at < bytes.length) at += writeSync(this.#fd, bytes, at)
    } catch (error) {
      if (at > 0) ftruncateSync(this.#fd, this.#bytes)
      throw error
    }
  }

  /** A decision that is not on record does not run; what has ended stays to be told. */
  #failedBatch(batch: readonly Pending[]): void {
    this.#failing = true
    this.failedCount++
    const kept = batch.filter((record) => record.type !== 'statement_decided')
    this.#pending = [...kept.slice(-keptCountMax), ...this.#pending]
  }

  #due(): boolean {
    const { segmentBytesMax, segmentMsMax, clock } = this.#options
    return this.#bytes >= segmentBytesMax || clock.nowMs() - this.#openedMs >= segmentMsMax
  }

  /** Seals the segment with a checkpoint and starts the next; the chain goes on in it. */
  #rotate(): void {
    this.#checkpoint()
    fdatasyncSync(this.#fd)
    closeSync(this.#fd)
    const { directory, worker, clock } = this.#options
    this.#path = join(directory, segmentName(worker, segmentNumber(this.#path) + 1))
    this.#fd = openSync(this.#path, 'a+')
    this.#bytes = 0
    this.#openedMs = clock.nowMs()
    this.#retain()
  }

  #checkpoint(): void {
    try {
      this.#checkpoints.sign(this.#options.worker, this.#tail, this.#options.clock.nowMs())
    } catch (error) {
      this.#options.onNews('audit: a checkpoint could not be written', error)
    }
  }

  #retain(): void {
    const { directory, worker, retainMs, clock } = this.#options
    if (retainMs <= 0) return
    for (const name of segmentsOf(directory, worker)) {
      const path = join(directory, name)
      if (path !== this.#path && clock.nowMs() - statSync(path).mtimeMs > retainMs) unlinkSync(path)
    }
  }

  #syncInBackground(): void {
    if (!this.#dirty || this.#syncing !== null) return
    void this.#groupSync().catch((error: unknown) => {
      this.#options.onNews('audit: the file could not be synced', error)
    })
  }

  /** One sync serves everybody whose record was written before it began. */
  #groupSync(): Promise<void> {
    if (this.#syncing === null) {
      this.#dirty = false
      this.#syncing = sync(this.#fd).finally(() => {
        this.#syncing = null
      })
      return this.#syncing
    }
    this.#nextSync ??= this.#syncing
      .catch(() => undefined)
      .then(() => {
        this.#nextSync = null
        return this.#groupSync()
      })
    return this.#nextSync
  }
}

/** Records kept while the disk is full. */
const keptCountMax = 10_000

function sync(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    fdatasync(fd, (error) => {
      if (error === null) resolve()
      else reject(unavailable(error))
    })
  })
}

function unavailable(error: unknown): ProxyError {
  if (error instanceof ProxyError) return error
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
  const message =
    code === 'ENOSPC' || code === 'EDQUOT'
      ? 'the audit log cannot be written: there is no room on its disk'
      : `the audit log cannot be written (${code})`
  return new ProxyError('audit_unavailable', message, {
    hint: 'Nothing was run. Tell the people who operate regate; send the statement again later.',
    cause: error,
  })
}

interface Found {
  readonly segment: number
  readonly tail: Tail
  readonly tornBytes: number
}

/** Where the worker's chain ends; a torn last line is cut off. */
function findTail(options: FileAuditOptions): Found {
  const names = segmentsOf(options.directory, options.worker)
  for (let index = names.length - 1; index >= 0; index--) {
    const name = names[index] ?? ''
    const path = join(options.directory, name)
    const content = readFileSync(path)
    const end = content.lastIndexOf(0x0a) + 1
    const tornBytes = content.length - end
    if (tornBytes > 0) {
      const fd = openSync(path, 'r+')
      ftruncateSync(fd, end)
      fdatasyncSync(fd)
      closeSync(fd)
    }
    if (end === 0 && index > 0) continue
    const tail = tailOf(content.subarray(0, end)) ?? genesis(options.worker)
    return { segment: segmentNumber(name), tail, tornBytes }
  }
  return { segment: 1, tail: genesis(options.worker), tornBytes: 0 }
}

/** `audit-<worker>-00000001.ndjson` */
export function segmentName(worker: string, number: number): string {
  return `audit-${worker}-${String(number).padStart(8, '0')}.ndjson`
}

function segmentNumber(name: string): number {
  return Number(/-(\d+)\.ndjson$/.exec(name)?.[1] ?? 0)
}

/** The worker's segments in order. */
export function segmentsOf(directory: string, worker: string): readonly string[] {
  return readdirSync(directory)
    .filter(
      (name) =>
        name.startsWith(`audit-${worker}-`) &&
        /^\d+\.ndjson$/.test(name.slice(`audit-${worker}-`.length)),
    )
    .sort()
}
