/**
 * The audit's members (contract §7) as JSON text, built once per judgement and spliced into every
 * record of it. Never a masked value, a password or a token; parameters only where asked for.
 */
import type { MaskPlan } from '../masking/masking.ts'
import type { StatementDecision } from '../policy/policy.ts'
import type { Analysis, ParsedStatement } from '../sql/sql.ts'
import type { Refusal } from './verdict.ts'

/** Characters of a statement that the record keeps. */
const textLengthMax = 64 * 1024

interface Refused {
  /** The text where there is no statement. */
  readonly text: string | null
  readonly refusal: Refusal
  readonly rule: string
  readonly protocol: string
}

/** `"statement":{…},"decision":{…},"access":{…}`: what does not change between executions. */
export function statementMembers(
  statement: ParsedStatement | null,
  analysis: Analysis | null,
  decision: StatementDecision | null,
  plan: MaskPlan | null,
  revision: string,
  literals: 'keep' | 'redact',
  refused: Refused | null = null,
): string {
  const text = statement?.text ?? refused?.text ?? ''
  const statementJson = JSON.stringify({
    text: bounded(literals === 'keep' ? text : ''),
    kind: statement?.kind ?? null,
    index: statement?.index ?? 0,
    count: statement?.count ?? 1,
  })
  const decisionJson = JSON.stringify({
    action: refused === null ? (decision?.action ?? 'deny') : 'deny',
    rule: refused?.rule ?? decision?.rule ?? '',
    reason: bounded(refused?.refusal.message ?? decision?.reason ?? ''),
    sqlstate: refused?.refusal.sqlstate ?? null,
    revision,
  })
  const relations = analysis?.access.relations ?? []
  const accessJson = JSON.stringify({
    relations: relations.map((relation) => `${relation.schema}.${relation.name}`),
    effects: analysis?.access.effects ?? [],
    masked_columns: maskedColumns(plan),
  })
  return `"statement":${statementJson},"decision":${decisionJson},"access":${accessJson}`
}

/** `"session":…,"database":…,"identity":{…}`: the part that every record of a session shares. */
export function sessionMembers(session: {
  readonly id: string
  readonly database: string
  readonly clientAddress: string
  readonly identity: {
    readonly subject: string
    readonly user: string
    readonly groups: readonly string[]
    readonly method: string
  }
}): string {
  const identity = {
    subject: bounded(session.identity.subject),
    user: bounded(session.identity.user),
    groups: session.identity.groups,
    method: session.identity.method,
  }
  return (
    `"session":${JSON.stringify(session.id)},"database":${JSON.stringify(bounded(session.database))},` +
    `"client_address":${JSON.stringify(session.clientAddress)},"identity":${JSON.stringify(identity)}`
  )
}

/** The run of a judged statement: everything that changes from one execution to the next. */
export function runMembers(
  sessionPart: string,
  statementPart: string,
  run: {
    readonly decisionId: string
    readonly outcome: 'forwarded' | 'refused' | 'held'
    readonly cached: boolean
    readonly durationUs: number
    readonly approval?: string
  },
): string {
  const approval = run.approval === undefined ? '' : `,"approval":${run.approval}`
  return (
    `"decision_id":"${run.decisionId}",${sessionPart},${statementPart},` +
    `"cached":${String(run.cached)},"duration_us":${run.durationUs},"outcome":"${run.outcome}"${approval}`
  )
}

/** How a statement ended. */
export interface RunEnd {
  readonly decisionId: string
  readonly tag: string | null
  readonly rowCount: number
  readonly bytes: number
  readonly sqlstate: string | null
  readonly durationUs: number
}

export function endMembers(sessionId: string, end: RunEnd): string {
  return (
    `"decision_id":"${end.decisionId}","session":${JSON.stringify(sessionId)},` +
    `"tag":${JSON.stringify(end.tag)},"rows":${end.rowCount},"bytes":${end.bytes},` +
    `"sqlstate":${JSON.stringify(end.sqlstate)},"duration_us":${end.durationUs}`
  )
}

function maskedColumns(plan: MaskPlan | null): readonly string[] {
  if (plan?.kind !== 'masked') return []
  return [
    ...new Set(plan.outputs.flatMap((output) => (output.kind === 'pass' ? [] : output.columns))),
  ].sort()
}

function bounded(text: string): string {
  return text.length <= textLengthMax ? text : `${text.slice(0, textLengthMax)}…`
}
