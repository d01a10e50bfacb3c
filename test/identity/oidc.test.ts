/** Tokens against a real OIDC provider: as password, by OAUTHBEARER, and every way to forge one. */
import { createHmac, createPublicKey, randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { exportSPKI, importJWK, SignJWT, type JWK } from 'jose'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import pg from 'pg'
import {
  makeSigningKey,
  startDemoProvider,
  type DemoProvider,
} from '../../src/commands/demo/oidc-provider.ts'
import {
  deriveVerifier,
  oidcEntryDefaults,
  TokenVerifier,
  writeUser,
  RevocationList,
  type OidcEntry,
} from '../../src/identity/identity.ts'
import { streamFrom } from '../support/source.ts'
import { startRelay, type Relay, type RelayOptions } from './support/relay.ts'
import { errorOf, RawClient } from './support/raw.ts'

const audience = 'regate'
const failed = /^28P01 authentication failed for user "ann"$/

let provider: DemoProvider
let stranger: DemoProvider
let key: JWK
const relays: Relay[] = []

const options = {
  accounts: [
    { id: 'ann', name: 'Ann', email: 'ann@shop.example', groups: ['engineers'] },
    { id: 'dora', name: 'Dora', email: 'dora@shop.example', groups: ['dba', 'engineers'] },
  ],
  machines: [{ id: 'agent-7', secret: 'agent-secret', groups: ['agents'] }],
  audience,
}

beforeAll(async () => {
  key = await makeSigningKey('k1')
  provider = await startDemoProvider({ ...options, keys: [key] })
  stranger = await startDemoProvider(options)
})
afterAll(async () => {
  await provider.stop()
  await stranger.stop()
})
afterEach(async () => {
  await Promise.all(relays.splice(0).map((relay) => relay.stop()))
})

function entry(over: Partial<OidcEntry> = {}): OidcEntry {
  return {
    ...oidcEntryDefaults,
    method: 'oidc',
    issuer: provider.issuer,
    audience: [audience],
    ...over,
  }
}

async function relay(
  entries: RelayOptions['entries'],
  over: Partial<RelayOptions> = {},
): Promise<Relay> {
  const started = await startRelay({ entries, target: null, ...over })
  relays.push(started)
  return started
}

/** What node-postgres is told: "57P03 hello …" is a success of the relay. */
async function login(
  port: number,
  password: string,
  user = 'ann',
  from = '127.0.0.1',
): Promise<string> {
  const client = new pg.Client({
    stream: streamFrom(from),
    host: '127.0.0.1',
    port,
    user,
    password,
    database: 'shop',
    ssl: false,
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

/** A token signed with the provider's own key, with whatever in it. */
async function forge(
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
  signWith: JWK = key,
): Promise<string> {
  const now = Math.floor(Date.now() / 1000)
  const payload = {
    iss: provider.issuer,
    aud: audience,
    sub: 'ann',
    groups: ['engineers'],
    iat: now,
    exp: now + 300,
    ...claims,
  }
  const clean = Object.fromEntries(
    Object.entries(payload).filter(([, value]) => value !== undefined),
  )
  return new SignJWT(clean)
    .setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'at+jwt', ...header })
    .sign(await importJWK(signWith, 'ES256'))
}

function encode(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}

describe('a token as the password', () => {
  it('logs in a person and a machine with their groups', async () => {
    const { port, identities } = await relay([entry()])
    expect(await login(port, await provider.tokenOf('dora'), 'anything')).toBe(
      '57P03 hello dora of dba,engineers',
    )
    const answer = await fetch(`${provider.issuer}/token`, {
      method: 'POST',
      headers: { authorization: `Basic ${Buffer.from('agent-7:agent-secret').toString('base64')}` },
      body: new URLSearchParams({ grant_type: 'client_credentials' }),
    })
    const { access_token: token } = (await answer.json()) as { access_token: string }
    expect(await login(port, token, 'agent')).toBe('57P03 hello agent-7 of agents')
    expect(identities).toMatchObject([
      { subject: 'dora', user: 'dora', email: 'dora@shop.example', type: 'human', method: 'oidc' },
      { subject: 'agent-7', type: 'machine', email: null },
    ])
    expect(identities[0]?.expiresAtMs).toBeGreaterThan(Date.now())
  })

  it('is checked against the issuer that it names, of several', async () => {
    const both = [entry(), entry({ issuer: stranger.issuer, groupsPrefix: 'ci:' })]
    const { port } = await relay(both)
    expect(await login(port, await provider.tokenOf('ann'))).toContain('of engineers')
    expect(await login(port, await stranger.tokenOf('ann'))).toContain('of ci:engineers')
  })

  const attacks: Record<string, () => Promise<string> | string> = {
    nothing: () => '',
    'a password': () => 'hunter2',
    'an expired token': () => forge({ exp: Math.floor(Date.now() / 1000) - 120 }),
    'a token that is not valid yet': () => forge({ nbf: Math.floor(Date.now() / 1000) + 120 }),
    'a token issued in the future': () => forge({ iat: Math.floor(Date.now() / 1000) + 120 }),
    'a token without expiry': () => forge({ exp: undefined }),
    'a token for somebody else': () => forge({ aud: 'another-service' }),
    'a token without audience': () => forge({ aud: undefined }),
    'a token of an issuer not configured': () => stranger.tokenOf('ann'),
    'a token that names another issuer': () => forge({ iss: stranger.issuer }),
    'a token that names our issuer, signed by another': async () =>
      forge({}, { kid: 'k1' }, await makeSigningKey('k1')),
    'an unknown kid': () => forge({}, { kid: 'nobody' }),
    'a token without subject': () => forge({ sub: undefined }),
    'a logout token': () => forge({}, { typ: 'logout+jwt' }),
    'a critical extension': () => forge({}, { crit: ['b64'], b64: true }),
    'alg none': () =>
      `${encode({ alg: 'none', typ: 'JWT' })}.${encode({ iss: provider.issuer, aud: audience, sub: 'ann', exp: 9_999_999_999 })}.`,
    'alg None with a signature': () =>
      `${encode({ alg: 'None' })}.${encode({ iss: provider.issuer, aud: audience, sub: 'ann', exp: 9_999_999_999 })}.AAAA`,
    'HS256 with the public key': async () => {
      const jwk = { ...key }
      delete jwk.d
      const spki = await exportSPKI(
        createPublicKey({ key: jwk as never, format: 'jwk' }) as never,
      ).catch(
        () =>
          createPublicKey({ key: jwk as never, format: 'jwk' }).export({
            type: 'spki',
            format: 'pem',
          }) as string,
      )
      const body = `${encode({ alg: 'HS256', kid: 'k1' })}.${encode({ iss: provider.issuer, aud: audience, sub: 'ann', exp: 9_999_999_999 })}`
      return `${body}.${createHmac('sha256', spki).update(body).digest('base64url')}`
    },
    'a changed payload': async () => {
      const [head = '', , signature = ''] = (await forge()).split('.')
      return `${head}.${encode({ iss: provider.issuer, aud: audience, sub: 'root', exp: 9_999_999_999 })}.${signature}`
    },
    'a key of its own in the header': async () => {
      const own = await makeSigningKey('own')
      return forge({}, { kid: 'own', jwk: { ...own, d: undefined } }, own)
    },
    'a truncated token': async () => (await forge()).slice(0, -4),
    'groups that are no list': () => forge({ groups: { dba: true } }),
    'sixty kilobytes': () => `${randomBytes(24_000).toString('base64url')}.e30.AAAA`,
  }
  it.each(Object.keys(attacks))('refuses %s, with the one message', async (name) => {
    const { port, logs, identities } = await relay([entry()])
    const token = (await attacks[name]?.()) ?? ''
    expect(await login(port, token)).toMatch(name === 'nothing' ? /28P01|password must be/ : failed)
    expect(identities).toEqual([])
    if (token.length > 10) expect(logs.join('\n')).not.toContain(token.slice(0, 40))
  })

  it('ends a token that is too large before it is read', async () => {
    const { port, closed } = await relay([entry()])
    const client = await RawClient.connect(port)
    client.startup('ann')
    await client.next()
    client.send(Buffer.from([0x70, 0x00, 0x10, 0x00, 0x00]))
    expect(errorOf(await client.next())).toContain('54000')
    expect(closed).toHaveLength(1)
  })

  it('refuses a lifetime that is longer than the entry allows', async () => {
    const { port } = await relay([entry({ lifetimeMsMax: 600_000 })])
    expect(await login(port, await forge({ exp: Math.floor(Date.now() / 1000) + 3_600 }))).toMatch(
      failed,
    )
    expect(await login(port, await forge())).toContain('hello ann')
  })

  it('tolerates the clock skew of the entry, and no more', async () => {
    const { port } = await relay([entry({ clockSkewMs: 60_000 })])
    const now = Math.floor(Date.now() / 1000)
    expect(await login(port, await forge({ exp: now - 30 }))).toContain('hello ann')
    expect(await login(port, await forge({ exp: now - 90 }))).toMatch(failed)
  })

  it('demands the claims that the entry requires', async () => {
    const requiredClaims = new Map([['repository', ['acme/*']]])
    const { port } = await relay([entry({ requiredClaims })])
    expect(await login(port, await forge({ repository: 'acme/shop' }))).toContain('hello ann')
    expect(await login(port, await forge({ repository: 'evil/shop' }))).toMatch(failed)
    expect(await login(port, await forge())).toMatch(failed)
  })

  it('is not asked for where somebody could listen', async () => {
    const { port, authenticator } = await relay([entry()])
    expect(port).toBeGreaterThan(0)
    const step = authenticator
      .begin({
        user: 'ann',
        database: 'shop',
        address: '192.0.2.1',
        tls: false,
        certificate: null,
        endPoint: null,
      })
      .start()
    expect(step).toMatchObject({ kind: 'refused', error: { sqlstate: '28000' } })
  })

  it('takes the same time whatever is wrong', async () => {
    const { port } = await relay([entry()])
    const times: number[] = []
    await login(port, await forge())
    for (const name of ['a password', 'an expired token', 'a changed payload', 'an unknown kid']) {
      const token = (await attacks[name]?.()) ?? ''
      // A busy machine adds to single times, not to the least of several.
      let leastMs = Infinity
      for (let round = 0; round < 3; round++) {
        const began = performance.now()
        await login(port, token)
        leastMs = Math.min(leastMs, performance.now() - began)
      }
      times.push(leastMs)
    }
    expect(Math.min(...times)).toBeGreaterThan(190)
    expect(Math.max(...times) - Math.min(...times)).toBeLessThan(100)
  })

  it('cannot be guessed for long', async () => {
    const { port, logs } = await relay([entry()], { attemptLimits: { perSourceAndUserMax: 2 } })
    expect(await login(port, await forge({ aud: 'x' }))).toMatch(failed)
    expect(await login(port, await forge({ aud: 'x' }))).toMatch(failed)
    expect(await login(port, await forge())).toMatch(failed)
    expect(logs.at(-1)).toContain('too many failed attempts')
    expect(await login(port, await forge(), 'other')).toContain('hello')
  })

  it('that is wrong keeps nobody out who comes from elsewhere, whoever it names', async () => {
    const { port } = await relay([entry()], { attemptLimits: { perUserMax: 2 } })
    for (const from of ['127.0.0.2', '127.0.0.3', '127.0.0.4']) {
      expect(await login(port, await forge({ aud: 'x' }), 'ann', from)).toMatch(failed)
    }
    expect(await login(port, await forge(), 'ann', '127.0.0.5')).toContain('hello')
  })

  it('of a revoked subject is refused, a later one is not', async () => {
    const { port, revocations } = await relay([entry()])
    revocations.revokeSubject('ann')
    expect(await login(port, await forge())).toMatch(failed)
    expect(await login(port, await forge({ iat: Math.floor(Date.now() / 1000) + 2 }))).toContain(
      'hello',
    )
  })

  it.each([true, false])(
    'is asked about at the issuer where the entry says so: %s',
    async (active) => {
      const asked: string[] = []
      const server = await serveIssuer(
        (url, body, authorization) => {
          if (url === '/jwks') return { keys: [{ ...key, d: undefined }] }
          asked.push(`${authorization} ${body}`)
          return { active }
        },
        (issuer) => ({ introspection_endpoint: `${issuer}/introspect` }),
      )
      const introspection = {
        url: null,
        clientId: 'regate',
        clientSecret: () => Promise.resolve('s:cret'),
      }
      const { port } = await relay([entry({ issuer: server.issuer, introspection })])
      const token = await forge({ iss: server.issuer })
      expect(await login(port, token)).toMatch(active ? /hello ann/ : failed)
      const credentials = Buffer.from('regate:s%3Acret').toString('base64')
      expect(asked).toEqual([`Basic ${credentials} token=${token}`])
      await server.stop()
    },
  )

  it('is refused when the issuer does not answer the question', async () => {
    const introspection = {
      url: 'http://127.0.0.1:1/introspect',
      clientId: 'regate',
      clientSecret: () => Promise.resolve('secret'),
    }
    const { port } = await relay([entry({ introspection })])
    expect(await login(port, await forge())).toMatch(failed)
  })
})

describe('the issuer’s keys', () => {
  const verifierOf = (nowMs: () => number) => {
    const clock = { nowMs, monotonicUs: () => 0 }
    const logs: string[] = []
    const verifier = new TokenVerifier({
      clock,
      revocations: new RevocationList(clock),
      log: (message) => logs.push(message),
    })
    return { verifier, logs }
  }

  it('are fetched anew for a key that was not known, at most once in the cool-down', async () => {
    const one = await startDemoProvider({ ...options, keys: [key] })
    const second = await makeSigningKey('k2')
    const rotated = await startDemoProvider({ ...options, keys: [second, key], port: 0 })
    let serving: readonly JWK[] = [key]
    let fetches = 0
    const server = await serveIssuer((url) => {
      if (url !== '/jwks') return null
      fetches++
      return { keys: serving.map((jwk) => ({ ...jwk, d: undefined })) }
    })
    let nowMs = Date.now()
    const { verifier } = verifierOf(() => nowMs)
    const by = entry({ issuer: server.issuer })
    const token = (signer: JWK) => forge({ iss: server.issuer }, { kid: signer.kid }, signer)
    expect((await verifier.verify(await token(key), [by])).kind).toBe('identity')
    expect(fetches).toBe(1)
    serving = [second, key]
    expect((await verifier.verify(await token(second), [by])).kind).toBe('rejected')
    nowMs += 6_000
    expect((await verifier.verify(await token(second), [by])).kind).toBe('identity')
    expect((await verifier.verify(await token(key), [by])).kind).toBe('identity')
    expect(fetches).toBe(2)
    const unknown = await makeSigningKey('k3')
    for (let count = 0; count < 20; count++) {
      expect((await verifier.verify(await token(unknown), [by])).kind).toBe('rejected')
    }
    expect(fetches).toBe(2)
    await Promise.all([one.stop(), rotated.stop(), server.stop(), verifier.close()])
  })

  it('are used while the issuer is down, for the stated time, and no longer', async () => {
    const server = await serveIssuer((url) =>
      url === '/jwks' ? { keys: [{ ...key, d: undefined }] } : null,
    )
    let nowMs = Date.now()
    const { verifier, logs } = verifierOf(() => nowMs)
    const by = entry({ issuer: server.issuer, jwksMaxAgeMs: 60_000, jwksStaleMs: 600_000 })
    const token = await forge({ iss: server.issuer, exp: Math.floor(Date.now() / 1000) + 86_400 })
    expect((await verifier.verify(token, [by])).kind).toBe('identity')
    await server.stop()
    nowMs += 120_000
    expect((await verifier.verify(token, [by])).kind).toBe('identity')
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(logs).toContain('issuer keys could not be fetched')
    nowMs += 600_000
    expect(await verifier.verify(token, [by])).toMatchObject({ kind: 'rejected' })
    await verifier.close()
  })

  it.each([
    ['are of another issuer', { issuer: 'https://other.example' }, /names the issuer/],
    [
      'are on plain http elsewhere',
      { jwks_uri: 'http://192.0.2.1/jwks' },
      /neither https nor loopback/,
    ],
    ['are symmetric', { jwks: { keys: [{ kty: 'oct', k: 'AAAA' }] } }, /no usable key/],
    ['are private', { jwks: { keys: [{ kty: 'EC', d: 'x' }] } }, /no usable key/],
  ])('are refused where they %s', async (_name, document, reason) => {
    const server = await serveIssuer(
      (url) => (url === '/jwks' ? ((document as { jwks?: unknown }).jwks ?? null) : null),
      () => document,
    )
    const { verifier } = verifierOf(() => Date.now())
    const by = entry({ issuer: server.issuer })
    const result = await verifier.verify(await forge({ iss: server.issuer }), [by])
    expect(result.kind === 'rejected' && result.reason).toMatch(reason)
    await Promise.all([server.stop(), verifier.close()])
  })

  it('are not waited for when the issuer stalls, beyond the limit', async () => {
    const server = createServer(() => undefined)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const { verifier } = verifierOf(() => Date.now())
    const began = Date.now()
    const result = await verifier.verify(await forge({ iss: issuer }), [entry({ issuer })])
    expect(result.kind).toBe('rejected')
    expect(Date.now() - began).toBeLessThan(7_000)
    server.closeAllConnections()
    server.close()
    await verifier.close()
  })
})

/** An issuer whose documents the test writes. */
async function serveIssuer(
  answer: (url: string, body: string, authorization: string) => unknown,
  discovery: (issuer: string) => Record<string, unknown> = () => ({}),
): Promise<{ issuer: string; stop: () => Promise<void> }> {
  let issuer = ''
  const server: Server = createServer((request, response) => {
    const url = request.url ?? ''
    let text = ''
    request.on('data', (chunk: Buffer) => (text += chunk.toString()))
    request.on('end', () => {
      const body =
        url === '/.well-known/openid-configuration'
          ? { issuer, jwks_uri: `${issuer}/jwks`, ...discovery(issuer) }
          : answer(url, text, request.headers.authorization ?? '')
      response.statusCode = body === null ? 404 : 200
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify(body))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    issuer,
    stop: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}

describe('OAUTHBEARER', () => {
  const bearer = (token: string) => `n,,\x01auth=Bearer ${token}\x01\x01`

  it('logs in with a token in the initial response', async () => {
    const { port } = await relay([entry({ flow: 'sasl' })])
    const client = await RawClient.connect(port)
    client.startup('ann')
    expect(await client.next()).toMatchObject({ message: { mechanisms: ['OAUTHBEARER'] } })
    client.sasl('OAUTHBEARER', bearer(await provider.tokenOf('ann')))
    expect(await client.next()).toMatchObject({ message: { kind: 'ok' } })
    expect(errorOf(await client.next())).toBe('57P03 hello ann of engineers')
  })

  it('asks again where the client sent no initial response', async () => {
    const { port } = await relay([entry({ flow: 'sasl' })])
    const client = await RawClient.connect(port)
    client.startup('ann')
    await client.next()
    client.sasl('OAUTHBEARER', null)
    expect(await client.next()).toMatchObject({ message: { kind: 'sasl_continue' } })
    client.saslResponse(bearer(await provider.tokenOf('ann')))
    expect(await client.next()).toMatchObject({ message: { kind: 'ok' } })
    client.close()
  })

  it.each(['', 'Bearer bad.token.here'])(
    'tells %j where to get a token, then fails',
    async (auth) => {
      const { port, closed } = await relay([entry({ flow: 'sasl', scope: 'openid db' })])
      const client = await RawClient.connect(port)
      client.startup('ann')
      await client.next()
      client.sasl('OAUTHBEARER', `n,,\x01auth=${auth}\x01\x01`)
      const failure = await client.next()
      if (failure.kind !== 'authentication' || failure.message.kind !== 'sasl_continue') {
        throw new Error(errorOf(failure))
      }
      expect(JSON.parse(failure.message.data.toString())).toEqual({
        status: 'invalid_token',
        'openid-configuration': `${provider.issuer}/.well-known/openid-configuration`,
        scope: 'openid db',
      })
      client.saslResponse('\x01')
      expect(errorOf(await client.next())).toMatch(failed)
      expect(await client.next()).toEqual({ kind: 'closed' })
      expect(closed).toHaveLength(1)
    },
  )

  it('does not go on behind a failure', async () => {
    const { port, identities } = await relay([entry({ flow: 'sasl' })])
    const client = await RawClient.connect(port)
    client.startup('ann')
    await client.next()
    client.sasl('OAUTHBEARER', `n,,\x01auth=\x01\x01`)
    await client.next()
    client.saslResponse(bearer(await provider.tokenOf('ann')))
    expect(errorOf(await client.next())).toContain('08P01')
    expect(identities).toEqual([])
  })

  it('shares one offer with SCRAM: the client chooses', async () => {
    const users = join(mkdtempSync(join(tmpdir(), 'regate-shared-')), 'users.yaml')
    const verifier = await deriveVerifier('pencil')
    await writeUser(users, { name: 'bob', verifier, groups: ['local'], email: null, type: null })
    const { port } = await relay([entry(), { method: 'scram', match: null, groups: [], users }])
    const client = await RawClient.connect(port)
    client.startup('ann')
    expect(await client.next()).toMatchObject({
      message: { mechanisms: ['SCRAM-SHA-256', 'OAUTHBEARER'] },
    })
    client.sasl('OAUTHBEARER', bearer(await provider.tokenOf('ann')))
    expect(await client.next()).toMatchObject({ message: { kind: 'ok' } })
    client.close()
    expect(await login(port, 'pencil', 'bob')).toBe('57P03 hello bob of local')
    expect(await login(port, await provider.tokenOf('ann'), 'ann')).toMatch(failed)
    rmSync(dirname(users), { recursive: true })
  })

  it('refuses a mechanism that was not offered', async () => {
    const { port } = await relay([entry({ flow: 'sasl' })])
    const client = await RawClient.connect(port)
    client.startup('ann')
    await client.next()
    client.sasl('SCRAM-SHA-256', 'n,,n=,r=abc')
    expect(errorOf(await client.next())).toContain('08P01')
  })
})
