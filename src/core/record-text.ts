/**
 * Text that is written into records over and over: who asks, which statement, what was decided. What
 * comes only once costs no encoding of its own; what comes again is encoded once.
 */

/** Text that may go into many records: encoded when it is used a second time. */
export class RecordText {
  readonly text: string
  #bytes: Buffer | null = null
  #used = false

  constructor(text: string) {
    this.text = text
  }

  /** Its UTF-8, where it was used before. */
  get bytes(): Buffer | null {
    if (this.#bytes === null && this.#used) this.#bytes = Buffer.from(this.text)
    this.#used = true
    return this.#bytes
  }
}
