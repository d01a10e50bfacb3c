/**
 * Replaces the texts of ErrorResponse and NoticeResponse (B) while a statement reads masked
 * columns: `invalid input syntax for type integer: "123-45-6789"` is a leak, and so is a constraint
 * name with a value in DETAIL. Severity and SQLSTATE stay, everything else goes.
 *
 * A SQLSTATE that PostgreSQL does not know can only come from code that chose it freely, so it could
 * carry five characters of a value: it becomes XX000 (errors) or 01000 (notices).
 *
 * Kept as it is: an error of class 42 with a position and without context or inner query. Parse
 * analysis of the client's own text raises it before any row is read (`column "x" does not exist`);
 * at run time the same SQLSTATEs come without a position (parser_errposition needs a ParseState).
 *
 * https://www.postgresql.org/docs/18/protocol-error-fields.html
 */
import { ProxyError } from '../core/core.ts'
import { backendTypes, type ByteWriter } from '../wire/wire.ts'
import { conditions } from './conditions.ts'

const HEADER_BYTES = 5
const SEVERITY = 0x53
const SEVERITY_PLAIN = 0x56
const SQLSTATE = 0x43
const MESSAGE = 0x4d
const HINT = 0x48
const POSITION = 0x50
/** Internal position, internal query, context (where). */
const INNER = new Set([0x70, 0x71, 0x57])
/** Class 42: syntax error or access rule violation. */
const PARSE_CLASS = '42'

const SEVERITIES: ReadonlySet<string> = new Set([
  'ERROR',
  'FATAL',
  'PANIC',
  'WARNING',
  'NOTICE',
  'DEBUG',
  'INFO',
  'LOG',
])

const HINT_TEXT =
  "The text is hidden because the transaction reads masked columns; the SQLSTATE is the server's own."

/** Takes the whole frame `buffer[start, end)` and appends the redacted one to `out`. */
export function redactDiagnostics(
  buffer: Buffer,
  start: number,
  end: number,
  out: ByteWriter,
): void {
  const type = buffer[start] === backendTypes.NoticeResponse ? 'notice' : 'error'
  let severity = type === 'notice' ? 'NOTICE' : 'ERROR'
  let sqlstate = ''
  let isParsed = false
  let isInner = false
  let at = start + HEADER_BYTES
  while (at < end && buffer[at] !== 0) {
    const letter = buffer[at] ?? 0
    const terminator = buffer.indexOf(0, at + 1)
    if (terminator < 0 || terminator >= end) {
      throw new ProxyError('protocol_violation', 'malformed error or notice from the server')
    }
    const value = buffer.toString('latin1', at + 1, terminator)
    if (letter === SEVERITY_PLAIN && SEVERITIES.has(value)) severity = value
    else if (letter === SQLSTATE) sqlstate = value
    else if (letter === POSITION) isParsed = true
    else if (INNER.has(letter)) isInner = true
    at = terminator + 1
  }
  if (type === 'error' && isParsed && !isInner && sqlstate.startsWith(PARSE_CLASS)) {
    out.bytes(buffer, start, end)
    return
  }
  if (!conditions.has(sqlstate)) sqlstate = type === 'notice' ? '01000' : 'XX000'
  out.begin(type === 'notice' ? backendTypes.NoticeResponse : backendTypes.ErrorResponse)
  field(out, SEVERITY, severity)
  field(out, SEVERITY_PLAIN, severity)
  field(out, SQLSTATE, sqlstate)
  field(out, MESSAGE, genericText(sqlstate))
  field(out, HINT, HINT_TEXT)
  out.u8(0)
  out.end()
}

/** The condition's name as a sentence: `invalid text representation`. */
export function genericText(sqlstate: string): string {
  return (conditions.get(sqlstate) ?? 'internal_error').replaceAll('_', ' ')
}

function field(out: ByteWriter, letter: number, value: string): void {
  out.u8(letter)
  out.cstring(value)
}
