/**
 * Messages between the primary process and its workers: calls by name, each with a schema for what
 * goes in and what comes out. Both sides check what they receive, so that a worker of another
 * version (a rolling reload may start newer code) fails at the message, not somewhere behind it.
 */
import { z } from 'zod'
import type { Policy, PolicyBundle } from '../policy/policy.ts'
import type { PlaneObservation } from './observe.ts'
import { trySchema, type TryAnswer } from './sandbox.ts'
import { approvalMethods } from './workers-approvals.ts'

/** Grows with every change that an older primary or worker would not understand. */
export const workerProtocol = 1

const view = z.custom<Uint8Array>((value) => value instanceof Uint8Array)
const bytes = view.transform((value) => Buffer.from(value))
const nothing = z.null()
const isoMs = z.number().nonnegative()
const record = z.record(z.string(), z.unknown())

/** A policy as bytes: what `Policy.load` makes one of again, under the same revision. */
const policySchema = z.strictObject({
  name: z.string(),
  wasm: view,
  /** JSON. */
  data: bytes,
  manifest: z.strictObject({
    revision: z.string().min(1),
    roots: z.array(z.string()),
    modules: z.map(z.string(), z.string()),
    annotations: z.map(z.string(), record),
  }),
  /** Of its self-check in the primary, which workers need not repeat. */
  cost: z.strictObject({
    bytes: z.number().positive(),
    us: z.number().nonnegative(),
    exponent: z.number().positive(),
    leastUs: z.number().nonnegative(),
  }),
})
export type PolicyDocument = z.infer<typeof policySchema>

/** The document of a loaded policy, with the configuration's data files already merged in. */
export function policyDocument(policy: Policy): PolicyDocument {
  const { name, wasm, manifest, revision, dataBytes, cost } = policy
  return {
    name,
    wasm,
    data: Buffer.from(dataBytes),
    cost,
    manifest: {
      ...manifest,
      revision,
      roots: [...manifest.roots],
      modules: new Map(manifest.modules),
      annotations: new Map(manifest.annotations),
    },
  }
}

/** The bundle to load; throws where the data is not JSON. */
export function bundleOf(document: PolicyDocument): PolicyBundle {
  const { name, wasm, manifest } = document
  return {
    name,
    wasm,
    manifest,
    data: JSON.parse(document.data.toString()) as PolicyBundle['data'],
  }
}

const revocationSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('subject'),
    subject: z.string(),
    atMs: isoMs,
    untilMs: isoMs.nullable(),
  }),
  z.strictObject({ kind: z.literal('session'), session: z.string(), atMs: isoMs }),
  z.strictObject({ kind: z.literal('restore'), subject: z.string() }),
])

const identitySchema = z.object({
  subject: z.string(),
  user: z.string(),
  email: z.string().nullable(),
  groups: z.array(z.string()),
  type: z.enum(['human', 'machine']),
  on_behalf_of: z.string().nullable(),
  method: z.enum(['oidc', 'scram', 'certificate', 'trust']),
  claims: record,
  expiresAtMs: z.number().nullable(),
})

const sessionSchema = z.strictObject({
  id: z.string(),
  identity: identitySchema,
  database: z.string(),
  role: z.string(),
  clientAddress: z.string().nullable(),
  startedMs: z.number(),
  transaction: z.string(),
  waiting: z.string().nullable(),
  clientBytes: z.number(),
  upstreamBytes: z.number(),
  processId: z.number(),
})

const verdictSchema = z.strictObject({
  action: z.string(),
  rule: z.string(),
  masks: z.array(z.string()),
})
const shadowSchema = z.strictObject({
  revision: z.string(),
  judged: z.number(),
  different: z.number(),
  wider: z.number(),
  dropped: z.number(),
  waiting: z.number(),
  changes: z.record(z.string(), z.number()),
  samples: z.array(
    z.strictObject({
      revision: z.string(),
      statement: z.string(),
      user: z.string(),
      active: verdictSchema,
      candidate: verdictSchema,
      wider: z.boolean(),
    }),
  ),
})

const cancelSchema = z.strictObject({ processId: z.number().int(), secret: bytes })
const attemptSchema = z.strictObject({ source: z.string(), user: z.string() })
const rowsSchema = z.array(
  z.strictObject({
    key: z.string(),
    windowMs: z.number().positive(),
    rows: z.number().int().nonnegative(),
  }),
)

/** Checked when the configuration was loaded; it goes to processes of this regate only. */
const configurationSchema = z.custom<object>(
  (value) => typeof value === 'object' && value !== null && 'listen' in value,
)

/** One metric of prom-client's own JSON; who adds them up checks no more than that. */
const metricSchema = z.looseObject({
  name: z.string(),
  help: z.string(),
  values: z.array(z.unknown()),
})

/** Shown as it is: who shows it takes nothing of it for granted but that it is an object. */
function hasMember(name: string): (value: unknown) => boolean {
  return (value) => typeof value === 'object' && value !== null && name in value
}

/** What the primary asks of a worker. */
export const workerMethods = {
  /** Once, first: the worker prepares everything and listens. */
  start: {
    params: z.strictObject({
      name: z.string(),
      configuration: configurationSchema,
      policy: policySchema,
      candidate: policySchema.nullable(),
      maskKey: bytes,
      revocations: z.array(revocationSchema),
      rows: rowsSchema,
      /** Whether there is anybody to ask for approvals. */
      mayAsk: z.boolean(),
    }),
    result: z.strictObject({ host: z.string(), port: z.number().int() }),
  },
  usePolicy: { params: policySchema, result: nothing },
  useCandidate: { params: policySchema, result: nothing },
  revocation: { params: revocationSchema, result: nothing },
  refresh: { params: nothing, result: nothing },
  cancel: { params: cancelSchema, result: z.boolean() },
  sessions: { params: nothing, result: z.array(sessionSchema) },
  report: {
    params: nothing,
    result: z.strictObject({
      revision: z.string(),
      shadow: shadowSchema.nullable(),
      unmatched: z.array(z.string()).nullable(),
    }),
  },
  metrics: { params: nothing, result: z.array(metricSchema) },
  observe: { params: nothing, result: z.custom<PlaneObservation>(hasMember('statistics')) },
  tryOut: { params: trySchema, result: z.custom<TryAnswer>(hasMember('kind')) },
  /** A failed login at another worker. */
  attemptFailed: { params: attemptSchema, result: nothing },
  /** Rows that other workers took from budgets. */
  rowsTaken: { params: rowsSchema, result: nothing },
  /** A session of another worker has committed DDL in this database. */
  catalogOutdated: { params: z.string(), result: nothing },
  /** No new clients; answers when the sessions are over, which their clients decide up to `msMax`. */
  retire: { params: z.strictObject({ msMax: z.number().nonnegative() }), result: nothing },
  /** Ends what is left and the process. */
  stop: { params: nothing, result: nothing },
} as const

/** What a worker asks of the primary. */
export const primaryMethods = {
  /** First: who speaks. */
  hello: { params: z.strictObject({ protocol: z.number(), version: z.string() }), result: nothing },
  cancelElsewhere: { params: cancelSchema, result: nothing },
  catalogsChanged: { params: nothing, result: nothing },
  catalogOutdated: { params: z.string(), result: nothing },
  attemptFailed: { params: attemptSchema, result: nothing },
  rowsTaken: { params: rowsSchema, result: nothing },
  sessionStarted: {
    params: z.strictObject({
      id: z.string(),
      database: z.string(),
      /** Of the server's backend, with the key that cancels it. */
      processId: z.number().int(),
      secret: bytes,
    }),
    result: nothing,
  },
  sessionEnded: { params: z.string(), result: nothing },
  ...approvalMethods,
} as const

export type WorkerMethods = typeof workerMethods
export type PrimaryMethods = typeof primaryMethods
