/**
 * The rows of one statement as the client saw them, for `audit.results: masked`. It is fed only with
 * bytes that are on their way to the client, behind every mask: what was hidden, dropped or stopped
 * never comes here. Bounded; what is over is counted, not kept.
 */
import { cut, jsonText } from '../core/core.ts'
import { isUtf8 } from '../wire/wire.ts'

export interface RecordingLimits {
  readonly rowCountMax: number
  readonly bytesMax: number
}

const headerBytes = 5
const countBytes = 2
const lengthBytes = 4
/** Of one value. */
const valueBytesMax = 8 * 1024
const nameLengthMax = 256
const binaryFormat = 1

export class ResultRecording {
  readonly #limits: RecordingLimits
  readonly #columns: readonly string[]
  /** Of Bind: none is all text, one is for all. */
  readonly #formats: readonly number[]
  #rows: string[] = []
  #copied: Buffer[] = []
  #bytes = 0
  #rowCount = 0
  #truncated = false

  constructor(
    limits: RecordingLimits,
    columns: readonly string[],
    formats: readonly number[] | null,
  ) {
    this.#limits = limits
    this.#columns = columns
    this.#formats = formats ?? []
  }

  /** A whole DataRow that goes to the client: `buffer[start, end)` with its header. */
  row(buffer: Buffer, start: number, end: number): void {
    this.#rowCount++
    const { rowCountMax, bytesMax } = this.#limits
    if (this.#rows.length >= rowCountMax || this.#bytes >= bytesMax) {
      this.#truncated = true
      return
    }
    const text = this.#rowJson(buffer, start + headerBytes, end)
    this.#bytes += text.length
    this.#rows.push(text)
  }

  /** Whole CopyData messages that go to the client. */
  copied(buffer: Buffer, start: number, end: number): void {
    for (let at = start; at + headerBytes <= end;) {
      const next = at + 1 + buffer.readUInt32BE(at + 1)
      const room = this.#limits.bytesMax - this.#bytes
      if (next - at - headerBytes > room) this.#truncated = true
      if (room > 0) {
        const kept = Buffer.from(
          buffer.subarray(at + headerBytes, Math.min(next, at + headerBytes + room)),
        )
        this.#copied.push(kept)
        this.#bytes += kept.length
      }
      at = next
    }
  }

  /** Something went to the client that was too large to be looked at. */
  passedUnseen(): void {
    this.#truncated = true
  }

  /** What was recorded since the last time; null where there was nothing. */
  json(): string | null {
    if (this.#rowCount === 0 && this.#copied.length === 0 && !this.#truncated) return null
    const truncated = `"truncated":${this.#truncated}`
    const json =
      this.#copied.length > 0
        ? `{"copy":${valueJson(Buffer.concat(this.#copied), false, this.#limits.bytesMax)},${truncated}}`
        : `{"columns":[${this.#columns.map((name) => jsonText(cut(name, nameLengthMax))).join(',')}],` +
          `"rows":[${this.#rows.join(',')}],${truncated}}`
    this.#rows = []
    this.#copied = []
    this.#bytes = 0
    this.#rowCount = 0
    this.#truncated = false
    return json
  }

  #rowJson(buffer: Buffer, start: number, end: number): string {
    const values: string[] = []
    let at = start + countBytes
    while (at + lengthBytes <= end) {
      const length = buffer.readInt32BE(at)
      at += lengthBytes
      if (length < 0) {
        values.push('null')
        continue
      }
      const value = buffer.subarray(at, Math.min(at + length, end))
      const format = this.#formats[this.#formats.length === 1 ? 0 : values.length] ?? 0
      if (value.length > valueBytesMax) this.#truncated = true
      values.push(valueJson(value, format === binaryFormat, valueBytesMax))
      at += length
    }
    return `[${values.join(',')}]`
  }
}

/** Text as it is, everything else as `\x…`. */
function valueJson(value: Buffer, binary: boolean, bytesMax: number): string {
  if (!binary && isUtf8(value)) {
    const text = value.subarray(0, bytesMax).toString('utf8')
    return jsonText(value.length > bytesMax ? `${text.replace(/\ufffd+$/, '')}…` : text)
  }
  const more = value.length > bytesMax ? '…' : ''
  return `"\\\\x${value.subarray(0, bytesMax).toString('hex')}${more}"`
}
