import { describe, expect, it } from 'vitest'
import { Interrupt } from '../../../src/core/core.ts'
import { LoginTurns } from '../../../src/upstream/turns.ts'

/** A piece of work that ends when it is told to. */
function job(): { readonly work: () => Promise<string>; readonly end: () => void; began: boolean } {
  let end = (): void => undefined
  const over = new Promise<void>((resolve) => (end = resolve))
  const made = {
    began: false,
    end: () => {
      end()
    },
    work: async () => {
      made.began = true
      await over
      return 'done'
    },
  }
  return made
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
const never = new Interrupt()

describe('turns at a server', () => {
  it('go to whoever came first, never to more than the limit', async () => {
    const turns = new LoginTurns()
    const jobs = Array.from({ length: 5 }, job)
    const all = jobs.map(({ work }) => turns.run('db:5432', 2, never, work))
    await settled()
    expect(jobs.map(({ began }) => began)).toEqual([true, true, false, false, false])
    expect(turns.waitingCount('db:5432')).toBe(3)
    jobs[1]?.end()
    await settled()
    expect(jobs.map(({ began }) => began)).toEqual([true, true, true, false, false])
    for (const { end } of jobs) end()
    expect(await Promise.all(all)).toEqual(Array.from({ length: 5 }, () => 'done'))
    expect(turns.waitingCount('db:5432')).toBe(0)
  })

  it('of one server do not wait for another', async () => {
    const turns = new LoginTurns()
    const dead = job()
    const first = turns.run('dead:5432', 1, never, dead.work)
    const alive = job()
    const second = turns.run('alive:5432', 1, never, alive.work)
    alive.end()
    expect(await second).toBe('done')
    dead.end()
    await first
  })

  it('are left by who gives up, and by work that fails', async () => {
    const turns = new LoginTurns()
    const first = job()
    const running = turns.run('db', 1, never, first.work)
    const gone = new Interrupt()
    const waiting = turns.run('db', 1, gone, job().work)
    const failing = turns.run('db', 1, never, () => Promise.reject(new Error('refused')))
    gone.raise(new Error('the client left'))
    await expect(waiting).rejects.toThrow('the client left')
    first.end()
    await running
    await expect(failing).rejects.toThrow('refused')
    const after = job()
    after.end()
    expect(await turns.run('db', 1, never, after.work)).toBe('done')
  })

  it('are not taken by somebody who has left already', async () => {
    const turns = new LoginTurns()
    const first = job()
    const running = turns.run('db', 1, never, first.work)
    const late = job()
    const left = new Interrupt()
    left.raise(new Error('left'))
    await expect(turns.run('db', 1, left, late.work)).rejects.toThrow('left')
    first.end()
    await running
    expect(late.began).toBe(false)
  })
})
