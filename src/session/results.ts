/**
 * What becomes of the rows of one statement: passed untouched, masked, cut off by a limit, or
 * stopped because the server's own description contradicts the trace.
 * One per execution; for a suspended portal it goes on with the next Execute.
 */
import type { Admitted, Refusal } from '../gate/gate.ts'
import { bindPlan, CopyRewriter, ResultLimiter, type BoundPlan } from '../masking/masking.ts'
import { backendTypes, type ByteWriter, type Field } from '../wire/wire.ts'
import type { Spend, TypeSource } from '../masking/masking.ts'
import { ResultRecording } from './recording.ts'
import type { SessionOptions } from './state.ts'

export type { BoundPlan } from '../masking/masking.ts'

export class ResultStream {
  readonly admitted: Admitted
  bound: BoundPlan | null
  rowCount = 0
  bytes = 0
  /** Why no row may leave any more. */
  stopped: Refusal | null = null
  /** What the client saw, where that is recorded. */
  readonly recording: ResultRecording | null
  readonly #limiter: ResultLimiter | null
  #copy: CopyRewriter | null = null
  /** What comes is CopyData, no rows. */
  copies = false

  constructor(
    admitted: Admitted,
    bound: BoundPlan | null,
    options: Pick<SessionOptions, 'clock' | 'identity' | 'rowBudgets' | 'recorded'>,
    formats: readonly number[] | null = null,
  ) {
    this.admitted = admitted
    this.bound = bound
    const { recorded = null } = options
    const names = admitted.analysis.outputs?.map(({ name }) => name) ?? []
    this.recording = recorded === null ? null : new ResultRecording(recorded, names, formats)
    const limits = admitted.decision.limits
    this.#limiter =
      limits === null || admitted.analysis.writes
        ? null
        : new ResultLimiter(limits, options.clock.nowMs(), spendOf(options))
  }

  /** Rows may pass without a look inside: nothing is masked, limited or stopped. */
  get untouched(): boolean {
    return (
      this.stopped === null &&
      this.#limiter === null &&
      this.bound !== null &&
      this.bound.kind === 'bound' &&
      this.bound.rewriter === null
    )
  }

  /** The type of frames that may pass without each being counted by itself; null for none. */
  get runs(): number | null {
    if (this.recording !== null || this.#copy !== null || !this.untouched) return null
    return this.copies ? backendTypes.CopyData : backendTypes.DataRow
  }

  /** So many frames, or a piece of one (0), went to the client unseen. */
  passed(count: number, bytes: number): void {
    this.rowCount += count
    this.bytes += bytes
    this.recording?.passedUnseen()
  }

  /** Values of its rows are changed on their way. */
  get masks(): boolean {
    return this.admitted.plan.kind === 'masked'
  }

  get limited(): boolean {
    return this.#limiter !== null
  }

  /** Counts a row; the reason where a limit of the decision is passed. */
  countRow(bytes: number, nowMs: number): string | null {
    this.rowCount++
    this.bytes += bytes
    return this.#limiter === null ? null : this.#limiter.row(bytes, nowMs)
  }

  /** Appends the row as the client may see it. */
  row(buffer: Buffer, start: number, end: number, out: ByteWriter): void {
    const before = out.count
    if (this.bound?.kind !== 'bound' || this.bound.rewriter === null) out.bytes(buffer, start, end)
    else this.bound.rewriter.rewrite(buffer, start, end, out)
    if (this.recording === null) return
    const shown = out.last(out.count - before)
    this.recording.row(shown, 0, shown.length)
  }

  /** Appends what the client may see of a CopyData message. */
  copyRow(buffer: Buffer, start: number, end: number, out: ByteWriter): void {
    this.#recordCopied(out, () => this.#copy?.push(buffer, start, end, out))
  }

  /** Appends what was held back until the end of the COPY was known. */
  copyEnds(out: ByteWriter): void {
    this.#recordCopied(out, () => this.#copy?.end(out))
  }

  #recordCopied(out: ByteWriter, write: () => void): void {
    const before = out.count
    write()
    if (this.recording === null) return
    const shown = out.last(out.count - before)
    this.recording.copied(shown, 0, shown.length)
  }

  /** COPY TO STDOUT began. Null: its data passes untouched. */
  copyBegins(types: TypeSource, key: Uint8Array): void {
    this.copies = true
    if (this.admitted.plan.kind === 'masked') {
      this.#copy = CopyRewriter.for(
        this.admitted.plan,
        this.admitted.analysis,
        this.admitted.statement.ast,
        types,
        key,
      )
    }
  }

  get copy(): CopyRewriter | null {
    return this.#copy
  }
}

/** Compares the server's description with the trace, where the policy has something to protect. */
export function bindResult(
  admitted: Admitted,
  fields: readonly Field[],
  formats: readonly number[] | null,
  types: TypeSource,
  options: Pick<SessionOptions, 'maskKey' | 'detectors'>,
): BoundPlan {
  if (!admitted.verify && admitted.plan.kind === 'open') return unmasked
  const { plan, analysis } = admitted
  const { maskKey, detectors } = options
  return bindPlan(plan, analysis, fields, formats, types, maskKey, detectors ?? null)
}

/** Takes rows from the identity's budget. */
function spendOf(options: Pick<SessionOptions, 'identity' | 'rowBudgets'>): Spend | null {
  const { identity, rowBudgets } = options
  if (rowBudgets === undefined || rowBudgets === null) return null
  return (budget, nowMs) => rowBudgets.take(identity.subject, budget, 1, nowMs)
}

export const unmasked: BoundPlan = { kind: 'bound', rewriter: null }

/** The statement touches a column that is masked for this identity. */
export function readsMasked(admitted: Admitted): boolean {
  return admitted.plan.kind === 'masked' || admitted.decision.masks.size > 0
}
