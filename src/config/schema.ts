/**
 * The shape of regate.yaml, and nothing else: types, ranges, defaults and a description of each key.
 * docs/regate.schema.json and docs/configuration.md are generated from it. What concerns more than
 * one key is in rules.ts; what the code works with is in configuration.ts.
 *
 * Every object is strict: an unknown key is an error. No key takes a secret: see `secretKeys`.
 */
import { z } from 'zod'
import { defaultLimits } from '../core/core.ts'
import { detectorKinds } from '../masking/masking.ts'
import { durationPattern, sizePattern } from './values.ts'

const text = (description: string) => z.string().min(1).describe(description)
const path = (description: string) =>
  text(`${description} (a path; relative to this file's directory)`)
const flag = (description: string) => z.boolean().describe(description)
const port = (description: string) => z.int().min(0).max(65_535).describe(description)
const duration = (description: string) =>
  z.string().regex(durationPattern).describe(`${description} (a number and ms, s, m, h or d)`)
const names = (description: string) =>
  z.union([text(description), z.array(text(description)).min(1)]).describe(description)

/** `password` → password_env, password_file, password_command: one of them names the secret. */
function secretKeys<Name extends string>(name: Name, what: string) {
  return {
    [`${name}_env`]: text(`environment variable that holds ${what}`).optional(),
    [`${name}_file`]: path(`file that holds ${what}; read again when it changes`).optional(),
    [`${name}_command`]: text(`command whose first line of output is ${what}`).optional(),
  } as Record<`${Name}_env` | `${Name}_file` | `${Name}_command`, z.ZodOptional<z.ZodString>>
}

const listenTls = z.strictObject({
  cert: path('certificate chain of the proxy, PEM'),
  key: path('private key of the certificate, PEM'),
  client_ca: path('CA whose client certificates are accepted, PEM').optional(),
  client_crl: path('certificates of clients that are revoked, PEM').optional(),
  required: flag('refuse clients that do not use TLS').default(false),
})

const listen = z.strictObject({
  host: text('address to listen on; 0.0.0.0 or :: for all').default('127.0.0.1'),
  port: port('TCP port for clients; 0 takes a free one').default(6432),
  tls: listenTls.describe('TLS for clients').optional(),
})

const tlsMode = z.enum(['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full'])

const upstreamTls = z.strictObject({
  mode: tlsMode
    .describe("as libpq's sslmode; default verify-full, and prefer for loopback and sockets")
    .optional(),
  ca: path('CA that signed the server certificate, PEM; default the system').optional(),
  cert: path('client certificate, PEM').optional(),
  key: path('private key of the client certificate, PEM').optional(),
  crl: path('revoked server certificates, PEM').optional(),
  server_name: text('name to verify instead of the host').optional(),
  negotiation: z
    .enum(['postgres', 'direct'])
    .describe('direct: TLS from the first byte (PostgreSQL 17 and later)')
    .default('postgres'),
})

const upstream = z.strictObject({
  host: text('host name or address of the server; a directory that starts with / is a Unix socket'),
  port: port('TCP port of the server').default(5432),
  database: text('database on the server; default the name the client asked for').optional(),
  tls: upstreamTls.describe('TLS to the server').default({ negotiation: 'postgres' }),
})

const role = z.strictObject({
  user: text('login role on the server'),
  ...secretKeys('password', 'its password'),
})

const database = z.strictObject({
  upstream: upstream.describe('the real PostgreSQL'),
  roles: z
    .record(z.string().min(1), role)
    .describe('upstream logins that the connect policy may choose from; `default` must be there'),
  allow_unsupported_version: flag('accept servers outside PostgreSQL 14 to 18').default(false),
  catalog_poll: duration('how often the catalog is looked at for changes made elsewhere').default(
    '30s',
  ),
})

const match = z.strictObject({
  user: names('user of the startup message; /regex for a pattern').optional(),
  database: names('database of the startup message; /regex for a pattern').optional(),
  address: names('client addresses: CIDR blocks, single addresses, or loopback').optional(),
  tls: flag('true: only over TLS; false: only without').optional(),
  certificate: flag('true: only with a client certificate; false: only without').optional(),
})

const entryBase = {
  match: match.describe('when this entry applies; without it, always').optional(),
  groups: z
    .array(text('group'))
    .describe('groups that everybody has who comes in here')
    .default([]),
}
const principal = z.enum(['human', 'machine'])

const oidcEntry = z.strictObject({
  method: z.literal('oidc'),
  ...entryBase,
  issuer: z.url().describe('issuer URL, exactly as in the `iss` of its tokens'),
  audience: names('accepted `aud` of a token'),
  flow: z
    .enum(['auto', 'password', 'sasl'])
    .describe('password: the token is the password; sasl: OAUTHBEARER; auto: either')
    .default('auto'),
  algorithms: z.array(text('signature algorithm')).min(1).optional(),
  subject_claim: text('claim that is the subject').default('sub'),
  user_claim: text('claim that is the user name; default the subject').optional(),
  email_claim: text('claim that is the e-mail address').default('email'),
  groups_claim: names('claims that hold groups, dotted paths').default('groups'),
  groups_prefix: z.string().describe('put before each group of a token').default(''),
  required_claims: z
    .record(z.string(), names('accepted values'))
    .describe('claims that must have one of the given values')
    .default({}),
  type: z.enum(['auto', 'human', 'machine']).describe('who comes in here').default('auto'),
  on_behalf_of_claim: text('claim that names for whom a machine acts').optional(),
  scope: text('scope that clients are told to ask for').default('openid'),
  clock_skew: duration('clock difference that is tolerated').default('30s'),
  expiry_grace: duration('how long a session outlives its token').default('30s'),
  lifetime_max: duration('tokens that are valid for longer are refused').optional(),
  jwks_uri: z.url().describe('keys of the issuer; default from its discovery document').optional(),
  jwks_max_age: duration('keys older than this are fetched again').default('10m'),
  jwks_stale: duration('how old keys may be while the issuer is unreachable').default('1d'),
  issuer_ca: path("CA of the issuer's certificate, PEM; default the system").optional(),
  introspection: z
    .strictObject({
      url: z.url().describe('endpoint; default from the discovery document').optional(),
      client_id: text('client id'),
      ...secretKeys('client_secret', 'the client secret'),
    })
    .describe('ask the issuer whether a token is still good (RFC 7662)')
    .optional(),
})

const scramEntry = z.strictObject({
  method: z.literal('scram'),
  ...entryBase,
  users: path('users.yaml: users, their groups and SCRAM verifiers (`regate user add`)'),
})

const certificateEntry = z.strictObject({
  method: z.literal('certificate'),
  ...entryBase,
  subject: z
    .enum(['cn', 'dn', 'email', 'dns', 'uri'])
    .describe('which name of the certificate is the subject')
    .default('cn'),
  pattern: text('anchored pattern; its first group is the subject').optional(),
  match_user: flag('the startup user must be the mapped name').default(true),
  type: principal.describe('who comes in here').default('human'),
  groups_from_ou: flag('organisational units become groups').default(false),
})

const trustEntry = z.strictObject({
  method: z.literal('trust'),
  ...entryBase,
  type: principal.describe('who comes in here').default('machine'),
})

const authentication = z.discriminatedUnion('method', [
  oidcEntry,
  scramEntry,
  certificateEntry,
  trustEntry,
])

const tokenService = {
  url: z.url().describe('base URL'),
  headers: z.record(z.string(), z.string()).describe('sent with every request').default({}),
  ...secretKeys('token', 'the bearer token'),
  ca: path('CA of the service, PEM; default the system').optional(),
  cert: path('client certificate, PEM').optional(),
  key: path('private key of the client certificate, PEM').optional(),
}

const remoteBundle = z.strictObject({
  service: z.strictObject(tokenService).describe('the bundle server'),
  resource: text('path of the bundle on the server, for example bundles/regate.tar.gz'),
  polling: z
    .strictObject({
      min_delay_seconds: z.number().positive().describe('shortest pause').default(60),
      max_delay_seconds: z.number().positive().describe('longest pause').default(120),
      long_polling_timeout_seconds: z.number().positive().describe('long polling').optional(),
    })
    .describe("OPA's polling keys")
    .default({ min_delay_seconds: 60, max_delay_seconds: 120 }),
  signing: z
    .strictObject({
      keyid: text('key id that the signature must name').optional(),
      scope: text('scope that the signature must have').optional(),
      algorithm: z.enum(['RS256', 'ES256', 'HS256']).describe('algorithm').default('RS256'),
      public_key: path('public key, PEM').optional(),
      ...secretKeys('secret', 'the secret of HS256'),
    })
    .describe('only bundles with this signature are loaded')
    .optional(),
  persist: path('directory that keeps the last good bundle').optional(),
})

const bundle = z.union([
  path('directory with policies (built by OPA), or a bundle.tar.gz'),
  remoteBundle,
])

const policy = z.strictObject({
  bundle: bundle.describe('a directory, a bundle.tar.gz, or a bundle server'),
  data: z.array(path('JSON or YAML')).describe("merged over the bundle's data").default([]),
  shadow: z
    .strictObject({
      bundle: bundle.describe('the candidate'),
      data: z.array(path('JSON or YAML')).default([]),
    })
    .describe('a candidate: judged beside the active policy, never enforced')
    .optional(),
  opa: path(
    'the opa to build directories with; default $REGATE_OPA, PATH, the npm package',
  ).optional(),
})

const approvals = z.strictObject({
  adapter: z.enum(['console', 'webhook']).describe('how reviewers are reached').default('console'),
  webhook: z
    .strictObject({
      url: z.url().describe('receives a request for approval'),
      format: z
        .enum(['json', 'slack', 'teams'])
        .describe('what it is sent: the JSON of the guide, or a message as the product shows it')
        .default('json'),
      ca: path('CAs of the receiver, PEM; default the system').optional(),
      ...secretKeys('signing_key', 'the Ed25519 private key (PEM) that signs requests'),
      callback_key: path("the receiver's Ed25519 public key, PEM: checks callbacks").optional(),
      ...secretKeys('secret', 'the secret that signs requests and callbacks'),
    })
    .optional(),
  wait: duration('how long a statement waits on the connection').default('30s'),
  ttl: duration('how long a request stays open').default('15m'),
  store: z
    .string()
    .regex(/^(embedded|postgres(ql)?:\/\/.+)$/)
    .describe('`embedded`, or postgres://user@host:port/database')
    .default('embedded'),
  ...secretKeys('store_password', 'the password of the store'),
})

const sink = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('http').describe('NDJSON by POST'),
    ...tokenService,
  }),
  z.strictObject({
    kind: z
      .literal('otlp')
      .describe('OpenTelemetry logs: OTLP over HTTP, JSON; `url` ends in /v1/logs'),
    ...tokenService,
  }),
  z.strictObject({
    kind: z.literal('opa').describe("OPA's decision-log format, by POST to `url`/logs"),
    ...tokenService,
  }),
  z.strictObject({
    kind: z.literal('opa_file').describe("OPA's decision-log format, a file of JSON lines"),
    path: path('the file; opened anew for each batch'),
  }),
  z.strictObject({
    kind: z.literal('postgres').describe('a table of a PostgreSQL, by COPY'),
    url: z
      .string()
      .regex(/^postgres(ql)?:\/\/([^\s:@/]+@)?[^\s@]+$/)
      .describe('postgres://user@host:port/database, without a password'),
    table: z
      .string()
      .regex(/^[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?$/)
      .describe('table, made when it is missing')
      .default('regate_audit'),
    ...secretKeys('password', 'its password'),
  }),
  z.strictObject({
    kind: z.literal('file').describe('one JSON object a line'),
    path: path('the file; opened anew for each batch'),
  }),
  z.strictObject({ kind: z.literal('stdout').describe('one JSON object a line') }),
])

const audit = z.strictObject({
  directory: path('where the log lives').default('regate-data/audit'),
  fsync: z
    .enum(['batch', 'always'])
    .describe('always: a statement waits until its record is on disk; batch: until it is written')
    .default('batch'),
  retain: duration('how long segments are kept').default('90d'),
  segment_bytes: z
    .string()
    .regex(sizePattern)
    .describe('a segment is sealed at this size')
    .default('256MB'),
  segment_time: duration('and at this age').default('1d'),
  literals: z.enum(['keep', 'redact']).describe('constants in recorded text').default('keep'),
  results: z.enum(['none', 'masked']).describe('whether results are recorded').default('none'),
  sinks: z.array(sink).describe('where records are sent as well').default([]),
})

const traces = z.strictObject({
  ...tokenService,
  url: z.url().describe('collector of OTLP over HTTP; ends in /v1/traces'),
  ratio: z
    .number()
    .min(0)
    .max(1)
    .describe('share of traces that begin here; a client that sends `traceparent` decides itself')
    .default(0.01),
})

const admin = z.strictObject({
  host: text('address of the admin API and console').default('127.0.0.1'),
  port: port('port of the admin API and console; 0 takes a free one').default(8432),
  url: z
    .url()
    .describe(
      'where people reach the console, where that is not its address: behind a proxy with TLS',
    )
    .optional(),
  groups: z
    .array(text('group'))
    .describe('groups that may use it; the console lets them see and do everything')
    .default([]),
  viewers: z
    .array(text('group'))
    .describe('groups that may see everything and change nothing')
    .default([]),
  reviewers: z
    .array(text('group'))
    .describe(
      'groups that see the approvals, and decide those that are asked of one of their groups',
    )
    .default([]),
  ...secretKeys('token', 'the token that the admin API asks for'),
  oidc: z
    .strictObject({
      issuer: z.url().describe('issuer URL'),
      client_id: text('client id'),
      ...secretKeys('client_secret', 'the client secret'),
      audience: names('accepted `aud`').optional(),
      groups_claim: names('claims that hold groups').default('groups'),
    })
    .optional(),
})

function limit(name: string, value: number) {
  const number = z.int().positive()
  const described = `default ${value}`
  if (name.endsWith('MsMax')) {
    return z
      .union([number, z.string().regex(durationPattern)])
      .describe(described)
      .optional()
  }
  if (name.endsWith('BytesMax')) {
    return z
      .union([number, z.string().regex(sizePattern)])
      .describe(described)
      .optional()
  }
  return number.describe(described).optional()
}

const limits = z.strictObject(
  Object.fromEntries(
    Object.entries(defaultLimits).map(([name, value]) => [name, limit(name, value)]),
  ),
)

/** The whole document. */
export const configurationSchema = z.strictObject({
  listen: listen.describe('where clients connect').default({ host: '127.0.0.1', port: 6432 }),
  workers: z
    .union([z.int().min(1).max(256), z.literal('auto')])
    .describe('processes that share the port; auto is one per core')
    .default(1),
  databases: z
    .record(z.string().min(1), database)
    .describe("databases by the name in the client's startup message; `*` is any other"),
  authentication: z
    .array(authentication)
    .min(1)
    .describe('like pg_hba.conf: the first entry that matches decides'),
  policy: policy.describe('what decides'),
  masking: z
    .strictObject({
      ...secretKeys('key', 'the key of the hash and noise masks'),
      detectors: z
        .array(z.enum(detectorKinds))
        .describe('values hidden in text that no mask covers: a second net, it promises nothing')
        .default([]),
    })
    .describe('the key makes hashes stable across restarts and replicas')
    .default({ detectors: [] }),
  approvals: approvals
    .describe('statements held for a human')
    .default({ adapter: 'console', wait: '30s', ttl: '15m', store: 'embedded' }),
  audit: audit.describe('the record of every statement').default({
    ...{ directory: 'regate-data/audit', fsync: 'batch', retain: '90d' },
    ...{ segment_bytes: '256MB', segment_time: '1d' },
    ...{ literals: 'keep', results: 'none', sinks: [] },
  }),
  traces: traces
    .describe('spans of statements by OpenTelemetry; without it there are none')
    .optional(),
  admin: admin
    .describe('health, metrics, admin API and console')
    .default({ host: '127.0.0.1', port: 8432, groups: [], viewers: [], reviewers: [] }),
  log: z
    .strictObject({
      level: z
        .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'])
        .describe('least severe message that is written')
        .default('info'),
    })
    .describe("regate's own log, JSON lines on stderr")
    .default({ level: 'info' }),
  limits: limits.describe('every limit that exists').default({}),
})

/** regate.yaml after parsing, defaults filled in, names as in the file. */
export type ConfigurationDocument = z.output<typeof configurationSchema>

/** Draft 2020-12, of what a person writes (defaults are optional). */
export function configurationJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(configurationSchema, { io: 'input' }) as Record<string, unknown>
  return { $id: 'regate.schema.json', title: 'regate.yaml', ...schema }
}
