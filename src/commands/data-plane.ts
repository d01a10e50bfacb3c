/**
 * A data plane: everything that a process needs to take clients and judge their statements. The
 * listener and its sessions, the judge, catalogs, authentication, the audit chain. One in each
 * process that serves; what it cannot decide alone it asks of the control plane's port.
 */
import type { Logger } from 'pino'
import { FileAuditLog, noAudit, type AuditLog } from '../audit/audit.ts'
import type { Configuration } from '../config/config.ts'
import type {
  ControlPort,
  DataPlanePort,
  MetricDocument,
  Metrics,
  PlaneObservation,
  PlaneReport,
  TryAnswer,
  TryQuestion,
} from '../control/control.ts'
import { systemClock, wordsOf } from '../core/core.ts'
import {
  attemptLimitsOf,
  Authenticator,
  RevocationList,
  type RevocationChange,
} from '../identity/identity.ts'
import type { RowsTaken } from '../masking/masking.ts'
import { Judge, Shadow, type Policy } from '../policy/policy.ts'
import { ClientTls, Server, type SessionInfo } from '../server/server.ts'
import { Holds } from '../session/session.ts'
import { SqlParser, type Catalog } from '../sql/sql.ts'
import { Catalogs } from './catalogs.ts'
import { recordedOf } from './audit-wiring.ts'
import { unmatchedNames } from './names.ts'
import { PlaneObserver, startDetectors, watchAudit, watchServer } from './observe.ts'
import { Sandbox } from './sandbox.ts'
import { tracerOf } from './tracing.ts'
import type { Undo } from './undo.ts'
import { upstreamsOf, type Environment, type Upstream } from './wiring.ts'

export interface DataPlaneOptions {
  readonly configuration: Configuration
  readonly environment: Environment
  readonly log: Logger
  /** Of this process. */
  readonly metrics: Metrics
  /** Names the audit chain: one per process that writes. */
  readonly name: string
  readonly policy: Policy
  /** The candidate of `policy.shadow`. */
  readonly candidate: Policy | null
  /** Key of the hash and noise masks, the same in every process. */
  readonly maskKey: Uint8Array
  readonly control: ControlPort
  /** Nothing is written, and nothing will listen: what `--check` needs. */
  readonly checkOnly: boolean
  /** Instead of the configured audit log. */
  readonly audit: AuditLog | null
  /** The only one of its regate: its metrics are the control plane's own, nobody shares its limits. */
  readonly alone: boolean
}

/** Started, not listening yet. */
export class DataPlane implements DataPlanePort {
  readonly name: string
  readonly serves = true
  readonly #options: DataPlaneOptions
  readonly #undo: Undo
  readonly #server: Server
  readonly #judge: Judge
  readonly #shadow: Shadow | null
  readonly #catalogs: Catalogs
  readonly #identity: IdentityParts
  readonly #audit: AuditLog
  readonly #observer: PlaneObserver
  readonly #sandbox = new Sandbox()

  private constructor(options: DataPlaneOptions, undo: Undo, parts: Parts) {
    this.name = options.name
    this.#options = options
    this.#undo = undo
    this.#server = parts.server
    this.#judge = parts.judge
    this.#shadow = parts.shadow
    this.#catalogs = parts.catalogs
    this.#identity = parts.identity
    this.#audit = parts.audit
    this.#observer = new PlaneObserver(options.name, parts.server)
    undo.push(() => {
      this.#observer.stop()
    })
    undo.push(() => this.#sandbox.close())
  }

  /** Starts the parts; what has to be stopped again is pushed to `undo`. */
  static async start(options: DataPlaneOptions, undo: Undo): Promise<DataPlane> {
    const { configuration, environment, log, control } = options
    const { limits } = configuration
    const parser = await SqlParser.create({ limits })
    undo.push(() => parser.close())
    const audit = options.audit ?? openAudit(options, undo)
    const shadow = candidateOf(options, audit)
    const judge = new Judge({ policy: options.policy, limits, clock: systemClock, shadow })
    undo.push(() => {
      judge.policy.close()
    })
    const upstreams = await upstreamsOf(configuration, environment, systemClock)
    const identity = await startIdentity(options, upstreams, undo)
    const catalogs = new Catalogs({
      ...{ upstreams, limits, log },
      onChange: () => {
        control.catalogsChanged()
      },
      onOutdated: (database) => {
        control.catalogOutdated(database)
      },
    })
    undo.push(() => catalogs.stop())
    const { authenticator, revocations, tls } = identity
    const tracer = options.checkOnly ? null : await tracerOf(options, undo)
    const server = new Server({
      ...{ host: configuration.listen.host, port: configuration.listen.port },
      ...{ authenticator, revocations, tls },
      holds: holdsOf(configuration, control),
      tlsRequired: configuration.listen.tls?.required ?? false,
      database: (name) => catalogs.entry(name),
      ...{ judge, parser, limits, log, clock: systemClock },
      audit,
      maskKey: options.maskKey,
      detectors: startDetectors(configuration.detectors, options.metrics),
      literals: configuration.audit.literals,
      ...{ recorded: recordedOf(configuration), tracer },
      cancelElsewhere: (processId, secret) => control.cancelElsewhere(processId, secret),
      onSession: (event) => {
        control.session(event)
      },
    })
    if (!options.alone) shareRows(server, control, undo)
    watchServer(options.metrics, server, options.name)
    watchAudit(options.metrics, audit)
    return new DataPlane(options, undo, { server, judge, shadow, catalogs, identity, audit })
  }

  /** Accepts clients; the port that was given out where 0 was asked for. */
  async listen(): Promise<{ readonly host: string; readonly port: number }> {
    const address = await this.#server.listen()
    this.#recordActivation(this.#judge.policy, null)
    this.#undo.push(() => {
      this.#server.endAll()
    })
    return address
  }

  /**
   * Reads the catalogs of the databases that are configured by name, early. Resolves when that is
   * over, with a sentence for each that cannot be read.
   */
  async warm(): Promise<readonly string[]> {
    const failed = await this.#catalogs.warm()
    return failed.map(({ database, error }) => {
      this.#options.log.warn({ database, err: error }, 'catalog: cannot be read yet')
      const place = this.#catalogs.address(database)
      return `database ${database} (${place}) cannot be read: ${wordsOf(error)}`
    })
  }

  get sessionCount(): number {
    return this.#server.sessionCount
  }

  /** No new clients; resolves when the sessions have ended, at most limits.drainMsMax later. */
  drain(): Promise<void> {
    return this.#server.drain()
  }

  /** No new clients; sessions end when their clients end them, after `msMax` they are drained. */
  retire(msMax: number): Promise<void> {
    return this.#server.retire(msMax)
  }

  /** A login that failed at another data plane. */
  countFailedAttempt(source: string, user: string): void {
    this.#identity.authenticator.countFailedAttempt(source, user)
  }

  /** Rows that other data planes took from budgets. */
  countRows(taken: readonly RowsTaken[]): void {
    for (const rows of taken) this.#server.rowBudgets.count(rows, systemClock.nowMs())
  }

  /** Another data plane has seen this catalog change. */
  lookAtCatalog(database: string): void {
    this.#catalogs.look(database).catch((error: unknown) => {
      this.#options.log.warn({ database, err: error }, 'catalog: could not be looked at')
    })
  }

  async usePolicy(policy: Policy): Promise<void> {
    const previous = this.#judge.policy
    this.#judge.swap(policy)
    this.#recordActivation(policy, previous)
    return Promise.resolve()
  }

  /** In the chain of the statements: what is recorded behind it was judged by this revision. */
  #recordActivation(policy: Policy, previous: Policy | null): void {
    this.#audit.append(
      'policy_activated',
      `"revision":${JSON.stringify(policy.revision)},"previous":${JSON.stringify(previous?.revision ?? null)}`,
    )
  }

  async useCandidate(policy: Policy): Promise<void> {
    this.#shadow?.swap(policy)
    return Promise.resolve()
  }

  async revocation(change: RevocationChange): Promise<void> {
    const { revocations } = this.#identity
    if (change.kind === 'restore') revocations.restoreSubject(change.subject)
    else revocations.add(change)
    return Promise.resolve()
  }

  async refresh(): Promise<void> {
    await this.#identity.refresh()
  }

  async cancel(processId: number, secret: Buffer): Promise<boolean> {
    return await this.#server.cancel(processId, secret)
  }

  async sessions(): Promise<readonly SessionInfo[]> {
    return Promise.resolve(this.#server.sessions())
  }

  async report(): Promise<PlaneReport> {
    const { policy } = this.#judge
    const catalogs = this.#catalogs.loaded()
    return Promise.resolve({
      revision: policy.revision,
      shadow: this.#shadow?.status ?? null,
      unmatched: catalogs.length === 0 ? null : unmatchedNames(policy.data, catalogs),
    })
  }

  async observe(): Promise<PlaneObservation> {
    return Promise.resolve(this.#observer.observe())
  }

  async tryOut(question: TryQuestion): Promise<TryAnswer> {
    const catalog = async (database: string): Promise<Catalog> =>
      (await this.#catalogs.open(database)).current()
    return await this.#sandbox.judge(question, { policy: this.#judge.policy, catalog })
  }

  async metrics(): Promise<MetricDocument | null> {
    return this.#options.alone ? null : await this.#options.metrics.document()
  }
}

/** Statements wait for people through the control plane; null where nobody can be asked. */
function holdsOf({ approvals }: Configuration, control: ControlPort): Holds | null {
  const { waitMs, ttlMs } = approvals
  return control.approvals === null ? null : new Holds({ port: control.approvals, waitMs, ttlMs })
}

interface Parts {
  readonly server: Server
  readonly judge: Judge
  readonly shadow: Shadow | null
  readonly catalogs: Catalogs
  readonly identity: IdentityParts
  readonly audit: AuditLog
}

function candidateOf(options: DataPlaneOptions, audit: AuditLog): Shadow | null {
  const { candidate, configuration, log } = options
  if (candidate === null) return null
  return new Shadow({
    policy: candidate,
    literals: configuration.audit.literals,
    schedule: (work) => void setImmediate(work),
    onDifference: ({ revision, statement, user, active, candidate: other, wider }) => {
      const verdicts = `"active":${JSON.stringify(active)},"candidate":${JSON.stringify(other)}`
      const what = `"statement":${JSON.stringify({ text: statement })},${verdicts}`
      try {
        audit.append(
          'policy_difference',
          `"revision":${JSON.stringify(revision)},"identity":${JSON.stringify({ user })},${what},"wider":${String(wider)}`,
        )
      } catch (error) {
        // Nobody waits for it: statements that cannot be recorded are refused by themselves.
        log.warn({ err: error }, 'shadow: a difference could not be recorded')
      }
    },
  })
}

/** The audit log of this process, closed with a signed checkpoint when everything else has ended. */
function openAudit(options: DataPlaneOptions, undo: Undo): AuditLog {
  if (options.checkOnly) return noAudit
  const { directory, fsync, retainMs, segmentBytes, segmentMs } = options.configuration.audit
  const log = FileAuditLog.open({
    ...{ directory, fsync, retainMs },
    ...{ segmentBytesMax: segmentBytes, segmentMsMax: segmentMs },
    worker: options.name,
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

interface IdentityParts {
  readonly authenticator: Authenticator
  readonly revocations: RevocationList
  readonly tls: ClientTls | null
  /** Changed files are taken over; rejects, with the old kept, where they do not fit. */
  refresh(): Promise<void>
}

const rowsMs = 100

/** What sessions here take from row budgets counts everywhere a moment later. */
function shareRows(server: Server, control: ControlPort, undo: Undo): void {
  server.rowBudgets.taken()
  const timer = setInterval(() => {
    const taken = server.rowBudgets.taken()
    if (taken.length > 0) control.rowsTaken(taken)
  }, rowsMs)
  timer.unref()
  undo.push(() => {
    clearInterval(timer)
  })
}

async function startIdentity(
  options: DataPlaneOptions,
  upstreams: ReadonlyMap<string, Upstream>,
  undo: Undo,
): Promise<IdentityParts> {
  const { configuration, control, log } = options
  const revocations = new RevocationList(systemClock)
  const authenticator = await Authenticator.open({
    entries: configuration.authentication,
    attemptLimits: attemptLimitsOf(configuration.limits),
    revocations,
    clock: systemClock,
    onFailedAttempt: (source, user) => {
      control.attemptFailed(source, user)
    },
    log: (message, facts) => {
      log.info(facts, message)
    },
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
  const refresh = async (): Promise<void> => {
    const targets = [...upstreams.values()].map((upstream) => upstream.refresh())
    await Promise.all([authenticator.refresh(), tls?.reload(), ...targets])
  }
  // Changed users and certificates are taken over without a signal too.
  const timer = setInterval(() => {
    refresh().catch((error: unknown) => {
      log.warn({ err: error }, 'users or certificates: kept')
    })
  }, refreshMs)
  timer.unref()
  undo.push(() => {
    clearInterval(timer)
  })
  return { authenticator, revocations, tls, refresh }
}

const refreshMs = 5_000
