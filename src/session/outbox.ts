/**
 * Bytes for one side, in order, collected over a turn and written at once. Neighbouring views of
 * one buffer are joined, so a chunk that passes untouched stays one piece. Segments that hold a
 * statement are remembered until the audit took the turn's records: then they can still be
 * replaced by a refusal.
 */
import { present } from '../core/core.ts'
import type { ByteWriter } from '../wire/wire.ts'
import type { Expected } from './expected.ts'

/** A passed frame that holds a statement. */
export interface Mark {
  readonly buffer: Buffer
  readonly start: number
  readonly end: number
  readonly entry: Expected
}

const nothing: readonly Buffer[] = []

export class Outbox {
  #segments: Buffer[] = []
  #runBuffer: Buffer | null = null
  #runStart = 0
  #runEnd = 0
  #bytes = 0
  #marks: Mark[] = []
  #later: ByteWriter | null = null

  /**
   * What the writer holds, and what is still added to it, comes here: taken when the next bytes
   * of another kind come or the turn ends.
   */
  addLater(writer: ByteWriter): void {
    if (this.#later === writer) return
    this.#cut()
    this.#later = writer
  }

  /** Passes a view on; valid until the turn ends. */
  pass(buffer: Buffer, start: number, end: number): void {
    if (this.#later !== null) this.#takeLater()
    this.#bytes += end - start
    if (this.#runBuffer === buffer && this.#runEnd === start) {
      this.#runEnd = end
      return
    }
    this.#cut()
    this.#runBuffer = buffer
    this.#runStart = start
    this.#runEnd = end
  }

  /** Appends bytes of our own. */
  add(bytes: Buffer): void {
    if (this.#later !== null) this.#takeLater()
    if (bytes.length === 0) return
    this.#cut()
    this.#bytes += bytes.length
    this.#segments.push(bytes)
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Everything since the last take, in order. */
  take(): readonly Buffer[] {
    if (this.#later !== null) this.#takeLater()
    this.#cut()
    if (this.#segments.length === 0) return nothing
    const segments = this.#segments
    this.#segments = []
    if (this.#marks.length > 0) this.#marks = []
    this.#bytes = 0
    return segments
  }

  /** Remembers that a passed frame holds a statement, until the turn is taken. */
  mark(buffer: Buffer, start: number, end: number, entry: Expected): void {
    this.#marks.push({ buffer, start, end, entry })
  }

  /** The statements of this turn. */
  get marks(): readonly Mark[] {
    return this.#marks
  }

  /** Puts other bytes in the place of every marked frame: the turn's records were not taken. */
  replaceMarked(substitute: (mark: Mark) => Buffer): void {
    this.#cut()
    for (const mark of this.#marks) this.#replace(mark, substitute(mark))
    this.#marks = []
  }

  #replace(mark: Mark, bytes: Buffer): void {
    const from = mark.buffer.byteOffset + mark.start
    const to = mark.buffer.byteOffset + mark.end
    const at = this.#segments.findIndex(
      (segment) =>
        segment.buffer === mark.buffer.buffer &&
        segment.byteOffset <= from &&
        to <= segment.byteOffset + segment.length,
    )
    const segment = present(this.#segments[at], 'a marked frame is not in the turn')
    const before = segment.subarray(0, from - segment.byteOffset)
    const after = segment.subarray(to - segment.byteOffset)
    this.#segments.splice(at, 1, before, bytes, after)
  }

  #takeLater(): void {
    const writer = this.#later
    this.#later = null
    if (writer === null || writer.count === 0) return
    const bytes = writer.take()
    this.#bytes += bytes.length
    this.#segments.push(bytes)
  }

  #cut(): void {
    if (this.#runBuffer === null) return
    this.#segments.push(
      this.#runStart === 0 && this.#runEnd === this.#runBuffer.length
        ? this.#runBuffer
        : this.#runBuffer.subarray(this.#runStart, this.#runEnd),
    )
    this.#runBuffer = null
  }
}
