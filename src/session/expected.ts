/**
 * The expected-reply queue: one entry per frontend message that the server will answer, in the
 * order sent, saying what to do with the answer. Pipelines, suspended portals, clients that never
 * Describe, COPY, errors in the middle: all fall out of this one mechanism.
 *
 *   query ──T D… C──▶ (next statement) ──Z──▶ done        parse 1   bind 2   close 3
 *   execute ──D… (C | s | I) | G | H d… c C──▶ done       describe (t)? (T | n)   sync Z
 *
 * An ErrorResponse to an extended message makes the server skip to the next Sync: so are the
 * entries up to it (https://www.postgresql.org/docs/18/protocol-flow.html#PROTOCOL-FLOW-PIPELINING).
 */
import type { StatementSpan } from '../core/core.ts'
import type { Field } from '../wire/wire.ts'
import type { Admitted, Refusal } from '../gate/gate.ts'
import type { Portal, Prepared, SlotChange } from './registry.ts'
import { readsMasked, type ResultStream } from './results.ts'
import { judgementBytes } from './room.ts'

/** What our own messages asked for; settled when the last of them is answered. */
export class OwnRequest {
  readonly rows: (Buffer | null)[][] = []
  readonly fields: Field[] = []
  /** SQLSTATE and message of the server's error. */
  error: { readonly sqlstate: string; readonly message: string } | null = null
  /** Set where it was not sent: its record could not be written. */
  refusal: Refusal | null = null
  readonly outcome: Promise<'done' | 'failed' | 'skipped'>
  #settle: (outcome: 'done' | 'failed' | 'skipped') => void = () => undefined

  constructor() {
    this.outcome = new Promise((resolve) => {
      this.#settle = resolve
    })
  }

  settle(outcome: 'done' | 'failed' | 'skipped'): void {
    this.#settle(outcome)
  }
}

export type ExpectedKind = 'query' | 'parse' | 'bind' | 'describe' | 'execute' | 'close' | 'sync'

/** One entry. Fields that a kind does not use stay null. */
export class Expected {
  readonly kind: ExpectedKind
  /** The Sync segment it was sent in. */
  readonly segment: number
  /** The message went upstream as a substitute: the server's error is replaced by this. */
  refusal: Refusal | null = null
  /** Our own message: the client sees nothing of the reply. */
  own: OwnRequest | null = null
  /** The last message of an own request. */
  ownLast = false
  /** A name that this message sets or clears when it succeeds. */
  change: SlotChange<Prepared> | SlotChange<Portal> | null = null
  /** A failure empties the slot: Parse and Bind of the unnamed ones. */
  clears = false
  prepared: Prepared | null = null
  portal: Portal | null = null
  /** query: its statements; execute: the one. */
  statements: readonly Admitted[] = []
  /** query: the statement whose answer comes now. */
  index = 0
  /** Identifies the run in the audit; one per statement, `id`, `id.1`, … */
  decisionId: string | null = null
  sentUs = 0
  /** Its record is not durable yet. */
  unsent = false
  /** Its span, where it is traced. */
  span: StatementSpan | null = null
  /** What becomes of the rows of the current statement. */
  result: ResultStream | null = null
  /** An ErrorResponse came. */
  failed = false
  /** A substitute of ours that nobody asked for: its error is dropped, its ReadyForQuery passed. */
  silent = false
  /** It ran, but the client counts it as skipped: it sees nothing of the answer. */
  muted = false
  /** Changes of names, settings or the transaction that later messages must not guess at. */
  changesNames = false
  changesTransaction = false
  /** An estimate of what it keeps from being freed. */
  bytes = 0

  constructor(kind: ExpectedKind, segment: number) {
    this.kind = kind
    this.segment = segment
  }

  get current(): Admitted | null {
    return this.statements[this.index] ?? null
  }

  /** Texts about it could hold masked values: planning, at Bind, may raise the statement's errors. */
  get readsMasked(): boolean {
    if (this.current !== null) return readsMasked(this.current)
    return (this.portal?.prepared ?? this.prepared)?.readsMasked ?? false
  }

  weigh(): number {
    const { prepared, portal, statements } = this
    if (this.kind === 'parse') return prepared === null ? 0 : prepared.bytes + prepared.judgedBytes
    if (this.kind === 'bind') return portal?.bytes ?? 0
    if (portal !== null) return portal.prepared.judgedBytes
    let bytes = 0
    for (const admitted of statements) bytes += judgementBytes(admitted)
    return bytes
  }
}

/** It leaves something behind: data, names, settings, the transaction. */
export function leavesSomething({ analysis }: Admitted): boolean {
  return analysis.writes || analysis.mayChangeSettings || analysis.sessionEffects.length > 0
}

/** A queue with cheap removal at its head. */
export class ExpectedQueue {
  #entries: (Expected | null)[] = []
  #head = 0
  /** Entries in flight that may change names, or the transaction's state. */
  changesNamesCount = 0
  changesTransactionCount = 0
  /** An estimate of what the entries keep from being freed. */
  bytes = 0

  get length(): number {
    return this.#entries.length - this.#head
  }

  get head(): Expected | null {
    return this.#entries[this.#head] ?? null
  }

  get tail(): Expected | null {
    return this.length === 0 ? null : (this.#entries.at(-1) ?? null)
  }

  push(entry: Expected): void {
    this.#entries.push(entry)
    entry.bytes = entry.weigh()
    this.bytes += entry.bytes
    if (entry.changesNames) this.changesNamesCount++
    if (entry.changesTransaction) this.changesTransactionCount++
  }

  /**
   * The client counts what it sent behind `after`, up to Sync, as skipped: it sees no answers.
   * `sync` where there is one, `open` where it is still to come, `doubt` where something among it
   * leaves something behind: then nobody could say what happened.
   */
  muteToSync(after: Expected): 'sync' | 'open' | 'doubt' {
    let found = false
    for (let at = this.#head; at < this.#entries.length; at++) {
      const entry = this.#entries[at]
      if (entry === undefined || entry === null || entry.kind === 'sync') return 'sync'
      if (found) {
        entry.muted = true
        if (entry.statements.some(leavesSomething)) return 'doubt'
      }
      found ||= entry === after
    }
    return 'open'
  }

  shift(): Expected | null {
    const entry = this.#entries[this.#head]
    if (entry === undefined || entry === null) return null
    this.#entries[this.#head] = null
    this.#head++
    if (this.#head === this.#entries.length) {
      this.#entries.length = 0
      this.#head = 0
    } else if (this.#head > 1024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head)
      this.#head = 0
    }
    this.bytes -= entry.bytes
    if (entry.changesNames) this.changesNamesCount--
    if (entry.changesTransaction) this.changesTransactionCount--
    return entry
  }
}
