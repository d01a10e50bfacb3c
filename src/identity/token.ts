/**
 * Bearer tokens → identity. Several issuers at once: the token's own `iss` picks the entry, then
 * everything else is verified against that entry (jose: signature, aud, exp, nbf; ours: algorithm
 * list, lifetime, required claims, revocation, introspection).
 *
 * Invariants: `reason` of a rejection is for the log only and never holds the token; the client is
 * told the same for every reason.
 */
import { decodeJwt, decodeProtectedHeader, errors, jwtVerify, type JWTPayload } from 'jose'
import { z } from 'zod'
import type { Clock } from '../core/core.ts'
import { identityOfClaims, type ClaimsResult } from './claims.ts'
import { Issuer, IssuerError } from './issuer.ts'
import { isAsymmetricAlgorithm, type OidcEntry } from './options.ts'
import type { RevocationList } from './revocation.ts'
import type { Identity } from './subject.ts'

/** What a token is. A rejection's reason is for the log. */
export type TokenResult =
  | { readonly kind: 'identity'; readonly identity: Identity }
  | { readonly kind: 'rejected'; readonly reason: string }

export interface TokenVerifierOptions {
  readonly clock: Clock
  readonly revocations: RevocationList
  readonly log: (message: string, facts: Readonly<Record<string, unknown>>) => void
}

const introspectionSchema = z.looseObject({ active: z.boolean() })

/** Verifies tokens of all configured issuers; keeps their keys. */
export class TokenVerifier {
  readonly #options: TokenVerifierOptions
  readonly #issuers = new Map<OidcEntry, Issuer>()

  constructor(options: TokenVerifierOptions) {
    this.#options = options
  }

  /** The keys of an entry's issuer; made at first use. */
  issuerOf(entry: OidcEntry): Issuer {
    let issuer = this.#issuers.get(entry)
    if (issuer === undefined) {
      issuer = new Issuer({ entry, clock: this.#options.clock, log: this.#options.log })
      this.#issuers.set(entry, issuer)
    }
    return issuer
  }

  /** Who a token is, by the first of the entries whose issuer it names. */
  async verify(token: string, entries: readonly OidcEntry[]): Promise<TokenResult> {
    if (!/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(token)) {
      return rejected('the token is no signed JWT')
    }
    try {
      const named = decodeJwt(token).iss
      const candidates = entries.filter((entry) => entry.issuer === named)
      if (candidates.length === 0) return rejected('the token names no configured issuer')
      let last: TokenResult = rejected('no entry')
      for (const entry of candidates) {
        last = await this.#verifyBy(token, entry)
        if (last.kind === 'identity') return last
      }
      return last
    } catch (error) {
      return rejected(reasonOf(error))
    }
  }

  async #verifyBy(token: string, entry: OidcEntry): Promise<TokenResult> {
    const { clock, revocations } = this.#options
    try {
      const header = decodeProtectedHeader(token)
      const algorithm = header.alg ?? ''
      // Before any key is looked at: HS256 with the public key as secret, and `none`, end here.
      if (!isAsymmetricAlgorithm(algorithm) || !entry.algorithms.includes(algorithm)) {
        return rejected('the signature algorithm is not allowed')
      }
      if (header.crit !== undefined) return rejected('the token has critical extensions')
      if (header.typ !== undefined && !isTokenType(header.typ)) {
        return rejected('the type of the token is not one of an access or ID token')
      }
      const keys = await this.issuerOf(entry).keysFor(header.kid)
      const { payload } = await jwtVerify(token, keys, {
        issuer: entry.issuer,
        audience: [...entry.audience],
        algorithms: [...entry.algorithms],
        clockTolerance: Math.floor(entry.clockSkewMs / 1000),
        currentDate: new Date(clock.nowMs()),
        requiredClaims: ['exp'],
      })
      const early = checkTimes(payload, entry, clock.nowMs())
      if (early !== null) return rejected(early)
      const result: ClaimsResult = identityOfClaims(payload, entry)
      if (result.kind === 'unusable') return rejected(result.reason)
      if (revocations.refusesLogin(result.identity)) return rejected('the subject is revoked')
      if (entry.introspection !== null && !(await this.#isActive(token, entry))) {
        return rejected('the issuer says that the token is not active')
      }
      return { kind: 'identity', identity: result.identity }
    } catch (error) {
      return rejected(reasonOf(error))
    }
  }

  /** RFC 7662. An issuer that does not answer is a no. */
  async #isActive(token: string, entry: OidcEntry): Promise<boolean> {
    const options = entry.introspection
    if (options === null) return true
    const issuer = this.issuerOf(entry)
    const url = options.url ?? (await issuer.introspectionUrl())
    if (url === null) throw new IssuerError('the issuer has no introspection endpoint')
    const secret = await options.clientSecret()
    const credentials = `${encodeURIComponent(options.clientId)}:${encodeURIComponent(secret)}`
    const answer = await issuer.post(url, new URLSearchParams({ token }), {
      'content-type': 'application/x-www-form-urlencoded',
      authorization: `Basic ${Buffer.from(credentials).toString('base64')}`,
    })
    return introspectionSchema.parse(answer).active
  }

  async close(): Promise<void> {
    await Promise.allSettled([...this.#issuers.values()].map((issuer) => issuer.close()))
  }
}

/** RFC 9068 access tokens, and `JWT` as everybody else writes. Not logout or DPoP tokens. */
function isTokenType(type: string): boolean {
  return /^(application\/)?(at\+jwt|jwt)$/i.test(type)
}

/** What jose leaves to us: `iat` in the future, and a lifetime that was meant to be short. */
function checkTimes(payload: JWTPayload, entry: OidcEntry, nowMs: number): string | null {
  const { iat, exp } = payload
  if (iat !== undefined && iat * 1000 > nowMs + entry.clockSkewMs) {
    return 'the token was issued in the future'
  }
  if (entry.lifetimeMsMax !== null) {
    if (iat === undefined || exp === undefined) return 'the token does not say how long it lives'
    if ((exp - iat) * 1000 > entry.lifetimeMsMax) return 'the token lives too long'
  }
  return null
}

/** A short reason without anything of the token. */
function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return 'the token has expired'
  if (error instanceof errors.JWTClaimValidationFailed) {
    return `the claim ${error.claim} is not acceptable (${error.reason})`
  }
  if (error instanceof errors.JWKSNoMatchingKey) return 'the issuer has no such key'
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'the signature is wrong'
  if (error instanceof errors.JOSEError) return `the token is not acceptable (${error.code})`
  if (error instanceof IssuerError) return `the issuer's keys are not available (${error.message})`
  return 'the token could not be verified'
}

function rejected(reason: string): TokenResult {
  return { kind: 'rejected', reason }
}
