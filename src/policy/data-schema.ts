/**
 * The shape of `data.regate`, as the shipped pack reads it. A policy engine takes a misspelt key for
 * one that nobody set, so a slip in the data would give or take a right in silence; here it is told
 * when the bundle is loaded, with its path and the nearest name.
 *
 * For bundles whose statement entrypoint declares `data: pack`; what else bundles keep in their data
 * is their own.
 */
import { nearest, ProxyError } from '../core/core.ts'
import { decodeMask, parseDuration } from './decode.ts'

type Data = Readonly<Record<string, unknown>>
type Report = (path: string, problem: string) => void
type Check = (value: unknown, path: string, report: Report) => void

const isMap = (value: unknown): value is Data =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A part of a path, as Rego writes it where it is no plain name. */
const below = (path: string, key: string): string =>
  /^[A-Za-z_]\w*$/.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key)}]`

const shown = (value: unknown): string => JSON.stringify(value)?.slice(0, 60) ?? 'nothing'

/** A value that the test takes. */
const value =
  (what: string, test: (given: unknown) => boolean): Check =>
  (given, path, report) => {
    if (!test(given)) report(path, `is ${shown(given)}, must be ${what}`)
  }

const text = value('text', (given) => typeof given === 'string' && given !== '')
const flag = value('true or false', (given) => typeof given === 'boolean')
const count = value(
  'a whole number',
  (given) => Number.isSafeInteger(given) && (given as number) >= 0,
)
const number = value('a number', (given) => typeof given === 'number')
const integer = value('a whole number', (given) => Number.isSafeInteger(given))
const duration = value('a duration such as "30s"', (given) => parseDuration(given) !== undefined)
/** The pack compares these, and knows fewer units. */
const time = value(
  'a time in ms, s, m or h, such as "30s"',
  (given) => typeof given === 'string' && /^\d+(\.\d+)?(ms|s|m|h)$/.test(given),
)
const clock = value(
  'a time of day such as "08:30"',
  (given) => typeof given === 'string' && /^([01]?\d|2[0-4]):[0-5]\d$/.test(given),
)
const fingerprint = value(
  'a fingerprint of 32 hexadecimal digits, as `regate policy input` shows it',
  (given) => typeof given === 'string' && /^[0-9a-f]{32}$/.test(given),
)
const setting = value('text, a number, true or false', (given) =>
  ['string', 'number', 'boolean'].includes(typeof given),
)

const words =
  (...known: readonly string[]): Check =>
  (given, path, report) => {
    if (typeof given === 'string' && known.includes(given)) return
    const meant = typeof given === 'string' ? nearest(given, known) : null
    const hint = meant === null ? '' : `; did you mean "${meant}"?`
    report(path, `is ${shown(given)}, must be one of ${known.join(', ')}${hint}`)
  }

const listOf =
  (check: Check): Check =>
  (given, path, report) => {
    if (!Array.isArray(given)) {
      report(path, `is ${shown(given)}, must be a list`)
      return
    }
    for (const [index, item] of given.entries()) check(item, `${path}[${index}]`, report)
  }

const mapOf =
  (check: Check): Check =>
  (given, path, report) => {
    if (isMap(given)) {
      for (const [key, item] of Object.entries(given)) check(item, below(path, key), report)
    } else report(path, `is ${shown(given)}, must be an object`)
  }

const object =
  (keys: Readonly<Record<string, Check>>): Check =>
  (given, path, report) => {
    if (!isMap(given)) {
      report(path, `is ${shown(given)}, must be an object`)
      return
    }
    for (const [key, item] of Object.entries(given)) {
      const check = Object.hasOwn(keys, key) ? keys[key] : undefined
      if (check !== undefined) check(item, below(path, key), report)
      else report(below(path, key), `is unknown${spelling(key, Object.keys(keys))}`)
    }
  }

function spelling(key: string, known: readonly string[]): string {
  const meant = nearest(key, known)
  return meant === null ? ` (known: ${known.join(', ')})` : `; did you mean "${meant}"?`
}

const orNull =
  (check: Check): Check =>
  (given, path, report) => {
    if (given !== null) check(given, path, report)
  }

const verdict = words('allow', 'approve', 'deny')

/** Patterns, a verdict for each of them, or one for everything. */
const grants: Check = (given, path, report) => {
  if (Array.isArray(given)) listOf(text)(given, path, report)
  else if (isMap(given)) mapOf(verdict)(given, path, report)
  else if (!['allow', 'approve', 'deny'].includes(given as string)) {
    const forms = 'a list such as ["*"], an object of verdicts, or one of allow, approve, deny'
    report(path, `is ${shown(given)}, must be ${forms}`)
  }
}

const mask: Check = (given, path, report) => {
  const kinds = ['null', 'constant', 'redact', 'hash', 'partial', 'bucket', 'truncate', 'noise']
  if (!isMap(given)) {
    report(path, `is ${shown(given)}, must be an object with a "kind"`)
    return
  }
  if (!kinds.includes(String(given['kind']))) {
    words(...kinds)(given['kind'], `${path}.kind`, report)
    return
  }
  try {
    decodeMask(given, 'it')
  } catch (error) {
    if (!(error instanceof ProxyError)) throw error
    report(path, error.message.replace(/^.*?: it /, ''))
  }
}

const approval = { groups: listOf(text), quorum: count, wait: duration, ttl: duration }

const day = words('sunday', 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday')

const group = object({
  read: grants,
  write: grants,
  ddl: grants,
  unmask: listOf(text),
  infer: flag,
  write_masked: listOf(text),
  windows: listOf(
    object({ days: listOf(day), from: clock, to: clock, utc_offset_minutes: integer }),
  ),
  statements: listOf(fingerprint),
  functions: mapOf(verdict),
  incomplete: words('approve', 'deny'),
  effects: mapOf(verdict),
  settings: mapOf(setting),
  settable: listOf(text),
  locked: listOf(text),
  role: text,
  priority: number,
  databases: listOf(text),
  limits: object({
    rows: orNull(count),
    bytes: orNull(count),
    time: orNull(time),
    budget: orNull(object({ rows: count, per: duration })),
  }),
  estimate: orNull(object({ rows: number, cost: number, above: words('approve', 'deny') })),
  approval: object(approval),
  unfiltered: words('allow', 'approve'),
})

const parts: Readonly<Record<string, Check>> = {
  columns: mapOf(object({ class: text, mask })),
  groups: mapOf(group),
  approvals: object(approval),
}

/** Parts that other code reads. */
const others = ['tables', 'smoke', 'custom']

/** Everything that is wrong with the pack's data, each with its path. */
export function dataProblems(data: Data): readonly string[] {
  const regate = data['regate'] ?? {}
  if (!isMap(regate)) return ['data.regate must be an object']
  const problems: string[] = []
  const report: Report = (path, problem) => void problems.push(`${path} ${problem}`)
  for (const [key, given] of Object.entries(regate)) {
    const check = Object.hasOwn(parts, key) ? parts[key] : undefined
    const path = below('data.regate', key)
    if (check !== undefined) check(given, path, report)
    else if (!others.includes(key)) {
      // Data for rules of one's own has a name of its own: only what looks like a slip is one.
      const meant = nearest(key, Object.keys(parts))
      if (meant !== null) report(path, `is unknown; did you mean "${meant}"?`)
    }
  }
  return problems
}
