/**
 * TLS towards clients: certificate, key, client CA and CRL from files, taken over again when the
 * files change, without touching connections that are open.
 *
 * Invariants: TLS 1.2 at least; no session tickets, so that a resumed session cannot skip the CRL; a
 * client certificate that does not verify ends the handshake, one that is missing does not (the
 * authentication entries decide); new files that do not fit leave the old ones in place.
 */
import { constants, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import tls from 'node:tls'
import { ProxyError } from '../core/core.ts'
import { serverEndPoint, type PeerNames } from '../identity/identity.ts'
import { ignoreErrors } from '../upstream/upstream.ts'

export interface ClientTlsFiles {
  readonly cert: string
  readonly key: string
  /** CA of client certificates; null: none are asked for. */
  readonly clientCa: string | null
  /** Revocation list of that CA. */
  readonly crl: string | null
  /** Passphrase of the key. */
  readonly passphrase?: () => Promise<string>
}

/** A connection after its TLS handshake. */
export interface SecuredClient {
  readonly socket: tls.TLSSocket
  /** The client's certificate, verified; null where it sent none. */
  readonly certificate: PeerNames | null
  readonly endPoint: Buffer | null
}

interface Material {
  readonly options: tls.SecureContextOptions
  readonly endPoint: Buffer | null
}

interface Waiting {
  readonly resolve: (socket: tls.TLSSocket) => void
  readonly reject: (error: Error) => void
}

/** Upgrades client sockets; one per listener. */
export class ClientTls {
  readonly #files: ClientTlsFiles
  readonly #server: tls.Server
  /** By the connection's addresses and ports, which no two live connections share. */
  readonly #waiting = new Map<string, Waiting>()
  #endPoint: Buffer | null
  #content: string
  #lastFault = ''

  private constructor(files: ClientTlsFiles, material: Material, content: string) {
    this.#files = files
    this.#endPoint = material.endPoint
    this.#content = content
    this.#server = tls.createServer({
      requestCert: files.clientCa !== null,
      // A missing certificate is no error here; one that does not verify is, below.
      rejectUnauthorized: false,
      ALPNProtocols: ['postgresql'],
      ...material.options,
    })
    this.#server.on('secureConnection', (socket) => {
      ignoreErrors(socket)
      this.#waiting.get(connectionName(socket))?.resolve(socket)
    })
    this.#server.on('tlsClientError', () => undefined)
  }

  /** Reads the files; throws a `configuration` ProxyError that says what does not fit. */
  static async open(files: ClientTlsFiles): Promise<ClientTls> {
    const { material, content } = await load(files)
    return new ClientTls(files, material, content)
  }

  /**
   * Reads the files again. true: changed and taken over. Where they do not fit the old stay, and it
   * throws: once for each fault, so that who polls does not fill a log.
   */
  async reload(): Promise<boolean> {
    let loaded: Awaited<ReturnType<typeof load>>
    try {
      loaded = await load(this.#files)
    } catch (error) {
      const fault = error instanceof ProxyError ? (error.detail ?? '') : String(error)
      if (fault === this.#lastFault) return false
      this.#lastFault = fault
      throw error
    }
    this.#lastFault = ''
    const { material, content } = loaded
    if (content === this.#content) return false
    this.#server.setSecureContext(material.options)
    this.#endPoint = material.endPoint
    this.#content = content
    return true
  }

  /**
   * Performs the handshake on a socket whose next bytes are the ClientHello (they may be buffered in
   * it). Rejects where it fails; the socket is destroyed then. Time limits are the caller's: it
   * destroys the socket.
   */
  async accept(socket: Socket, direct: boolean): Promise<SecuredClient> {
    const endPoint = this.#endPoint
    const secure = await this.#handshake(socket)
    if (direct && secure.alpnProtocol !== 'postgresql') {
      // backend_startup.c: direct TLS without ALPN may be another protocol's client led astray.
      secure.destroy()
      throw new ProxyError(
        'protocol_violation',
        'received direct SSL connection request without ALPN protocol negotiation extension',
      )
    }
    const peer = secure.getPeerCertificate(true)
    const raw = peer.raw as Buffer | undefined
    if (raw === undefined) return { socket: secure, certificate: null, endPoint }
    if (!secure.authorized) {
      secure.destroy()
      throw new ProxyError('invalid_authorization', 'the client certificate is not valid', {
        cause: secure.authorizationError,
      })
    }
    const certificate: PeerNames = {
      subject: peer.subject,
      subjectaltname: peer.subjectaltname,
      raw,
    }
    return { socket: secure, certificate, endPoint }
  }

  #handshake(socket: Socket): Promise<tls.TLSSocket> {
    const name = connectionName(socket)
    return new Promise<tls.TLSSocket>((resolve, reject) => {
      const onClose = (): void => reject(handshakeFailed())
      socket.once('close', onClose)
      this.#waiting.set(name, {
        reject,
        resolve: (secure) => {
          socket.off('close', onClose)
          resolve(secure)
        },
      })
      // The documented way to hand a connection to a server that does not listen.
      this.#server.emit('connection', socket)
    }).finally(() => this.#waiting.delete(name))
  }
}

function handshakeFailed(): ProxyError {
  return new ProxyError('connection_failure', 'the TLS handshake failed')
}

function connectionName(socket: Socket): string {
  return `${socket.remoteAddress}|${socket.remotePort}|${socket.localAddress}|${socket.localPort}`
}

async function load(
  files: ClientTlsFiles,
): Promise<{ readonly material: Material; readonly content: string }> {
  try {
    const [cert, key, ca, crl] = await Promise.all([
      readFile(files.cert, 'utf8'),
      readFile(files.key, 'utf8'),
      files.clientCa === null ? null : readFile(files.clientCa, 'utf8'),
      files.crl === null ? null : readFile(files.crl, 'utf8'),
    ])
    const options: tls.SecureContextOptions = {
      cert,
      key,
      minVersion: 'TLSv1.2',
      secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
      ...(ca === null ? {} : { ca }),
      ...(crl === null ? {} : { crl }),
      ...(files.passphrase === undefined ? {} : { passphrase: await files.passphrase() }),
    }
    // Throws where key and certificate are not a pair, before anything is replaced.
    tls.createSecureContext(options)
    const der = new X509Certificate(cert).raw
    return {
      material: { options, endPoint: serverEndPoint(der) },
      content: [cert, key, ca ?? '', crl ?? ''].join('\0'),
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new ProxyError('configuration', 'the TLS files of listen.tls cannot be used', {
      detail: `${reason}.`,
      hint: 'cert and key must be PEM files that belong together; client_ca and crl PEM files.',
      cause: error,
    })
  }
}
