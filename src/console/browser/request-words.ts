/** What a request for approval waits in, and whether its reviewers were told, in words. */
import { plural, span, visible } from './words.ts'

export interface Delivery {
  readonly adapter: string
  readonly event: string
  readonly state: string
  readonly attempts: number
  readonly last_error: string | null
}

export interface Transaction {
  readonly state: string
  readonly isolation: string | null
  readonly started: string | null
  readonly locks: readonly { readonly relation: string; readonly mode: string }[] | null
  readonly idle_limit_ms: number | null
}

/** Whether the message that somebody waits has arrived, and what keeps it. */
export function deliveryWords(deliveries: readonly Delivery[]): string {
  const words = deliveries
    .filter(({ event }) => event === 'requested')
    .map(({ adapter, state, attempts, last_error: error }) => {
      const told = state === 'delivered' ? 'told' : `${state} after ${plural(attempts, 'attempt')}`
      const why = error === null || state === 'delivered' ? '' : `: ${visible(error, 300)}`
      return `${visible(adapter, 60)} ${told}${why}`
    })
  return words.length === 0 ? 'by nobody but this page' : words.join(', ')
}

/** The open transaction, its age, its locks and its end. */
export function transactionWords(transaction: Transaction, now: number): string {
  const words = [transaction.state === 'idle' ? 'none is open' : transaction.state]
  if (transaction.started !== null)
    words.push(`open for ${span(now - Date.parse(transaction.started))}`)
  if (transaction.locks !== null && transaction.locks.length > 0) {
    words.push(
      `holds ${transaction.locks.map((lock) => `${visible(lock.relation, 100)} ${lock.mode}`).join(', ')}`,
    )
  }
  if (transaction.idle_limit_ms !== null)
    words.push(`the server ends it after ${span(transaction.idle_limit_ms)} idle`)
  return words.join(', ')
}
