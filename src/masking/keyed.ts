/**
 * Keyed pseudo-randomness for `hash` and `noise`: HMAC-SHA-256 (RFC 2104) over the value in a
 * canonical form, so the same value gives the same result in text and in binary, and nobody
 * without the key can try values out.
 */
import { createHmac } from 'node:crypto'
import { assert } from '../core/core.ts'

/** Below this a key could be guessed. */
const KEY_BYTES_MIN = 16

/** Asked once when a keyed mask is compiled; a fault of regate, not of a value. */
export function assertKey(key: Uint8Array): void {
  assert(key.length >= KEY_BYTES_MIN, 'the key of hash and noise masks is shorter than 16 bytes')
}

/** HMAC of `value` under `key`; `purpose` keeps hash and noise apart. */
export function keyed(key: Uint8Array, purpose: 'hash' | 'noise', value: string | Buffer): Buffer {
  return createHmac('sha256', key).update(purpose).update('\0').update(value).digest()
}

/** A number in (-1, 1) that depends only on key and value. */
export function keyedSigned(key: Uint8Array, value: string): number {
  const digest = keyed(key, 'noise', value)
  const fraction = Number(digest.readBigUInt64BE(0) >> 11n) / 2 ** 53
  return fraction * 2 - 1
}
