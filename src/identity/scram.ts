/**
 * SCRAM-SHA-256 (RFC 5802, RFC 7677) both ways, as PostgreSQL speaks it (src/backend/libpq/auth-scram.c,
 * src/interfaces/libpq/fe-auth-scram.c). Sans-I/O: messages in, messages out.
 *
 * Invariants: proofs are compared in constant time; an unknown user runs the same steps as a known
 * one (mock verifier) and fails at the same place; a proof is never accepted without its nonce and
 * channel binding being checked; the server's signature is always verified before it is believed.
 */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { saslprep } from '@mongodb-js/saslprep'
import { fewRandomBytes, ProxyError } from '../core/core.ts'

export const scramMechanism = 'SCRAM-SHA-256'
export const scramPlusMechanism = 'SCRAM-SHA-256-PLUS'
export type ScramMechanism = typeof scramMechanism | typeof scramPlusMechanism

/** PostgreSQL's SCRAM_SHA_256_DEFAULT_ITERATIONS and SCRAM_DEFAULT_SALT_LEN (scram-common.h). */
export const scramIterationsDefault = 4096
const saltBytes = 16
const keyBytes = 32
const nonceBytes = 18
/** A hostile server must not be able to keep a thread busy for minutes. */
const iterationsMax = 10_000_000

const pbkdf2Async = promisify(pbkdf2)

/** What `pg_authid.rolpassword` holds of a SCRAM user. */
export interface ScramVerifier {
  readonly iterations: number
  readonly salt: Buffer
  readonly storedKey: Buffer
  readonly serverKey: Buffer
}

/** Reads `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`; null where it is not one. */
export function parseVerifier(text: string): ScramVerifier | null {
  const match =
    /^SCRAM-SHA-256\$(\d{1,8}):([A-Za-z0-9+/=]+)\$([A-Za-z0-9+/=]+):([A-Za-z0-9+/=]+)$/.exec(text)
  if (match === null) return null
  const [, iterationsText = '', saltText = '', storedText = '', serverText = ''] = match
  const iterations = Number(iterationsText)
  const salt = decodeBase64(saltText)
  const storedKey = decodeBase64(storedText)
  const serverKey = decodeBase64(serverText)
  if (salt === null || salt.length === 0 || iterations < 1 || iterations > iterationsMax)
    return null
  if (storedKey?.length !== keyBytes || serverKey?.length !== keyBytes) return null
  return { iterations, salt, storedKey, serverKey }
}

/** The text form that `parseVerifier` reads, byte for byte what PostgreSQL would store. */
export function formatVerifier(verifier: ScramVerifier): string {
  const { iterations, salt, storedKey, serverKey } = verifier
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey.toString('base64')}:${serverKey.toString('base64')}`
}

/** Makes a verifier of a password, with a fresh salt unless one is given. */
export async function deriveVerifier(
  password: string,
  options: { readonly salt?: Buffer; readonly iterations?: number } = {},
): Promise<ScramVerifier> {
  const salt = options.salt ?? randomBytes(saltBytes)
  const iterations = options.iterations ?? scramIterationsDefault
  const keys = await deriveKeys(password, salt, iterations)
  return { iterations, salt, storedKey: sha256(keys.clientKey), serverKey: keys.serverKey }
}

interface ScramKeys {
  readonly clientKey: Buffer
  readonly serverKey: Buffer
}

async function deriveKeys(password: string, salt: Buffer, iterations: number): Promise<ScramKeys> {
  const salted = await pbkdf2Async(
    normalizePassword(password),
    salt,
    iterations,
    keyBytes,
    'sha256',
  )
  return { clientKey: hmac(salted, 'Client Key'), serverKey: hmac(salted, 'Server Key') }
}

/** pg_saslprep (src/common/saslprep.c): a password that cannot be normalised is used as it is. */
function normalizePassword(password: string): string {
  try {
    return saslprep(password) || password
  } catch {
    return password
  }
}

/**
 * Makes the verifier of users that do not exist: the same name always meets the same salt, as with a
 * real user, so that asking twice tells nothing. One instance per process; its key is random.
 */
export class MockVerifiers {
  readonly #key = randomBytes(32)
  readonly #iterations: number

  constructor(iterations: number = scramIterationsDefault) {
    this.#iterations = iterations
  }

  verifierOf(user: string): ScramVerifier {
    const salt = hmac(this.#key, `salt:${user}`).subarray(0, saltBytes)
    return {
      iterations: this.#iterations,
      salt,
      storedKey: hmac(this.#key, `stored:${user}`),
      serverKey: hmac(this.#key, `server:${user}`),
    }
  }
}

export interface ScramServerOptions {
  readonly mechanism: ScramMechanism
  readonly verifier: ScramVerifier
  /** true: an unknown user; the exchange runs to its end and fails there. */
  readonly doomed: boolean
  /** tls-server-end-point data (RFC 5929) where SCRAM-SHA-256-PLUS was offered, else null. */
  readonly channelBinding: Buffer | null
  /** Only for test vectors. */
  readonly serverNonce?: string
}

/** The server's half of one exchange: `first`, then `final`, each once. */
export class ScramServer {
  readonly #options: ScramServerOptions
  #state: 'first' | 'final' | 'done' = 'first'
  #clientFirstBare = ''
  #serverFirst = ''
  #gs2Header = ''
  #nonce = ''

  constructor(options: ScramServerOptions) {
    this.#options = options
  }

  /** Takes client-first-message, gives server-first-message. */
  first(message: Buffer): Buffer {
    if (this.#state !== 'first') throw malformed('out of order')
    this.#state = 'final'
    const text = decodeText(message)
    const match =
      /^((p=[A-Za-z0-9.-]+|n|y),(a=[^,]*)?,)(n=([^,]*),r=([\x21-\x2b\x2d-\x7e]+)(,.*)?)$/s.exec(
        text,
      )
    if (match === null) throw malformed('client-first-message has an unknown form')
    const [, gs2Header = '', flag = '', authzid, bare = '', , clientNonce = ''] = match
    if (authzid !== undefined) {
      throw new ProxyError(
        'feature_not_supported',
        'client uses authorization identity, but it is not supported',
      )
    }
    this.#checkBindingFlag(flag)
    this.#gs2Header = gs2Header
    this.#clientFirstBare = bare
    const { salt, iterations } = this.#options.verifier
    this.#nonce =
      clientNonce + (this.#options.serverNonce ?? fewRandomBytes(nonceBytes).toString('base64'))
    this.#serverFirst = `r=${this.#nonce},s=${salt.toString('base64')},i=${iterations}`
    return Buffer.from(this.#serverFirst)
  }

  #checkBindingFlag(flag: string): void {
    const { mechanism, channelBinding } = this.#options
    if (mechanism === scramPlusMechanism) {
      if (flag !== 'p=tls-server-end-point') {
        throw malformed('the mechanism needs channel binding of type tls-server-end-point')
      }
      return
    }
    if (flag.startsWith('p=')) throw malformed('channel binding without SCRAM-SHA-256-PLUS')
    // The client says it could bind and believes that we cannot: someone removed -PLUS on the way.
    if (flag === 'y' && channelBinding !== null) {
      throw new ProxyError('invalid_authorization', 'SCRAM channel binding negotiation error', {
        detail:
          'The client supports SCRAM channel binding but thinks the server does not. However, this server does support channel binding.',
      })
    }
  }

  /** Takes client-final-message; null means that the proof is wrong (or the user unknown). */
  final(message: Buffer): Buffer | null {
    if (this.#state !== 'final') throw malformed('out of order')
    this.#state = 'done'
    const text = decodeText(message)
    const match =
      /^(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,.*)?),p=([A-Za-z0-9+/=]+)$/s.exec(text)
    if (match === null) throw malformed('client-final-message has an unknown form')
    const [, withoutProof = '', bindingText = '', nonce = '', proofText = ''] = match
    if (nonce !== this.#nonce) throw malformed('the nonce does not match')
    this.#checkBinding(bindingText)
    const proof = decodeBase64(proofText)
    if (proof?.length !== keyBytes) throw malformed('the proof has a wrong length')
    const { verifier, doomed } = this.#options
    const authMessage = `${this.#clientFirstBare},${this.#serverFirst},${withoutProof}`
    const clientKey = xor(proof, hmac(verifier.storedKey, authMessage))
    const equal = timingSafeEqual(sha256(clientKey), verifier.storedKey)
    const signature = hmac(verifier.serverKey, authMessage)
    if (!equal || doomed) return null
    return Buffer.from(`v=${signature.toString('base64')}`)
  }

  #checkBinding(bindingText: string): void {
    const { mechanism, channelBinding } = this.#options
    const data = mechanism === scramPlusMechanism ? channelBinding : null
    const expected = Buffer.concat([Buffer.from(this.#gs2Header), data ?? Buffer.alloc(0)])
    const given = decodeBase64(bindingText)
    if (given?.length !== expected.length || !timingSafeEqual(given, expected)) {
      throw new ProxyError('invalid_authorization', 'SCRAM channel binding check failed')
    }
  }
}

export interface ScramClientOptions {
  readonly password: string
  readonly mechanism: ScramMechanism
  /** The data to bind to, with SCRAM-SHA-256-PLUS. */
  readonly channelBinding: Buffer | null
  /** true: we could bind, the server did not offer it: gs2 flag `y`. */
  readonly couldBind: boolean
  /** Keeps what PBKDF2 gave, so that a hundred sessions of one role pay for it once. */
  readonly keys?: ScramKeyCache
  /** Only for test vectors. */
  readonly clientNonce?: string
  readonly user?: string
}

/** The client's half of one exchange: `first`, `next`, `verify`. */
export class ScramClient {
  readonly #options: ScramClientOptions
  readonly #nonce: string
  readonly #gs2Header: string
  #serverSignature: Buffer | null = null

  constructor(options: ScramClientOptions) {
    this.#options = options
    this.#nonce = options.clientNonce ?? fewRandomBytes(nonceBytes).toString('base64')
    const binds = options.mechanism === scramPlusMechanism
    this.#gs2Header = binds ? 'p=tls-server-end-point,,' : options.couldBind ? 'y,,' : 'n,,'
  }

  /** client-first-message. The user is left empty: PostgreSQL takes the one of the startup packet. */
  first(): Buffer {
    return Buffer.from(this.#gs2Header + this.#bare())
  }

  #bare(): string {
    return `n=${this.#options.user ?? ''},r=${this.#nonce}`
  }

  /** Takes server-first-message, gives client-final-message. */
  async next(message: Buffer): Promise<Buffer> {
    const text = decodeText(message)
    const match = /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/=]+),i=(\d{1,8})(?:,.*)?$/s.exec(text)
    if (match === null) throw malformed('server-first-message has an unknown form')
    const [, nonce = '', saltText = '', iterationsText = ''] = match
    const salt = decodeBase64(saltText)
    const iterations = Number(iterationsText)
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) {
      throw malformed('the nonce does not match')
    }
    if (salt === null || iterations < 1 || iterations > iterationsMax) {
      throw malformed('the salt or the iteration count is not acceptable')
    }
    const { password, channelBinding, mechanism, keys } = this.#options
    const { clientKey, serverKey } = await (keys === undefined
      ? deriveKeys(password, salt, iterations)
      : keys.derive(password, salt, iterations))
    const data =
      mechanism === scramPlusMechanism ? (channelBinding ?? Buffer.alloc(0)) : Buffer.alloc(0)
    const binding = Buffer.concat([Buffer.from(this.#gs2Header), data]).toString('base64')
    const withoutProof = `c=${binding},r=${nonce}`
    const authMessage = `${this.#bare()},${text},${withoutProof}`
    const proof = xor(clientKey, hmac(sha256(clientKey), authMessage))
    this.#serverSignature = hmac(serverKey, authMessage)
    return Buffer.from(`${withoutProof},p=${proof.toString('base64')}`)
  }

  /** Takes server-final-message; false: the server does not know the password, so it is an impostor. */
  verify(message: Buffer): boolean {
    const match = /^v=([A-Za-z0-9+/=]+)(?:,.*)?$/s.exec(decodeText(message))
    const given = match === null ? null : decodeBase64(match[1] ?? '')
    if (this.#serverSignature === null || given?.length !== keyBytes) return false
    return timingSafeEqual(given, this.#serverSignature)
  }
}

/**
 * The keys that PBKDF2 derived, by password digest, salt and iterations. Bounded; the password is
 * not kept. Without it each upstream connection costs some milliseconds of CPU.
 */
export class ScramKeyCache {
  readonly #entries = new Map<string, Promise<ScramKeys>>()
  readonly #key = randomBytes(32)
  readonly #countMax: number

  constructor(countMax = 256) {
    this.#countMax = countMax
  }

  derive(password: string, salt: Buffer, iterations: number): Promise<ScramKeys> {
    const digest = hmac(this.#key, password).toString('base64')
    const name = `${digest}:${salt.toString('base64')}:${iterations}`
    const known = this.#entries.get(name)
    if (known !== undefined) return known
    const made = deriveKeys(password, salt, iterations)
    const oldest = this.#entries.keys().next()
    if (this.#entries.size >= this.#countMax && !oldest.done) this.#entries.delete(oldest.value)
    this.#entries.set(name, made)
    made.catch(() => this.#entries.delete(name))
    return made
  }
}

function malformed(what: string): ProxyError {
  return new ProxyError('protocol_violation', 'malformed SCRAM message', {
    detail: `In SCRAM: ${what}.`,
  })
}

function decodeText(message: Buffer): string {
  const text = message.toString('utf8')
  if (text.includes('\0') || text.includes('\ufffd'))
    throw malformed('not UTF-8, or a zero byte inside')
  return text
}

/** Strict base64: Node's own decoder skips what it does not know. */
function decodeBase64(text: string): Buffer | null {
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? bytes : null
}

function hmac(key: Buffer, data: string): Buffer {
  return createHmac('sha256', key).update(data).digest()
}

function sha256(data: Buffer): Buffer {
  return createHash('sha256').update(data).digest()
}

function xor(a: Buffer, b: Buffer): Buffer {
  const out = Buffer.allocUnsafe(a.length)
  for (let index = 0; index < a.length; index++) out[index] = (a[index] ?? 0) ^ (b[index] ?? 0)
  return out
}
