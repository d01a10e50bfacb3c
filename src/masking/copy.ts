/**
 * Masks the data of COPY … TO STDOUT: CopyData (B) frames in, masked frames out. The server sends
 * one row a frame, but nothing here relies on it: what is not a whole row yet is kept.
 *
 * COPY describes no types, so a masked field's type is that of the catalog columns it comes from;
 * where they are unknown or differ, only NULL is safe. A row with another number of fields than the
 * trace ends the copy: its columns cannot be told apart.
 *
 * https://www.postgresql.org/docs/18/sql-copy.html#SQL-COPY-FILE-FORMATS
 */
import { defaultLimits, ProxyError } from '../core/core.ts'
import type { Analysis, OutputTrace, SyntaxNode } from '../sql/sql.ts'
import { backendTypes, type ByteWriter } from '../wire/wire.ts'
import { BinaryRows } from './copy-binary.ts'
import { copyOptionsOf } from './copy-options.ts'
import { DelimitedRows } from './copy-text.ts'
import type { MaskPlan } from './plan.ts'
import { compileMask, type FieldTransform } from './transform.ts'
import { shapeOf, UNKNOWN_SHAPE, type TypeShape, type TypeSource } from './types.ts'

const HEADER_BYTES = 5

/** One field of a COPY. */
export interface CopyField {
  readonly name: string
  readonly transform: FieldTransform
  readonly forceQuote: boolean
}

/** One of the three formats. Stateful: a header comes once. */
export interface CopyRows {
  /**
   * Appends the masked form of every whole row of `buffer[start, end)` and returns where the first
   * row that is not whole begins.
   */
  rows(buffer: Buffer, start: number, end: number, out: ByteWriter): number
  /** The data ended with these bytes left over (possibly none). */
  finish(rest: Buffer, out: ByteWriter): void
}

/** One per COPY. */
export class CopyRewriter {
  readonly #rows: CopyRows
  readonly #restBytesMax: number
  #rest: Buffer = Buffer.alloc(0)

  constructor(rows: CopyRows, restBytesMax: number = defaultLimits.heldFrameBytesMax) {
    this.#rows = rows
    this.#restBytesMax = restBytesMax
  }

  /**
   * For the statement's tree (`{"CopyStmt": …}`) and the plan of its outputs. Throws ProxyError
   * (denied) where the options make the data unreadable (another encoding): ask before forwarding,
   * with `copyObstacle`.
   */
  static for(
    plan: MaskPlan,
    analysis: Analysis,
    ast: SyntaxNode,
    types: TypeSource,
    key: Uint8Array,
  ): CopyRewriter {
    const options = copyOptionsOf(ast)
    const traces = analysis.outputs ?? []
    if (plan.kind !== 'masked' || plan.outputs.length !== traces.length) {
      throw new ProxyError('internal', 'a COPY without a plan that fits its columns')
    }
    const format = options.format === 'binary' ? 'binary' : 'text'
    const fields = plan.outputs.map((output, index): CopyField => {
      const trace = traces[index]
      const shape = trace === undefined ? UNKNOWN_SHAPE : shapeOfTrace(trace, types)
      const name = trace?.name ?? ''
      return {
        name,
        transform: compileMask(output, shape, format, key),
        forceQuote: options.forceQuote === 'all' || options.forceQuote.has(name),
      }
    })
    const rows =
      options.format === 'binary' ? new BinaryRows(fields) : new DelimitedRows(fields, options)
    return new CopyRewriter(rows)
  }

  /** Takes the whole CopyData frame `buffer[start, end)`; appends a frame if a row is whole. */
  push(buffer: Buffer, start: number, end: number, out: ByteWriter): void {
    let data = buffer
    let from = start + HEADER_BYTES
    let to = end
    if (this.#rest.length > 0) {
      data = Buffer.concat([this.#rest, buffer.subarray(from, end)])
      from = 0
      to = data.length
    }
    let after = from
    this.#frame(out, () => {
      after = this.#rows.rows(data, from, to, out)
    })
    if (to - after > this.#restBytesMax) {
      throw new ProxyError(
        'program_limit_exceeded',
        'a row of COPY is longer than heldFrameBytesMax',
      )
    }
    this.#rest = after === to ? EMPTY : Buffer.from(data.subarray(after, to))
  }

  /** CopyDone came: what was kept is the last row, or the data was cut off. */
  end(out: ByteWriter): void {
    const rest = this.#rest
    this.#rest = EMPTY
    this.#frame(out, () => this.#rows.finish(rest, out))
  }

  /** Nothing is sent where nothing was written, and nothing of what failed. */
  #frame(out: ByteWriter, write: () => void): void {
    out.begin(backendTypes.CopyData)
    const before = out.count
    try {
      write()
    } catch (error) {
      out.abandon()
      throw error
    }
    if (out.count === before) out.abandon()
    else out.end()
  }
}

const EMPTY: Buffer = Buffer.alloc(0)

/** The type of the columns that an output comes from, if they agree. */
function shapeOfTrace(trace: OutputTrace, types: TypeSource): TypeShape {
  let found: TypeShape | null = null
  for (const origin of trace.origins) {
    const relation = types.relationByOid(origin.relation)
    const column = relation?.columns.find((candidate) => candidate.number === origin.attribute)
    if (column === undefined) return UNKNOWN_SHAPE
    const shape = shapeOf(column.type, column.modifier, types)
    if (found !== null && (found.oid !== shape.oid || found.charsMax !== shape.charsMax)) {
      return UNKNOWN_SHAPE
    }
    found = shape
  }
  return found ?? UNKNOWN_SHAPE
}
