/**
 * The server's estimate of a statement, out of EXPLAIN (FORMAT JSON).
 * https://www.postgresql.org/docs/18/sql-explain.html
 */
import { runMembers, type Refusal } from '../gate/gate.ts'
import { genericText } from '../masking/masking.ts'
import type { Estimate } from '../policy/policy.ts'
import type { OwnRequest } from './expected.ts'
import { ask } from './own-messages.ts'
import type { Portal } from './registry.ts'
import type { State } from './state.ts'

/** EXPLAIN failed or could not be read: larger than any limit, so that a policy refuses it. */
export const unknownEstimate: Estimate = {
  cost: Number.MAX_VALUE,
  rows: Number.MAX_VALUE,
  rows_max: Number.MAX_VALUE,
  nodes: ['unknown'],
}

/**
 * Asks for the server's own estimate of a statement, with the parameters of its portal. To be asked to
 * plan it is not nothing: it is on record first, as what will be decided is, and nothing is asked where
 * the audit does not take the records of the turn: the request fails with the refusal of that.
 * @param judgement audit members of the statement's judgement
 */
export function explain(
  state: State,
  text: string,
  portal: Portal | null,
  judgement: string,
): OwnRequest {
  const { members, newDecisionId } = state.options
  const decisionId = newDecisionId()
  const run = { decisionId, refusedWith: null, cached: false, durationUs: 0, approval: null }
  state.record('statement_estimated', runMembers(members, judgement, run))
  return ask(state, [`EXPLAIN (FORMAT JSON) ${text}`], portal, true)
}

/**
 * The statement could not be planned, so it could not run either. The text is the general one of the
 * SQLSTATE: planning runs functions, and what those say may hold what is masked for the client.
 */
export function unplannable(state: State, { sqlstate }: { readonly sqlstate: string }): Refusal {
  return state.fault('denied', genericText(sqlstate), { sqlstate })
}

/** The estimate in the rows of an EXPLAIN (FORMAT JSON). */
export function estimateOf(rows: readonly (readonly (Buffer | null)[])[]): Estimate {
  return readEstimate(rows.map((row) => row[0]?.toString('utf8') ?? '').join(''))
}

/** Reads the plan's totals; what is not a plan is `unknownEstimate`. */
export function readEstimate(json: string): Estimate {
  let parsed: unknown
  try {
    parsed = JSON.parse(json)
  } catch {
    return unknownEstimate
  }
  const plan = member(Array.isArray(parsed) ? (parsed as unknown[])[0] : null, 'Plan')
  const cost = member(plan, 'Total Cost')
  const rows = member(plan, 'Plan Rows')
  if (typeof cost !== 'number' || typeof rows !== 'number') return unknownEstimate
  const nodes = new Set<string>()
  let rowsMax = 0
  const visit = (node: unknown): void => {
    const type = member(node, 'Node Type')
    if (typeof type === 'string') nodes.add(type)
    const planned = member(node, 'Plan Rows')
    if (typeof planned === 'number') rowsMax = Math.max(rowsMax, planned)
    const inner = member(node, 'Plans')
    if (Array.isArray(inner)) for (const child of inner) visit(child)
  }
  visit(plan)
  return { cost, rows, rows_max: rowsMax, nodes: [...nodes] }
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && name in value
    ? (value as Readonly<Record<string, unknown>>)[name]
    : undefined
}
