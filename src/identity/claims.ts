/**
 * Claims → identity: paths into a token's claims, required values, groups, human or machine.
 * Pure functions over verified claims; nothing here verifies anything.
 */
import type { Identity } from './subject.ts'
import type { OidcEntry } from './options.ts'

export type Claims = Readonly<Record<string, unknown>>

/** Groups beyond these bounds are a token that was made to hurt. */
const groupCountMax = 1_000
const groupCharactersMax = 512

/** The value at a dotted path; a segment with dots is quoted: `"https://acme.example/groups".roles`. */
export function claimAt(claims: Claims, path: string): unknown {
  // The whole name first: `https://acme.example/groups` is a claim, not a path.
  if (Object.hasOwn(claims, path)) return claims[path]
  let value: unknown = claims
  for (const segment of splitPath(path)) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, segment))
      return undefined
    value = (value as Record<string, unknown>)[segment]
  }
  return value
}

function splitPath(path: string): string[] {
  const segments = path.match(/"(?:[^"\\]|\\.)*"|[^.]+/g) ?? []
  return segments.map((segment) =>
    segment.startsWith('"') ? segment.slice(1, -1).replace(/\\(.)/g, '$1') : segment,
  )
}

function textAt(claims: Claims, path: string): string | null {
  const value = claimAt(claims, path)
  if (typeof value === 'string' && value !== '') return value
  if (typeof value === 'number' && Number.isFinite(value)) return String(value)
  return null
}

/** Strings at a path: a list, or one string. Null where it is of another kind or too much. */
function groupsAt(claims: Claims, path: string): readonly string[] | null {
  const value = claimAt(claims, path)
  if (value === undefined || value === null) return []
  const list: readonly unknown[] = Array.isArray(value) ? (value as unknown[]) : [value]
  if (list.length > groupCountMax) return null
  const groups: string[] = []
  for (const item of list) {
    if (typeof item !== 'string' || item.length > groupCharactersMax) return null
    if (item !== '') groups.push(item)
  }
  return groups
}

/** The name of the first required claim that is not there with an allowed value, or null. */
export function missingClaim(
  claims: Claims,
  required: ReadonlyMap<string, readonly string[]>,
): string | null {
  for (const [path, allowed] of required) {
    const value = claimAt(claims, path)
    const values: readonly unknown[] = Array.isArray(value) ? (value as unknown[]) : [value]
    const found = values.some(
      (item) =>
        (typeof item === 'string' || typeof item === 'number' || typeof item === 'boolean') &&
        allowed.some((pattern) => matchesValue(String(item), pattern)),
    )
    if (!found) return path
  }
  return null
}

/** `*` stands for any characters except `/` and `:`, which divide names such as `repo:acme/shop:ref`. */
function matchesValue(value: string, pattern: string): boolean {
  if (!pattern.includes('*')) return value === pattern
  const source = pattern.split('*').map(escapeRegExp).join('[^/:]*')
  return new RegExp(`^${source}$`, 'su').test(value)
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&')
}

/** Why claims that verified make no identity; for the log, never for the client. */
export type ClaimsResult =
  | { readonly kind: 'identity'; readonly identity: Identity }
  | { readonly kind: 'unusable'; readonly reason: string }

/** Maps the verified claims of a token to who it is. */
export function identityOfClaims(claims: Claims, entry: OidcEntry): ClaimsResult {
  const principal = textAt(claims, entry.subjectClaim)
  if (principal === null) return unusable(`the token has no usable ${entry.subjectClaim}`)
  const missing = missingClaim(claims, entry.requiredClaims)
  if (missing !== null) return unusable(`the required claim ${missing} has no allowed value`)
  const groups = new Set<string>()
  for (const path of entry.groupsClaim) {
    const found = groupsAt(claims, path)
    if (found === null) return unusable(`the claim ${path} is no list of group names`)
    for (const group of found) groups.add(entry.groupsPrefix + group)
  }
  for (const group of entry.groups) groups.add(group)
  const actor = textAt(claims, 'act.sub')
  // RFC 8693 §4.1: `sub` is for whom, `act` is who acts; the session belongs to who acts.
  const onBehalfOf =
    actor !== null
      ? principal
      : entry.onBehalfOfClaim === null
        ? null
        : textAt(claims, entry.onBehalfOfClaim)
  const subject = actor ?? principal
  if (hasControls(subject)) return unusable('the subject has control characters')
  const user = entry.userClaim === null ? subject : textAt(claims, entry.userClaim)
  if (user === null || hasControls(user))
    return unusable(`the token has no usable ${entry.userClaim ?? ''}`)
  const expiry = claims['exp']
  if (typeof expiry !== 'number') return unusable('the token has no expiry')
  return {
    kind: 'identity',
    identity: {
      subject,
      user,
      email: verifiedEmail(claims, entry.emailClaim),
      groups: [...groups],
      type: entry.type === 'auto' ? guessType(claims, onBehalfOf) : entry.type,
      on_behalf_of: onBehalfOf,
      method: 'oidc',
      claims,
      expiresAtMs: expiry * 1000 + entry.expiryGraceMs,
    },
  }
}

/** An address that the issuer itself calls unverified is nobody's name. */
function verifiedEmail(claims: Claims, path: string): string | null {
  if (
    path === 'email' &&
    (claims['email_verified'] === false || claims['email_verified'] === 'false')
  ) {
    return null
  }
  return textAt(claims, path)
}

/**
 * Machine: delegated tokens, client credentials (the subject is the client itself, or the issuer says
 * so: Auth0 `gty`, Entra `idtyp`), Kubernetes service accounts, GitHub Actions and GitLab jobs.
 */
function guessType(claims: Claims, onBehalfOf: string | null): 'human' | 'machine' {
  const subject = claims['sub']
  if (onBehalfOf !== null) return 'machine'
  if (claims['gty'] === 'client-credentials' || claims['idtyp'] === 'app') return 'machine'
  if (typeof subject !== 'string') return 'human'
  if (subject === claims['client_id'] || subject === claims['azp']) return 'machine'
  if (subject.startsWith('system:serviceaccount:')) return 'machine'
  const issuer = claims['iss']
  if (issuer === 'https://token.actions.githubusercontent.com') return 'machine'
  return claims['job_id'] !== undefined || claims['kubernetes.io'] !== undefined
    ? 'machine'
    : 'human'
}

function hasControls(text: string): boolean {
  return /[\u0000-\u001f\u007f]/.test(text)
}

function unusable(reason: string): ClaimsResult {
  return { kind: 'unusable', reason }
}
