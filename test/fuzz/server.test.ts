/**
 * The same messages for our decoders and for a real server, which alone says what a message is:
 * - what the server calls malformed, our decoder has refused;
 * - what our decoder refuses, the server does not carry out.
 * So a message that is judged is a message that the server reads, and no client that PostgreSQL
 * serves is turned away. Short here; REGATE_FUZZ_MESSAGES makes it longer.
 */
import type { Socket } from 'node:net'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ProxyError } from '../../src/core/core.ts'
import * as wire from '../../src/wire/wire.ts'
import type { FrameView } from '../../src/wire/wire.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { Random } from './random.ts'
import { soup, writeMessage } from './streams.ts'

const messagesMax = Number(process.env['REGATE_FUZZ_MESSAGES'] ?? 3000)

const decoders: Readonly<Record<string, (view: FrameView) => unknown>> = {
  Query: (view) => {
    const { textStart, textEnd } = wire.decodeQuery(view)
    wire.decodeUtf8(view.buffer, textStart, textEnd, 'query string')
  },
  Parse: (view) => {
    const { textStart, textEnd } = wire.decodeParse(view)
    wire.decodeUtf8(view.buffer, textStart, textEnd, 'query string')
  },
  Bind: wire.decodeBind,
  Describe: wire.decodeDescribe,
  Close: wire.decodeClose,
  Execute: wire.decodeExecute,
  FunctionCall: wire.decodeFunctionCall,
  Sync: (view) => wire.decodeEmpty('Sync', view),
  Flush: (view) => wire.decodeEmpty('Flush', view),
}

/** Messages of pqformat.c and postgres.c that say "this is not the format", not "this is wrong". */
const malformed =
  /^(insufficient data left in message|no data left in message|invalid string in message|invalid message format|invalid (DESCRIBE|CLOSE) message subtype|invalid argument size|invalid byte sequence)/

/** A client whose handshake is over, spoken to in bytes. */
class RawConnection {
  readonly #socket: Socket
  readonly #reader = new wire.FrameReader({ frameBytesMax: wire.messageBytesMax })
  #wake: () => void = () => undefined

  constructor(socket: Socket) {
    this.#socket = socket
    socket.removeAllListeners('data')
    socket.on('data', (chunk: Buffer) => {
      this.#reader.push(chunk)
      this.#wake()
    })
  }

  /** Sends bytes, waits for so many ReadyForQuery, gives the first error's message or null. */
  async ask(bytes: Buffer, readyCount: number): Promise<string | null> {
    this.#socket.write(bytes)
    let error: string | null = null
    for (let ready = 0; ready < readyCount;) {
      if (this.#reader.next() !== 'frame') {
        await new Promise<void>((resolve) => (this.#wake = resolve))
        continue
      }
      if (this.#reader.type === wire.backendTypes.ReadyForQuery) ready++
      if (this.#reader.type === wire.backendTypes.ErrorResponse) {
        error ??= wire.decodeErrorOrNotice(this.#reader).get('M') ?? ''
      }
    }
    return error
  }
}

describe('the decoders and PostgreSQL', () => {
  let server: TestPostgres
  let client: pg.Client
  let raw: RawConnection

  beforeAll(async () => {
    server = await startPostgres()
    client = new pg.Client({ connectionString: server.url() })
    client.on('error', () => undefined)
    await client.connect()
    raw = new RawConnection(
      (client as unknown as { connection: { stream: Socket } }).connection.stream,
    )
    const prepare = wire.written((w) => {
      wire.encodeParse(w, { name: 's1', text: 'select $1::int4', parameterTypes: [23] })
      wire.encodeParse(w, { name: 'a', text: 'select 1' })
      wire.encodeSync(w)
    })
    expect(await raw.ask(prepare, 1)).toBe(null)
  })

  afterAll(async () => {
    ;(client as unknown as { connection: { stream: Socket } }).connection.stream.destroy()
    await server.stop()
  })

  it('read the same messages, and refuse the same', async () => {
    const random = new Random(Number(process.env['REGATE_FUZZ_SEED'] ?? 7))
    const disagreements: string[] = []
    const counts = { both: 0, neither: 0, serverOnly: 0 }
    const sync = wire.written(wire.encodeSync)
    for (let asked = 0; asked < messagesMax;) {
      const frame = random.chance(50)
        ? soup(random, 'frontend')
        : wire.written((w) => writeMessage(random, 'frontend', w))
      if (random.chance(50))
        frame[5 + random.below(frame.length - 5)] = random.pick([0, 1, 0x53, 0xff])
      const name = wire.frontendMessageName(frame[0]!) ?? ''
      const decode = decoders[name]
      if (decode === undefined) continue
      asked++
      // These are answered by a ReadyForQuery of their own; after the others only Sync is.
      const own = ['Query', 'FunctionCall', 'Sync'].includes(name)
      const error = await raw.ask(Buffer.concat([frame, sync]), own ? 2 : 1)
      const refused = refusal(() => decode({ buffer: frame, start: 0, end: frame.length }))
      if (error !== null && malformed.test(error) && refused === null) {
        disagreements.push(`accepted, but the server says "${error}": ${frame.toString('hex')}`)
      }
      if (refused !== null && error === null) {
        disagreements.push(
          `refused ("${refused}"), but the server runs it: ${frame.toString('hex')}`,
        )
      }
      counts[refused !== null ? 'neither' : error === null ? 'both' : 'serverOnly']++
    }
    expect(disagreements).toEqual([])
    expect(Math.min(counts.both, counts.neither, counts.serverOnly)).toBeGreaterThan(
      messagesMax / 50,
    )
  }, 600_000)
})

function refusal(decode: () => unknown): string | null {
  try {
    decode()
    return null
  } catch (error) {
    if (error instanceof ProxyError) return error.message
    throw error
  }
}
