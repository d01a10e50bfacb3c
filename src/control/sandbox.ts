/**
 * What the console's sandbox asks of a data plane and what it is told: plain data, since a worker may
 * be the one that answers.
 */
import { z } from 'zod'
import type { StatementDecision } from '../policy/policy.ts'
import type { Access } from '../sql/sql.ts'

const name = z.string().min(1).max(1_000)

/** Who asks what, where. */
export const trySchema = z.strictObject({
  sql: z.string().min(1).max(65_536),
  database: name,
  user: z.string().max(1_000).default(''),
  groups: z.array(name).max(100).default([]),
  type: z.enum(['human', 'machine']).default('human'),
  search_path: z.array(name).max(100).optional(),
})
export type TryQuestion = z.output<typeof trySchema>

export type TryAnswer =
  | { readonly kind: 'judged'; readonly revision: string; readonly statements: readonly Tried[] }
  /** The text does not parse, the database is not there: in words for people. */
  | { readonly kind: 'problem'; readonly error: string; readonly hint: string | null }

export interface Tried {
  readonly text: string
  readonly kind: string
  readonly access: Access
  readonly decision: Omit<StatementDecision, 'masks'> & { readonly masks: object }
  /** Outputs that are masked, and the columns that are to blame. */
  readonly outputs: readonly {
    readonly index: number
    readonly mask: string
    readonly columns: readonly string[]
  }[]
  /** The masks cannot be applied: the statement would be refused. */
  readonly refused: {
    readonly reason: string
    readonly hint: string
    readonly column: string
  } | null
}
