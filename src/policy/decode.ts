/**
 * Strict decoding of what a policy answered. A policy's typo must never widen a right, so an unknown
 * key, a wrong type or a missing answer is a fault (the statement is refused), never a default:
 * `{"action": "allow", "mask": {…}}` with its missing `s` is no allow.
 */
import { ProxyError } from '../core/core.ts'
import { canonicalColumn, settingName } from '../sql/sql.ts'
import {
  truncateUnits,
  type ApprovalTerms,
  type ConnectDecision,
  type Mask,
  type ResultLimits,
  type StatementDecision,
  type TruncateUnit,
  type VolatileInput,
} from './decision.ts'

type Fields = Readonly<Record<string, unknown>>

/** All volatile inputs there are (docs/guides/policies.md). */
export const volatileInputs: readonly VolatileInput[] = [
  'parameters',
  'time',
  'session.id',
  'client_address',
  'claims',
  'estimate',
]

const fail = (where: string, what: string): never => {
  throw new ProxyError('policy_fault', `the policy gave a malformed decision: ${where} ${what}`, {
    hint: 'the statement is refused because its decision cannot be trusted; the policy must be corrected',
  })
}

function fields(value: unknown, where: string, known: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return fail(where, `must be an object, is ${JSON.stringify(value)}`)
  }
  for (const key of Object.keys(value)) {
    if (!known.includes(key))
      fail(where, `has the unknown key "${key}" (known: ${known.join(', ')})`)
  }
  return value as Fields
}

function text(value: unknown, where: string): string {
  if (value === undefined || value === null) return ''
  return typeof value === 'string' ? value : fail(where, 'must be a string')
}

function strings(value: unknown, where: string): readonly string[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) return fail(where, 'must be a list of strings')
  return value.map((item) =>
    typeof item === 'string' ? item : fail(where, 'must be a list of strings'),
  )
}

function whole(value: unknown, where: string, least: number): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least) return value
  return fail(where, `must be a whole number of at least ${String(least)}`)
}

const unitsMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
}

/** "30s", "15m", "1h", "500ms", "2d" → milliseconds; undefined where it is no duration. */
export function parseDuration(value: unknown): number | undefined {
  if (typeof value !== 'string') return undefined
  const match = /^(\d{1,9}(?:\.\d{1,6})?)\s*(ms|s|m|min|h|d)$/.exec(value.trim())
  if (match === null) return undefined
  return Math.round(Number(match[1]) * (unitsMs[match[2] ?? ''] ?? NaN))
}

function duration(value: unknown, where: string): number {
  return parseDuration(value) ?? fail(where, 'must be a duration such as "30s" or "15m"')
}

const maskKeys: Readonly<Record<string, readonly string[]>> = {
  null: [],
  constant: ['value'],
  redact: [],
  hash: [],
  partial: ['keep_start', 'keep_end', 'email'],
  bucket: ['size'],
  truncate: ['unit', 'digits'],
  noise: ['ratio'],
}

/** Decodes one mask; throws policy_fault. */
export function decodeMask(value: unknown, where: string): Mask {
  const kind = (value as Fields | null)?.['kind']
  const known =
    typeof kind === 'string' && Object.hasOwn(maskKeys, kind) ? maskKeys[kind] : undefined
  if (known === undefined) {
    return fail(where, `has no known kind (${Object.keys(maskKeys).join(', ')})`)
  }
  const mask = fields(value, where, ['kind', ...known])
  switch (kind) {
    case 'constant': {
      const constant = mask['value']
      const scalar = constant === null || ['string', 'number', 'boolean'].includes(typeof constant)
      if (!scalar) fail(where, 'needs a "value": text, number, boolean or null')
      return { kind, value: constant as string | number | boolean | null }
    }
    case 'partial': {
      if (mask['email'] !== undefined && typeof mask['email'] !== 'boolean') {
        fail(where, 'needs true or false for "email"')
      }
      for (const key of ['keep_start', 'keep_end']) {
        if (mask[key] !== undefined) whole(mask[key], `${where}.${key}`, 0)
      }
      return { ...mask, kind }
    }
    case 'bucket':
      if (!(typeof mask['size'] === 'number' && mask['size'] > 0))
        fail(where, 'needs a "size" above 0')
      return { kind, size: mask['size'] as number }
    case 'truncate': {
      const unit = mask['unit']
      if (unit !== undefined && !truncateUnits.includes(unit as TruncateUnit)) {
        fail(where, `needs a "unit" of ${truncateUnits.join(', ')}`)
      }
      if (mask['digits'] !== undefined) whole(mask['digits'], `${where}.digits`, 0)
      if (unit === undefined && mask['digits'] === undefined)
        fail(where, 'needs "unit" or "digits"')
      return { ...mask, kind }
    }
    case 'noise': {
      const ratio = mask['ratio']
      if (!(typeof ratio === 'number' && ratio > 0 && ratio < 1)) {
        fail(where, 'needs a "ratio" between 0 and 1')
      }
      return { kind, ratio: ratio as number }
    }
    default:
      return { kind: kind as 'null' | 'redact' | 'hash' }
  }
}

function masks(value: unknown): ReadonlyMap<string, Mask> {
  if (value === undefined || value === null) return noMasks
  if (typeof value !== 'object' || Array.isArray(value)) return fail('"masks"', 'must be an object')
  const decoded = new Map<string, Mask>()
  for (const [column, mask] of Object.entries(value)) {
    decoded.set(canonicalColumn(column), decodeMask(mask, `the mask of ${column}`))
  }
  return decoded
}

function approval(value: unknown): ApprovalTerms | null {
  if (value === undefined || value === null) return null
  const terms = fields(value, '"approval"', ['groups', 'quorum', 'wait', 'ttl'])
  const groups = strings(terms['groups'], '"approval.groups"')
  if (groups.length === 0) fail('"approval.groups"', 'must name at least one group')
  const option = (key: 'wait' | 'ttl') =>
    terms[key] === undefined ? null : duration(terms[key], `"approval.${key}"`)
  return {
    groups,
    quorum: terms['quorum'] === undefined ? 1 : whole(terms['quorum'], '"approval.quorum"', 1),
    waitMs: option('wait'),
    ttlMs: option('ttl'),
  }
}

function limits(value: unknown): ResultLimits | null {
  if (value === undefined || value === null) return null
  const given = fields(value, '"limits"', ['rows', 'bytes', 'time', 'budget'])
  const count = (key: string) =>
    given[key] === undefined || given[key] === null ? null : whole(given[key], `"limits.${key}"`, 0)
  const time = given['time'] ?? null
  const budget = given['budget'] ?? null
  return {
    rows: count('rows'),
    bytes: count('bytes'),
    timeMs: time === null ? null : duration(time, '"limits.time"'),
    budget: budget === null ? null : decodeBudget(budget),
  }
}

function decodeBudget(value: unknown): { readonly rows: number; readonly windowMs: number } {
  const given = fields(value, '"limits.budget"', ['rows', 'per'])
  return {
    rows: whole(given['rows'], '"limits.budget.rows"', 0),
    windowMs: duration(given['per'], '"limits.budget.per"'),
  }
}

const noMasks: ReadonlyMap<string, Mask> = new Map()
const noSettings: ReadonlyMap<string, string> = new Map()
const statementKeys = ['action', 'reason', 'rule', 'hint', 'masks', 'approval', 'limits', 'asks']
const connectKeys = ['action', 'reason', 'rule', 'hint', 'role', 'settings', 'locked']

/** OPA's result set, `[{"result": …}]`, to the one result in it. Undefined is a fault, never an allow. */
export function decodeResultSet(json: string, entrypoint: string): unknown {
  let set: unknown
  try {
    set = JSON.parse(json)
  } catch (cause) {
    throw new ProxyError('policy_fault', `the policy's answer to ${entrypoint} is not JSON`, {
      cause,
    })
  }
  const first: unknown = Array.isArray(set) && set.length === 1 ? set[0] : undefined
  const result = (first as Fields | undefined)?.['result']
  if (result === undefined) {
    throw new ProxyError('policy_fault', `the policy has no decision: ${entrypoint} is undefined`, {
      hint: 'give the decision rule a default, so that every input has an answer',
    })
  }
  return result
}

/** Decodes the answer of `regate/statement/decision`; throws policy_fault. */
export function decodeStatementDecision(result: unknown): StatementDecision {
  const given = fields(result, 'it', statementKeys)
  const action = given['action']
  if (action !== 'allow' && action !== 'deny' && action !== 'mask' && action !== 'approve') {
    return fail('"action"', `must be allow, deny, mask or approve, is ${JSON.stringify(action)}`)
  }
  const decodedMasks = masks(given['masks'])
  const decodedApproval = approval(given['approval'])
  if (action === 'mask' && given['masks'] === undefined) fail('"masks"', 'is missing beside "mask"')
  if (action === 'approve' && decodedApproval === null)
    fail('"approval"', 'is missing beside "approve"')
  const asks = strings(given['asks'], '"asks"')
  for (const name of asks) {
    if (!volatileInputs.includes(name as VolatileInput)) fail('"asks"', `names no input: ${name}`)
  }
  const masked = decodedMasks.size > 0
  return {
    action: action === 'allow' && masked ? 'mask' : action === 'mask' && !masked ? 'allow' : action,
    reason: text(given['reason'], '"reason"'),
    rule: text(given['rule'], '"rule"'),
    hint: text(given['hint'], '"hint"'),
    masks: decodedMasks,
    approval: decodedApproval,
    limits: limits(given['limits']),
    asks: asks as readonly VolatileInput[],
  }
}

/** Decodes the answer of `regate/connect/decision`; throws policy_fault. */
export function decodeConnectDecision(result: unknown): ConnectDecision {
  const given = fields(result, 'it', connectKeys)
  const action = given['action']
  if (action !== 'allow' && action !== 'deny') {
    return fail('"action"', `must be allow or deny, is ${JSON.stringify(action)}`)
  }
  const role = given['role'] ?? null
  if (role !== null && typeof role !== 'string') fail('"role"', 'must be a string')
  return {
    action,
    reason: text(given['reason'], '"reason"'),
    rule: text(given['rule'], '"rule"'),
    hint: text(given['hint'], '"hint"'),
    role: role as string | null,
    settings: decodeSettings(given['settings']),
    locked: strings(given['locked'], '"locked"').map(settingName),
  }
}

function decodeSettings(value: unknown): ReadonlyMap<string, string> {
  if (value === undefined || value === null) return noSettings
  if (typeof value !== 'object' || Array.isArray(value))
    return fail('"settings"', 'must be an object')
  const settings = new Map<string, string>()
  for (const [name, setting] of Object.entries(value)) {
    if (!/^[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)*$/i.test(name)) {
      fail('"settings"', `has the name "${name}", which is no setting of PostgreSQL`)
    }
    const scalar = ['string', 'number', 'boolean'].includes(typeof setting)
    if (!scalar) fail(`"settings.${name}"`, 'must be a string, number or boolean')
    const rendered = String(setting)
    if (rendered.includes('\0')) fail(`"settings.${name}"`, 'holds a NUL')
    settings.set(settingName(name), rendered)
  }
  return settings
}
