/**
 * Live updates by server-sent events: one stream a page, for the topics it names. A topic is read
 * only while somebody watches it, once for all who do, and sent where it has changed.
 * https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
import type { FastifyReply, FastifyRequest } from 'fastify'

export interface Topic {
  readonly everyMs: number
  /** The value as JSON would carry it; what it throws is sent to nobody. */
  read(): unknown
}

interface Stream {
  readonly topics: readonly string[]
  readonly reply: FastifyReply
  /** Still signed in and allowed to look. */
  alive(): boolean
}

const streamCountMax = 200
/** A reader that does not keep up is let go: it comes back by itself. */
const bufferedBytesMax = 4 * 1024 * 1024

export class Events {
  readonly #topics: ReadonlyMap<string, Topic>
  readonly #streams = new Set<Stream>()
  readonly #timers = new Map<string, NodeJS.Timeout>()
  readonly #last = new Map<string, string>()

  constructor(topics: ReadonlyMap<string, Topic>) {
    this.#topics = topics
  }

  /** Answers a request with a stream; false when there are too many. */
  open(
    request: FastifyRequest,
    reply: FastifyReply,
    topics: readonly string[],
    alive: () => boolean,
  ): boolean {
    if (this.#streams.size >= streamCountMax) return false
    const known = topics.filter((name) => this.#topics.has(name))
    const stream: Stream = { topics: known, reply, alive }
    const headers = reply.getHeaders()
    reply.hijack()
    reply.raw.writeHead(200, {
      ...(headers as Record<string, string>),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    })
    reply.raw.write('retry: 2000\n\n')
    this.#streams.add(stream)
    request.raw.once('close', () => this.#close(stream))
    reply.raw.on('error', () => this.#close(stream))
    for (const name of known) {
      const last = this.#last.get(name)
      if (this.#timers.has(name) && last !== undefined) this.#send(stream, name, last)
      else this.#start(name)
    }
    return true
  }

  /** Ends every stream. */
  close(): void {
    for (const stream of [...this.#streams]) this.#close(stream)
  }

  #start(name: string): void {
    const topic = this.#topics.get(name)
    if (topic === undefined || this.#timers.has(name)) return
    this.#last.delete(name)
    const timer = setInterval(() => void this.#tick(name, topic), topic.everyMs)
    timer.unref()
    this.#timers.set(name, timer)
    void this.#tick(name, topic)
  }

  async #tick(name: string, topic: Topic): Promise<void> {
    let text: string
    try {
      text = JSON.stringify(await topic.read())
    } catch {
      return
    }
    const changed = this.#last.get(name) !== text
    this.#last.set(name, text)
    for (const stream of [...this.#streams]) {
      if (!stream.topics.includes(name)) continue
      if (!stream.alive()) this.#close(stream)
      else if (changed) this.#send(stream, name, text)
      else stream.reply.raw.write(': still here\n\n')
    }
  }

  #send(stream: Stream, name: string, text: string): void {
    const { raw } = stream.reply
    if (raw.writableLength > bufferedBytesMax) this.#close(stream)
    // JSON has no line breaks of its own: one line of data.
    else raw.write(`event: ${name}\ndata: ${text}\n\n`)
  }

  #close(stream: Stream): void {
    if (!this.#streams.delete(stream)) return
    stream.reply.raw.end()
    for (const [name, timer] of this.#timers) {
      if ([...this.#streams].some(({ topics }) => topics.includes(name))) continue
      clearInterval(timer)
      this.#timers.delete(name)
      this.#last.delete(name)
    }
  }
}
