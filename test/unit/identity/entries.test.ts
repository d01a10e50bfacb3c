/** Which entry of `authentication` decides. */
import { describe, expect, it } from 'vitest'
import { inBlock, matches, matchFault, selectOffer } from '../../../src/identity/entries.ts'
import { isLoopback } from '../../../src/identity/source.ts'
import {
  oidcEntryDefaults,
  type AuthenticationEntry,
  type OidcEntry,
} from '../../../src/identity/options.ts'

const facts = {
  user: 'ann',
  database: 'shop',
  address: '10.1.2.3',
  tls: true,
  certificate: false,
}
const oidc = (issuer: string, options: Partial<OidcEntry> = {}): OidcEntry => ({
  ...oidcEntryDefaults,
  method: 'oidc',
  issuer,
  audience: ['regate'],
  ...options,
})
const scram: AuthenticationEntry = { method: 'scram', match: null, groups: [], users: 'users.yaml' }
const trust: AuthenticationEntry = { method: 'trust', match: null, groups: [], type: 'machine' }

describe('match', () => {
  it.each([
    [null, true],
    [{}, true],
    [{ user: ['bob', 'ann'] }, true],
    [{ user: ['/^a.n$'] }, true],
    [{ user: ['an'] }, false],
    [{ user: ['all'] }, true],
    [{ database: ['other'] }, false],
    [{ database: ['/sh'] }, true],
    [{ address: ['10.0.0.0/8'] }, true],
    [{ address: ['10.1.2.4', '::/0'] }, false],
    [{ address: ['loopback'] }, false],
    [{ tls: true }, true],
    [{ tls: false }, false],
    [{ certificate: true }, false],
    [{ user: ['ann'], database: ['other'] }, false],
  ])('%j → %s', (match, fits) => {
    expect(matches(match, facts)).toBe(fits)
  })

  it.each([
    ['127.0.0.1', true],
    ['127.8.9.10', true],
    ['::1', true],
    ['::ffff:127.0.0.1', true],
    [null, true],
    ['128.0.0.1', false],
    ['::2', false],
    ['::ffff:10.0.0.1', false],
    ['127.evil.example', false],
  ])('loopback: %j is %s', (address, loopback) => {
    expect(isLoopback(address)).toBe(loopback)
  })

  it('compares an IPv4 client of a dual-stack listener with IPv4 blocks', () => {
    expect(inBlock('10.0.0.0/8', '::ffff:10.9.9.9')).toBe(true)
    expect(inBlock('fe80::/10', 'fe80::1%eth0')).toBe(true)
    expect(inBlock('0.0.0.0/0', 'fe80::1')).toBe(false)
  })

  it.each([
    [{ user: ['/('] }, true],
    [{ address: ['10.0.0.0/33'] }, true],
    [{ address: ['example.com'] }, true],
    [{ address: ['10.0.0.1', '::1/128', 'loopback'] }, false],
  ])('finds faults: %j %s', (match, fault) => {
    expect(matchFault(match) !== null).toBe(fault)
  })
})

describe('the offer', () => {
  it('is of the first entry that fits, and of nobody where none does', () => {
    const entries = [{ ...trust, match: { address: ['loopback'] } }, scram]
    expect(selectOffer(entries, facts)).toMatchObject({ kind: 'sasl' })
    expect(selectOffer(entries, { ...facts, address: '127.0.0.1' })).toMatchObject({
      kind: 'trust',
    })
    expect(selectOffer([{ ...trust, match: { user: ['bob'] } }], facts)).toEqual({ kind: 'none' })
    expect(selectOffer([], facts)).toEqual({ kind: 'none' })
  })

  it('asks for the token as a password where OIDC stands alone, of all its issuers', () => {
    const one = oidc('https://one.example')
    const two = oidc('https://two.example')
    expect(selectOffer([one, two, trust], facts)).toEqual({ kind: 'password', oidc: [one, two] })
  })

  it('is one SASL offer for OIDC and SCRAM of the same match', () => {
    const one = oidc('https://one.example')
    expect(selectOffer([one, scram], facts)).toEqual({ kind: 'sasl', scram, oidc: [one] })
    expect(selectOffer([scram, one], facts)).toEqual({ kind: 'sasl', scram, oidc: [one] })
  })

  it('keeps an entry for cleartext tokens by itself', () => {
    const password = oidc('https://one.example', { flow: 'password' })
    expect(selectOffer([password, scram], facts)).toEqual({ kind: 'password', oidc: [password] })
    expect(selectOffer([scram, password], facts)).toEqual({ kind: 'sasl', scram, oidc: [] })
  })

  it('does not join entries of another match, nor such behind a foreign one', () => {
    const other = oidc('https://two.example', { match: { user: ['ann'] } })
    expect(selectOffer([oidc('https://one.example'), other], facts)).toMatchObject({
      oidc: [{ issuer: 'https://one.example' }],
    })
    expect(selectOffer([scram, trust, oidc('https://one.example')], facts)).toMatchObject({
      oidc: [],
    })
  })

  it('offers SASL alone where the entry says so', () => {
    const sasl = oidc('https://one.example', { flow: 'sasl' })
    expect(selectOffer([sasl], facts)).toEqual({ kind: 'sasl', scram: null, oidc: [sasl] })
  })
})
