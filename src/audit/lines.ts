/**
 * The lines of a segment, forwards or backwards from an offset, in chunks: a segment is never in
 * memory as a whole. What stands behind the last newline is not a line yet.
 */
import { open } from 'node:fs/promises'

export interface Line {
  /** Offset of its first byte, and of the one behind its newline. */
  readonly start: number
  readonly end: number
  /** Without the newline. */
  readonly bytes: Buffer
}

const newline = 0x0a
const chunkBytes = 256 * 1024

/** All whole lines from `from` (the start of a line) on; one array per chunk read. */
export async function* linesForward(path: string, from: number): AsyncGenerator<readonly Line[]> {
  const file = await open(path, 'r')
  try {
    let rest: Buffer = Buffer.alloc(0)
    let start = from
    for (;;) {
      const room = Buffer.allocUnsafe(Math.max(chunkBytes, rest.length))
      const { bytesRead } = await file.read(room, 0, room.length, start + rest.length)
      if (bytesRead === 0) return
      const chunk = room.subarray(0, bytesRead)
      const content = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      const lines: Line[] = []
      let at = 0
      for (let end = content.indexOf(newline, rest.length); end !== -1;) {
        lines.push({ start: start + at, end: start + end + 1, bytes: content.subarray(at, end) })
        at = end + 1
        end = content.indexOf(newline, at)
      }
      rest = content.subarray(at)
      start += at
      if (lines.length > 0) yield lines
    }
  } finally {
    await file.close()
  }
}

/** All whole lines that end at or before `to`, the last one first; null is the end of the file. */
export async function* linesBackward(
  path: string,
  to: number | null,
): AsyncGenerator<readonly Line[]> {
  const file = await open(path, 'r')
  try {
    let start = to ?? (await file.stat()).size
    /** Begins at `start`; what of it is in front of its first newline belongs to an earlier chunk. */
    let rest: Buffer = Buffer.alloc(0)
    while (start > 0) {
      const bytes = Math.min(start, Math.max(chunkBytes, rest.length))
      const chunk = Buffer.allocUnsafe(bytes)
      start -= bytes
      let at = 0
      while (at < bytes) {
        const { bytesRead } = await file.read(chunk, at, bytes - at, start + at)
        if (bytesRead === 0) return
        at += bytesRead
      }
      const content = rest.length === 0 ? chunk : Buffer.concat([chunk, rest])
      const lines: Line[] = []
      let end = content.lastIndexOf(newline)
      while (end !== -1) {
        const before = end === 0 ? -1 : content.lastIndexOf(newline, end - 1)
        if (before === -1 && start > 0) break
        const first = before + 1
        lines.push({
          start: start + first,
          end: start + end + 1,
          bytes: content.subarray(first, end),
        })
        end = before
      }
      rest = content.subarray(0, end + 1)
      if (lines.length > 0) yield lines
    }
  } finally {
    await file.close()
  }
}
