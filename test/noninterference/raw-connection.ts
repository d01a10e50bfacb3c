/**
 * A connection whose every received byte is kept: what a client could look at. `pg` connects and
 * authenticates (directly or through a proxy); after that the socket is driven by hand, so nothing
 * is decoded, dropped or rearranged on the way.
 */
import type { Socket } from 'node:net'
import pg from 'pg'
import {
  backendTypes,
  encodeBind,
  encodeCopyData,
  encodeCopyDone,
  encodeCopyFail,
  encodeDescribe,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeSync,
  written,
  FrameReader,
  type ByteWriter,
} from '../../src/wire/wire.ts'

export interface Target {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: string
  readonly database: string
}

/** How one statement is sent. */
export interface Mode {
  readonly protocol: 'simple' | 'extended'
  readonly format: 'text' | 'binary'
  readonly describe: boolean
}

export const modes: readonly Mode[] = [
  { protocol: 'simple', format: 'text', describe: false },
  { protocol: 'extended', format: 'text', describe: true },
  { protocol: 'extended', format: 'text', describe: false },
  { protocol: 'extended', format: 'binary', describe: true },
  { protocol: 'extended', format: 'binary', describe: false },
]

export function modeName(mode: Mode): string {
  if (mode.protocol === 'simple') return 'simple'
  return `extended ${mode.format}${mode.describe ? '' : ' undescribed'}`
}

/** One backend frame, type byte and all. */
export type Frame = Buffer

const answerMsMax = 20_000
const frameBytesMax = 256 * 1024 * 1024

/** Opened with connect(); always close() it. */
export class RawConnection {
  readonly #client: pg.Client
  readonly #socket: Socket
  readonly #reader = new FrameReader({ frameBytesMax })
  #frames: Frame[] = []
  #protocol: Mode['protocol'] = 'simple'
  #copyIn: Buffer | null = null
  #closed = false
  #wake: (() => void) | null = null

  private constructor(client: pg.Client, socket: Socket) {
    this.#client = client
    this.#socket = socket
    socket.removeAllListeners('data')
    socket.on('data', (chunk: Buffer) => this.#receive(chunk))
    for (const event of ['close', 'end', 'error']) {
      socket.on(event, () => {
        this.#closed = true
        this.#wake?.()
      })
    }
  }

  static async connect(target: Target): Promise<RawConnection> {
    const client = new pg.Client({ ...target, application_name: 'noninterference' })
    client.on('error', () => undefined)
    await client.connect()
    // pg has no public way to its socket.
    const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
    return new RawConnection(client, stream)
  }

  get closed(): boolean {
    return this.#closed
  }

  /** Sends one statement (or, in simple protocol, a query string) and gives every frame. */
  async send(sql: string, mode: Mode): Promise<readonly Frame[]> {
    this.#protocol = mode.protocol
    if (mode.protocol === 'simple') return await this.#exchange((out) => encodeQuery(out, sql))
    const format = mode.format === 'binary' ? 1 : 0
    return await this.#exchange((out) => {
      encodeParse(out, { name: '', text: sql })
      encodeBind(out, {
        portal: '',
        statement: '',
        resultFormats: [format],
      })
      if (mode.describe) encodeDescribe(out, 'portal', '')
      encodeExecute(out, '')
      encodeSync(out)
    })
  }

  /** Appends frames by hand and gives everything up to the last ReadyForQuery. */
  async raw(write: (out: ByteWriter) => void, readyCount = 1): Promise<readonly Frame[]> {
    return await this.#exchange(write, readyCount)
  }

  /** COPY … FROM STDIN with this data. */
  async copyIn(sql: string, data: Buffer): Promise<readonly Frame[]> {
    this.#copyIn = data
    try {
      return await this.#exchange((out) => encodeQuery(out, sql))
    } finally {
      this.#copyIn = null
    }
  }

  async close(): Promise<void> {
    this.#socket.destroy()
    await this.#client.end().catch(() => undefined)
  }

  async #exchange(write: (out: ByteWriter) => void, readyCount = 1): Promise<readonly Frame[]> {
    this.#frames = []
    if (this.#closed) return []
    this.#socket.write(written(write))
    const deadline = Date.now() + answerMsMax
    while (!this.#closed && this.#readyCount() < readyCount) {
      const remaining = deadline - Date.now()
      if (remaining <= 0) throw new Error(`no ReadyForQuery after ${answerMsMax} ms`)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, remaining)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    return this.#frames
  }

  #readyCount(): number {
    return this.#frames.filter((frame) => frame[0] === backendTypes.ReadyForQuery).length
  }

  #receive(chunk: Buffer): void {
    this.#reader.push(chunk)
    while (this.#reader.next() === 'frame') {
      const { buffer, start, end } = this.#reader
      const frame = Buffer.from(buffer.subarray(start, end))
      this.#frames.push(frame)
      if (frame[0] === backendTypes.CopyInResponse) {
        this.#socket.write(
          written((out) => {
            if (this.#copyIn === null) encodeCopyFail(out, 'no data')
            else {
              encodeCopyData(out, this.#copyIn)
              encodeCopyDone(out)
            }
            // In COPY the server ignored the Sync that was already sent.
            if (this.#protocol === 'extended' && this.#copyIn === null) encodeSync(out)
          }),
        )
      }
    }
    this.#wake?.()
  }
}
