/**
 * Requests in the store: every change is one UPDATE whose WHERE says what must still be true, so of
 * any number of proxies, reviewers and callbacks one wins and the others see that they did not.
 * Time is the database's own, read when the row is looked at (`clock_timestamp()`).
 */
import type {
  ApprovalAsk,
  Requester,
  Requirement,
  ReviewFacts,
  ShownParameter,
} from './messages.ts'
import type { Vote } from './people.ts'
import type { Sql } from './store.ts'

export type RequestState =
  'pending' | 'approved' | 'rejected' | 'used' | 'expired' | 'withdrawn' | 'void'

/** What a row keeps of the ask for lists. */
export interface RequestDocument {
  readonly identity: Requester
  readonly role: string
  readonly clientAddress: string
  readonly kind: string
  readonly count: number
  readonly shape: string
  readonly shapeKey: string
  readonly shareable: boolean
  readonly revision: string
  readonly rule: string
  readonly reason: string
}

export interface RequestRow {
  readonly id: string
  readonly state: RequestState
  readonly version: number
  /** RFC 3339. */
  readonly created: string
  readonly expires: string
  readonly decided: string | null
  readonly binding: string
  readonly database: string
  readonly session: string
  readonly waitMs: number
  readonly ttlMs: number
  readonly requirements: readonly Requirement[]
  readonly votes: readonly Vote[]
  readonly held: boolean
  readonly grant: string | null
  readonly outcome: string | null
  readonly statement: string
  readonly statementLength: number
  readonly document: RequestDocument
}

export interface RequestDetail extends RequestRow {
  readonly review: ReviewFacts & { readonly parameters: readonly ShownParameter[] | null }
}

/** An instance that was not seen for so long waits for nobody. */
export const instanceSecondsMax = 30

const live = `EXISTS (SELECT 1 FROM regate.approval_instance i WHERE i.id = r.instance
  AND i.seen > clock_timestamp() - interval '${String(instanceSecondsMax)} seconds')`
const notHeld = `(r.hold IS NULL OR NOT ${live})`

const time = (column: string): string =>
  `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`

/** The state as it is now: what nobody has swept is expired all the same. */
const stateNow = `CASE WHEN r.state IN ('pending', 'approved') AND r.expires <= clock_timestamp()
  THEN 'expired' ELSE r.state END`

const row = (statement: string): string => `r.id, ${stateNow} AS state, r.version,
  ${time('r.created')} AS created, ${time('r.expires')} AS expires, ${time('r.decided')} AS decided,
  r.binding, r.database, r.session, r.wait_ms::float8 AS "waitMs", r.ttl_ms::float8 AS "ttlMs",
  r.requirements, r.votes, (r.hold IS NOT NULL AND ${live}) AS held, r.grant_id AS "grant", r.outcome,
  ${statement} AS statement, length(r.statement) AS "statementLength", r.document`

const summaryLengthMax = 2_000
const summaryRow = row(`left(r.statement, ${String(summaryLengthMax)})`)
const wholeRow = row('r.statement')

/** PostgreSQL's text holds no NUL: what a token may carry is kept readable. */
const clean = (text: string): string => text.replaceAll('\0', '\ufffd')

/** What is there already for an ask: approved, pending or rejected, oldest first. */
export async function openFor(sql: Sql, binding: string): Promise<readonly RequestRow[]> {
  return await sql.query<RequestRow>(
    `SELECT ${summaryRow} FROM regate.approval_request r
     WHERE r.binding = $1 AND r.state IN ('pending', 'approved', 'rejected')
       AND r.expires > clock_timestamp() AND ${notHeld} AND (r.state <> 'rejected' OR NOT r.told)
     ORDER BY r.id LIMIT 20`,
    [binding],
  )
}

/** Makes a request that `instance` waits for; null where the subject has too many open. */
export async function insertRequest(
  sql: Sql,
  ask: ApprovalAsk,
  how: { readonly id: string; readonly instance: string; readonly pendingMax: number },
): Promise<RequestRow | null> {
  const { identity, review, parameters } = ask
  const document: RequestDocument = {
    ...{ identity, role: ask.role, clientAddress: ask.clientAddress, kind: ask.kind },
    ...{ count: ask.count, shape: ask.shape, shapeKey: ask.shapeKey, shareable: ask.shareable },
    ...{ revision: ask.revision, rule: ask.rule, reason: ask.reason },
  }
  const rows = await sql.query<RequestRow>(
    `INSERT INTO regate.approval_request AS r (id, state, expires, binding, subject, database, session,
       wait_ms, ttl_ms, requirements, hold, instance, statement, document, review)
     SELECT $1, 'pending', clock_timestamp() + $2::float8 * interval '1 millisecond', $3, $4, $5, $6,
       $7::float8, $2::float8, $8::jsonb, $9, $10, $11, $12::json, $13::json
     WHERE regate.approval_may_ask($4, $14::int)
     RETURNING ${summaryRow}`,
    [
      ...[how.id, ask.ttlMs, ask.binding, clean(identity.subject), clean(ask.database)],
      ...[ask.sessionId, ask.waitMs, JSON.stringify(ask.requirements), ask.holdId, how.instance],
      ...[clean(ask.text), JSON.stringify(document), JSON.stringify({ ...review, parameters })],
      how.pendingMax,
    ],
  )
  return rows[0] ?? null
}

/** Waits for a request that nobody waits for. False where somebody else was faster. */
export async function attach(
  sql: Sql,
  id: string,
  hold: string,
  instance: string,
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE regate.approval_request r SET hold = $2, instance = $3
     WHERE r.id = $1 AND r.state IN ('pending', 'approved') AND r.expires > clock_timestamp()
       AND ${notHeld}
     RETURNING r.id`,
    [id, hold, instance],
  )
  return rows.length === 1
}

/**
 * Takes an approval for one run, once and for ever. Asked again after an answer that was lost, the
 * same hold gets the same yes.
 */
export async function consume(
  sql: Sql,
  id: string,
  binding: string,
  hold: string,
): Promise<RequestRow | null> {
  const rows = await sql.query<RequestRow>(
    `UPDATE regate.approval_request r
     SET state = 'used', used_by = $3, hold = NULL, version = r.version + 1,
       closed = clock_timestamp()
     WHERE r.id = $1 AND r.binding = $2
       AND ((r.state = 'approved' AND r.expires > clock_timestamp()
             AND (r.hold = $3 OR ${notHeld}))
         OR (r.state = 'used' AND r.used_by = $3))
     RETURNING ${summaryRow}`,
    [id, binding, hold],
  )
  return rows[0] ?? null
}

/** A request that a grant covers is done: it runs, once. */
export async function useByGrant(
  sql: Sql,
  id: string,
  hold: string,
  grant: string,
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE regate.approval_request r
     SET state = 'used', used_by = $2, hold = NULL, grant_id = $3, version = r.version + 1,
       closed = clock_timestamp(), outcome = 'covered by grant ' || $3
     WHERE r.id = $1 AND r.state = 'pending' AND r.hold = $2 AND r.expires > clock_timestamp()
     RETURNING r.id`,
    [id, hold, grant],
  )
  return rows.length === 1
}

/** Nobody waits any more, the request stays open. Gives its state, null where it is not ours. */
export async function release(sql: Sql, id: string, hold: string): Promise<RequestState | null> {
  const rows = await sql.query<{ state: RequestState }>(
    `UPDATE regate.approval_request r SET hold = NULL WHERE r.id = $1 AND r.hold = $2
     RETURNING ${stateNow} AS state`,
    [id, hold],
  )
  return rows[0]?.state ?? null
}

/** Closes a request of this hold that has not run. */
export async function close(
  sql: Sql,
  id: string,
  hold: string,
  state: 'withdrawn' | 'expired',
  outcome: string,
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE regate.approval_request r
     SET state = $3, outcome = $4, hold = NULL, version = r.version + 1, closed = clock_timestamp()
     WHERE r.id = $1 AND r.hold = $2 AND r.state IN ('pending', 'approved')
     RETURNING r.id`,
    [id, hold, state, outcome],
  )
  return rows.length === 1
}

/** An approval was taken for a run that did not happen. */
export async function voidUsed(
  sql: Sql,
  id: string,
  hold: string,
  outcome: string,
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE regate.approval_request r SET state = 'void', outcome = $3, version = r.version + 1
     WHERE r.id = $1 AND r.used_by = $2 AND r.state = 'used' RETURNING r.id`,
    [id, hold, clean(outcome)],
  )
  return rows.length === 1
}

/** Can never run any more, because what it binds has changed; null where the row has moved. */
export async function voidOutdated(
  sql: Sql,
  before: RequestRow,
  outcome: string,
): Promise<RequestRow | null> {
  const rows = await sql.query<RequestRow>(
    `UPDATE regate.approval_request r
     SET state = 'void', outcome = $3, hold = NULL, version = r.version + 1,
       closed = clock_timestamp()
     WHERE r.id = $1 AND r.version = $2 AND r.state IN ('pending', 'approved') AND ${notHeld}
     RETURNING ${summaryRow}`,
    [before.id, before.version, clean(outcome)],
  )
  return rows[0] ?? null
}

/**
 * The asker's own earlier requests for this very text and these parameters that can never run: asked
 * under another policy or catalog and waited for by nobody, or void already and not said yet.
 */
export async function outdatedFor(
  sql: Sql,
  ask: Pick<
    ApprovalAsk,
    'identity' | 'database' | 'text' | 'parameters' | 'revision' | 'review' | 'role'
  >,
): Promise<readonly RequestRow[]> {
  return await sql.query<RequestRow>(
    `SELECT ${summaryRow} FROM regate.approval_request r
     WHERE r.subject = $1 AND r.database = $2 AND r.statement = $3
       AND (r.review->'parameters')::text = $4 AND r.document->>'role' = $5
       AND ((r.state IN ('pending', 'approved') AND r.expires > clock_timestamp() AND ${notHeld}
             AND (r.document->>'revision' <> $6 OR r.review->>'catalog' <> $7))
         OR (r.state = 'void' AND r.used_by IS NULL AND NOT r.told))
     ORDER BY r.id LIMIT 20`,
    [
      ...[clean(ask.identity.subject), clean(ask.database), clean(ask.text)],
      ...[JSON.stringify(ask.parameters), ask.role, ask.revision, ask.review.catalog],
    ],
  )
}

/** Writes the votes and what follows from them; null where the row has moved since it was read. */
export async function vote(
  sql: Sql,
  before: RequestRow,
  votes: readonly Vote[],
  state: 'pending' | 'approved' | 'rejected',
  outcome: string | null,
): Promise<RequestRow | null> {
  const rows = await sql.query<RequestRow>(
    `UPDATE regate.approval_request r
     SET votes = $3::jsonb, state = $4, outcome = $5, version = r.version + 1,
       decided = CASE WHEN $4 = 'pending' THEN NULL ELSE clock_timestamp() END,
       closed = CASE WHEN $4 = 'rejected' THEN clock_timestamp() END,
       expires = CASE WHEN $4 = 'pending' THEN r.expires
         ELSE clock_timestamp() + r.ttl_ms * interval '1 millisecond' END
     WHERE r.id = $1 AND r.version = $2 AND r.state = 'pending' AND r.expires > clock_timestamp()
     RETURNING ${summaryRow}`,
    [before.id, before.version, JSON.stringify(votes), state, outcome],
  )
  return rows[0] ?? null
}

/** The asker heard of the rejection, or of what made it void. */
export async function setTold(sql: Sql, id: string): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE regate.approval_request SET told = true, hold = NULL
     WHERE id = $1 AND state IN ('rejected', 'void') AND NOT told RETURNING id`,
    [id],
  )
  return rows.length === 1
}

/** Closes what has expired; each row is given to one caller only. */
export async function sweep(sql: Sql): Promise<readonly RequestRow[]> {
  return await sql.query<RequestRow>(
    `UPDATE regate.approval_request r
     SET state = 'expired', version = r.version + 1, closed = clock_timestamp(),
       outcome = CASE r.state WHEN 'approved' THEN 'approved, and not used in time'
         ELSE 'nobody decided in time' END
     WHERE r.id IN (SELECT id FROM regate.approval_request
       WHERE state IN ('pending', 'approved') AND expires <= clock_timestamp()
       ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED)
     RETURNING ${summaryRow}`,
    [],
  )
}

/** This instance lives. */
export async function sayAlive(sql: Sql, instance: string): Promise<void> {
  await sql.query(
    `INSERT INTO regate.approval_instance (id) VALUES ($1)
     ON CONFLICT (id) DO UPDATE SET seen = clock_timestamp()`,
    [instance],
  )
}

/** Requests that this instance waits for and that are not pending any more. */
export async function movedOf(sql: Sql, instance: string): Promise<readonly string[]> {
  const rows = await sql.query<{ id: string }>(
    `SELECT id FROM regate.approval_request
     WHERE instance = $1 AND hold IS NOT NULL AND state <> 'pending'`,
    [instance],
  )
  return rows.map(({ id }) => id)
}

/** Requests that may still run. */
export async function openCount(sql: Sql): Promise<number> {
  const rows = await sql.query<{ open: number }>(
    `SELECT count(*)::int AS open FROM regate.approval_request
     WHERE state IN ('pending', 'approved')`,
    [],
  )
  return rows[0]?.open ?? 0
}

/** This instance waits for nothing any more; whatever it held may be waited for by others. */
export async function leave(sql: Sql, instance: string): Promise<void> {
  await sql.query('DELETE FROM regate.approval_instance WHERE id = $1', [instance])
}

/** Deletes what is closed for longer than this, and instances that are gone. */
export async function purge(sql: Sql, retainMs: number): Promise<void> {
  await sql.query(
    `DELETE FROM regate.approval_request
     WHERE closed < clock_timestamp() - $1::float8 * interval '1 millisecond'`,
    [retainMs],
  )
  await sql.query(
    `DELETE FROM regate.approval_instance WHERE seen < clock_timestamp() - interval '1 hour'`,
    [],
  )
  await sql.query('DELETE FROM regate.approval_nonce WHERE expires < clock_timestamp()', [])
}

/** Without the text beyond its first 2,000 characters. */
export async function findRequest(sql: Sql, id: string): Promise<RequestRow | null> {
  const rows = await sql.query<RequestRow>(
    `SELECT ${summaryRow} FROM regate.approval_request r WHERE r.id = $1`,
    [id],
  )
  return rows[0] ?? null
}

/** With all that a reviewer needs. */
export async function findDetail(sql: Sql, id: string): Promise<RequestDetail | null> {
  const rows = await sql.query<RequestDetail>(
    `SELECT ${wholeRow}, r.review FROM regate.approval_request r WHERE r.id = $1`,
    [id],
  )
  return rows[0] ?? null
}

export interface ListFilter {
  /** Null is all. */
  readonly states: readonly RequestState[] | null
  readonly session: string | null
  readonly subject: string | null
  readonly database: string | null
  /** Older than this id. */
  readonly before: string | null
  readonly limit: number
}

/** Newest first. */
export async function listRequests(sql: Sql, filter: ListFilter): Promise<readonly RequestRow[]> {
  // The state as it is stored comes first: it is indexed, and what is closed is most of the table.
  const stored = filter.states?.flatMap((state) => (state === 'expired' ? expiring : [state]))
  const json = (list: readonly string[] | null | undefined): string | null =>
    list === null || list === undefined ? null : JSON.stringify(list)
  return await sql.query<RequestRow>(
    `SELECT ${summaryRow} FROM regate.approval_request r
     WHERE ($1::jsonb IS NULL OR (
         r.state = ANY (ARRAY(SELECT jsonb_array_elements_text($7::jsonb)))
         AND $1::jsonb ? (${stateNow})))
       AND ($2::text IS NULL OR r.session = $2) AND ($3::text IS NULL OR r.subject = $3)
       AND ($4::text IS NULL OR r.database = $4) AND ($5::text IS NULL OR r.id < $5)
     ORDER BY r.id DESC LIMIT $6::int`,
    [
      ...[json(filter.states), filter.session, filter.subject],
      ...[filter.database, filter.before, filter.limit, json(stored)],
    ],
  )
}

/** What may be stored of a request that is expired now. */
const expiring: readonly RequestState[] = ['pending', 'approved', 'expired']

/** True once for every nonce. */
export async function takeNonce(sql: Sql, nonce: string, keepMs: number): Promise<boolean> {
  const rows = await sql.query(
    `INSERT INTO regate.approval_nonce VALUES
       ($1, clock_timestamp() + $2::float8 * interval '1 millisecond')
     ON CONFLICT DO NOTHING RETURNING nonce`,
    [nonce, keepMs],
  )
  return rows.length === 1
}
