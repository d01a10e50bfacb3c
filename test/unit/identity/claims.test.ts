/** Claims → identity. */
import { describe, expect, it } from 'vitest'
import { claimAt, identityOfClaims, missingClaim } from '../../../src/identity/claims.ts'
import { oidcEntryDefaults, type OidcEntry } from '../../../src/identity/options.ts'

const entry: OidcEntry = {
  ...oidcEntryDefaults,
  method: 'oidc',
  issuer: 'https://issuer.example',
  audience: ['regate'],
}
const base = { iss: 'https://issuer.example', sub: 'u-1', exp: 2_000_000_000, iat: 1_999_999_000 }

function identityOf(claims: Record<string, unknown>, options: Partial<OidcEntry> = {}) {
  const result = identityOfClaims({ ...base, ...claims }, { ...entry, ...options })
  if (result.kind !== 'identity') throw new Error(result.reason)
  return result.identity
}

describe('claim paths', () => {
  const claims = {
    realm_access: { roles: ['a'] },
    'https://acme.example/groups': ['g'],
    'dotted.name': { x: 1 },
  }
  it.each([
    ['realm_access.roles', ['a']],
    ['https://acme.example/groups', ['g']],
    ['"dotted.name".x', 1],
    ['realm_access.missing', undefined],
    ['realm_access.roles.length', 1],
    ['constructor', undefined],
    ['__proto__.x', undefined],
  ])('%s', (path, value) => {
    expect(claimAt(claims, path)).toEqual(value)
  })
})

describe('identity of claims', () => {
  it('keeps the subject, all claims and the expiry with its grace', () => {
    const identity = identityOf({ email: 'a@b.example', groups: ['dba'] }, { expiryGraceMs: 5_000 })
    expect(identity).toMatchObject({
      subject: 'u-1',
      user: 'u-1',
      email: 'a@b.example',
      groups: ['dba'],
      type: 'human',
      on_behalf_of: null,
      method: 'oidc',
      expiresAtMs: 2_000_000_005_000,
    })
    expect(identity.claims['iat']).toBe(1_999_999_000)
  })

  it('adds prefixed groups of several claims to the groups of the entry, once each', () => {
    const claims = { groups: ['dba', 'dba'], realm_access: { roles: ['agents'] } }
    const options = {
      groupsClaim: ['groups', 'realm_access.roles'],
      groupsPrefix: 'idp:',
      groups: ['everyone', 'idp:dba'],
    }
    expect(identityOf(claims, options).groups).toEqual(['idp:dba', 'idp:agents', 'everyone'])
  })

  it('takes one string for one group', () => {
    expect(identityOf({ repository: 'acme/shop' }, { groupsClaim: ['repository'] }).groups).toEqual(
      ['acme/shop'],
    )
  })

  it.each([
    [{ groups: [1] }],
    [{ groups: { a: 1 } }],
    [{ groups: Array.from({ length: 1_001 }, (_, index) => `g${index}`) }],
    [{ groups: ['x'.repeat(513)] }],
    [{ sub: '' }],
    [{ sub: null }],
    [{ sub: 'a\nb' }],
    [{ exp: 'soon' }],
  ])('refuses %j', (claims) => {
    expect(identityOfClaims({ ...base, ...claims }, entry).kind).toBe('unusable')
  })

  it('does not name anybody by an address that is not verified', () => {
    expect(identityOf({ email: 'ceo@b.example', email_verified: false }).email).toBeNull()
  })

  it('does not fall back to another name when the claim for the user is missing', () => {
    expect(identityOfClaims(base, { ...entry, userClaim: 'preferred_username' }).kind).toBe(
      'unusable',
    )
    expect(
      identityOf({ preferred_username: 'ann' }, { userClaim: 'preferred_username' }).user,
    ).toBe('ann')
  })

  it('lets the actor of a delegated token act on behalf of its subject', () => {
    expect(identityOf({ act: { sub: 'agent-7' } })).toMatchObject({
      subject: 'agent-7',
      user: 'agent-7',
      on_behalf_of: 'u-1',
      type: 'machine',
    })
  })

  it.each([
    [{ gty: 'client-credentials' }],
    [{ idtyp: 'app' }],
    [{ client_id: 'u-1' }],
    [{ azp: 'u-1' }],
    [{ sub: 'system:serviceaccount:ci:runner' }],
    [{ iss: 'https://token.actions.githubusercontent.com' }],
  ])('takes %j for a machine', (claims) => {
    expect(identityOf(claims).type).toBe('machine')
  })

  it('believes the entry about the type before the claims', () => {
    expect(identityOf({ gty: 'client-credentials' }, { type: 'human' }).type).toBe('human')
  })
})

describe('required claims', () => {
  const required = new Map([['sub', ['repo:acme/shop:*']]])
  it.each([
    ['repo:acme/shop:main', null],
    ['repo:acme/shop:ref:main', 'sub'],
    ['repo:acme/shop-evil:main', 'sub'],
    ['xrepo:acme/shop:main', 'sub'],
    ['repo:acme/shop:main\nrepo', null],
    [undefined, 'sub'],
  ])('%j', (value, missing) => {
    expect(missingClaim({ sub: value }, required)).toBe(missing)
  })
  it('takes any element of a list, numbers and booleans by their text', () => {
    expect(missingClaim({ r: ['a', 'b'] }, new Map([['r', ['b']]]))).toBeNull()
    expect(missingClaim({ r: true }, new Map([['r', ['true']]]))).toBeNull()
    expect(missingClaim({ r: { toString: 'b' } }, new Map([['r', ['b']]]))).toBe('r')
  })
})
