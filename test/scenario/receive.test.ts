/**
 * Receiver against real sockets: what is sent is what is given out, in order, whatever the sizes, the
 * pauses and what was buffered before; no chunk changes after it was given out.
 */
import { createHash, randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { Receiver } from '../../src/server/receive.ts'

const opened: { destroy(): void }[] = []
afterEach(() => {
  for (const one of opened.splice(0)) one.destroy()
})

/** The two ends of one connection, the accepted one paused. */
async function pair(): Promise<{ readonly near: Socket; readonly far: Socket }> {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const far = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [near] = (await once(server, 'connection')) as [Socket]
  server.close()
  opened.push(near, far)
  return { near, far }
}

function digest(chunks: readonly Buffer[]): string {
  const hash = createHash('sha256')
  for (const chunk of chunks) hash.update(chunk)
  return hash.digest('hex')
}

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
}

test('small and large chunks come whole, in order, and stay as they were', async () => {
  const receiver = new Receiver()
  const pairs = await Promise.all([pair(), pair(), pair()])
  const results = await Promise.all(
    pairs.map(async ({ near, far }) => {
      const sent: Buffer[] = []
      const got: Buffer[] = []
      let bytes = 0
      receiver.receive(near, (chunk) => {
        got.push(chunk)
        bytes += chunk.length
        if (randomInt(10) > 0) return
        near.pause()
        setTimeout(() => near.resume(), 2)
      })
      near.resume()
      for (let n = 0; n < 150; n++) {
        const chunk = randomBytes(randomInt(2) === 0 ? randomInt(1, 200) : randomInt(1, 300_000))
        sent.push(chunk)
        if (!far.write(chunk)) await once(far, 'drain')
        if (randomInt(5) === 0) await new Promise((resolve) => setImmediate(resolve))
      }
      const total = sent.reduce((sum, chunk) => sum + chunk.length, 0)
      await until(() => bytes === total)
      return { sent: digest(sent), got: digest(got) }
    }),
  )
  for (const { sent, got } of results) expect(got).toBe(sent)
})

test('what the socket had buffered before comes first, and its end is told', async () => {
  const { near, far } = await pair()
  let early = ''
  near.on('readable', () => {
    early += (near.read(3) as Buffer | null)?.toString() ?? ''
  })
  far.write('first, ')
  await until(() => early !== '')
  near.removeAllListeners('readable')
  near.pause()
  const ended = once(near, 'end')
  let text = ''
  new Receiver().receive(near, (chunk) => {
    text += chunk.toString()
  })
  near.resume()
  far.end('then second')
  await ended
  expect(early + text).toBe('first, then second')
})

test('a socket that is read directly needs no stream', async () => {
  const { near, far } = await pair()
  let text = ''
  new Receiver().receive(near, (chunk) => {
    text += chunk.toString()
  })
  near.resume()
  far.write('hello')
  await until(() => text === 'hello')
  // Were this not so, the Node that runs here has other internals, and reads cost what they cost.
  expect(near.listenerCount('data')).toBe(0)
})
