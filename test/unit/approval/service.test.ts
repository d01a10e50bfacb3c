/** The approval service over both stores: who may decide, single use, expiry, withdrawal, restart. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  approveGrant,
  makeGrant,
  postgresStore,
  findRequest,
  revokeGrant,
  type ApprovalService,
  type HoldEvent,
  type StoreDriver,
} from '../../../src/approval/approval.ts'
import {
  ask,
  embeddedDirectory,
  reviewer,
  startService,
  until,
  type TestService,
} from '../../approval/support.ts'
import { defaultLimits } from '../../../src/core/core.ts'
import { execute, startPostgres, type TestPostgres } from '../../support/postgres.ts'

const dba = reviewer('grace', 'dba')

interface Place {
  readonly driver: StoreDriver
  close(): Promise<void>
}

async function embeddedPlace(): Promise<Place> {
  const { driver, remove } = await embeddedDirectory()
  return { driver, close: remove }
}

async function postgresPlace(): Promise<Place> {
  const server: TestPostgres = await startPostgres()
  await execute(server, 'CREATE DATABASE approvals')
  const url = new URL(server.url('approvals'))
  const password = decodeURIComponent(url.password)
  url.password = ''
  return {
    driver: postgresStore({ url: url.href, password: () => Promise.resolve(password) }),
    close: () => server.stop(),
  }
}

function idOf(event: HoldEvent): string {
  if (event.kind !== 'held') throw new Error(`expected held, got ${JSON.stringify(event)}`)
  return event.id
}

async function approve(service: ApprovalService, id: string, who = dba): Promise<void> {
  await service.decide(id, who, { vote: 'approve', comment: null }, 'api')
}

describe.each([
  ['embedded', embeddedPlace],
  ['PostgreSQL', postgresPlace],
])('%s', (name, open) => {
  /** Of tests with a second service on the same store. */
  const alone = name === 'embedded' ? "the embedded store is one service's alone" : null
  let place: Place
  let made: TestService
  let service: ApprovalService

  beforeAll(async () => {
    place = await open()
    made = startService(place.driver)
    service = made.service
    await service.store.start()
  }, 120_000)

  afterAll(async () => {
    await service.close()
    await place.close()
  })

  test('an approval runs its waiting statement, once', async () => {
    const wish = ask()
    const id = idOf(await service.ask(wish))
    const next = service.next(wish.holdId)
    await approve(service, id)
    expect(await next).toMatchObject({ kind: 'approved', approval: { id, by: ['grace'] } })
    // The same statement again is another request.
    const again = await service.ask({ ...wish, holdId: 'again-1' })
    expect(idOf(again)).not.toBe(id)
    await service.withdraw('again-1', 'cancel')
    expect((await findRequest(service.store, id))?.state).toBe('used')
    expect(made.audit.of('approval_used').length).toBeGreaterThan(0)
  })

  test('sent again within ttl after wait is over, it runs at once', async () => {
    const wish = ask({ waitMs: 50 })
    const id = idOf(await service.ask(wish))
    const over = await service.next(wish.holdId)
    expect(over).toMatchObject({ kind: 'refused', because: 'wait', id })
    await approve(service, id)
    const other = { ...wish, holdId: 'h-other', sessionId: 's-other', waitMs: 20_000 }
    expect(await service.ask(other)).toMatchObject({ kind: 'approved', approval: { id } })
  })

  test('a pending request is waited for again, and does not become two', async () => {
    const wish = ask({ waitMs: 50 })
    const id = idOf(await service.ask(wish))
    await service.next(wish.holdId)
    const second = { ...wish, holdId: 'attach-2', waitMs: 20_000 }
    expect(idOf(await service.ask(second))).toBe(id)
    await approve(service, id)
    expect(await service.next('attach-2')).toMatchObject({ kind: 'approved' })
  })

  test('two that wait for the same statement have a request each', async () => {
    const wish = ask()
    const first = idOf(await service.ask(wish))
    const second = idOf(await service.ask({ ...wish, holdId: 'twin' }))
    expect(second).not.toBe(first)
    await approve(service, second)
    expect(await service.next('twin')).toMatchObject({ kind: 'approved', approval: { id: second } })
    expect((await findRequest(service.store, first))?.state).toBe('pending')
    await service.withdraw(wish.holdId, 'cancel')
  })

  test('another binding does not use it', async () => {
    const wish = ask({ waitMs: 50 })
    const id = idOf(await service.ask(wish))
    await service.next(wish.holdId)
    await approve(service, id)
    const changed = { ...wish, holdId: 'changed', binding: 'something else', waitMs: 10 }
    expect((await service.ask(changed)).kind).toBe('held')
    expect((await service.next('changed')).kind).toBe('refused')
    expect((await findRequest(service.store, id))?.state).toBe('approved')
  })

  test('an approval of fewer people than are asked now does not run it', async () => {
    const binding = 'asked-of-more'
    const night = [{ groups: ['dba'], quorum: 2 }]
    const first = ask({ binding, waitMs: 30 })
    const id = idOf(await service.ask(first))
    expect(await service.next(first.holdId)).toMatchObject({ because: 'wait' })
    await approve(service, id)
    const later = ask({ binding, requirements: night })
    const other = idOf(await service.ask(later))
    expect(other).not.toBe(id)
    const next = service.next(later.holdId)
    await approve(service, other)
    await approve(service, other, reviewer('ken', 'dba'))
    expect(await next).toMatchObject({ kind: 'approved', approval: { by: ['grace', 'ken'] } })
    // A request that still waits for one person is not waited for by who needs two.
    const pending = ask({ binding: 'pending-of-one', waitMs: 30 })
    const one = idOf(await service.ask(pending))
    expect(await service.next(pending.holdId)).toMatchObject({ because: 'wait' })
    const harder = ask({ binding: 'pending-of-one', requirements: night })
    const two = idOf(await service.ask(harder))
    expect(two).not.toBe(one)
    await approve(service, one)
    expect((await findRequest(service.store, two))?.state).toBe('pending')
    await service.withdraw(harder.holdId, 'cancel')
  })

  test('of two instances one uses an approval', async ({ skip }) => {
    if (alone !== null) skip(alone)
    const other = startService(place.driver)
    try {
      const wish = ask({ waitMs: 50 })
      const id = idOf(await service.ask(wish))
      await service.next(wish.holdId)
      await approve(service, id)
      const asks = Array.from({ length: 10 }, (_none, index) =>
        (index % 2 === 0 ? service : other.service).ask({
          ...wish,
          holdId: `race-${index}`,
          waitMs: 100,
        }),
      )
      const events = await Promise.all(asks)
      const approved = events.filter(({ kind }) => kind === 'approved')
      expect(approved).toHaveLength(1)
      for (const [index, event] of events.entries()) {
        const on = index % 2 === 0 ? service : other.service
        if (event.kind === 'held') await on.withdraw(`race-${index}`, 'cancel')
      }
    } finally {
      await other.service.close()
    }
  })

  test('nobody decides on a request of their own, under any of their names', async () => {
    const wish = ask({
      identity: {
        ...{ subject: 'agent-7', user: 'agent-7', email: 'Ann@Example.com', groups: ['agents'] },
        ...{ type: 'machine', on_behalf_of: 'ann', method: 'oidc', issuer: 'https://id' },
      },
    })
    const id = idOf(await service.ask(wish))
    const yes = { vote: 'approve', comment: null } as const
    for (const self of [
      reviewer('agent-7', 'dba'),
      reviewer('ann', 'dba'),
      reviewer('ANN', 'dba', 'security'),
      { ...reviewer('other-login', 'dba'), email: 'ann@example.com' },
      { ...reviewer('bot', 'dba'), onBehalfOf: 'ann' },
      { ...reviewer('sub-1', 'dba'), user: 'Ann' },
    ]) {
      await expect(service.decide(id, self, yes, 'api')).rejects.toMatchObject({
        kind: 'forbidden',
      })
    }
    await expect(service.decide(id, reviewer('eve', 'interns'), yes, 'api')).rejects.toMatchObject({
      kind: 'forbidden',
    })
    expect((await findRequest(service.store, id))?.state).toBe('pending')
    await service.withdraw(wish.holdId, 'cancel')
  })

  test('a quorum is of different people, and every requirement has its own', async () => {
    const requirements = [
      { groups: ['dba'], quorum: 2 },
      { groups: ['security'], quorum: 1 },
    ]
    const wish = ask({ requirements })
    const id = idOf(await service.ask(wish))
    const next = service.next(wish.holdId)
    await approve(service, id, reviewer('grace', 'dba'))
    await expect(approve(service, id, reviewer('grace', 'dba'))).rejects.toMatchObject({
      kind: 'conflict',
    })
    // The same person under another login.
    const twin = { ...reviewer('g.hopper', 'dba'), user: 'Grace' }
    await expect(approve(service, id, twin)).rejects.toMatchObject({ kind: 'conflict' })
    await approve(service, id, reviewer('ken', 'dba'))
    expect((await findRequest(service.store, id))?.state).toBe('pending')
    await approve(service, id, reviewer('mallory', 'security'))
    expect(await next).toMatchObject({
      kind: 'approved',
      approval: { by: ['grace', 'ken', 'mallory'] },
    })
  })

  test('votes that meet at once all count', async () => {
    const wish = ask({ requirements: [{ groups: ['dba'], quorum: 6 }] })
    const id = idOf(await service.ask(wish))
    const next = service.next(wish.holdId)
    const names = ['a', 'b', 'c', 'd', 'e', 'f']
    await Promise.all(names.map((name) => approve(service, id, reviewer(name, 'dba'))))
    expect(await next).toMatchObject({ kind: 'approved' })
  })

  test('a rejection says why, also to one who asks later', async () => {
    const wish = ask()
    const id = idOf(await service.ask(wish))
    const next = service.next(wish.holdId)
    const no = { vote: 'reject', comment: 'not on a Friday' } as const
    await service.decide(id, dba, no, 'api')
    const told = await next
    expect(told).toMatchObject({ kind: 'refused', because: 'rejected', id })
    expect(JSON.stringify(told)).toContain('not on a Friday')
    const late = ask({ waitMs: 20 })
    const lateId = idOf(await service.ask(late))
    await service.next(late.holdId)
    await service.decide(lateId, dba, no, 'api')
    const again = await service.ask({ ...late, holdId: 'late-again' })
    expect(again).toMatchObject({ kind: 'refused', because: 'rejected', id: lateId })
    // Told once; then it may be asked again.
    const fresh = await service.ask({ ...late, holdId: 'late-third', waitMs: 20_000 })
    expect(idOf(fresh)).not.toBe(lateId)
    await service.withdraw('late-third', 'cancel')
  })

  test('what has expired is decided by nobody and used by nobody', async () => {
    const wish = ask({ ttlMs: 100 })
    const id = idOf(await service.ask(wish))
    await until('expired', async () => {
      return (await findRequest(service.store, id))?.state === 'expired'
    })
    await expect(approve(service, id)).rejects.toMatchObject({ kind: 'conflict' })
    expect(await service.next(wish.holdId)).toMatchObject({ kind: 'refused', because: 'expired' })
    const short = ask({ waitMs: 10, ttlMs: 300 })
    const shortId = idOf(await service.ask(short))
    await service.next(short.holdId)
    await approve(service, shortId)
    await until('the approval expired', async () => {
      return (await findRequest(service.store, shortId))?.state === 'expired'
    })
    const again = await service.ask({ ...short, holdId: 'after-expiry', ttlMs: 60_000 })
    expect(again.kind).toBe('held')
    await service.withdraw('after-expiry', 'cancel')
  })

  test('withdrawn is withdrawn', async () => {
    const wish = ask()
    const id = idOf(await service.ask(wish))
    const next = service.next(wish.holdId)
    await service.withdraw(wish.holdId, 'disconnect')
    expect(await next).toMatchObject({ kind: 'refused', because: 'withdrawn' })
    await expect(approve(service, id)).rejects.toMatchObject({ kind: 'conflict' })
    expect(made.audit.of('approval_withdrawn').length).toBeGreaterThan(0)
  })

  test('one that only its own wait may use is over with it', async () => {
    const wish = ask({ waitMs: 20, shareable: false })
    const id = idOf(await service.ask(wish))
    expect(await service.next(wish.holdId)).toMatchObject({ kind: 'refused', because: 'expired' })
    await expect(approve(service, id)).rejects.toMatchObject({ kind: 'conflict' })
  })

  test('open requests of one subject are bounded', async ({ skip }) => {
    if (alone !== null) skip(alone)
    const bounded = startService(place.driver, {
      limits: { holdCountMax: 10, pendingApprovalsMax: 2, approvalsKeptMs: 1e9 },
    })
    try {
      const identity = { ...ask().identity, subject: 'greedy' }
      const wishes = [ask({ identity }), ask({ identity }), ask({ identity })]
      const events = []
      for (const wish of wishes) events.push(await bounded.service.ask(wish))
      expect(events.map(({ kind }) => kind)).toEqual(['held', 'held', 'refused'])
      for (const wish of wishes) await bounded.service.withdraw(wish.holdId, 'cancel')
    } finally {
      await bounded.service.close()
    }
  })

  test('open requests of one subject are bounded, also for asks that meet', async ({ skip }) => {
    if (alone !== null) skip(alone)
    const limits = { ...defaultLimits, pendingApprovalsMax: 3 }
    const identity = { ...ask().identity, subject: 'hasty' }
    const places = [startService(place.driver, { limits }), startService(place.driver, { limits })]
    try {
      for (const { service: one } of places) await one.store.start()
      const wishes = Array.from({ length: 30 }, () => ask({ identity }))
      const events = await Promise.all(
        wishes.map((wish, at) => (places[at % 2] ?? made).service.ask(wish)),
      )
      const held = events.filter(({ kind }) => kind === 'held')
      expect(held).toHaveLength(3)
    } finally {
      for (const { service: one } of places) await one.close()
    }
  })

  test('what was rejected, withdrawn or has expired is no model for a grant', async () => {
    const wish = { forMs: 60_000, statements: 5, comment: null, scope: 'session' } as const
    const rejected = ask()
    const first = idOf(await service.ask(rejected))
    await service.decide(first, dba, { vote: 'reject', comment: 'no' }, 'api')
    const gone = ask()
    const second = idOf(await service.ask(gone))
    await service.withdraw(gone.holdId, 'cancel')
    const old = ask({ ttlMs: 30 })
    const third = idOf(await service.ask(old))
    expect(await service.next(old.holdId)).toMatchObject({ because: 'expired' })
    for (const approval of [first, second, third]) {
      await expect(makeGrant(service, { ...wish, approval }, dba, 'api')).rejects.toMatchObject({
        kind: 'conflict',
      })
    }
  })

  test('a rejection without a reason is none', async () => {
    const wish = ask()
    const id = idOf(await service.ask(wish))
    for (const comment of [null, ' ']) {
      const no = service.decide(id, dba, { vote: 'reject', comment }, 'webhook')
      await expect(no).rejects.toMatchObject({ kind: 'invalid' })
    }
    expect((await findRequest(service.store, id))?.state).toBe('pending')
    await service.withdraw(wish.holdId, 'cancel')
  })

  test('a burst is not held beyond the limit', async ({ skip }) => {
    if (alone !== null) skip(alone)
    const bounded = startService(place.driver, {
      limits: { ...defaultLimits, holdCountMax: 2 },
    })
    try {
      await bounded.service.store.start()
      const events = await Promise.all(
        Array.from({ length: 6 }, () => bounded.service.ask(ask({ waitMs: 30 }))),
      )
      expect(events.filter(({ kind }) => kind === 'held')).toHaveLength(2)
      expect(events.filter(({ kind }) => kind === 'refused')).toHaveLength(4)
    } finally {
      await bounded.service.close()
    }
  })

  test('a grant by shape covers what waits and what comes, so many times', async () => {
    const shape = { shape: 'UPDATE t SET a = $1', shapeKey: 'grant-shape' }
    const first = ask(shape)
    const id = idOf(await service.ask(first))
    const next = service.next(first.holdId)
    const wish = { approval: id, forMs: 60_000, statements: 3, comment: 'ticket 7' }
    const self = reviewer('ann', 'dba')
    await expect(
      makeGrant(service, { ...wish, scope: 'shape' }, self, 'api'),
    ).rejects.toMatchObject({ kind: 'forbidden' })
    const grant = await makeGrant(service, { ...wish, scope: 'shape' }, dba, 'api')
    expect(await next).toMatchObject({ kind: 'approved', approval: { grant: grant.id } })
    const more = await Promise.all(
      Array.from({ length: 8 }, () => service.ask(ask({ ...shape, waitMs: 30 }))),
    )
    expect(more.filter(({ kind }) => kind === 'approved')).toHaveLength(2)
    // Another identity, another shape, a statement that asks for more people: not covered.
    const others = [
      ask({ ...shape, identity: { ...first.identity, subject: 'bob' }, waitMs: 10 }),
      ask({ shapeKey: 'another', waitMs: 10 }),
    ]
    for (const other of others) expect((await service.ask(other)).kind).toBe('held')
  })

  test('a grant covers no statement that asks for other people, and ends when revoked', async () => {
    const session = { sessionId: 'migration' }
    const first = ask(session)
    const id = idOf(await service.ask(first))
    const wish = { approval: id, forMs: 60_000, statements: 50, comment: null }
    const grant = await makeGrant(service, { ...wish, scope: 'session' }, dba, 'api')
    expect(await service.next(first.holdId)).toMatchObject({ kind: 'approved' })
    expect((await service.ask(ask(session))).kind).toBe('approved')
    const harder = ask({
      ...session,
      requirements: [{ groups: ['security'], quorum: 1 }],
      waitMs: 10,
    })
    expect((await service.ask(harder)).kind).toBe('held')
    await expect(
      revokeGrant(service, grant.id, reviewer('ivy', 'interns'), 'api'),
    ).rejects.toMatchObject({ kind: 'forbidden' })
    await revokeGrant(service, grant.id, dba, 'api')
    const after = ask({ ...session, waitMs: 10 })
    expect((await service.ask(after)).kind).toBe('held')
    expect(made.audit.of('grant_revoked')).toHaveLength(1)
  })

  test('a grant needs the quorum of its request', async () => {
    const two = { requirements: [{ groups: ['dba'], quorum: 2 }], sessionId: 'two' }
    const first = ask(two)
    const id = idOf(await service.ask(first))
    const wish = { approval: id, forMs: 60_000, statements: 5, comment: null }
    const grant = await makeGrant(service, { ...wish, scope: 'session' }, dba, 'api')
    expect(grant.state).toBe('pending')
    await expect(approveGrant(service, grant.id, null, dba, 'api')).rejects.toMatchObject({
      kind: 'conflict',
    })
    await approveGrant(service, grant.id, null, reviewer('ken', 'dba'), 'api')
    expect(await service.next(first.holdId)).toMatchObject({ kind: 'approved' })
  })

  test('a restart keeps what is open and tells who waits', async () => {
    const wish = ask()
    const id = idOf(await service.ask(wish))
    const next = service.next(wish.holdId)
    await service.close()
    expect(await next).toMatchObject({ kind: 'refused', because: 'restart', id })
    made = startService(place.driver)
    service = made.service
    const again = { ...wish, holdId: 'after-restart' }
    expect(idOf(await service.ask(again))).toBe(id)
    await approve(service, id)
    expect(await service.next('after-restart')).toMatchObject({ kind: 'approved' })
  })
})
