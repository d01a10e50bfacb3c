/**
 * The control plane of a running regate: the policy keeper, revocations, the admin API, health and
 * metrics. One in each regate, whatever the number of data planes that serve.
 */
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Configuration } from '../config/config.ts'
import {
  approvalCallbackPath,
  auditRoutes,
  Health,
  mergeShadows,
  Metrics,
  Observer,
  PolicyKeeper,
  policyRoutes,
  sessionRoutes,
  startAdmin,
  workerRoutes,
  type AdminServer,
  type ControlPort,
  type DataPlanePort,
  type PlaneReport,
  type PolicyStatus,
  type WorkerRouteOptions,
} from '../control/control.ts'
import { systemClock } from '../core/core.ts'
import {
  readRevocations,
  RevocationList,
  writeRevocations,
  type RevocationChange,
} from '../identity/identity.ts'
import type { Policy } from '../policy/policy.ts'
import { startApprovals, type Approvals } from './approval-wiring.ts'
import { adminAccess, type AdminAccess } from './admin-access.ts'
import { startConsole } from './console.ts'
import { startSinks } from './decision-sinks.ts'
import { watchPolicy } from './observe.ts'
import { keeperOptions } from './policy-source.ts'
import type { Undo } from './undo.ts'
import type { Environment } from './wiring.ts'

export interface ControlPlaneOptions {
  readonly configuration: Configuration
  readonly environment: Environment
  readonly log: Logger
  /** Nothing listens and nothing is watched: what `--check` needs. */
  readonly checkOnly: boolean
  readonly version: string
  /** Of the process that this runs in, as metrics show it. */
  readonly processName: string
  /** What is not wrong but deserves a look. */
  readonly warnings: readonly string[]
}

/** Started; data planes are attached when they are there, then the admin API listens. */
export class ControlPlane {
  readonly health = new Health()
  readonly metrics: Metrics
  /** Who may no longer act; a change counts at once, in every data plane. */
  readonly revocations = new RevocationList(systemClock)
  readonly #options: ControlPlaneOptions
  readonly #undo: Undo
  #keeper: PolicyKeeper | null = null
  #shadowKeeper: PolicyKeeper | null = null
  #planes: () => readonly DataPlanePort[] = () => []
  #names: readonly string[] = []
  #namesTimer: NodeJS.Timeout | null = null
  #approvals: Approvals | null = null
  /** Of the admin API; '' while it does not listen. */
  #url = ''
  /** Changes of revocations that are on their way. */
  #changing: Promise<unknown> = Promise.resolve()

  private constructor(options: ControlPlaneOptions, undo: Undo) {
    this.#options = options
    this.#undo = undo
    this.metrics = new Metrics(options.version, options.processName)
  }

  /** Loads the policies; rejects where there is none that can be used. */
  static async start(options: ControlPlaneOptions, undo: Undo): Promise<ControlPlane> {
    const plane = new ControlPlane(options, undo)
    await plane.#startPolicy()
    for (const revocation of await readRevocations(plane.#revocationsPath)) {
      plane.revocations.add(revocation)
    }
    plane.revocations.onChange((change) => {
      plane.#tellRevocation(change)
    })
    undo.push(() => {
      if (plane.#namesTimer !== null) clearTimeout(plane.#namesTimer)
    })
    if (!options.checkOnly) plane.#startApprovals()
    watchPolicy(plane.metrics, plane.keeper)
    plane.metrics.watch({
      name: 'regate_policy_names_unmatched',
      help: 'Classified columns and granted relations that match nothing in the catalog.',
      kind: 'gauge',
      read: () => plane.#names.length,
    })
    return plane
  }

  get keeper(): PolicyKeeper {
    if (this.#keeper === null) throw new Error('the policy keeper is used before it was started')
    return this.#keeper
  }

  get policy(): Policy {
    return this.keeper.policy
  }

  /** The policy of `policy.shadow`; null without one. */
  get candidate(): Policy | null {
    return this.#shadowKeeper?.policy ?? null
  }

  /** What a data plane asks of this one; what concerns other data planes is the workers pool's. */
  port: ControlPort = {
    approvals: null,
    cancelElsewhere: () => Promise.resolve(),
    attemptFailed: () => undefined,
    rowsTaken: () => undefined,
    session: () => undefined,
    catalogOutdated: () => undefined,
    catalogsChanged: () => {
      // Many catalogs may change together: looked at once, a moment later.
      this.#namesTimer ??= setTimeout(() => {
        this.#namesTimer = null
        this.checkNames().catch(() => undefined)
      }, namesMs).unref()
    },
  }

  /** Tells who waits for people that regate stops; what they asked stays open. */
  async suspendApprovals(): Promise<void> {
    await this.#approvals?.suspend()
  }

  #startApprovals(): void {
    const { configuration, environment, log } = this.#options
    const { metrics } = this
    const url = (): string => this.#url
    const revision = (): string => this.policy.revision
    const approvals = startApprovals({ configuration, environment, log, metrics, url, revision })
    this.#undo.push(() => approvals.close())
    this.#approvals = approvals
    this.port = { ...this.port, approvals: approvals.port }
  }

  /** The data planes that run, asked for each time they are needed. */
  attach(planes: () => readonly DataPlanePort[]): void {
    this.#planes = planes
  }

  /** Asks the data planes which names match nothing; readiness and metrics show it. */
  async checkNames(): Promise<readonly string[]> {
    const reports = await this.#ask((plane) => plane.report())
    const known = reports.map(({ unmatched }) => unmatched).filter((names) => names !== null)
    const [first = [], ...rest] = known
    // Each data plane knows the catalogs that its own sessions use: one that matches is enough.
    const names = first.filter((name) => rest.every((others) => others.includes(name)))
    for (const name of names) {
      if (!this.#names.includes(name)) this.#options.log.warn(`policy: ${name}`)
    }
    this.#names = names
    this.health.warn([...this.#options.warnings, ...names])
    return names
  }

  /** Policies are read again, in this process and then in every data plane. */
  async reload(): Promise<void> {
    await Promise.all([this.keeper.reload(), ...this.#planes().map((plane) => plane.refresh())])
  }

  /** Starts the admin API. */
  async listen(workers: WorkerRouteOptions['workers']): Promise<AdminServer> {
    const { configuration, environment, log } = this.#options
    const { host, port } = configuration.admin
    const access = adminAccess(configuration, environment, this.revocations, (message, facts) => {
      log.warn(facts, message)
    })
    this.#undo.push(() => access.close())
    const { health, metrics } = this
    const web = await this.#startConsole(access)
    const admin = await startAdmin({
      ...{ ...web, host, port, health, metrics },
      isOpen: (path) => path === approvalCallbackPath || web.isOpen?.(path) === true,
      otherMetrics: async () => {
        const documents = await this.#ask((plane) => plane.metrics())
        return documents.filter((document) => document !== null)
      },
      routes: [
        ...web.routes,
        ...(this.#approvals === null ? [] : [this.#approvals.routes]),
        sessionRoutes({
          sessions: async () => (await this.#ask((plane) => plane.sessions())).flat(),
          revocations: this.revocations,
          applied: () => this.#changing,
          log: (facts, message) => {
            log.warn(facts, message)
          },
        }),
        auditRoutes({ directory: configuration.audit.directory, clock: systemClock }),
        workerRoutes({
          workers,
          log: (facts, message) => {
            log.warn(facts, message)
          },
        }),
        policyRoutes({
          keeper: this.keeper,
          shadow: this.#shadowKeeper === null ? null : () => this.#shadowStatus(),
          log: (facts, message) => {
            log.warn(facts, message)
          },
        }),
      ],
    })
    this.#undo.push(() => admin.close())
    this.#url = configuration.admin.url ?? admin.url
    return admin
  }

  async #startConsole(access: AdminAccess): ReturnType<typeof startConsole> {
    const { configuration, environment, log, version } = this.#options
    const { health, keeper, revocations } = this
    const observer = new Observer({
      clock: systemClock,
      observe: () => this.#ask((plane) => plane.observe(), this.#serving()),
    })
    observer.start()
    this.#undo.push(() => {
      observer.stop()
    })
    return await startConsole(
      {
        ...{ configuration, environment, access, revocations, health, keeper, observer, version },
        sessions: async () => (await this.#ask((plane) => plane.sessions())).flat(),
        judge: async (question) => {
          const [plane] = this.#serving()
          if (plane === undefined) return { kind: 'problem', error: 'no worker runs', hint: null }
          return await plane.tryOut(question)
        },
        log: (facts, message) => {
          log.info(facts, message)
        },
      },
      this.#undo,
    )
  }

  async #shadowStatus(): Promise<ReturnType<typeof mergeShadows>> {
    const reports: readonly PlaneReport[] = await this.#ask((plane) => plane.report())
    return mergeShadows(reports.map(({ shadow }) => shadow).filter((status) => status !== null))
  }

  #serving(): readonly DataPlanePort[] {
    return this.#planes().filter(({ serves }) => serves)
  }

  /** The answers of all data planes that give one; who does not answer is logged and left out. */
  async #ask<T>(
    question: (plane: DataPlanePort) => Promise<T>,
    planes: readonly DataPlanePort[] = this.#planes(),
  ): Promise<readonly T[]> {
    const answers = await Promise.allSettled(planes.map(question))
    return answers.flatMap((answer, index) => {
      if (answer.status === 'fulfilled') return [answer.value]
      const worker = planes[index]?.name
      this.#options.log.warn({ worker, err: answer.reason as unknown }, 'a worker did not answer')
      return []
    })
  }

  get #revocationsPath(): string {
    return join(this.#options.configuration.audit.directory, 'revocations.json')
  }

  #tellRevocation(change: RevocationChange): void {
    const told = this.#ask((plane) => plane.revocation(change))
    const before = this.#changing.catch(() => undefined)
    this.#changing = Promise.all([told, before.then(() => this.#saveRevocations(change))])
    // Who waits for it is told; a session's end is waited for by nobody.
    this.#changing.catch((err: unknown) => {
      this.#options.log.error({ err }, 'revocations cannot be saved: a restart forgets them')
    })
  }

  async #saveRevocations(change: RevocationChange): Promise<void> {
    if (change.kind === 'session') return
    await writeRevocations(this.#revocationsPath, this.revocations.list(), systemClock.nowMs())
  }

  async #startPolicy(): Promise<void> {
    const { configuration, environment, log, checkOnly } = this.#options
    const { policy, limits } = configuration
    const watch = checkOnly ? { watchMs: 0 } : {}
    const { metrics } = this
    const statusLogs = checkOnly
      ? []
      : await startSinks({ configuration, environment, log, metrics }, this.#undo)
    let failures = 0
    const keeper = await PolicyKeeper.start({
      ...(await keeperOptions(policy, { limits, environment })),
      ...watch,
      clock: systemClock,
      onPolicy: async (next: Policy) => {
        await this.#use(next, (plane) => plane.usePolicy(next))
        log.info({ revision: next.revision }, 'policy: another revision is active')
      },
      onStatus: (status: PolicyStatus) => {
        if (status.code === null) this.health.ok('policy')
        else this.health.problem('policy', status.message ?? status.code)
        if (status.failure_count > failures) {
          log.error({ status }, 'policy: the newest bundle is not active, the one before it stays')
        }
        failures = status.failure_count
      },
      onLoaded: (status: PolicyStatus) => {
        for (const statusLog of statusLogs) void statusLog.status(status)
      },
    })
    this.#keeper = keeper
    this.#undo.push(() => keeper.close())
    if (policy.shadow === null) return
    const shadowKeeper = await PolicyKeeper.start({
      ...(await keeperOptions({ ...policy.shadow, opa: policy.opa }, { limits, environment })),
      ...watch,
      name: 'shadow',
      clock: systemClock,
      onPolicy: async (next: Policy) => {
        await this.#use(next, (plane) => plane.useCandidate(next))
      },
    })
    this.#shadowKeeper = shadowKeeper
    this.#undo.push(() => shadowKeeper.close())
  }

  /** A data plane that cannot take a policy keeps the one it has; health says which. */
  async #use(policy: Policy, use: (plane: DataPlanePort) => Promise<void>): Promise<void> {
    await Promise.all(
      this.#planes().map(async (plane) => {
        const name = `policy of ${plane.name}`
        try {
          await use(plane)
          this.health.ok(name)
        } catch (error) {
          const { revision } = policy
          const { log } = this.#options
          log.error(
            { worker: plane.name, revision, err: error },
            'policy: a worker kept its old one',
          )
          this.health.problem(name, `${revision} could not be loaded: ${String(error)}`)
        }
      }),
    )
  }
}

const namesMs = 50
