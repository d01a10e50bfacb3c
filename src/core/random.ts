/**
 * Random bytes for what every login needs some of: nonces, ids, cancel keys. A call of Node's generator
 * makes a job and a native object for each, some ten microseconds; here one call serves a hundred.
 */
import { randomFillSync } from 'node:crypto'
import { assert } from './assert.ts'

const pool = Buffer.allocUnsafeSlow(4096)
let taken = pool.length

/** So many bytes, at most 64, fit for secrets. Each is given out once, and not kept. */
export function fewRandomBytes(count: number): Buffer {
  assert(count <= 64, 'few bytes are 64 at most')
  if (taken + count > pool.length) {
    randomFillSync(pool)
    taken = 0
  }
  const bytes = Buffer.allocUnsafeSlow(count)
  pool.copy(bytes, 0, taken, taken + count)
  pool.fill(0, taken, taken + count)
  taken += count
  return bytes
}
