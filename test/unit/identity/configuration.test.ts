/** Entries of `authentication` that could never work, or would let in whom they should not. */
import { describe, expect, it } from 'vitest'
import { parseConfiguration } from '../../../src/config/config.ts'

function faultsOf(entry: object): readonly string[] {
  const text = `
databases: { shop: { upstream: { host: 127.0.0.1 }, roles: { default: { user: app } } } }
policy: { bundle: . }
listen: { tls: { cert: package.json, key: package.json, client_ca: package.json } }
authentication: [${JSON.stringify(entry)}]
`
  const loaded = parseConfiguration(text, `${process.cwd()}/regate.yaml`, {})
  return loaded.kind === 'errors'
    ? loaded.errors.map(({ key, message }) => `${key} ${message}`)
    : []
}

const oidc = { method: 'oidc', issuer: 'https://issuer.example', audience: 'regate' }
const certificate = { method: 'certificate' }

describe('authentication entries', () => {
  it('that are right have no faults', () => {
    expect(faultsOf(oidc)).toEqual([])
    expect(
      faultsOf({ ...oidc, match: { user: '/^a', address: ['10.0.0.0/8', 'loopback'] } }),
    ).toEqual([])
    expect(faultsOf({ ...oidc, issuer: 'http://localhost:9000', algorithms: ['EdDSA'] })).toEqual(
      [],
    )
    expect(faultsOf({ ...certificate, pattern: '(.+)@shop' })).toEqual([])
  })

  it.each([
    [{ ...oidc, match: { user: '/(' } }, 'authentication[0].match'],
    [{ ...oidc, match: { address: '10.0.0.0/64' } }, 'authentication[0].match'],
    [{ ...oidc, match: { address: 'db.example' } }, 'authentication[0].match'],
    [{ ...oidc, algorithms: ['HS256'] }, 'authentication[0].algorithms'],
    [{ ...oidc, algorithms: ['none'] }, 'authentication[0].algorithms'],
    [{ ...oidc, issuer: 'http://issuer.example' }, 'authentication[0].issuer'],
    [{ ...oidc, jwks_uri: 'http://issuer.example/keys' }, 'authentication[0].jwks_uri'],
    [{ ...certificate, pattern: '(' }, 'authentication[0].pattern'],
  ])('%j is refused at %s', (entry, key) => {
    expect(faultsOf(entry).map((fault) => fault.split(' ', 1)[0])).toContain(key)
  })
})
