/**
 * What a search asks for: who, what, when. Shared by `regate audit` and `GET /v1/audit`: the names are
 * public. Several values of one name mean any of them; different names must all match.
 */

/** Names of a filter that take any number of values. */
export const filterNames = [
  ...['user', 'subject', 'group', 'database', 'session', 'id', 'decision', 'table', 'column'],
  ...['action', 'rule', 'kind', 'fingerprint', 'sqlstate', 'type', 'text'],
] as const

export interface AuditFilter {
  /** By the names above. */
  readonly values: ReadonlyMap<string, readonly string[]>
  /** RFC 3339 in UTC, as records have it; from `since` on, before `until`. */
  readonly since: string | null
  readonly until: string | null
}

/** The members of a record that a filter, a table or a sink looks at; everything may be absent. */
export interface AuditRecord {
  readonly id: string
  readonly time: string
  readonly type: string
  readonly session?: string
  readonly database?: string
  readonly client_address?: string
  readonly identity?: {
    readonly subject?: string
    readonly user?: string
    readonly groups?: readonly string[]
    readonly method?: string
  }
  readonly statement?: {
    readonly text?: string
    readonly fingerprint?: string | null
    readonly kind?: string | null
    readonly redacted?: boolean
  }
  readonly access?: {
    readonly relations?: readonly string[]
    readonly columns?: readonly string[]
    readonly effects?: readonly string[]
    readonly masked_columns?: readonly string[]
  }
  readonly decision?: {
    readonly action?: string
    readonly rule?: string
    readonly reason?: string
    readonly sqlstate?: string | null
    readonly revision?: string
    readonly decision_id?: string
    readonly cached?: boolean
    readonly duration_us?: number
  }
  readonly approval?: unknown
  readonly outcome?: AuditOutcome | null
  readonly result?: unknown
  readonly reason?: string
}

export interface AuditOutcome {
  readonly forwarded?: boolean
  readonly tag?: string | null
  readonly rows?: number
  readonly bytes?: number
  readonly sqlstate?: string | null
  readonly duration_us?: number
  readonly skipped?: boolean
  readonly lost?: boolean
}

/** A filter that cannot be understood: the name and what was expected. */
export class FilterError extends Error {
  override readonly name = 'FilterError'
}

/**
 * Makes a filter from names and values, as they stand in a query string or on a command line.
 * @param nowMs what durations like `2h` count from. Throws FilterError.
 */
export function auditFilter(
  given: Readonly<Record<string, string | readonly string[] | undefined>>,
  nowMs: number,
): AuditFilter {
  const values = new Map<string, readonly string[]>()
  for (const name of filterNames) {
    const value = given[name]
    if (value === undefined) continue
    const list = (typeof value === 'string' ? [value] : value).filter((one) => one !== '')
    if (list.length > 0) values.set(name, list)
  }
  return {
    values,
    since: momentOf(given['since'], 'since', nowMs),
    until: momentOf(given['until'], 'until', nowMs),
  }
}

const unitsMs: Readonly<Record<string, number>> = {
  ...{ s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 },
}

function momentOf(
  value: string | readonly string[] | undefined,
  name: string,
  nowMs: number,
): string | null {
  if (value === undefined || value === '') return null
  if (typeof value !== 'string') throw new FilterError(`${name} may be given once`)
  const ago = /^(\d+(?:\.\d+)?)([smhdw])$/.exec(value)
  const ms =
    ago === null
      ? Date.parse(/^\d{4}-\d\d-\d\d$/.test(value) ? `${value}T00:00:00Z` : value)
      : nowMs - Number(ago[1]) * (unitsMs[ago[2] ?? ''] ?? 0)
  if (!Number.isFinite(ms) || Math.abs(ms) > 8.64e15) {
    throw new FilterError(`${name}: an RFC 3339 time or a duration like 90m, 2h, 7d is expected`)
  }
  return new Date(ms).toISOString()
}

/** What must be in the bytes of a matching line: found out without parsing it. Null: nothing known. */
export function needlesOf(filter: AuditFilter): readonly Buffer[] | null {
  for (const [name, member] of [
    ...[['session', 'session'] as const, ['id', 'id'] as const],
    ...[['decision', 'decision_id'] as const, ['fingerprint', 'fingerprint'] as const],
  ]) {
    const values = filter.values.get(name)
    if (values === undefined) continue
    // JSON may write a value in more than one way; plain ones it does not.
    if (!values.every((value) => /^[\w.-]+$/.test(value))) continue
    return values.map((value) => Buffer.from(`"${member}":"${value}"`))
  }
  return null
}

/** Whether a record matches, but for the time and `sqlstate` (see AuditSearch). */
export function matcher(filter: AuditFilter): (record: AuditRecord) => boolean {
  const tests: ((record: AuditRecord) => boolean)[] = []
  for (const [name, values] of filter.values) {
    const test = testOf(name, values)
    if (test !== null) tests.push(test)
  }
  return (record) => tests.every((test) => test(record))
}

function testOf(
  name: string,
  values: readonly string[],
): ((record: AuditRecord) => boolean) | null {
  const set = new Set(values)
  const is = (value: string | null | undefined): boolean =>
    value !== undefined && value !== null && set.has(value)
  switch (name) {
    case 'user':
      return ({ identity }) => is(identity?.user) || is(identity?.subject)
    case 'subject':
      return ({ identity }) => is(identity?.subject)
    case 'group':
      return ({ identity }) => identity?.groups?.some(is) === true
    case 'database':
      return ({ database }) => is(database)
    case 'session':
      return ({ session }) => is(session)
    case 'id':
      return ({ id }) => is(id)
    case 'decision':
      return ({ decision }) => is(decision?.decision_id)
    case 'action':
      return ({ decision }) => is(decision?.action)
    case 'kind':
      return ({ statement }) => is(statement?.kind)
    case 'fingerprint':
      return ({ statement }) => is(statement?.fingerprint)
    case 'type':
      return ({ type }) => is(type)
    case 'rule':
      return ({ decision }) => begins(decision?.rule, values)
    case 'table':
      return named(values, ({ access }) => access?.relations)
    case 'column':
      return named(values, ({ access }) => access?.columns)
    case 'text': {
      const parts = values.map((value) => value.toLowerCase())
      return ({ statement }) => {
        const text = statement?.text?.toLowerCase()
        return text !== undefined && parts.some((part) => text.includes(part))
      }
    }
    default:
      return null
  }
}

function begins(rule: string | undefined, values: readonly string[]): boolean {
  return (
    rule !== undefined && values.some((value) => rule === value || rule.startsWith(`${value}.`))
  )
}

/** A dotted name, or the end of one: `users`, `public.users`; `*` is any characters. */
function named(
  values: readonly string[],
  of: (record: AuditRecord) => readonly string[] | undefined,
): (record: AuditRecord) => boolean {
  const patterns = values.map((value) => value.split('*'))
  return (record) =>
    of(record)?.some((name) => patterns.some((parts) => endsLike(name, parts))) === true
}

/**
 * The whole name is like it, or what stands behind one of its dots. Not by a regular expression:
 * `*a*a*a*b` would keep the process busy for as long as whoever asks likes.
 */
function endsLike(name: string, parts: readonly string[]): boolean {
  for (let from = 0; from !== -1; from = afterDot(name, from)) {
    if (isLike(name, from, parts)) return true
  }
  return false
}

function afterDot(name: string, from: number): number {
  const dot = name.indexOf('.', from)
  return dot === -1 ? -1 : dot + 1
}

/** Each part at the first place where it fits: what is left for the others is never less. */
function isLike(name: string, from: number, parts: readonly string[]): boolean {
  const [first = ''] = parts
  if (!name.startsWith(first, from)) return false
  let at = from + first.length
  if (parts.length === 1) return at === name.length
  for (const part of parts.slice(1, -1)) {
    const found = name.indexOf(part, at)
    if (found === -1) return false
    at = found + part.length
  }
  const last = parts.at(-1) ?? ''
  return name.length - last.length >= at && name.endsWith(last)
}
