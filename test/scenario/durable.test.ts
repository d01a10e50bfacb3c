/**
 * With `audit.fsync: always` statements wait for the disk. Nothing else does, and nothing overtakes:
 * what the client gets comes in the server's order, what the server gets in the client's.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { benchCatalog } from '../../bench/micro/catalog.ts'
import { defaultLimits, ProxyError } from '../../src/core/core.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { SqlParser } from '../../src/sql/sql.ts'
import { encodeParse, encodeQuery, encodeTerminate, written } from '../../src/wire/wire.ts'
import { loadPack } from '../policy/pack.ts'
import { message, ScriptedSession, typesOf } from '../support/session.ts'

const frame = message
const ready = message('Z', 'I')
const complete = message('C', 'SELECT 1\0')
const row = (value: string): Buffer =>
  message('D', Buffer.from(`\0\x01\0\0\0\x01${value}`, 'latin1'))
const query = (text: string): Buffer => written((to) => encodeQuery(to, text))
const turn = async (): Promise<void> => {
  for (let n = 0; n < 3; n++) await new Promise((resolve) => setImmediate(resolve))
}

let parser: SqlParser
let policy: Policy
beforeAll(async () => {
  parser = await SqlParser.create({ limits: defaultLimits })
  policy = await loadPack({ groups: { admins: { read: ['*'] } } })
})
afterAll(async () => {
  policy.close()
  await parser.close()
})

/** Commits that are not durable yet. */
let syncs: { readonly done: () => void; readonly failed: (error: Error) => void }[] = []
beforeEach(() => {
  syncs = []
})
const onDisk = async (): Promise<void> => {
  syncs.shift()?.done()
  await turn()
}
function scripted(
  more: Partial<ConstructorParameters<typeof ScriptedSession>[0]> = {},
): ScriptedSession {
  return new ScriptedSession({
    ...{ parser, policy, catalog: benchCatalog() },
    commit: () =>
      new Promise<void>((resolve, reject) => {
        syncs.push({ done: resolve, failed: reject })
      }),
    ...more,
  })
}

describe('while a statement waits for the disk', () => {
  it('answers to those before it come in order, at once', async () => {
    const { session, client } = scripted()
    session.clientBytes(query('SELECT aid FROM pgbench_accounts'))
    await turn()
    await onDisk()
    // In one turn of the event loop: rows, and the next statement.
    session.upstreamBytes(Buffer.concat([row('1'), row('2')]))
    session.clientBytes(query('SELECT 2'))
    session.upstreamBytes(row('3'))
    await turn()
    session.upstreamBytes(Buffer.concat([row('4'), complete, ready]))
    await turn()
    const seen = Buffer.concat(client)
    expect(typesOf(client)).toBe('DDDDCZ')
    expect(['1', '2', '3', '4'].map((value) => seen.indexOf(row(value)))).toEqual([0, 12, 24, 36])
  })

  it('nothing goes upstream before it, whatever its own records wait for', async () => {
    let commits = 0
    const { session, upstream } = scripted({
      commit: () =>
        commits++ > 0
          ? undefined
          : new Promise<void>((done, failed) => syncs.push({ done, failed })),
      // A wait that no answer of the server ends.
      port: { recheck: turn },
    })
    session.clientBytes(Buffer.concat([query('SELECT 1 AS first'), query('SELECT * FROM nosuch')]))
    await turn()
    await turn()
    expect(commits).toBe(2)
    expect(upstream).toEqual([])
    await onDisk()
    expect(typesOf(upstream)).toBe('QQ')
    expect(upstream[0]?.includes('AS first')).toBe(true)
  })

  it('and nothing at all where it does not get there', async () => {
    const one = scripted({ port: { recheck: turn } })
    one.session.clientBytes(Buffer.concat([query('SELECT 1'), query('SELECT * FROM nosuch')]))
    await turn()
    await turn()
    expect(syncs).toHaveLength(2)
    syncs[1]?.done()
    syncs[0]?.failed(new ProxyError('audit_unavailable', 'no room'))
    await turn()
    expect(one.upstream).toEqual([])
    expect(one.ended).toMatchObject({ error: { code: 'audit_unavailable' } })
  })

  it.each(['the same packet', 'a packet of its own'])(
    'a Terminate behind it in %s ends the session when it has gone upstream',
    async (how) => {
      const one = scripted()
      const both = [query('SELECT 1'), written((to) => encodeTerminate(to))]
      if (how === 'the same packet') one.session.clientBytes(Buffer.concat(both))
      else for (const bytes of both) one.session.clientBytes(bytes)
      await turn()
      expect(one.upstream).toEqual([])
      expect(one.ended).toBe(null)
      // The client closes its socket now: nobody may take that for a disconnect.
      expect(one.session.terminates).toBe(true)
      one.session.clientBytes(query('SELECT 2 AS behind'))
      await onDisk()
      if (one.ended === null) await onDisk()
      expect(typesOf(one.upstream)).toBe('QX')
      expect(one.ended).toBe('terminated')
    },
  )
})

describe('when the input is ended', () => {
  const commit = (): void => undefined

  it('nothing that came before is looked at any more', async () => {
    const { session, upstream, client } = scripted({ commit })
    const parse = written((to) => encodeParse(to, { name: 'a', text: 'SELECT 1' }))
    // The second Query waits until the first is answered, for it changes what EXECUTE means.
    session.clientBytes(Buffer.concat([query('PREPARE p AS SELECT 1'), query('EXECUTE p'), parse]))
    await turn()
    expect(typesOf(upstream)).toBe('Q')
    expect(session.waiting).toBe('drain')
    session.clientBytes(query('SELECT 2'))
    session.endInput()
    session.clientBytes(query('SELECT 3'))
    session.upstreamBytes(Buffer.concat([message('C', 'PREPARE\0'), ready]))
    await turn()
    expect(typesOf(upstream)).toBe('Q')
    expect(typesOf(client)).toBe('CZ')
    expect(session.quiet).toBe(true)
  })

  it('what is admitted still runs', async () => {
    const { session, upstream } = scripted({ commit })
    session.clientBytes(query('SELECT 1'))
    session.endInput()
    await turn()
    expect(typesOf(upstream)).toBe('Q')
  })
})

it('a cancel that hits a reading of regate is told as a cancel', async () => {
  const message = 'canceling statement due to user request'
  const { session, client, upstream } = scripted({
    commit: () => undefined,
    port: {
      outdated: true,
      refresh: () => Promise.reject(new ProxyError('internal', message, { sqlstate: '57014' })),
    },
  })
  session.clientBytes(query('SELECT aid FROM pgbench_accounts'))
  await turn()
  expect(upstream.toString()).toContain('regate_refused_')
  session.upstreamBytes(Buffer.concat([frame('E', 'SERROR\0C42601\0Mno\0\0'), ready]))
  await turn()
  expect(client.toString()).toContain(`C57014\0M${message}\0`)
})
