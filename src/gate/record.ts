/**
 * The audit's members as JSON text, built once per judgement and spliced into every
 * record of it. Never a masked value, a password or a token. With `literals: redact` no constant of a
 * statement either: not in its text, not in the reason of a refusal.
 */
import type { RecordMembers } from '../audit/audit.ts'
import { cut, jsonText } from '../core/core.ts'
import { maskedColumnsOf, type MaskPlan } from '../masking/masking.ts'
import type { StatementDecision } from '../policy/policy.ts'
import {
  dottedColumn,
  dottedRelation,
  holdsSecret,
  redactLiterals,
  redactMessage,
  type Analysis,
  type ParsedStatement,
} from '../sql/sql.ts'
import type { Refusal } from './verdict.ts'

/** Characters of a statement that the record keeps. */
const textLengthMax = 64 * 1024
const reasonLengthMax = 4 * 1024
/** Of names that come with the identity. */
const nameLengthMax = 1024
/** Groups, relations, columns: how many are listed. */
const listCountMax = 256

export type Literals = 'keep' | 'redact'

/** What a judgement found, for its record. */
export interface Judged {
  readonly text: string
  readonly statement: ParsedStatement | null
  readonly analysis: Analysis | null
  readonly decision: StatementDecision | null
  readonly plan: MaskPlan | null
  readonly revision: string
  /** Null where the text was not parsed. */
  readonly fingerprint: string | null
  readonly refused: { readonly refusal: Refusal; readonly rule: string } | null
}

/**
 * `"statement":{…},"access":{…},"decision":{…` with the last object left open: what does not change
 * between executions. `runMembers` closes it.
 */
export function statementMembers(judged: Judged, literals: Literals): string {
  const { statement, analysis, decision, refused, text } = judged
  const redacted = isRedacted(text, literals)
  const reason = refused?.refusal.message ?? decision?.reason ?? ''
  return (
    textMember(text, redacted) +
    `"fingerprint":${judged.fingerprint === null ? 'null' : `"${judged.fingerprint}"`},` +
    `"kind":${JSON.stringify(statement?.kind ?? null)},"index":${statement?.index ?? 0},` +
    `"count":${statement?.count ?? 1},"redacted":${redacted}},` +
    `"access":${accessJson(analysis, judged.plan)},` +
    `"decision":{"action":"${refused === null ? actionOf(decision, judged.plan) : 'deny'}",` +
    `"rule":${jsonText(refused?.rule ?? decision?.rule ?? '')},` +
    `"reason":${jsonText(cut(redacted ? redactMessage(reason, text) : reason, reasonLengthMax))},` +
    `"sqlstate":${JSON.stringify(refused?.refusal.sqlstate ?? null)},` +
    `"revision":${jsonText(judged.revision)}`
  )
}

/** Constants of the text are not recorded. */
export function isRedacted(text: string, literals: Literals): boolean {
  return literals === 'redact' || holdsSecret(text)
}

/** What `statementMembers` begins with; all that follows is the same for an equal judgement. */
export function textMember(text: string, redacted: boolean): string {
  const kept = cut(text, textLengthMax)
  return `"statement":{"text":${jsonText(redacted ? redactLiterals(kept) : kept)},`
}

/** An `allow` that hides something is a `mask`. */
function actionOf(decision: StatementDecision | null, plan: MaskPlan | null): string {
  const action = decision?.action ?? 'deny'
  return action === 'allow' && plan?.kind === 'masked' ? 'mask' : action
}

/** Of analyses whose statement had nothing to mask: they are shared by all texts of a shape. */
const openAccess = new WeakMap<Analysis, string>()

function accessJson(analysis: Analysis | null, plan: MaskPlan | null): string {
  if (analysis === null || plan?.kind === 'masked') return accessText(analysis, plan)
  const known = openAccess.get(analysis) ?? accessText(analysis, plan)
  openAccess.set(analysis, known)
  return known
}

function accessText(analysis: Analysis | null, plan: MaskPlan | null): string {
  const { relations = [], columns = [], effects = [] } = analysis?.access ?? {}
  return JSON.stringify({
    relations: distinct(relations.map(({ schema, name }) => dottedRelation(schema, name))),
    // What is only in sight, as the rest of a row that is written, is not what somebody touched.
    columns: distinct(
      columns
        .filter(({ uses }) => uses.length > 0)
        .map(({ schema, relation, name }) => dottedColumn(schema, relation, name)),
    ),
    effects,
    masked_columns: plan?.kind === 'masked' ? distinct(maskedColumnsOf(plan.outputs)) : [],
  })
}

function distinct(names: readonly string[]): readonly string[] {
  return [...new Set(names)].sort().slice(0, listCountMax)
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
  const { subject, user, groups, method } = session.identity
  const listed = groups.slice(0, listCountMax).map(nameText)
  return (
    `"session":${nameText(session.id)},"database":${nameText(session.database)},` +
    `"client_address":${nameText(session.clientAddress)},` +
    `"identity":{"subject":${nameText(subject)},"user":${nameText(user)},` +
    `"groups":[${listed.join(',')}],"method":${nameText(method)}}`
  )
}

/** Tags are PostgreSQL's own words, nearly always; then nothing in them needs an escape. */
function tagText(tag: string | null): string {
  if (tag === null) return 'null'
  return /^[\w ]+$/.test(tag) ? `"${tag}"` : jsonText(tag)
}

function nameText(name: string): string {
  return jsonText(cut(name, nameLengthMax))
}

/** The run of a judged statement: everything that changes from one execution to the next. */
export function runMembers(
  sessionPart: string,
  statementPart: string,
  run: {
    readonly decisionId: string
    readonly cached: boolean
    readonly durationUs: number
    /** JSON of the approval that it runs under, or was refused under. */
    readonly approval: string | null
    /** It was refused with this; null where it may go upstream, which `statement_ended` will tell. */
    readonly refusedWith: string | null
  },
): RecordMembers {
  const outcome =
    run.refusedWith === null ? 'null' : `{"forwarded":false,"sqlstate":"${run.refusedWith}"}`
  return (
    `${sessionPart},${statementPart},"decision_id":"${run.decisionId}",` +
    `"cached":${run.cached},"duration_us":${run.durationUs}},` +
    `"approval":${run.approval ?? 'null'},"outcome":${outcome}`
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
  /**
   * `skipped`: the server passed over it because of an earlier error. `lost`: no answer came.
   * `unsent`: it was on record, and then did not go upstream.
   */
  readonly fate: 'answered' | 'skipped' | 'lost' | 'unsent'
  /** JSON of the rows that the client saw, where they are recorded. */
  readonly result: string | null
}

/** @param sessionPart `"session":"…"` as in `sessionMembers`. */
export function endMembers(sessionId: string, end: RunEnd): string {
  const { fate, tag, sqlstate, result } = end
  return (
    `"session":"${sessionId}","decision":{"decision_id":"${end.decisionId}"},` +
    `"outcome":{"forwarded":${fate !== 'unsent'},"tag":${tagText(tag)},` +
    `"rows":${end.rowCount},"bytes":${end.bytes},` +
    `"sqlstate":${sqlstate === null ? 'null' : JSON.stringify(sqlstate)},` +
    `"duration_us":${end.durationUs}` +
    `${fate === 'skipped' || fate === 'lost' ? `,"${fate}":true` : ''}}` +
    (result === null ? '' : `,"result":${result}`)
  )
}
