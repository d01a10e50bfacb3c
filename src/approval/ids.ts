/** Ids of requests, grants and deliveries: sortable by time, then random; as ULIDs are. */
import { randomBytes } from 'node:crypto'

const alphabet = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

/** 26 characters: 10 of time in milliseconds, 16 random (80 bits). */
export function newId(nowMs: number): string {
  let time = ''
  for (let rest = nowMs, at = 0; at < 10; at++, rest = Math.floor(rest / 32)) {
    time = (alphabet[rest % 32] ?? '0') + time
  }
  const random = [...randomBytes(16)].map((byte) => alphabet[byte % 32]).join('')
  return time + random
}

export const idPattern = /^[0-9A-HJKMNP-TV-Z]{26}$/
