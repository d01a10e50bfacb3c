import { describe, expect, it } from 'vitest'
import { bindPlan, planMasks, stronger } from '../../../src/masking/masking.ts'
import type { OutputSource } from '../../../src/sql/sql.ts'
import { analysis, decision, field, key, trace, types } from './support.ts'

const ssn = 'public.users.ssn'
const salary = 'public.users.salary'
const masks = { [ssn]: { kind: 'redact' }, [salary]: { kind: 'null' } } as const

function plan(sources: readonly OutputSource[], opaque = false): ReturnType<typeof planMasks> {
  return planMasks(decision(masks), analysis([trace({ sources, opaque })]))
}

describe('planMasks', () => {
  it('is open when nothing is masked, or when no output comes from what is', () => {
    expect(planMasks(decision({}), analysis([trace()])).kind).toBe('open')
    expect(plan([{ column: 'public.users.name', via: 'direct' }]).kind).toBe('open')
  })

  it('masks an output that is the column itself', () => {
    expect(plan([{ column: ssn, via: 'direct' }])).toEqual({
      kind: 'masked',
      outputs: [{ kind: 'direct', mask: { kind: 'redact' }, columns: [ssn] }],
    })
  })

  it('takes the strongest of several masks', () => {
    const both = plan([
      { column: ssn, via: 'direct' },
      { column: salary, via: 'direct' },
    ])
    expect(both).toMatchObject({ outputs: [{ mask: { kind: 'null' }, columns: [ssn, salary] }] })
  })

  it('redacts what a total derivation computes', () => {
    expect(plan([{ column: ssn, via: 'derived', total: true }])).toMatchObject({
      outputs: [{ kind: 'derived', mask: { kind: 'redact' } }],
    })
  })

  it('never shows a constant meant for a column in a value derived from it', () => {
    const result = planMasks(
      decision({ [ssn]: { kind: 'constant', value: 'x' } }),
      analysis([trace({ sources: [{ column: ssn, via: 'derived', total: true }] })]),
    )
    expect(result).toMatchObject({ outputs: [{ kind: 'derived', mask: { kind: 'redact' } }] })
  })

  it('refuses a derivation that is not known to be total, and names the column', () => {
    for (const total of [false, undefined]) {
      const source = { column: ssn, via: 'derived' as const }
      const refused = plan([total === undefined ? source : { ...source, total }])
      expect(refused).toMatchObject({ kind: 'refuse', column: ssn })
    }
  })

  it('refuses an opaque output that may hold a masked column', () => {
    expect(plan([{ column: ssn, via: 'direct' }], true)).toMatchObject({ kind: 'refuse' })
    expect(plan([{ column: ssn, via: 'count' }], true)).toMatchObject({ kind: 'refuse' })
    expect(plan([], true)).toMatchObject({ kind: 'refuse' })
  })

  it('passes a plain count', () => {
    expect(plan([{ column: ssn, via: 'count' }]).kind).toBe('open')
  })

  it('refuses a masked column that decides how many rows come, output or not', () => {
    const column = { schema: 'public', relation: 'users', name: 'salary', through: null }
    const result = planMasks(
      decision(masks),
      analysis([trace()], [{ ...column, uses: ['cardinality'] }]),
    )
    expect(result).toMatchObject({ kind: 'refuse', column: salary })
  })

  it('finds the mask of a column whose name needs quotes', () => {
    const dotted = 'public."My Table"."a""b"'
    const column = { schema: 'public', relation: 'My Table', name: 'a"b', through: null }
    const result = planMasks(
      decision({ [dotted]: { kind: 'redact' } }),
      analysis(null, [{ ...column, uses: ['cardinality'] }]),
    )
    expect(result).toMatchObject({ kind: 'refuse', column: dotted })
  })

  it('refuses a COPY in another encoding, whose bytes cannot be split', () => {
    const option = { defname: 'encoding', arg: { String: { sval: 'SJIS' } } }
    const ast = { CopyStmt: { options: [{ DefElem: option }] } }
    const outputs = [trace({ sources: [{ column: ssn, via: 'direct' }] })]
    expect(
      planMasks(decision(masks), { ...analysis(outputs), kind: 'copy' }, { ast }),
    ).toMatchObject({ kind: 'refuse' })
  })
})

describe('stronger', () => {
  it('orders masks as the guide to masking says', () => {
    const order = [
      { kind: 'null' },
      { kind: 'constant', value: 1 },
      { kind: 'redact' },
      { kind: 'hash' },
      { kind: 'partial' },
      { kind: 'bucket', size: 10 },
      { kind: 'noise', ratio: 0.1 },
    ] as const
    for (const [index, strong] of order.entries()) {
      for (const weak of order.slice(index + 1)) {
        expect(stronger(strong, weak)).toBe(strong)
        expect(stronger(weak, strong)).toBe(strong)
      }
    }
  })

  it('redacts where two masks of one rank show different parts', () => {
    const result = stronger({ kind: 'partial', keep_start: 4 }, { kind: 'partial', keep_end: 4 })
    expect(result).toEqual({ kind: 'redact' })
    expect(stronger({ kind: 'bucket', size: 10 }, { kind: 'truncate', digits: 1 }).kind).toBe(
      'redact',
    )
    const same = { kind: 'partial', keep_end: 4 } as const
    expect(stronger(same, { ...same })).toBe(same)
  })
})

describe('bindPlan', () => {
  const origins = [{ relation: 100, attribute: 4 }]
  const described = analysis([
    trace({ sources: [{ column: ssn, via: 'direct' }], origins }),
    trace({ name: 'name' }),
  ])
  const masked = planMasks(decision(masks), described)
  const name = field({ name: 'name' })

  it('gives a rewriter where a column is hidden', () => {
    const bound = bindPlan(
      masked,
      described,
      [field({ relation: 100, attribute: 4 }), name],
      [],
      types(),
      key,
    )
    expect(bound).toMatchObject({ kind: 'bound', rewriter: expect.any(Object) as object })
  })

  it('stops where the server names an origin that is not on the path', () => {
    for (const [relation, attribute] of [
      [100, 5],
      [101, 4],
      [100, 0],
      [100, -1],
    ] as const) {
      const fields = [field({ relation: 100, attribute: 4 }), field({ relation, attribute })]
      for (const plan of [masked, { kind: 'open' } as const]) {
        expect(bindPlan(plan, described, fields, [], types(), key)).toMatchObject({ kind: 'stop' })
      }
    }
  })

  it('takes origin 0 as no contradiction', () => {
    expect(bindPlan(masked, described, [field(), name], [], types(), key).kind).toBe('bound')
  })

  it('stops where the number of columns differs, or rows come that none expected', () => {
    expect(bindPlan(masked, described, [name], [], types(), key).kind).toBe('stop')
    const open = { kind: 'open' } as const
    expect(bindPlan(open, analysis(null), [name], [], types(), key).kind).toBe('stop')
  })

  it('never binds a refused plan', () => {
    const refused = planMasks(
      decision(masks),
      analysis([trace({ sources: [{ column: ssn, via: 'derived' }] })]),
    )
    expect(bindPlan(refused, described, [field(), name], [], types(), key).kind).toBe('stop')
  })
})
