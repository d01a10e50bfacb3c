/**
 * The hash chain: every record carries the hash of the one before (`prev`) and its own (`hash`),
 * SHA-256 over the bytes of its line up to `,"hash":`. Changing, removing or inserting a record breaks
 * every hash behind it; cutting off the newest end is what the signed checkpoints are for.
 */
import { createHash, hash } from 'node:crypto'
import type { RecordMembers } from './audit.ts'

/** Where a chain stands. */
export interface Tail {
  readonly sequence: number
  readonly hash: string
}

export interface ChainRecord {
  readonly type: string
  readonly members: RecordMembers
  readonly timeMs: number
}

/** Before the first record: the hash of the chain's name. */
export function genesis(worker: string): Tail {
  return { sequence: 0, hash: hash('sha256', `regate audit ${worker}`, 'hex') }
}

const hashLength = 64
/** `,"hash":"…"}` */
const endLength = hashLength + 11
/** `,"prev":"…"` */
const prevLength = hashLength + 10

let lastMs = -1
let lastTime = ''

function isoTime(timeMs: number): string {
  if (timeMs !== lastMs) {
    lastMs = timeMs
    lastTime = new Date(timeMs).toISOString()
  }
  return lastTime
}

/** Makes lines. Its buffer is used again for every batch of ordinary size. */
export class ChainWriter {
  readonly #idName: string
  #buffer = Buffer.allocUnsafeSlow(firstBytes)

  constructor(worker: string) {
    this.#idName = `{"id":"${worker}-`
  }

  /** The lines of a batch and the tail behind it. `bytes` is valid until the next call. */
  lines(
    tail: Tail,
    batch: readonly ChainRecord[],
  ): { readonly bytes: Buffer; readonly tail: Tail } {
    let { sequence, hash: prev } = tail
    let lines = ''
    const full: Buffer[] = []
    for (const { type, members, timeMs } of batch) {
      sequence++
      const head = `${this.#idName}${sequence}","time":"${isoTime(timeMs)}","type":"${type}"`
      const body = `${head}${members === '' ? '' : `,${members}`},"prev":"${prev}"`
      prev = hash('sha256', body, 'hex')
      lines += `${body},"hash":"${prev}"}\n`
      if (lines.length > linesLengthMax) {
        full.push(Buffer.from(lines))
        lines = ''
      }
    }
    const last = this.#encoded(lines)
    const bytes = full.length === 0 ? last : Buffer.concat([...full, last])
    return { bytes, tail: { sequence, hash: prev } }
  }

  #encoded(lines: string): Buffer {
    // Three bytes are the most that a UTF-16 unit becomes.
    const roomBytes = lines.length * 3
    if (roomBytes > keptBytesMax) return Buffer.from(lines)
    if (roomBytes > this.#buffer.length) this.#buffer = Buffer.allocUnsafeSlow(2 * roomBytes)
    return this.#buffer.subarray(0, this.#buffer.write(lines))
  }
}

const firstBytes = 64 * 1024
const keptBytesMax = 1024 * 1024
/** A string has an end, and what was kept while the disk was full may be more. */
const linesLengthMax = 1024 * 1024

/** A record's place in its chain. */
export interface Link {
  readonly id: string
  readonly worker: string
  readonly sequence: number
  readonly prev: string
  readonly hash: string
  /** The hash of the bytes. */
  readonly digest: string
  /** `hash` is that of the bytes. */
  readonly sound: boolean
}

const headPattern = /^\{"id":"([\w.-]{1,200})-(\d{1,15})","time":"/
const prevPattern = /^,"prev":"([0-9a-f]{64})"$/
const endPattern = /^,"hash":"([0-9a-f]{64})"\}$/

/** What a line (bytes, without its newline) says of its place in the chain; null for no record. */
export function linkOf(line: Buffer): Link | null {
  const bodyEnd = line.length - endLength
  if (bodyEnd < prevLength) return null
  const own = endPattern.exec(line.toString('latin1', bodyEnd))?.[1]
  const prev = prevPattern.exec(line.toString('latin1', bodyEnd - prevLength, bodyEnd))?.[1]
  const head = headPattern.exec(line.toString('latin1', 0, Math.min(line.length, 240)))
  if (own === undefined || prev === undefined) return null
  if (head?.[1] === undefined || head[2] === undefined) return null
  const digest = createHash('sha256').update(line.subarray(0, bodyEnd)).digest('hex')
  const [worker, sequence] = [head[1], Number(head[2])]
  const id = `${worker}-${sequence}`
  return { id, worker, sequence, prev, hash: own, digest, sound: digest === own }
}
