/**
 * SASL OAUTHBEARER (RFC 7628) as PostgreSQL 18 and its libpq speak it (src/backend/libpq/auth-oauth.c,
 * src/interfaces/libpq/fe-auth-oauth.c). Sans-I/O: bytes in, bytes out.
 */
import { ProxyError } from '../core/core.ts'

export const oauthBearerMechanism = 'OAUTHBEARER'

/** What a client's initial response says: a token, or nothing yet (it asks where to get one). */
export type OauthBearerRequest =
  { readonly kind: 'token'; readonly token: string } | { readonly kind: 'discovery' }

/** Reads `gs2-header kvsep *kvpair kvsep` (RFC 7628 §3.1). */
export function parseOauthBearer(message: Buffer): OauthBearerRequest {
  const text = message.toString('latin1')
  if (text.includes('\0')) throw malformed('a zero byte inside')
  const match = /^([^,]*),(a=[^,]*)?,\x01((?:[^\x01]*\x01)*)\x01$/s.exec(text)
  if (match === null) throw malformed('the initial response has an unknown form')
  const [, flag = '', authzid, pairs = ''] = match
  if (flag.startsWith('p=')) throw malformed('channel binding is not possible')
  if (flag !== 'n' && flag !== 'y') throw malformed('the GS2 header has an unknown form')
  if (authzid !== undefined) {
    throw new ProxyError(
      'feature_not_supported',
      'client uses authorization identity, but it is not supported',
    )
  }
  let auth: string | null = null
  for (const pair of pairs.split('\x01')) {
    if (pair === '') continue
    const [, key = '', value = ''] = /^([A-Za-z]+)=([\x20-\x7e\t\r\n]*)$/.exec(pair) ?? []
    if (key === '') throw malformed('a key/value pair has an unknown form')
    // Other keys (host, port) are to be ignored, RFC 7628 §3.1.
    if (key !== 'auth') continue
    if (auth !== null) throw malformed('auth is given twice')
    auth = value
  }
  if (auth === null) throw malformed('auth is missing')
  if (auth === '') return { kind: 'discovery' }
  // RFC 6750 §2.1: b64token; the scheme has no case.
  const token = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(auth)?.[1]
  return token === undefined ? { kind: 'token', token: '' } : { kind: 'token', token }
}

/**
 * The failure response (RFC 7628 §3.2.2): where the discovery document is and which scope to ask for.
 * The client answers it with one 0x01 and the exchange fails; libpq 18 then gets a token and comes
 * again.
 */
export function oauthBearerFailure(discoveryUrl: string, scope: string): Buffer {
  return Buffer.from(
    JSON.stringify({ status: 'invalid_token', 'openid-configuration': discoveryUrl, scope }),
  )
}

/** The one answer to a failure response that the RFC knows. */
export function isFailureAcknowledged(message: Buffer): boolean {
  return message.length === 1 && message[0] === 0x01
}

function malformed(what: string): ProxyError {
  return new ProxyError('protocol_violation', 'malformed OAUTHBEARER message', {
    detail: `In OAUTHBEARER: ${what}.`,
  })
}
