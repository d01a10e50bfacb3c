import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { RowRewriter } from '../../../src/masking/row.ts'
import { PASS, TO_NULL, type FieldTransform } from '../../../src/masking/transform.ts'
import { ByteWriter } from '../../../src/wire/wire.ts'
import { dataRow, valuesOf } from './support.ts'

const stars: FieldTransform = { kind: 'fixed', value: Buffer.from('****') }
const upper: FieldTransform = {
  kind: 'compute',
  apply: (buffer, start, end) => Buffer.from(buffer.toString('utf8', start, end).toUpperCase()),
}

function rewrite(transforms: readonly FieldTransform[], frame: Buffer): Buffer {
  const out = new ByteWriter()
  // A frame lies somewhere inside a larger buffer.
  const buffer = Buffer.concat([Buffer.from('before'), frame, Buffer.from('after')])
  new RowRewriter(transforms).rewrite(buffer, 6, 6 + frame.length, out)
  return out.take()
}

describe('RowRewriter', () => {
  it('replaces masked fields and copies the others', () => {
    const frame = dataRow(['1', 'secret', 'x', 'low', null])
    const result = rewrite([PASS, stars, TO_NULL, upper, upper], frame)
    expect(valuesOf(result).map((value) => value?.toString() ?? null)).toEqual([
      '1',
      '****',
      null,
      'LOW',
      null,
    ])
  })

  it('gives a fixed mask to NULL too, so that NULL does not show', () => {
    expect(rewrite([stars], dataRow([null]))).toEqual(rewrite([stars], dataRow(['long secret'])))
  })

  it('holds for every mixture of masks and values', () => {
    const value = fc.option(fc.uint8Array({ maxLength: 20 }), { nil: null })
    const masked = fc.record({ value, mask: fc.constantFrom('pass', 'stars', 'null') })
    fc.assert(
      fc.property(fc.array(masked, { maxLength: 12 }), (columns) => {
        const transforms = columns.map(({ mask }) =>
          mask === 'pass' ? PASS : mask === 'stars' ? stars : TO_NULL,
        )
        const values = columns.map((column) => column.value && Buffer.from(column.value))
        const expected = columns.map(({ mask }, index) =>
          mask === 'pass' ? values[index] : mask === 'stars' ? Buffer.from('****') : null,
        )
        expect(valuesOf(rewrite(transforms, dataRow(values)))).toEqual(expected)
      }),
    )
  })

  it('refuses rows whose lengths lie, and leaves nothing of them', () => {
    const whole = dataRow(['abc', 'secret'])
    const damaged: Buffer[] = []
    for (let cut = 5; cut < whole.length; cut += 1) damaged.push(whole.subarray(0, cut))
    for (const length of [-2, 4, 0x7fffffff]) {
      const lying = Buffer.from(whole)
      lying.writeInt32BE(length, 7)
      damaged.push(lying)
    }
    damaged.push(
      Buffer.concat([whole, Buffer.from([0])]),
      dataRow(['abc']),
      dataRow(['a', 'b', 'c']),
    )
    for (const frame of damaged) {
      const out = new ByteWriter()
      const rewriter = new RowRewriter([PASS, stars])
      expect(() => rewriter.rewrite(frame, 0, frame.length, out)).toThrow('malformed DataRow')
      expect(out.take().length).toBe(0)
    }
  })
})
