/** FrameReader: exact at every split point, bounded by what arrived, and shut after a fault. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  backendFrameLimits,
  FrameReader,
  frontendFrameLimits,
  frontendTypes,
} from '../../../src/wire/wire.ts'
import { ProxyError } from '../../../src/core/core.ts'
import { cut, drain, encode, frame, plainFrames } from './streams.ts'

const options = { frameBytesMax: 1 << 20 }

function faultOf(run: () => unknown): ProxyError {
  try {
    run()
  } catch (error) {
    if (error instanceof ProxyError) return error
    throw error
  }
  throw new Error('expected a ProxyError')
}

describe('FrameReader', () => {
  it('gives the same frames at every split point', () => {
    fc.assert(
      fc.property(plainFrames, fc.array(fc.nat(), { maxLength: 20 }), (frames, at) => {
        expect(drain(cut(encode(frames), at))).toEqual(frames)
      }),
    )
  })

  it('gives the same frames when every byte comes alone', () => {
    fc.assert(
      fc.property(plainFrames, (frames) => {
        const bytes = encode(frames)
        expect(drain(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1)))).toEqual(frames)
      }),
    )
  })

  it('gives the same frames when all is pushed before anything is read', () => {
    fc.assert(
      fc.property(plainFrames, fc.array(fc.nat(), { maxLength: 20 }), (frames, at) => {
        const reader = new FrameReader(options)
        for (const piece of cut(encode(frames), at)) reader.push(piece)
        const got = []
        while (reader.next() === 'frame') {
          const body = Buffer.from(reader.buffer.subarray(reader.start + 5, reader.end))
          got.push({ type: reader.type, body })
        }
        expect(got).toEqual(frames)
        expect(reader.bufferedBytes).toBe(0)
      }),
    )
  })

  it('gives the same bytes when some frames are read, some taken in parts, at any pace', () => {
    const step = fc.constantFrom('push', 'next', 'take', 'release', 'run')
    fc.assert(
      fc.property(
        plainFrames,
        fc.array(fc.nat(), { maxLength: 20 }),
        fc.array(step, { maxLength: 200 }),
        (frames, at, steps) => {
          const bytes = encode(frames)
          expect(Buffer.concat(pace(cut(bytes, at), steps)).equals(bytes)).toBe(true)
        },
      ),
      { numRuns: 500 },
    )
  })

  it('takes a run of frames of one type as one view, and stops where next() must look', () => {
    const reader = new FrameReader({ frameBytesMax: 100 })
    const [row, other] = [frame('D', 'abc'), frame('C', 'x')]
    reader.push(Buffer.concat([row, row, other, row, row.subarray(0, 6)]))
    expect(reader.nextRun(0x44)).toBe(2)
    expect([reader.start, reader.end, reader.type]).toEqual([0, 2 * row.length, 0x44])
    expect(reader.nextRun(0x44)).toBe(0)
    expect(reader.next()).toBe('frame')
    expect(reader.nextRun(0x44)).toBe(1)
    expect(reader.nextRun(0x44)).toBe(0)
    expect(reader.next()).toBe('partial')
    // The rest of a frame that crosses chunks is next()'s, whatever it begins with.
    reader.push(Buffer.concat([row.subarray(6), row]))
    expect(reader.nextRun(0x44)).toBe(0)
    expect(reader.next()).toBe('frame')
    expect(reader.nextRun(0x44)).toBe(1)
  })

  it.each([-1, 0, 3, 101, 2 ** 31 - 1])('never runs over a frame of length %i', (length) => {
    const reader = new FrameReader({ frameBytesMax: 100 })
    const bad = Buffer.alloc(200, 'D')
    bad.writeInt32BE(length, 1)
    reader.push(Buffer.concat([frame('D', 'abc'), bad]))
    expect(reader.nextRun(0x44)).toBe(1)
    expect(reader.nextRun(0x44)).toBe(0)
    const found = (): unknown => [reader.next(), reader.next()]
    expect(found).toThrow(ProxyError)
    expect(reader.nextRun(0x44)).toBe(0)
  })

  it('shows frames of one chunk in that chunk, one behind the other, without copying', () => {
    const chunk = Buffer.concat([frame('D', 'one'), frame('D', 'two'), frame('C', 'SELECT 2\0')])
    const reader = new FrameReader(options)
    reader.push(chunk)
    let end = 0
    while (reader.next() === 'frame') {
      expect(reader.buffer).toBe(chunk)
      expect(reader.start).toBe(end)
      end = reader.end
    }
    expect(end).toBe(chunk.length)
  })

  it('copies only the frame that crosses chunks; those behind it stay in their chunk', () => {
    const reader = new FrameReader(options)
    const bytes = Buffer.concat([frame('D', 'crosses'), frame('D', 'whole')])
    reader.push(bytes.subarray(0, 7))
    expect(reader.next()).toBe('partial')
    const second = bytes.subarray(7)
    reader.push(second)
    expect(reader.next()).toBe('frame')
    expect(reader.buffer).not.toBe(second)
    expect(reader.next()).toBe('frame')
    expect(reader.buffer).toBe(second)
    expect(reader.next()).toBe('none')
  })

  it('keeps a view whole while later frames of the same push are read', () => {
    const reader = new FrameReader(options)
    const bytes = Buffer.concat([frame('D', 'a'.repeat(300)), frame('D', 'b'.repeat(900))])
    reader.push(bytes.subarray(0, 10))
    reader.push(bytes.subarray(10, 400))
    expect(reader.next()).toBe('frame')
    const first = reader.buffer.subarray(reader.start, reader.end)
    expect(reader.next()).toBe('partial')
    expect(first.equals(bytes.subarray(0, 305))).toBe(true)
  })

  it('does not depend on a borrowed chunk after release()', () => {
    const chunk = frame('Q', 'select 1\0').subarray(0, 9)
    const reader = new FrameReader(options)
    reader.push(chunk)
    expect(reader.next()).toBe('partial')
    reader.release()
    chunk.fill(0xee)
    reader.push(frame('Q', 'select 1\0').subarray(9))
    expect(reader.next()).toBe('frame')
    expect(reader.buffer.toString('latin1', reader.start + 5, reader.end)).toBe('select 1\0')
  })

  it('passes a frame on in parts, never holding them', () => {
    const bytes = frame('d', 'x'.repeat(1000))
    const reader = new FrameReader(options)
    reader.push(bytes.subarray(0, 100))
    expect(reader.next()).toBe('partial')
    expect(reader.type).toBe(0x64)
    expect(reader.declaredBytes).toBe(1004)
    reader.takePartial()
    expect(reader.end - reader.start).toBe(100)
    expect(reader.last).toBe(false)
    expect(reader.bufferedBytes).toBe(0)
    expect(reader.next()).toBe('none')
    reader.push(Buffer.concat([bytes.subarray(100), frame('c')]))
    expect(reader.next()).toBe('rest')
    expect([reader.end - reader.start, reader.last]).toEqual([905, true])
    expect(reader.next()).toBe('frame')
    expect(reader.type).toBe(0x63)
  })

  it('lets takePartial() only follow partial', () => {
    const reader = new FrameReader(options)
    expect(() => reader.takePartial()).toThrow('takePartial() without a partial frame')
    reader.push(frame('Q', 'x\0'))
    reader.next()
    expect(() => reader.takePartial()).toThrow('takePartial() without a partial frame')
  })
})

/** Walks through the pieces by the steps, then to the end; gives what the reader gave, in order. */
function pace(pieces: readonly Buffer[], steps: readonly string[]): Buffer[] {
  const reader = new FrameReader(options)
  const got: Buffer[] = []
  let pushed = 0
  let partial = false
  const keep = () => got.push(Buffer.from(reader.buffer.subarray(reader.start, reader.end)))
  const next = () => {
    const found = reader.next()
    partial = found === 'partial'
    if (found === 'frame' || found === 'rest') keep()
    return found
  }
  for (const step of steps) {
    if (step === 'push' && pushed < pieces.length) {
      // A copy that is overwritten after release() below would show a view that was kept.
      reader.push(Buffer.from(pieces[pushed++]!))
      partial = false
    } else if (step === 'next') next()
    else if (step === 'run') {
      const first = pieces[0]?.[0] ?? 0
      if (reader.nextRun(first) > 0) {
        keep()
        partial = false
      }
    } else if (step === 'release') {
      reader.release()
      partial = false
    } else if (step === 'take' && partial) {
      reader.takePartial()
      partial = false
      keep()
    }
  }
  for (;;) {
    while (!['none', 'partial'].includes(next()));
    if (pushed === pieces.length) break
    reader.push(pieces[pushed++]!)
  }
  return got
}

describe('memory that a view has shown', () => {
  const query = (text: string): Buffer => {
    const message = Buffer.alloc(5 + text.length + 1)
    message.write('Q')
    message.writeInt32BE(4 + text.length + 1, 1)
    message.write(text, 5)
    return message
  }

  // A socket that is busy writes later: what it writes must be what was judged.
  it('is never written again, however the frames behind it are cut', () => {
    const judged = query('SELECT 1 /* padding */')
    const hostile = query('DROP TABLE customers; ')
    for (let first = 1; first < judged.length; first++) {
      for (let second = 1; second < hostile.length; second++) {
        const reader = new FrameReader({ frameBytesMax: 1_000 })
        reader.push(judged.subarray(0, first))
        expect(reader.next()).toMatch(/none|partial/)
        reader.push(judged.subarray(first))
        expect(reader.next()).toBe('frame')
        const queued = reader.buffer.subarray(reader.start, reader.end)
        reader.next()
        reader.push(hostile.subarray(0, second))
        reader.next()
        reader.push(hostile.subarray(second))
        reader.next()
        expect(queued.equals(judged)).toBe(true)
      }
    }
  })
})

describe('FrameReader against hostile lengths', () => {
  it.each([0, 1, 2, 3, 0x8000_0000, 0xffff_ffff, 0xffff_fffc])('refuses the length %d', (bytes) => {
    const reader = new FrameReader(options)
    reader.push(frame('Q', 'select 1\0', bytes))
    const fault = faultOf(() => reader.next())
    expect([fault.code, fault.sqlstate]).toEqual(['protocol_violation', '08P01'])
  })

  it('refuses a length over the limit before any of its body is there, and names the limit', () => {
    const reader = new FrameReader({ frameBytesMax: 1000 })
    reader.push(frame('Q', '', 1001))
    const fault = faultOf(() => reader.next())
    expect([fault.code, fault.sqlstate]).toEqual(['program_limit_exceeded', '54000'])
    expect(fault.hint).toContain('frameBytesMax')
    const exact = new FrameReader({ frameBytesMax: 1000 })
    exact.push(frame('Q', '', 1000))
    expect(exact.next()).toBe('partial')
  })

  it('stays shut after a fault: nothing behind unreadable bytes is taken for a frame', () => {
    const reader = new FrameReader(options)
    reader.push(frame('Q', '', 3))
    const fault = faultOf(() => reader.next())
    reader.push(frame('Q', 'select 1\0'))
    expect(faultOf(() => reader.next())).toBe(fault)
  })

  it('still gives the frames before the fault', () => {
    const reader = new FrameReader(options)
    reader.push(Buffer.concat([frame('S'), frame('S', '', 2)]))
    expect(reader.next()).toBe('frame')
    expect(() => reader.next()).toThrow(ProxyError)
  })

  it('refuses a type byte that is no message of the direction', () => {
    const limits = frontendFrameLimits(1 << 20)
    for (let type = 0; type < 256; type++) {
      const known = (Object.values(frontendTypes) as number[]).includes(type)
      const reader = new FrameReader({ ...options, limits })
      reader.push(frame(type, ''))
      if (known) expect(reader.next()).toBe('frame')
      else expect(faultOf(() => reader.next()).code).toBe('protocol_violation')
    }
    const backend = new FrameReader({ ...options, limits: backendFrameLimits(1 << 20) })
    backend.push(frame('Q', 'select 1\0'))
    expect(faultOf(() => backend.next()).message).toBe('invalid message type "Q"')
  })

  it('allows short messages only what PostgreSQL allows them', () => {
    const limits = frontendFrameLimits(1 << 20)
    for (const type of ['C', 'D', 'E', 'H', 'S', 'X', 'c', 'f']) {
      const reader = new FrameReader({ ...options, limits })
      reader.push(frame(type, '', 10_001))
      expect(faultOf(() => reader.next()).code).toBe('program_limit_exceeded')
    }
  })

  it('gives what is too long to be held only in parts, whole or not', () => {
    const long = frame('d', 'x'.repeat(2000))
    const bytes = Buffer.concat([frame('S'), long, frame('c')])
    for (const limits of [frontendFrameLimits(1000), backendFrameLimits(1000)]) {
      limits[0x53] = 100
      for (const at of [0, 5, 6, 9, 10, 500, 2009, 2010, 2011, bytes.length]) {
        for (const ahead of [false, true]) {
          const reader = new FrameReader({ frameBytesMax: 1000, limits })
          const found: string[] = []
          const parts: Buffer[] = []
          const drainAll = () => {
            for (let next = reader.next(); next !== 'none'; next = reader.next()) {
              if (next === 'partial' && reader.declaredBytes <= 1000) break
              if (next === 'partial') reader.takePartial()
              if (next !== 'rest') found.push(`${next} ${String.fromCharCode(reader.type)}`)
              parts.push(Buffer.from(reader.buffer.subarray(reader.start, reader.end)))
            }
          }
          reader.push(bytes.subarray(0, at))
          if (!ahead) drainAll()
          reader.push(bytes.subarray(at))
          drainAll()
          expect(found).toEqual(['frame S', 'partial d', 'frame c'])
          expect(Buffer.concat(parts).equals(bytes)).toBe(true)
        }
      }
    }
  })

  it('refuses what is too long to be held and was not taken, before more of it is kept', () => {
    const reader = new FrameReader({ frameBytesMax: 1000, limits: backendFrameLimits(1000) })
    reader.push(frame('D', 'x'.repeat(100), 0x3fff_ffff))
    expect(reader.next()).toBe('partial')
    reader.push(Buffer.alloc(5000))
    const fault = faultOf(() => reader.next())
    expect(fault.code).toBe('program_limit_exceeded')
    expect(fault.detail).toBe('The limit is 1000 bytes.')
    const text = new FrameReader({ frameBytesMax: 1000, limits: frontendFrameLimits(1000) })
    text.push(frame('Q', '', 1001))
    expect(faultOf(() => text.next()).code).toBe('program_limit_exceeded')
  })

  it('hands over what it has not consumed', () => {
    const reader = new FrameReader(options)
    const bytes = Buffer.concat([frame('p', 'secret\0'), frame('Q', 'select 1\0'), frame('S')])
    reader.push(bytes.subarray(0, 3))
    reader.next()
    reader.push(bytes.subarray(3, 20))
    reader.next()
    reader.push(bytes.subarray(20))
    expect(reader.takeRest().equals(bytes.subarray(12))).toBe(true)
    expect([reader.bufferedBytes, reader.next()]).toEqual([0, 'none'])
  })

  it('keeps memory at what arrived, whatever was declared', () => {
    const reader = new FrameReader({ frameBytesMax: 0x3fff_ffff })
    reader.push(frame('d', 'x', 0x3fff_ffff))
    expect(reader.next()).toBe('partial')
    reader.release()
    expect(reader.next()).toBe('partial')
    expect(reader.bufferedBytes).toBe(6)
    reader.takePartial()
    expect(reader.buffer.length).toBeLessThan(1024)
  })

  it('gives a buffer back after a spike', () => {
    const reader = new FrameReader(options)
    const big = frame('Q', 'x'.repeat(100_000))
    for (let at = 0; at < big.length; at += 1000) reader.push(big.subarray(at, at + 1000))
    expect(reader.next()).toBe('frame')
    expect(reader.next()).toBe('none')
    const small = frame('Q', 'y'.repeat(20))
    reader.push(small.subarray(0, 10))
    reader.next()
    reader.push(small.subarray(10))
    expect(reader.next()).toBe('frame')
    expect(reader.buffer.length).toBeLessThan(1024)
  })

  it('takes linear time for a large frame that comes in small pieces', () => {
    const timeMs = (bytes: number) => {
      const piece = Buffer.alloc(100, 0x20)
      const reader = new FrameReader({ frameBytesMax: 0x3fff_ffff })
      const startCpu = process.cpuUsage()
      reader.push(frame('Q', '', bytes + 4))
      for (let at = 0; at < bytes; at += piece.length) {
        reader.push(piece)
        reader.next()
      }
      return process.cpuUsage(startCpu).user / 1000
    }
    timeMs(1_000_000)
    const smallMs = timeMs(1_000_000)
    // Ten times the bytes; quadratic would be a hundred times the time.
    expect(timeMs(10_000_000)).toBeLessThan(Math.max(smallMs, 2) * 50)
  })
})
