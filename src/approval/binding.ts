/**
 * What an approval is for, as one hash: equal only where everything that was judged, shown to the
 * reviewers and may decide what the bytes mean is equal. JSON of a list in fixed order: no two
 * different lists have one text.
 */
import { createHash } from 'node:crypto'
import type { Requester } from './messages.ts'

/** Everything that an approval binds. */
export interface Bound {
  readonly text: string
  readonly protocol: 'simple' | 'extended'
  /** Types that Parse declared; they choose between overloads. */
  readonly parameterTypes: readonly number[]
  readonly parameterFormats: readonly number[]
  readonly parameters: readonly (Buffer | null)[] | null
  readonly identity: Requester
  readonly database: string
  /** Key of the upstream role, and the role that SET ROLE chose. */
  readonly role: string
  readonly currentRole: string
  readonly searchPath: readonly string[]
  /** Other settings that decide what a text means, by name. */
  readonly settings: Readonly<Record<string, string>>
  readonly revision: string
  readonly catalog: string
  /** What makes an unshareable ask unlike any other; '' for one that may be sent again. */
  readonly only: string
}

/** SHA-256, hexadecimal. */
export function bindingOf(bound: Bound): string {
  const { identity } = bound
  const parts = [
    'regate approval 1',
    bound.text,
    bound.protocol,
    bound.parameterTypes,
    bound.parameterFormats,
    bound.parameters?.map((value) => (value === null ? null : value.toString('base64'))) ?? null,
    [
      identity.subject,
      identity.user,
      identity.email,
      [...identity.groups].sort(),
      identity.type,
      identity.on_behalf_of,
      identity.method,
      identity.issuer,
    ],
    bound.database,
    bound.role,
    bound.currentRole,
    bound.searchPath,
    Object.entries(bound.settings).sort(([a], [b]) => (a < b ? -1 : 1)),
    bound.revision,
    bound.catalog,
    bound.only,
  ]
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex')
}
