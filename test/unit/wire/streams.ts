/** Streams of frames for the tests of the wire: arbitraries, splitting, and a drain of a reader. */
import fc from 'fast-check'
import { FrameReader, written, type FrameReaderOptions } from '../../../src/wire/wire.ts'

export interface PlainFrame {
  readonly type: number
  readonly body: Buffer
}

/** A frame by hand; `declaredBytes` lies about the length where it is given. */
export function frame(
  type: string | number,
  body: Uint8Array | string = '',
  declaredBytes?: number,
) {
  const bytes = typeof body === 'string' ? Buffer.from(body, 'latin1') : body
  const head = Buffer.alloc(5)
  head[0] = typeof type === 'string' ? type.charCodeAt(0) : type
  head.writeUInt32BE((declaredBytes ?? bytes.length + 4) >>> 0, 1)
  return Buffer.concat([head, bytes])
}

export function encode(frames: readonly PlainFrame[]): Buffer {
  return written((writer) => {
    for (const { type, body } of frames) {
      writer.begin(type)
      writer.bytes(body)
      writer.end()
    }
  })
}

/** A view of a buffer that holds one frame, in the middle of other bytes so offsets matter. */
export function viewOf(bytes: Buffer) {
  const buffer = Buffer.concat([Buffer.from('junk\0'), bytes, Buffer.from('\0more junk')])
  return { buffer, start: 5, end: 5 + bytes.length }
}

export const plainFrames = fc.array(
  fc.record({
    type: fc.integer({ min: 0, max: 255 }),
    body: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  }),
  { maxLength: 12 },
)

/** Cuts bytes at the given offsets (any numbers; they are folded into range). */
export function cut(bytes: Buffer, at: readonly number[]): Buffer[] {
  const offsets = [...new Set(at.map((n) => n % (bytes.length + 1)))].sort((a, b) => a - b)
  const pieces: Buffer[] = []
  let from = 0
  for (const offset of [...offsets, bytes.length]) {
    pieces.push(bytes.subarray(from, offset))
    from = offset
  }
  return pieces
}

/** Pushes the pieces one by one, draining after each, and copies every frame out. */
export function drain(
  pieces: readonly Buffer[],
  options: FrameReaderOptions = { frameBytesMax: 1 << 20 },
): PlainFrame[] {
  const reader = new FrameReader(options)
  const frames: PlainFrame[] = []
  for (const piece of pieces) {
    reader.push(piece)
    while (reader.next() === 'frame') {
      const body = Buffer.from(reader.buffer.subarray(reader.start + 5, reader.end))
      frames.push({ type: reader.type, body })
    }
  }
  return frames
}
