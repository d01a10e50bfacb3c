/**
 * The face of `session`: the sans-I/O state machine of one authenticated connection. Bytes of
 * either side go in; bytes for either side come out at the end of a turn, after the audit took the
 * turn's records. Everything else is time: while the client's side waits (design, decision 13),
 * its bytes are kept and the server's side goes on.
 *
 *   client bytes ─▶ FrameReader ─▶ Frontend ─▶ toUpstream ─┐
 *                                    │ expected replies    ├─▶ audit ─▶ sockets
 *   server bytes ─▶ FrameReader ─▶ Backend ──▶ toClient ───┘
 */
import { AssertionError, ProxyError, type StatementSpan } from '../core/core.ts'
import type { Refusal } from '../gate/gate.ts'
import {
  backendFrameLimits,
  FrameReader,
  frontendFrameLimits,
  frontendTypes,
} from '../wire/wire.ts'
import { Backend } from './backend.ts'
import { Frontend } from './frontend.ts'
import { Kept } from './kept.ts'
import { recordLost } from './run-records.ts'
import { reservedPrefix, substituteParse, substituteQuery } from './refusal.ts'
import type { Committed } from './turn-end.ts'
import { State, type SessionOptions, type Wait } from './state.ts'
import { TerminateWatch } from './terminate-watch.ts'

export { TurnEnd } from './turn-end.ts'
export type { CatalogPort, SessionOptions, Wait } from './state.ts'
export { Holds, type Hold, type HoldOutcome, type HoldPort, type HoldRequest } from './hold.ts'

/** What the session asks of whoever owns the sockets. All calls come from inside a turn. */
export interface SessionOutput {
  /** Writes to the server; the buffers are the session's no more. */
  toUpstream(segments: readonly Buffer[]): void
  /** Writes to the client. */
  toClient(segments: readonly Buffer[]): void
  /** The client sent Terminate: close both sides once everything is written. */
  terminated(): void
  /** A fault that ends the session. */
  failed(error: unknown): void
  /** The client should (not) be read: its bytes would only be kept. */
  holdClient(held: boolean): void
}

export class Session {
  readonly #state: State
  readonly #frontend: Frontend
  readonly #backend: Backend
  readonly #output: SessionOutput
  readonly #clientFrames: FrameReader
  readonly #upstreamFrames: FrameReader
  /** What came while the client's side waited. */
  readonly #kept = new Kept()
  #wait: Wait | null = null
  /** While a statement is held: what the client sends behind it is looked through for its goodbye. */
  #goodbye: TerminateWatch | null = null
  /** A cancel request on its way for a result that was stopped. */
  #cancelling: Promise<void> | null = null
  /** A frame that waits to be handled again. */
  #frameWaits = false
  #ended = false
  /** Nothing more of the client is looked at. */
  #inputEnded = false
  /** It has said Terminate: the session ends when what waits for the disk has gone upstream. */
  #terminated = false
  /** What goes upstream waits for the end of the event loop's turn, and what comes later behind it. */
  #joined = false
  /** What waits for the disk before it goes upstream: what comes later goes behind it. */
  #held: Promise<void> | null = null

  constructor(options: SessionOptions, output: SessionOutput) {
    this.#state = new State(options, () => {
      this.#flush()
    })
    this.#output = output
    this.#frontend = new Frontend(this.#state)
    this.#backend = new Backend(this.#state, () => {
      this.#stop()
    })
    const { frameBytesMax, heldFrameBytesMax } = options.limits
    this.#clientFrames = new FrameReader({
      frameBytesMax,
      limits: frontendFrameLimits(frameBytesMax),
    })
    this.#upstreamFrames = new FrameReader({
      frameBytesMax: heldFrameBytesMax,
      limits: backendFrameLimits(heldFrameBytesMax),
    })
  }

  /** What the client waits for, for the list of sessions; null while it does not wait. */
  get waiting(): Wait['name'] | null {
    return this.#wait?.name ?? null
  }

  get transaction(): State['transaction'] {
    return this.#state.transaction
  }

  /** The server has announced the end of the connection itself. */
  get announcedEnd(): boolean {
    return this.#state.fatal
  }

  /** No statement is in flight: its fate cannot be in doubt. */
  get quiet(): boolean {
    return this.#state.queue.length === 0
  }

  /**
   * The client's last word is Terminate, and what it said before is still to run: that it closes its
   * side is no news. Who waits for people says so to them, and waits no more.
   */
  get terminates(): boolean {
    if (this.#terminated || this.#wait === null) return this.#terminated
    return this.#wait.name !== 'hold' && this.#saysGoodbye(new TerminateWatch())
  }

  /** Bytes of the client. Borrowed until the turn's output was written. */
  clientBytes(chunk: Buffer): void {
    if (this.#ended || this.#inputEnded) return
    if (this.#wait !== null || this.#state.copyPending !== null) {
      this.#keep(chunk)
      return
    }
    this.#turn(() => {
      this.#clientFrames.push(chunk)
      this.#readClient()
    })
  }

  /** Bytes of the server. */
  upstreamBytes(chunk: Buffer): void {
    if (this.#ended) return
    this.#turn(() => {
      this.#upstreamFrames.push(chunk)
      this.#readUpstream()
      this.#state.settle()
    })
  }

  /** Called once in a while, for what must not wait for bytes: the time limit of a decision. */
  tick(): void {
    if (this.#ended || this.#wait !== null) return
    this.#turn(() => {
      this.#backend.checkTime()
    })
  }

  /** The client asked to cancel: true when a held statement was withdrawn instead of one that runs. */
  cancelRequested(): boolean {
    return this.#frontend.withdraw('cancel')
  }

  /** Nothing more of the client is begun; what it sent and was not looked at is dropped. */
  endInput(): void {
    this.#inputEnded = true
    this.#kept.clear()
  }

  /** The client's side is gone. */
  clientClosed(): void {
    this.#frontend.withdraw('disconnect')
    this.#ended = true
    this.#state.appendRecords()
    for (const { entry } of this.#state.toUpstream.marks) entry.unsent = true
    recordLost(this.#state)
  }

  #keep(chunk: Buffer): void {
    this.#kept.push(chunk)
    if (this.#goodbye?.feed(chunk) === true) this.#frontend.withdraw('terminate')
    if (this.#kept.bytes > this.#state.options.limits.heldInputBytesMax)
      this.#output.holdClient(true)
  }

  #turn(work: () => void): void {
    try {
      work()
      this.#flush()
    } catch (error) {
      this.#fail(error)
    }
  }

  #fail(error: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#frontend.withdraw('disconnect')
    this.#output.failed(error)
  }

  #readClient(): void {
    const frames = this.#clientFrames
    if (this.#state.copyPending !== null) {
      this.#beginWait({ name: 'copy', until: this.#state.copyPending })
      return
    }
    const { clock, turnEnd } = this.#state.options
    const startedUs = clock.monotonicUs()
    for (let count = 1; ; count++) {
      if (!this.#frameWaits) {
        const found = frames.next()
        if (found === 'none') {
          if (!this.#pushKept()) return
          continue
        }
        if (found === 'rest') {
          this.#state.clientMidFrame = !frames.last
          this.#state.toUpstream.pass(frames.buffer, frames.start, frames.end)
          continue
        }
        if (found === 'partial') {
          // Rows of a COPY pass whatever their size; all else is judged whole.
          if (frames.type !== frontendTypes.CopyData || !this.#state.copyIn) {
            if (!this.#pushKept()) return
            continue
          }
          frames.takePartial()
          this.#state.clientMidFrame = true
          this.#state.toUpstream.pass(frames.buffer, frames.start, frames.end)
          continue
        }
      }
      this.#frameWaits = false
      const handled = this.#frontend.handle(frames.type, frames)
      if (handled === 'terminate') {
        this.#write()
        this.endInput()
        this.#terminated = true
        if (this.#held === null) this.#terminate()
        return
      }
      if (handled !== 'done') {
        this.#frameWaits = true
        this.#beginWait(handled)
        return
      }
      if (this.#state.copyPending !== null) {
        this.#beginWait({ name: 'copy', until: this.#state.copyPending })
        return
      }
      // Whoever sends much at once shares the event loop with the others.
      if (count % lookEvery === 0 && clock.monotonicUs() - startedUs > turnUsMax) {
        this.#beginWait({ name: 'turn', until: turnEnd.next() })
        return
      }
    }
  }

  /** Gives the reader what was kept; false where nothing was. */
  #pushKept(): boolean {
    const chunk = this.#kept.shift()
    if (chunk !== null) this.#clientFrames.push(chunk)
    return chunk !== null
  }

  #terminate(): void {
    this.#ended = true
    this.#output.terminated()
  }

  #beginWait(wait: Wait): void {
    this.#wait = wait
    if (wait.name === 'hold') this.#watchGoodbye()
    wait.until.then(
      () => {
        if (this.#wait === wait) this.#resume()
      },
      (error: unknown) => {
        if (this.#wait !== wait && wait.name !== 'audit') return
        if (error instanceof AssertionError || wait.name === 'audit') {
          this.#fail(error)
          return
        }
        // What the judgement needs could not be had: the statement is refused, the session lives.
        this.#frontend.giveUp(wait.name, error)
        this.#resume()
      },
    )
  }

  /** Begins with what the client had sent behind the frame that is held. */
  #watchGoodbye(): void {
    const watch = new TerminateWatch()
    if (this.#saysGoodbye(watch)) this.#frontend.withdraw('terminate')
    else this.#goodbye = watch
  }

  /** There is a Terminate in what the client has sent and nobody has looked at. */
  #saysGoodbye(watch: TerminateWatch): boolean {
    return [this.#clientFrames.unread(), ...this.#kept.views()].some((chunk) => watch.feed(chunk))
  }

  /** The wait is over: what was kept is read on, from the frame that waited. */
  #resume(): void {
    if (this.#ended) return
    this.#wait = null
    this.#goodbye = null
    if (this.#cancelling !== null) {
      // A late cancel must not hit the next statement.
      this.#beginWait({ name: 'cancel', until: this.#cancelling })
      return
    }
    if (this.#inputEnded) return
    this.#turn(() => {
      this.#readClient()
    })
    if (this.#kept.bytes <= this.#state.options.limits.heldInputBytesMax)
      this.#output.holdClient(false)
  }

  #readUpstream(): void {
    const frames = this.#upstreamFrames
    for (;;) {
      const run = this.#backend.passesRun
      const count = run === null ? 0 : frames.nextRun(run)
      if (count > 0) this.#backend.pass(frames, count)
      const found = frames.next()
      if (found === 'none') return
      if (found === 'rest') {
        this.#backend.pass(frames)
        if (frames.last) this.#state.upstreamFrameEnded()
      } else if (found === 'frame') this.#backend.handle(frames.type, frames)
      else if (this.#backend.passesPartial(frames.type)) {
        frames.takePartial()
        this.#state.upstreamMidFrame = true
        this.#backend.pass(frames)
      } else return
    }
  }

  /** A result must not go on: nothing more is sent until the cancel request has done its work. */
  #stop(): void {
    const { options } = this.#state
    const until = options.cancelUpstream().catch((error: unknown) => {
      options.onFault(error, 'cancel')
    })
    const cancelling = until.finally(() => {
      if (this.#cancelling === cancelling) this.#cancelling = null
    })
    this.#cancelling = cancelling
    if (this.#wait === null) this.#beginWait({ name: 'cancel', until: cancelling })
  }

  /** Ends a turn: the audit takes the records, then both sides get their bytes. */
  #flush(): void {
    if (this.#joined) return
    const { toUpstream, options } = this.#state
    if (toUpstream.marks.length === 0) {
      this.#write()
      return
    }
    this.#joined = true
    options.turnEnd.join(this.#member)
  }

  /** Without waiting for the end of the event loop's turn. */
  #write(): void {
    this.#joined = false
    this.#state.appendRecords()
    if (this.#state.toUpstream.bytes > 0) this.#send(this.#state.options.turnEnd.commit())
    else this.#sendToClient()
  }

  readonly #member = {
    appendRecords: (): void => {
      this.#state.appendRecords()
    },
    committed: (outcome: Committed): void => {
      if (!this.#joined || this.#ended) return
      this.#joined = false
      try {
        this.#send(outcome)
      } catch (error) {
        this.#fail(error)
      }
    },
  }

  #send(outcome: Committed): void {
    const { toUpstream } = this.#state
    if (outcome.kind === 'failed') {
      const { error } = outcome
      if (!(error instanceof ProxyError)) throw error
      toUpstream.replaceMarked(({ entry }) => this.#refuseUnrecorded(entry, error))
    }
    const durable = outcome.kind === 'taken' ? outcome.durable : null
    if (durable === null && this.#held === null) this.#output.toUpstream(toUpstream.take())
    else this.#sendWhen(durable)
    // Answers are to statements that are on record.
    this.#sendToClient()
  }

  #sendToClient(): void {
    const segments = this.#state.toClient.take()
    if (segments.length > 0) this.#output.toClient(segments)
  }

  #refuseUnrecorded(entry: Parameters<typeof refusalOf>[0], error: ProxyError): Buffer {
    const refusal = this.#state.options.gate.refuseFault(error)
    return refusalOf(entry, refusal)
  }

  /** Sends to the server what is there now, when it is durable and what was held before has gone. */
  #sendWhen(durable: Promise<void> | null): void {
    const { toUpstream } = this.#state
    const marked = toUpstream.marks.slice()
    for (const { entry } of marked) entry.unsent = true
    const segments = toUpstream.take()
    const held = Promise.all([this.#held, durable]).then(
      () => {
        if (this.#held === held) this.#held = null
        if (this.#ended) return
        for (const { entry } of marked) entry.unsent = false
        this.#output.toUpstream(segments)
        if (this.#terminated && this.#held === null) this.#terminate()
      },
      (error: unknown) => {
        if (!(error instanceof ProxyError) || marked.length === 0) throw error
        throw new ProxyError('audit_unavailable', error.message, { cause: error })
      },
    )
    this.#held = held
    if (this.#wait === null) this.#beginWait({ name: 'audit', until: held })
    else
      held.catch((error: unknown) => {
        this.#fail(error)
      })
  }
}

/** How long the messages of one client are read without a pause, and how often the clock is asked. */
const turnUsMax = 4_000
const lookEvery = 8

/** Marks the entry as refused and gives what goes upstream in its place. */
function refusalOf(
  entry: {
    kind: string
    refusal: Refusal | null
    decisionId: string | null
    statements: readonly unknown[]
    span: StatementSpan | null
  },
  refusal: Refusal,
): Buffer {
  entry.refusal = refusal
  entry.decisionId = null
  const { sqlstate } = refusal
  entry.span?.ended({ tag: null, rowCount: 0, bytes: 0, sqlstate, fate: 'unsent', last: true })
  entry.span = null
  return entry.kind === 'query'
    ? substituteQuery(refusal)
    : substituteParse(refusal, `${reservedPrefix}refused`)
}
