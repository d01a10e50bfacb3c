/**
 * Cuts a byte stream into protocol frames: type byte, Int32 length that counts itself, body.
 *
 * Owns: the bytes that are not consumed yet. A chunk is borrowed, frames that lie whole inside it
 * are views into it, and only a frame that crosses chunks is copied, each byte at most once besides
 * the doubling of the buffer it is copied to.
 * Invariants: memory follows the bytes that arrived, never the length that was declared; a declared
 * length is checked before a byte of its body is kept; after a fault every call repeats it, so
 * nothing behind unreadable bytes is ever taken for a frame.
 * Must not: look into bodies, or ever write to memory that a view has shown: what was judged in it
 * may wait in a socket's queue, and would not be what is sent.
 */
import { assert, ProxyError } from '../core/core.ts'

/** A frame in somebody's buffer: its type byte is at `start`, its body at `start + 5`. */
export interface FrameView {
  readonly buffer: Buffer
  readonly start: number
  readonly end: number
}

/**
 * What `next()` found.
 * - `frame`: a whole frame lies in `buffer[start, end)`.
 * - `partial`: `type` and `declaredBytes` are known, the body is not complete yet.
 * - `rest`: more bytes of a frame that `takePartial()` was called for lie in `buffer[start, end)`.
 * - `none`: nothing more until the next `push()`.
 */
export type Found = 'frame' | 'partial' | 'rest' | 'none'

export interface FrameReaderOptions {
  /** Longest declared length of a frame that is held (it counts itself, not the type byte). */
  readonly frameBytesMax: number
  /**
   * Longest declared length by type byte, 0 for bytes that are no message in this direction; see
   * `frontendFrameLimits` and `backendFrameLimits`. Without it every type has `frameBytesMax`.
   * What is longer than `frameBytesMax` comes as `partial` and must be taken in parts at once:
   * whoever calls next() again without takePartial() gets the fault that a longer frame gets.
   */
  readonly limits?: Uint32Array
}

const headerBytes = 5
const nothing = Buffer.alloc(0)

/** The pull reader of one direction of one connection. */
export class FrameReader {
  readonly #frameBytesMax: number
  readonly #limits: Uint32Array | null
  /** Borrowed: bytes [#at, #chunk.length) are not consumed and follow those of #held. */
  #chunk: Buffer = nothing
  #at = 0
  /** Ours: bytes [#heldStart, #heldEnd) are not consumed and come first. */
  #held: Buffer = nothing
  #heldStart = 0
  #heldEnd = 0
  /** Bytes still to come of a frame that takePartial() gave out the beginning of. */
  #restBytes = 0
  #partial = false
  /** The frame that is next was found to be longer than can be held, and was not taken. */
  #offered = false
  #fault: ProxyError | null = null

  #type = 0
  #declaredBytes = 0
  #buffer: Buffer = nothing
  #start = 0
  #end = 0
  #last = false

  constructor(options: FrameReaderOptions) {
    assert(options.frameBytesMax >= 4, 'frameBytesMax is below the smallest frame')
    this.#frameBytesMax = options.frameBytesMax
    this.#limits = options.limits ?? null
  }

  /** Type byte of what `next()` found last (also of `partial` and `rest`). */
  get type(): number {
    return this.#type
  }

  /** The length field of what `next()` found last: body and itself, without the type byte. */
  get declaredBytes(): number {
    return this.#declaredBytes
  }

  /** Where the view lies; empty after `none` and `partial`. Valid until the next push(). */
  get buffer(): Buffer {
    return this.#buffer
  }

  get start(): number {
    return this.#start
  }

  get end(): number {
    return this.#end
  }

  /** Of `rest`: the frame ends with this piece. True for `frame`. */
  get last(): boolean {
    return this.#last
  }

  /** Bytes that were pushed and are not consumed. */
  get bufferedBytes(): number {
    return this.#heldEnd - this.#heldStart + this.#chunk.length - this.#at
  }

  /**
   * Gives the reader more bytes and ends the validity of all views. The chunk is borrowed: it must
   * not be written to until it is consumed, or `release()` was called.
   */
  push(chunk: Buffer): void {
    this.release()
    this.#chunk = chunk
    this.#at = 0
  }

  /**
   * Copies what is unread of the borrowed chunk, so that its memory may be used again (a socket
   * that reads into one buffer) or be freed (an idle session). Ends the validity of all views.
   */
  release(): void {
    this.#show(nothing, 0, 0, false)
    if (this.#heldStart === this.#heldEnd) this.#dropHeld()
    if (this.#at < this.#chunk.length) this.#hold(this.#chunk.length - this.#at)
    this.#chunk = nothing
    this.#at = 0
  }

  /** Finds the next frame or piece of one; see `Found`. Throws ProxyError on a bad header. */
  next(): Found {
    if (this.#fault !== null) throw this.#fault
    this.#partial = false
    if (this.#restBytes > 0) return this.#nextRest()
    if (this.#heldStart < this.#heldEnd) return this.#nextHeld()
    const chunk = this.#chunk
    const at = this.#at
    const availableBytes = chunk.length - at
    if (availableBytes < headerBytes) return this.#none()
    this.#header(chunk, at)
    const frameBytes = this.#declaredBytes + 1
    if (this.#declaredBytes > this.#frameBytesMax) return this.#offer()
    if (availableBytes < frameBytes) return this.#foundPartial()
    this.#at = at + frameBytes
    this.#buffer = chunk
    this.#start = at
    this.#end = at + frameBytes
    this.#last = true
    if (this.#at === chunk.length) this.#dropChunk()
    return 'frame'
  }

  /**
   * Takes all whole frames of this type that come next in the chunk as one view, without a look into
   * them: how many, 0 where the next frame is another one, or not whole, or crosses chunks. Their
   * headers are checked as next() checks them.
   */
  nextRun(type: number): number {
    if (this.#fault !== null || this.#restBytes > 0 || this.#heldStart < this.#heldEnd) return 0
    const chunk = this.#chunk
    const start = this.#at
    const limit = Math.min(this.#limits?.[type] ?? this.#frameBytesMax, this.#frameBytesMax)
    let at = start
    let count = 0
    while (at + headerBytes <= chunk.length && chunk[at] === type) {
      const declaredBytes =
        ((chunk[at + 1] as number) << 24) |
        ((chunk[at + 2] as number) << 16) |
        ((chunk[at + 3] as number) << 8) |
        (chunk[at + 4] as number)
      if (declaredBytes < 4 || declaredBytes > limit) break
      if (declaredBytes >= chunk.length - at) break
      at += declaredBytes + 1
      count++
    }
    if (count === 0) return 0
    this.#partial = false
    this.#type = type
    this.#show(chunk, start, at, true)
    this.#at = at
    if (at === chunk.length) this.#dropChunk()
    return count
  }

  /**
   * After `partial`: takes what is there of the frame as a view; what is missing comes as `rest`.
   * For frames that are passed through whatever their size (rows, CopyData).
   */
  takePartial(): void {
    assert(this.#partial, 'takePartial() without a partial frame')
    this.#partial = false
    this.#offered = false
    const held = this.#heldStart < this.#heldEnd
    const buffer = held ? this.#held : this.#chunk
    const start = held ? this.#heldStart : this.#at
    const frameBytes = this.#declaredBytes + 1
    const end = Math.min(held ? this.#heldEnd : buffer.length, start + frameBytes)
    this.#restBytes = frameBytes - (end - start)
    this.#show(buffer, start, end, this.#restBytes === 0)
    this.#consume(held, end)
  }

  /** A copy of all that is not consumed, which stays. */
  unread(): Buffer {
    const held = this.#held.subarray(this.#heldStart, this.#heldEnd)
    return Buffer.concat([held, this.#chunk.subarray(this.#at)])
  }

  /** Copies all that is not consumed and forgets it: for whoever reads on by other means. */
  takeRest(): Buffer {
    this.release()
    const rest = Buffer.from(this.#held.subarray(this.#heldStart, this.#heldEnd))
    this.#dropHeld()
    return rest
  }

  #consume(held: boolean, end: number): void {
    if (held) this.#heldStart = end
    else {
      this.#at = end
      if (end === this.#chunk.length) this.#dropChunk()
    }
  }

  #nextRest(): Found {
    let buffer = this.#chunk
    let start = this.#at
    let end = buffer.length
    const held = this.#heldStart < this.#heldEnd
    if (held) {
      buffer = this.#held
      start = this.#heldStart
      end = this.#heldEnd
    }
    if (start === end) return this.#none()
    end = Math.min(end, start + this.#restBytes)
    this.#restBytes -= end - start
    this.#show(buffer, start, end, this.#restBytes === 0)
    this.#consume(held, end)
    return 'rest'
  }

  /** The next frame begins in #held: pull from the chunk just what completes it. */
  #nextHeld(): Found {
    if (!this.#pull(headerBytes)) return this.#none()
    this.#header(this.#held, this.#heldStart)
    const frameBytes = this.#declaredBytes + 1
    if (this.#declaredBytes > this.#frameBytesMax) return this.#offer()
    if (!this.#pull(frameBytes)) return this.#foundPartial()
    this.#show(this.#held, this.#heldStart, this.#heldStart + frameBytes, true)
    this.#heldStart += frameBytes
    return 'frame'
  }

  /** Tries to have `bytes` unread bytes in #held; false if the chunk has not enough. */
  #pull(bytes: number): boolean {
    const missingBytes = bytes - (this.#heldEnd - this.#heldStart)
    if (missingBytes <= 0) return true
    const availableBytes = this.#chunk.length - this.#at
    if (availableBytes > 0) this.#hold(Math.min(missingBytes, availableBytes))
    return missingBytes <= availableBytes
  }

  /**
   * Moves bytes from the chunk to #held. Where there is no room a new buffer of twice the unread
   * bytes is made; bytes are never moved within one, because a view may show it.
   */
  #hold(bytes: number): void {
    if (this.#held.length - this.#heldEnd < bytes) {
      const unreadBytes = this.#heldEnd - this.#heldStart
      const roomBytes = 2 * (unreadBytes + bytes)
      const grown = Buffer.allocUnsafeSlow(Math.max(roomBytes, 256))
      this.#held.copy(grown, 0, this.#heldStart, this.#heldEnd)
      this.#held = grown
      this.#heldStart = 0
      this.#heldEnd = unreadBytes
    }
    this.#chunk.copy(this.#held, this.#heldEnd, this.#at, this.#at + bytes)
    this.#heldEnd += bytes
    this.#at += bytes
    if (this.#at === this.#chunk.length) this.#dropChunk()
  }

  #header(buffer: Buffer, at: number): void {
    const type = buffer[at] as number
    const declaredBytes =
      ((buffer[at + 1] as number) << 24) |
      ((buffer[at + 2] as number) << 16) |
      ((buffer[at + 3] as number) << 8) |
      (buffer[at + 4] as number)
    this.#type = type
    this.#declaredBytes = declaredBytes
    const limit = this.#limits === null ? this.#frameBytesMax : (this.#limits[type] as number)
    // A length of 2³¹ and more is negative here: it is below 4.
    if (declaredBytes < 4 || declaredBytes > limit) {
      this.#fail(type, declaredBytes, limit)
    }
  }

  #fail(type: number, declaredBytes: number, limit: number): never {
    const shown = type > 0x20 && type < 0x7f ? `"${String.fromCharCode(type)}"` : `${type}`
    if (limit === 0) {
      this.#fault = new ProxyError('protocol_violation', `invalid message type ${shown}`, {
        hint: 'The bytes are no message of the PostgreSQL protocol, version 3; the connection is closed.',
      })
    } else if (declaredBytes < 4) {
      this.#fault = new ProxyError(
        'protocol_violation',
        `invalid length ${declaredBytes} of a message of type ${shown}`,
        {
          detail: 'The length counts itself, so 4 is the least, and it is a signed 32-bit number.',
        },
      )
    } else {
      this.#fault = new ProxyError(
        'program_limit_exceeded',
        `a message of type ${shown} declares ${declaredBytes} bytes`,
        {
          detail: `The limit is ${limit} bytes.`,
          hint: 'Send less in one message, or have the limit frameBytesMax raised.',
        },
      )
    }
    throw this.#fault
  }

  /** The next frame is too long to be held: it is taken in parts now, or refused. */
  #offer(): Found {
    if (this.#offered) this.#fail(this.#type, this.#declaredBytes, this.#frameBytesMax)
    this.#offered = true
    return this.#foundPartial()
  }

  #foundPartial(): Found {
    this.#show(nothing, 0, 0, false)
    this.#partial = true
    return 'partial'
  }

  #none(): Found {
    this.#show(nothing, 0, 0, false)
    if (this.#heldStart === this.#heldEnd) this.#dropHeld()
    return 'none'
  }

  #show(buffer: Buffer, start: number, end: number, last: boolean): void {
    this.#buffer = buffer
    this.#start = start
    this.#end = end
    this.#last = last
  }

  #dropChunk(): void {
    this.#chunk = nothing
    this.#at = 0
  }

  /** Never used again: a socket may still have to write what a view of it shows. */
  #dropHeld(): void {
    this.#heldStart = 0
    this.#heldEnd = 0
    this.#held = nothing
  }
}
