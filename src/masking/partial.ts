/**
 * `partial`: some characters are kept, the rest is a fill of fixed length, so the length does not
 * show. Counts are code points. A value too short to hide anything behind the kept characters is
 * hidden whole: it must be at least as long again as what is kept.
 */
import type { Mask } from '../policy/policy.ts'
import type { TypeShape } from './types.ts'
import type { ValueMask } from './transform.ts'

const FILL = '****'

/** The transform, or null where the type holds no text that may be cut (json, xml, numbers …). */
export function compilePartial(
  mask: Extract<Mask, { kind: 'partial' }>,
  shape: TypeShape,
): ValueMask | null {
  if (shape.family !== 'text') return null
  const keepStart = countOf(mask.keep_start)
  const keepEnd = countOf(mask.keep_end)
  if (shape.charsMax !== null && shape.charsMax < FILL.length) return null
  const fit = (masked: string): Buffer => {
    const fitting = shape.charsMax !== null && [...masked].length > shape.charsMax ? FILL : masked
    return Buffer.from(shape.padded ? fitting.padEnd(shape.charsMax ?? 0) : fitting)
  }
  return (buffer, start, end) => {
    const text = buffer.toString('utf8', start, end)
    const value = shape.padded ? text.trimEnd() : text
    return fit(
      mask.email === true ? maskEmail(value, keepStart, keepEnd) : keep(value, keepStart, keepEnd),
    )
  }
}

function countOf(count: number | undefined): number {
  return count === undefined || !Number.isSafeInteger(count) || count < 0 ? 0 : count
}

/** The kept ends around the fill. */
function keep(value: string, keepStart: number, keepEnd: number): string {
  const kept = keepStart + keepEnd
  if (kept === 0) return FILL
  const points = [...value]
  if (points.length < kept * 2) return FILL
  const head = points.slice(0, keepStart).join('')
  const tail = keepEnd === 0 ? '' : points.slice(points.length - keepEnd).join('')
  return `${head}${FILL}${tail}`
}

/** `email`: the domain stays, the local part is cut. What is no address is hidden whole. */
function maskEmail(value: string, keepStart: number, keepEnd: number): string {
  const at = value.lastIndexOf('@')
  if (at <= 0 || at === value.length - 1) return FILL
  return `${keep(value.slice(0, at), keepStart, keepEnd)}${value.slice(at)}`
}
