/**
 * Signatures of messages to and from a webhook's receiver. What is signed names its direction, so a
 * request that is sent back is no callback, and holds timestamp, nonce and the exact bytes of the
 * body. One secret both ways (HMAC-SHA-256), or a key pair for each direction (Ed25519).
 *
 *   regate-signature: v1=<hex of HMAC-SHA-256> | ed25519=<base64>
 *   over  regate-<request|callback>-v1 "\n" timestamp "\n" nonce "\n" body
 */
import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  randomBytes,
  sign,
  timingSafeEqual,
  verify,
  type KeyObject,
} from 'node:crypto'
import { ProxyError } from '../core/core.ts'

export type Direction = 'request' | 'callback'

/** Signs, and checks signatures. */
export interface Signer {
  sign(text: Buffer): string
  verify(text: Buffer, signature: string): boolean
}

export const headerNames = {
  timestamp: 'regate-timestamp',
  nonce: 'regate-nonce',
  signature: 'regate-signature',
} as const

/** A callback may be this much older or newer than now. */
export const timestampSecondsMax = 300

/** The bytes that are signed. `timestamp`: seconds since the epoch, as in the header. */
export function signedText(
  direction: Direction,
  timestamp: string,
  nonce: string,
  body: Buffer,
): Buffer {
  return Buffer.concat([Buffer.from(`regate-${direction}-v1\n${timestamp}\n${nonce}\n`), body])
}

/** One secret for both directions. */
export function hmacSigner(secret: string): Signer {
  const of = (text: Buffer): Buffer => createHmac('sha256', secret).update(text).digest()
  return {
    sign: (text) => `v1=${of(text).toString('hex')}`,
    verify: (text, signature) => {
      const hex = /^v1=([0-9a-f]{64})$/.exec(signature)?.[1]
      return hex !== undefined && timingSafeEqual(Buffer.from(hex, 'hex'), of(text))
    },
  }
}

/** regate's private key signs requests, the receiver's public key checks callbacks; both PEM. */
export function ed25519Signer(privatePem: string, publicPem: string): Signer {
  const own = ed25519(() => createPrivateKey(privatePem), 'approvals.webhook.signing_key')
  const theirs = ed25519(() => createPublicKey(publicPem), 'approvals.webhook.callback_key')
  return {
    sign: (text) => `ed25519=${sign(null, text, own).toString('base64')}`,
    verify: (text, signature) => {
      const base64 = /^ed25519=([A-Za-z0-9+/]{86}==)$/.exec(signature)?.[1]
      return base64 !== undefined && verify(null, text, theirs, Buffer.from(base64, 'base64'))
    },
  }
}

function ed25519(read: () => KeyObject, key: string): KeyObject {
  try {
    const found = read()
    if (found.asymmetricKeyType === 'ed25519') return found
  } catch (cause) {
    throw new ProxyError('configuration', `${key} holds no key in PEM`, { cause })
  }
  throw new ProxyError('configuration', `${key} is no Ed25519 key`, {
    hint: 'openssl genpkey -algorithm ed25519 -out signing.pem',
  })
}

/** The headers of a message that is signed now. */
export function signedHeaders(
  signer: Signer,
  direction: Direction,
  body: Buffer,
  nowMs: number,
): Record<string, string> {
  const timestamp = String(Math.floor(nowMs / 1_000))
  const nonce = randomBytes(18).toString('base64url')
  return {
    [headerNames.timestamp]: timestamp,
    [headerNames.nonce]: nonce,
    [headerNames.signature]: signer.sign(signedText(direction, timestamp, nonce, body)),
  }
}

export type CallbackHeaders = Readonly<Record<string, string | readonly string[] | undefined>>

/**
 * Checks a callback's signature and age; the nonce that is to be taken, once, or why it is refused.
 * Whoever cannot sign learns nothing but that.
 */
export function checkCallback(
  signer: Signer,
  headers: CallbackHeaders,
  body: Buffer,
  nowMs: number,
): { readonly nonce: string } | { readonly refused: string } {
  const one = (name: string): string => {
    const value = headers[name]
    return typeof value === 'string' ? value : ''
  }
  const timestamp = one(headerNames.timestamp)
  const nonce = one(headerNames.nonce)
  const wellFormed = /^\d{1,12}$/.test(timestamp) && /^[A-Za-z0-9_-]{16,128}$/.test(nonce)
  const text = signedText('callback', timestamp, nonce, body)
  if (!wellFormed || !signer.verify(text, one(headerNames.signature))) {
    return { refused: 'the signature is missing or wrong' }
  }
  if (Math.abs(nowMs / 1_000 - Number(timestamp)) > timestampSecondsMax) {
    return { refused: `the timestamp is more than ${String(timestampSecondsMax)} s from now` }
  }
  return { nonce }
}
