/** OAUTHBEARER messages: RFC 7628 and libpq 18. */
import { describe, expect, it } from 'vitest'
import {
  isFailureAcknowledged,
  oauthBearerFailure,
  parseOauthBearer,
} from '../../../src/identity/oauthbearer.ts'

const parse = (text: string) => parseOauthBearer(Buffer.from(text, 'latin1'))

describe('OAUTHBEARER', () => {
  it.each([
    ['n,,\x01auth=Bearer abc.def.ghi\x01\x01', 'abc.def.ghi'],
    ['y,,\x01auth=bearer  abc\x01\x01', 'abc'],
    ['n,,\x01host=db\x01port=5432\x01auth=Bearer YWJj==\x01\x01', 'YWJj=='],
  ])('reads the token of %j', (text, token) => {
    expect(parse(text)).toEqual({ kind: 'token', token })
  })

  it('takes an empty auth for the question where to get a token, as libpq asks', () => {
    expect(parse('n,,\x01auth=\x01\x01')).toEqual({ kind: 'discovery' })
  })

  it.each([
    'n,,\x01auth=Basic abc\x01\x01',
    'n,,\x01auth=Bearer\x01\x01',
    'n,,\x01auth=Bearer a b\x01\x01',
  ])('makes of %j a token that nobody accepts', (text) => {
    expect(parse(text)).toEqual({ kind: 'token', token: '' })
  })

  it.each([
    '',
    'n,,',
    'n,,\x01',
    'n,,\x01\x01',
    'n,,\x01auth=Bearer x',
    'n,,\x01auth=Bearer x\x01',
    'n,,\x01auth=Bearer x\x01auth=Bearer y\x01\x01',
    'p=tls-server-end-point,,\x01auth=Bearer x\x01\x01',
    'z,,\x01auth=Bearer x\x01\x01',
    'n,,\x01=x\x01auth=Bearer x\x01\x01',
    'n,,\x01auth=Bearer \x00x\x01\x01',
    'n,,\x01auth=Bearer x\x01\x01more',
  ])('refuses %j', (text) => {
    expect(() => parse(text)).toThrow('malformed OAUTHBEARER message')
  })

  it('does not act for another user', () => {
    expect(() => parse('n,a=admin,\x01auth=Bearer x\x01\x01')).toThrow('authorization identity')
  })

  it('names the discovery document and the scope when it fails', () => {
    const text = oauthBearerFailure(
      'https://i.example/.well-known/openid-configuration',
      'openid db',
    )
    expect(JSON.parse(text.toString())).toEqual({
      status: 'invalid_token',
      'openid-configuration': 'https://i.example/.well-known/openid-configuration',
      scope: 'openid db',
    })
  })

  it('expects one 0x01 behind a failure', () => {
    expect(isFailureAcknowledged(Buffer.from([1]))).toBe(true)
    expect(isFailureAcknowledged(Buffer.from([1, 1]))).toBe(false)
    expect(isFailureAcknowledged(Buffer.alloc(0))).toBe(false)
  })
})
