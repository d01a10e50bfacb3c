/**
 * What a client sent while its side waits, in order: copies, for chunks are borrowed. Small ones are joined:
 * a client that sends single bytes takes as much memory as its bytes, not an object for each.
 */
const blockBytesMin = 512
const blockBytesMax = 16 * 1024

interface Block {
  readonly buffer: Buffer
  end: number
}

export class Kept {
  readonly #blocks: Block[] = []
  bytes = 0

  push(chunk: Buffer): void {
    this.bytes += chunk.length
    const last = this.#blocks.at(-1)
    const room = last === undefined ? 0 : last.buffer.length - last.end
    const joined = Math.min(room, chunk.length)
    if (last !== undefined && joined > 0) {
      chunk.copy(last.buffer, last.end, 0, joined)
      last.end += joined
    }
    const rest = chunk.length - joined
    if (rest === 0) return
    const wished = last === undefined ? blockBytesMin : 2 * last.buffer.length
    const bytes = Math.max(rest, Math.min(wished, blockBytesMax))
    const buffer = Buffer.allocUnsafeSlow(bytes)
    chunk.copy(buffer, 0, joined)
    this.#blocks.push({ buffer, end: rest })
  }

  /** Takes the oldest: it is never written to again. */
  shift(): Buffer | null {
    const block = this.#blocks.shift()
    if (block === undefined) return null
    this.bytes -= block.end
    return block.buffer.subarray(0, block.end)
  }

  clear(): void {
    this.#blocks.length = 0
    this.bytes = 0
  }

  /** All of it, oldest first, to be looked at. */
  views(): readonly Buffer[] {
    return this.#blocks.map(({ buffer, end }) => buffer.subarray(0, end))
  }
}
