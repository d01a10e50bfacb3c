/**
 * `.signatures.json` of a bundle: one JWT whose payload lists every file with its hash.
 * https://www.openpolicyagent.org/docs/latest/management-bundles/#signing
 *
 * No key and no signature: nothing to verify. A key and no signature, or a signature and no key: a
 * fault, as in OPA. The list and the bundle must name exactly the same files.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { compactVerify, decodeProtectedHeader, importSPKI, importX509 } from 'jose'
import { ProxyError } from '../core/core.ts'
import type { BundleFiles } from './bundle.ts'
import { canonicalJson } from './canonical.ts'

/** Not PS*: OPA signs those with a salt length that RFC 7518 does not allow. */
export type SigningAlgorithm =
  'RS256' | 'RS384' | 'RS512' | 'ES256' | 'ES384' | 'ES512' | 'HS256' | 'HS384' | 'HS512'

export interface VerificationKey {
  readonly algorithm: SigningAlgorithm
  /** PEM of a public key or certificate; the secret itself for HS*. */
  readonly key: string
  readonly scope?: string
}

export interface SigningOptions {
  /** Which of `keys` to use; without it the token's own `keyid` or `kid` says. */
  readonly keyId?: string
  readonly scope?: string
  readonly keys: Readonly<Record<string, VerificationKey>>
}

interface Payload {
  readonly files?: unknown
  readonly scope?: unknown
  readonly keyid?: unknown
  readonly exp?: unknown
  readonly nbf?: unknown
}

const signaturesFile = '.signatures.json'
const clockSkewMs = 5_000

const fault = (message: string, cause?: unknown) =>
  new ProxyError('policy_fault', `signature of the bundle: ${message}`, {
    hint: 'the bundle may have been changed on its way; the active policy stays',
    cause,
  })

/** Verifies as OPA does; throws policy_fault. */
export async function verifySignatures(
  files: BundleFiles,
  signing: SigningOptions | null,
  nowMs: number,
): Promise<void> {
  const signatures = files.get(signaturesFile)
  if (signing === null) {
    if (signatures === undefined) return
    throw fault(
      'the bundle is signed, but no verification key is configured (policy.bundle.signing)',
    )
  }
  if (signatures === undefined) throw fault('the bundle is not signed, but a signature is required')
  const payload = await verifyToken(onlyToken(signatures), signing)
  checkTimes(payload, nowMs)
  checkFiles(payload, files)
}

function onlyToken(bytes: Uint8Array): string {
  let document: { readonly signatures?: unknown }
  try {
    document = JSON.parse(Buffer.from(bytes).toString('utf8')) as typeof document
  } catch (cause) {
    throw fault('.signatures.json is not JSON', cause)
  }
  const list = document.signatures
  const token: unknown = Array.isArray(list) && list.length === 1 ? list[0] : undefined
  if (typeof token !== 'string') throw fault('.signatures.json must hold exactly one signature')
  return token
}

async function verifyToken(token: string, signing: SigningOptions): Promise<Payload> {
  const [keyId, key] = chooseKey(token, signing)
  let verified: Uint8Array
  try {
    const material = await importKey(key)
    const options = { algorithms: [key.algorithm] }
    verified = (await compactVerify(token, material, options)).payload
  } catch (cause) {
    throw fault(`it does not verify with the key "${keyId}" (${key.algorithm})`, cause)
  }
  const payload = JSON.parse(Buffer.from(verified).toString('utf8')) as Payload
  const scope = key.scope ?? signing.scope
  if (scope !== undefined && payload.scope !== scope) {
    throw fault(`its scope is ${JSON.stringify(payload.scope)}, expected is "${scope}"`)
  }
  return payload
}

/** The configured key id wins; else what the token says, which only chooses among configured keys. */
function chooseKey(token: string, signing: SigningOptions): readonly [string, VerificationKey] {
  const named = signing.keyId ?? tokenKeyId(token)
  const ids = Object.keys(signing.keys)
  // OPA signs with the key id "default" unless told otherwise: a single key needs no name.
  const only = ids.length === 1 && signing.keyId === undefined ? ids[0] : undefined
  const id = ids.includes(named) ? named : (only ?? '')
  const key = Object.hasOwn(signing.keys, id) ? signing.keys[id] : undefined
  if (key === undefined) {
    throw fault(`it names the key "${named}"; configured are ${ids.join(', ')}`)
  }
  return [id, key]
}

function tokenKeyId(token: string): string {
  try {
    const [, body = ''] = token.split('.')
    const payload = JSON.parse(Buffer.from(body, 'base64url').toString('utf8')) as Payload
    const id = payload.keyid ?? decodeProtectedHeader(token).kid
    return typeof id === 'string' ? id : ''
  } catch (cause) {
    throw fault('it is no JWT', cause)
  }
}

async function importKey(key: VerificationKey): Promise<Parameters<typeof compactVerify>[1]> {
  if (key.algorithm.startsWith('HS')) return Buffer.from(key.key, 'utf8')
  if (key.key.includes('BEGIN CERTIFICATE')) return importX509(key.key, key.algorithm)
  return importSPKI(key.key, key.algorithm)
}

function checkTimes(payload: Payload, nowMs: number): void {
  if (typeof payload.exp === 'number' && payload.exp * 1000 + clockSkewMs < nowMs) {
    throw fault(`it expired at ${new Date(payload.exp * 1000).toISOString()}`)
  }
  if (typeof payload.nbf === 'number' && payload.nbf * 1000 - clockSkewMs > nowMs) {
    throw fault(`it is not valid before ${new Date(payload.nbf * 1000).toISOString()}`)
  }
}

interface SignedFile {
  readonly name?: unknown
  readonly hash?: unknown
  readonly algorithm?: unknown
}

function checkFiles(payload: Payload, files: BundleFiles): void {
  if (!Array.isArray(payload.files)) throw fault('it lists no files')
  const listed = new Set<string>()
  for (const item of payload.files as readonly SignedFile[]) {
    if (typeof item.name !== 'string' || typeof item.hash !== 'string') {
      throw fault('an entry of its list of files has no name or no hash')
    }
    const path = item.name.replace(/^\/+/, '')
    const bytes = files.get(path)
    if (bytes === undefined) throw fault(`it lists "${path}", which is not in the bundle`)
    if (!sameHash(path, bytes, item)) throw fault(`"${path}" is not what was signed`)
    listed.add(path)
  }
  for (const path of files.keys()) {
    if (path !== signaturesFile && !listed.has(path)) {
      throw fault(`"${path}" is in the bundle, but was not signed`)
    }
  }
}

const hashNames: Readonly<Record<string, string>> = {
  MD5: 'md5',
  'SHA-1': 'sha1',
  'SHA-224': 'sha224',
  'SHA-256': 'sha256',
  'SHA-384': 'sha384',
  'SHA-512': 'sha512',
  'SHA-512-224': 'sha512-224',
  'SHA-512-256': 'sha512-256',
}

function sameHash(path: string, bytes: Uint8Array, item: SignedFile): boolean {
  const algorithm = item.algorithm === undefined ? 'SHA-256' : item.algorithm
  const hashName = typeof algorithm === 'string' ? hashNames[algorithm] : undefined
  if (hashName === undefined) throw fault(`it uses the hash ${JSON.stringify(algorithm)}`)
  const name = path.split('/').pop() ?? ''
  const structured = name === 'data.json' || name === '.manifest' || /^data\.ya?ml$/.test(name)
  const content = structured ? canonicalJson(Buffer.from(bytes).toString('utf8'), name) : bytes
  const digest = createHash(hashName).update(content).digest()
  const expected = Buffer.from(String(item.hash), 'hex')
  return digest.length === expected.length && timingSafeEqual(digest, expected)
}
