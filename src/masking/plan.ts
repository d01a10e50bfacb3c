/**
 * From a decision and a statement's lineage to a plan: which outputs pass, which are masked, and
 * whether the statement may run at all. Pure; decided before anything is forwarded.
 *
 * Invariants: an output that could hold a masked column passes never; a derivation runs only if it
 * is known to be total, because an error, a row count or an effect tells as much as a
 * value does. What a masked column may be used for besides outputs is the policy's to say; only uses
 * that decide how many rows come are refused here too.
 */
import type { Mask, StatementDecision } from '../policy/policy.ts'
import { copyObstacle } from './copy-options.ts'
import type { Analysis, OutputSource, OutputTrace, ParsedStatement } from '../sql/sql.ts'

/** What happens to one output column. */
export type OutputMask =
  | { readonly kind: 'pass' }
  /** The value is the column's own: its mask applies. */
  | { readonly kind: 'direct'; readonly mask: Mask; readonly columns: readonly string[] }
  /** The value is computed from masked columns: hidden whole, NULL included. */
  | {
      readonly kind: 'derived'
      readonly mask: { readonly kind: 'null' } | { readonly kind: 'redact' }
      readonly columns: readonly string[]
    }

/** What the gate learns before the statement is forwarded. */
export type MaskPlan =
  /** Nothing to mask. */
  | { readonly kind: 'open' }
  /** Parallel to `analysis.outputs`. */
  | { readonly kind: 'masked'; readonly outputs: readonly OutputMask[] }
  /** The statement must not run. */
  | {
      readonly kind: 'refuse'
      readonly reason: string
      readonly hint: string
      /** The masked column that is to blame, dotted. */
      readonly column: string
    }

/** Where two masks meet the stronger wins (docs/guides/masking.md): strongest first. `bucket` and `truncate` share a rank. */
const RANK: Readonly<Record<Mask['kind'], number>> = {
  null: 7,
  constant: 6,
  redact: 5,
  hash: 4,
  partial: 3,
  bucket: 2,
  truncate: 2,
  noise: 1,
}

const PASS: OutputMask = { kind: 'pass' }
const OPEN: MaskPlan = { kind: 'open' }
const REDACT = { kind: 'redact' } as const
const NULL = { kind: 'null' } as const

/**
 * The stronger of two masks. Two that rank the same but differ show different things of a value, so
 * neither is safe for the other's column: redact.
 */
export function stronger(a: Mask, b: Mask): Mask {
  if (RANK[a.kind] !== RANK[b.kind]) return RANK[a.kind] > RANK[b.kind] ? a : b
  return sameMask(a, b) ? a : REDACT
}

function sameMask(a: Mask, b: Mask): boolean {
  const left = Object.entries(a).sort()
  const right = Object.entries(b).sort()
  return JSON.stringify(left) === JSON.stringify(right)
}

/**
 * The plan of one statement. `refuse` where a masked column feeds what may raise an error, change
 * the number of rows or have an effect, and where an output's lineage is unknown while something is
 * masked. With the statement, a COPY whose data could not be masked is refused here too, and
 * not only when its data comes.
 */
export function planMasks(
  decision: StatementDecision,
  analysis: Analysis,
  statement?: Pick<ParsedStatement, 'ast'>,
): MaskPlan {
  const masks = decision.masks
  if (masks.size === 0) return OPEN
  for (const column of analysis.access.columns) {
    if (!column.uses.includes('cardinality')) continue
    const dotted = maskedName(column, masks)
    if (dotted !== null) return refuseCardinality(dotted)
  }
  if (analysis.outputs === null) return OPEN
  const outputs: OutputMask[] = []
  let masked = false
  for (const trace of analysis.outputs) {
    const output = planOutput(trace, masks)
    if (output.kind === 'refuse') return output
    masked ||= output.kind !== 'pass'
    outputs.push(output)
  }
  if (!masked) return OPEN
  const isCopy = statement !== undefined && analysis.kind === 'copy'
  const obstacle = isCopy ? copyObstacle(statement.ast) : null
  if (obstacle !== null) {
    const column = maskedColumnsOf(outputs)[0] ?? ''
    return { kind: 'refuse', reason: obstacle.message, hint: obstacle.hint ?? '', column }
  }
  return { kind: 'masked', outputs }
}

/** The distinct base columns that a plan hides, in order. */
export function maskedColumnsOf(outputs: readonly OutputMask[]): readonly string[] {
  const columns = new Set<string>()
  for (const output of outputs) {
    if (output.kind !== 'pass') for (const column of output.columns) columns.add(column)
  }
  return [...columns].sort()
}

type Refusal = Extract<MaskPlan, { kind: 'refuse' }>

function planOutput(trace: OutputTrace, masks: ReadonlyMap<string, Mask>): OutputMask | Refusal {
  let direct: Mask | null = null
  let derived = false
  let toNull = false
  const columns: string[] = []
  for (const source of trace.sources) {
    const mask = masks.get(source.column)
    if (mask === undefined || (source.via === 'count' && !trace.opaque)) continue
    if (trace.opaque) return refuseOpaque(trace, source.column)
    columns.push(source.column)
    if (source.via === 'derived') {
      if (source.total !== true) return refuseDerivation(trace, source)
      derived = true
      toNull ||= mask.kind === 'null'
    } else {
      direct = direct === null ? mask : stronger(direct, mask)
    }
  }
  if (trace.opaque && trace.sources.length === 0) {
    return refuseOpaque(trace, [...masks.keys()][0] ?? '')
  }
  if (derived) {
    const mask = toNull || direct?.kind === 'null' ? NULL : REDACT
    return { kind: 'derived', mask, columns }
  }
  return direct === null ? PASS : { kind: 'direct', mask: direct, columns }
}

function refuseDerivation(trace: OutputTrace, source: OutputSource): Refusal {
  return {
    kind: 'refuse',
    reason:
      `output ${JSON.stringify(trace.name)} is computed from ${source.column}, which is masked, ` +
      'by something that may raise an error, change the number of rows or have an effect',
    hint:
      `Select ${source.column} itself (it is shown masked) or leave it out; only functions that ` +
      'cannot fail and have no effect may take a masked column, and their result is hidden.',
    column: source.column,
  }
}

function refuseOpaque(trace: OutputTrace, column: string): Refusal {
  return {
    kind: 'refuse',
    reason:
      `where output ${JSON.stringify(trace.name)} comes from is not known completely, and it ` +
      `could hold ${column}, which is masked`,
    hint:
      'Name the columns and tables directly instead of going through dynamic SQL or a function ' +
      'whose body cannot be analysed.',
    column,
  }
}

function refuseCardinality(column: string): Refusal {
  return {
    kind: 'refuse',
    reason: `${column} is masked, and the statement's number of rows would depend on its value`,
    hint: `Do not pass ${column} to a function that returns rows; select it as a plain column.`,
    column,
  }
}

/** The mask's key of a column of the access document: parts may be quoted there. */
function maskedName(
  column: { readonly schema: string; readonly relation: string; readonly name: string },
  masks: ReadonlyMap<string, Mask>,
): string | null {
  const plain = `${column.schema}.${column.relation}.${column.name}`
  if (masks.has(plain)) return plain
  for (const dotted of masks.keys()) {
    if (unquoted(dotted) === plain) return dotted
  }
  return null
}

/** A dotted name with the quotes of quote_ident taken off. */
function unquoted(dotted: string): string {
  return dotted.includes('"')
    ? dotted.replace(/"((?:[^"]|"")*)"/g, (_, part: string) => part.replaceAll('""', '"'))
    : dotted
}
