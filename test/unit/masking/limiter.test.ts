import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ResultLimiter, RowBudgets } from '../../../src/masking/masking.ts'

describe('ResultLimiter', () => {
  it('lets exactly as many rows pass as the policy says', () => {
    const limiter = new ResultLimiter({ rows: 2, bytes: null, timeMs: null }, 0)
    expect([limiter.row(10, 0), limiter.row(10, 0)]).toEqual([null, null])
    expect(limiter.row(10, 0)).toContain('2 rows')
  })

  it('counts bytes and time', () => {
    const bytes = new ResultLimiter({ rows: null, bytes: 100, timeMs: null }, 0)
    expect(bytes.row(100, 0)).toBeNull()
    expect(bytes.row(1, 0)).toContain('100 bytes')
    const time = new ResultLimiter({ rows: null, bytes: null, timeMs: 50 }, 1_000)
    expect(time.row(1, 1_050)).toBeNull()
    expect(time.time(1_051)).toContain('50 ms')
    expect(time.deadlineMs).toBe(1_051)
  })

  it('refuses every row where none is allowed', () => {
    expect(new ResultLimiter({ rows: 0, bytes: null, timeMs: null }, 0).row(1, 0)).not.toBeNull()
  })
})

describe('RowBudgets', () => {
  const budget = { rows: 100, windowMs: 3_600_000 }

  it('adds up over results and gives rows back when the window has passed', () => {
    const budgets = new RowBudgets()
    expect(budgets.take('anna', budget, 60, 0)).toBeNull()
    expect(budgets.take('anna', budget, 41, 1_000)).toContain('100 rows in 1 h')
    expect(budgets.take('anna', budget, 40, 1_000)).toBeNull()
    expect(budgets.take('bob', budget, 100, 1_000)).toBeNull()
    expect(budgets.take('anna', budget, 1, 3_599_000)).not.toBeNull()
    expect(budgets.take('anna', budget, 100, 3_600_000 + 60_000)).toBeNull()
  })

  it('counts two windows of one identity apart', () => {
    const budgets = new RowBudgets()
    expect(budgets.take('anna', budget, 100, 0)).toBeNull()
    expect(budgets.take('anna', { rows: 5, windowMs: 60_000 }, 5, 0)).toBeNull()
    expect(budgets.take('anna', budget, 1, 0)).not.toBeNull()
  })

  it('is not reopened by a clock that goes back', () => {
    const budgets = new RowBudgets()
    expect(budgets.take('anna', budget, 100, 10_000_000)).toBeNull()
    expect(budgets.take('anna', budget, 1, 0)).not.toBeNull()
  })

  it('never lets more than the budget through in any window', () => {
    const step = fc.record({ waitMs: fc.nat(20_000), rows: fc.integer({ min: 1, max: 40 }) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const budgets = new RowBudgets()
        const short = { rows: 100, windowMs: 60_000 }
        const taken: { at: number; rows: number }[] = []
        let now = 1_000_000
        for (const { waitMs, rows } of steps) {
          now += waitMs
          if (budgets.take('anna', short, rows, now) === null) taken.push({ at: now, rows })
          // A slot is forgotten as a whole: up to one slot (1 s) early.
          const from = now - short.windowMs + 1_000
          const sum = taken.reduce((total, each) => total + (each.at > from ? each.rows : 0), 0)
          expect(sum).toBeLessThanOrEqual(short.rows)
        }
      }),
    )
  })

  it('stays bounded', () => {
    const budgets = new RowBudgets(2)
    budgets.take('a', budget, 100, 0)
    budgets.take('b', budget, 100, 0)
    budgets.take('c', budget, 100, 0)
    expect(budgets.take('c', budget, 1, 0)).not.toBeNull()
    expect(budgets.take('a', budget, 1, 0)).toBeNull()
  })
})
