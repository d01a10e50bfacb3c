import { expect, it } from 'vitest'
import { JobQueue } from '../../../src/core/core.ts'

function filled(sizes: readonly number[]): JobQueue<number> {
  const queue = new JobQueue<number>({ countMax: 100, sizeMax: 1_000_000 })
  for (const size of sizes) expect(queue.push(size, size)).toBe(true)
  return queue
}

const takeAll = (queue: JobQueue<number>): number[] => {
  const taken: number[] = []
  for (let job = queue.take(); job !== null; job = queue.take()) taken.push(job)
  return taken
}

it('gives the shortest, and every fourth time the oldest', () => {
  expect(takeAll(filled([900, 800, 5, 4, 3, 2, 1]))).toEqual([1, 2, 3, 900, 4, 5, 800])
})

it('does not put a large one off for ever', () => {
  const queue = filled([900, 1])
  const taken: (number | null)[] = []
  for (let n = 0; n < 8; n++) {
    queue.push(1, 1)
    taken.push(queue.take())
  }
  expect(taken).toContain(900)
})

it('gives those of one size by age', () => {
  const queue = new JobQueue<string>({ countMax: 100, sizeMax: 100 })
  for (const name of ['a', 'b', 'c']) queue.push(name, 7)
  expect([queue.take(), queue.take(), queue.take()]).toEqual(['a', 'b', 'c'])
})

it('is bounded, but takes one of any size alone', () => {
  const queue = new JobQueue<string>({ countMax: 2, sizeMax: 10 })
  expect(queue.push('large', 50)).toBe(true)
  expect(queue.push('small', 1)).toBe(false)
  expect(queue.take()).toBe('large')
  expect([queue.push('a', 5), queue.push('b', 5), queue.push('c', 0)]).toEqual([true, true, false])
  expect(queue.clear()).toEqual(['a', 'b'])
  expect([queue.count, queue.take(), queue.push('large', 50)]).toEqual([0, null, true])
})
