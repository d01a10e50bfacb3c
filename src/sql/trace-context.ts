/**
 * The trace that a client says a statement belongs to: a `sqlcommenter` comment with the `traceparent`
 * of W3C Trace Context (https://google.github.io/sqlcommenter/spec/, https://www.w3.org/TR/trace-context/).
 *
 * The client writes the text, so nothing of it is believed beyond its form: 128 and 64 bits and a flag.
 * Looked for only where such comments stand, at the end and at the beginning of the text.
 */
export interface TraceParent {
  /** 32 lower-case hexadecimal digits, not all 0. */
  readonly traceId: string
  /** 16 of them. */
  readonly spanId: string
  readonly sampled: boolean
}

/** How far from either end a comment may begin. */
const windowBytes = 4 * 1024
const keyPattern = /(?:^|[,\s])traceparent='([^'\\]{1,200})'/
const parentPattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/

/** Null where the text has no such comment, or one that is not exactly right. */
export function traceParentOf(text: Buffer): TraceParent | null {
  const last = text.subarray(Math.max(0, text.length - windowBytes))
  const first = text.length > windowBytes ? text.subarray(0, windowBytes) : null
  return parentIn(last, 'last') ?? (first === null ? null : parentIn(first, 'first'))
}

function parentIn(part: Buffer, at: 'last' | 'first'): TraceParent | null {
  if (!part.includes("traceparent='")) return null
  const text = part.toString('latin1')
  const comments = [...text.matchAll(/\/\*([^*]*(?:\*(?!\/)[^*]*)*)\*\//g)]
  if (at === 'last') comments.reverse()
  for (const [, inner = ''] of comments) {
    const value = keyPattern.exec(inner)?.[1]
    if (value !== undefined) return parentFrom(value)
  }
  return null
}

function parentFrom(encoded: string): TraceParent | null {
  let value: string
  try {
    value = decodeURIComponent(encoded)
  } catch {
    return null
  }
  const [, version, traceId = '', spanId = '', flags = '', more] = parentPattern.exec(value) ?? []
  // Version 0 has nothing behind the flags; a later one may. 255 is forbidden.
  if (version === undefined || version === 'ff' || (version === '00' && more !== undefined)) {
    return null
  }
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return null
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & 1) === 1 }
}
