/**
 * Client certificates → identity, and the hash that SCRAM-SHA-256-PLUS binds to.
 *
 * The TLS layer has verified the chain and the CRL before any of this is asked. A name is taken from
 * the parsed certificate (never split out of a formatted string by guess), and one with a zero byte or
 * with several values of the wanted kind is refused (CVE-2009-4034 in PostgreSQL was such a name).
 */
import { createHash, X509Certificate } from 'node:crypto'
import type { CertificateEntry } from './options.ts'
import type { Identity } from './subject.ts'

/** The parts of `tls.PeerCertificate` that are used; multiple values of one kind come as a list. */
export interface PeerNames {
  readonly subject: Readonly<Record<string, string | readonly string[] | undefined>>
  readonly subjectaltname?: string | undefined
  readonly raw: Buffer
}

export type CertificateResult =
  | { readonly kind: 'identity'; readonly identity: Identity }
  | { readonly kind: 'rejected'; readonly reason: string }

/** Who a verified certificate is, for the user named in the StartupMessage. */
export function identityOfCertificate(
  peer: PeerNames,
  entry: CertificateEntry,
  startupUser: string,
): CertificateResult {
  const certificate = new X509Certificate(peer.raw)
  const names = namesOf(peer, certificate, entry.subject)
  if (names.length === 0) return rejected(`the certificate has no ${entry.subject}`)
  const mapped = names.flatMap((name) => {
    const subject = mapName(name, entry.pattern)
    return subject === null ? [] : [{ name, subject }]
  })
  const wanted = entry.matchUser ? mapped.filter((one) => one.subject === startupUser) : mapped
  const [found] = wanted
  if (found === undefined) return rejected('no name of the certificate fits')
  const { subject } = found
  if (new Set(wanted.map((one) => one.subject)).size > 1)
    return rejected('the certificate has several names that fit')

  if (/[\u0000-\u001f\u007f]/.test(subject)) return rejected('the name has control characters')
  const groups = entry.groupsFromOu ? valuesOf(peer.subject['OU']) : []
  const claims = {
    subject: certificate.subject,
    issuer: certificate.issuer,
    serial: certificate.serialNumber,
    fingerprint256: certificate.fingerprint256,
    subject_alt_name: certificate.subjectAltName ?? null,
  }
  return {
    kind: 'identity',
    identity: {
      subject,
      user: subject,
      email: entry.subject === 'email' ? found.name : null,
      groups: [...new Set([...groups, ...entry.groups])],
      type: entry.type,
      on_behalf_of: null,
      method: 'certificate',
      claims,
      expiresAtMs: Date.parse(certificate.validTo),
    },
  }
}

function namesOf(
  peer: PeerNames,
  certificate: X509Certificate,
  kind: CertificateEntry['subject'],
): readonly string[] {
  switch (kind) {
    case 'cn':
      return valuesOf(peer.subject['CN'])
    case 'dn':
      return [certificate.subject.split('\n').reverse().join(',')]
    case 'email':
      return alternativeNames(peer.subjectaltname, 'email')
    case 'dns':
      return alternativeNames(peer.subjectaltname, 'DNS')
    case 'uri':
      return alternativeNames(peer.subjectaltname, 'URI')
  }
}

function valuesOf(value: string | readonly string[] | undefined): readonly string[] {
  if (value === undefined) return []
  return typeof value === 'string' ? [value] : value
}

/** Node's form is `DNS:a, URI:b`; a value with special characters is a JSON string (CVE-2021-44532). */
function alternativeNames(text: string | undefined, kind: string): readonly string[] {
  const names: string[] = []
  for (const [, name = '', value = ''] of (text ?? '').matchAll(
    /([A-Za-z ]+):("(?:[^"\\]|\\.)*"|[^,]*)(?:, |$)/g,
  )) {
    if (name !== kind) continue
    names.push(value.startsWith('"') ? (JSON.parse(value) as string) : value)
  }
  return names
}

function mapName(name: string, pattern: string | null): string | null {
  if (pattern === null) return name
  const match = new RegExp(`^(?:${pattern})$`, 'u').exec(name)
  return match === null ? null : (match[1] ?? match[0])
}

function rejected(reason: string): CertificateResult {
  return { kind: 'rejected', reason }
}

/**
 * RFC 5929 §4.1 tls-server-end-point: the hash of the server's certificate by the hash of its own
 * signature, MD5 and SHA-1 replaced by SHA-256. Null where the signature has no single hash (Ed25519),
 * as in PostgreSQL (be_tls_get_certificate_hash): then SCRAM-SHA-256-PLUS cannot be used.
 */
export function serverEndPoint(certificateDer: Buffer): Buffer | null {
  const hash = signatureHash(certificateDer)
  return hash === null ? null : createHash(hash).update(certificateDer).digest()
}

/** Signature algorithm object identifiers (DER, hexadecimal) → hash. RFC 8017 A.2, RFC 5758 §3. */
const signatureHashes: Readonly<Record<string, string>> = {
  '2a864886f70d010104': 'sha256', // md5WithRSAEncryption
  '2a864886f70d010105': 'sha256', // sha1WithRSAEncryption
  '2a864886f70d01010e': 'sha224',
  '2a864886f70d01010b': 'sha256',
  '2a864886f70d01010c': 'sha384',
  '2a864886f70d01010d': 'sha512',
  '2a8648ce3d0401': 'sha256', // ecdsa-with-SHA1
  '2a8648ce3d040301': 'sha224',
  '2a8648ce3d040302': 'sha256',
  '2a8648ce3d040303': 'sha384',
  '2a8648ce3d040304': 'sha512',
}

/** Hashes named in the parameters of RSASSA-PSS. */
const pssOid = '2a864886f70d01010a'
const pssHashes: Readonly<Record<string, string>> = {
  '608648016503040201': 'sha256',
  '608648016503040202': 'sha384',
  '608648016503040203': 'sha512',
}

function signatureHash(der: Buffer): string | null {
  // Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, parameters }, … }
  const certificate = readElement(der, 0)
  if (certificate === null) return null
  const signed = readElement(der, certificate.start)
  if (signed === null) return null
  const algorithm = readElement(der, signed.end)
  const oid = algorithm === null ? null : readElement(der, algorithm.start)
  if (algorithm === null || oid?.tag !== 0x06) return null
  const name = der.toString('hex', oid.start, oid.end)
  if (name !== pssOid) return signatureHashes[name] ?? null
  // RSASSA-PSS-params ::= SEQUENCE { [0] SEQUENCE { OID of the hash … } DEFAULT sha1, … }
  const parameters = readElement(der, oid.end)
  const field = parameters === null ? null : readElement(der, parameters.start)
  if (field?.tag !== 0xa0) return 'sha256'
  const identifier = readElement(der, field.start)
  const hashOid = identifier === null ? null : readElement(der, identifier.start)
  if (hashOid?.tag !== 0x06) return null
  return pssHashes[der.toString('hex', hashOid.start, hashOid.end)] ?? null
}

interface DerElement {
  readonly tag: number
  /** Content in [start, end). */
  readonly start: number
  readonly end: number
}

function readElement(der: Buffer, offset: number): DerElement | null {
  const tag = der[offset]
  const first = der[offset + 1]
  if (tag === undefined || first === undefined) return null
  let start = offset + 2
  let length = first
  if (first >= 0x80) {
    const lengthBytes = first & 0x7f
    if (lengthBytes === 0 || lengthBytes > 4 || start + lengthBytes > der.length) return null
    length = der.readUIntBE(start, lengthBytes)
    start += lengthBytes
  }
  const end = start + length
  return end > der.length ? null : { tag, start, end }
}
