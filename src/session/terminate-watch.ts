/**
 * Looks for a Terminate in what a client has sent while its statement is held: the bytes are kept
 * and not read, but who has said goodbye waits no more. Follows the lengths of messages, so it costs
 * a few bytes of each and never mistakes data for a message.
 * https://www.postgresql.org/docs/18/protocol-message-formats.html
 */
import { frontendTypes } from '../wire/wire.ts'

const headerBytes = 5

export class TerminateWatch {
  readonly #header = Buffer.alloc(headerBytes)
  #headerBytes = 0
  #skipBytes = 0
  /** A length that no message has: nothing behind it can be trusted. */
  #lost = false

  /** Bytes that follow those fed before; true once a Terminate is among them. */
  feed(chunk: Buffer): boolean {
    let at = 0
    while (at < chunk.length && !this.#lost) {
      if (this.#skipBytes > 0) {
        const skipped = Math.min(this.#skipBytes, chunk.length - at)
        this.#skipBytes -= skipped
        at += skipped
        continue
      }
      const taken = Math.min(headerBytes - this.#headerBytes, chunk.length - at)
      chunk.copy(this.#header, this.#headerBytes, at, at + taken)
      this.#headerBytes += taken
      at += taken
      if (this.#headerBytes < headerBytes) break
      this.#headerBytes = 0
      const declared = this.#header.readInt32BE(1)
      if (declared < 4) this.#lost = true
      else if (this.#header[0] === frontendTypes.Terminate) return true
      else this.#skipBytes = declared - 4
    }
    return false
  }
}
