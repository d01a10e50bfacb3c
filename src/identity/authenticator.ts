/**
 * The authentication of one client, as messages: which entry applies, what is asked, who it is.
 * Sans-I/O but for the keys of issuers; the handshake (server) moves the bytes and keeps the time.
 *
 * Invariants: every failure of a credential is the same error, whatever was wrong with it; `reason`
 * is for the log; a limit on failed attempts is checked before a credential is looked at and is told
 * as any other failure; a token is asked for only where nobody can listen.
 */
import { assert, present, ProxyError, type Clock } from '../core/core.ts'
import {
  decodePassword,
  decodeSaslInitialResponse,
  decodeSaslResponse,
  type Authentication,
  type FrameView,
} from '../wire/wire.ts'
import { AttemptLimiter, type AttemptLimits } from './attempts.ts'
import { identityOfCertificate, type PeerNames } from './certificate.ts'
import { selectOffer, type Offer } from './entries.ts'
import { isLoopback, sourceOf } from './source.ts'
import { discoveryUrlOf } from './issuer.ts'
import {
  isFailureAcknowledged,
  oauthBearerFailure,
  oauthBearerMechanism,
  parseOauthBearer,
} from './oauthbearer.ts'
import type { AuthenticationEntry } from './options.ts'
import type { RevocationList } from './revocation.ts'
import { ScramServer, scramMechanism, scramPlusMechanism, type ScramMechanism } from './scram.ts'
import type { Identity } from './subject.ts'
import { TokenVerifier } from './token.ts'
import { identityOfUser, UsersFile, type LocalUser } from './users.ts'

type Log = (message: string, facts: Readonly<Record<string, unknown>>) => void

export interface AuthenticatorOptions {
  readonly entries: readonly AuthenticationEntry[]
  readonly attemptLimits: AttemptLimits
  /** Told of every failed login, for the other processes that share its limits. */
  readonly onFailedAttempt?: (source: string, user: string) => void
  readonly revocations: RevocationList
  readonly clock: Clock
  /** Operational news: keys fetched, files reloaded. Never a credential. */
  readonly log: Log
}

/** What is known of a client when its StartupMessage is there. */
export interface ConnectionFacts {
  readonly user: string
  readonly database: string
  /** null: a Unix socket. */
  readonly address: string | null
  readonly tls: boolean
  /** The verified certificate of the client. */
  readonly certificate: PeerNames | null
  /** tls-server-end-point of our own certificate; null where there is none. */
  readonly endPoint: Buffer | null
}

/** What to do next. */
export type AuthenticationStep =
  /** Send the message and hand the next PasswordMessage to `answer`. */
  | { readonly kind: 'ask'; readonly message: Authentication }
  /** Done; `message` (AuthenticationSASLFinal) goes before AuthenticationOk. */
  | {
      readonly kind: 'accepted'
      readonly identity: Identity
      readonly message: Authentication | null
    }
  /** Refused: tell the client `error` and nothing else; `reason` is for the log. */
  | { readonly kind: 'refused'; readonly error: ProxyError; readonly reason: string }

/** Authenticates clients; one per process. */
export class Authenticator {
  readonly #options: AuthenticatorOptions
  readonly #tokens: TokenVerifier
  readonly #attempts: AttemptLimiter
  readonly #users: ReadonlyMap<string, UsersFile>

  private constructor(options: AuthenticatorOptions, users: ReadonlyMap<string, UsersFile>) {
    const { clock, revocations, log } = options
    this.#options = options
    this.#users = users
    this.#tokens = new TokenVerifier({ clock, revocations, log })
    this.#attempts = new AttemptLimiter(options.attemptLimits, clock)
  }

  /** Reads the users files; throws UsersError where one cannot be used. */
  static async open(options: AuthenticatorOptions): Promise<Authenticator> {
    const users = new Map<string, UsersFile>()
    for (const entry of options.entries) {
      if (entry.method !== 'scram' || users.has(entry.users)) continue
      users.set(entry.users, await UsersFile.open({ path: entry.users, log: options.log }))
    }
    return new Authenticator(options, users)
  }

  /** Takes over changed users files; call it now and then, and on SIGHUP. */
  async refresh(): Promise<void> {
    await Promise.all([...this.#users.values()].map((file) => file.refresh()))
  }

  /** Begins the authentication of one client. */
  begin(facts: ConnectionFacts): Exchange {
    return new Exchange({
      facts,
      offer: selectOffer(this.#options.entries, {
        ...facts,
        certificate: facts.certificate !== null,
      }),
      tokens: this.#tokens,
      attempts: this.#attempts,
      onFailedAttempt: this.#options.onFailedAttempt ?? (() => undefined),
      revocations: this.#options.revocations,
      usersOf: (path) => present(this.#users.get(path), 'a users file that was not opened'),
    })
  }

  /** A login that failed in another process counts here too. */
  countFailedAttempt(source: string, user: string): void {
    this.#attempts.failed(source, user)
  }

  async close(): Promise<void> {
    await this.#tokens.close()
  }
}

interface ExchangeOptions {
  readonly facts: ConnectionFacts
  readonly offer: Offer
  readonly tokens: TokenVerifier
  readonly attempts: AttemptLimiter
  readonly onFailedAttempt: (source: string, user: string) => void
  readonly revocations: RevocationList
  readonly usersOf: (path: string) => UsersFile
}

type ExchangeState =
  | { readonly kind: 'begin' }
  | { readonly kind: 'password' }
  | { readonly kind: 'mechanism' }
  | { readonly kind: 'scram_first'; readonly scram: ScramServer; readonly user: LocalUser | null }
  | { readonly kind: 'scram_final'; readonly scram: ScramServer; readonly user: LocalUser | null }
  | { readonly kind: 'oauth_first' }
  | { readonly kind: 'oauth_failed'; readonly reason: string; readonly counts: boolean }
  | { readonly kind: 'done' }

/**
 * One client's authentication: begin → password → done, or begin → mechanism → scram_first →
 * scram_final → done, or begin → mechanism → oauth_first → (oauth_failed →) done.
 */
export class Exchange {
  readonly #options: ExchangeOptions
  #state: ExchangeState = { kind: 'begin' }
  /** Whom a failure counts against, beside where it came from. */
  #counted: string

  constructor(options: ExchangeOptions) {
    this.#options = options
    this.#counted = options.facts.user
  }

  /** The first step, before the client has been asked anything. */
  start(): AuthenticationStep {
    assert(this.#state.kind === 'begin', 'an authentication is started once')
    const { offer, facts } = this.#options
    switch (offer.kind) {
      case 'none':
        return this.#noEntry()
      case 'trust':
        return this.#trust(offer.entry.groups, offer.entry.type)
      case 'certificate':
        return this.#certificate()
      case 'password':
        if (!isPrivate(facts)) return needsTls(facts)
        this.#state = { kind: 'password' }
        return { kind: 'ask', message: { kind: 'cleartext_password' } }
      case 'sasl': {
        const mechanisms = this.#mechanisms()
        if (mechanisms.length === 0) return needsTls(facts)
        this.#state = { kind: 'mechanism' }
        return { kind: 'ask', message: { kind: 'sasl', mechanisms } }
      }
    }
  }

  /** The client's answer: the frame of a PasswordMessage ('p'). */
  async answer(view: FrameView): Promise<AuthenticationStep> {
    const state = this.#state
    switch (state.kind) {
      case 'password':
        return this.#token(decodePassword(view))
      case 'mechanism':
        return this.#choose(decodeSaslInitialResponse(view))
      case 'scram_first':
        return this.#scramFirst(state.scram, state.user, decodeSaslResponse(view))
      case 'scram_final':
        return this.#scramFinal(state.scram, state.user, decodeSaslResponse(view))
      case 'oauth_first':
        return this.#oauth(decodeSaslResponse(view))
      case 'oauth_failed':
        if (!isFailureAcknowledged(decodeSaslResponse(view))) {
          throw new ProxyError('protocol_violation', 'malformed OAUTHBEARER message', {
            detail: 'After a failure response only a single 0x01 may follow.',
          })
        }
        return this.#refuse(state.reason, state.counts)
      case 'begin':
      case 'done':
        throw new ProxyError(
          'protocol_violation',
          'a password message came when none was asked for',
        )
    }
  }

  #trust(groups: readonly string[], type: 'human' | 'machine'): AuthenticationStep {
    const { facts } = this.#options
    // The configuration refuses trust beyond loopback; this is what it stands on.
    if (!isLoopback(facts.address)) return this.#noEntry()
    return this.#accept({
      subject: facts.user,
      user: facts.user,
      email: null,
      groups: [...groups],
      type,
      on_behalf_of: null,
      method: 'trust',
      claims: {},
      expiresAtMs: null,
    })
  }

  #certificate(): AuthenticationStep {
    const { offer, facts } = this.#options
    assert(offer.kind === 'certificate', 'the offer is of a certificate')
    if (facts.certificate === null) return this.#refuse('there is no client certificate', true)
    const result = identityOfCertificate(facts.certificate, offer.entry, facts.user)
    if (result.kind === 'rejected') return this.#refuse(result.reason, true)
    return this.#accept(result.identity)
  }

  #mechanisms(): readonly string[] {
    const { offer, facts } = this.#options
    assert(offer.kind === 'sasl', 'the offer is SASL')
    const mechanisms: string[] = []
    if (offer.scram !== null) {
      if (facts.tls && facts.endPoint !== null) mechanisms.push(scramPlusMechanism)
      mechanisms.push(scramMechanism)
    }
    if (offer.oidc.length > 0 && isPrivate(facts)) mechanisms.push(oauthBearerMechanism)
    return mechanisms
  }

  #choose(message: {
    readonly mechanism: string
    readonly response: Buffer | null
  }): Promise<AuthenticationStep> {
    const { mechanism, response } = message
    if (!this.#mechanisms().includes(mechanism)) {
      throw new ProxyError(
        'protocol_violation',
        'client selected an invalid SASL authentication mechanism',
      )
    }
    if (mechanism === oauthBearerMechanism) {
      this.#state = { kind: 'oauth_first' }
      return response === null ? this.#askAgain() : this.#oauth(response)
    }
    const { scram, user } = this.#scramServer(mechanism as ScramMechanism)
    this.#state = { kind: 'scram_first', scram, user }
    return response === null ? this.#askAgain() : this.#scramFirst(scram, user, response)
  }

  /** RFC 4422 §5: a client without an initial response gets an empty challenge. */
  #askAgain(): Promise<AuthenticationStep> {
    return Promise.resolve({
      kind: 'ask',
      message: { kind: 'sasl_continue', data: Buffer.alloc(0) },
    })
  }

  #scramServer(mechanism: ScramMechanism): {
    readonly scram: ScramServer
    readonly user: LocalUser | null
  } {
    const { offer, facts, usersOf } = this.#options
    assert(offer.kind === 'sasl' && offer.scram !== null, 'the offer has SCRAM')
    const { user, verifier } = usersOf(offer.scram.users).lookup(facts.user)
    const channelBinding = facts.tls ? facts.endPoint : null
    const scram = new ScramServer({ mechanism, verifier, doomed: user === null, channelBinding })
    return { scram, user }
  }

  #scramFirst(
    scram: ScramServer,
    user: LocalUser | null,
    data: Buffer,
  ): Promise<AuthenticationStep> {
    const challenge = scram.first(data)
    this.#state = { kind: 'scram_final', scram, user }
    return Promise.resolve({ kind: 'ask', message: { kind: 'sasl_continue', data: challenge } })
  }

  #scramFinal(
    scram: ScramServer,
    user: LocalUser | null,
    data: Buffer,
  ): Promise<AuthenticationStep> {
    const { offer } = this.#options
    const final = scram.final(data)
    if (final === null || user === null) {
      return Promise.resolve(this.#refuse(user === null ? 'no such user' : 'wrong password', true))
    }
    assert(offer.kind === 'sasl' && offer.scram !== null, 'the offer has SCRAM')
    const identity = identityOfUser(user, offer.scram.groups)
    return Promise.resolve(this.#accept(identity, { kind: 'sasl_final', data: final }))
  }

  async #oauth(data: Buffer): Promise<AuthenticationStep> {
    const request = parseOauthBearer(data)
    if (request.kind === 'discovery') {
      return this.#oauthFailure('the client asks where to get a token', false)
    }
    const step = await this.#token(request.token)
    return step.kind === 'refused' ? this.#oauthFailure(step.reason, false) : step
  }

  /** Names the first issuer: RFC 7628 knows one. */
  #oauthFailure(reason: string, counts: boolean): AuthenticationStep {
    const { offer } = this.#options
    assert(offer.kind === 'sasl', 'the offer is SASL')
    const entry = present(offer.oidc[0], 'the offer has an issuer')
    this.#state = { kind: 'oauth_failed', reason, counts }
    const data = oauthBearerFailure(discoveryUrlOf(entry.issuer), entry.scope)
    return { kind: 'ask', message: { kind: 'sasl_continue', data } }
  }

  async #token(token: string): Promise<AuthenticationStep> {
    const { offer, tokens, facts, attempts } = this.#options
    assert(offer.kind === 'sasl' || offer.kind === 'password', 'the offer takes tokens')
    const source = sourceOf(facts.address)
    // Nobody guesses a token, and the name beside it is a wish: counted for that name from everywhere,
    // failures would only keep others of that name out. A NUL is in no user's name.
    this.#counted = `${facts.user}\0${source}`
    if (!attempts.allows(source, this.#counted)) {
      return this.#refuse('too many failed attempts', false)
    }
    const result = await tokens.verify(token, offer.oidc)
    return result.kind === 'identity'
      ? this.#accept(result.identity)
      : this.#refuse(result.reason, true)
  }

  /** The last gate, the same for every method. */
  #accept(identity: Identity, message: Authentication | null = null): AuthenticationStep {
    const { facts, attempts, revocations } = this.#options
    if (!attempts.allows(sourceOf(facts.address), this.#counted)) {
      return this.#refuse('too many failed attempts', false)
    }
    if (revocations.refusesLogin(identity)) return this.#refuse('the subject is revoked', true)
    this.#state = { kind: 'done' }
    attempts.succeeded(sourceOf(facts.address), this.#counted)
    return { kind: 'accepted', identity, message }
  }

  #refuse(reason: string, counts: boolean): AuthenticationStep {
    const { facts, attempts, onFailedAttempt } = this.#options
    this.#state = { kind: 'done' }
    const source = sourceOf(facts.address)
    // Who is over its own limit does not fill that of the user, who may come from elsewhere.
    if (counts && attempts.allows(source, this.#counted)) {
      attempts.failed(source, this.#counted)
      onFailedAttempt(source, this.#counted)
    }
    return { kind: 'refused', error: authenticationFailed(facts.user), reason }
  }

  #noEntry(): AuthenticationStep {
    const { facts } = this.#options
    this.#state = { kind: 'done' }
    return {
      kind: 'refused',
      reason: 'no entry of authentication fits',
      error: new ProxyError(
        'invalid_authorization',
        `no authentication entry for user "${facts.user}", database "${facts.database}", ${facts.tls ? 'TLS encryption' : 'no encryption'}`,
        { hint: 'An administrator has to add an entry to `authentication` in the configuration.' },
      ),
    }
  }
}

/** The one message of all failures. */
function authenticationFailed(user: string): ProxyError {
  return new ProxyError('invalid_password', `authentication failed for user "${user}"`, {
    hint: "Check the user name and the credential; a token may have expired. regate's log has the reason.",
  })
}

function needsTls(facts: ConnectionFacts): AuthenticationStep {
  return {
    kind: 'refused',
    reason: 'a token would have gone over an unencrypted network',
    error: new ProxyError(
      'invalid_authorization',
      `user "${facts.user}" may only connect with TLS encryption`,
      { hint: 'Connect with sslmode=require or better (verify-full checks who answers).' },
    ),
  }
}

function isPrivate(facts: ConnectionFacts): boolean {
  return facts.tls || isLoopback(facts.address)
}
