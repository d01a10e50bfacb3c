/**
 * Calls between two processes over a channel that carries messages in order. Owns the calls that
 * wait for their answer. Bounded: a peer that takes nothing more makes calls fail, not memory grow.
 */
import { z } from 'zod'
import { ProxyError } from '../core/core.ts'

/** Methods by name, with schemas for what goes in and what comes out. */
export type Methods = Readonly<
  Record<string, { readonly params: z.ZodType; readonly result: z.ZodType }>
>
export type Params<M extends Methods, Name extends keyof M> = z.input<M[Name]['params']>
export type Received<M extends Methods, Name extends keyof M> = z.output<M[Name]['params']>
export type Result<M extends Methods, Name extends keyof M> = z.output<M[Name]['result']>

/** One function a method: what the other side may call. */
export type Handlers<M extends Methods> = {
  readonly [Name in keyof M]: (
    params: Received<M, Name>,
  ) => z.input<M[Name]['result']> | Promise<z.input<M[Name]['result']>>
}

export interface ChannelOptions<Mine extends Methods, Theirs extends Methods> {
  /** Hands a message to the other side; calls back when it left this process. */
  send(message: object, sent: (error: Error | null) => void): void
  readonly mine: Mine
  readonly handlers: Handlers<Mine>
  readonly theirs: Theirs
  /** Messages that are not what they should be, and failures of calls that nobody waits for. */
  onFault(error: unknown, method: string): void
}

const messageSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('call'),
    id: z.number().int().nullable(),
    method: z.string(),
    params: z.unknown(),
  }),
  z.strictObject({ kind: z.literal('answer'), id: z.number().int(), value: z.unknown() }),
  z.strictObject({
    kind: z.literal('failure'),
    id: z.number().int(),
    message: z.string(),
    code: z.string().nullable(),
  }),
])

/** What the other side threw; `code` is that of a ProxyError. */
export class RemoteFailure extends Error {
  override readonly name = 'RemoteFailure'
  readonly code: string | null

  constructor(message: string, code: string | null) {
    super(message)
    this.code = code
  }
}

interface Waiting {
  readonly method: string
  readonly resolve: (value: unknown) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout | null
}

/** Calls that wait, and messages that the other side has not taken, at most. */
const outstandingCountMax = 10_000

/** One end of a channel. */
export class Channel<Mine extends Methods, Theirs extends Methods> {
  readonly #options: ChannelOptions<Mine, Theirs>
  readonly #waiting = new Map<number, Waiting>()
  #nextId = 1
  #unsentCount = 0
  #closed: Error | null = null

  constructor(options: ChannelOptions<Mine, Theirs>) {
    this.#options = options
  }

  /** Asks; rejects with what the other side threw, after `msMax` (0: never), or when it is gone. */
  async call<Name extends keyof Theirs & string>(
    method: Name,
    params: Params<Theirs, Name>,
    msMax: number,
  ): Promise<Result<Theirs, Name>> {
    if (this.#closed !== null) throw this.#closed
    if (this.#waiting.size >= outstandingCountMax || this.#unsentCount >= outstandingCountMax) {
      throw new Error(`${method}: too many calls are waiting for the other process`)
    }
    const id = this.#nextId++
    const answer = await new Promise<unknown>((resolve, reject) => {
      const expire = (): void => {
        this.#waiting.delete(id)
        reject(new Error(`${method}: no answer within ${msMax} ms`))
      }
      const timer = msMax === 0 ? null : setTimeout(expire, msMax)
      this.#waiting.set(id, { method, resolve, reject, timer })
      this.#send({ kind: 'call', id, method, params }, (error) => {
        this.#settle(id)?.reject(error)
      })
    })
    return this.#options.theirs[method]?.result.parse(answer) as Result<Theirs, Name>
  }

  /** Tells without waiting for an answer; false where the other side is gone or takes nothing. */
  tell<Name extends keyof Theirs & string>(method: Name, params: Params<Theirs, Name>): boolean {
    if (this.#closed !== null || this.#unsentCount >= outstandingCountMax) return false
    this.#send({ kind: 'call', id: null, method, params }, (error) => {
      this.#options.onFault(error, method)
    })
    return true
  }

  /** A message of the other side. Never throws. */
  receive(message: unknown): void {
    const parsed = messageSchema.safeParse(message)
    if (!parsed.success) {
      this.#options.onFault(parsed.error, 'message')
      return
    }
    const { data } = parsed
    if (data.kind === 'call') void this.#answer(data.id, data.method, data.params)
    else if (data.kind === 'answer') this.#settle(data.id)?.resolve(data.value)
    else this.#settle(data.id)?.reject(new RemoteFailure(data.message, data.code))
  }

  /** The other side is gone: everything that waits fails, and everything to come. */
  close(error: Error): void {
    if (this.#closed !== null) return
    this.#closed = error
    for (const id of [...this.#waiting.keys()]) this.#settle(id)?.reject(error)
  }

  #settle(id: number): Waiting | null {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return null
    this.#waiting.delete(id)
    if (waiting.timer !== null) clearTimeout(waiting.timer)
    return waiting
  }

  #send(message: object, onError: (error: Error) => void): void {
    this.#unsentCount++
    this.#options.send(message, (error) => {
      this.#unsentCount--
      if (error !== null) onError(error)
    })
  }

  async #answer(id: number | null, method: string, params: unknown): Promise<void> {
    const { mine, handlers } = this.#options
    try {
      const schemas = Object.hasOwn(mine, method) ? mine[method] : undefined
      const handler = handlers[method]
      if (schemas === undefined || handler === undefined) throw new Error('there is no such method')
      const given = schemas.params.parse(params) as Received<Mine, string>
      const value = await handler(given)
      if (id !== null) this.#reply({ kind: 'answer', id, value }, method)
    } catch (error) {
      if (id === null) this.#options.onFault(error, method)
      else {
        const message = error instanceof Error ? error.message : String(error)
        const code = error instanceof ProxyError ? error.code : null
        this.#reply({ kind: 'failure', id, message: `${method}: ${message}`, code }, method)
      }
    }
  }

  #reply(message: object, method: string): void {
    if (this.#closed !== null) return
    this.#send(message, (error) => {
      this.#options.onFault(error, method)
    })
  }
}
