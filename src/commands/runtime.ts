/**
 * One running regate: everything that the configuration names, wired together and started in the
 * order in which the parts need each other, stopped in the reverse. `serve`, `demo` and the tests
 * start the same.
 *
 * A part that cannot start ends all that was started before it. Signals, argv and the environment
 * are the caller's.
 */
import { readFileSync } from 'node:fs'
import type { Logger } from 'pino'
import { FileAuditLog, noAudit, type AuditLog } from '../audit/audit.ts'
import type { Configuration } from '../config/config.ts'
import {
  Health,
  Metrics,
  PolicyKeeper,
  policyRoutes,
  sessionRoutes,
  startAdmin,
  type DecisionLog,
  type AdminOptions,
  type AdminServer,
  type PolicyStatus,
} from '../control/control.ts'
import { systemClock } from '../core/core.ts'
import { attemptLimitsOf, Authenticator, RevocationList } from '../identity/identity.ts'
import { Judge, Shadow, type Policy } from '../policy/policy.ts'
import { ClientTls, Server, type SessionInfo } from '../server/server.ts'
import { SqlParser } from '../sql/sql.ts'
import { Catalogs } from './catalogs.ts'
import { openDecisionLogs, withDecisionLogs } from './decision-sinks.ts'
import { adminAccess } from './admin-access.ts'
import { unmatchedNames } from './names.ts'
import { startDetectors, watchServer } from './observe.ts'
import { keeperOptions } from './policy-source.ts'
import { maskKeyOf, upstreamsOf, type Environment } from './wiring.ts'

export interface RuntimeOptions {
  readonly configuration: Configuration
  readonly environment: Environment
  readonly log: Logger
  /** Nothing listens: what `--check` needs. */
  readonly checkOnly?: boolean
  /** Instead of the configured audit log. */
  readonly audit?: AuditLog
}

export interface Runtime {
  /** Where clients connect. */
  readonly host: string
  readonly port: number
  readonly adminUrl: string
  /** What is not wrong but deserves a look. */
  readonly warnings: readonly string[]
  readonly policyStatus: PolicyStatus
  sessionCount(): number
  sessions(): readonly SessionInfo[]
  /** Who may no longer act; a change counts at once. */
  readonly revocations: RevocationList
  /** Users, certificates and policies are read again; what needs a restart is logged. */
  reload(configuration: Configuration): Promise<void>
  /** Lets sessions finish, up to limits.drainMsMax, then stops. */
  drain(): Promise<void>
  stop(): Promise<void>
}

/** The version of this package. */
export function packageVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}

/** What must be undone, newest first, each once. */
class Undo {
  readonly #steps: (() => unknown)[] = []

  push(step: () => unknown): void {
    this.#steps.push(step)
  }

  async run(): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) await step()
  }
}

/** Starts everything; rejects, with nothing left running, when a part cannot start. */
export async function startRuntime(options: RuntimeOptions): Promise<Runtime> {
  const undo = new Undo()
  try {
    return await start(options, undo)
  } catch (error) {
    await undo.run()
    throw error
  }
}

async function start(options: RuntimeOptions, undo: Undo): Promise<Runtime> {
  const { configuration, environment, log } = options
  const { limits } = configuration
  const health = new Health()
  const metrics = new Metrics(packageVersion())
  const warnings = warningsOf(configuration)
  for (const warning of warnings) log.warn(warning)

  const parser = await SqlParser.create({ limits })
  undo.push(() => parser.close())
  const sinks = options.checkOnly === true ? [] : configuration.audit.sinks
  const decisionLogs = await openDecisionLogs(sinks, environment, log)
  for (const decisionLog of decisionLogs) undo.push(() => decisionLog.close())
  const { keeper, judge, shadow } = await startPolicy(options, health, undo, decisionLogs)
  const parts = await startIdentity(configuration, log, undo)
  const upstreams = await upstreamsOf(configuration, environment, systemClock)
  const catalogs = new Catalogs({ upstreams, limits, log, onChange: () => checkNames() })
  undo.push(() => catalogs.stop())
  const checkNames = (): readonly string[] => {
    const names = unmatchedNames(keeper.policy.data, catalogs.loaded())
    health.warn([...warnings, ...names])
    return names
  }
  const server = new Server({
    ...{ host: configuration.listen.host, port: configuration.listen.port, ...parts },
    tlsRequired: configuration.listen.tls?.required ?? false,
    database: (name) => catalogs.entry(name),
    ...{ judge, parser, limits, log, clock: systemClock, holds: null },
    audit: withDecisionLogs(options.audit ?? openAudit(options, undo), decisionLogs),
    maskKey: await maskKeyOf(configuration, environment),
    detectors: startDetectors(configuration.detectors, metrics),
    literals: configuration.audit.literals,
  })
  watchServer(metrics, server, keeper)
  watchNames(metrics, () => (catalogs.loaded().length === 0 ? 0 : checkNames().length))
  const names = await firstCatalogs(catalogs, log, checkNames, options.checkOnly === true)
  const admin = await startAdminServer(options, undo, parts.revocations, health, metrics, [
    liveSessions(server, parts.revocations, log),
    policyRoutes({ keeper, shadow: shadow === null ? null : () => shadow.status }),
  ])
  const address = options.checkOnly === true ? null : await server.listen()
  if (address !== null) {
    undo.push(() => server.endAll())
    log.info({ ...address, admin: admin?.url, revision: keeper.policy.revision }, 'listening')
  }

  return {
    host: address?.host ?? configuration.listen.host,
    port: address?.port ?? configuration.listen.port,
    adminUrl: admin?.url ?? '',
    warnings: [...warnings, ...names],
    get policyStatus() {
      return keeper.status
    },
    sessionCount: () => server.sessionCount,
    sessions: () => server.sessions(),
    revocations: parts.revocations,
    reload: async (next) => {
      await Promise.all([parts.authenticator.refresh(), parts.tls?.reload(), keeper.reload()])
      for (const line of restartNeeded(configuration, next)) log.warn(line)
    },
    drain: async () => {
      health.drain()
      await server.drain()
      await undo.run()
    },
    stop: () => undo.run(),
  }
}

function liveSessions(
  server: Server,
  revocations: RevocationList,
  log: Logger,
): ReturnType<typeof sessionRoutes> {
  return sessionRoutes({
    sessions: () => server.sessions(),
    revocations,
    log: (facts, message) => log.warn(facts, message),
  })
}

function watchNames(metrics: Metrics, read: () => number): void {
  metrics.watch({
    name: 'regate_policy_names_unmatched',
    help: 'Classified columns and granted relations that match nothing in the catalog.',
    kind: 'gauge',
    read,
  })
}

/**
 * The catalogs of the databases that are configured by name are read early. `--check` waits and wants
 * to know what failed; a proxy that starts before its servers does not.
 */
async function firstCatalogs(
  catalogs: Catalogs,
  log: Logger,
  checkNames: () => readonly string[],
  wait: boolean,
): Promise<readonly string[]> {
  const warming = catalogs.warm()
  if (wait) {
    const failed = (await warming).map(
      ({ database, error }) => `database ${database} cannot be read: ${String(error)}`,
    )
    return catalogs.loaded().length === 0 ? failed : [...failed, ...checkNames()]
  }
  void warming.then((failed) => {
    for (const { database, error } of failed) {
      log.warn({ database, err: error }, 'catalog: cannot be read yet')
    }
    if (catalogs.loaded().length > 0) for (const name of checkNames()) log.warn(`policy: ${name}`)
  })
  return []
}

const segmentBytesMax = 256 * 1024 * 1024
const segmentMsMax = 24 * 60 * 60 * 1000

/** The audit log of this process, closed with a signed checkpoint when everything else has ended. */
function openAudit(options: RuntimeOptions, undo: Undo): AuditLog {
  if (options.checkOnly === true) return noAudit
  const { directory, fsync, retainMs } = options.configuration.audit
  const log = FileAuditLog.open({
    ...{ directory, fsync, retainMs, segmentBytesMax, segmentMsMax },
    worker: 'main',
    clock: systemClock,
    onNews: (message, error) => {
      options.log.warn({ err: error }, message)
    },
  })
  undo.push(() => {
    log.close()
  })
  return log
}

async function startPolicy(
  options: RuntimeOptions,
  health: Health,
  undo: Undo,
  decisionLogs: readonly DecisionLog[],
): Promise<{
  readonly keeper: PolicyKeeper
  readonly judge: Judge
  readonly shadow: Shadow | null
}> {
  const { configuration, environment, log } = options
  const { limits } = configuration
  let judge: Judge | null = null
  let failures = 0
  const keeper = await PolicyKeeper.start({
    ...(await keeperOptions(configuration.policy, { limits, environment })),
    clock: systemClock,
    onPolicy: (policy: Policy) => {
      judge?.swap(policy)
      log.info({ revision: policy.revision }, 'policy: another revision is active')
    },
    onStatus: (status: PolicyStatus) => {
      if (status.code === null) health.ok('policy')
      else health.problem('policy', status.message ?? status.code)
      if (status.failure_count > failures) {
        log.error({ status }, 'policy: the newest bundle is not active, the one before it stays')
      }
      failures = status.failure_count
    },
    onLoaded: (status: PolicyStatus) => {
      for (const decisionLog of decisionLogs) void decisionLog.status(status)
    },
    ...(options.checkOnly === true ? { watchMs: 0 } : {}),
  })
  undo.push(() => keeper.close())
  const shadow = await startShadow(options, undo)
  judge = new Judge({ policy: keeper.policy, limits, clock: systemClock, shadow })
  return { keeper, judge, shadow }
}

/** The candidate of `policy.shadow`: a keeper of its own, judged when nothing else waits. */
async function startShadow(options: RuntimeOptions, undo: Undo): Promise<Shadow | null> {
  const { configuration, environment, log } = options
  const { policy, limits } = configuration
  if (policy.shadow === null) return null
  let shadow: Shadow | null = null
  const keeper = await PolicyKeeper.start({
    ...(await keeperOptions({ ...policy.shadow, opa: policy.opa }, { limits, environment })),
    name: 'shadow',
    clock: systemClock,
    onPolicy: (candidate: Policy) => shadow?.swap(candidate),
    ...(options.checkOnly === true ? { watchMs: 0 } : {}),
  })
  undo.push(() => keeper.close())
  shadow = new Shadow({
    policy: keeper.policy,
    schedule: (work) => void setImmediate(work),
    onDifference: (difference) => log.info({ difference }, 'shadow: the candidate differs'),
  })
  return shadow
}

async function startIdentity(
  configuration: Configuration,
  log: Logger,
  undo: Undo,
): Promise<{
  readonly authenticator: Authenticator
  readonly revocations: RevocationList
  readonly tls: ClientTls | null
}> {
  const revocations = new RevocationList(systemClock)
  const authenticator = await Authenticator.open({
    entries: configuration.authentication,
    attemptLimits: attemptLimitsOf(configuration.limits),
    revocations,
    clock: systemClock,
    log: (message, facts) => log.info(facts, message),
  })
  undo.push(() => authenticator.close())
  const files = configuration.listen.tls
  const tls =
    files === null
      ? null
      : await ClientTls.open({
          ...{ cert: files.cert, key: files.key, clientCa: files.clientCa },
          crl: files.clientCrl,
        })
  // Changed users and certificates are taken over without a signal too.
  const timer = setInterval(() => {
    const refreshed = Promise.all([authenticator.refresh(), tls?.reload()])
    refreshed.catch((error: unknown) => log.warn({ err: error }, 'users or certificates: kept'))
  }, refreshMs)
  timer.unref()
  undo.push(() => clearInterval(timer))
  return { authenticator, revocations, tls }
}

const refreshMs = 5_000

async function startAdminServer(
  options: RuntimeOptions,
  undo: Undo,
  revocations: RevocationList,
  health: Health,
  metrics: Metrics,
  routes: NonNullable<AdminOptions['routes']>,
): Promise<AdminServer | null> {
  if (options.checkOnly === true) return null
  const { configuration, environment, log } = options
  const { host, port } = configuration.admin
  const access = adminAccess(configuration, environment, revocations, (message, facts) => {
    log.warn(facts, message)
  })
  undo.push(() => access.close())
  const { authenticate } = access
  const admin = await startAdmin({ host, port, health, metrics, routes, authenticate })
  undo.push(() => admin.close())
  return admin
}

/** Parts of the configuration that this version reads but does not act on are said, not ignored. */
function warningsOf(configuration: Configuration): readonly string[] {
  const warnings: string[] = []
  if (configuration.maskingKey === null) {
    warnings.push(
      'masking.key_env is not set: hash and noise masks change with every start, and differ between replicas',
    )
  }
  if (configuration.workers > 1) {
    warnings.push('workers: this version serves with one process; run several behind a balancer')
  }
  const { approvals, audit } = configuration
  if (approvals.adapter === 'webhook' || approvals.store !== 'embedded') {
    warnings.push('approvals: nobody can be asked yet; a statement that needs approval is refused')
  }
  for (const { kind } of audit.sinks) {
    if (kind !== 'opa') warnings.push(`audit.sinks: ${kind} is not sent to yet`)
  }
  if (audit.results !== 'none') warnings.push('audit.results: results are not recorded yet')
  return warnings
}

function restartNeeded(before: Configuration, after: Configuration): readonly string[] {
  const keys = ['listen', 'workers', 'admin', 'limits', 'audit', 'approvals', 'authentication']
  const text = (value: unknown): string =>
    JSON.stringify(value, (_key, inner: unknown) =>
      inner instanceof Map ? [...inner.entries()] : inner,
    )
  return [...keys, 'databases', 'policy']
    .filter((key) => {
      const name = key as keyof Configuration
      return text(before[name]) !== text(after[name])
    })
    .map((key) => `reload: ${key} has changed, which needs a restart`)
}
