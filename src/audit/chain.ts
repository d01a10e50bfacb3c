/**
 * The hash chain: every record carries the hash of the one before (`prev`) and its own (`hash`),
 * SHA-256 over the bytes of its line up to `,"hash":`. Changing, removing or inserting a record breaks
 * every hash behind it; cutting off the newest end is what the signed checkpoints are for.
 */
import { createHash, hash } from 'node:crypto'

/** Where a chain stands. */
export interface Tail {
  readonly sequence: number
  readonly hash: string
}

export interface ChainRecord {
  readonly type: string
  readonly members: string
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
const keptBytesMax = 1024 * 1024

let lastMs = -1
let lastTime = ''

function isoTime(timeMs: number): string {
  if (timeMs !== lastMs) {
    lastMs = timeMs
    lastTime = new Date(timeMs).toISOString()
  }
  return lastTime
}

/** Makes lines. Its buffer is used again for every batch. */
export class ChainWriter {
  readonly #worker: string
  #buffer = Buffer.allocUnsafe(64 * 1024)

  constructor(worker: string) {
    this.#worker = worker
  }

  /** The lines of a batch and the tail behind it. `bytes` is valid until the next call. */
  lines(
    tail: Tail,
    batch: readonly ChainRecord[],
  ): { readonly bytes: Buffer; readonly tail: Tail } {
    if (this.#buffer.length > keptBytesMax) this.#buffer = Buffer.allocUnsafe(64 * 1024)
    let { sequence, hash: prev } = tail
    let end = 0
    for (const { type, members, timeMs } of batch) {
      sequence++
      const text =
        `{"id":"${this.#worker}-${sequence}","time":"${isoTime(timeMs)}","type":"${type}"` +
        `${members === '' ? '' : ','}${members},"prev":"${prev}"`
      const buffer = this.#room(end, text.length * 3 + endLength + 1)
      const start = end
      end += buffer.write(text, start, 'utf8')
      prev = hash('sha256', buffer.subarray(start, end), 'hex')
      end += buffer.write(`,"hash":"${prev}"}\n`, end, 'latin1')
    }
    return { bytes: this.#buffer.subarray(0, end), tail: { sequence, hash: prev } }
  }

  #room(used: number, more: number): Buffer {
    if (this.#buffer.length - used < more) {
      const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, used + more))
      this.#buffer.copy(larger, 0, 0, used)
      this.#buffer = larger
    }
    return this.#buffer
  }
}

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
