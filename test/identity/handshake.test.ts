/** Startup, TLS, SCRAM and certificates on the client's side, by raw bytes and by real clients. */
import { execFile } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { X509Certificate } from 'node:crypto'
import type tls from 'node:tls'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits } from '../../src/core/core.ts'
import {
  deriveVerifier,
  serverEndPoint,
  writeUser,
  type AuthenticationEntry,
} from '../../src/identity/identity.ts'
import { environmentSecret, type UpstreamTarget } from '../../src/upstream/upstream.ts'
import {
  encodeCancelRequest,
  encodeGssencRequest,
  encodeSslRequest,
  encodeStartup,
  protocolVersions,
  written,
} from '../../src/wire/wire.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { TestAuthority, type Pair } from './support/certificates.ts'
import { errorOf, RawClient } from './support/raw.ts'
import { startRelay, type Relay, type RelayOptions } from './support/relay.ts'

const run = promisify(execFile)
const relays: Relay[] = []
let authority: TestAuthority
let foreign: TestAuthority
let pair: Pair
let directory: string
let users: string

beforeAll(async () => {
  authority = new TestAuthority()
  foreign = new TestAuthority('a foreign CA')
  pair = authority.issue('server', '/CN=localhost', ['DNS:localhost', 'IP:127.0.0.1'])
  directory = mkdtempSync(join(tmpdir(), 'regate-users-'))
  users = join(directory, 'users.yaml')
  const verifier = await deriveVerifier('pencil')
  await writeUser(users, { name: 'ann', verifier, groups: ['engineers'], email: null, type: null })
})
afterAll(() => {
  authority.remove()
  foreign.remove()
  rmSync(directory, { recursive: true, force: true })
})
afterEach(async () => {
  await Promise.all(relays.splice(0).map((relay) => relay.stop()))
})

const scram = (): AuthenticationEntry => ({ method: 'scram', match: null, groups: [], users })
const trust: AuthenticationEntry = {
  method: 'trust',
  match: null,
  groups: ['agents'],
  type: 'machine',
}
const files = (over: Partial<NonNullable<RelayOptions['tls']>> = {}) => ({
  ...pair,
  clientCa: null,
  crl: null,
  ...over,
})

async function relay(
  options: Partial<RelayOptions> & Pick<RelayOptions, 'entries'>,
): Promise<Relay> {
  const started = await startRelay({ target: null, ...options })
  relays.push(started)
  return started
}

async function login(
  port: number,
  user: string,
  password: string | undefined,
  ssl: pg.ClientConfig['ssl'] = false,
  extra: pg.ClientConfig = {},
): Promise<string> {
  const client = new pg.Client({
    host: '127.0.0.1',
    port,
    user,
    password,
    database: 'shop',
    ssl,
    ...extra,
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return 'connected'
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    return `${code ?? ''} ${message}`
  } finally {
    await client.end().catch(() => undefined)
  }
}

describe('SCRAM', () => {
  it('logs in a local user, with channel binding over TLS', async () => {
    const { port, identities } = await relay({ entries: [scram()], tls: files() })
    expect(await login(port, 'ann', 'pencil')).toBe('57P03 hello ann of engineers')
    const ssl = { ca: authority.read(authority.ca), host: 'localhost' }
    expect(await login(port, 'ann', 'pencil', ssl, { enableChannelBinding: true })).toContain(
      'hello ann',
    )
    expect(identities).toMatchObject([{ subject: 'ann', method: 'scram', expiresAtMs: null }, {}])
  })

  it.each([
    ['ann', 'wrong'],
    ['ghost', 'pencil'],
    ['ann', ''],
  ])('refuses %s with %j by the one message', async (user, password) => {
    const { port, identities } = await relay({ entries: [scram()] })
    const client = await RawClient.connect(port)
    client.startup(user)
    await client.next()
    expect(errorOf(await client.scram(password))).toBe(
      `28P01 authentication failed for user "${user}"`,
    )
    expect(await client.next()).toEqual({ kind: 'closed' })
    expect(identities).toEqual([])
  })

  it('gives an unknown user the same salt each time, of the usual form', async () => {
    const { port } = await relay({ entries: [scram()] })
    const challenge = async (user: string): Promise<string> => {
      const client = await RawClient.connect(port)
      client.startup(user)
      await client.next()
      client.sasl('SCRAM-SHA-256', 'n,,n=,r=abcdefgh')
      const said = await client.next()
      client.close()
      if (said.kind !== 'authentication' || said.message.kind !== 'sasl_continue')
        throw new Error('?')
      return said.message.data.toString().replace(/^r=[^,]+/, '')
    }
    const ghost = await challenge('ghost')
    expect(await challenge('ghost')).toBe(ghost)
    expect(await challenge('other')).not.toBe(ghost)
    expect(ghost).toMatch(/^,s=[A-Za-z0-9+/=]{24},i=4096$/)
    expect(await challenge('ann')).toMatch(/^,s=[A-Za-z0-9+/=]{24},i=4096$/)
  })

  it('takes the same time for an unknown user as for a wrong password', async () => {
    const { port } = await relay({ entries: [scram()] })
    const timed = async (user: string): Promise<number> => {
      const client = await RawClient.connect(port)
      client.startup(user)
      await client.next()
      const began = performance.now()
      await client.scram('wrong')
      return performance.now() - began
    }
    // A busy machine adds to single times, not to the least of many.
    const least = { ann: Infinity, ghost: Infinity }
    for (let round = 0; round < 6; round++) {
      least.ann = Math.min(least.ann, await timed('ann'))
      least.ghost = Math.min(least.ghost, await timed('ghost'))
    }
    expect(Math.min(least.ann, least.ghost)).toBeGreaterThan(190)
    expect(Math.abs(least.ann - least.ghost)).toBeLessThan(100)
  })

  it('refuses a client in between that ends TLS itself', async () => {
    const { port } = await relay({ entries: [scram()], tls: files() })
    const client = await RawClient.connect(port)
    await client.upgrade()
    client.startup('ann')
    expect(await client.next()).toMatchObject({
      message: { mechanisms: ['SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'] },
    })
    const other = foreign.issue('between', '/CN=localhost')
    const hash = serverEndPoint(new X509Certificate(foreign.read(other.cert)).raw)
    expect(errorOf(await client.scram('pencil', 'SCRAM-SHA-256-PLUS', hash))).toContain(
      'channel binding',
    )
  })

  it.each(['ec', 'rsa', 'ed25519'] as const)(
    'binds to a certificate with a key of %s',
    async (algorithm) => {
      const own = authority.issue(`srv-${algorithm}`, '/CN=localhost', [], { algorithm })
      const { port } = await relay({ entries: [scram()], tls: files(own) })
      const client = await RawClient.connect(port)
      const secure = await client.upgrade()
      client.startup('ann')
      await client.next()
      const hash = serverEndPoint(secure.getPeerCertificate().raw)
      expect(hash).not.toBeNull()
      expect(await client.scram('pencil', 'SCRAM-SHA-256-PLUS', hash)).toMatchObject({
        message: { kind: 'ok' },
      })
      client.close()
    },
  )

  it('takes over a changed users file, and keeps the old users if it is broken', async () => {
    const path = join(directory, 'changing.yaml')
    copyFileSync(users, path)
    const { port, authenticator, logs } = await relay({
      entries: [{ method: 'scram', match: null, groups: [], users: path }],
    })
    const verifier = await deriveVerifier('second')
    await writeUser(path, { name: 'bob', verifier, groups: [], email: null, type: 'machine' })
    expect(await login(port, 'bob', 'second')).toContain('28P01')
    await authenticator.refresh()
    expect(await login(port, 'bob', 'second')).toContain('hello bob')
    writeFileSync(path, 'ann: { verifier: hunter2 }\n')
    await authenticator.refresh()
    expect(logs.at(-1)).toContain('could not be loaded')
    expect(logs.join()).not.toContain('hunter2')
    expect(await login(port, 'bob', 'second')).toContain('hello bob')
  })
})

describe('trust and entries', () => {
  it('lets in who comes from loopback, with the groups of the entry', async () => {
    const { port, identities } = await relay({ entries: [trust] })
    expect(await login(port, 'robot', undefined)).toBe('57P03 hello robot of agents')
    expect(identities).toMatchObject([{ method: 'trust', type: 'machine' }])
  })

  it('says that no entry fits', async () => {
    const { port } = await relay({ entries: [{ ...trust, match: { user: ['robot'] } }] })
    expect(await login(port, 'ann', undefined)).toMatch(
      /^28000 no authentication entry for user "ann", database "shop", no encryption/,
    )
  })
})

describe('TLS', () => {
  it('is refused with N where there is none', async () => {
    const { port } = await relay({ entries: [trust] })
    const client = await RawClient.connect(port)
    client.send(written(encodeSslRequest))
    expect((await client.bytes())?.toString()).toBe('N')
    client.startup('ann')
    expect(await client.next()).toMatchObject({ message: { kind: 'ok' } })
  })

  it('can be required', async () => {
    const { port } = await relay({ entries: [trust], tls: files(), tlsRequired: true })
    expect(await login(port, 'ann', undefined)).toContain(
      '28000 user "ann" may only connect with TLS',
    )
    expect(await login(port, 'ann', undefined, { rejectUnauthorized: false })).toContain('hello')
  })

  it('is at least 1.2', async () => {
    const { port } = await relay({ entries: [trust], tls: files() })
    const client = await RawClient.connect(port)
    await expect(
      client.upgrade({
        minVersion: 'TLSv1',
        maxVersion: 'TLSv1.1',
        ciphers: 'DEFAULT:@SECLEVEL=0',
      }),
    ).rejects.toThrow()
  })

  it.each([
    ['SSLRequest', encodeSslRequest],
    ['GSSENCRequest', encodeGssencRequest],
  ])('drops a client that sent plaintext behind %s', async (_name, encode) => {
    const { port, closed, identities } = await relay({ entries: [trust], tls: files() })
    const client = await RawClient.connect(port)
    const startup = written((writer) =>
      encodeStartup(writer, protocolVersions.v3_0, [['user', 'injected']]),
    )
    client.send(Buffer.concat([written(encode), startup]))
    expect(errorOf(await client.next())).toContain('08P01')
    expect(closed).toHaveLength(1)
    expect(identities).toEqual([])
  })

  it('answers GSSENCRequest with N, and goes on to TLS', async () => {
    const { port } = await relay({ entries: [trust], tls: files() })
    const client = await RawClient.connect(port)
    client.send(written(encodeGssencRequest))
    expect((await client.bytes())?.toString()).toBe('N')
    await client.upgrade()
    client.startup('ann')
    expect(await client.next()).toMatchObject({ message: { kind: 'ok' } })
    client.close()
  })

  it.each([
    ['SSLRequest', encodeSslRequest],
    ['GSSENCRequest', encodeGssencRequest],
  ])('does not answer %s twice', async (_name, encode) => {
    const { port } = await relay({ entries: [trust] })
    const client = await RawClient.connect(port)
    client.send(written(encode))
    await client.bytes()
    client.send(written(encode))
    expect(errorOf(await client.next())).toContain('08P01')
  })

  it('does not nest', async () => {
    const { port } = await relay({ entries: [trust], tls: files() })
    const client = await RawClient.connect(port)
    await client.upgrade()
    client.send(written(encodeSslRequest))
    expect(errorOf(await client.next())).toContain('08P01')
  })

  it('starts directly with ALPN, as PostgreSQL 17 clients do', async () => {
    const { port } = await relay({ entries: [trust], tls: files() })
    const client = await RawClient.connect(port)
    const secure = await client.secure({ ALPNProtocols: ['postgresql'] })
    expect(secure.alpnProtocol).toBe('postgresql')
    client.startup('ann')
    expect(await client.next()).toMatchObject({ message: { kind: 'ok' } })
    client.close()
  })

  it.each([[undefined], [['http/1.1']]])(
    'does not start directly with ALPN %j',
    async (protocols) => {
      const { port, identities } = await relay({ entries: [trust], tls: files() })
      const client = await RawClient.connect(port)
      const outcome = await client
        .secure(protocols === undefined ? {} : { ALPNProtocols: protocols })
        .then(
          () => {
            client.startup('ann')
            return client.next()
          },
          () => ({ kind: 'closed' }),
        )
      expect(outcome).toEqual({ kind: 'closed' })
      expect(identities).toEqual([])
    },
  )

  it('without TLS a ClientHello is dropped without an answer', async () => {
    const { port } = await relay({ entries: [trust] })
    const client = await RawClient.connect(port)
    client.send(Buffer.from([0x16, 0x03, 0x01, 0x00, 0x05, 1, 2, 3, 4, 5]))
    expect(await client.bytes()).toBeNull()
  })

  it('survives a handshake that is garbage', async () => {
    const { port, closed } = await relay({ entries: [trust], tls: files() })
    const client = await RawClient.connect(port)
    client.send(written(encodeSslRequest))
    await client.bytes()
    client.send('this is no ClientHello, not at all, whatever one thinks of it')
    while ((await client.bytes()) !== null);
    await expect.poll(() => closed.length).toBe(1)
    expect(await login(port, 'ann', undefined, { rejectUnauthorized: false })).toContain('hello')
  })

  it('takes over a new certificate without touching open connections', async () => {
    const cert = join(directory, 'live.crt')
    const key = join(directory, 'live.key')
    copyFileSync(pair.cert, cert)
    copyFileSync(pair.key, key)
    const started = await relay({ entries: [trust], tls: files({ cert, key }) })
    const open = await RawClient.connect(started.port)
    const before = (await open.upgrade()).getPeerCertificate().fingerprint256
    expect(await started.tls?.reload()).toBe(false)
    writeFileSync(cert, 'no certificate')
    await expect(started.tls?.reload()).rejects.toThrow('listen.tls')
    expect(await started.tls?.reload()).toBe(false)
    const next = authority.issue('next', '/CN=localhost')
    copyFileSync(next.cert, cert)
    await expect(started.tls?.reload()).rejects.toThrow('listen.tls')
    copyFileSync(next.key, key)
    expect(await started.tls?.reload()).toBe(true)
    const fresh = await RawClient.connect(started.port)
    expect((await fresh.upgrade()).getPeerCertificate().fingerprint256).not.toBe(before)
    open.startup('ann')
    expect(await open.next()).toMatchObject({ message: { kind: 'ok' } })
    fresh.close()
  })
})

describe('client certificates', () => {
  const certificate = (
    over: Partial<Extract<AuthenticationEntry, { method: 'certificate' }>> = {},
  ) =>
    ({
      method: 'certificate',
      match: null,
      groups: ['certified'],
      subject: 'cn',
      pattern: null,
      matchUser: true,
      type: 'human',
      groupsFromOu: false,
      ...over,
    }) as const satisfies AuthenticationEntry
  const ssl = (own: Pair) => ({
    rejectUnauthorized: false,
    cert: authority.read(own.cert),
    key: authority.read(own.key),
  })
  const withCa = () => files({ clientCa: authority.ca })

  it('name their subject by CN, which the startup user must be', async () => {
    const own = authority.issue('ann', '/OU=dba/CN=ann')
    const { port, identities } = await relay({
      entries: [certificate({ groupsFromOu: true })],
      tls: withCa(),
    })
    expect(await login(port, 'ann', undefined, ssl(own))).toBe('57P03 hello ann of dba,certified')
    expect(await login(port, 'root', undefined, ssl(own))).toBe(
      '28P01 authentication failed for user "root"',
    )
    expect(identities[0]?.expiresAtMs).toBeGreaterThan(Date.now())
  })

  it('name their subject by SAN through a pattern', async () => {
    const own = authority.issue('svc', '/CN=ignored', [
      'URI:spiffe://shop.example/agent/robot-7',
      'DNS:x.example',
    ])
    const entry = certificate({
      subject: 'uri',
      pattern: 'spiffe://shop\\.example/agent/(.+)',
      matchUser: false,
    })
    const { port } = await relay({ entries: [entry], tls: withCa() })
    expect(await login(port, 'whoever', undefined, ssl(own))).toContain('hello robot-7')
  })

  it('are not taken apart by a comma in a name', async () => {
    const own = authority.issue('comma', '/CN=x', [
      'URI:spiffe://a/b\\, DNS:admin.example'.replace('\\', ''),
    ])
    const { port } = await relay({
      entries: [certificate({ subject: 'dns', matchUser: false })],
      tls: withCa(),
    })
    const answer = await login(port, 'ann', undefined, ssl(own))
    expect(answer).not.toContain('hello b')
  })

  it.each(['none', 'foreign', 'expired', 'revoked'] as const)(
    'that are %s do not let in',
    async (kind) => {
      const revoked = authority.issue('revoked', '/CN=ann')
      const crl = authority.revoke(revoked.cert)
      const { port, identities } = await relay({
        entries: [certificate()],
        tls: files({ clientCa: authority.ca, crl }),
      })
      const own = {
        none: null,
        foreign: foreign.issue('ann', '/CN=ann'),
        expired: authority.issue('expired', '/CN=ann', [], { days: -1 }),
        revoked,
      }[kind]
      const outcome = await login(
        port,
        'ann',
        undefined,
        own === null ? { rejectUnauthorized: false } : ssl(own),
      )
      expect(outcome).not.toContain('hello')
      expect(identities).toEqual([])
      const good = authority.issue('good', '/CN=ann')
      expect(await login(port, 'ann', undefined, ssl(good))).toContain('hello ann')
    },
  )

  it('are not taken for one another by a resumed TLS session', async () => {
    const { port } = await relay({ entries: [certificate()], tls: withCa() })
    const first = await RawClient.connect(port)
    const own = authority.issue('resume', '/CN=ann')
    let session: Buffer | undefined
    const secure = await first.upgrade({ ...ssl(own), maxVersion: 'TLSv1.2' })
    session = secure.getSession()
    first.close()
    const second = await RawClient.connect(port)
    const resumed: tls.TLSSocket = await second.upgrade({
      rejectUnauthorized: false,
      maxVersion: 'TLSv1.2',
      ...(session === undefined ? {} : { session }),
    })
    expect(resumed.isSessionReused()).toBe(false)
    session = undefined
    second.startup('ann')
    expect(errorOf(await second.next())).toContain('28P01')
  })
})

describe('what comes before authentication', () => {
  it.each([
    ['length 0', Buffer.alloc(4)],
    ['length 7', Buffer.from([0, 0, 0, 7, 0, 0, 0])],
    ['length 2^31', Buffer.from([0x80, 0, 0, 0])],
    ['more than the limit', Buffer.from([0, 0, 0x40, 0])],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')],
    ['protocol 2', Buffer.from([0, 0, 0, 8, 0, 2, 0, 0])],
    ['protocol 4', Buffer.from([0, 0, 0, 9, 0, 4, 0, 0, 0])],
    [
      'no terminator',
      Buffer.concat([Buffer.from([0, 0, 0, 13, 0, 3, 0, 0]), Buffer.from('user\0')]),
    ],
  ])('%s is an error, then the end', async (_name, bytes) => {
    const { port, closed } = await relay({ entries: [trust] })
    const client = await RawClient.connect(port)
    client.send(bytes)
    expect((await client.next()).kind).toBe('error')
    expect(await client.next()).toEqual({ kind: 'closed' })
    expect(closed).toHaveLength(1)
  })

  it('is read at any split', async () => {
    const { port } = await relay({ entries: [scram()] })
    const client = await RawClient.connect(port)
    const startup = written((writer) =>
      encodeStartup(writer, protocolVersions.v3_0, [
        ['user', 'ann'],
        ['database', 'shop'],
      ]),
    )
    for (const byte of startup) {
      client.send(Buffer.from([byte]))
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    await client.next()
    expect(await client.scram('pencil')).toMatchObject({ message: { kind: 'ok' } })
    client.close()
  })

  it('is a password message and nothing else', async () => {
    const { port } = await relay({ entries: [scram()] })
    const client = await RawClient.connect(port)
    client.startup('ann')
    await client.next()
    client.send(Buffer.from('Q\0\0\0\x0dSELECT 1\0'))
    expect(errorOf(await client.next())).toContain('08P01')
  })

  it('has an end: a slow client is dropped at each step', async () => {
    const limits = { ...defaultLimits, authenticationMsMax: 150 as never }
    const { port, closed } = await relay({ entries: [scram()], tls: files(), limits })
    const steps: ((client: RawClient) => unknown)[] = [
      () => undefined,
      (client) => client.send(Buffer.from([0, 0])),
      (client) => client.send(written(encodeSslRequest)),
      (client) => client.startup('ann'),
      (client) => {
        client.startup('ann')
        client.sasl('SCRAM-SHA-256', 'n,,n=,r=abc')
      },
    ]
    for (const step of steps) {
      const client = await RawClient.connect(port)
      step(client)
      while ((await client.bytes()) !== null);
    }
    await expect.poll(() => closed.length).toBe(steps.length)
    expect(closed.map(({ reason }) => reason)).toEqual(
      steps.map(() => 'the handshake took too long'),
    )
  })

  it('goes quietly when the client does', async () => {
    const { port, closed } = await relay({ entries: [trust] })
    const client = await RawClient.connect(port)
    client.close()
    await expect.poll(() => closed.length).toBe(1)
    expect(closed[0]?.error).toBeNull()
  })

  it('negotiates the protocol', async () => {
    const { port } = await relay({ entries: [trust] })
    const client = await RawClient.connect(port)
    client.startup('ann', { '_pq_.grease': '1' }, 0x0003_270f)
    expect(await client.next()).toMatchObject({
      type: 'v',
      body: Buffer.concat([Buffer.from([0, 3, 0, 2, 0, 0, 0, 1]), Buffer.from('_pq_.grease\0')]),
    })
    expect(await client.next()).toMatchObject({ message: { kind: 'ok' } })
  })
})

describe('through to a real server', () => {
  let server: TestPostgres
  let target: UpstreamTarget
  beforeAll(async () => {
    server = await startPostgres()
    target = {
      host: server.host,
      port: server.port,
      database: 'postgres',
      tls: {
        mode: 'disable',
        ca: null,
        cert: null,
        key: null,
        crl: null,
        serverName: null,
        negotiation: 'postgres',
      },
    }
  }, 60_000)
  afterAll(() => server.stop())

  const open = (over: Partial<RelayOptions> = {}) =>
    relay({
      entries: [scram()],
      tls: files(),
      target,
      role: {
        user: server.user,
        secret: environmentSecret('PW', { PW: server.password }),
      },
      ...over,
    })

  it('psql logs in with SCRAM bound to the channel, and pg_stat_activity names the person', async () => {
    const { port } = await open()
    const { stdout } = await run(
      'psql',
      [
        `host=localhost port=${port} user=ann dbname=shop sslmode=verify-full channel_binding=require sslrootcert=${authority.ca}`,
        '-AtX',
        '-c',
        'SELECT current_user, application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()',
      ],
      { env: { ...process.env, PGPASSWORD: 'pencil', PGOPTIONS: '-c work_mem=2MB' } },
    )
    expect(stdout.trim()).toBe(`${server.user}|ann/psql`)
  })

  it('psql is told why, with SQLSTATE, when it asks for another encoding', async () => {
    const { port } = await open()
    const failure = await run(
      'psql',
      [`host=localhost port=${port} user=ann dbname=shop`, '-c', 'SELECT 1'],
      {
        env: { ...process.env, PGPASSWORD: 'pencil', PGCLIENTENCODING: 'LATIN1' },
      },
    ).catch((error: unknown) => error as { stderr: string })
    expect(failure.stderr).toContain('client_encoding "LATIN1" is not supported')
    expect(failure.stderr).toContain('PGCLIENTENCODING=UTF8')
  })

  it('cancels by CancelRequest', async () => {
    const { port } = await open()
    const client = new pg.Client({
      host: '127.0.0.1',
      port,
      user: 'ann',
      password: 'pencil',
      database: 'shop',
    })
    await client.connect()
    const answer = client
      .query('SELECT pg_sleep(30)')
      .catch((error: unknown) => (error as { code: string }).code)
    await new Promise((resolve) => setTimeout(resolve, 200))
    const { processID, secretKey } = client as unknown as { processID: number; secretKey: number }
    const secret = Buffer.alloc(4)
    secret.writeInt32BE(secretKey)
    const cancel = await RawClient.connect(port)
    cancel.send(written((writer) => encodeCancelRequest(writer, processID, secret)))
    expect(await cancel.bytes()).toBeNull()
    expect(await answer).toBe('57014')
    await client.end()
  })

  it('hands the first statement on where the client did not wait for its login', async () => {
    const { port } = await open({ entries: [trust] })
    const client = await RawClient.connect(port)
    const startup = written((writer) =>
      encodeStartup(writer, protocolVersions.v3_0, [['user', 'ann']]),
    )
    client.send(Buffer.concat([startup, Buffer.from('Q\0\0\0\x0dSELECT 1\0')]))
    const seen: string[] = []
    for (let count = 0; count < 40 && !seen.includes('D'); count++) {
      const said = await client.next()
      seen.push(said.kind === 'other' ? said.type : said.kind)
    }
    expect(seen).toContain('D')
    client.close()
  })
})
