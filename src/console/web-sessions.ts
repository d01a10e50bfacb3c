/**
 * Who is signed in at the console. A session lives here, in memory; the browser has only a random
 * name for it in a cookie that no script can read. It ends when it is idle, when it is old, when its
 * subject is revoked, when it is signed out, and with the process.
 *
 * Only a hash of the name is kept, so that nothing that reads this process's memory or a dump of it
 * can take a session over.
 */
import { createHash, randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../core/core.ts'

/** A person who signed in, as the issuer names them. */
export interface Person {
  readonly subject: string
  readonly name: string
  readonly groups: readonly string[]
  /** Other names of the same person. */
  readonly user?: string | null
  readonly email?: string | null
  readonly onBehalfOf?: string | null
}

export interface WebSession {
  readonly person: Person
  readonly startedMs: number
  readonly endsMs: number
  seenMs: number
}

export interface WebSessionOptions {
  readonly clock: Clock
  /** Whoever may no longer act is signed out with their next request. */
  isRevoked(person: Person, sinceMs: number): boolean
}

/** Signed in at the same time; the one that was idle longest makes room. */
const sessionCountMax = 1_000
const idleMsMax = 60 * 60 * 1000
const ageMsMax = 8 * 60 * 60 * 1000

export class WebSessions {
  readonly #options: WebSessionOptions
  readonly #sessions = new LRUCache<string, WebSession>({ max: sessionCountMax })

  constructor(options: WebSessionOptions) {
    this.#options = options
  }

  /** Begins a session; returns the value of its cookie. */
  begin(person: Person): string {
    const name = randomBytes(32).toString('base64url')
    const nowMs = this.#options.clock.nowMs()
    this.#sessions.set(hashOf(name), {
      person,
      startedMs: nowMs,
      endsMs: nowMs + ageMsMax,
      seenMs: nowMs,
    })
    return name
  }

  /** The session of a cookie's value, or null. `touch: false` asks without keeping it alive. */
  find(name: string | null, touch = true): WebSession | null {
    if (name === null) return null
    const key = hashOf(name)
    const session = this.#sessions.get(key)
    if (session === undefined) return null
    const nowMs = this.#options.clock.nowMs()
    const over = nowMs >= session.endsMs || nowMs - session.seenMs >= idleMsMax
    if (over || this.#options.isRevoked(session.person, session.startedMs)) {
      this.#sessions.delete(key)
      return null
    }
    if (touch) session.seenMs = nowMs
    return session
  }

  end(name: string): void {
    this.#sessions.delete(hashOf(name))
  }
}

function hashOf(name: string): string {
  return createHash('sha256').update(name).digest('base64url')
}

/** Cookies of this server. With https the name binds them to exactly this host. */
export class Cookies {
  readonly #secure: boolean

  constructor(secure: boolean) {
    this.#secure = secure
  }

  /** The value of a cookie of ours in a Cookie header; null where it is missing or given twice. */
  read(header: string | undefined, name: string): string | null {
    const wanted = this.#name(name)
    const values = (header ?? '')
      .split(';')
      .map((part) => part.trim())
      .filter((part) => part.startsWith(`${wanted}=`))
      .map((part) => part.slice(wanted.length + 1))
    const [value] = values
    if (value === undefined || values.length > 1 || !/^[\w-]{16,128}$/.test(value)) return null
    return value
  }

  /** `Lax`, not `Strict`: the way back from the issuer is a navigation from another site. */
  write(name: string, value: string, maxAgeSeconds: number): string {
    const secure = this.#secure ? '; Secure' : ''
    return `${this.#name(name)}=${value}; Path=/; Max-Age=${maxAgeSeconds}; HttpOnly; SameSite=Lax${secure}`
  }

  clear(name: string): string {
    return this.write(name, '', 0)
  }

  #name(name: string): string {
    return this.#secure ? `__Host-${name}` : name
  }
}
