/**
 * How much memory a session takes for what its client names and for what is in flight. The client
 * decides how many there are, so all of it is counted: texts, parameters and the trees of PREPARE and
 * DECLARE against `limits.namedBytesMax`, messages in flight against `limits.pipelineBytesMax`, and what
 * is known of prepared statements beside their texts against `limits.judgementBytesMax`.
 *
 * The last is given up where there is too much of it: it can be had again from the text.
 */
import type { Admitted } from '../gate/gate.ts'
import type { Namespace, Portal, Prepared } from './registry.ts'
import { readsMasked } from './results.ts'

/** An estimate: the tree is kept as JSON and as objects of about four times its size. */
export function judgementBytes({ statement, analysis, members }: Admitted): number {
  return statement.tree.length * 5 + analysis.bytes + members.length * 2 + 512
}

/** What a prepared statement takes beside its text. */
export const preparedBytes = 1_024
const portalOwnBytes = 512

/** What a portal takes, with what it holds of its statement even where that is gone. */
export function portalBytes(
  prepared: Prepared,
  parameters: readonly (Buffer | null)[] | null,
): number {
  let bytes = portalOwnBytes + prepared.bytes + prepared.judgedBytes
  if (parameters !== null) for (const value of parameters) bytes += 64 + (value?.length ?? 0)
  return bytes
}

/** An estimate: a field as an object takes about eight times its bytes. */
const fieldsFactor = 9

/** What the session knows of its prepared statements beside their texts. */
export class Judgements {
  readonly #bytesMax: number
  /** Of all named ones; what became of those that are gone is found out when it is too much. */
  #bytes = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  get tooMany(): boolean {
    return this.#bytes > this.#bytesMax
  }

  /** The statement was judged. */
  keep(prepared: Prepared, admitted: Admitted | null): void {
    prepared.admitted = admitted
    prepared.readsMasked ||= admitted !== null && readsMasked(admitted)
    this.#count(prepared, admitted === null ? 0 : judgementBytes(admitted))
  }

  /** The server described it in so many bytes. */
  described(prepared: Prepared, bytes: number): void {
    this.#count(prepared, prepared.judgedBytes + bytes * fieldsFactor)
  }

  /**
   * Gives up what is known, but for portals that are in the middle of their rows. Only while nothing
   * is in flight: its answers are looked at with what is known.
   */
  makeRoom(statements: Namespace<Prepared>, portals: Namespace<Portal>): void {
    const running = new Set<Prepared>()
    portals.each((portal) => {
      if (portal.result !== null) running.add(portal.prepared)
    })
    this.#bytes = 0
    const named: Prepared[] = []
    statements.each((prepared) => {
      if (prepared.name === '') return
      this.#bytes += prepared.judgedBytes
      if (!running.has(prepared)) named.push(prepared)
    })
    if (this.#bytes * 2 <= this.#bytesMax) return
    for (const prepared of named) this.#forget(prepared)
  }

  /**
   * Nothing is in flight: an unnamed statement that is large by itself is not kept for a client that may be
   * idle for long. Its text is, and is judged again where it is bound once more.
   */
  rest(unnamed: Prepared | null, portals: Namespace<Portal>): void {
    if (unnamed === null || unnamed.judgedBytes <= this.#bytesMax) return
    let isRunning = false
    portals.each((portal) => {
      isRunning ||= portal.prepared === unnamed && portal.result !== null
    })
    if (!isRunning) this.#forget(unnamed)
  }

  #forget(prepared: Prepared): void {
    this.#count(prepared, 0)
    if (!prepared.bySql) prepared.statement = null
    prepared.admitted = null
    prepared.context = ''
    prepared.fields = null
    prepared.fieldsOutdated = false
    prepared.description = null
    prepared.bounds.clear()
  }

  #count(prepared: Prepared, bytes: number): void {
    if (prepared.name !== '') this.#bytes += bytes - prepared.judgedBytes
    prepared.judgedBytes = bytes
  }
}
