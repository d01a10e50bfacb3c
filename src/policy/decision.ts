/** The decisions of a policy as values. decode.ts makes them, strictly, from OPA's answer. */

export type MaskKind =
  'null' | 'constant' | 'redact' | 'hash' | 'partial' | 'bucket' | 'truncate' | 'noise'

/** What `truncate` may cut a date or a time to, finest first. */
export const truncateUnits = ['hour', 'day', 'week', 'month', 'quarter', 'year', 'decade'] as const

export type TruncateUnit = (typeof truncateUnits)[number]

/** A mask of one base column as the policy gave it. */
export type Mask =
  | { readonly kind: 'null' }
  | { readonly kind: 'constant'; readonly value: string | number | boolean | null }
  | { readonly kind: 'redact' }
  | { readonly kind: 'hash' }
  | {
      readonly kind: 'partial'
      readonly keep_start?: number
      readonly keep_end?: number
      readonly email?: boolean
    }
  /** Numbers: width of the bucket. */
  | { readonly kind: 'bucket'; readonly size: number }
  /** Dates: the unit; numbers: digits kept from the left. */
  | { readonly kind: 'truncate'; readonly unit?: TruncateUnit; readonly digits?: number }
  /** Relative amplitude, 0 < ratio < 1, keyed by the value. */
  | { readonly kind: 'noise'; readonly ratio: number }

/**
 * What changes from one execution of a statement to the next. A bundle sees only those that its
 * entrypoint's METADATA declares (`custom.regate.inputs`); what it cannot see cannot sway it.
 */
export type VolatileInput =
  'parameters' | 'time' | 'session.id' | 'client_address' | 'claims' | 'estimate'

export interface StatementDecision {
  readonly action: 'allow' | 'deny' | 'mask' | 'approve'
  readonly reason: string
  readonly rule: string
  readonly hint: string
  /** By dotted base column. */
  readonly masks: ReadonlyMap<string, Mask>
  readonly approval: ApprovalTerms | null
  readonly limits: ResultLimits | null
  /**
   * Inputs the policy wants before it decides; `action` is what holds when they do not come (the
   * shipped pack says deny). Judge answers all but `estimate` by itself.
   */
  readonly asks: readonly VolatileInput[]
}

export interface ApprovalTerms {
  readonly groups: readonly string[]
  readonly quorum: number
  /** Null: as the configuration says. */
  readonly waitMs: number | null
  readonly ttlMs: number | null
}

export interface ResultLimits {
  readonly rows: number | null
  readonly bytes: number | null
  readonly timeMs: number | null
  /** Rows that the identity may read in a window, all its sessions together; null for no budget. */
  readonly budget?: { readonly rows: number; readonly windowMs: number } | null
}

export interface ConnectDecision {
  readonly action: 'allow' | 'deny'
  readonly reason: string
  readonly rule: string
  readonly hint: string
  /** Key of `databases.<name>.roles`; null is `default`. */
  readonly role: string | null
  readonly settings: ReadonlyMap<string, string>
  readonly locked: readonly string[]
}
