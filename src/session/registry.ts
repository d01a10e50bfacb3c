/**
 * What the server knows by name on this connection: prepared statements (Parse and SQL PREPARE are
 * one namespace) and portals (Bind and cursors are one namespace).
 *
 * The client may be many messages ahead of the server. A slot therefore keeps its committed value
 * and the changes still in flight, oldest first. Inside one Sync segment a failed message makes
 * the server skip the rest, so assuming success is sound there. Across a Sync it is not: a named
 * slot with an unanswered change of an older segment could hold either of two values, so whoever
 * depends on it waits until the answer is in (`ambiguous`).
 */
import { isUtf8, type Field } from '../wire/wire.ts'
import type { Admitted } from '../gate/gate.ts'
import type { Analysis, SyntaxNode } from '../sql/sql.ts'
import type { NamesAt } from './facts.ts'
import type { BoundPlan, ResultStream } from './results.ts'

/** A prepared statement, by Parse or by PREPARE. */
export interface Prepared {
  readonly name: string
  /** The exact text, to judge it again; for SQL PREPARE an EXECUTE of it. */
  readonly text: Buffer
  /** Types that Parse declared. */
  readonly parameterTypes: readonly number[]
  /** By SQL PREPARE: what it runs is in no text that could be parsed again. */
  readonly bySql: boolean
  /** An estimate of what is kept as long as the name is. */
  readonly bytes: number
  /** What EXECUTE of this name runs; null when that is not known. */
  statement: { readonly ast: SyntaxNode } | null
  /**
   * Null for an empty query string, which may be executed and gives EmptyQueryResponse, and for what
   * was given up to make room. Set by `Judgements` only.
   */
  admitted: Admitted | null
  /** What it was judged as, last, reads masked columns. */
  readsMasked: boolean
  /** An estimate of what is known beside the text. */
  judgedBytes: number
  /** The context under which `admitted` was judged; a different one means: judge again. */
  context: string
  /**
   * The server's last description, where it was seen. What is in flight is answered in order, each behind
   * its own description: so this is that of what answers now, whatever was judged behind it meanwhile.
   */
  fields: readonly Field[] | null
  /** It was judged anew since: whoever is judged now must not rely on `fields`. */
  fieldsOutdated: boolean
  /** The RowDescription that it was read from. */
  description: Buffer | null
  /** Masks compiled for the fields, by the result formats of Bind. */
  readonly bounds: Map<string, PortalBound>
}

/** Of one judgement: executions of one statement that are in flight may each have another. */
export interface PortalBound {
  readonly admitted: Admitted
  readonly plan: BoundPlan
}

/** A portal by Bind, or a cursor by DECLARE. */
export interface Portal {
  readonly name: string
  /** An estimate, with what it holds of its statement. */
  readonly bytes: number
  /** What it executes; for a cursor a FETCH of it, judged when it is executed. */
  readonly prepared: Prepared
  /** By DECLARE: lives by the rules of cursors. */
  readonly cursor: boolean
  /** WITH HOLD: outlives its transaction once that has committed. */
  readonly hold: boolean
  committed: boolean
  /** Where its names were looked up: the server bound them then. */
  readonly names: NamesAt
  /** Of a cursor, as it was declared. */
  readonly analysis: Analysis | null
  readonly resultFormats: readonly number[]
  /** Bind's parameters as they came, copied only where the policy or an approval needs them. */
  readonly parameters: readonly (Buffer | null)[] | null
  readonly parameterFormats: readonly number[]
  /** Rows of an Execute that its row limit suspended go on in the next one. */
  result: ResultStream | null
}

/** How Bind says that a parameter is read: one format for all, or each its own; none is text. */
export function isTextParameter(formats: readonly number[], index: number): boolean {
  return (formats.length === 1 ? formats[0] : (formats[index] ?? 0)) === 0
}

interface Change<T> {
  readonly segment: number
  value: T | null
}

/** Bytes that the names of a session take. */
export interface NamedBytes {
  bytes: number
}

/** A name and what it stands for. */
export class Slot<T extends { readonly bytes: number }> {
  readonly #named: NamedBytes | null
  #base: T | null = null
  readonly #pending: Change<T>[] = []

  /** `named` is null for the unnamed one, which is always one. */
  constructor(named: NamedBytes | null) {
    this.#named = named
  }

  /** The value as it will be if everything in flight succeeds. */
  get value(): T | null {
    const last = this.#pending.at(-1)
    return last === undefined ? this.#base : last.value
  }

  get base(): T | null {
    return this.#base
  }

  set base(value: T | null) {
    this.#count(this.#base, -1)
    this.#count(value, 1)
    this.#base = value
  }

  #count(value: T | null, sign: 1 | -1): void {
    if (this.#named !== null && value !== null) this.#named.bytes += sign * value.bytes
  }

  get empty(): boolean {
    return this.#base === null && this.#pending.length === 0
  }

  /** A change of an older segment is unanswered: the slot could hold either value. */
  ambiguous(segment: number): boolean {
    const first = this.#pending[0]
    return first !== undefined && first.segment !== segment
  }

  /** The value in sight was set in an older segment, and the server has not answered it. */
  unsettled(segment: number): boolean {
    const last = this.#pending.at(-1)
    return last !== undefined && last.segment !== segment
  }

  /** Records a change that is in flight. */
  change(segment: number, value: T | null): Change<T> {
    const change = { segment, value }
    this.#pending.push(change)
    this.#count(value, 1)
    return change
  }

  /** The server confirmed the change. */
  commit(change: Change<T>): void {
    if (this.#remove(change)) this.base = change.value
  }

  /** The server failed or skipped the change. `cleared`: failing it emptied the slot. */
  drop(change: Change<T>, cleared = false): void {
    if (this.#remove(change) && cleared) this.base = null
  }

  #remove(change: Change<T>): boolean {
    const at = this.#pending.indexOf(change)
    if (at < 0) return false
    this.#pending.splice(at, 1)
    this.#count(change.value, -1)
    return true
  }
}

/** A change in flight together with its slot: what an expected reply settles. */
export class SlotChange<T extends { readonly bytes: number }> {
  readonly #slot: Slot<T>
  readonly #change: Change<T>

  constructor(slot: Slot<T>, segment: number, value: T | null) {
    this.#slot = slot
    this.#change = slot.change(segment, value)
  }

  commit(): void {
    this.#slot.commit(this.#change)
  }

  drop(cleared: boolean): void {
    this.#slot.drop(this.#change, cleared)
  }
}

/** NAMEDATALEN - 1: what is longer is cut by the server. */
const nameBytesMax = 63

/**
 * The server's hash tables look at the first 63 bytes of a name (string_hash in dynahash.c): two names that
 * begin with the same ones are one there. The cut may go through a character: then no text is the key.
 */
function keyOf(name: string): string {
  // No character of UTF-16 takes more than three bytes.
  if (name.length * 3 <= nameBytesMax) return name
  const bytes = Buffer.from(name)
  if (bytes.length <= nameBytesMax) return name
  const cut = bytes.subarray(0, nameBytesMax)
  return isUtf8(cut) ? cut.toString('utf8') : `\0${cut.toString('latin1')}`
}

/** Slots by name, as the server tells names apart. */
export class Namespace<T extends { readonly bytes: number }> {
  readonly #slots = new Map<string, Slot<T>>()
  readonly #countMax: number
  readonly #named: NamedBytes

  constructor(countMax: number, named: NamedBytes) {
    this.#countMax = countMax
    this.#named = named
  }

  /** There is no place for so many more names. */
  full(count = 1): boolean {
    if (this.#slots.size + count <= this.#countMax) return false
    for (const [name, slot] of this.#slots) if (slot.empty) this.#slots.delete(name)
    return this.#slots.size + count > this.#countMax
  }

  /** The slot of the name, made when there is none. */
  slot(name: string): Slot<T> {
    const key = keyOf(name)
    let slot = this.#slots.get(key)
    if (slot === undefined) {
      slot = new Slot<T>(name === '' ? null : this.#named)
      this.#slots.set(key, slot)
    }
    return slot
  }

  value(name: string): T | null {
    return this.#known(name)?.value ?? null
  }

  ambiguous(name: string, segment: number): boolean {
    return this.#known(name)?.ambiguous(segment) ?? false
  }

  unsettled(name: string, segment: number): boolean {
    return this.#known(name)?.unsettled(segment) ?? false
  }

  #known(name: string): Slot<T> | undefined {
    return this.#slots.get(keyOf(name))
  }

  /** Sets a committed value at once: what a completed SQL command did. */
  set(name: string, value: T | null): void {
    if (value === null) {
      const slot = this.#known(name)
      if (slot !== undefined) slot.base = null
    } else this.slot(name).base = value
  }

  /** Every committed value. */
  each(look: (value: T) => void): void {
    for (const { base } of this.#slots.values()) if (base !== null) look(base)
  }

  /** Empties every committed slot for which the predicate holds. */
  clear(which: (value: T) => boolean): void {
    for (const [name, slot] of this.#slots) {
      if (slot.base !== null && which(slot.base)) slot.base = null
      // The unnamed one comes again with the next statement.
      if (name !== '' && slot.empty) this.#slots.delete(name)
    }
  }
}
