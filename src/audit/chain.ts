/**
 * The hash chain: every record carries the hash of the one before (`prev`) and its own (`hash`),
 * SHA-256 over the record's text up to it. Changing, removing or inserting a record breaks every
 * hash behind it; cutting off the newest end is what the signed checkpoints are for.
 */
import { createHash } from 'node:crypto'

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
  return { sequence: 0, hash: sha256(`regate audit ${worker}`) }
}

let lastMs = -1
let lastTime = ''

function isoTime(timeMs: number): string {
  if (timeMs !== lastMs) {
    lastMs = timeMs
    lastTime = new Date(timeMs).toISOString()
  }
  return lastTime
}

/** The record's line, newline included, and the tail behind it. */
export function chained(
  tail: Tail,
  worker: string,
  record: ChainRecord,
): { readonly line: string; readonly tail: Tail } {
  const sequence = tail.sequence + 1
  const members = record.members === '' ? '' : `,${record.members}`
  const body = `{"id":"${worker}-${sequence}","time":"${isoTime(record.timeMs)}","type":"${record.type}"${members},"prev":"${tail.hash}"`
  const hash = sha256(body)
  return { line: `${body},"hash":"${hash}"}\n`, tail: { sequence, hash } }
}

const hashPattern = /^(.*),"hash":"([0-9a-f]{64})"\}$/s
const idPattern = /^\{"id":"(.+?)-(\d+)","time":/
const prevPattern = /,"prev":"([0-9a-f]{64})"$/

/** What a line says of its place in the chain; null for what is no record. */
export function linkOf(line: string): {
  readonly worker: string
  readonly sequence: number
  readonly prev: string
  readonly hash: string
  /** The hash is that of the text. */
  readonly sound: boolean
} | null {
  const whole = hashPattern.exec(line)
  const body = whole?.[1]
  const hash = whole?.[2]
  if (body === undefined || hash === undefined) return null
  const id = idPattern.exec(body)
  const prev = prevPattern.exec(body)?.[1]
  if (id?.[1] === undefined || prev === undefined) return null
  return { worker: id[1], sequence: Number(id[2]), prev, hash, sound: sha256(body) === hash }
}

/** The tail behind the last line of a segment; null where there is none. */
export function tailOf(content: Buffer): Tail | null {
  const end = content.length - 1
  if (end < 1) return null
  const start = content.lastIndexOf(0x0a, end - 1) + 1
  const link = linkOf(content.toString('utf8', start, end))
  return link === null ? null : { sequence: link.sequence, hash: link.hash }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex')
}
