/**
 * The worker processes of a regate with `workers` above 1: started, restarted when they end,
 * replaced by newer code, stopped. Carries what one worker has to tell the others.
 *
 * A worker that ends takes its own sessions with it and nobody else's; what its sessions ran
 * upstream is cancelled. One that keeps ending is started again ever more slowly, and readiness
 * fails while it does.
 */
import cluster from 'node:cluster'
import { createServer, type AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Logger } from 'pino'
import type { Configuration } from '../config/config.ts'
import {
  policyDocument,
  RemoteFailure,
  workerProtocol,
  WorkerApprovals,
  type DataPlanePort,
  type Handlers,
  type PrimaryMethods,
  type WorkerInfo,
} from '../control/control.ts'
import { ProxyError, systemClock } from '../core/core.ts'
import { RowBudgets } from '../masking/masking.ts'
import { sendCancel } from '../upstream/upstream.ts'
import type { ControlPlane } from './control-plane.ts'
import { RemoteWorker, type KnownSession, type WorkerEvents } from './workers-remote.ts'
import { upstreamFor, type Environment, type Upstream } from './wiring.ts'

export interface WorkerPoolOptions {
  readonly configuration: Configuration
  /** Of the workers. */
  readonly environment: Environment
  readonly log: Logger
  readonly control: ControlPlane
  readonly maskKey: Uint8Array
  /** Where what a dead worker's sessions ran can be cancelled. */
  readonly upstreams: ReadonlyMap<string, Upstream>
}

/** A place for one worker, whichever process fills it. */
interface Slot {
  readonly index: number
  worker: RemoteWorker | null
  /** Starts and runs in a row that ended too soon. */
  failureCount: number
  restartTimer: NodeJS.Timeout | null
  lastFailure: string
}

/** Who ran so long and then ended did not end because of how it was started. */
const steadyMs = 30_000
const backoffMsLeast = 100
const backoffMsMost = 30_000
/** Names that are tried for one worker. */
const nameAttemptsMax = 8
/** From here on a place counts as crash looping. */
const crashLoopCount = 3

export class WorkerPool {
  readonly #options: WorkerPoolOptions
  readonly #slots: readonly Slot[]
  readonly #workers = new Set<RemoteWorker>()
  /** Names whose last start failed: another process may still have their audit chain. */
  readonly #shunned = new Set<string>()
  readonly #rows = new RowBudgets()
  readonly #approvals = new WeakMap<RemoteWorker, WorkerApprovals>()
  #configuration: Configuration
  #rolling: Promise<void> | null = null
  #stopping = false
  #crashCount = 0
  #restartCount = 0

  private constructor(options: WorkerPoolOptions, configuration: Configuration) {
    this.#options = options
    this.#configuration = configuration
    this.#slots = Array.from({ length: configuration.workers }, (_none, index) => ({
      ...{ index, worker: null, failureCount: 0 },
      ...{ restartTimer: null, lastFailure: '' },
    }))
  }

  /** Nothing is started yet. */
  static async make(options: WorkerPoolOptions): Promise<WorkerPool> {
    const exec = fileURLToPath(new URL('./workers-main.js', import.meta.url))
    cluster.schedulingPolicy = cluster.SCHED_RR
    cluster.setupPrimary({ exec, args: [], execArgv: workerFlags(), serialization: 'advanced' })
    const pool = new WorkerPool(options, await withPort(options.configuration))
    pool.#watch()
    return pool
  }

  /** Starts all workers; rejects where one cannot start. Where clients connect. */
  async listen(): Promise<{ readonly host: string; readonly port: number }> {
    await Promise.all(this.#slots.map((slot) => this.#fill(slot)))
    this.#report()
    const { host, port } = this.#configuration.listen
    return { host, port }
  }

  /** Workers read their catalogs by themselves, and log what they cannot read. */
  warm(): Promise<readonly string[]> {
    return Promise.resolve([])
  }

  get planes(): readonly DataPlanePort[] {
    return [...this.#workers]
  }

  get sessionCount(): number {
    return [...this.#workers].reduce((sum, worker) => sum + worker.knownSessions.size, 0)
  }

  /** Workers that take clients. */
  get runningCount(): number {
    return this.#slots.filter(({ worker }) => worker?.state === 'running').length
  }

  list(): readonly WorkerInfo[] {
    return [...this.#workers].map((worker) => ({
      ...{ name: worker.name, pid: worker.pid, state: worker.state, version: worker.version },
      ...{ revision: worker.revision, started: new Date(worker.startedMs).toISOString() },
      sessions: worker.knownSessions.size,
    }))
  }

  /**
   * Replaces every worker by one that is started now, with the code that is installed now. The old
   * ones take no new clients and end when their sessions have, at most limits.retireMsMax later.
   * Resolves when the new ones serve; rejects where one cannot start, with the rest as they were.
   */
  roll(): Promise<void> {
    this.#rolling ??= this.#roll().finally(() => {
      this.#rolling = null
    })
    return this.#rolling
  }

  /** No new clients; resolves when all sessions have ended, at most limits.drainMsMax later. */
  async drain(): Promise<void> {
    this.#halt()
    await Promise.all([...this.#workers].map((worker) => worker.retire(0).catch(() => undefined)))
  }

  /** Ends all workers now. */
  async stop(): Promise<void> {
    this.#halt()
    await Promise.all([...this.#workers].map((worker) => worker.stop()))
  }

  #watch(): void {
    const { metrics } = this.#options.control
    const numbers: readonly [string, 'counter' | 'gauge', string, () => number][] = [
      ['regate_workers', 'gauge', 'Workers that take clients.', () => this.runningCount],
      ['regate_workers_configured', 'gauge', 'Workers that should.', () => this.#slots.length],
      ['regate_worker_crashes_total', 'counter', 'Workers that ended.', () => this.#crashCount],
      ['regate_worker_restarts_total', 'counter', 'Starts after that.', () => this.#restartCount],
    ]
    for (const [name, kind, help, read] of numbers) metrics.watch({ name, kind, help, read })
  }

  #halt(): void {
    this.#stopping = true
    for (const slot of this.#slots) {
      if (slot.restartTimer !== null) clearTimeout(slot.restartTimer)
      slot.restartTimer = null
    }
  }

  async #roll(): Promise<void> {
    const { log } = this.#options
    for (const slot of this.#slots) {
      if (this.#stopping) return
      const old = slot.worker
      await this.#fill(slot)
      log.info({ worker: slot.worker?.name, replaces: old?.name }, 'worker: replaced')
      if (old !== null) {
        void old.retire(this.#configuration.limits.retireMsMax).catch((error: unknown) => {
          log.warn({ worker: old.name, err: error }, 'worker: did not retire well')
        })
      }
    }
    this.#report()
  }

  /**
   * Starts a worker and gives it the place when it serves. A name whose audit chain another process
   * still has (a worker of a regate that died) is passed over.
   */
  async #fill(slot: Slot): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#fillOnce(slot)
        return
      } catch (error) {
        const taken = error instanceof RemoteFailure && error.code === 'audit_unavailable'
        if (!taken || attempt >= nameAttemptsMax) throw error
        this.#options.log.warn({ err: error }, 'worker: another name is tried')
      }
    }
  }

  async #fillOnce(slot: Slot): Promise<void> {
    const { control, log, maskKey } = this.#options
    let greeted: () => void = () => undefined
    const hello = new Promise<void>((resolve) => {
      greeted = resolve
    })
    const worker = new RemoteWorker({
      ...{ name: this.#freeName(), environment: this.#options.environment, log },
      events: this.#events(() => {
        greeted()
      }),
    })
    this.#workers.add(worker)
    const { limits } = this.#configuration
    const failed = new Promise<never>((_resolve, reject) => {
      setTimeout(() => {
        reject(new Error(`worker ${worker.name} said nothing for ${limits.workerStartMsMax} ms`))
      }, limits.workerStartMsMax).unref()
      worker.whenEnded((how) => {
        reject(new Error(`worker ${worker.name} ended ${how} before it served`))
      })
    })
    try {
      await Promise.race([hello, failed])
      await worker.start(
        {
          ...{ name: worker.name, configuration: this.#configuration, maskKey },
          policy: policyDocument(control.policy),
          candidate: control.candidate === null ? null : policyDocument(control.candidate),
          revocations: [...control.revocations.list()],
          rows: [...this.#rows.all(systemClock.nowMs())],
          mayAsk: control.port.approvals !== null,
        },
        limits.workerStartMsMax,
      )
    } catch (error) {
      this.#shunned.add(worker.name)
      worker.kill()
      throw error
    }
    this.#shunned.clear()
    slot.worker = worker
    const { name, pid } = worker
    log.info({ worker: name, pid, revision: worker.revision }, 'worker: serves')
  }

  /** The smallest number that no living worker has: names of audit chains are few and come back. */
  #freeName(): string {
    const taken = new Set([...this.#workers].map(({ name }) => name))
    for (let number = 1; ; number++) {
      const name = `w${number}`
      if (!taken.has(name) && !this.#shunned.has(name)) return name
    }
  }

  #events(greeted: () => void): WorkerEvents {
    return {
      handlers: (worker) => this.#handlers(worker),
      hello: (worker, protocol, version) => {
        if (protocol !== workerProtocol) {
          throw new ProxyError(
            'configuration',
            `worker ${worker.name} is regate ${version}, which this primary cannot lead`,
            { hint: 'Restart regate: what is installed is too new for a rolling reload.' },
          )
        }
        greeted()
      },
      ended: (worker, how) => {
        this.#ended(worker, how)
      },
    }
  }

  #handlers(asker: RemoteWorker): ReturnType<WorkerEvents['handlers']> {
    const others = (): readonly RemoteWorker[] =>
      [...this.#workers].filter((worker) => worker !== asker)
    const approvals = new WorkerApprovals(this.#options.control.port.approvals)
    this.#approvals.set(asker, approvals)
    const handlers: Omit<Handlers<PrimaryMethods>, 'sessionStarted' | 'sessionEnded' | 'hello'> = {
      cancelElsewhere: async ({ processId, secret }) => {
        await Promise.all(others().map((worker) => worker.cancel(processId, secret)))
        return null
      },
      catalogsChanged: () => {
        this.#options.control.port.catalogsChanged()
        return null
      },
      catalogOutdated: (database) => {
        for (const worker of others()) worker.tell('catalogOutdated', database)
        return null
      },
      attemptFailed: (attempt) => {
        for (const worker of others()) worker.tell('attemptFailed', attempt)
        return null
      },
      approvalAsk: (ask) => approvals.ask(ask),
      approvalNext: (holdId) => approvals.next(holdId),
      approvalWithdraw: ({ holdId, reason }) => approvals.withdraw(holdId, reason),
      approvalVoided: ({ holdId, approval, why }) => approvals.voided(holdId, approval, why),
      rowsTaken: (taken) => {
        for (const rows of taken) this.#rows.count(rows, systemClock.nowMs())
        for (const worker of others()) worker.tell('rowsTaken', taken)
        return null
      },
    }
    return handlers
  }

  #ended(worker: RemoteWorker, how: string): void {
    const { log } = this.#options
    this.#workers.delete(worker)
    void this.#approvals.get(worker)?.ended()
    const left = [...worker.knownSessions.values()]
    const slot = this.#slots.find((one) => one.worker === worker)
    if (slot === undefined) {
      // It had been replaced, or never served: whoever started it knows.
      if (left.length > 0) this.#cancelLeft(worker, left)
      return
    }
    slot.worker = null
    if (this.#stopping) return
    this.#crashCount++
    log.error({ worker: worker.name, how, sessions: left.length }, 'worker: has ended')
    this.#cancelLeft(worker, left)
    slot.failureCount = Date.now() - worker.startedMs < steadyMs ? slot.failureCount + 1 : 1
    slot.lastFailure = `worker ${worker.name} ended ${how}`
    this.#restartLater(slot)
  }

  #restartLater(slot: Slot): void {
    this.#report()
    if (this.#stopping) return
    // Not at once in step: the first again quickly, then ever more slowly.
    const wish = backoffMsLeast * 4 ** Math.max(0, slot.failureCount - 1)
    const delay = Math.min(backoffMsMost, wish) * (0.5 + Math.random() / 2)
    slot.restartTimer = setTimeout(() => {
      slot.restartTimer = null
      this.#restartCount++
      this.#fill(slot).then(
        () => {
          this.#report()
        },
        (error: unknown) => {
          this.#options.log.error({ err: error }, 'worker: could not be started')
          slot.failureCount++
          slot.lastFailure = error instanceof Error ? error.message : String(error)
          this.#restartLater(slot)
        },
      )
    }, delay)
  }

  /** Nobody waits any more for what a dead worker's sessions ran. */
  #cancelLeft(worker: RemoteWorker, left: readonly KnownSession[]): void {
    const { upstreams, log } = this.#options
    for (const { database, processId, secret } of left) {
      const target = upstreamFor(upstreams, database)?.target(database)
      if (target === undefined) continue
      sendCancel(target, processId, secret).catch((error: unknown) => {
        log.warn(
          { worker: worker.name, database, err: error },
          'worker: a cancel was not delivered',
        )
      })
    }
  }

  /** Readiness: what crash loops, or that nobody serves. */
  #report(): void {
    const { health } = this.#options.control
    const looping = this.#slots.filter(({ failureCount, worker }) => {
      return failureCount >= crashLoopCount && worker?.state !== 'running'
    })
    const [first] = looping
    if (first !== undefined) {
      const { failureCount, lastFailure } = first
      health.problem('workers', `${lastFailure}; ${failureCount} times in a row`)
    } else if (this.runningCount === 0) health.problem('workers', 'none is running')
    else health.ok('workers')
  }
}

/**
 * With port 0 the primary looks for a free one: workers that start later must listen on the same.
 */
async function withPort(configuration: Configuration): Promise<Configuration> {
  const { listen } = configuration
  if (listen.port !== 0) return configuration
  const port = await new Promise<number>((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen({ host: listen.host, port: 0 }, () => {
      const found = (server.address() as AddressInfo).port
      server.close(() => {
        resolve(found)
      })
    })
  })
  return { ...configuration, listen: { ...listen, port } }
}

/** Of Node: shorter pauses for garbage (docs/guides/identity.md), unless somebody chose another size. */
function workerFlags(): string[] {
  const chosen = [process.env['NODE_OPTIONS'] ?? '', ...process.execArgv].join(' ')
  return /semi[-_]space/.test(chosen)
    ? process.execArgv
    : [...process.execArgv, '--max-semi-space-size=4']
}
