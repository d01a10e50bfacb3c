/**
 * What the code works with: the document with durations as milliseconds, paths resolved, names of
 * entries mapped to the options of the layers that use them. Plain and immutable. Holds where the
 * secrets are, never a secret.
 */
import { availableParallelism } from 'node:os'
import { resolve } from 'node:path'
import { defaultLimits, type Limits } from '../core/core.ts'
import {
  oidcEntryDefaults,
  type AuthenticationEntry,
  type EntryMatch,
  type OidcEntry,
} from '../identity/identity.ts'
import type { DetectorKind } from '../masking/masking.ts'
import type { UpstreamTlsMode } from '../upstream/upstream.ts'
import type { ConfigurationDocument } from './schema.ts'
import { readSecret, secretSource, type SecretSource } from './secrets.ts'
import { durationMs, isLoopback, sizeBytes } from './values.ts'

export interface ListenTlsConfiguration {
  readonly cert: string
  readonly key: string
  readonly clientCa: string | null
  readonly clientCrl: string | null
  readonly required: boolean
}

export interface UpstreamTlsConfiguration {
  readonly mode: UpstreamTlsMode
  /** Paths of PEM files. */
  readonly ca: string | null
  readonly cert: string | null
  readonly key: string | null
  readonly crl: string | null
  readonly serverName: string | null
  readonly negotiation: 'postgres' | 'direct'
}

export interface RoleConfiguration {
  readonly user: string
  readonly password: SecretSource | null
}

export interface DatabaseConfiguration {
  /** Key of `databases`; `*` is any name. */
  readonly name: string
  readonly host: string
  readonly port: number
  /** null: the name that the client asked for. */
  readonly database: string | null
  readonly tls: UpstreamTlsConfiguration
  readonly roles: ReadonlyMap<string, RoleConfiguration>
  readonly allowUnsupportedVersion: boolean
  readonly catalogPollMs: number
}

/** A remote service: OPA's `services` in short. */
export interface ServiceConfiguration {
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly token: SecretSource | null
  readonly ca: string | null
  readonly cert: string | null
  readonly key: string | null
}

export type BundleConfiguration =
  /** A directory or a bundle.tar.gz; which of them, the file system tells. */
  | { readonly kind: 'path'; readonly path: string }
  | {
      readonly kind: 'remote'
      readonly service: ServiceConfiguration
      readonly resource: string
      readonly polling: {
        readonly minDelayMs: number
        readonly maxDelayMs: number
        readonly longPollingMs: number | null
      }
      readonly signing: SigningConfiguration | null
      readonly persist: string | null
    }

export interface SigningConfiguration {
  readonly keyId: string | null
  readonly scope: string | null
  readonly algorithm: 'RS256' | 'ES256' | 'HS256'
  readonly publicKey: string | null
  readonly secret: SecretSource | null
}

export interface PolicyConfiguration {
  readonly bundle: BundleConfiguration
  readonly data: readonly string[]
  readonly shadow: { readonly bundle: BundleConfiguration; readonly data: readonly string[] } | null
  readonly opa: string | null
}

export type SinkConfiguration =
  | ({ readonly kind: 'http' | 'otlp' | 'opa' } & ServiceConfiguration)
  | { readonly kind: 'file' | 'opa_file'; readonly path: string }
  | {
      readonly kind: 'postgres'
      readonly url: string
      readonly table: string
      readonly password: SecretSource | null
    }
  | { readonly kind: 'stdout' }

export interface Configuration {
  /** The file this came from. */
  readonly path: string
  readonly listen: {
    readonly host: string
    readonly port: number
    readonly tls: ListenTlsConfiguration | null
  }
  readonly workers: number
  readonly databases: ReadonlyMap<string, DatabaseConfiguration>
  readonly authentication: readonly AuthenticationEntry[]
  readonly policy: PolicyConfiguration
  /** Key of the hash and noise masks; null: a random one each time regate starts. */
  readonly maskingKey: SecretSource | null
  /** Kinds of values that are hidden in text that no mask covers. */
  readonly detectors: readonly DetectorKind[]
  readonly approvals: {
    readonly adapter: 'console' | 'webhook'
    readonly webhook: {
      readonly url: string
      readonly format: 'json' | 'slack' | 'teams'
      /** PEM file of CAs. */
      readonly ca: string | null
      readonly secret: SecretSource | null
      /** With `callbackKey` (a PEM file) instead of `secret`. */
      readonly signingKey: SecretSource | null
      readonly callbackKey: string | null
    } | null
    readonly waitMs: number
    readonly ttlMs: number
    /** `embedded` or a connection URL without password. */
    readonly store: string
    readonly storePassword: SecretSource | null
  }
  readonly audit: {
    readonly directory: string
    readonly fsync: 'batch' | 'always'
    readonly retainMs: number
    readonly segmentBytes: number
    readonly segmentMs: number
    readonly literals: 'keep' | 'redact'
    readonly results: 'none' | 'masked'
    readonly sinks: readonly SinkConfiguration[]
  }
  /** Null: nothing is traced. */
  readonly traces: { readonly service: ServiceConfiguration; readonly ratio: number } | null
  readonly admin: {
    readonly host: string
    readonly port: number
    /** Where people reach it, without a slash at the end; null: at its address. */
    readonly url: string | null
    readonly groups: readonly string[]
    readonly viewers: readonly string[]
    readonly reviewers: readonly string[]
    readonly token: SecretSource | null
    readonly oidc: {
      readonly issuer: string
      readonly clientId: string
      readonly clientSecret: SecretSource | null
      readonly audience: readonly string[]
      readonly groupsClaim: readonly string[]
    } | null
  }
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal'
  readonly limits: Limits
}

type Document = ConfigurationDocument
type Resolve = (path: string) => string
type Environment = Readonly<Record<string, string | undefined>>

/** Maps a checked document. `path` is the file's own, `directory` is what its paths are relative to. */
export function configurationOf(
  document: Document,
  path: string,
  directory: string,
  environment: Environment,
): Configuration {
  const at: Resolve = (name) => resolve(directory, name)
  return {
    path,
    listen: listenOf(document.listen, at),
    workers: document.workers === 'auto' ? availableParallelism() : document.workers,
    databases: new Map(
      Object.entries(document.databases).map(([name, entry]) => [
        name,
        databaseOf(name, entry, at),
      ]),
    ),
    authentication: document.authentication.map((entry) => entryOf(entry, at, environment)),
    policy: {
      bundle: bundleOf(document.policy.bundle, at),
      data: document.policy.data.map(at),
      shadow:
        document.policy.shadow === undefined
          ? null
          : {
              bundle: bundleOf(document.policy.shadow.bundle, at),
              data: document.policy.shadow.data.map(at),
            },
      opa: orNull(document.policy.opa, at),
    },
    maskingKey: secretSource(document.masking, 'key', at),
    detectors: document.masking.detectors,
    approvals: approvalsOf(document.approvals, at),
    audit: {
      ...document.audit,
      directory: at(document.audit.directory),
      retainMs: durationMs(document.audit.retain),
      segmentBytes: sizeBytes(document.audit.segment_bytes),
      segmentMs: durationMs(document.audit.segment_time),
      sinks: document.audit.sinks.map((sink) => sinkOf(sink, at)),
    },
    traces: tracesOf(document.traces, at),
    admin: adminOf(document.admin, at),
    logLevel: document.log.level,
    limits: limitsOf(document.limits),
  }
}

function listenOf(listen: Document['listen'], at: Resolve): Configuration['listen'] {
  const { host, port, tls } = listen
  if (tls === undefined) return { host, port, tls: null }
  return {
    ...{ host, port },
    tls: {
      cert: at(tls.cert),
      key: at(tls.key),
      clientCa: orNull(tls.client_ca, at),
      clientCrl: orNull(tls.client_crl, at),
      required: tls.required,
    },
  }
}

function approvalsOf(approvals: Document['approvals'], at: Resolve): Configuration['approvals'] {
  return {
    adapter: approvals.adapter,
    webhook:
      approvals.webhook === undefined
        ? null
        : {
            ...{ url: approvals.webhook.url, format: approvals.webhook.format },
            ca: approvals.webhook.ca === undefined ? null : at(approvals.webhook.ca),
            secret: secretSource(approvals.webhook, 'secret', at),
            signingKey: secretSource(approvals.webhook, 'signing_key', at),
            callbackKey:
              approvals.webhook.callback_key === undefined
                ? null
                : at(approvals.webhook.callback_key),
          },
    waitMs: durationMs(approvals.wait),
    ttlMs: durationMs(approvals.ttl),
    store: approvals.store,
    storePassword: secretSource(approvals, 'store_password', at),
  }
}

function adminOf(admin: Document['admin'], at: Resolve): Configuration['admin'] {
  return {
    host: admin.host,
    port: admin.port,
    url: admin.url === undefined ? null : new URL(admin.url).origin,
    groups: admin.groups,
    viewers: admin.viewers,
    reviewers: admin.reviewers,
    token: secretSource(admin, 'token', at),
    oidc:
      admin.oidc === undefined
        ? null
        : {
            issuer: admin.oidc.issuer,
            clientId: admin.oidc.client_id,
            clientSecret: secretSource(admin.oidc, 'client_secret', at),
            audience: list(admin.oidc.audience),
            groupsClaim: list(admin.oidc.groups_claim),
          },
  }
}

function orNull(value: string | undefined, at: Resolve): string | null {
  return value === undefined ? null : at(value)
}

function list(value: string | readonly string[] | undefined): readonly string[] {
  return value === undefined ? [] : typeof value === 'string' ? [value] : value
}

function databaseOf(
  name: string,
  entry: Document['databases'][string],
  at: Resolve,
): DatabaseConfiguration {
  const { host, port, database, tls } = entry.upstream
  const near = host.startsWith('/') || isLoopback(host)
  return {
    ...{ name, host, port, database: database ?? null },
    tls: {
      mode: tls.mode ?? (near ? 'prefer' : 'verify-full'),
      ca: orNull(tls.ca, at),
      cert: orNull(tls.cert, at),
      key: orNull(tls.key, at),
      crl: orNull(tls.crl, at),
      serverName: tls.server_name ?? null,
      negotiation: tls.negotiation,
    },
    roles: new Map(
      Object.entries(entry.roles).map(([role, { user, ...rest }]) => [
        role,
        { user, password: secretSource(rest, 'password', at) },
      ]),
    ),
    allowUnsupportedVersion: entry.allow_unsupported_version,
    catalogPollMs: durationMs(entry.catalog_poll),
  }
}

type EntryDocument = Document['authentication'][number]

function matchOf(match: EntryDocument['match']): EntryMatch | null {
  if (match === undefined) return null
  return {
    ...(match.user === undefined ? {} : { user: list(match.user) }),
    ...(match.database === undefined ? {} : { database: list(match.database) }),
    ...(match.address === undefined ? {} : { address: list(match.address) }),
    ...(match.tls === undefined ? {} : { tls: match.tls }),
    ...(match.certificate === undefined ? {} : { certificate: match.certificate }),
  }
}

function entryOf(entry: EntryDocument, at: Resolve, environment: Environment): AuthenticationEntry {
  const base = { match: matchOf(entry.match), groups: entry.groups }
  switch (entry.method) {
    case 'oidc':
      return oidcEntryOf(entry, base, at, environment)
    case 'scram':
      return { method: 'scram', ...base, users: at(entry.users) }
    case 'certificate':
      return {
        ...{ method: 'certificate', ...base, subject: entry.subject, type: entry.type },
        pattern: entry.pattern ?? null,
        matchUser: entry.match_user,
        groupsFromOu: entry.groups_from_ou,
      }
    case 'trust':
      return { method: 'trust', ...base, type: entry.type }
  }
}

function oidcEntryOf(
  entry: Extract<EntryDocument, { method: 'oidc' }>,
  base: { readonly match: EntryMatch | null; readonly groups: readonly string[] },
  at: Resolve,
  environment: Environment,
): OidcEntry {
  const { introspection } = entry
  const secret =
    introspection === undefined ? null : secretSource(introspection, 'client_secret', at)
  return {
    ...{ ...oidcEntryDefaults, ...base, method: 'oidc', issuer: entry.issuer },
    ...{ flow: entry.flow, type: entry.type, scope: entry.scope },
    audience: list(entry.audience),
    algorithms: entry.algorithms ?? oidcEntryDefaults.algorithms,
    subjectClaim: entry.subject_claim,
    userClaim: entry.user_claim ?? null,
    emailClaim: entry.email_claim,
    groupsClaim: list(entry.groups_claim),
    groupsPrefix: entry.groups_prefix,
    requiredClaims: new Map(
      Object.entries(entry.required_claims).map(([claim, values]) => [claim, list(values)]),
    ),
    onBehalfOfClaim: entry.on_behalf_of_claim ?? null,
    clockSkewMs: durationMs(entry.clock_skew),
    expiryGraceMs: durationMs(entry.expiry_grace),
    lifetimeMsMax: entry.lifetime_max === undefined ? null : durationMs(entry.lifetime_max),
    jwksMaxAgeMs: durationMs(entry.jwks_max_age),
    jwksStaleMs: durationMs(entry.jwks_stale),
    jwksUri: entry.jwks_uri ?? null,
    issuerCa: orNull(entry.issuer_ca, at),
    introspection:
      introspection === undefined
        ? null
        : {
            url: introspection.url ?? null,
            clientId: introspection.client_id,
            clientSecret: async () =>
              secret === null ? '' : await readSecret(secret, environment),
          },
  }
}

type ServiceDocument = Extract<Document['audit']['sinks'][number], { headers: unknown }>

function serviceOf(service: Omit<ServiceDocument, 'kind'>, at: Resolve): ServiceConfiguration {
  return {
    url: service.url,
    headers: service.headers,
    token: secretSource(service, 'token', at),
    ca: orNull(service.ca, at),
    cert: orNull(service.cert, at),
    key: orNull(service.key, at),
  }
}

function tracesOf(traces: Document['traces'], at: Resolve): Configuration['traces'] {
  return traces === undefined ? null : { service: serviceOf(traces, at), ratio: traces.ratio }
}

function sinkOf(sink: Document['audit']['sinks'][number], at: Resolve): SinkConfiguration {
  switch (sink.kind) {
    case 'stdout':
      return sink
    case 'file':
    case 'opa_file':
      return { kind: sink.kind, path: at(sink.path) }
    case 'postgres': {
      const { kind, url, table } = sink
      return { kind, url, table, password: secretSource(sink, 'password', at) }
    }
    default:
      return { kind: sink.kind, ...serviceOf(sink, at) }
  }
}

function bundleOf(bundle: Document['policy']['bundle'], at: Resolve): BundleConfiguration {
  if (typeof bundle === 'string') return { kind: 'path', path: at(bundle) }
  const { polling, signing } = bundle
  const longPolling = polling.long_polling_timeout_seconds
  return {
    kind: 'remote',
    service: serviceOf(bundle.service, at),
    resource: bundle.resource,
    polling: {
      minDelayMs: polling.min_delay_seconds * 1_000,
      maxDelayMs: polling.max_delay_seconds * 1_000,
      longPollingMs: longPolling === undefined ? null : longPolling * 1_000,
    },
    signing:
      signing === undefined
        ? null
        : {
            keyId: signing.keyid ?? null,
            scope: signing.scope ?? null,
            algorithm: signing.algorithm,
            publicKey: orNull(signing.public_key, at),
            secret: secretSource(signing, 'secret', at),
          },
    persist: orNull(bundle.persist, at),
  }
}

function limitsOf(given: Document['limits']): Limits {
  const limits: Record<string, number> = { ...defaultLimits }
  for (const [name, value] of Object.entries(
    given as Record<string, number | string | undefined>,
  )) {
    if (typeof value === 'number') limits[name] = value
    else if (typeof value === 'string') {
      limits[name] = name.endsWith('MsMax') ? durationMs(value) : sizeBytes(value)
    }
  }
  return limits as Limits
}
