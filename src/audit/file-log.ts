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
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  statSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { ProxyError, type Clock } from '../core/core.ts'
import type { AuditLog, RecordMembers } from './audit.ts'
import { ChainWriter, genesis, linkOf, type ChainRecord, type Tail } from './chain.ts'
import { Checkpoints } from './checkpoint.ts'
import { ChainLock } from './lock.ts'
import { endOf, segmentName, segmentsOf } from './segments.ts'

export interface FileAuditOptions {
  readonly directory: string
  /** Names the chain: one per process that writes. Letters, digits, `.`, `_` and `-`. */
  readonly worker: string
  readonly fsync: 'batch' | 'always'
  readonly segmentBytesMax: number
  readonly segmentMsMax: number
  /** Segments whose last record is older are deleted; 0 keeps all. */
  readonly retainMs: number
  readonly clock: Clock
  /** Something an operator should know: a torn record, a disk that is full or writable again. */
  readonly onNews: (message: string, error: unknown) => void
  /** Between checkpoints while records are written. */
  readonly checkpointMs?: number
  /** fdatasync; a test gives a slow one. */
  readonly sync?: (fd: number, done: (error: Error | null) => void) => void
}

/** How long a record that nobody commits may wait. */
const lingerMs = 20
/** `fsync: batch`: how often the file is synced in the background. */
const syncMs = 200
const checkpointMsDefault = 10_000
const touchMs = 1_000
const retainEveryMs = 60_000
/** While records cannot be written, how often that is tried again. */
const retryMs = 100
/** Records kept while they cannot be written: ends of statements and sessions. */
const keptCountMax = 10_000
/** And characters of them. */
const keptLengthMax = 64 * 1024 * 1024

/** Writes are synchronous: one write of some hundred bytes to the page cache costs less than a turn. */
export class FileAuditLog implements AuditLog {
  readonly #options: FileAuditOptions
  readonly #checkpoints: Checkpoints
  readonly #lock: ChainLock
  readonly #writer: ChainWriter
  #fd: number
  #segment: number
  #path: string
  #bytes: number
  #openedMs: number
  #tail: Tail
  /** What the last checkpoint said. */
  #checkpointed = 0
  #pending: ChainRecord[] = []
  #timer: NodeJS.Timeout | null = null
  #dirty = false
  readonly #chores: NodeJS.Timeout
  #syncing: Promise<void> | null = null
  #nextSync: Promise<void> | null = null
  #failure: ProxyError | null = null
  #retryAtMs = 0
  /** Since records could not be written: what could not be kept either. */
  #lostCount = 0
  #refusedCount = 0
  /** Bytes of a batch that could not be taken back lie behind `#bytes`. */
  #torn = false
  #choreMs = { checkpoint: 0, touch: 0, retain: 0 }
  writtenCount = 0
  writtenBytes = 0
  failedCount = 0

  private constructor(
    options: FileAuditOptions,
    checkpoints: Checkpoints,
    lock: ChainLock,
    found: Found,
  ) {
    this.#options = options
    this.#checkpoints = checkpoints
    this.#lock = lock
    this.#writer = new ChainWriter(options.worker)
    this.#tail = found.tail
    this.#openedMs = options.clock.nowMs()
    this.#segment = found.segment
    this.#path = join(options.directory, segmentName(options.worker, found.segment))
    this.#fd = openSync(this.#path, 'a+', 0o600)
    this.#bytes = fstatSync(this.#fd).size
    this.#chores = setInterval(() => {
      this.#doChores()
    }, syncMs)
    this.#chores.unref()
  }

  /**
   * Opens the worker's chain where it ended: cuts a torn last record off, and says so in the log.
   * Throws ProxyError('audit_unavailable') where the directory cannot be used, or another process
   * writes this chain.
   */
  static open(options: FileAuditOptions): FileAuditLog {
    const { directory, worker, onNews } = options
    let lock: ChainLock | null = null
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 })
      lock = ChainLock.take(directory, worker)
      const checkpoints = Checkpoints.open(directory)
      const found = findTail(options)
      const log = new FileAuditLog(options, checkpoints, lock, found)
      if (found.tornBytes > 0) {
        onNews(`audit: a torn last record of ${found.tornBytes} bytes was cut off`, null)
        log.append('audit_repaired', `"torn_bytes":${found.tornBytes}`)
      }
      if (found.unreadable !== null) {
        onNews(`audit: ${found.unreadable} does not end with a record; it is left as it is`, null)
        log.append('audit_repaired', `"unreadable":${JSON.stringify(found.unreadable)}`)
      }
      log.append(
        'audit_opened',
        `"worker":${JSON.stringify(worker)},"public_key":${JSON.stringify(checkpoints.publicKey)}`,
      )
      log.#write()
      log.#retain()
      return log
    } catch (error) {
      lock?.release()
      throw unavailable(error)
    }
  }

  /** The segment that is written now. */
  get path(): string {
    return this.#path
  }

  /** The last write failed: statements are refused until one succeeds. */
  get failing(): boolean {
    return this.#failure !== null
  }

  append(type: string, members: RecordMembers): void {
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
    clearInterval(this.#chores)
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#retryAtMs = 0
    this.#flushQuietly()
    if (this.#timer !== null) clearTimeout(this.#timer)
    try {
      fdatasyncSync(this.#fd)
      this.#checkpoint(this.#tail)
    } catch (error) {
      this.#options.onNews('audit: the file could not be synced', error)
    }
    closeSync(this.#fd)
    this.#lock.release()
  }

  #flushQuietly(): void {
    try {
      this.#write()
    } catch {
      // The news was told when it began to fail; what is kept is tried again.
      this.#timer ??= setTimeout(() => {
        this.#timer = null
        this.#flushQuietly()
      }, retryMs).unref()
    }
  }

  /** Writes the batch in one go; throws audit_unavailable and forgets what asked to run. */
  #write(): void {
    const batch = this.#pending
    if (batch.length === 0) return
    this.#pending = []
    // The timer of append() stays: making one anew for every batch costs more than the batch's hash.
    if (this.#failure !== null && this.#options.clock.nowMs() < this.#retryAtMs) {
      this.#keep(batch)
      throw this.#failure
    }
    if (this.#failure !== null) batch.push(this.#resumed())
    let lines: ReturnType<ChainWriter['lines']>
    try {
      lines = this.#writer.lines(this.#tail, batch)
      this.#append(lines.bytes)
    } catch (error) {
      if (this.#failure !== null) batch.pop()
      this.#failed(batch, error)
      throw unavailable(error)
    }
    if (this.#failure !== null) this.#options.onNews('audit: records can be written again', null)
    this.#failure = null
    this.#tail = lines.tail
    this.#bytes += lines.bytes.length
    this.#dirty = true
    this.writtenCount += batch.length
    this.writtenBytes += lines.bytes.length
    if (this.#due()) this.#rotate()
  }

  /** All or nothing: a short write is taken back. */
  #append(bytes: Buffer): void {
    if (this.#torn) ftruncateSync(this.#fd, this.#bytes)
    this.#torn = false
    let at = 0
    try {
      while (at < bytes.length) at += writeSync(this.#fd, bytes, at, bytes.length - at)
    } catch (error) {
      if (at > 0) {
        this.#torn = true
        ftruncateSync(this.#fd, this.#bytes)
        this.#torn = false
      }
      throw error
    }
  }

  /** What happened while nothing could be written. */
  #resumed(): ChainRecord {
    const members = `"refused_statements":${this.#refusedCount},"lost_records":${this.#lostCount}`
    return { type: 'audit_resumed', members, timeMs: this.#options.clock.nowMs() }
  }

  #failed(batch: readonly ChainRecord[], error: unknown): void {
    if (this.#failure === null) {
      this.#lostCount = 0
      this.#refusedCount = 0
      this.#options.onNews('audit: records cannot be written, statements are refused', error)
    }
    this.#failure = unavailable(error)
    this.#retryAtMs = this.#options.clock.nowMs() + retryMs
    this.failedCount++
    this.#keep(batch)
  }

  /** A decision that is not on record does not run; what has ended, or was refused, stays to be told. */
  #keep(batch: readonly ChainRecord[]): void {
    const kept = batch.filter(
      ({ type, members }) =>
        (type !== 'statement_decided' && type !== 'statement_estimated') ||
        members.includes('"outcome":{"forwarded":false'),
    )
    this.#refusedCount += batch.length - kept.length
    let length = 0
    const held = kept.filter(({ members }, index) => {
      length += members.length
      return index < keptCountMax && length <= keptLengthMax
    })
    this.#lostCount += kept.length - held.length
    this.#pending = [...held, ...this.#pending]
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      this.#flushQuietly()
    }, retryMs).unref()
  }

  #due(): boolean {
    const { segmentBytesMax, segmentMsMax, clock } = this.#options
    return this.#bytes >= segmentBytesMax || clock.nowMs() - this.#openedMs >= segmentMsMax
  }

  /** Starts the next segment; the chain goes on in it. The full one is synced and sealed behind. */
  #rotate(): void {
    const { directory, worker, clock, onNews } = this.#options
    const path = join(directory, segmentName(worker, this.#segment + 1))
    let fd: number
    try {
      fd = openSync(path, 'ax+', 0o600)
    } catch (error) {
      // Better a segment that is too long than statements that are refused.
      this.#openedMs = clock.nowMs()
      onNews('audit: the next segment could not be opened', error)
      return
    }
    const sealed = { fd: this.#fd, tail: this.#tail }
    this.#fd = fd
    this.#segment++
    this.#path = path
    this.#bytes = 0
    this.#openedMs = clock.nowMs()
    const seal = (error: Error | null): void => {
      // A sync of it may still be under way.
      const idle = (this.#syncing ?? Promise.resolve()).catch(() => undefined)
      void idle.then(() => closeSync(sealed.fd))
      if (error === null) this.#checkpoint(sealed.tail)
      else onNews('audit: a segment could not be synced', error)
    }
    // With `always` what is in it was acknowledged as durable: it must be before anything else is.
    if (this.#options.fsync === 'batch') fdatasync(sealed.fd, seal)
    else {
      fdatasyncSync(sealed.fd)
      seal(null)
    }
  }

  #checkpoint(tail: Tail): void {
    if (tail.sequence <= this.#checkpointed) return
    try {
      this.#checkpoints.sign(this.#options.worker, tail, this.#options.clock.nowMs())
      this.#checkpointed = tail.sequence
    } catch (error) {
      this.#options.onNews('audit: a checkpoint could not be written', error)
    }
  }

  /** Deletes what is too old. The log itself says what it was, so that its absence is explained. */
  #retain(): void {
    const { directory, worker, retainMs, clock, onNews } = this.#options
    if (retainMs <= 0) return
    try {
      for (const { path, name } of segmentsOf(directory, worker)) {
        if (path === this.#path || clock.nowMs() - statSync(path).mtimeMs <= retainMs) break
        const { line } = endOf(path)
        const link = line === null ? null : linkOf(line)
        unlinkSync(path)
        this.append(
          'audit_retired',
          `"segment":${JSON.stringify(name)},"through":${JSON.stringify(link?.id ?? null)},` +
            `"through_hash":${JSON.stringify(link?.hash ?? null)}`,
        )
      }
      this.#checkpoints.forgetBefore(worker, clock.nowMs() - retainMs)
    } catch (error) {
      onNews('audit: an old segment could not be deleted', error)
    }
  }

  #doChores(): void {
    const now = this.#options.clock.nowMs()
    const due = this.#choreMs
    if (now - due.touch >= touchMs) {
      due.touch = now
      this.#lock.touch()
    }
    if (now - due.retain >= retainEveryMs) {
      due.retain = now
      this.#retain()
      if (this.#bytes > 0 && this.#due()) this.#rotate()
    }
    if (this.#syncing !== null) return
    const checkpointMs = this.#options.checkpointMs ?? checkpointMsDefault
    const { sequence } = this.#tail
    const checkpoints = sequence > this.#checkpointed && now - due.checkpoint >= checkpointMs
    if (!this.#dirty && !checkpoints) return
    const tail = this.#tail
    this.#groupSync().then(
      () => {
        if (!checkpoints) return
        due.checkpoint = now
        this.#checkpoint(tail)
      },
      (error: unknown) => {
        this.#options.onNews('audit: the file could not be synced', error)
      },
    )
  }

  /** One sync serves everybody whose record was written before it began. */
  #groupSync(): Promise<void> {
    if (this.#syncing === null) {
      this.#dirty = false
      this.#syncing = this.#sync().finally(() => {
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

  async #sync(): Promise<void> {
    const sync = this.#options.sync ?? fdatasync
    await new Promise<void>((resolve, reject) => {
      sync(this.#fd, (error) => {
        if (error === null) resolve()
        else reject(unavailable(error))
      })
    })
  }
}

function unavailable(error: unknown): ProxyError {
  if (error instanceof ProxyError) return error
  const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
  const message =
    code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG'
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
  /** Name of a segment whose last line is no record. It is evidence: never changed. */
  readonly unreadable: string | null
}

/** Where the worker's chain ends; a torn last line is cut off. */
function findTail({ directory, worker }: FileAuditOptions): Found {
  const segments = segmentsOf(directory, worker)
  let tornBytes = 0
  let unreadable: string | null = null
  const newest = segments.at(-1)
  for (const segment of [...segments].reverse()) {
    const end = endOf(segment.path)
    if (end.tornBytes > 0 && segment === newest) {
      tornBytes = end.tornBytes
      cutOff(segment.path, end.wholeBytes)
    }
    if (end.line === null) continue
    const link = linkOf(end.line)
    if (link === null) {
      unreadable ??= segment.name
      continue
    }
    // Behind a segment that cannot be read on, a new one begins.
    const goesOn = segment === newest ? segment.number : (newest?.number ?? 0)
    const number = unreadable === null ? goesOn : goesOn + 1
    return { segment: number, tail: link, tornBytes, unreadable }
  }
  const number = (newest?.number ?? 1) + (unreadable === null ? 0 : 1)
  return { segment: number, tail: genesis(worker), tornBytes, unreadable }
}

function cutOff(path: string, wholeBytes: number): void {
  const fd = openSync(path, 'r+')
  try {
    ftruncateSync(fd, wholeBytes)
    fdatasyncSync(fd)
  } finally {
    closeSync(fd)
  }
}
