/**
 * ns per operation of the wire's hot paths:
 *   node scripts/run-ts.mjs bench/micro/wire.bench.ts
 * Each figure is the median of nine rounds, with the fastest and the slowest beside it.
 */
import os from 'node:os'
import {
  DataRowReader,
  decodeBind,
  decodeExecute,
  decodeParse,
  decodeQuery,
  decodeReadyForQuery,
  decodeRowDescription,
  encodeBind,
  encodeCommandComplete,
  encodeDataRow,
  encodeEmpty,
  encodeErrorResponse,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeReadyForQuery,
  encodeRowDescription,
  encodeSync,
  ByteWriter,
  FrameReader,
  frontendFrameLimits,
  backendFrameLimits,
  messageBytesMax,
  written,
  type Field,
} from '../../src/wire/wire.ts'

const rounds = 9
let sink = 0

/** Runs `operation` (which does `count` operations) until a round takes 100 ms; prints ns/op. */
function bench(name: string, count: number, operation: () => number): void {
  let repeats = 1
  for (;;) {
    const startMs = performance.now()
    for (let i = 0; i < repeats; i++) sink += operation()
    if (performance.now() - startMs > 100) break
    repeats *= 2
  }
  const ns: number[] = []
  for (let round = 0; round < rounds; round++) {
    const startMs = performance.now()
    for (let i = 0; i < repeats; i++) sink += operation()
    ns.push(((performance.now() - startMs) * 1e6) / (repeats * count))
  }
  ns.sort((a, b) => a - b)
  const [fastest, median, slowest] = [ns[0]!, ns[rounds >> 1]!, ns[rounds - 1]!]
  console.log(
    `${name.padEnd(52)} ${median.toFixed(1).padStart(9)} ns/op   (${fastest.toFixed(1)} – ${slowest.toFixed(1)})`,
  )
}

function repeat(bytes: Buffer, count: number): Buffer {
  return Buffer.concat(Array.from({ length: count }, () => bytes))
}

function scan(reader: FrameReader, chunks: readonly Buffer[]): number {
  let end = 0
  for (const chunk of chunks) {
    reader.push(chunk)
    while (reader.next() === 'frame') end += reader.end
  }
  return end
}

function pieces(bytes: Buffer, pieceBytes: number): Buffer[] {
  const list: Buffer[] = []
  for (let at = 0; at < bytes.length; at += pieceBytes)
    list.push(bytes.subarray(at, at + pieceBytes))
  return list
}

const field: Field = {
  name: 'abalance',
  relation: 16_384,
  attribute: 3,
  type: 23,
  typeBytes: 4,
  modifier: -1,
  format: 0,
}
const fields = Array.from({ length: 10 }, (_, i) => ({ ...field, name: `column_${i}` }))
const row = ['1', '42', 'some text that is longer', null, '3.14', 't', '2026-01-01', 'x', 'y', 'z']

// pgbench -S: what one statement sends and gets, prepared and simple.
const prepared = written((w) => {
  encodeBind(w, { portal: '', statement: 'P0_1', parameters: ['12345'] })
  encodeExecute(w, '', 0)
  encodeSync(w)
})
const simple = written((w) =>
  encodeQuery(w, 'SELECT abalance FROM pgbench_accounts WHERE aid = 12345;'),
)
const answer = written((w) => {
  encodeEmpty(w, 'BindComplete')
  encodeRowDescription(w, [field])
  encodeDataRow(w, ['0'])
  encodeCommandComplete(w, 'SELECT 1')
  encodeReadyForQuery(w, 'idle')
})
const rows = written((w) => {
  for (let i = 0; i < 500; i++) encodeDataRow(w, row)
})

const repeated = repeat(prepared, 100)
const answers = repeat(answer, 100)
const rowPieces = pieces(rows, 1000)

const facts = `node ${process.version}, ${os.cpus()[0]?.model ?? 'unknown CPU'}, ${os.cpus().length} cores`
console.log(facts)

const fromClient = new FrameReader({ frameBytesMax: 1 << 26, limits: frontendFrameLimits(1 << 26) })
const fromServer = new FrameReader({
  frameBytesMax: messageBytesMax,
  limits: backendFrameLimits(messageBytesMax),
})
const plain = new FrameReader({ frameBytesMax: messageBytesMax })

bench('frame scan: prepared -S from the client, per frame', 300, () => scan(fromClient, [repeated]))
bench('frame scan: answers of -S, per frame', 500, () => scan(fromServer, [answers]))
bench('frame scan: 500 rows of 10 columns, per frame', 500, () => scan(fromServer, [rows]))
bench('the same without limits by type', 500, () => scan(plain, [rows]))
bench('the same in pieces of 1,000 bytes', 500, () => scan(fromServer, rowPieces))
bench('one statement a chunk (3 frames), per chunk', 1, () => scan(fromClient, [prepared]))

const query = { buffer: simple, start: 0, end: simple.length }
bench('decode Query (58 bytes)', 1, () => decodeQuery(query).textEnd)
const parse = whole((w) =>
  encodeParse(w, {
    name: 'P0_1',
    text: 'SELECT abalance FROM pgbench_accounts WHERE aid = $1;',
    parameterTypes: [23],
  }),
)
bench('decode Parse', 1, () => decodeParse(parse).textEnd)
const bind = whole((w) => encodeBind(w, { portal: '', statement: 'P0_1', parameters: ['12345'] }))
bench('decode Bind of one parameter', 1, () => decodeBind(bind).parameterCount)
bench('decode Bind and view its parameter', 1, () => decodeBind(bind).parameters.length)
const execute = whole((w) => encodeExecute(w, '', 0))
bench('decode Execute', 1, () => decodeExecute(execute).rowLimit)
const ready = whole((w) => encodeReadyForQuery(w, 'idle'))
bench('decode ReadyForQuery', 1, () => decodeReadyForQuery(ready).length)
const description = whole((w) => encodeRowDescription(w, fields))
bench('decode RowDescription of 10 fields', 1, () => decodeRowDescription(description).length)
const rowReader = new DataRowReader()
const dataRow = whole((w) => encodeDataRow(w, row))
bench('offsets of a row of 10 columns', 1, () => rowReader.read(dataRow))

const writer = new ByteWriter()
bench('encode a row of 10 columns', 1, () => {
  encodeDataRow(writer, row)
  return writer.count > 60_000 ? writer.take().length : 0
})
bench('encode ErrorResponse and take it', 1, () => {
  encodeErrorResponse(writer, {
    severity: 'ERROR',
    sqlstate: '42501',
    message: 'permission denied',
    detail: 'rule agents_read_only',
    hint: 'ask',
  })
  return writer.take().length
})
if (sink === 0) console.log('nothing was measured')

function whole(write: (w: ByteWriter) => void) {
  const buffer = written(write)
  return { buffer, start: 0, end: buffer.length }
}
