/**
 * Opening a byte stream to the upstream: TCP or Unix socket, then TLS as `sslmode` says.
 *
 * Invariants: nothing the server sent before the TLS handshake is ever read as if it had come inside
 * (CVE-2021-23222); an error before TLS is not shown, because anybody on the way can write it
 * (CVE-2024-10977); `verify-full` checks the chain and the name, and never falls back.
 */
import net from 'node:net'
import tls from 'node:tls'
import { serverEndPoint } from '../identity/identity.ts'
import { ProxyError, type Interrupt } from '../core/core.ts'
import { encodeSslRequest, written } from '../wire/wire.ts'
import { ignoreErrors, SocketBytes } from './socket-bytes.ts'
import type { UpstreamTarget, UpstreamTlsMode } from './target.ts'

/** A stream that is ready for the StartupMessage (or a CancelRequest). */
export interface UpstreamStream {
  readonly socket: net.Socket | tls.TLSSocket
  readonly encrypted: boolean
  /** tls-server-end-point of the server's certificate, where the stream is encrypted and it has one. */
  readonly endPoint: Buffer | null
}

/** Whether to use TLS on this attempt: what `mode` leaves open is tried in two attempts. */
export type TlsAttempt = 'never' | 'if_offered' | 'always'

/** `allow` and `prefer` try the other way if pg_hba.conf has no entry for the first. */
export function tlsAttempts(mode: UpstreamTlsMode): readonly [TlsAttempt, TlsAttempt?] {
  switch (mode) {
    case 'disable':
      return ['never']
    case 'allow':
      return ['never', 'always']
    case 'prefer':
      return ['if_offered', 'never']
    case 'require':
    case 'verify-ca':
    case 'verify-full':
      return ['always']
  }
}

/** Connects and, where wanted, encrypts. The interrupt destroys the socket and ends every wait. */
export async function openStream(
  target: UpstreamTarget,
  attempt: TlsAttempt,
  interrupt: Interrupt,
): Promise<UpstreamStream> {
  const socket = await connect(target, interrupt)
  const onRaised = (): void => void socket.destroy()
  interrupt.on(onRaised)
  try {
    // A Unix socket has no TLS in PostgreSQL, whatever the mode says.
    if (attempt === 'never' || isUnix(target)) return { socket, encrypted: false, endPoint: null }
    if (target.tls.negotiation === 'postgres' && !(await requestTls(socket, target))) {
      if (attempt === 'if_offered') return { socket, encrypted: false, endPoint: null }
      throw new ProxyError('upstream_unreachable', 'the upstream server does not support TLS', {
        detail: `tls.mode is ${target.tls.mode}.`,
        hint: 'Turn ssl on in postgresql.conf, or set upstream.tls.mode to disable for a server on the same machine.',
      })
    }
    return await encrypt(socket, target)
  } catch (error) {
    socket.destroy()
    throw error
  } finally {
    interrupt.off(onRaised)
  }
}

/** The path of a Unix socket is known by its slash, as in libpq. */
export function isUnix(target: UpstreamTarget): boolean {
  return target.host.startsWith('/')
}

/** Is the upstream on this machine? Then cleartext goes nowhere else. */
export function isLocal(target: UpstreamTarget, socket: net.Socket): boolean {
  if (isUnix(target)) return true
  const address = socket.remoteAddress ?? ''
  return address === '::1' || address.startsWith('127.') || address.startsWith('::ffff:127.')
}

/**
 * What net.connect takes. The last four are what Node sets itself, on a clone: named here they cost
 * nothing there, while added to the clone they are 9 µs and a hidden class for each socket (Node 20,
 * docs/decisions/performance.md).
 */
function addressOf(target: UpstreamTarget): net.NetConnectOpts {
  const own = { allowHalfOpen: false, emitClose: false, autoDestroy: true, decodeStrings: false }
  const { host, port } = target
  if (!isUnix(target)) return { host, port, autoSelectFamily: true, ...own }
  return { path: `${host.replace(/\/$/, '')}/.s.PGSQL.${port}`, ...own }
}

function connect(target: UpstreamTarget, interrupt: Interrupt): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(addressOf(target))
    ignoreErrors(socket)
    const onRaised = (): void => fail(interrupt.reason)
    const fail = (error: unknown): void => {
      interrupt.off(onRaised)
      socket.destroy()
      reject(unreachable(target, error))
    }
    if (interrupt.raised) {
      onRaised()
      return
    }
    interrupt.on(onRaised)
    socket.once('error', fail)
    socket.once('connect', () => {
      interrupt.off(onRaised)
      socket.off('error', fail)
      socket.setNoDelay(true)
      socket.setKeepAlive(true, 60_000)
      resolve(socket)
    })
  })
}

/** SSLRequest (F); true for 'S'. Exactly one byte may come before the handshake. */
async function requestTls(socket: net.Socket, target: UpstreamTarget): Promise<boolean> {
  const bytes = new SocketBytes(socket)
  socket.write(written(encodeSslRequest))
  const answer = await readOrFail(bytes, target)
  const extraBytes = answer.length - 1 + bytes.bufferedBytes
  bytes.release()
  const code = answer[0]
  if (code === 0x4e /* N */) {
    if (extraBytes > 0) throw brokenTls('bytes came behind the refusal of TLS')
    return false
  }
  if (code === 0x53 /* S */) {
    if (extraBytes > 0) throw brokenTls('unencrypted bytes came before the TLS handshake')
    return true
  }
  throw brokenTls('the answer to SSLRequest is neither S nor N')
}

function brokenTls(what: string): ProxyError {
  return new ProxyError('upstream_unreachable', 'the upstream server could not start TLS', {
    detail: `${what[0]?.toUpperCase() ?? ''}${what.slice(1)}.`,
  })
}

function encrypt(socket: net.Socket, target: UpstreamTarget): Promise<UpstreamStream> {
  return new Promise((resolve, reject) => {
    let secure: tls.TLSSocket
    try {
      secure = tls.connect({ socket, ...tlsOptions(target) })
    } catch (error) {
      reject(tlsFailed(target, error))
      return
    }
    ignoreErrors(secure)
    const onClose = (): void => fail(new Error('the server closed the connection'))
    const fail = (error: unknown): void => {
      secure.destroy()
      reject(tlsFailed(target, error))
    }
    secure.once('error', fail)
    secure.once('close', onClose)
    secure.once('secureConnect', () => {
      secure.off('error', fail)
      secure.off('close', onClose)
      if (target.tls.negotiation === 'direct' && secure.alpnProtocol !== 'postgresql') {
        fail(new Error('the server did not agree to the protocol "postgresql" (ALPN)'))
        return
      }
      const certificate = secure.getPeerCertificate().raw as Buffer | undefined
      const endPoint = certificate === undefined ? null : serverEndPoint(certificate)
      resolve({ socket: secure, encrypted: true, endPoint })
    })
  })
}

/** `sslmode` in Node's words. */
export function tlsOptions(target: UpstreamTarget): tls.ConnectionOptions {
  const { mode, ca, cert, key, crl, serverName, negotiation } = target.tls
  const name = serverName ?? target.host
  // libpq: with a root certificate, `require` verifies the chain like `verify-ca`.
  const verifies =
    mode === 'verify-full' || mode === 'verify-ca' || (mode === 'require' && ca !== null)
  return {
    minVersion: 'TLSv1.2',
    rejectUnauthorized: verifies,
    checkServerIdentity: (_host, certificate) =>
      mode === 'verify-full' ? tls.checkServerIdentity(name, certificate) : undefined,
    ...(net.isIP(name) === 0 ? { servername: name } : {}),
    ...(ca === null ? {} : { ca }),
    ...(cert === null ? {} : { cert }),
    ...(key === null ? {} : { key }),
    ...(crl === null ? {} : { crl }),
    ...(negotiation === 'direct' ? { ALPNProtocols: ['postgresql'] } : {}),
  }
}

function tlsFailed(target: UpstreamTarget, cause: unknown): ProxyError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new ProxyError(
    'upstream_unreachable',
    'the upstream server is not the one that is trusted',
    {
      detail: `TLS with ${target.host}:${target.port} (tls.mode ${target.tls.mode}) failed: ${reason}.`,
      hint: 'Check upstream.tls.ca and that the certificate names the host; verify-full checks both.',
      cause,
    },
  )
}

/** What a failed connect tells the client: the address is the operator's, so the code only. */
export function unreachable(target: UpstreamTarget, cause: unknown): ProxyError {
  const code = systemCode(cause) ?? timeoutName(cause)
  return new ProxyError('upstream_unreachable', 'the upstream server cannot be reached', {
    detail: `Connecting to the server of database "${target.database}" failed${code === null ? '' : ` (${code})`}.`,
    hint: 'The database may be down or restarting; try again in a moment.',
    cause,
  })
}

/** `ECONNREFUSED` and the like; the `code` of a DOMException is a number that tells nobody anything. */
function systemCode(cause: unknown): string | null {
  const code = (cause as NodeJS.ErrnoException | null)?.code
  return typeof code === 'string' ? code : null
}

function timeoutName(cause: unknown): string | null {
  if (!(cause instanceof Error)) return null
  return cause.name === 'TimeoutError' ? 'timeout' : cause.name === 'AbortError' ? 'aborted' : null
}

/** Reads; a closed connection is an error here. */
export async function readOrFail(bytes: SocketBytes, target: UpstreamTarget): Promise<Buffer> {
  let chunk: Buffer | null
  try {
    chunk = await bytes.read()
  } catch (error) {
    throw unreachable(target, error)
  }
  if (chunk === null) throw unreachable(target, new Error('the server closed the connection'))
  return chunk
}
