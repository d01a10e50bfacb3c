/**
 * Frames by hand against a server or a proxy, and what came back as lines that can be compared:
 * one for each message, without what differs between two connections anyway (process ids, names of
 * source files). A connection authenticates by `pg` and is driven raw from then on.
 */
import type { Socket } from 'node:net'
import pg from 'pg'
import {
  backendTypes,
  decodeCommandComplete,
  decodeDataRow,
  decodeErrorOrNotice,
  decodeReadyForQuery,
  FrameReader,
  written,
  type ByteWriter,
} from '../../src/wire/wire.ts'

/** One message of the server. */
export interface Answer {
  /** Its type as a character. */
  readonly type: string
  /** What of it is compared: tag, values, SQLSTATE and message, transaction status. */
  readonly text: string
  /** Of an ErrorResponse. */
  readonly error: ReadonlyMap<string, string> | null
}

/** How long to read: so many messages of this type. */
export interface Until {
  readonly type: string
  readonly count: number
}

const answerMsMax = 20_000

export class WireClient {
  readonly #client: pg.Client
  readonly #socket: Socket
  readonly #reader = new FrameReader({ frameBytesMax: 64 * 1024 * 1024 })
  #answers: Answer[] = []
  #wake: (() => void) | null = null
  closed = false
  /** Sends every byte in a packet of its own, as far as the network lets it. */
  split = false

  private constructor(client: pg.Client, socket: Socket) {
    this.#client = client
    this.#socket = socket
    socket.removeAllListeners('data')
    socket.on('data', (chunk: Buffer) => {
      this.#reader.push(chunk)
      this.#read()
    })
    for (const event of ['close', 'end', 'error']) {
      socket.on(event, () => {
        this.closed = true
        this.#wake?.()
      })
    }
  }

  static async connect(url: string): Promise<WireClient> {
    const client = new pg.Client({ connectionString: url })
    client.on('error', () => undefined)
    await client.connect()
    // pg has no public way to its socket.
    const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
    stream.setNoDelay(true)
    return new WireClient(client, stream)
  }

  /** The server's process behind this connection. */
  get processId(): number {
    return (this.#client as unknown as { processID: number }).processID
  }

  get socket(): Socket {
    return this.#socket
  }

  /** Writes frames in one piece and reads until so many answers are there, or the end. */
  async exchange(write: (to: ByteWriter) => void, until: Until = ready()): Promise<Answer[]> {
    return await this.bytes(written(write), until)
  }

  async bytes(bytes: Buffer, until: Until = ready()): Promise<Answer[]> {
    this.#answers = []
    if (!this.split) this.#socket.write(bytes)
    else {
      for (let at = 0; at < bytes.length; at++) {
        this.#socket.write(bytes.subarray(at, at + 1))
        await new Promise(setImmediate)
      }
    }
    return await this.more(until)
  }

  /** Reads on without sending. */
  async more(until: Until = ready()): Promise<Answer[]> {
    const deadline = Date.now() + answerMsMax
    const enough = (): boolean =>
      this.#answers.filter((answer) => answer.type === until.type).length >= until.count
    while (!this.closed && !enough()) {
      const remaining = deadline - Date.now()
      if (remaining <= 0) {
        const seen = this.#answers.map((answer) => answer.type).join('')
        throw new Error(`waited ${answerMsMax} ms for ${until.count} ${until.type}, got "${seen}"`)
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, remaining)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    return this.#answers
  }

  async close(): Promise<void> {
    this.#socket.destroy()
    await this.#client.end().catch(() => undefined)
  }

  #read(): void {
    while (this.#reader.next() === 'frame') {
      const { type } = this.#reader
      this.#answers.push(answerOf(type, this.#reader))
    }
    this.#wake?.()
  }
}

export function ready(count = 1): Until {
  return { type: 'Z', count }
}

function answerOf(type: number, view: FrameReader): Answer {
  const letter = String.fromCharCode(type)
  switch (type) {
    case backendTypes.ErrorResponse:
    case backendTypes.NoticeResponse: {
      const fields = new Map(decodeErrorOrNotice(view))
      return {
        type: letter,
        text: `${fields.get('C') ?? ''} ${fields.get('M') ?? ''}`,
        error: fields,
      }
    }
    case backendTypes.CommandComplete:
      return { type: letter, text: decodeCommandComplete(view), error: null }
    case backendTypes.ReadyForQuery:
      return { type: letter, text: decodeReadyForQuery(view), error: null }
    case backendTypes.DataRow:
      return {
        type: letter,
        text: decodeDataRow(view)
          .map((value) => value?.toString('utf8') ?? 'NULL')
          .join('|'),
        error: null,
      }
    default:
      return { type: letter, text: '', error: null }
  }
}
