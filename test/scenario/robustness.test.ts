/**
 * What a hostile or broken client, a dying server and a drain do to regate: a clear error for the
 * one, nothing for the others, bounded memory, and no connection left behind on either side.
 */
import { connect, type Socket } from 'node:net'
import { resolve } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  encodeCopyData,
  encodeCopyDone,
  encodeParse,
  encodeQuery,
  encodeSync,
  written,
} from '../../src/wire/wire.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { WireClient, type Answer } from './refusals-client.ts'

const bundle = resolve('test/conformance/policies/allow')
const million = 1024 * 1024

let server: TestPostgres
let proxy: ProxyInProcess

beforeAll(async () => {
  server = await startPostgres()
  await execute(server, 'CREATE TABLE sink (n int, body text)')
  proxy = await startProxy(server, { bundle })
})

afterAll(async () => {
  await proxy.stop()
  await server.stop()
})

async function through(): Promise<WireClient> {
  return await WireClient.connect(proxy.url('postgres', 'anna'))
}

function errorOf(answers: readonly Answer[]): ReadonlyMap<string, string> {
  const found = answers.find((answer) => answer.error !== null)?.error ?? null
  if (found === null) throw new Error(`no error in ${answers.map((a) => a.type).join('')}`)
  return found
}

/** Connections of clients that the server has, other than the one that asks. */
async function serverSide(): Promise<number> {
  const result = await execute(
    server,
    `SELECT count(*)::int AS n FROM pg_stat_activity
     WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
       AND application_name LIKE '%anna%'`,
  )
  return (result.rows[0] as { n: number }).n
}

async function until(what: string, true_: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (await true_()) return
    await delay(50)
  }
  throw new Error(`waited in vain: ${what}`)
}

/** Asks SELECT 1 again and again on a session of its own; gives the slowest answer. */
async function whileOthersWork<T>(
  work: () => Promise<T>,
): Promise<{ result: T; slowestMs: number }> {
  const other = await through()
  let done = false
  let slowestMs = 0
  const loop = async (): Promise<void> => {
    while (!done) {
      const started = performance.now()
      const answers = await other.exchange((to) => {
        encodeQuery(to, 'SELECT 1')
      })
      expect(answers.map((answer) => answer.type).join('')).toBe('TDCZ')
      slowestMs = Math.max(slowestMs, performance.now() - started)
      await delay(10)
    }
  }
  const others = loop()
  try {
    return { result: await work(), slowestMs }
  } finally {
    done = true
    await others
    await other.close()
  }
}

describe('bytes that no driver sends', () => {
  it('a statement of 100 MB is refused by name of the limit, and others go on', async () => {
    const { result, slowestMs } = await whileOthersWork(async () => {
      const client = await through()
      const text = Buffer.alloc(100 * million, 0x20)
      text.write('SELECT 1')
      const answers = await client.bytes(written((to) => encodeQuery(to, text)))
      await client.close()
      return errorOf(answers)
    })
    expect(result.get('C')).toMatch(/^54/)
    expect([...result.values()].join(' ')).toContain('frameBytesMax')
    expect(slowestMs).toBeLessThan(5_000)
  })

  it('a statement over statementBytesMax is refused, and its session goes on', async () => {
    const client = await through()
    const text = Buffer.alloc(20 * million, 0x20)
    text.write('SELECT 1')
    const answers = await client.bytes(written((to) => encodeQuery(to, text)))
    expect(errorOf(answers).get('C')).toMatch(/^54/)
    const again = await client.exchange((to) => {
      encodeQuery(to, 'SELECT 1')
    })
    expect(again.map((answer) => answer.type).join('')).toBe('TDCZ')
    await client.close()
  })

  it('100,000 parentheses are refused, and the session and others go on', async () => {
    const { slowestMs } = await whileOthersWork(async () => {
      const client = await through()
      for (const text of [
        `SELECT ${'('.repeat(100_000)}1${')'.repeat(100_000)}`,
        `SELECT ${'('.repeat(100_000)}`,
        `SELECT ${'1+'.repeat(100_000)}1`,
        `SELECT ${'-'.repeat(1)}${' - '.repeat(100_000)}1`,
        `SELECT ${'NOT '.repeat(100_000)}true`,
        `SELECT ${'ARRAY['.repeat(100_000)}1${']'.repeat(100_000)}`,
      ]) {
        const answers = await client.exchange((to) => {
          encodeQuery(to, text)
        })
        expect(errorOf(answers).get('C')).toMatch(/^54001|^42601/)
      }
      const again = await client.exchange((to) => {
        encodeQuery(to, 'SELECT 1')
      })
      expect(again.map((answer) => answer.type).join('')).toBe('TDCZ')
      await client.close()
    })
    expect(slowestMs).toBeLessThan(5_000)
  })

  const query = (body: Buffer): Buffer => {
    const frame = Buffer.alloc(5 + body.length)
    frame.write('Q')
    frame.writeInt32BE(4 + body.length, 1)
    body.copy(frame, 5)
    return frame
  }
  const length = (value: number): Buffer => {
    const frame = Buffer.from('Q\0\0\0\0SELECT never_seen\0')
    frame.writeUInt32BE(value, 1)
    return frame
  }
  const broken: Readonly<Record<string, Buffer>> = {
    'a NUL inside the text': query(Buffer.from("SELECT 'never\0_seen'\0")),
    'bytes after the terminator': query(Buffer.from('SELECT 1\0never_seen')),
    'no terminator': query(Buffer.from('SELECT never_seen')),
    'an empty body': query(Buffer.alloc(0)),
    'a length of 0': length(0),
    'a length of 3': length(3),
    'a length of 2^31': length(2 ** 31),
    'a length of 2^31 - 1': length(2 ** 31 - 1),
    'a length of 2^32 - 1': length(2 ** 32 - 1),
    'a type that is none': Buffer.from('~\0\0\0\x04'),
    'a Bind with a hostile count': Buffer.from('B\0\0\0\x0a\0\0\xff\xff\xff\xff', 'latin1'),
  }
  for (const [name, bytes] of Object.entries(broken)) {
    it(`${name}: a clear error, nothing forwarded, others go on`, async () => {
      const client = await through()
      const answers = await client.bytes(Buffer.concat([bytes, written(encodeSync)]))
      expect(errorOf(answers).get('C')).toMatch(/^08P01|^54/)
      expect(errorOf(answers).get('M')).not.toBe('')
      await client.close()
      const other = await through()
      const again = await other.exchange((to) => {
        encodeQuery(to, 'SELECT 1')
      })
      expect(again.map((answer) => answer.type).join('')).toBe('TDCZ')
      await other.close()
      expect(server.log()).not.toContain('never_seen')
    })
  }

  it('text that is not UTF-8 is refused, never replaced', async () => {
    const client = await through()
    const answers = await client.bytes(
      written((to) => encodeQuery(to, Buffer.from("SELECT 'never_seen\xff'", 'latin1'))),
    )
    expect(errorOf(answers).get('C')).toBe('22021')
    expect(server.log()).not.toContain('never_seen')
    await client.close()
  })

  it('a hundred statements that break parsers, then SELECT 1 from the same and another session', async () => {
    const client = await through()
    for (let n = 0; n < 100; n++) {
      const text =
        n % 2 === 0 ? `SELECT ${'1+'.repeat(10_000 + n)}1` : `SELECT ${'('.repeat(5_000 + n)}`
      const answers = await client.exchange((to) => {
        encodeQuery(to, text)
      })
      expect(answers.at(-1)?.text).toBe('idle')
    }
    for (const session of [client, await through()]) {
      const again = await session.exchange((to) => {
        encodeQuery(to, 'SELECT 1')
      })
      expect(again.map((answer) => answer.type).join('')).toBe('TDCZ')
      await session.close()
    }
  })
})

describe('no orphan is left', () => {
  it('when the client is killed, idle, in a transaction and in a long statement', async () => {
    for (const text of ['SELECT 1', 'BEGIN; SELECT 1', 'SELECT pg_sleep(600)']) {
      const client = await through()
      client.socket.write(written((to) => encodeQuery(to, text)))
      await delay(200)
      client.socket.resetAndDestroy()
      await until(`no session after ${text}`, () => proxy.runtime.sessionCount() === 0)
      await until(`no server process after ${text}`, async () => (await serverSide()) === 0)
    }
  })

  it('when the server process is killed: the client is told, and the socket closed', async () => {
    const client = await through()
    await execute(server, `SELECT pg_terminate_backend(${client.processId})`)
    const answers = await client.more({ type: 'none', count: 1 })
    const error = errorOf(answers)
    expect(error.get('S')).toBe('FATAL')
    expect(error.get('C')).toBe('57P01')
    expect(client.closed).toBe(true)
    await until('no session', () => proxy.runtime.sessionCount() === 0)
    await client.close()
  })

  it('when it is killed in the middle of a result', async () => {
    const client = await through()
    client.socket.write(
      written((to) =>
        encodeQuery(to, "SELECT repeat('x', 1000), pg_sleep(0.001) FROM generate_series(1, 1e6)"),
      ),
    )
    await delay(300)
    await execute(server, `SELECT pg_terminate_backend(${client.processId})`)
    const answers = await client.more({ type: 'none', count: 1 })
    expect(errorOf(answers).get('C')).toBe('57P01')
    await until('no session', () => proxy.runtime.sessionCount() === 0)
    await client.close()
  })

  it('when the whole server dies: every client is told', async () => {
    const own = await startPostgres()
    const front = await startProxy(own, { bundle })
    try {
      const clients = await Promise.all(
        Array.from({ length: 5 }, () => WireClient.connect(front.url('postgres', 'anna'))),
      )
      own.kill('SIGQUIT')
      for (const client of clients) {
        const answers = await client.more({ type: 'none', count: 1 })
        expect(errorOf(answers).get('C')).toMatch(/^57P0|^08/)
        await client.close()
      }
      await until('no session', () => front.runtime.sessionCount() === 0)
      const late = new pg.Client({ connectionString: front.url('postgres', 'anna') })
      late.on('error', () => undefined)
      await expect(late.connect()).rejects.toMatchObject({ code: expect.stringMatching(/^08|^57/) })
    } finally {
      await front.stop()
      await own.stop()
    }
  })

  it('when the proxy is drained: idle sessions end, a running statement ends first', async () => {
    const front = await startProxy(server, { bundle, limits: { drainMsMax: 5_000 } })
    try {
      const url = front.url('postgres', 'anna')
      const idle = await WireClient.connect(url)
      const busy = await WireClient.connect(url)
      busy.socket.write(written((to) => encodeQuery(to, "SELECT 'over', pg_sleep(1)")))
      await delay(200)
      const drained = front.runtime.drain()
      const last = await idle.more({ type: 'none', count: 1 })
      expect(errorOf(last).get('C')).toBe('57P01')
      const answers = await busy.more({ type: 'none', count: 1 })
      expect(answers.map((answer) => answer.text)).toContain('over|')
      await drained
      await Promise.all([idle.close(), busy.close()])
      await until('no server process', async () => (await serverSide()) === 0)
    } finally {
      await front.stop()
    }
  })
})

describe('cancel', () => {
  it('ends the statement that runs, and only with the right key', async () => {
    const client = await pgClient()
    try {
      const running = client.query('SELECT pg_sleep(30)')
      const settled = running.then(
        () => 'ended',
        (error: unknown) => (error as { code: string }).code,
      )
      const { processID, secretKey } = client as unknown as {
        processID: number
        secretKey: number
      }
      await delay(200)
      await cancel(processID, secretKey ^ 1)
      expect(await Promise.race([settled, delay(500, 'runs')])).toBe('runs')
      await cancel(processID, secretKey)
      expect(await settled).toBe('57014')
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    } finally {
      await client.end()
    }
  })

  it('of nothing does nothing', async () => {
    const client = await pgClient()
    const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }
    await cancel(processID, secretKey)
    await delay(100)
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    await client.end()
  })

  async function pgClient(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: proxy.url('postgres', 'anna') })
    await client.connect()
    return client
  }

  async function cancel(processId: number, secret: number): Promise<void> {
    const request = Buffer.alloc(16)
    request.writeInt32BE(16, 0)
    request.writeInt32BE(80_877_102, 4)
    request.writeInt32BE(processId, 8)
    request.writeInt32BE(secret, 12)
    const socket = connect(proxy.port, proxy.host)
    socket.write(request)
    await new Promise((resolve) => socket.once('close', resolve).resume())
  }
})

describe('backpressure', () => {
  /** Bytes outside V8's heap: where socket buffers are. */
  const held = (): number => process.memoryUsage().arrayBuffers

  it('a client that does not read costs a bounded amount of memory', async () => {
    const client = await through()
    client.socket.pause()
    const before = held()
    client.socket.write(
      written((to) => encodeQuery(to, "SELECT repeat('x', 1000000) FROM generate_series(1, 400)")),
    )
    let most = 0
    for (let n = 0; n < 30; n++) {
      await delay(100)
      most = Math.max(most, held() - before)
    }
    expect(most).toBeLessThan(40 * million)
    const { slowestMs } = await whileOthersWork(() => delay(300))
    expect(slowestMs).toBeLessThan(5_000)
    client.socket.resume()
    const answers = await client.more()
    expect(answers.filter((answer) => answer.type === 'D').length).toBe(400)
    await client.close()
  })

  it('a server that does not read costs a bounded amount of memory', async () => {
    await execute(
      server,
      `CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
       CREATE TABLE slow (body text);
       CREATE TRIGGER wait BEFORE INSERT ON slow FOR EACH ROW EXECUTE FUNCTION wait()`,
    )
    const lock = new pg.Client({ connectionString: server.url() })
    await lock.connect()
    await lock.query('SELECT pg_advisory_lock(4711)')
    const client = await through()
    await client.exchange((to) => encodeQuery(to, 'COPY slow FROM STDIN'), { type: 'G', count: 1 })
    const row = written((to) => encodeCopyData(to, Buffer.from(`${'y'.repeat(99_999)}\n`)))
    const before = held()
    let sent = 0
    let most = 0
    const writing = (async () => {
      while (sent < 1_500) {
        sent++
        if (!client.socket.write(row)) {
          await new Promise((resolve) => client.socket.once('drain', resolve))
        }
      }
    })()
    for (let n = 0; n < 20; n++) {
      await delay(100)
      most = Math.max(most, held() - before)
    }
    expect(sent).toBeLessThan(1_000)
    expect(most).toBeLessThan(40 * million)
    await lock.query('SELECT pg_advisory_unlock(4711)')
    await writing
    const answers = await client.exchange(encodeCopyDone)
    expect(answers.map((answer) => answer.text)).toEqual(['COPY 0', 'idle'])
    await client.close()
    await lock.end()
  })

  it('a pipeline without end, never read, costs a bounded amount of memory', async () => {
    const client = await through()
    client.socket.pause()
    const before = held()
    const piece = written((to) => {
      for (let n = 0; n < 100; n++) {
        encodeParse(to, { name: '', text: `SELECT repeat('z', 10000) /* ${'-'.repeat(500)} */` })
        encodeQuery(to, "SELECT repeat('z', 10000)")
      }
    })
    let most = 0
    for (let n = 0; n < 100; n++) {
      const flowing = client.socket.write(piece)
      most = Math.max(most, held() - before)
      if (!flowing) await Promise.race([drained(client.socket), delay(20)])
    }
    await delay(300)
    most = Math.max(most, held() - before - client.socket.writableLength)
    expect(most).toBeLessThan(60 * million)
    client.socket.destroy()
    await client.close()
    await until('no session', () => proxy.runtime.sessionCount() === 0)
    await until('no server process', async () => (await serverSide()) === 0)
  })

  async function drained(socket: Socket): Promise<void> {
    await new Promise((resolve) => socket.once('drain', resolve))
  }
})
