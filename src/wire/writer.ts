/**
 * Builds messages in one growing piece of memory. What `take()` handed out is never written to
 * again, so a socket may keep it while the writer goes on; a writer may serve many connections of
 * one worker, because nothing is left in it between take() and the next message.
 *
 * Invariants: a frame's length is patched when it ends; a String never holds a NUL byte, because
 * that would end it early and make the rest another field.
 */
import { assert, ProxyError } from '../core/core.ts'

const slabBytes = 4096
const hintBytesMax = 128 * 1024
const longStringLength = 512
const shortStringLength = 32
const declaredBytesMax = 0x7fff_ffff

/** Appends fields and frames; `take()` gives the bytes since the last `take()`. */
export class ByteWriter {
  #slab: Buffer = Buffer.alloc(0)
  #taken = 0
  #at = 0
  /** Offset of the open message, and of its length field; -1 while none is open. */
  #openAt = -1
  #lengthAt = -1
  /** Bytes of the last take(): what the next slab is made for. */
  #hintBytes = 0

  /** Bytes written and not taken. */
  get count(): number {
    return this.#at - this.#taken
  }

  /** A view of the last bytes that were written, valid until the next write. */
  last(count: number): Buffer {
    return this.#slab.subarray(this.#at - count, this.#at)
  }

  /** Makes room for `bytes` more, so that the writes after it need not grow one by one. */
  reserve(bytes: number): void {
    if (this.#slab.length - this.#at < bytes) this.#grow(bytes)
  }

  u8(value: number): void {
    this.reserve(1)
    this.#slab[this.#at++] = value
  }

  /** Int16, signed or not. */
  u16(value: number): void {
    this.reserve(2)
    const slab = this.#slab
    slab[this.#at] = value >>> 8
    slab[this.#at + 1] = value
    this.#at += 2
  }

  i16(value: number): void {
    this.u16(value)
  }

  /** Int32, signed or not. */
  u32(value: number): void {
    this.reserve(4)
    this.#put32(this.#at, value)
    this.#at += 4
  }

  i32(value: number): void {
    this.u32(value)
  }

  /** Copies `source[start, end)`. */
  bytes(source: Uint8Array, start = 0, end = source.length): void {
    this.reserve(end - start)
    if (start === 0 && end === source.length) this.#slab.set(source, this.#at)
    else this.#slab.set(source.subarray(start, end), this.#at)
    this.#at += end - start
  }

  /** UTF-8 without terminator. */
  string(value: string): void {
    if (value.length === 0) return
    const bytesMax =
      value.length > longStringLength ? Buffer.byteLength(value, 'utf8') : value.length * 3
    this.reserve(bytesMax)
    if (value.length <= shortStringLength && this.#shortAscii(value)) return
    this.#at += this.#slab.write(value, this.#at, 'utf8')
  }

  /** String of the protocol: UTF-8 and a NUL. A NUL inside is a protocol_violation. */
  cstring(value: string): void {
    if (value.includes('\0')) {
      this.abandon()
      throw new ProxyError('protocol_violation', 'a string with a NUL character cannot be sent')
    }
    this.string(value)
    this.u8(0)
  }

  /** A String whose bytes the caller has; a NUL inside is a protocol_violation. */
  cstringBytes(value: Uint8Array): void {
    if (value.includes(0)) {
      this.abandon()
      throw new ProxyError('protocol_violation', 'a string with a NUL byte cannot be sent')
    }
    this.bytes(value)
    this.u8(0)
  }

  /** Int16 that counts the elements after it: 65535 at most. */
  count16(count: number): void {
    if (count > 0xffff) {
      this.abandon()
      throw new ProxyError('protocol_violation', `a message cannot count ${count} elements`)
    }
    this.u16(count)
  }

  /** Int32 length and bytes of a parameter or column; null is NULL (length -1). */
  value(value: string | Uint8Array | null): void {
    if (value === null) {
      this.i32(-1)
    } else if (typeof value === 'string') {
      this.reserve(4)
      const lengthAt = this.#at
      this.#at += 4
      const takenBytes = this.#taken
      this.string(value)
      // string() may have moved what is not taken to the beginning of a new slab.
      const movedTo = lengthAt - (takenBytes - this.#taken)
      this.#put32(movedTo, this.#at - movedTo - 4)
    } else {
      this.i32(value.length)
      this.bytes(value)
    }
  }

  /** Starts a message with a type byte. Messages do not nest. */
  begin(type: number): void {
    assert(this.#lengthAt < 0, 'a message is begun inside another')
    this.reserve(5)
    this.#slab[this.#at] = type
    this.#openAt = this.#at
    this.#lengthAt = this.#at + 1
    this.#at += 5
  }

  /** Starts a message without a type byte: StartupMessage and the requests like it. */
  beginUntyped(): void {
    assert(this.#lengthAt < 0, 'a message is begun inside another')
    this.reserve(4)
    this.#openAt = this.#at
    this.#lengthAt = this.#at
    this.#at += 4
  }

  /** Ends the message that was begun: patches its length. */
  end(): void {
    assert(this.#lengthAt >= 0, 'no message was begun')
    const declaredBytes = this.#at - this.#lengthAt
    assert(declaredBytes <= declaredBytesMax, 'a message is longer than its length field can say')
    this.#put32(this.#lengthAt, declaredBytes)
    this.#openAt = -1
    this.#lengthAt = -1
  }

  /** Gives up the message that was begun, if any, as if begin() had not been called. */
  abandon(): void {
    if (this.#lengthAt < 0) return
    this.#at = this.#openAt
    this.#openAt = -1
    this.#lengthAt = -1
  }

  /** Everything since the last take(). The caller owns it; the writer never touches it again. */
  take(): Buffer {
    assert(this.#lengthAt < 0, 'a message was begun and not ended')
    const taken = this.#slab.subarray(this.#taken, this.#at)
    this.#taken = this.#at
    this.#hintBytes = Math.min(taken.length, hintBytesMax)
    // A large slab belongs to what was taken; keeping its tail would pin all of it.
    if (this.#slab.length > slabBytes) {
      this.#slab = Buffer.alloc(0)
      this.#taken = 0
      this.#at = 0
    }
    return taken
  }

  /** Writes a short string byte by byte, if it is ASCII; there is room for it. */
  #shortAscii(value: string): boolean {
    const slab = this.#slab
    const at = this.#at
    for (let index = 0; index < value.length; index++) {
      const code = value.charCodeAt(index)
      if (code >= 0x80) return false
      slab[at + index] = code
    }
    this.#at = at + value.length
    return true
  }

  #put32(at: number, value: number): void {
    const slab = this.#slab
    slab[at] = value >>> 24
    slab[at + 1] = value >>> 16
    slab[at + 2] = value >>> 8
    slab[at + 3] = value
  }

  /** A new slab with what is not taken; twice that, so that growing costs linear time. */
  #grow(bytes: number): void {
    const untakenBytes = this.#at - this.#taken
    const neededBytes = untakenBytes + bytes
    let grownBytes = neededBytes <= slabBytes / 2 ? slabBytes : neededBytes * 2
    // A busy writer gets at once what its last turn needed; the first slab of an idle one is small.
    if (untakenBytes === 0)
      grownBytes = Math.max(grownBytes, this.#hintBytes + (this.#hintBytes >> 2))
    const grown = Buffer.allocUnsafeSlow(grownBytes)
    this.#slab.copy(grown, 0, this.#taken, this.#at)
    if (this.#openAt >= 0) {
      this.#openAt -= this.#taken
      this.#lengthAt -= this.#taken
    }
    this.#slab = grown
    this.#taken = 0
    this.#at = untakenBytes
  }
}

/** The bytes that `write` appends, as a buffer of their own. */
export function written(write: (writer: ByteWriter) => void): Buffer {
  const writer = new ByteWriter()
  write(writer)
  return writer.take()
}
