/** SCRAM: the RFC's own vectors, both halves against each other, and what an attacker would send. */
import { describe, expect, it } from 'vitest'
import {
  deriveVerifier,
  formatVerifier,
  MockVerifiers,
  parseVerifier,
  ScramClient,
  ScramKeyCache,
  ScramServer,
  type ScramVerifier,
} from '../../../src/identity/scram.ts'

// RFC 7677 §3.
const vector = {
  user: 'user',
  password: 'pencil',
  clientNonce: 'rOprNGfwEbeRWgbNEkqO',
  serverNonce: '%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0',
  salt: Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'),
  serverFirst:
    'r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096',
  clientFinal:
    'c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=',
  serverFinal: 'v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=',
}

const secret = 'correct horse battery staple'
const binding = Buffer.from('a certificate hash of thirty-two')

function server(
  verifier: ScramVerifier,
  options: Partial<ConstructorParameters<typeof ScramServer>[0]> = {},
) {
  return new ScramServer({
    mechanism: 'SCRAM-SHA-256',
    verifier,
    doomed: false,
    channelBinding: null,
    ...options,
  })
}

function client(
  password: string,
  options: Partial<ConstructorParameters<typeof ScramClient>[0]> = {},
) {
  return new ScramClient({
    password,
    mechanism: 'SCRAM-SHA-256',
    channelBinding: null,
    couldBind: false,
    ...options,
  })
}

async function exchange(one: ScramClient, other: ScramServer): Promise<Buffer | null> {
  return other.final(await one.next(other.first(one.first())))
}

describe('SCRAM-SHA-256', () => {
  it('gives the messages of RFC 7677 on both sides', async () => {
    const verifier = await deriveVerifier(vector.password, { salt: vector.salt, iterations: 4096 })
    const one = client(vector.password, { user: vector.user, clientNonce: vector.clientNonce })
    const other = server(verifier, { serverNonce: vector.serverNonce })
    const first = one.first()
    expect(first.toString()).toBe('n,,n=user,r=rOprNGfwEbeRWgbNEkqO')
    const serverFirst = other.first(first)
    expect(serverFirst.toString()).toBe(vector.serverFirst)
    const final = await one.next(serverFirst)
    expect(final.toString()).toBe(vector.clientFinal)
    const serverFinal = other.final(final)
    expect(serverFinal?.toString()).toBe(vector.serverFinal)
    expect(one.verify(serverFinal ?? Buffer.alloc(0))).toBe(true)
  })

  it('reads and writes a verifier as pg_authid has it', async () => {
    const verifier = await deriveVerifier(secret)
    const text = formatVerifier(verifier)
    expect(text).toMatch(
      /^SCRAM-SHA-256\$4096:[A-Za-z0-9+/=]{24}\$[A-Za-z0-9+/=]{44}:[A-Za-z0-9+/=]{44}$/,
    )
    expect(parseVerifier(text)).toEqual(verifier)
  })

  it.each([
    ['', 'empty'],
    ['md5c2e9a1b35cb14f2dd2a2b5a3b0f0fe32', 'md5'],
    ['SCRAM-SHA-256$0:AAAA$AAAA:AAAA', 'no iterations'],
    ['SCRAM-SHA-256$4096:AAAA$AAAA:AAAA', 'short keys'],
    [`SCRAM-SHA-256$99999999:AAAA$${'A'.repeat(43)}=:${'A'.repeat(43)}=`, 'too many iterations'],
    [`SCRAM-SHA-256$4096:A*AA$${'A'.repeat(43)}=:${'A'.repeat(43)}=`, 'no base64'],
  ])('takes %j for no verifier (%s)', (text) => {
    expect(parseVerifier(text)).toBeNull()
  })

  it.each([
    ['I\u00ADX', 'IX', 'soft hyphen maps to nothing'],
    ['\u00AA', 'a', 'NFKC'],
    ['\u2168', 'IX', 'NFKC of a Roman numeral'],
  ])('normalises %j as %j (RFC 4013: %s)', async (written, same) => {
    const verifier = await deriveVerifier(written)
    expect(await exchange(client(same), server(verifier))).not.toBeNull()
  })

  it('uses a password that SASLprep forbids as it is', async () => {
    const verifier = await deriveVerifier('bell\u0007')
    expect(await exchange(client('bell\u0007'), server(verifier))).not.toBeNull()
  })

  it('refuses a wrong password and a doomed exchange', async () => {
    const verifier = await deriveVerifier(secret)
    expect(await exchange(client('wrong'), server(verifier))).toBeNull()
    expect(await exchange(client(secret), server(verifier, { doomed: true }))).toBeNull()
  })

  it('binds to the channel with -PLUS and refuses another channel', async () => {
    const verifier = await deriveVerifier(secret)
    const plus = { mechanism: 'SCRAM-SHA-256-PLUS', channelBinding: binding } as const
    expect(await exchange(client(secret, plus), server(verifier, plus))).not.toBeNull()
    const elsewhere = { ...plus, channelBinding: Buffer.from('the certificate of a man between') }
    await expect(exchange(client(secret, elsewhere), server(verifier, plus))).rejects.toThrow(
      'SCRAM channel binding check failed',
    )
  })

  it('notices that -PLUS was taken out of the offer on the way', async () => {
    const verifier = await deriveVerifier(secret)
    const one = client(secret, { couldBind: true })
    await expect(exchange(one, server(verifier, { channelBinding: binding }))).rejects.toThrow(
      'channel binding negotiation',
    )
    expect(await exchange(client(secret, { couldBind: true }), server(verifier))).not.toBeNull()
  })

  it('refuses to bind where binding was not chosen, and to be chosen without binding', async () => {
    const verifier = await deriveVerifier(secret)
    const plain = server(verifier)
    expect(() => plain.first(Buffer.from('p=tls-server-end-point,,n=,r=abc'))).toThrow('malformed')
    const plus = server(verifier, { mechanism: 'SCRAM-SHA-256-PLUS', channelBinding: binding })
    expect(() => plus.first(Buffer.from('n,,n=,r=abc'))).toThrow('malformed')
    const unique = server(verifier, { mechanism: 'SCRAM-SHA-256-PLUS', channelBinding: binding })
    expect(() => unique.first(Buffer.from('p=tls-unique,,n=,r=abc'))).toThrow('malformed')
  })

  it.each([
    'n,,n=,r=',
    'n,,r=abc',
    'n,,m=ext,n=,r=abc',
    'x,,n=,r=abc',
    'n,n=,r=abc',
    'n,,n=,r=a\u0000b',
    'n,,n=,r=a,b'.slice(0, 3),
    '\u00ff',
    '',
  ])('refuses the client-first-message %j', async (text) => {
    const other = server(await deriveVerifier(secret))
    expect(() => other.first(Buffer.from(text, 'latin1'))).toThrow('malformed SCRAM message')
  })

  it('does not act for another user than the one who authenticates', async () => {
    const other = server(await deriveVerifier(secret))
    expect(() => other.first(Buffer.from('n,a=admin,n=,r=abc'))).toThrow('authorization identity')
  })

  it('refuses a nonce that is not the one of this exchange', async () => {
    const verifier = await deriveVerifier(secret)
    const one = client(secret)
    const other = server(verifier)
    const final = await one.next(other.first(one.first()))
    const forged = Buffer.from(final.toString().replace(/r=[^,]+/, 'r=replayed'))
    expect(() => other.final(forged)).toThrow('malformed SCRAM message')
  })

  it('takes a final message once', async () => {
    const one = client(secret)
    const other = server(await deriveVerifier(secret))
    const final = await one.next(other.first(one.first()))
    expect(other.final(final)).not.toBeNull()
    expect(() => other.final(final)).toThrow('malformed')
  })

  it('as a client believes no server that does not know the password', async () => {
    const verifier = await deriveVerifier(secret)
    const one = client(secret)
    const other = server({ ...verifier, serverKey: Buffer.alloc(32) })
    const final = other.final(await one.next(other.first(one.first())))
    expect(one.verify(final ?? Buffer.alloc(0))).toBe(false)
    expect(client(secret).verify(Buffer.from('v=AAAA'))).toBe(false)
    expect(client(secret).verify(Buffer.from('e=other-error'))).toBe(false)
  })

  it.each([
    ['r=other,s=AAAA,i=4096', 'a nonce that is not ours'],
    ['r=NONCE,s=AAAA,i=4096', 'a nonce without the server part'],
    ['r=NONCEx,s=AAAA,i=0', 'no iterations'],
    ['r=NONCEx,s=AAAA,i=99999999', 'iterations for minutes'],
    ['r=NONCEx,s=,i=4096', 'no salt'],
    ['m=ext,r=NONCEx,s=AAAA,i=4096', 'a mandatory extension'],
  ])('as a client refuses %j (%s)', async (text) => {
    const one = client(secret, { clientNonce: 'NONCE' })
    await expect(one.next(Buffer.from(text))).rejects.toThrow('malformed SCRAM message')
  })

  it('derives the keys of one password once', async () => {
    const keys = new ScramKeyCache(2)
    const salt = Buffer.alloc(16, 1)
    const first = keys.derive(secret, salt, 4096)
    expect(keys.derive(secret, salt, 4096)).toBe(first)
    expect(keys.derive('other', salt, 4096)).not.toBe(first)
    void keys.derive('third', salt, 4096)
    expect(keys.derive(secret, salt, 4096)).not.toBe(first)
  })
})

describe('mock verifiers', () => {
  it('give an unknown user the same salt each time, and each user another', () => {
    const mock = new MockVerifiers()
    expect(mock.verifierOf('ghost')).toEqual(mock.verifierOf('ghost'))
    expect(mock.verifierOf('ghost').salt).not.toEqual(mock.verifierOf('other').salt)
    expect(mock.verifierOf('ghost').salt).toHaveLength(16)
    expect(new MockVerifiers().verifierOf('ghost')).not.toEqual(mock.verifierOf('ghost'))
  })
})
