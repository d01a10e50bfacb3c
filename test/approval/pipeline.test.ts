/**
 * Held in the middle of a pipeline, frame by frame: what was sent before is answered before the
 * notice, what comes behind waits, in order and in a bounded buffer, and a goodbye among it withdraws.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  encodeBind,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeSync,
  encodeTerminate,
  written,
  type ByteWriter,
} from '../../src/wire/wire.ts'
import { ready, WireClient, type Answer } from '../scenario/refusals-client.ts'
import { Harness, insert } from './harness.ts'
import { until } from './support.ts'

let held: Harness

beforeAll(async () => {
  held = await Harness.start({ limits: { heldInputBytesMax: 256 * 1024 } })
}, 120_000)
afterAll(() => held.stop())

function run(to: ByteWriter, text: string, name = ''): void {
  encodeParse(to, { name, text })
  encodeBind(to, { portal: name, statement: name })
  encodeExecute(to, name)
}

const shown = (answers: readonly Answer[]): string[] =>
  answers.filter(({ type }) => 'DCENZ'.includes(type)).map(({ type, text }) => `${type} ${text}`)

async function withWire<T>(work: (wire: WireClient) => Promise<T>): Promise<T> {
  const wire = await WireClient.connect(held.proxy.url('postgres', 'ann'))
  try {
    return await work(wire)
  } finally {
    await wire.close()
  }
}

describe('a pipeline', () => {
  test('earlier replies come, then the notice, then nothing until it is decided', async () => {
    await withWire(async (wire) => {
      const before = await wire.exchange(
        (to) => {
          run(to, "SELECT 'before'")
          run(to, insert('pipeline'), 'held')
          run(to, "SELECT 'behind'")
          encodeSync(to)
          encodeQuery(to, "SELECT 'behind the Sync'")
        },
        { type: 'N', count: 1 },
      )
      expect(shown(before).slice(0, 2)).toEqual(['D before', 'C SELECT 1'])
      expect(shown(before)[2]).toMatch(/^N 00000 the statement is held for approval/)
      expect(await held.ran('pipeline')).toBe(0)
      const { id } = await held.pending('pipeline')
      expect((await held.detail(id))['transaction']).toMatchObject({ pipeline: true })
      await held.approve('pipeline')
      const after = shown(await wire.more(ready(2))).slice(3)
      expect(after).toEqual([
        ...['D pipeline', 'C INSERT 0 1', 'D behind', 'C SELECT 1', 'Z idle'],
        ...['D behind the Sync', 'C SELECT 1', 'Z idle'],
      ])
    })
  })

  test('rejected: what is behind it up to Sync is skipped, as the server does', async () => {
    await withWire(async (wire) => {
      const running = wire.exchange((to) => {
        run(to, insert('pipeline-first'), 'a')
        run(to, "SELECT 'skipped'")
        encodeSync(to)
        run(to, "SELECT 'next'")
        encodeSync(to)
      }, ready(2))
      await held.reject('pipeline-first')
      const answers = shown(await running).filter((line) => !line.startsWith('N'))
      expect(answers[0]).toMatch(/^E 42501 the statement was rejected/)
      expect(answers.slice(1)).toEqual(['Z idle', 'D next', 'C SELECT 1', 'Z idle'])
    })
  })

  test('two that are held are asked one after the other, never the second before the first', async () => {
    await withWire(async (wire) => {
      const running = wire.exchange((to) => {
        run(to, insert('one-of-two'), 'a')
        run(to, insert('two-of-two'), 'b')
        encodeSync(to)
      })
      await held.pending('one-of-two')
      expect((await held.list()).map(({ statement }) => statement.text)).toEqual([
        insert('one-of-two'),
      ])
      await held.approve('one-of-two')
      await held.reject('two-of-two')
      const answers = shown(await running)
      expect(answers.at(-1)).toBe('Z idle')
      // One implicit transaction: the rejection takes the first with it, as any error would.
      expect(await held.ran('%-of-two')).toBe(0)
    })
  })

  test('behind an error nobody is asked: the server skips it', async () => {
    await withWire(async (wire) => {
      const answers = await wire.exchange((to) => {
        run(to, 'SELECT 1/0')
        run(to, insert('skipped'), 'held')
        encodeSync(to)
      })
      expect(shown(answers)[0]).toMatch(/^E 22012/)
      expect(shown(answers).some((line) => line.startsWith('N'))).toBe(false)
      expect(await held.list('all')).not.toContainEqual(
        expect.objectContaining({
          statement: expect.objectContaining({ text: insert('skipped') }),
        }),
      )
    })
  })
})

describe('what a client sends while it waits', () => {
  test('is kept up to a limit; above it the client is not read, and nothing is lost', async () => {
    await withWire(async (wire) => {
      const running = wire.exchange((to) => encodeQuery(to, insert('flood')), {
        type: 'N',
        count: 1,
      })
      await running
      const one = written((to) => encodeQuery(to, `SELECT length('${'x'.repeat(60_000)}')`))
      const count = 400
      for (let sent = 0; sent < count; sent++) wire.socket.write(one)
      // The kernel's buffers hold some; the rest stays with the client.
      let left = -1
      await until('the client is not read any more', async () => {
        const before = wire.socket.writableLength
        await new Promise((resolve) => setTimeout(resolve, 300))
        left = wire.socket.writableLength
        return left === before
      })
      expect(left).toBeGreaterThan(one.length * 10)
      await held.approve('flood')
      const answers = await wire.more(ready(count + 1))
      expect(answers.filter(({ text }) => text === '60000')).toHaveLength(count)
      expect(await held.ran('flood')).toBe(1)
    })
  })

  test('a Terminate among it withdraws; the same bytes inside a message do not', async () => {
    await withWire(async (wire) => {
      await wire.exchange((to) => encodeQuery(to, insert('goodbye')), { type: 'N', count: 1 })
      const { id } = await held.pending('goodbye')
      const terminate = written(encodeTerminate)
      // The bytes of a Terminate within a parameter are data.
      wire.socket.write(
        written((to) => {
          encodeParse(to, { name: 'p', text: 'SELECT $1::bytea' })
          encodeBind(to, { portal: '', statement: 'p', parameters: [terminate] })
        }),
      )
      await new Promise((resolve) => setTimeout(resolve, 300))
      expect((await held.detail(id))['state']).toBe('pending')
      for (const byte of terminate) {
        wire.socket.write(Buffer.from([byte]))
        await new Promise(setImmediate)
      }
      await held.is(id, 'withdrawn')
      expect((await held.api('POST', `/v1/approvals/${id}/approve`, {})).status).toBe(409)
      expect(await held.ran('goodbye')).toBe(0)
    })
  })

  test('a second statement behind a held one changes nothing of what was approved', async () => {
    await withWire(async (wire) => {
      await wire.exchange(
        (to) => {
          encodeParse(to, { name: 's', text: 'INSERT INTO ran (what) VALUES ($1)' })
          encodeBind(to, { portal: 'p', statement: 's', parameters: ['bound-good'] })
          encodeExecute(to, 'p')
        },
        { type: 'N', count: 1 },
      )
      await held.pending('$1')
      // What is behind it closes and rebinds the names that wait.
      wire.socket.write(
        written((to) => {
          encodeSync(to)
          encodeBind(to, { portal: 'p', statement: 's', parameters: ['bound-evil'] })
          encodeExecute(to, 'p')
          encodeSync(to)
        }),
      )
      await held.approve('$1')
      await wire.more(ready(1))
      // The other parameters are another request.
      const second = await held.pending('$1')
      expect((await held.detail(second.id))['parameters']).toEqual([
        { format: 'text', value: 'bound-evil' },
      ])
      expect(await held.ran('bound-%')).toBe(1)
      await held.reject('$1')
      await wire.more(ready(2))
      expect(await held.ran('bound-evil')).toBe(0)
    })
  })
})
