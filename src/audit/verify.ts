/**
 * Checks a log against itself and against signed checkpoints, and names what is wrong: the segment,
 * the line, the record. Reads only; a log that is being written may be checked.
 *
 * What it proves: no record of a chain was changed, removed, inserted or cut off up to the newest
 * checkpoint, if the checkpoints and the public key come from somewhere the log's owner cannot write.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { genesis, linkOf, type Link } from './chain.ts'
import { checkpointIsSound, publicKeyFile, readCheckpoints, type Checkpoint } from './checkpoint.ts'
import { linesForward } from './lines.ts'
import { chainsOf, endOf, type Segment } from './segments.ts'

export interface Problem {
  readonly kind:
    | 'altered'
    | 'unreadable'
    | 'missing'
    | 'inserted'
    | 'torn'
    | 'cut_off'
    | 'rewritten'
    | 'checkpoint'
  readonly worker: string
  /** File name. */
  readonly segment: string | null
  /** Counted from 1. */
  readonly line: number | null
  readonly record: string | null
  readonly message: string
}

export interface VerifyOptions {
  /** More checkpoint files: copies that were kept elsewhere. */
  readonly checkpoints?: readonly string[]
  /** PEM file of the public key; null takes the directory's own, which proves less. */
  readonly key?: string | null
  readonly onProgress?: (bytesRead: number, bytesTotal: number) => void
}

export interface ChainReport {
  readonly worker: string
  readonly segmentCount: number
  readonly recordCount: number
  readonly first: string | null
  readonly last: string | null
  /** The newest checkpoint that the chain fulfils: nothing before it was cut off. */
  readonly checkpointed: string | null
  readonly checkpointTime: string | null
}

export interface VerifyReport {
  readonly chains: readonly ChainReport[]
  readonly problems: readonly Problem[]
  readonly checkpointCount: number
  /** The key was given, not taken from the log's own directory. */
  readonly keyGiven: boolean
}

/** Checks every chain. Rejects where a file cannot be read. */
export async function verifyAudit(
  directory: string,
  options: VerifyOptions = {},
): Promise<VerifyReport> {
  const problems: Problem[] = []
  const signed = checkpointsOf(directory, options, problems)
  const chains = chainsOf(directory)
  let total = 0
  for (const segments of chains.values())
    for (const { path } of segments) total += statSync(path).size
  let read = 0
  const onBytes = (bytes: number): void => {
    read += bytes
    options.onProgress?.(Math.min(read, total), total)
  }
  const reports: ChainReport[] = []
  const workers = new Set([...chains.keys(), ...signed.keys()])
  for (const worker of [...workers].sort()) {
    const check = new ChainCheck(worker, signed.get(worker) ?? [], problems)
    reports.push(await check.run(chains.get(worker) ?? [], onBytes))
  }
  let checkpointCount = 0
  for (const list of signed.values()) checkpointCount += list.length
  const keyGiven = options.key !== null && options.key !== undefined
  return { chains: reports, problems, checkpointCount, keyGiven }
}

/** Every sound checkpoint by worker; unsound ones are problems. */
function checkpointsOf(
  directory: string,
  options: VerifyOptions,
  problems: Problem[],
): ReadonlyMap<string, readonly Checkpoint[]> {
  const own = readdirSync(directory)
    .filter((name) => /^checkpoints-.*\.ndjson$/.test(name))
    .map((name) => join(directory, name))
  const keyPath = options.key ?? join(directory, publicKeyFile)
  const byWorker = new Map<string, Checkpoint[]>()
  const files = [...own, ...(options.checkpoints ?? [])]
  if (files.length === 0) return byWorker
  if (!existsSync(keyPath)) {
    const message = `there are checkpoints, but not the public key to check them with (${keyPath})`
    problems.push(problemOf('checkpoint', '', null, null, null, message))
    return byWorker
  }
  const key = readFileSync(keyPath, 'utf8')
  for (const file of files) {
    const { checkpoints, unreadableCount } = readCheckpoints(readFileSync(file, 'utf8'))
    if (unreadableCount > 0) {
      const message = `${unreadableCount} lines of ${file} are no checkpoints`
      problems.push(problemOf('checkpoint', '', null, null, null, message))
    }
    for (const [index, checkpoint] of checkpoints.entries()) {
      const { worker, sequence } = checkpoint
      if (checkpointIsSound(checkpoint, key)) {
        const list = byWorker.get(worker)
        if (list === undefined) byWorker.set(worker, [checkpoint])
        else list.push(checkpoint)
        continue
      }
      const record = `${worker}-${sequence}`
      const message = `checkpoint ${index + 1} of ${file} (record ${record}) was not signed with this key`
      problems.push(problemOf('checkpoint', worker, null, index + 1, record, message))
    }
  }
  return byWorker
}

function problemOf(
  kind: Problem['kind'],
  worker: string,
  segment: string | null,
  line: number | null,
  record: string | null,
  message: string,
): Problem {
  return { kind, worker, segment, line, record, message }
}

/** One chain, read once from its first segment to its last. */
class ChainCheck {
  readonly #worker: string
  readonly #signed = new Map<number, Checkpoint>()
  readonly #problems: Problem[]
  #segment: Segment | null = null
  #line = 0
  #records = 0
  /** Of the last record that was read. */
  #sequence: number | null = null
  /** What the next record's `prev` may be: the hash as written, or of the bytes. */
  #hashes: readonly string[] = []
  /** After lines that are no records nobody knows what should follow. */
  #lost = false
  #first: string | null = null
  #checkpoint: Checkpoint | null = null
  /** Where the beginning was deleted: the hash that the first record goes on from. */
  #begin: { readonly id: string; readonly prev: string; readonly sequence: number } | null = null
  /** Hashes up to which the log itself says that old segments were deleted. */
  readonly #retired = new Set<string>()

  constructor(worker: string, signed: readonly Checkpoint[], problems: Problem[]) {
    this.#worker = worker
    this.#problems = problems
    for (const checkpoint of signed) this.#signed.set(checkpoint.sequence, checkpoint)
  }

  async run(segments: readonly Segment[], onBytes: (bytes: number) => void): Promise<ChainReport> {
    const start = genesis(this.#worker)
    if ((segments[0]?.number ?? 1) === 1) {
      this.#sequence = start.sequence
      this.#hashes = [start.hash]
    }
    for (const [index, segment] of segments.entries()) {
      const before = segments[index - 1]
      if (before !== undefined && segment.number !== before.number + 1) this.#gap(before, segment)
      this.#segment = segment
      this.#line = 0
      for await (const lines of linesForward(segment.path, 0)) {
        for (const { bytes } of lines) {
          this.#line++
          this.#take(bytes)
          onBytes(bytes.length + 1)
        }
      }
      await this.#checkEnd(segment, index === segments.length - 1)
    }
    this.#checkBegin()
    this.#checkCutOff(segments.at(-1) ?? null)
    return {
      worker: this.#worker,
      segmentCount: segments.length,
      recordCount: this.#records,
      first: this.#first,
      last: this.#records === 0 ? null : this.#id(this.#sequence ?? 0),
      checkpointed: this.#checkpoint === null ? null : this.#id(this.#checkpoint.sequence),
      checkpointTime: this.#checkpoint?.time ?? null,
    }
  }

  #id(sequence: number): string {
    return `${this.#worker}-${sequence}`
  }

  #say(kind: Problem['kind'], record: string | null, message: string): void {
    const segment = this.#segment?.name ?? null
    this.#problems.push(
      problemOf(kind, this.#worker, segment, this.#line === 0 ? null : this.#line, record, message),
    )
  }

  #take(bytes: Buffer): void {
    const link = linkOf(bytes)
    if (link === null || (link.sound && link.worker !== this.#worker)) {
      if (!this.#lost) {
        const next = this.#sequence === null ? null : this.#id(this.#sequence + 1)
        const what =
          link === null ? 'this line is no record' : `this is record ${link.id} of another chain`
        this.#say(
          'unreadable',
          next,
          `${what}${next === null ? '' : ` (${next} should stand here)`}`,
        )
      }
      this.#lost = true
      return
    }
    this.#records++
    if (link.sound) this.#takeSound(link)
    else this.#takeAltered(link)
    if (link.sound && bytes.subarray(0, 300).includes('"type":"audit_retired"')) {
      const through = /"through_hash":"([0-9a-f]{64})"/.exec(bytes.toString('latin1'))?.[1]
      if (through !== undefined) this.#retired.add(through)
    }
  }

  /** Its own text cannot be trusted: it stands where the next record should. */
  #takeAltered(link: Link): void {
    const sequence = this.#sequence === null ? link.sequence : this.#sequence + 1
    this.#first ??= this.#id(sequence)
    this.#say(
      'altered',
      this.#id(sequence),
      `record ${this.#id(sequence)} was altered: its bytes do not have its hash`,
    )
    this.#sequence = sequence
    this.#hashes = [link.hash, link.digest]
    this.#lost = false
  }

  #takeSound(link: Link): void {
    const { sequence, prev, hash, id } = link
    const expected = this.#sequence === null ? sequence : this.#sequence + 1
    if (this.#first === null) {
      this.#first = id
      if (this.#sequence === null) this.#begin = { id, prev, sequence }
    }
    const follows = this.#hashes.length === 0 || this.#hashes.includes(prev)
    if (sequence > expected) {
      const [from, to] = [this.#id(expected), this.#id(sequence - 1)]
      const which = from === to ? `record ${from} is` : `records ${from} to ${to} are`
      if (!this.#lost) this.#say('missing', from, `${which} missing in front of ${id}`)
    } else if (sequence < expected) {
      this.#say(
        'inserted',
        id,
        `record ${id} stands behind ${this.#id(expected - 1)}: inserted or moved`,
      )
    } else if (!follows && !this.#lost) {
      this.#say(
        'rewritten',
        id,
        `record ${id} does not go on from ${this.#id(expected - 1)}: one of them was replaced`,
      )
    }
    this.#lost = false
    this.#sequence = sequence
    this.#hashes = [hash]
    const signed = this.#signed.get(sequence)
    if (signed === undefined) return
    if (signed.hash === hash) this.#checkpoint = signed
    else {
      this.#say('rewritten', id, `record ${id} is not the one that was signed at ${signed.time}`)
    }
  }

  /** Whole segments are not there. The records say which; this says which files. */
  #gap(before: Segment, after: Segment): void {
    this.#line = 0
    this.#segment = null
    const [from, to] = [before.number + 1, after.number - 1]
    const name = (number: number): string =>
      before.name.replace(/\d+(?=\.ndjson$)/, String(number).padStart(8, '0'))
    this.#problems.push(
      problemOf(
        'missing',
        this.#worker,
        name(from),
        null,
        this.#sequence === null ? null : this.#id(this.#sequence + 1),
        from === to
          ? `segment ${name(from)} is missing`
          : `segments ${name(from)} to ${name(to)} are missing`,
      ),
    )
  }

  /** A record without its newline: what a crash leaves, or what is being written now. */
  async #checkEnd(segment: Segment, newest: boolean): Promise<void> {
    let { tornBytes } = endOf(segment.path)
    if (tornBytes > 0 && newest) {
      await sleep(writeMs)
      tornBytes = endOf(segment.path).tornBytes
    }
    if (tornBytes === 0) return
    const next = this.#sequence === null ? null : this.#id(this.#sequence + 1)
    this.#line++
    this.#say(
      'torn',
      next,
      `the segment ends with ${tornBytes} bytes of a record that is not whole`,
    )
  }

  /** The chain begins later than at its first record: only retention may do that. */
  #checkBegin(): void {
    const begin = this.#begin
    if (begin === null || begin.sequence === 1) return
    if (this.#retired.has(begin.prev)) return
    const message = `the chain begins with ${begin.id}; no audit_retired record says that what was before it was deleted by retention`
    this.#problems.push(problemOf('missing', this.#worker, null, null, this.#id(1), message))
  }

  #checkCutOff(newest: Segment | null): void {
    const last = this.#sequence ?? 0
    let ahead: Checkpoint | null = null
    for (const signed of this.#signed.values()) {
      if (signed.sequence > last && signed.sequence > (ahead?.sequence ?? 0)) ahead = signed
    }
    if (ahead === null) return
    const [from, to] = [this.#id(last + 1), this.#id(ahead.sequence)]
    const message = `the chain ends ${last === 0 ? 'before its first record' : `with ${this.#id(last)}`}, but ${to} was signed at ${ahead.time}: ${ahead.sequence - last} records were cut off`
    const line = this.#line === 0 ? null : this.#line
    this.#problems.push(
      problemOf('cut_off', this.#worker, newest?.name ?? null, line, from, message),
    )
  }
}

const writeMs = 200
