/**
 * Cuts libpg_query's JSON text of a whole query string into its statements without parsing it:
 *   {"version":180004,"stmts":[{"stmt":{…},"stmt_location":0,"stmt_len":8},{"stmt":{…}}]}
 * A RawStmt is the only node that begins with a field `stmt`, and no string content can hold the bytes
 * `{"stmt":{` (a quote inside a string is escaped), so each occurrence begins one statement. Whatever
 * does not look exactly like this throws: nothing is guessed.
 */
import { assert } from '../core/core.ts'

/** One statement's tree and where its text stands in the query string, in bytes. */
export interface StatementSlice {
  /** Of the JSON text: from where to where this statement's tree stands. */
  readonly start: number
  readonly end: number
  readonly location: number
  /** 0: up to the end of the query string. */
  readonly bytes: number
}

const opening = Buffer.from('{"stmt":{')
const head = '{"version":180004,"stmts":['
const headBytes = Buffer.byteLength(head)
const tail = ']}'

/** @param json UTF-8 text of libpg_query's answer; not kept. */
export function splitTrees(json: Buffer): readonly StatementSlice[] {
  assert(json.toString('latin1', 0, headBytes) === head, 'libpg_query: unknown tree version')
  const end = json.length - tail.length
  assert(json.toString('latin1', end) === tail, 'libpg_query: truncated tree')
  const slices: StatementSlice[] = []
  let start = headBytes
  while (start < end) {
    assert(json.indexOf(opening, start) === start, 'libpg_query: unknown statement form')
    const next = json.indexOf(opening, start + opening.length)
    // Between two statements stands one comma.
    const stop = next === -1 ? end : next - 1
    slices.push(sliceOf(json, start, stop))
    start = next === -1 ? end : next
  }
  return slices
}

/** json[start, stop) is `{"stmt":{…}[,"stmt_location":n][,"stmt_len":n]}`. */
function sliceOf(json: Buffer, start: number, stop: number): StatementSlice {
  let at = stop - 1
  assert(json[at] === 0x7d, 'libpg_query: unknown statement end')
  let location = 0
  let bytes = 0
  const lengthField = fieldBefore(json, at, '"stmt_len":')
  if (lengthField !== null) {
    bytes = lengthField.value
    at = lengthField.at
  }
  const locationField = fieldBefore(json, at, '"stmt_location":')
  if (locationField !== null) {
    location = locationField.value
    at = locationField.at
  }
  assert(json[at - 1] === 0x7d, 'libpg_query: unknown field after a statement')
  return { start: start + opening.length - 1, end: at, location, bytes }
}

/** The unsigned number of `,"name":123` that ends at `end`, and where its comma stands. */
function fieldBefore(
  json: Buffer,
  end: number,
  name: string,
): { value: number; at: number } | null {
  let at = end
  let value = 0
  let scale = 1
  for (;;) {
    const digit = (json[at - 1] ?? 0) - 0x30
    if (digit < 0 || digit > 9) break
    value += digit * scale
    scale *= 10
    at -= 1
  }
  const begin = at - name.length
  if (at === end || begin < 1 || json[begin - 1] !== 0x2c) return null
  return json.toString('latin1', begin, at) === name ? { value, at: begin - 1 } : null
}
