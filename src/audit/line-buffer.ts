/**
 * Where the lines of a batch are put together as bytes. Most of a record is the same for many records
 * (who, which statement, what was decided): that is encoded once and copied.
 */
import type { RecordText } from '../core/core.ts'

const firstBytes = 64 * 1024
const keptBytesMax = 1024 * 1024

/** A buffer that grows, with its end. Used again for every batch. */
export class LineBuffer {
  #buffer = Buffer.allocUnsafeSlow(firstBytes)
  end = 0

  /** Begins anew; what was given out before is void. */
  clear(): void {
    if (this.#buffer.length > keptBytesMax) this.#buffer = Buffer.allocUnsafeSlow(firstBytes)
    this.end = 0
  }

  /** A view, valid until the next write. */
  view(start: number, end = this.end): Buffer {
    return this.#buffer.subarray(start, end)
  }

  /** Appends a copy of bytes that were appended before. */
  again(start: number, end: number): void {
    this.#room(end - start)
    this.#buffer.copyWithin(this.end, start, end)
    this.end += end - start
  }

  bytes(bytes: Uint8Array): void {
    this.#room(bytes.length)
    this.#buffer.set(bytes, this.end)
    this.end += bytes.length
  }

  text(text: string): void {
    this.#room(text.length * 3)
    this.end += this.#buffer.write(text, this.end, 'utf8')
  }

  recordText(text: RecordText): void {
    const { bytes } = text
    if (bytes === null) this.text(text.text)
    else this.bytes(bytes)
  }

  #room(more: number): void {
    if (this.#buffer.length - this.end >= more) return
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.end + more))
    larger.set(this.#buffer.subarray(0, this.end))
    this.#buffer = larger
  }
}
