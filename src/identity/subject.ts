/**
 * Who is connected: the one shape that every authentication method yields. Plain data, immutable for
 * the life of a session; a new token means a new session.
 */

/** How the client proved who it is. */
export type AuthenticationMethod = 'oidc' | 'scram' | 'certificate' | 'trust'

/** An authenticated principal: `input.identity` of a policy and what the audit names. */
export interface Identity {
  /** Stable name of who acts: the token's subject, the SCRAM user, the certificate's name. */
  readonly subject: string
  /** The name that people use. OIDC: `userClaim`, else the subject; never the client's own claim. */
  readonly user: string
  readonly email: string | null
  readonly groups: readonly string[]
  readonly type: 'human' | 'machine'
  /** For whom a machine acts: the `sub` of a token that has an RFC 8693 `act`. */
  readonly on_behalf_of: string | null
  readonly method: AuthenticationMethod
  /** All claims of the token; of a certificate its names; else empty. */
  readonly claims: Readonly<Record<string, unknown>>
  /** The session ends at this wall time (the token's `exp` plus the entry's grace); null is never. */
  readonly expiresAtMs: number | null
}
