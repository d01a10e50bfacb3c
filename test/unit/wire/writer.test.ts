/** ByteWriter: what was taken never changes, memory is given back, misuse is an assertion. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AssertionError } from '../../../src/core/core.ts'
import { ByteWriter, isUtf8, written } from '../../../src/wire/wire.ts'

describe('ByteWriter', () => {
  it('writes integers big-endian, signed as unsigned', () => {
    const bytes = written((w) => {
      w.u8(0xab)
      w.u16(0x1234)
      w.i16(-2)
      w.u32(0xdeadbeef)
      w.i32(-1)
    })
    expect(bytes.toString('hex')).toBe('ab' + '1234' + 'fffe' + 'deadbeef' + 'ffffffff')
  })

  it('never touches again what it handed out', () => {
    const operation = fc.oneof(
      fc.uint8Array({ maxLength: 3000 }),
      fc.string({ maxLength: 700 }),
      fc.constant('take' as const),
    )
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const writer = new ByteWriter()
        const expected: Buffer[] = []
        const taken: Buffer[] = []
        for (const item of operations) {
          if (item === 'take') taken.push(writer.take())
          else if (typeof item === 'string') {
            writer.string(item)
            expected.push(Buffer.from(item))
          } else {
            writer.bytes(item)
            expected.push(Buffer.from(item))
          }
        }
        taken.push(writer.take())
        expect(Buffer.concat(taken).equals(Buffer.concat(expected))).toBe(true)
        expect(writer.count).toBe(0)
      }),
    )
  })

  it('patches the length of a message whose memory moved while it was written', () => {
    const writer = new ByteWriter()
    writer.bytes(Buffer.alloc(4000))
    writer.take()
    writer.begin(0x51)
    writer.bytes(Buffer.alloc(5000, 1))
    writer.value('ü'.repeat(4000))
    writer.end()
    const frame = writer.take()
    expect(frame.readUInt32BE(1)).toBe(frame.length - 1)
    expect(frame.readUInt32BE(5005)).toBe(8000)
    expect(frame.subarray(5009).toString()).toBe('ü'.repeat(4000))
  })

  it('writes every string as Buffer.from does, lone surrogates included', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 900 }), (text) => {
        expect(written((w) => w.string(text)).equals(Buffer.from(text))).toBe(true)
        const value = written((w) => w.value(text))
        expect(value.readInt32BE(0)).toBe(value.length - 4)
      }),
      { numRuns: 40 },
    )
    expect(written((w) => w.string('\ud800')).toString('hex')).toBe('efbfbd')
  })

  it('writes slices of a source', () => {
    const source = Buffer.from('0123456789')
    expect(written((w) => w.bytes(source, 3, 6)).toString()).toBe('345')
  })

  it('gives memory back after a spike', () => {
    const writer = new ByteWriter()
    writer.bytes(Buffer.alloc(1_000_000))
    writer.take()
    writer.u8(1)
    writer.take()
    writer.u8(1)
    expect(writer.take().buffer.byteLength).toBeLessThan(8192)
  })

  it('asserts that messages are begun, ended and not nested', () => {
    const writer = new ByteWriter()
    expect(() => writer.end()).toThrow(AssertionError)
    writer.begin(0x51)
    expect(() => writer.begin(0x51)).toThrow(AssertionError)
    expect(() => writer.beginUntyped()).toThrow(AssertionError)
    expect(() => writer.take()).toThrow(AssertionError)
    writer.abandon()
    expect(writer.take()).toHaveLength(0)
  })
})

describe('isUtf8', () => {
  it.each<[string, string, boolean]>([
    ['ASCII', '73656c656374', true],
    ['the longest forms', 'f48fbfbf', true],
    ['a NUL', '00', true],
    ['an overlong slash', 'c0af', false],
    ['an overlong NUL', 'c080', false],
    ['a surrogate', 'eda080', false],
    ['above U+10FFFF', 'f4908080', false],
    ['a five-byte form', 'f888808080', false],
    ['a lone continuation', '80', false],
    ['a form that is cut', 'e282', false],
  ])('judges %s as PostgreSQL does', (_case, hex, valid) => {
    const bytes = Buffer.from(`ff${hex}ff`, 'hex')
    expect(isUtf8(bytes, 1, bytes.length - 1)).toBe(valid)
  })
})
