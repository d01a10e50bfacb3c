/**
 * The files of an audit directory: `audit-<worker>-<number>.ndjson`, one chain per worker, numbers
 * counted up without a gap. Everything else in the directory belongs to other parts.
 */
import { closeSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs'
import { join } from 'node:path'

export interface Segment {
  readonly worker: string
  readonly number: number
  readonly name: string
  readonly path: string
}

const segmentPattern = /^audit-([\w.-]+)-(\d{8,})\.ndjson$/

export function segmentName(worker: string, number: number): string {
  return `audit-${worker}-${String(number).padStart(8, '0')}.ndjson`
}

/** All segments by worker, each chain in order. Throws where the directory cannot be read. */
export function chainsOf(directory: string): ReadonlyMap<string, readonly Segment[]> {
  const chains = new Map<string, Segment[]>()
  for (const name of readdirSync(directory)) {
    const found = segmentPattern.exec(name)
    const worker = found?.[1]
    if (worker === undefined) continue
    const segment = { worker, number: Number(found?.[2]), name, path: join(directory, name) }
    const chain = chains.get(worker)
    if (chain === undefined) chains.set(worker, [segment])
    else chain.push(segment)
  }
  for (const chain of chains.values()) chain.sort((a, b) => a.number - b.number)
  return chains
}

/** One worker's segments in order. */
export function segmentsOf(directory: string, worker: string): readonly Segment[] {
  return chainsOf(directory).get(worker) ?? []
}

const newline = 0x0a
const chunkBytes = 64 * 1024

/** Offsets of a file's last lines. */
export interface FileEnd {
  /** One past the last newline; 0 where there is none. */
  readonly wholeBytes: number
  /** Behind the last newline: a torn record. */
  readonly tornBytes: number
  /** The last whole line without its newline; null where there is none. */
  readonly line: Buffer | null
}

/** Reads a file from its end, no more of it than its last line is long. */
export function endOf(path: string): FileEnd {
  const fd = openSync(path, 'r')
  try {
    const size = fstatSync(fd).size
    let content = Buffer.alloc(0)
    let from = size
    while (from > 0) {
      const bytes = Math.min(from, Math.max(chunkBytes, content.length))
      const chunk = Buffer.alloc(bytes)
      from -= bytes
      let at = 0
      while (at < bytes) {
        const count = readSync(fd, chunk, at, bytes - at, from + at)
        if (count === 0) break
        at += count
      }
      content = Buffer.concat([chunk, content])
      const last = content.lastIndexOf(newline)
      const before = last < 1 ? -1 : content.lastIndexOf(newline, last - 1)
      if (last !== -1 && (before !== -1 || from === 0)) {
        const wholeBytes = from + last + 1
        const line = last === 0 ? null : content.subarray(before + 1, last)
        return { wholeBytes, tornBytes: size - wholeBytes, line }
      }
    }
    return { wholeBytes: 0, tornBytes: size, line: null }
  } finally {
    closeSync(fd)
  }
}
