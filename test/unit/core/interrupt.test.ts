/** One end for several waits. */
import { describe, expect, it } from 'vitest'
import { AssertionError, fewRandomBytes, Interrupt } from '../../../src/core/core.ts'

describe('an interrupt', () => {
  it('calls its handlers once, in order, with the first reason', () => {
    const interrupt = new Interrupt()
    const called: string[] = []
    interrupt.on(() => called.push(`one: ${interrupt.reason.message}`))
    interrupt.on(() => called.push('two'))
    expect(interrupt.raised).toBe(false)
    interrupt.raise(new Error('left'))
    interrupt.raise(new Error('again'))
    expect(called).toEqual(['one: left', 'two'])
    expect(interrupt.raised).toBe(true)
    expect(interrupt.reason.message).toBe('left')
  })

  it('does not call who has taken its handler back, also while the others are called', () => {
    const interrupt = new Interrupt()
    const called: string[] = []
    const off = (): void => void called.push('off')
    const second = (): void => void called.push('second')
    interrupt.on(off)
    interrupt.on(() => {
      called.push('first')
      interrupt.off(second)
    })
    interrupt.on(second)
    interrupt.off(off)
    interrupt.raise(new Error('left'))
    interrupt.on(() => called.push('too late'))
    expect(called).toEqual(['first'])
  })

  it('has no reason before', () => {
    expect(() => new Interrupt().reason).toThrow(AssertionError)
  })
})

describe('few random bytes', () => {
  it('are given out once, also over the end of the pool', () => {
    const given = Array.from({ length: 2_000 }, () => fewRandomBytes(18).toString('hex'))
    expect(new Set(given).size).toBe(2_000)
    // Bits are as often set as not: six standard deviations of 288,000 bits.
    const bits = Buffer.from(given.join(''), 'hex').reduce((sum, byte) => {
      return sum + byte.toString(2).split('1').length - 1
    }, 0)
    expect(Math.abs(bits - 144_000)).toBeLessThan(1_610)
  })

  it('do not change under whoever has them', () => {
    const first = fewRandomBytes(32)
    const copy = Buffer.from(first)
    for (let n = 0; n < 300; n++) fewRandomBytes(32)
    expect(first.equals(copy)).toBe(true)
  })
})
