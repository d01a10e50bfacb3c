/**
 * Which texts came before, roughly: a table of hashes. A text may be taken for another one or be
 * forgotten, so this says only what is worth keeping, never what may run.
 */
const slotBits = 14

export class SeenTexts {
  readonly #hashes = new Uint32Array(2 ** slotBits)

  /** Whether the text came before, as far as is known; from now on it has. */
  before(text: Uint8Array): boolean {
    const hash = hashOf(text)
    const slot = hash >>> (32 - slotBits)
    const seen = this.#hashes[slot] === hash
    this.#hashes[slot] = hash
    return seen
  }
}

/** Of a longer text only so much is looked at, and its length. */
const hashedBytesMax = 4 * 1024

/** FNV-1a of 32 bits, with a last stir so that its high bits can choose the slot. Never 0. */
function hashOf(text: Uint8Array): number {
  let hash = 0x811c9dc5 ^ text.length
  const end = Math.min(text.length, hashedBytesMax)
  for (let at = 0; at < end; at++) {
    hash = Math.imul(hash ^ (text[at] as number), 0x01000193)
  }
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d)
  return ((hash ^ (hash >>> 12)) >>> 0) | 1
}
