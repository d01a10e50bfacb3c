/**
 * The input document of a policy (policies/schemas), assembled as JSON text: the parser's own JSON of the
 * syntax tree is spliced in and never parsed; what is the same for many statements (identity, session,
 * access) is rendered once and remembered.
 *
 * Every field is always there. A volatile input that the bundle did not declare is null, whatever the
 * caller knows: what a policy cannot see it cannot depend on, and so its decisions can be cached.
 */
import {
  dottedColumn,
  dottedRelation,
  parserVersion,
  type Access,
  type Analysis,
  type ParsedStatement,
} from '../sql/sql.ts'
import type { VolatileInput } from './decision.ts'

/** Who asks, as policies see it. Immutable: it is remembered by identity of the object. */
export interface IdentityDocument {
  readonly subject: string
  readonly user: string
  readonly email: string | null
  readonly groups: readonly string[]
  readonly type: 'human' | 'machine'
  readonly on_behalf_of: string | null
  readonly method: string
  readonly claims: Readonly<Record<string, unknown>>
}

/** The session as policies see it. Immutable: a change is a new object. */
export interface SessionDocument {
  readonly database: string
  readonly role: string
  readonly application_name: string
  readonly transaction: 'idle' | 'active' | 'failed' | 'unknown'
  readonly search_path: readonly string[] | 'unknown'
}

/** An approval that was given to exactly this statement. */
export interface ApprovalDocument {
  readonly id: string
  readonly outcome: 'approved'
  readonly by: readonly string[]
  readonly at: string
}

/** The server's own estimate of a statement (EXPLAIN). */
export interface Estimate {
  /** Total cost of the plan. */
  readonly cost: number
  /** Rows the plan's top node expects. */
  readonly rows: number
  /** The largest number of rows any node expects. */
  readonly rows_max: number
  /** Node types of the plan, each once. */
  readonly nodes: readonly string[]
}

/** A Bind parameter: text as it came, binary in base64, null for NULL. */
export interface ParameterDocument {
  readonly type: number
  readonly format: 'text' | 'binary'
  readonly value: string | null
}

/** What a policy may declare that it wants to see although it changes all the time. */
export interface VolatileInputs {
  readonly nowMs: () => number
  readonly parameters: readonly ParameterDocument[] | null
  readonly sessionId: string
  readonly clientAddress: string | null
  /** The claims that change by token: those named in `volatileClaims`. */
  readonly estimate: Estimate | null
}

/** A statement's text and tree with constants blanked, for a bundle that declares `constants: hidden`. */
export interface ShapeFacts {
  /** Injective key of the shape (src/sql/shape.ts). */
  readonly key: string
  readonly text: string
  readonly tree: string | Buffer
}

/** Everything a statement is judged by. */
export interface StatementFacts {
  readonly statement: ParsedStatement
  readonly protocol: 'simple' | 'extended'
  readonly analysis: Analysis
  readonly identity: IdentityDocument
  readonly session: SessionDocument
  readonly approval: ApprovalDocument | null
  readonly volatile: VolatileInputs | null
  /** Null or absent where the statement has no shape (utility statements) or is not to be hidden. */
  readonly shape?: ShapeFacts | null
  /** `fingerprintOf` the statement where it is known already. */
  readonly fingerprint?: string
}

/** What a connection is judged by. */
export interface ConnectFacts {
  readonly identity: IdentityDocument
  /** The startup parameters as the client sent them, `database` and `user` among them. */
  readonly startup: Readonly<Record<string, string>>
  readonly clientAddress: string | null
  readonly nowMs: number
}

/** Claims that change with every token of the same person. */
export const volatileClaims: ReadonlySet<string> = new Set([
  'iat',
  'jti',
  'exp',
  'nbf',
  'auth_time',
  'nonce',
  'at_hash',
  'c_hash',
  's_hash',
  'sid',
  'session_state',
  'uti',
  'rh',
  'updated_at',
])

const accessTexts = new WeakMap<Access, string>()
const identityTexts = new WeakMap<IdentityDocument, string>()
const identityTextsWithClaims = new WeakMap<IdentityDocument, string>()

/** The access document, with a dotted `id` beside each relation and column for look-ups by key. */
function accessText(access: Access): string {
  const known = accessTexts.get(access)
  if (known !== undefined) return known
  const text = JSON.stringify({
    ...access,
    relations: access.relations.map((relation) => ({
      id: dottedRelation(relation.schema, relation.name),
      ...relation,
    })),
    columns: access.columns.map((column) => ({
      id: dottedColumn(column.schema, column.relation, column.name),
      ...column,
    })),
  })
  accessTexts.set(access, text)
  return text
}

/** The identity as JSON, without the claims that change by token unless they were declared. */
export function identityText(identity: IdentityDocument, withVolatileClaims: boolean): string {
  const texts = withVolatileClaims ? identityTextsWithClaims : identityTexts
  const known = texts.get(identity)
  if (known !== undefined) return known
  const claims = withVolatileClaims
    ? identity.claims
    : Object.fromEntries(
        Object.entries(identity.claims).filter(([name]) => !volatileClaims.has(name)),
      )
  const { subject, user, email, groups, type, on_behalf_of, method } = identity
  const text = JSON.stringify({ subject, user, email, groups, type, on_behalf_of, method, claims })
  texts.set(identity, text)
  return text
}

/** The session's own part, without the closing brace: `id` and `client_address` follow it. */
function sessionText(session: SessionDocument): string {
  const { database, role, application_name, transaction, search_path } = session
  return JSON.stringify({ database, role, application_name, transaction, search_path }).slice(0, -1)
}

const plainSessionTexts = new WeakMap<SessionDocument, string>()

/** The session for whoever sees nothing volatile of it. */
function plainSessionText(session: SessionDocument): string {
  const known = plainSessionTexts.get(session)
  if (known !== undefined) return known
  const text = `${sessionText(session)},"id":null,"client_address":null}`
  plainSessionTexts.set(session, text)
  return text
}

const weekdays = ['sunday', 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday']

function timeDocument(nowMs: number): object {
  const now = new Date(nowMs)
  return {
    unix_ms: nowMs,
    rfc3339: now.toISOString(),
    weekday: weekdays[now.getUTCDay()],
    minute_of_day: now.getUTCHours() * 60 + now.getUTCMinutes(),
    minute_of_week: (now.getUTCDay() * 24 + now.getUTCHours()) * 60 + now.getUTCMinutes(),
  }
}

/**
 * An input document whose members that many statements share are texts by themselves: whoever
 * evaluates may keep them parsed. All others are the statement's text and tree, and what is written
 * around them (`restOf` joins these).
 */
export interface InputParts {
  readonly shared: readonly SharedMember[]
  readonly text: string
  readonly beforeTree: string
  readonly tree: string | Buffer
  /** Without the document's closing brace. */
  readonly afterTree: string
}

export interface SharedMember {
  readonly name: string
  /** JSON of its path in the document. */
  readonly path: string
  /** JSON of its value. */
  readonly text: string
}

/** The input of `regate/statement/decision`; `given` are the volatile inputs that may be shown. */
export function statementInput(
  facts: StatementFacts,
  given: ReadonlySet<VolatileInput>,
  fingerprint: string,
): string {
  return joined(statementInputParts(facts, given, fingerprint))
}

/** The same in parts. */
export function statementInputParts(
  facts: StatementFacts,
  given: ReadonlySet<VolatileInput>,
  fingerprint: string,
): InputParts {
  const { statement, analysis } = facts
  const shown = facts.shape ?? statement
  const volatile = given.size === 0 ? null : facts.volatile
  const show = (name: VolatileInput, value: () => unknown) =>
    volatile !== null && given.has(name) ? JSON.stringify(value() ?? null) : 'null'
  const now = volatile !== null && given.has('time') ? volatile.nowMs() : null
  const session =
    volatile === null
      ? plainSessionText(facts.session)
      : `${sessionText(facts.session)},"id":${show('session.id', () => volatile.sessionId)},` +
        `"client_address":${show('client_address', () => volatile.clientAddress)}}`
  return {
    shared: [
      { name: 'access', path: '["access"]', text: accessText(analysis.access) },
      {
        name: 'identity',
        path: '["identity"]',
        text: identityText(facts.identity, given.has('claims')),
      },
      { name: 'session', path: '["session"]', text: session },
    ],
    text: shown.text,
    beforeTree:
      `,"kind":"${analysis.kind}",` +
      `"index":${String(statement.index)},"count":${String(statement.count)},` +
      `"protocol":"${facts.protocol}","ast":`,
    tree: shown.tree,
    afterTree:
      `,"fingerprint":"${fingerprint}","parser_version":${String(parserVersion)}},` +
      `"approval":${facts.approval === null ? 'null' : JSON.stringify(facts.approval)},` +
      `"parameters":${show('parameters', () => volatile?.parameters)},` +
      `"time":${now === null ? 'null' : JSON.stringify(timeDocument(now))},` +
      `"estimate":${show('estimate', () => volatile?.estimate)}`,
  }
}

/** The object of what is not shared, without its closing brace. It may be megabytes long. */
export function restOf({ text, beforeTree, tree, afterTree }: InputParts): string {
  return `{"statement":{"text":${JSON.stringify(text)}${beforeTree}${tree.toString()}${afterTree}`
}

/** Everything but the text and its tree, which are the statement's own. */
export function besideStatement({ shared, beforeTree, afterTree }: InputParts): string {
  return [beforeTree, afterTree, ...shared.map(({ text }) => text)].join('\n')
}

/** The document for a thread, which joins the pieces: `{ json }` is a text to be written as JSON. */
export type InputPiece = string | Uint8Array | { readonly json: string }

/** Cheap however large the statement is: nothing of it is copied here. */
export function piecesOf(parts: InputParts): readonly InputPiece[] {
  const { text, beforeTree, tree, afterTree } = parts
  const members = sharedText(parts)
  return ['{"statement":{"text":', { json: text }, beforeTree, tree, afterTree, members, '}']
}

/** The document as one text. */
export function joined(parts: InputParts): string {
  return `${restOf(parts)}${sharedText(parts)}}`
}

/** The shared members, each behind a comma. */
function sharedText({ shared }: InputParts): string {
  return shared.map(({ name, text }) => `,"${name}":${text}`).join('')
}

/** The input of `regate/connect/decision`: judged once per session, so everything is shown. */
export function connectInput(facts: ConnectFacts): string {
  return JSON.stringify({
    identity: JSON.parse(identityText(facts.identity, true)) as unknown,
    startup: facts.startup,
    client_address: facts.clientAddress,
    time: timeDocument(facts.nowMs),
  })
}
