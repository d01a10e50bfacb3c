/**
 * Where and as whom a session connects upstream: plain data, mapped from `databases:` of the
 * configuration. Secrets are functions, so that no value is kept or printed.
 */
import type net from 'node:net'
import type tls from 'node:tls'
import type { Interrupt, Limits } from '../core/core.ts'

/** libpq's `sslmode`: https://www.postgresql.org/docs/18/libpq-ssl.html#LIBPQ-SSL-PROTECTION */
export type UpstreamTlsMode =
  'disable' | 'allow' | 'prefer' | 'require' | 'verify-ca' | 'verify-full'

export interface UpstreamTls {
  readonly mode: UpstreamTlsMode
  /** PEM; null: those that come with Node (NODE_EXTRA_CA_CERTS adds). */
  readonly ca: string | null
  /** Client certificate and key, PEM. */
  readonly cert: string | null
  readonly key: string | null
  readonly crl: string | null
  /** Name to verify and to send as SNI instead of the host. */
  readonly serverName: string | null
  /** `direct`: TLS from the first byte, ALPN `postgresql` (PostgreSQL 17 and later). */
  readonly negotiation: 'postgres' | 'direct'
}

export interface UpstreamTarget {
  /** Host name or address; a path that starts with `/` is the directory of a Unix socket. */
  readonly host: string
  readonly port: number
  readonly database: string
  readonly tls: UpstreamTls
}

/** A password source. `read` gives the current value; `invalidate` is called when it was refused. */
export interface Secret {
  read(): Promise<string>
  invalidate(): void
}

export interface UpstreamRole {
  readonly user: string
  /** null: no password (trust, peer, certificate). */
  readonly secret: Secret | null
}

export interface UpstreamOptions {
  readonly target: UpstreamTarget
  readonly role: UpstreamRole
  /** Startup parameters beside user and database; pinned ones are added. */
  readonly parameters: ReadonlyMap<string, string>
  readonly protocolMinor: 0 | 2
  readonly limits: Limits
  /** true: versions outside 14 to 18 are accepted. */
  readonly allowUnsupported?: boolean
  /** Ends the attempt; its reason becomes the error's cause. */
  readonly interrupt?: Interrupt
}

/** An authenticated connection that is idle after its first ReadyForQuery. The caller owns it. */
export interface UpstreamConnection {
  /** Does not read until somebody listens to `data`; has a listener that swallows `error`. */
  readonly socket: net.Socket | tls.TLSSocket
  /** ParameterStatus values seen, in the order of arrival. */
  readonly parameters: ReadonlyMap<string, string>
  readonly processId: number
  /** Cancel key: 4 bytes, up to 256 with protocol 3.2. */
  readonly secret: Buffer
  /** As `server_version_num`: 150018 is 15.18. */
  readonly serverVersion: number
  /** What the upstream agreed to. */
  readonly protocolMinor: 0 | 2
  /** Bytes read beyond the first ReadyForQuery, normally empty. */
  readonly pending: Buffer
  /** Whole NoticeResponse frames that came while connecting, to be passed on. */
  readonly notices: readonly Buffer[]
  readonly encrypted: boolean
}
