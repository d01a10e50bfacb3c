/** What is remembered of the frame that waits, from one look at it to the next. */
import type { Admitted, PendingText, Refusal } from '../gate/gate.ts'

export class Waited {
  /** The refusal that a wait ended in. */
  outcome: Refusal | null = null
  /** What it was admitted as under its approval. */
  underApproval: Admitted | null = null
  /** The estimate or a newer catalog was already asked for. */
  rechecked = false
  /** The server was asked for its columns. */
  described = false
  /** What a thread made of its text. */
  pending: PendingText | null = null
  /** One that gave no answer is not repeated for ever. */
  probeCount = 0

  /** The frame was dealt with. */
  reset(): void {
    this.outcome = null
    this.underApproval = null
    this.rechecked = false
    this.described = false
    this.pending = null
    this.probeCount = 0
  }
}
