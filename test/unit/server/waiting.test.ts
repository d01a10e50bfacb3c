import net from 'node:net'
import { expect, it } from 'vitest'
import { WaitingRoom, type Waiter } from '../../../src/server/waiting.ts'

const sockets = (count: number): net.Socket[] =>
  Array.from({ length: count }, () => new net.Socket())

function enterAll(room: WaitingRoom, source: string, count: number): Waiter[] {
  return sockets(count).flatMap((socket) => room.enter(source, socket)?.waiter ?? [])
}

it('gives every place to one source while nobody else comes', () => {
  const room = new WaitingRoom(5)
  expect(enterAll(room, 'a', 9)).toHaveLength(5)
  expect(room.count).toBe(5)
})

it('takes places from the source that holds most, until all hold the same', () => {
  const room = new WaitingRoom(6)
  const flood = new Set(sockets(6))
  for (const socket of flood) room.enter('flood', socket)
  for (const source of ['b', 'c', 'b', 'c']) {
    const entered = room.enter(source, new net.Socket())
    expect(entered?.instead).toSatisfy((socket: net.Socket) => flood.delete(socket))
    expect(room.count).toBe(6)
  }
  for (const source of ['b', 'c', 'flood']) expect(room.enter(source, new net.Socket())).toBeNull()
  // A source that is new takes one more, of any.
  expect(room.enter('d', new net.Socket())?.instead).not.toBeNull()
  expect(room.count).toBe(6)
})

it('counts who left once, and who lost its place not again', () => {
  const room = new WaitingRoom(2)
  const waiters = enterAll(room, 'a', 2)
  expect(room.enter('b', new net.Socket())?.instead).not.toBeNull()
  for (const waiter of [...waiters, ...waiters]) room.leave(waiter)
  expect(room.count).toBe(1)
  expect(enterAll(room, 'a', 9)).toHaveLength(1)
})
