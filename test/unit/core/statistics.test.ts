import { describe, expect, test } from 'vitest'
import fc from 'fast-check'
import {
  bucketStartUs,
  Durations,
  durationsSince,
  durationsTogether,
  quantileUs,
  Statistics,
} from '../../../src/core/core.ts'

describe('durations', () => {
  test('every duration falls into the bucket whose bounds enclose it, at most an eighth wide', () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 2 ** 31 - 1, noNaN: true }), (us) => {
        const durations = new Durations()
        durations.observe(us)
        const [[index] = [-1]] = durations.snapshot().buckets
        const [start, end] = [bucketStartUs(index), bucketStartUs(index + 1)]
        expect(Math.floor(us)).toBeGreaterThanOrEqual(start)
        expect(Math.floor(us)).toBeLessThan(end)
        expect(end - start).toBeLessThanOrEqual(Math.max(1, start / 8))
      }),
    )
  })

  test('what a clock may give by mistake is counted and breaks nothing', () => {
    const durations = new Durations()
    for (const us of [-5, Number.NaN, Number.POSITIVE_INFINITY, 1e300]) durations.observe(us)
    expect(durations.count).toBe(4)
    expect(durations.snapshot().buckets.reduce((sum, [, count]) => sum + count, 0)).toBe(4)
  })

  test('quantiles are right to an eighth, whatever the values', () => {
    const values = fc.array(fc.integer({ min: 1, max: 10_000_000 }), {
      minLength: 1,
      maxLength: 300,
    })
    fc.assert(
      fc.property(values, fc.constantFrom(0.5, 0.9, 0.99), (us, share) => {
        const durations = new Durations()
        for (const value of us) durations.observe(value)
        const exact = [...us].sort((a, b) => a - b)[Math.max(0, Math.ceil(us.length * share) - 1)]!
        const estimate = quantileUs(durations.snapshot(), share)!
        expect(Math.abs(estimate - exact)).toBeLessThanOrEqual(exact / 8 + 1)
      }),
    )
    expect(quantileUs(new Durations().snapshot(), 0.5)).toBeNull()
  })

  test('two snapshots subtract to what came between, several add up', () => {
    const durations = new Durations()
    durations.observe(10)
    const before = durations.snapshot()
    durations.observe(10)
    durations.observe(500)
    const between = durationsSince(durations.snapshot(), before)
    expect(between.count).toBe(2)
    expect(between.buckets.map(([, count]) => count)).toEqual([1, 1])
    const together = durationsTogether([durations.snapshot(), before])
    expect(together).toMatchObject({ count: 4, sumUs: 530 })
    expect(together.buckets.reduce((sum, [, count]) => sum + count, 0)).toBe(4)
  })
})

describe('tallies', () => {
  test('are the same object for the same labels, and survive as JSON', () => {
    const statistics = new Statistics()
    const tally = statistics.tally('select', 'allow', 'r')
    tally.count += 2
    expect(statistics.tally('select', 'allow', 'r')).toBe(tally)
    const snapshot = JSON.parse(JSON.stringify(statistics.snapshot())) as object
    expect(snapshot).toMatchObject({
      tallies: [{ kind: 'select', action: 'allow', rule: 'r', count: 2 }],
    })
  })

  test('a policy that makes up rule names does not grow memory or metrics', () => {
    const statistics = new Statistics()
    for (let index = 0; index < 20_000; index++) {
      statistics.tally(`kind ${index}`, 'allow', `rule ${index}`).count++
    }
    statistics.tally('select', 'allow', 'x'.repeat(100_000)).count++
    const { tallies } = statistics.snapshot()
    expect(tallies.length).toBeLessThanOrEqual(5_010)
    expect(new Set(tallies.map(({ rule }) => rule)).size).toBeLessThanOrEqual(501)
    expect(tallies.reduce((sum, { count }) => sum + count, 0)).toBe(20_001)
  })
})
