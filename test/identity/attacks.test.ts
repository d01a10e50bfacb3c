/**
 * Tricks with headers, names and the order of messages that other implementations fell for, against
 * a real provider: each fails closed, with the one message where it is about a credential.
 */
import { createServer } from 'node:http'
import { mkdtempSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CompactSign, exportJWK, generateKeyPair, importJWK, SignJWT, type JWK } from 'jose'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import {
  makeSigningKey,
  startDemoProvider,
  type DemoProvider,
} from '../../src/commands/demo/oidc-provider.ts'
import {
  deriveVerifier,
  oidcEntryDefaults,
  writeUser,
  type AuthenticationEntry,
} from '../../src/identity/identity.ts'
import { ScramClient } from '../../src/identity/scram.ts'
import { errorOf, RawClient } from './support/raw.ts'
import { startRelay, type Relay } from './support/relay.ts'

const failed = '28P01 authentication failed for user "ann"'
let provider: DemoProvider
let key: JWK
let directory: string
const relays: Relay[] = []

beforeAll(async () => {
  key = await makeSigningKey('k1')
  provider = await startDemoProvider({
    accounts: [{ id: 'ann', name: 'Ann', email: 'ann@shop.example', groups: ['engineers'] }],
    machines: [],
    audience: 'regate',
    keys: [key],
  })
  directory = mkdtempSync(join(tmpdir(), 'regate-attacks-'))
  const verifier = await deriveVerifier('pencil')
  for (const name of ['ann', 'root']) {
    await writeUser(join(directory, 'users.yaml'), {
      ...{ name, verifier, groups: [name], email: null, type: null },
    })
  }
})
afterAll(async () => {
  await provider.stop()
  rmSync(directory, { recursive: true, force: true })
})
afterEach(async () => {
  await Promise.all(relays.splice(0).map((relay) => relay.stop()))
})

async function relay(flow: 'password' | 'sasl' = 'password'): Promise<Relay> {
  const oidc: AuthenticationEntry = {
    ...{
      ...oidcEntryDefaults,
      method: 'oidc',
      issuer: provider.issuer,
      audience: ['regate'],
      flow,
    },
  }
  const users = join(directory, 'users.yaml')
  const scram: AuthenticationEntry = { method: 'scram', match: null, groups: [], users }
  const started = await startRelay({
    ...{ entries: flow === 'password' ? [oidc] : [scram, { ...oidc, flow: 'auto' }], target: null },
  })
  relays.push(started)
  return started
}

const soon = () => Math.floor(Date.now() / 1000) + 300
const claims = () => ({ iss: provider.issuer, aud: 'regate', sub: 'ann', exp: soon() })
const encode = (text: string) => Buffer.from(text).toString('base64url')

/** A token with these headers, signed by the issuer's key or by another. */
async function forge(header: Record<string, unknown>, by: JWK = key): Promise<string> {
  return new SignJWT(claims())
    .setProtectedHeader({ alg: 'ES256', kid: 'k1', ...header })
    .sign(await importJWK(by, 'ES256'))
}

async function answer(port: number, token: string): Promise<string> {
  const client = await RawClient.connect(port)
  client.startup('ann')
  await client.next()
  client.password(token)
  let said = await client.next()
  if (said.kind === 'authentication') said = await client.next()
  client.close()
  return errorOf(said)
}

describe('a token that says itself how it is to be verified', () => {
  it.each(['jku', 'x5u', 'jwk', 'x5c'])(
    'by %s is refused, and nothing is fetched',
    async (name) => {
      const { publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true })
      const own = { ...(await exportJWK(privateKey)), kid: 'k1' }
      const asked: string[] = []
      const server = createServer((request, response) => {
        asked.push(request.url ?? '')
        exportJWK(publicKey).then(
          (jwk) => response.end(JSON.stringify({ keys: [{ ...jwk, kid: 'k1' }] })),
          () => response.destroy(),
        )
      })
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`
      const headers: Record<string, unknown> = {
        ...{ jku: url, x5u: url, jwk: await exportJWK(publicKey) },
        x5c: [Buffer.from('a certificate').toString('base64')],
      }
      const { port, identities } = await relay()
      expect(await answer(port, await forge({ [name]: headers[name] }, own))).toBe(failed)
      // The same header over a signature of the issuer is no reason to look there either.
      expect(await answer(port, await forge({ [name]: headers[name] }))).toContain('hello ann')
      expect(asked).toEqual([])
      expect(identities).toHaveLength(1)
      server.close()
    },
  )

  it.each([
    '../../../../dev/null',
    '/dev/null',
    'http://127.0.0.1/keys',
    "k1' OR '1'='1",
    '__proto__',
    'constructor',
    'k1\u0000',
    'K1',
    '',
    'k'.repeat(4_000),
  ])('by the kid %j is refused', async (kid) => {
    const { port, identities } = await relay()
    expect(await answer(port, await forge({ kid }, await makeSigningKey('own')))).toBe(failed)
    expect(identities).toEqual([])
  })

  it.each([
    ['ES256, then none', '"alg":"ES256","alg":"none"'],
    ['none, then ES256, without a signature', '"alg":"none","alg":"ES256"'],
    ['a list of both', '"alg":["ES256","none"]'],
    ['none in other letters', '"alg":"nOnE"'],
    ['no algorithm', '"typ":"JWT"'],
    ['an algorithm of another kind of key', '"alg":"RS256"'],
    ['an algorithm of Object', '"alg":"__proto__"'],
  ])('by %s is refused', async (_name, members) => {
    const { port, identities } = await relay()
    const head = encode(`{${members},"kid":"k1"}`)
    const body = encode(JSON.stringify(claims()))
    for (const signature of ['', 'AAAA', encode('x'.repeat(64))]) {
      expect(await answer(port, `${head}.${body}.${signature}`)).toBe(failed)
    }
    expect(identities).toEqual([])
  })

  it('twice is read as RFC 7519 §4 says: the last of two members of one name counts', async () => {
    const { port, identities } = await relay()
    const sign = async (text: string) =>
      new CompactSign(Buffer.from(text))
        .setProtectedHeader({ alg: 'ES256', kid: 'k1' })
        .sign(await importJWK(key, 'ES256'))
    const rest = `"iss":"${provider.issuer}","exp":${soon()}`
    const twice = (aud: readonly [string, string]) =>
      sign(`{${rest},"aud":"${aud[0]}","sub":"root","aud":"${aud[1]}","sub":"ann"}`)
    expect(await answer(port, await twice(['regate', 'another']))).toBe(failed)
    expect(await answer(port, await twice(['another', 'regate']))).toContain('hello ann')
    expect(identities.map(({ subject }) => subject)).toEqual(['ann'])
    expect(await answer(port, await sign('not JSON'))).toBe(failed)
    expect(await answer(port, await sign('[]'))).toBe(failed)
  })

  it('with white space, padding or a fourth part is refused', async () => {
    const { port, identities } = await relay()
    const token = await forge({})
    const [head = '', body = '', signature = ''] = token.split('.')
    for (const text of [
      ...[` ${token}`, `${token}\n`, `${token}=`, `${token}.${signature}`, `Bearer ${token}`],
      ...[`${head}..${signature}`, `.${body}.${signature}`, `${head}.${body}`],
    ]) {
      expect(await answer(port, text)).toBe(failed)
    }
    expect(identities).toEqual([])
  })
})

describe('OAUTHBEARER on the wire', () => {
  it.each([
    ['nothing', ''],
    ['no kvsep', 'n,,auth=Bearer x'],
    ['one kvsep at the end', 'n,,\x01auth=Bearer x\x01'],
    ['no auth', 'n,,\x01host=db\x01\x01'],
    ['auth twice', 'n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01'],
    ['channel binding', 'p=tls-unique,,\x01auth=Bearer x\x01\x01'],
    ['a zero byte', 'n,,\x01auth=Bearer x\0y\x01\x01'],
    ['more behind the end', 'n,,\x01auth=Bearer x\x01\x01n,,'],
  ])('that is malformed (%s) is a protocol error, and the end', async (_name, text) => {
    const { port, identities } = await relay('sasl')
    const client = await RawClient.connect(port)
    client.startup('ann')
    await client.next()
    client.sasl('OAUTHBEARER', text)
    expect(errorOf(await client.next())).toBe('08P01 malformed OAUTHBEARER message')
    expect(await client.next()).toEqual({ kind: 'closed' })
    expect(identities).toEqual([])
  })

  it('for another user than the token is of is refused', async () => {
    const { port, identities } = await relay('sasl')
    const client = await RawClient.connect(port)
    client.startup('ann')
    await client.next()
    client.sasl('OAUTHBEARER', `n,a=root,\x01auth=Bearer ${await forge({})}\x01\x01`)
    expect(errorOf(await client.next())).toMatch(/^0A000/)
    expect(identities).toEqual([])
  })
})

describe('two mechanisms in one exchange', () => {
  it('do not mix: a token is no answer to a SCRAM challenge', async () => {
    const { port, identities } = await relay('sasl')
    const client = await RawClient.connect(port)
    client.startup('ann')
    expect(await client.next()).toMatchObject({
      message: { mechanisms: ['SCRAM-SHA-256', 'OAUTHBEARER'] },
    })
    client.sasl('SCRAM-SHA-256', 'n,,n=,r=abcdefgh')
    await client.next()
    client.saslResponse(`n,,\x01auth=Bearer ${await forge({})}\x01\x01`)
    expect(errorOf(await client.next())).toBe('08P01 malformed SCRAM message')
    expect(identities).toEqual([])
  })

  it('do not mix: SCRAM behind a token that failed does not begin', async () => {
    const { port, identities } = await relay('sasl')
    const client = await RawClient.connect(port)
    client.startup('ann')
    await client.next()
    client.sasl('OAUTHBEARER', 'n,,\x01auth=Bearer a.b.c\x01\x01')
    expect(await client.next()).toMatchObject({ message: { kind: 'sasl_continue' } })
    client.sasl('SCRAM-SHA-256', 'n,,n=,r=abcdefgh')
    expect(errorOf(await client.next())).toMatch(/^08P01/)
    expect(identities).toEqual([])
  })
})

describe('the name inside SCRAM', () => {
  it('is not who logs in: that is the user of the startup message', async () => {
    const { port, identities } = await relay('sasl')
    for (const name of ['root', 'ann', '=2C', 'r=3Doot']) {
      const client = await RawClient.connect(port)
      client.startup('ann')
      await client.next()
      const exchange = new ScramClient({
        ...{ password: 'pencil', mechanism: 'SCRAM-SHA-256', channelBinding: null },
        ...{ couldBind: false, user: name },
      })
      client.sasl('SCRAM-SHA-256', exchange.first())
      const said = await client.next()
      if (said.kind !== 'authentication' || said.message.kind !== 'sasl_continue') {
        throw new Error(errorOf(said))
      }
      client.saslResponse(await exchange.next(Buffer.from(said.message.data)))
      expect(await client.next()).toMatchObject({ message: { kind: 'sasl_final' } })
      client.close()
    }
    expect(identities.map(({ subject }) => subject)).toEqual(['ann', 'ann', 'ann', 'ann'])
  })

  it.each([
    ['of a user with a comma', 'n,,n=a,b,r=abcdefgh'],
    ['and of another to act for', 'n,a=root,n=ann,r=abcdefgh'],
    ['missing', 'n,,r=abcdefgh'],
    ['behind a mandatory extension', 'n,,m=x,n=ann,r=abcdefgh'],
  ])('%s does not begin an exchange', async (_name, text) => {
    const { port, identities } = await relay('sasl')
    const client = await RawClient.connect(port)
    client.startup('ann')
    await client.next()
    client.sasl('SCRAM-SHA-256', text)
    expect(errorOf(await client.next())).toMatch(/^(08P01|0A000)/)
    expect(identities).toEqual([])
  })
})
