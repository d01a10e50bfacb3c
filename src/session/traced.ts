/**
 * What a session tells its tracer, where there is one: when a message came, what was decided of it, how
 * long it waited for people. Without a tracer none of this is made.
 */
import type { StatementTracer, TracedHold, TracedStatements } from '../core/core.ts'
import type { Refusal } from '../gate/gate.ts'
import { frontendTypes, type FrameView } from '../wire/wire.ts'
import type { Expected } from './expected.ts'
import type { SessionOptions } from './options.ts'
import type { Prepared } from './registry.ts'

const frameHeadBytes = 5

export class Traced {
  readonly #tracer: StatementTracer
  readonly #options: SessionOptions
  #arrivedUs: number | null = null
  /** Valid while its message is looked at. */
  #view: FrameView | null = null
  /** When statements were parsed that have not run yet, and what judging them took. */
  readonly #parsed = new WeakMap<
    Prepared,
    { readonly segment: number; readonly arrivedUs: number; readonly judgedUs: number }
  >()

  /** Null where nobody traces. */
  static of(options: SessionOptions): Traced | null {
    const { tracer = null } = options
    return tracer === null ? null : new Traced(tracer, options)
  }

  private constructor(tracer: StatementTracer, options: SessionOptions) {
    this.#tracer = tracer
    this.#options = options
  }

  /** A message is looked at, for the first time or again. */
  looked(view: FrameView): void {
    this.#view = view
    this.#arrivedUs ??= this.#options.clock.monotonicUs()
  }

  /** It was dealt with. */
  done(): void {
    this.#arrivedUs = null
    this.#view = null
  }

  /** A Parse was judged: what runs in the same pipeline began there. */
  parsed(entry: Expected, judgedUs: number): void {
    if (entry.prepared === null || this.#arrivedUs === null) return
    const { segment } = entry
    this.#parsed.set(entry.prepared, { segment, arrivedUs: this.#arrivedUs, judgedUs })
  }

  admitted(
    entry: Expected,
    verdict: { readonly cached: boolean; readonly durationUs: number },
    held: TracedHold | null,
  ): void {
    const [first] = entry.statements
    if (first === undefined) return
    const parsed = this.#takeParsed(entry)
    if (parsed !== null) this.#arrivedUs = parsed.arrivedUs
    const facts = {
      decisionId: entry.decisionId ?? '',
      statementCount: entry.statements.length,
      ...{ action: first.tally.action, rule: first.tally.rule, kind: first.tally.kind },
      ...{ cached: verdict.cached && parsed === null, held },
      judgedUs: verdict.durationUs + (parsed?.judgedUs ?? 0),
    }
    entry.span = this.#tracer.admitted(this.#statements(facts, textOf(entry, this.#view)))
  }

  refused(entry: Expected, refusal: Refusal, held: TracedHold | null): void {
    const { kind, rule } = refusal.tally ?? { kind: 'unparsed', rule: 'regate' }
    const facts = {
      decisionId: refusal.decisionId,
      ...{ action: 'deny', kind, rule, held },
      ...{ statementCount: 1, cached: false, judgedUs: 0 },
    }
    this.#tracer.refused(this.#statements(facts, textOf(entry, this.#view)), refusal.sqlstate)
  }

  #takeParsed(entry: Expected): { readonly arrivedUs: number; readonly judgedUs: number } | null {
    const prepared = entry.portal?.prepared
    const parsed = prepared === undefined ? undefined : this.#parsed.get(prepared)
    if (prepared === undefined || parsed === undefined) return null
    this.#parsed.delete(prepared)
    return parsed.segment === entry.segment ? parsed : null
  }

  #statements(
    facts: Omit<TracedStatements, 'text' | 'session' | 'database' | 'arrivedUs' | 'decidedUs'>,
    text: Buffer | null,
  ): TracedStatements {
    const { id, database, clock } = this.#options
    const decidedUs = clock.monotonicUs()
    const arrivedUs = this.#arrivedUs ?? decidedUs
    return { text, session: id, database, arrivedUs, decidedUs, ...facts }
  }
}

/** The text of the message itself: that of a shared verdict may have another's comment. */
function textOf(entry: Expected, view: FrameView | null): Buffer | null {
  if (entry.portal !== null) return entry.portal.prepared.text
  if (view === null) return null
  const { buffer, start, end } = view
  switch (buffer[start]) {
    case frontendTypes.Query:
    case frontendTypes.Parse:
      return buffer.subarray(start + frameHeadBytes, end)
    default:
      return null
  }
}
