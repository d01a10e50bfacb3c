/**
 * Which entry of `authentication:` decides, as pg_hba.conf does: the first whose `match` fits. The
 * entries directly behind it that have the same `match` and can share its exchange join it: several
 * issuers behind one password prompt, SCRAM and OAUTHBEARER in one SASL offer.
 */
import { BlockList, isIP } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { isLoopback, plainAddress } from './source.ts'
import type {
  AuthenticationEntry,
  CertificateEntry,
  EntryMatch,
  OidcEntry,
  ScramEntry,
  TrustEntry,
} from './options.ts'

/** What an entry's `match` is compared with. */
export interface MatchFacts {
  readonly user: string
  readonly database: string
  /** null: a Unix socket. */
  readonly address: string | null
  readonly tls: boolean
  /** A client certificate that was verified. */
  readonly certificate: boolean
}

/** What the client is asked for. */
export type Offer =
  | {
      readonly kind: 'sasl'
      readonly scram: ScramEntry | null
      readonly oidc: readonly OidcEntry[]
    }
  | { readonly kind: 'password'; readonly oidc: readonly OidcEntry[] }
  | { readonly kind: 'certificate'; readonly entry: CertificateEntry }
  | { readonly kind: 'trust'; readonly entry: TrustEntry }
  | { readonly kind: 'none' }

/** The offer of the first entry that fits; `none` where no entry does. */
export function selectOffer(entries: readonly AuthenticationEntry[], facts: MatchFacts): Offer {
  const index = entries.findIndex((entry) => matches(entry.match, facts))
  const first = entries[index]
  if (first === undefined) return { kind: 'none' }
  if (first.method === 'certificate') return { kind: 'certificate', entry: first }
  if (first.method === 'trust') return { kind: 'trust', entry: first }
  const rest = entries.slice(index)
  const foreign = rest.findIndex((entry) => !sharesOffer(first, entry))
  const joined = foreign === -1 ? rest : rest.slice(0, foreign)
  const scram = joined.find((entry) => entry.method === 'scram') ?? null
  const oidc = joined.filter((entry) => entry.method === 'oidc')
  const usesSasl = scram !== null || oidc.some((entry) => entry.flow === 'sasl')
  return usesSasl ? { kind: 'sasl', scram, oidc } : { kind: 'password', oidc }
}

/** An entry that wants the cleartext password joins only its like. */
function sharesOffer(first: OidcEntry | ScramEntry, entry: AuthenticationEntry): boolean {
  if (entry.method !== 'oidc' && entry.method !== 'scram') return false
  if (!isDeepStrictEqual(entry.match ?? {}, first.match ?? {})) return false
  return wantsPassword(first) === wantsPassword(entry)
}

function wantsPassword(entry: OidcEntry | ScramEntry): boolean {
  return entry.method === 'oidc' && entry.flow === 'password'
}

/** Does the entry fit? `null` and missing fields fit everything. */
export function matches(match: EntryMatch | null, facts: MatchFacts): boolean {
  if (match === null) return true
  if (match.tls !== undefined && match.tls !== facts.tls) return false
  if (match.certificate !== undefined && match.certificate !== facts.certificate) return false
  if (match.user !== undefined && !match.user.some((name) => matchesName(name, facts.user)))
    return false
  if (
    match.database !== undefined &&
    !match.database.some((name) => matchesName(name, facts.database))
  ) {
    return false
  }
  return match.address === undefined || match.address.some((block) => inBlock(block, facts.address))
}

function matchesName(pattern: string, name: string): boolean {
  if (pattern === 'all') return true
  return pattern.startsWith('/') ? new RegExp(pattern.slice(1), 'u').test(name) : pattern === name
}

/** Is the address in a CIDR block, the single address, or `loopback`? A Unix socket is loopback. */
export function inBlock(block: string, address: string | null): boolean {
  if (block === 'all') return true
  if (address === null) return block === 'loopback'
  if (block === 'loopback') return isLoopback(address)
  const family = isIP(plainAddress(address))
  const [base = '', prefix] = block.split('/')
  const baseFamily = isIP(base)
  if (family === 0 || baseFamily === 0 || family !== baseFamily) return false
  const list = new BlockList()
  const name = baseFamily === 4 ? 'ipv4' : 'ipv6'
  list.addSubnet(base, prefix === undefined ? (baseFamily === 4 ? 32 : 128) : Number(prefix), name)
  return list.check(plainAddress(address), name)
}

/** What is wrong with a match pattern, for the configuration loader; null where nothing is. */
export function matchFault(match: EntryMatch): string | null {
  for (const pattern of [...(match.user ?? []), ...(match.database ?? [])]) {
    if (!pattern.startsWith('/')) continue
    try {
      new RegExp(pattern.slice(1), 'u')
    } catch {
      return `${pattern} is no regular expression`
    }
  }
  for (const block of match.address ?? []) {
    if (block === 'all' || block === 'loopback') continue
    const [base = '', prefix] = block.split('/')
    const bitsMax = isIP(base) === 4 ? 32 : isIP(base) === 6 ? 128 : -1
    const bits = prefix === undefined ? bitsMax : /^\d{1,3}$/.test(prefix) ? Number(prefix) : -1
    if (bitsMax < 0 || bits < 0 || bits > bitsMax) return `${block} is no address or CIDR block`
  }
  return null
}
