/**
 * A cursor over the body of one frame. Every read is checked against the end of the frame, and
 * `finish()` that nothing is left, as pqformat.c does (pq_getmsg…, pq_getmsgend); what does not fit
 * is a protocol_violation (08P01) that names the message.
 *
 * Must not: decode more than it is asked for, copy, or outlive the view it reads.
 */
import { ProxyError } from '../core/core.ts'
import type { FrameView } from './frames.ts'
import { decodeUtf8 } from './utf8.ts'

const shortStringBytes = 64

/** Reads the fields of a message in their order. */
export class BodyReader {
  readonly #message: string
  readonly #buffer: Buffer
  readonly #end: number
  #at: number

  /** @param start first byte of the body; for a frame that is `view.start + 5` */
  constructor(message: string, buffer: Buffer, start: number, end: number) {
    this.#message = message
    this.#buffer = buffer
    this.#at = start
    this.#end = end
    if (start > end) this.refuse('is shorter than its header')
  }

  /** The body of a frame with a type byte. */
  static of(message: string, view: FrameView): BodyReader {
    return new BodyReader(message, view.buffer, view.start + 5, view.end)
  }

  /** Offset of the next byte in the buffer. */
  get at(): number {
    return this.#at
  }

  get remainingBytes(): number {
    return this.#end - this.#at
  }

  u8(): number {
    const at = this.#advance(1)
    return this.#buffer[at] as number
  }

  u16(): number {
    const at = this.#advance(2)
    return ((this.#buffer[at] as number) << 8) | (this.#buffer[at + 1] as number)
  }

  i16(): number {
    return (this.u16() << 16) >> 16
  }

  i32(): number {
    const at = this.#advance(4)
    const buffer = this.#buffer
    return (
      ((buffer[at] as number) << 24) |
      ((buffer[at + 1] as number) << 16) |
      ((buffer[at + 2] as number) << 8) |
      (buffer[at + 3] as number)
    )
  }

  u32(): number {
    return this.i32() >>> 0
  }

  /** Steps over `bytes` bytes and gives the offset of the first. */
  skip(bytes: number): number {
    return this.#advance(bytes)
  }

  /** A view of the next `bytes` bytes. Valid as long as the frame's view. */
  bytesView(bytes: number): Buffer {
    const at = this.#advance(bytes)
    return this.#buffer.subarray(at, at + bytes)
  }

  /** Steps over a String and gives the offset of its terminator. */
  skipString(): number {
    const terminator = this.#buffer.indexOf(0, this.#at)
    if (terminator < 0 || terminator >= this.#end) this.refuse('has a string without terminator')
    this.#at = terminator + 1
    return terminator
  }

  /** A String, exact: bytes that are not UTF-8 are refused (22021). */
  string(): string {
    const start = this.#at
    const ascii = this.#shortAscii()
    if (ascii !== null) return ascii
    const terminator = this.skipString()
    return decodeUtf8(this.#buffer, start, terminator, `a string of ${this.#message}`)
  }

  /** A String for people to read: bytes that are not UTF-8 are replaced. Never judge by it. */
  displayString(): string {
    const start = this.#at
    const ascii = this.#shortAscii()
    if (ascii !== null) return ascii
    return this.#buffer.toString('utf8', start, this.skipString())
  }

  /** Checks that a list of `count` elements of at least `bytes` bytes fits before it is built. */
  expect(count: number, bytes: number): void {
    if (count * bytes > this.remainingBytes) this.refuse(`declares ${count} elements it has not`)
  }

  /** Nothing may be left. */
  finish(): void {
    if (this.#at !== this.#end) this.refuse(`has ${this.#end - this.#at} bytes after its end`)
  }

  /** Throws protocol_violation: "`message` `reason`". */
  refuse(reason: string): never {
    throw malformed(this.#message, reason)
  }

  /** Names are short and ASCII: a loop is faster than two calls into C++. Null where one is not. */
  #shortAscii(): string | null {
    const buffer = this.#buffer
    const start = this.#at
    const end = Math.min(this.#end, start + shortStringBytes)
    for (let at = start; at < end; at++) {
      const byte = buffer[at] as number
      if (byte === 0) {
        this.#at = at + 1
        return at === start ? '' : buffer.toString('latin1', start, at)
      }
      if (byte >= 0x80) return null
    }
    return null
  }

  #advance(bytes: number): number {
    const at = this.#at
    if (bytes < 0 || bytes > this.#end - at) this.refuse('ends before its last field')
    this.#at = at + bytes
    return at
  }
}

/** The fault of a message that is not what its format says. */
export function malformed(message: string, reason: string): ProxyError {
  return new ProxyError('protocol_violation', `malformed message: ${message} ${reason}`, {
    detail:
      'https://www.postgresql.org/docs/18/protocol-message-formats.html says what it must be.',
  })
}
