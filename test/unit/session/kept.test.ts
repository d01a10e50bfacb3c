/** What is kept of a client that waits: in order, as it was when it came, and not by the chunk. */
import { expect, it } from 'vitest'
import { Kept } from '../../../src/session/kept.ts'
import { Random } from '../../fuzz/random.ts'

it('gives back what came, whatever the chunks', () => {
  const random = new Random(5)
  for (let round = 0; round < 50; round++) {
    const kept = new Kept()
    const sent: Buffer[] = []
    const taken: Buffer[] = []
    for (let step = 0; step < 200; step++) {
      if (random.chance(20)) {
        const chunk = kept.shift()
        // A copy would hide that it is written to later.
        if (chunk !== null) taken.push(chunk)
        continue
      }
      const chunk = random.bytes(random.below(random.chance(10) ? 40_000 : 40))
      sent.push(Buffer.from(chunk))
      kept.push(chunk)
      chunk.fill(0)
    }
    taken.push(...kept.views())
    const bytes = Buffer.concat(taken)
    expect(bytes.equals(Buffer.concat(sent))).toBe(true)
  }
})

it('counts its bytes, and joins single ones', () => {
  const kept = new Kept()
  for (let at = 0; at < 100_000; at++) kept.push(Buffer.from([at & 0xff]))
  expect(kept.bytes).toBe(100_000)
  expect(kept.views().length).toBeLessThan(20)
  kept.shift()
  expect(kept.bytes).toBeLessThan(100_000)
  kept.clear()
  expect([kept.bytes, kept.shift()]).toEqual([0, null])
})
