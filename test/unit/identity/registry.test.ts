/** Failed attempts and revocations, with a clock of our own. */
import { describe, expect, it } from 'vitest'
import { AttemptLimiter } from '../../../src/identity/attempts.ts'
import { RevocationList } from '../../../src/identity/revocation.ts'
import type { Identity } from '../../../src/identity/subject.ts'

function fakeClock(startMs = 1_000_000) {
  const clock = { atMs: startMs, nowMs: () => clock.atMs, monotonicUs: () => clock.atMs * 1000 }
  return clock
}

const limits = { perSourceMax: 6, perUserMax: 12, perSourceAndUserMax: 3, windowMs: 60_000 }

describe('failed attempts', () => {
  it('stop a source that guesses the password of one user, and no other', () => {
    const limiter = new AttemptLimiter(limits, fakeClock())
    for (let count = 0; count < 3; count++) {
      expect(limiter.allows('1.1.1.1', 'ann')).toBe(true)
      limiter.failed('1.1.1.1', 'ann')
    }
    expect(limiter.allows('1.1.1.1', 'ann')).toBe(false)
    expect(limiter.allows('1.1.1.1', 'bob')).toBe(true)
    expect(limiter.allows('2.2.2.2', 'ann')).toBe(true)
  })

  it('stop a source that tries many users', () => {
    const limiter = new AttemptLimiter(limits, fakeClock())
    for (let count = 0; count < 6; count++) limiter.failed('1.1.1.1', `user${count}`)
    expect(limiter.allows('1.1.1.1', 'new')).toBe(false)
    expect(limiter.allows('2.2.2.2', 'new')).toBe(true)
  })

  it('stop many sources that guess one user', () => {
    const limiter = new AttemptLimiter(limits, fakeClock())
    for (let count = 0; count < 12; count++) limiter.failed(`1.1.1.${count}`, 'ann')
    expect(limiter.allows('9.9.9.9', 'ann')).toBe(false)
    expect(limiter.allows('9.9.9.9', 'bob')).toBe(true)
  })

  it('leak away over the window', () => {
    const clock = fakeClock()
    const limiter = new AttemptLimiter(limits, clock)
    for (let count = 0; count < 3; count++) limiter.failed('1.1.1.1', 'ann')
    expect(limiter.allows('1.1.1.1', 'ann')).toBe(false)
    clock.atMs += 20_000
    expect(limiter.allows('1.1.1.1', 'ann')).toBe(true)
    limiter.failed('1.1.1.1', 'ann')
    expect(limiter.allows('1.1.1.1', 'ann')).toBe(false)
  })

  it('are forgiven to the pair by a success, not to the source', () => {
    const limiter = new AttemptLimiter(limits, fakeClock())
    for (let round = 0; round < 3; round++) {
      limiter.failed('1.1.1.1', 'ann')
      limiter.failed('1.1.1.1', 'ann')
      limiter.succeeded('1.1.1.1', 'ann')
    }
    expect(limiter.allows('1.1.1.1', 'ann')).toBe(false)
  })
})

describe('revocation', () => {
  const identity = (over: Partial<Identity> = {}): Identity => ({
    subject: 'ann',
    user: 'ann@example.com',
    email: null,
    groups: [],
    type: 'human',
    on_behalf_of: null,
    method: 'oidc',
    claims: { iat: 900 },
    expiresAtMs: null,
    ...over,
  })

  it('of a subject ends sessions that began before and refuses tokens issued before', () => {
    const clock = fakeClock()
    const list = new RevocationList(clock)
    const version = list.version
    list.revokeSubject('ann')
    expect(list.version).toBeGreaterThan(version)
    expect(list.endsSession('s1', identity(), 999_000)).toBe(true)
    expect(list.endsSession('s1', identity(), 1_000_001)).toBe(false)
    expect(list.refusesLogin(identity())).toBe(true)
    expect(list.refusesLogin(identity({ claims: { iat: 1_000 } }))).toBe(true)
    expect(list.refusesLogin(identity({ claims: { iat: 1_001 } }))).toBe(false)
    expect(list.refusesLogin(identity({ claims: {} }))).toBe(true)
    expect(list.refusesLogin(identity({ subject: 'bob', user: 'bob' }))).toBe(false)
  })

  it('reaches those who act on the subject’s behalf', () => {
    const list = new RevocationList(fakeClock())
    list.revokeSubject('ann')
    const agent = identity({ subject: 'agent', user: 'agent', on_behalf_of: 'ann' })
    expect(list.endsSession('s1', agent, 1)).toBe(true)
    expect(list.refusesLogin(agent)).toBe(true)
  })

  it('blocks every credential while it says so, and other than tokens only then', () => {
    const clock = fakeClock()
    const list = new RevocationList(clock)
    const scram = identity({ method: 'scram', claims: {} })
    list.revokeSubject('ann')
    expect(list.refusesLogin(scram)).toBe(false)
    list.revokeSubject('ann', clock.atMs + 60_000)
    expect(list.refusesLogin(scram)).toBe(true)
    expect(list.refusesLogin(identity({ claims: { iat: 5_000 } }))).toBe(true)
    clock.atMs += 60_000
    expect(list.refusesLogin(scram)).toBe(false)
    list.restoreSubject('ann')
    expect(list.refusesLogin(identity())).toBe(false)
  })

  it('of a session ends that session', () => {
    const list = new RevocationList(fakeClock())
    list.revokeSession('s1')
    expect(list.endsSession('s1', identity(), 2_000_000)).toBe(true)
    expect(list.endsSession('s2', identity(), 1)).toBe(false)
  })
})
