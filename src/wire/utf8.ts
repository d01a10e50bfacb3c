/**
 * UTF-8 as PostgreSQL sees it (pg_utf8_islegal in src/common/wchar.c): no overlong forms, no
 * surrogates, nothing above U+10FFFF. Node's decoder *replaces* what is wrong, so two different
 * names would become one and what is judged would not be what runs: bytes are checked first, and
 * bytes that are not UTF-8 are refused, never decoded.
 */
import { isUtf8 as isValidUtf8 } from 'node:buffer'
import { ProxyError } from '../core/core.ts'

/** Whether `buffer[start, end)` is well-formed UTF-8. Decodes nothing. */
export function isUtf8(buffer: Buffer, start = 0, end = buffer.length): boolean {
  return isValidUtf8(buffer.subarray(start, end))
}

/** The string in `buffer[start, end)`; ProxyError `encoding` (22021) where it is not UTF-8. */
export function decodeUtf8(buffer: Buffer, start: number, end: number, what: string): string {
  if (start === end) return ''
  if (!isUtf8(buffer, start, end)) {
    throw new ProxyError('encoding', `${what} is not valid UTF-8`, {
      hint: 'regate pins client_encoding to UTF8; send UTF-8 and leave client_encoding unset.',
    })
  }
  return buffer.toString('utf8', start, end)
}
