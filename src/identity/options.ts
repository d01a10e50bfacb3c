/**
 * The entries of `authentication:` as the code wants them: defaults filled in, files
 * named, nothing secret inside. The configuration loader maps its YAML to these types.
 */

/** When an entry applies, as in a line of pg_hba.conf. A field left out fits everything. */
export interface EntryMatch {
  /** Exact names; `/regex` matches a pattern, as in pg_hba.conf since PostgreSQL 16. */
  readonly user?: readonly string[]
  readonly database?: readonly string[]
  /** CIDR blocks, single addresses, or `loopback`. */
  readonly address?: readonly string[]
  /** true: only over TLS; false: only without. */
  readonly tls?: boolean
  /** true: only with a client certificate (that the CA has verified); false: only without. */
  readonly certificate?: boolean
}

interface EntryBase {
  readonly match: EntryMatch | null
  /** Groups that everybody who comes in by this entry has, beside those of the credential. */
  readonly groups: readonly string[]
}

/** Where an opaque or early revoked token is asked about (RFC 7662). */
export interface IntrospectionOptions {
  /** null: `introspection_endpoint` of the discovery document. */
  readonly url: string | null
  readonly clientId: string
  /** Read at each call, so that a rotated secret is taken over. */
  readonly clientSecret: () => Promise<string>
}

export interface OidcEntry extends EntryBase {
  readonly method: 'oidc'
  readonly issuer: string
  /** At least one; the token's `aud` must hold one of them. */
  readonly audience: readonly string[]
  /** `password`: the token is the cleartext password. `sasl`: OAUTHBEARER. `auto`: SASL beside SCRAM. */
  readonly flow: 'auto' | 'password' | 'sasl'
  /** Signature algorithms accepted; symmetric ones and `none` are never. */
  readonly algorithms: readonly string[]
  /** Paths into the claims, dotted: `sub`, `realm_access.roles`; a name with dots may be quoted. */
  readonly subjectClaim: string
  readonly userClaim: string | null
  readonly emailClaim: string
  readonly groupsClaim: readonly string[]
  /** Put before each group that comes from the token (not before `groups`). */
  readonly groupsPrefix: string
  /** Claims that must have one of the given values: an issuer for everybody needs this. */
  readonly requiredClaims: ReadonlyMap<string, readonly string[]>
  readonly type: 'auto' | 'human' | 'machine'
  /** Path of the claim that names for whom a machine acts; null: RFC 8693 `act` alone. */
  readonly onBehalfOfClaim: string | null
  readonly scope: string
  readonly clockSkewMs: number
  /** How long a session outlives its token. */
  readonly expiryGraceMs: number
  /** A token that is valid for longer than this is refused; null: no such rule. */
  readonly lifetimeMsMax: number | null
  /** Keys older than this are fetched again. */
  readonly jwksMaxAgeMs: number
  /** Keys may be this old while the issuer cannot be reached. */
  readonly jwksStaleMs: number
  /** null: from `<issuer>/.well-known/openid-configuration`. */
  readonly jwksUri: string | null
  /** PEM of the CA that signed the issuer's certificate; null: those that come with Node (NODE_EXTRA_CA_CERTS adds). */
  readonly issuerCa: string | null
  readonly introspection: IntrospectionOptions | null
}

export interface ScramEntry extends EntryBase {
  readonly method: 'scram'
  /** Path of users.yaml. */
  readonly users: string
}

export interface CertificateEntry extends EntryBase {
  readonly method: 'certificate'
  /** Which name of the certificate is the subject. */
  readonly subject: 'cn' | 'dn' | 'email' | 'dns' | 'uri'
  /** Taken from the name by the first group of this pattern (anchored); null: the whole name. */
  readonly pattern: string | null
  /** The startup user must be the mapped name, as PostgreSQL demands. */
  readonly matchUser: boolean
  readonly type: 'human' | 'machine'
  /** Organisational units become groups. */
  readonly groupsFromOu: boolean
}

export interface TrustEntry extends EntryBase {
  readonly method: 'trust'
  readonly type: 'human' | 'machine'
}

/** One entry of `authentication:`; see `EntryMatch` for when it applies. */
export type AuthenticationEntry = OidcEntry | ScramEntry | CertificateEntry | TrustEntry

/** Defaults of an OIDC entry; `issuer` and `audience` have none. */
export const oidcEntryDefaults = {
  match: null,
  groups: [],
  flow: 'auto',
  algorithms: [
    'RS256',
    'RS384',
    'RS512',
    'PS256',
    'PS384',
    'PS512',
    'ES256',
    'ES384',
    'ES512',
    'EdDSA',
  ],
  subjectClaim: 'sub',
  userClaim: null,
  emailClaim: 'email',
  groupsClaim: ['groups'],
  groupsPrefix: '',
  requiredClaims: new Map<string, readonly string[]>(),
  type: 'auto',
  onBehalfOfClaim: null,
  scope: 'openid',
  clockSkewMs: 30_000,
  expiryGraceMs: 30_000,
  lifetimeMsMax: null,
  jwksMaxAgeMs: 600_000,
  jwksStaleMs: 86_400_000,
  jwksUri: null,
  issuerCa: null,
  introspection: null,
} as const satisfies Omit<OidcEntry, 'method' | 'issuer' | 'audience'>

/** Algorithms that can never be allowed: anyone who knows the public key could sign. */
export function isAsymmetricAlgorithm(algorithm: string): boolean {
  return /^(RS|PS|ES)(256|384|512)$|^EdDSA$|^Ed25519$/.test(algorithm)
}
