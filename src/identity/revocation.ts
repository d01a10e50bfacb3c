/**
 * Who may no longer act: by subject or by session, set through the admin API, effective at the next
 * statement. Entries are plain data so that the control plane can hand them to workers.
 *
 * A subject's revocation refuses all tokens issued up to that moment and ends all sessions begun up
 * to it; what the issuer signs afterwards counts again. It reaches those who act on the subject's
 * behalf too.
 */
import type { Clock } from '../core/core.ts'
import type { Identity } from './subject.ts'

export type Revocation =
  | {
      readonly kind: 'subject'
      readonly subject: string
      readonly atMs: number
      readonly untilMs: number | null
    }
  | { readonly kind: 'session'; readonly session: string; readonly atMs: number }

/** A revocation, or one that was taken back. */
export type RevocationChange = Revocation | { readonly kind: 'restore'; readonly subject: string }

/** Session revocations are forgotten after this many newer ones: those sessions are long gone. */
const sessionCountMax = 100_000

/** The revocations that a process knows. */
export class RevocationList {
  readonly #clock: Clock
  readonly #subjects = new Map<string, Extract<Revocation, { kind: 'subject' }>>()
  readonly #sessions = new Set<string>()
  /** Grows with every change: a session compares it and asks only when it moved. */
  #version = 0
  #listener: (change: RevocationChange) => void = () => undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get version(): number {
    return this.#version
  }

  /** Calls back after each change; one listens: the server of a process, or who hands it on. */
  onChange(listener: (change: RevocationChange) => void): void {
    this.#listener = listener
  }

  /** Adds one; a later revocation of the same subject replaces the earlier. */
  add(revocation: Revocation): void {
    this.#version++
    if (revocation.kind === 'subject') this.#subjects.set(revocation.subject, revocation)
    else this.#sessions.add(revocation.session)
    const oldest = this.#sessions.values().next()
    if (this.#sessions.size > sessionCountMax && !oldest.done) this.#sessions.delete(oldest.value)
    this.#listener(revocation)
  }

  /** Refuses everything of the subject up to now; `untilMs` blocks new tokens too, up to then. */
  revokeSubject(subject: string, untilMs: number | null = null): Revocation {
    const revocation: Revocation = { kind: 'subject', subject, atMs: this.#clock.nowMs(), untilMs }
    this.add(revocation)
    return revocation
  }

  revokeSession(session: string): Revocation {
    const revocation: Revocation = { kind: 'session', session, atMs: this.#clock.nowMs() }
    this.add(revocation)
    return revocation
  }

  /** Takes a subject's revocation back. */
  restoreSubject(subject: string): void {
    if (!this.#subjects.delete(subject)) return
    this.#version++
    this.#listener({ kind: 'restore', subject })
  }

  list(): readonly Revocation[] {
    return [...this.#subjects.values()]
  }

  /**
   * At login. A token counts from its `iat` (without one, as old); other credentials have no date, so
   * only `untilMs` refuses them.
   */
  refusesLogin(identity: Identity): boolean {
    if (identity.method !== 'oidc') return this.#refuses(identity, Number.POSITIVE_INFINITY)
    const issued = identity.claims['iat']
    // `iat` has whole seconds: of two in the same second the revocation wins.
    const issuedAtMs = typeof issued === 'number' ? issued * 1000 : Number.NEGATIVE_INFINITY
    return this.#refuses(identity, issuedAtMs)
  }

  /** In a session: has it to end? */
  endsSession(session: string, identity: Identity, startedAtMs: number): boolean {
    return this.#sessions.has(session) || this.#refuses(identity, startedAtMs)
  }

  /** Is something that began then revoked, of whoever has one of these names? */
  revokedSince(names: readonly (string | null | undefined)[], sinceMs: number): boolean {
    return names.some((name) => typeof name === 'string' && this.#refusesName(name, sinceMs))
  }

  #refuses(identity: Identity, sinceMs: number): boolean {
    const { subject, on_behalf_of: behalf, user } = identity
    return [subject, behalf, user].some((name) => name !== null && this.#refusesName(name, sinceMs))
  }

  #refusesName(name: string, sinceMs: number): boolean {
    const revocation = this.#subjects.get(name)
    if (revocation === undefined) return false
    const { atMs, untilMs } = revocation
    return sinceMs <= atMs || (untilMs !== null && this.#clock.nowMs() < untilMs)
  }
}
