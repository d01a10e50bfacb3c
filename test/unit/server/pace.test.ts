import { expect, it } from 'vitest'
import { HandshakePace } from '../../../src/server/pace.ts'

it('lets a few steps through in a turn, in the order they came, and none is left behind', async () => {
  let turn: (() => void) | null = null
  const pace = new HandshakePace(2, (work) => {
    expect(turn).toBeNull()
    turn = work
  })
  const done: number[] = []
  const ask = (name: number): void => {
    void pace.step().then(() => done.push(name))
  }
  const nextTurn = async (): Promise<void> => {
    const work = turn
    turn = null
    work?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
  for (const name of [1, 2, 3, 4, 5]) ask(name)
  await nextTurn()
  expect(done).toEqual([1, 2])
  ask(6)
  await nextTurn()
  expect(done).toEqual([1, 2, 3, 4])
  await nextTurn()
  expect(done).toEqual([1, 2, 3, 4, 5, 6])
  expect(turn).toBeNull()
  ask(7)
  await nextTurn()
  expect(done).toEqual([1, 2, 3, 4, 5, 6, 7])
  expect(turn).toBeNull()
})

it('forgets what it let through, however many wait', async () => {
  let turn: (() => void) | null = null
  const pace = new HandshakePace(3, (work) => (turn = work))
  let count = 0
  for (let index = 0; index < 10_000; index++) void pace.step().then(() => count++)
  for (let turns = 0; turns < 3_334; turns++) {
    const work = turn
    turn = null
    ;(work as (() => void) | null)?.()
  }
  await new Promise((resolve) => setImmediate(resolve))
  expect(count).toBe(10_000)
  expect(turn).toBeNull()
})
