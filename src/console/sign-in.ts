/**
 * Signing in at the console by OpenID Connect: authorization code with PKCE, state and nonce. All of
 * the protocol is openid-client's; here is what is kept between the way out and the way back.
 *
 * An attempt belongs to the browser that began it (a cookie of its own), works once, and ends after
 * ten minutes. The tokens are read and forgotten: the console acts by its own session.
 */
import { randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import * as oidc from 'openid-client'
import { isAllowedUrl } from '../identity/identity.ts'
import type { Person } from './web-sessions.ts'

export interface IssuerOptions {
  readonly issuer: string
  readonly clientId: string
  /** Null for a public client, which PKCE alone protects. */
  clientSecret(): Promise<string | null>
  /** Scopes to ask for; `openid` is one of them. */
  readonly scope: string
  /** Verified claims → who it is; a text is the reason why nobody. */
  identify(claims: Readonly<Record<string, unknown>>): Person | string
}

interface Attempt {
  readonly state: string
  readonly nonce: string
  readonly verifier: string
  readonly to: string
  readonly redirectUri: string
}

const attemptCountMax = 1_000
export const attemptSecondsMax = 600

export type SignedIn =
  | { readonly kind: 'person'; readonly person: Person; readonly to: string }
  | { readonly kind: 'failed'; readonly reason: string; readonly error?: unknown }

export class OidcSignIn {
  readonly #options: IssuerOptions
  readonly #attempts = new LRUCache<string, Attempt>({
    max: attemptCountMax,
    ttl: attemptSecondsMax * 1000,
  })
  #configuration: Promise<oidc.Configuration> | null = null

  constructor(options: IssuerOptions) {
    this.#options = options
  }

  /** Where to send the browser, and the value of the cookie that it must come back with. */
  async begin(
    redirectUri: string,
    to: string,
  ): Promise<{ readonly url: string; readonly attempt: string }> {
    const configuration = await this.#discover()
    const attempt: Attempt = {
      ...{ to, redirectUri },
      state: oidc.randomState(),
      nonce: oidc.randomNonce(),
      verifier: oidc.randomPKCECodeVerifier(),
    }
    const url = oidc.buildAuthorizationUrl(configuration, {
      redirect_uri: redirectUri,
      scope: this.#options.scope,
      state: attempt.state,
      nonce: attempt.nonce,
      code_challenge: await oidc.calculatePKCECodeChallenge(attempt.verifier),
      code_challenge_method: 'S256',
    })
    const name = randomBytes(24).toString('base64url')
    this.#attempts.set(name, attempt)
    return { url: url.href, attempt: name }
  }

  /** The way back. `query` is that of the callback, with its question mark. */
  async finish(attemptName: string | null, query: string): Promise<SignedIn> {
    const attempt = attemptName === null ? undefined : this.#attempts.get(attemptName)
    if (attemptName === null || attempt === undefined) {
      return { kind: 'failed', reason: 'This sign-in has expired or began in another browser.' }
    }
    this.#attempts.delete(attemptName)
    const url = new URL(attempt.redirectUri)
    url.search = query
    try {
      const configuration = await this.#discover()
      const answer = await oidc.authorizationCodeGrant(configuration, url, {
        expectedState: attempt.state,
        expectedNonce: attempt.nonce,
        pkceCodeVerifier: attempt.verifier,
        idTokenExpected: true,
      })
      const claims = answer.claims()
      if (claims === undefined) return { kind: 'failed', reason: 'The issuer gave no ID token.' }
      const person = this.#options.identify(claims)
      if (typeof person !== 'string') return { kind: 'person', person, to: attempt.to }
      // Some issuers tell groups only at their userinfo endpoint.
      const more = await this.#userinfo(configuration, answer.access_token, claims.sub)
      const again = more === null ? person : this.#options.identify({ ...more, ...claims })
      if (typeof again === 'string') return { kind: 'failed', reason: again }
      return { kind: 'person', person: again, to: attempt.to }
    } catch (error) {
      return { kind: 'failed', reason: 'The issuer did not confirm the sign-in.', error }
    }
  }

  async #userinfo(
    configuration: oidc.Configuration,
    token: string,
    subject: string,
  ): Promise<Readonly<Record<string, unknown>> | null> {
    if (configuration.serverMetadata().userinfo_endpoint === undefined) return null
    try {
      return await oidc.fetchUserInfo(configuration, token, subject)
    } catch {
      return null
    }
  }

  /** The issuer's endpoints, asked once; again after a failure. */
  async #discover(): Promise<oidc.Configuration> {
    this.#configuration ??= this.#ask()
    try {
      return await this.#configuration
    } catch (error) {
      this.#configuration = null
      throw error
    }
  }

  async #ask(): Promise<oidc.Configuration> {
    const { issuer, clientId } = this.#options
    if (!isAllowedUrl(issuer)) throw new Error(`${issuer} is neither https nor on this machine`)
    const secret = await this.#options.clientSecret()
    return await oidc.discovery(
      new URL(issuer),
      clientId,
      undefined,
      secret === null ? oidc.None() : oidc.ClientSecretBasic(secret),
      // Deprecated to make it stand out; isAllowedUrl lets plain http pass to loopback alone.
      // eslint-disable-next-line @typescript-eslint/no-deprecated
      issuer.startsWith('http:') ? { execute: [oidc.allowInsecureRequests] } : {},
    )
  }
}
