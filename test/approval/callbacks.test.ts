/**
 * Callbacks to two regates on one store, signed by Ed25519, and receivers that are ill in every way:
 * not there, silent, answering what is no HTTP, sending elsewhere.
 */
import { generateKeyPairSync, randomBytes, sign, verify, type KeyObject } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer, type IncomingHttpHeaders } from 'node:http'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Harness, insert } from './harness.ts'
import { until } from './support.ts'

const directory = mkdtempSync(join(tmpdir(), 'regate-callbacks-'))
const own = generateKeyPairSync('ed25519')
const theirs = generateKeyPairSync('ed25519')
const stranger = generateKeyPairSync('ed25519')
const heard: { headers: IncomingHttpHeaders; body: string }[] = []

const receiver = createHttpServer((request, response) => {
  let body = ''
  request.on('data', (chunk: Buffer) => (body += chunk.toString()))
  request.on('end', () => {
    heard.push({ headers: request.headers, body })
    response.writeHead(204).end()
  })
})
let approvals: { adapter: string; webhook: object }
let first: Harness
let second: Harness

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

beforeAll(async () => {
  const pem = (key: KeyObject): string =>
    key.export({ format: 'pem', type: key.type === 'private' ? 'pkcs8' : 'spki' }).toString()
  writeFileSync(join(directory, 'signing.pem'), pem(own.privateKey))
  writeFileSync(join(directory, 'callback.pem'), pem(theirs.publicKey))
  const webhook = {
    url: `http://127.0.0.1:${await listening(receiver)}/hook`,
    signing_key_file: join(directory, 'signing.pem'),
    callback_key: join(directory, 'callback.pem'),
  }
  approvals = { adapter: 'webhook', webhook }
  first = await Harness.start({ approvals })
  second = await Harness.start({ approvals, beside: first })
}, 120_000)

afterAll(async () => {
  await second.stop()
  await first.stop()
  receiver.close()
  rmSync(directory, { recursive: true, force: true })
})

interface Signed {
  readonly key?: KeyObject
  readonly nonce?: string
  readonly timestamp?: string
  readonly signature?: (made: string) => string
  readonly body?: string
}

async function callback(to: Harness, body: string, how: Signed = {}): Promise<number> {
  const timestamp = how.timestamp ?? String(Math.floor(Date.now() / 1000))
  const nonce = how.nonce ?? randomBytes(16).toString('base64url')
  const text = Buffer.from(`regate-callback-v1\n${timestamp}\n${nonce}\n${body}`)
  const made = `ed25519=${sign(null, text, how.key ?? theirs.privateKey).toString('base64')}`
  const { status } = await fetch(`${to.proxy.adminUrl}/v1/approvals/callback`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'regate-timestamp': timestamp,
      'regate-nonce': nonce,
      'regate-signature': how.signature?.(made) ?? made,
    },
    body: how.body ?? body,
  })
  return status
}

const saying = (approval: string, more: object = {}): string =>
  JSON.stringify({
    ...{ approval, decision: 'approve', comment: 'seen' },
    ...{ by: { subject: 'grace', groups: ['dba'] }, ...more },
  })

describe('Ed25519', () => {
  test('what regate sends is signed by its key; forged, late and altered callbacks are refused', async () => {
    await first.with(async (client) => {
      const running = client.query(insert('ed25519'))
      const { id } = await first.pending('ed25519')
      await until('the receiver was told', () => heard.some(({ body }) => body.includes(id)))
      const told = heard.find(({ body }) => body.includes(id))
      const one = (name: string): string => String(told?.headers[name])
      const text = `regate-request-v1\n${one('regate-timestamp')}\n${one('regate-nonce')}\n${told?.body ?? ''}`
      const signature = Buffer.from(one('regate-signature').replace('ed25519=', ''), 'base64')
      expect(verify(null, Buffer.from(text), own.publicKey, signature)).toBe(true)
      const good = saying(id)
      const seconds = Math.floor(Date.now() / 1000)
      const bad: Signed[] = [
        { key: stranger.privateKey },
        // regate's own key speaks for regate only.
        { key: own.privateKey },
        { timestamp: String(seconds - 400) },
        { timestamp: String(seconds + 400) },
        { timestamp: `${seconds} ` },
        { timestamp: '' },
        { nonce: 'short' },
        { body: good.replace('grace', 'mallo') },
        { signature: (made) => made.replace('ed25519=', 'v1=') },
        { signature: () => `v1=${'0'.repeat(64)}` },
        { signature: () => '' },
        { signature: (made) => `${made}, ${made}` },
      ]
      for (const how of bad) expect(await callback(first, good, how), JSON.stringify(how)).toBe(401)
      expect((await first.detail(id))['state']).toBe('pending')
      // Signed, and wrong all the same.
      expect(await callback(first, saying(id, { by: { subject: 'ann', groups: ['dba'] } }))).toBe(
        403,
      )
      expect(await callback(first, saying(id, { by: { subject: 'eve', groups: [] } }))).toBe(403)
      expect(await callback(first, saying(id, { more: 1 }))).toBe(400)
      expect(await callback(first, 'no JSON')).toBe(400)
      expect(await callback(first, saying('01ARZ3NDEKTSV4RRFFQ69G5FAV'))).toBe(404)
      expect(await callback(first, good)).toBe(200)
      expect((await running).rows).toEqual([{ what: 'ed25519' }])
    })
  })
})

describe('a nonce', () => {
  test('is taken once, whichever regate it comes to, and after a restart', async () => {
    await first.with(async (client) => {
      const running = client.query(insert('nonce'))
      const { id } = await first.pending('nonce')
      // Its vote does not count, the callback itself is taken.
      const nonce = randomBytes(16).toString('base64url')
      const body = saying(id, { by: { subject: 'eve', groups: [] } })
      expect(await callback(first, body, { nonce })).toBe(403)
      expect(await callback(second, body, { nonce })).toBe(401)
      expect(await callback(second, saying(id), { nonce })).toBe(401)
      await second.stop()
      second = await Harness.start({ approvals, beside: first })
      expect(await callback(second, saying(id), { nonce })).toBe(401)
      expect((await first.detail(id))['state']).toBe('pending')
      // The other regate decides, this one's client gets its rows.
      expect(await callback(second, saying(id))).toBe(200)
      expect((await running).rows).toEqual([{ what: 'nonce' }])
    })
  })
})

describe('a receiver that is ill', () => {
  const sockets = new Set<Socket>()
  const ill: Record<string, (socket: Socket) => void> = {
    'answers what is no HTTP': (socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n'),
    'hangs up': (socket) => socket.destroy(),
    'sends elsewhere': (socket) => {
      socket.end('HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n')
    },
    'never answers': () => undefined,
  }

  test.each(Object.keys(ill))(
    '%s: the client and the operator see it, and it is tried again',
    async (how) => {
      let tries = 0
      const server = createServer((socket) => {
        sockets.add(socket)
        socket.on('error', () => undefined)
        tries++
        socket.once('data', () => ill[how]?.(socket))
      })
      process.env['TEST_ILL_SECRET'] = randomBytes(24).toString('hex')
      const url = `http://127.0.0.1:${await listening(server)}/`
      const webhook = { url, secret_env: 'TEST_ILL_SECRET' }
      const third = await Harness.start({
        approvals: { adapter: 'webhook', webhook },
        beside: first,
      })
      try {
        const { client, notices } = await third.connect()
        const running = client.query(insert(`ill ${how}`))
        const { id } = await third.pending(`ill ${how}`)
        await until('the client is told', () => notices.length > 1)
        expect(notices[1]).toContain('the reviewers could not be told yet, it is tried again')
        await until('it was tried again', () => tries > 1)
        const { deliveries } = (await third.detail(id)) as { deliveries: Record<string, unknown>[] }
        expect(deliveries[0]).toMatchObject({ adapter: 'webhook', state: 'pending' })
        expect(String(deliveries[0]?.['last_error'])).not.toBe('null')
        const metrics = await fetch(`${third.proxy.adminUrl}/metrics`, {
          headers: { authorization: `Bearer ${third.token}` },
        })
        const failures = /^regate_approval_delivery_failures_total(?:\{.*\})? (\d+)/m
        expect(Number(failures.exec(await metrics.text())?.[1])).toBeGreaterThan(0)
        // It costs nobody their approval.
        await third.approve(`ill ${how}`)
        expect((await running).rows).toEqual([{ what: `ill ${how}` }])
        await client.end()
      } finally {
        for (const socket of sockets) socket.destroy()
        await third.stop()
        server.close()
      }
    },
    90_000,
  )
})
