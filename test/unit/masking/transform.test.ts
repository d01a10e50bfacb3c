import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bindPlan, planMasks, ValueDetectors } from '../../../src/masking/masking.ts'
import { compileValueMask } from '../../../src/masking/transform.ts'
import { shapeOf } from '../../../src/masking/types.ts'
import { readFileSync } from 'node:fs'
import {
  decodeMask,
  truncateUnits,
  type Mask,
  type TruncateUnit,
} from '../../../src/policy/policy.ts'
import { ByteWriter } from '../../../src/wire/wire.ts'
import { analysis, dataRow, decision, field, key, trace, types, valuesOf } from './support.ts'

const oids = {
  bytea: 17,
  name: 19,
  int8: 20,
  int2: 21,
  int4: 23,
  text: 25,
  json: 114,
  float4: 700,
  float8: 701,
  textArray: 1009,
  bpchar: 1042,
  varchar: 1043,
  date: 1082,
  timestamp: 1114,
  timestamptz: 1184,
  numeric: 1700,
  uuid: 2950,
  jsonb: 3802,
} as const

interface Given {
  readonly type: keyof typeof oids
  readonly modifier?: number
  readonly format?: 0 | 1
  readonly via?: 'direct' | 'derived'
  readonly secret?: Buffer
}

function maskBytes(mask: Mask, given: Given, value: Buffer | null): Buffer | null {
  const source = { column: 's.t.c', via: given.via ?? 'direct', total: true }
  const described = analysis([trace({ sources: [source] })])
  const bound = bindPlan(
    planMasks(decision({ 's.t.c': mask }), described),
    described,
    [field({ type: oids[given.type], modifier: given.modifier ?? -1 })],
    [given.format ?? 0],
    types(),
    given.secret ?? key,
  )
  if (bound.kind !== 'bound' || bound.rewriter === null) throw new Error('not masked')
  const row = dataRow([value])
  const out = new ByteWriter()
  bound.rewriter.rewrite(row, 0, row.length, out)
  return valuesOf(out.take())[0] ?? null
}

function mask(kind: Mask, given: Given, value: string | null): string | null {
  return maskBytes(kind, given, value === null ? null : Buffer.from(value))?.toString() ?? null
}

describe('redact', () => {
  it('looks the same whatever the length, NULL included', () => {
    fc.assert(
      fc.property(fc.option(fc.string({ unit: 'grapheme' }), { nil: null }), (value) => {
        for (const type of ['text', 'name', 'varchar'] as const) {
          expect(mask({ kind: 'redact' }, { type }, value)).toBe('****')
        }
        expect(mask({ kind: 'redact' }, { type: 'textArray' }, value)).toBe('{****}')
        expect(mask({ kind: 'redact' }, { type: 'int4' }, value)).toBeNull()
      }),
    )
  })

  it('gives NULL where four characters do not fit, and pads char(n)', () => {
    expect(mask({ kind: 'redact' }, { type: 'varchar', modifier: 7 }, 'abc')).toBeNull()
    expect(mask({ kind: 'redact' }, { type: 'varchar', modifier: 8 }, 'abcd')).toBe('****')
    expect(mask({ kind: 'redact' }, { type: 'bpchar', modifier: 10 }, 'abc   ')).toBe('****  ')
    expect(mask({ kind: 'redact' }, { type: 'bpchar', modifier: 5 }, 'a')).toBeNull()
  })

  it('hides every scalar of a document and keeps what programs need to read it', () => {
    const document = '{"card": "4111", "n": {"pin": 17, "on": true, "x": null}, "l": ["a", 2]}'
    const hidden =
      '{"card": "****", "n": {"pin": null, "on": null, "x": null}, "l": ["****", null]}'
    expect(mask({ kind: 'redact' }, { type: 'jsonb' }, document)).toBe(hidden)
    const binary = maskBytes(
      { kind: 'redact' },
      { type: 'jsonb', format: 1 },
      Buffer.from(`\x01${document}`),
    )
    expect(binary?.toString()).toBe(`\x01${hidden}`)
  })

  it('does not let whitespace, escapes or broken documents carry anything', () => {
    const redacted = (text: string): string | null =>
      mask({ kind: 'redact' }, { type: 'json' }, text)
    expect(redacted('{"a"   :\n\t"b"}')).toBe('{"a": "****"}')
    expect(redacted('"a\\"b: \\\\"')).toBe('"****"')
    expect(redacted('[{"a\\":": "x"}]')).toBe('[{"a\\":": "****"}]')
    for (const broken of ['"open', 'secret', '', '{"a": \u0001}', '"a\\']) {
      expect(redacted(broken)).toBe('"****"')
    }
    expect(
      maskBytes(
        { kind: 'redact' },
        { type: 'jsonb', format: 1 },
        Buffer.from('\x02"x"'),
      )?.toString(),
    ).toBe('\x01"****"')
  })

  it('hides any document of any depth and stays a document', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.nat(3), (value, indent) => {
        const text = JSON.stringify(value, null, indent)
        const hidden: unknown = JSON.parse(mask({ kind: 'redact' }, { type: 'json' }, text) ?? '')
        const expected = JSON.stringify(value, (_key, inner: unknown) =>
          typeof inner === 'string' ? '****' : typeof inner === 'object' ? inner : null,
        )
        expect(hidden).toEqual(JSON.parse(expected))
      }),
    )
    const deep = `${'['.repeat(100_000)}"x"${']'.repeat(100_000)}`
    expect(mask({ kind: 'redact' }, { type: 'json' }, deep)).toHaveLength(200_006)
  })

  it('hides the shape too where the document is derived: its keys may be values', () => {
    const given = { type: 'jsonb', via: 'derived' } as const
    expect(mask({ kind: 'redact' }, given, '{"123-45-6789": 1}')).toBe('"****"')
  })
})

describe('hash', () => {
  const hash = { kind: 'hash' } as const

  it('shows equality and depends on the key', () => {
    const given = { type: 'text' } as const
    expect(mask(hash, given, 'a')).toBe(mask(hash, given, 'a'))
    expect(mask(hash, given, 'a')).not.toBe(mask(hash, given, 'b'))
    const other = { ...given, secret: Buffer.alloc(32, 7) }
    expect(mask(hash, other, 'a')).not.toBe(mask(hash, given, 'a'))
  })

  it('refuses to work with a key that could be guessed', () => {
    expect(() => mask(hash, { type: 'text', secret: Buffer.from('short') }, 'a')).toThrow(
      '16 bytes',
    )
  })

  it('is one pseudonym for one value in both formats', () => {
    const int = Buffer.alloc(4)
    int.writeInt32BE(77000013)
    const text = mask(hash, { type: 'int4' }, '77000013')
    expect(maskBytes(hash, { type: 'int4', format: 1 }, int)?.readInt32BE(0)).toBe(Number(text))
    const uuid = 'deaddead-dead-4ead-8ead-000000000001'
    const binary = maskBytes(
      hash,
      { type: 'uuid', format: 1 },
      Buffer.from(uuid.replaceAll('-', ''), 'hex'),
    )
    expect(mask(hash, { type: 'uuid' }, uuid)?.replaceAll('-', '')).toBe(binary?.toString('hex'))
    expect(mask(hash, { type: 'numeric' }, '1.50')).toBe(mask(hash, { type: 'numeric' }, '1.5'))
  })

  it('redacts where a type has too few values, and keeps NULL', () => {
    expect(mask(hash, { type: 'int2' }, '7')).toBeNull()
    expect(mask(hash, { type: 'varchar', modifier: 9 }, 'abcde')).toBe('****')
    expect(mask(hash, { type: 'text' }, null)).toBeNull()
  })
})

describe('partial', () => {
  it('keeps the ends and a fill of fixed length', () => {
    const keep = { kind: 'partial', keep_end: 4 } as const
    expect(mask(keep, { type: 'text' }, '123-45-6789')).toBe('****6789')
    expect(mask(keep, { type: 'text' }, '4111111111111111')).toBe('****1111')
    const both = { kind: 'partial', keep_start: 1, keep_end: 1 } as const
    expect(mask(both, { type: 'text' }, '😀secret😎')).toBe('😀****😎')
  })

  it('hides what is too short to hide anything behind', () => {
    const keep = { kind: 'partial', keep_end: 4 } as const
    for (const short of ['', 'a', '6789', '1236789']) {
      expect(mask(keep, { type: 'text' }, short)).toBe('****')
    }
  })

  it('keeps the domain of an address', () => {
    const email = { kind: 'partial', email: true, keep_start: 1 } as const
    expect(mask(email, { type: 'text' }, 'anna@example.com')).toBe('a****@example.com')
    expect(mask(email, { type: 'text' }, 'no address')).toBe('****')
    expect(mask(email, { type: 'text' }, '"a@b"@example.com')).toBe('"****@example.com')
  })

  it('treats nonsense counts as nothing kept', () => {
    for (const count of [-1, 1.5, NaN, Infinity]) {
      const nonsense = { kind: 'partial', keep_start: count, keep_end: count } as const
      expect(mask(nonsense, { type: 'text' }, 'secret')).toBe('****')
    }
  })

  it('works on each element of an array', () => {
    const keep = { kind: 'partial', keep_end: 2 } as const
    expect(mask(keep, { type: 'textArray' }, '{secret,"a,b\\"cd",NULL}')).toBe(
      '{"****et","****cd",NULL}',
    )
    expect(mask(keep, { type: 'textArray' }, 'no array')).toBeNull()
  })

  it('redacts numbers and documents, which have no ends to keep', () => {
    const keep = { kind: 'partial', keep_end: 2 } as const
    expect(mask(keep, { type: 'int4' }, '77000013')).toBeNull()
    expect(mask(keep, { type: 'jsonb' }, '{"a": 1}')).toBe('"****"')
  })
})

describe('bucket, truncate and noise', () => {
  it('coarsen numbers exactly', () => {
    const bucket = { kind: 'bucket', size: 1000 } as const
    expect(mask(bucket, { type: 'int4' }, '77000013')).toBe('77000000')
    expect(mask(bucket, { type: 'int4' }, '-1')).toBe('-1000')
    expect(mask(bucket, { type: 'numeric' }, '88000999.99')).toBe('88000000.00')
    expect(mask({ kind: 'bucket', size: 0.25 }, { type: 'numeric' }, '1.6')).toBe('1.5')
    expect(mask(bucket, { type: 'int4' }, '-2147483648')).toBeNull()
    expect(mask(bucket, { type: 'numeric' }, 'NaN')).toBeNull()
    const digits = { kind: 'truncate', digits: 2 } as const
    expect(mask(digits, { type: 'int8' }, '-98765')).toBe('-98000')
    expect(mask(digits, { type: 'numeric' }, '0.012345')).toBe('0.012000')
    expect(mask(digits, { type: 'float8' }, '9.99e99')).toBe('9.9e+99')
  })

  it('coarsen moments; timestamptz in UTC, so that an offset tells no season', () => {
    const to = (unit: TruncateUnit, type: keyof typeof oids, value: string): string | null =>
      mask({ kind: 'truncate', unit }, { type }, value)
    expect(to('year', 'date', '1901-06-05')).toBe('1901-01-01')
    expect(to('quarter', 'date', '1901-06-05')).toBe('1901-04-01')
    expect(to('week', 'date', '2026-01-01')).toBe('2025-12-29')
    expect(to('year', 'date', '0044-03-15 BC')).toBe('0044-01-01 BC')
    expect(to('hour', 'timestamp', '1901-06-05 04:59:06.7')).toBe('1901-06-05 04:00:00')
    expect(to('year', 'timestamptz', '2026-07-01 00:30:00+02')).toBe('2026-01-01 00:00:00+00')
    expect(to('year', 'timestamptz', '2026-01-01 00:30:00+01')).toBe('2025-01-01 00:00:00+00')
  })

  it('take every unit that is documented, from the policy to the value', () => {
    const [, listed] =
      /`unit` for dates: ([^)]+)\)/.exec(readFileSync('docs/guides/masking.md', 'utf8')) ?? []
    const documented = listed?.split(', ') ?? []
    expect(documented).toEqual([...truncateUnits])
    const moments = { date: '1987-12-31', timestamp: '1987-12-31 23:59:59.9' } as const
    const coarse = documented.map((unit) => {
      const decoded = decodeMask({ kind: 'truncate', unit }, 'the mask')
      return [
        mask(decoded, { type: 'date' }, moments.date),
        mask(decoded, { type: 'timestamp' }, moments.timestamp),
      ]
    })
    expect(coarse).toEqual([
      ['1987-12-31', '1987-12-31 23:00:00'],
      ['1987-12-31', '1987-12-31 00:00:00'],
      ['1987-12-28', '1987-12-28 00:00:00'],
      ['1987-12-01', '1987-12-01 00:00:00'],
      ['1987-10-01', '1987-10-01 00:00:00'],
      ['1987-01-01', '1987-01-01 00:00:00'],
      ['1980-01-01', '1980-01-01 00:00:00'],
    ])
  })

  it('hides dates of another style, which could be read wrongly, and infinity', () => {
    for (const value of ['06/05/1901', '05.06.1901', 'infinity']) {
      expect(mask({ kind: 'truncate', unit: 'year' }, { type: 'date' }, value)).toBeNull()
    }
  })

  it('give the same in binary as in text', () => {
    fc.assert(
      fc.property(fc.integer({ min: -700_000, max: 2_900_000 }), (days) => {
        const binary = Buffer.alloc(4)
        binary.writeInt32BE(days)
        const iso = new Date(Date.UTC(2000, 0, 1) + days * 86_400_000).toISOString()
        fc.pre(/^\d{4}-/.test(iso) && !iso.startsWith('0000'))
        for (const unit of truncateUnits) {
          const coarse = maskBytes({ kind: 'truncate', unit }, { type: 'date', format: 1 }, binary)
          const text = mask({ kind: 'truncate', unit }, { type: 'date' }, iso.slice(0, 10))
          const back = new Date(Date.UTC(2000, 0, 1) + (coarse?.readInt32BE(0) ?? 0) * 86_400_000)
          fc.pre(back.getUTCFullYear() > 0)
          expect(text).toBe(back.toISOString().slice(0, 10))
        }
      }),
    )
  })

  it('move by noise within the ratio, always the same way for the same value', () => {
    const noise = { kind: 'noise', ratio: 0.1 } as const
    fc.assert(
      fc.property(fc.integer({ min: 1000, max: 1_000_000 }), (value) => {
        const moved = Number(mask(noise, { type: 'int4' }, String(value)))
        expect(Math.abs(moved - value)).toBeLessThanOrEqual(value * 0.1 + 1)
        expect(mask(noise, { type: 'int4' }, String(value))).toBe(String(moved))
        expect(mask(noise, { type: 'numeric' }, `${value}.00`)).not.toBe(`${value}.00`)
      }),
    )
  })

  it('give one result for a float4 in text and in binary', () => {
    const kinds: readonly Mask[] = [
      { kind: 'noise', ratio: 0.1 },
      { kind: 'truncate', digits: 1 },
      { kind: 'bucket', size: 0.1 },
    ]
    expect(mask({ kind: 'truncate', digits: 1 }, { type: 'float4' }, '0.7')).toBe('0.7')
    for (const kind of kinds) {
      for (const text of ['0.7', '0.1', '123.456', '-7.77e-5', '1e+10', '16777216']) {
        const binary = Buffer.alloc(4)
        binary.writeFloatBE(Number(text))
        const masked = maskBytes(kind, { type: 'float4', format: 1 }, binary)
        const shown = mask(kind, { type: 'float4' }, text)
        expect(masked?.readFloatBE(0)).toBe(Math.fround(Number(shown)))
      }
    }
  })

  it('redact with parameters that make no sense', () => {
    const senseless: readonly Mask[] = [
      { kind: 'bucket', size: 0 },
      { kind: 'bucket', size: -5 },
      { kind: 'bucket', size: NaN },
      { kind: 'truncate' },
      { kind: 'truncate', digits: 0 },
      { kind: 'noise', ratio: 0 },
      { kind: 'noise', ratio: 2 },
    ]
    for (const each of senseless) {
      for (const type of ['int4', 'numeric', 'float8', 'date'] as const) {
        expect(mask(each, { type }, type === 'date' ? '1901-06-05' : '77')).toBeNull()
      }
      expect(mask(each, { type: 'text' }, 'secret')).toBe('****')
    }
  })
})

describe('binary values that are damaged', () => {
  it('are hidden, never passed and never a fault', () => {
    const kinds: readonly Mask[] = [
      { kind: 'hash' },
      { kind: 'bucket', size: 10 },
      { kind: 'truncate', digits: 1, unit: 'year' },
      { kind: 'noise', ratio: 0.5 },
      { kind: 'redact' },
      { kind: 'partial', keep_start: 1 },
    ]
    const binaries = [
      'int4',
      'int8',
      'numeric',
      'float8',
      'date',
      'timestamp',
      'uuid',
      'textArray',
      'jsonb',
    ] as const
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 24 }),
        fc.constantFrom(...kinds),
        fc.constantFrom(...binaries),
        (bytes, kind, type) => {
          const result = maskBytes(kind, { type, format: 1 }, Buffer.from(bytes))
          expect(result === null || Buffer.isBuffer(result)).toBe(true)
        },
      ),
      { numRuns: 2_000 },
    )
  })
})

describe('the ends of a range', () => {
  const edges: Readonly<Partial<Record<keyof typeof oids, readonly Buffer[]>>> = {
    int2: [int(2, -32_768n), int(2, 32_767n)],
    int4: [int(4, -(2n ** 31n)), int(4, 2n ** 31n - 1n)],
    int8: [int(8, -(2n ** 63n)), int(8, 2n ** 63n - 1n)],
    date: [int(4, -2_451_545n), int(4, 2_145_031_948n), int(4, 2n ** 31n - 2n)],
    timestamp: [int(8, -211_813_488_000_000_000n), int(8, 9_223_371_331_199_999_999n)],
    timestamptz: [int(8, -(2n ** 63n) + 1n), int(8, 2n ** 63n - 2n)],
  }
  const kinds: readonly Mask[] = [
    { kind: 'noise', ratio: 0.2 },
    { kind: 'noise', ratio: 0.99 },
    { kind: 'bucket', size: 100 },
    { kind: 'truncate', digits: 1, unit: 'decade' },
  ]

  it('are no fault, whatever the key: the result is in the range or NULL', () => {
    for (const [name, values] of Object.entries(edges)) {
      const type = oids[name as keyof typeof oids]
      const shape = shapeOf(type, -1, types())
      for (const kind of kinds) {
        for (let seed = 0; seed < 50; seed += 1) {
          const secret = Buffer.alloc(32, `key ${seed}`)
          const apply = compileValueMask(kind, shape, 'binary', secret)
          if (apply === null) continue
          for (const value of values) {
            const masked = apply(value, 0, value.length)
            if (masked !== null) expect(masked.length).toBe(value.length)
            if (masked !== null && name.startsWith('timestamp')) {
              expect(masked.readBigInt64BE()).toBeLessThan(9_223_371_331_200_000_000n)
            }
          }
        }
      }
    }
  })
})

/** A big-endian integer, as binary formats hold it. */
function int(bytes: 2 | 4 | 8, value: bigint): Buffer {
  const whole = Buffer.alloc(8)
  whole.writeBigInt64BE(value)
  return whole.subarray(8 - bytes)
}

describe('value detectors on a result', () => {
  it('hide what they find in text that no mask covers, and count it', () => {
    const detectors = new ValueDetectors({ kinds: ['card'] })
    const described = analysis([trace({ opaque: true }), trace({ opaque: true }), trace()])
    const bound = bindPlan(
      { kind: 'open' },
      described,
      [field(), field({ type: 23 }), field({ type: 3802 })],
      [],
      types(),
      key,
      detectors,
    )
    if (bound.kind !== 'bound' || bound.rewriter === null) throw new Error('not watched')
    const row = dataRow(['card 4111 1111 1111 1111', '4', '{"n": "4111111111111111"}'])
    const out = new ByteWriter()
    bound.rewriter.rewrite(row, 0, row.length, out)
    expect(valuesOf(out.take()).map(String)).toEqual(['****', '4', '"****"'])
    expect(detectors.counts.get('card')).toBe(2)
  })
})
