/**
 * A worker process of `regate serve` with `workers` above 1: one data plane, told what to do by the
 * primary. Started by workers-pool.ts through node:cluster, never by hand.
 *
 * If the primary dies, the worker goes on with the sessions it has, under the policy it has, for at
 * most limits.orphanMsMax: revocations and new policies can no longer reach it.
 */
import cluster from 'node:cluster'
import type { Logger } from 'pino'
import type { ApprovalPort } from '../approval/approval.ts'
import type { Configuration } from '../config/config.ts'
import {
  bundleOf,
  Channel,
  Metrics,
  primaryMethods,
  workerMethods,
  workerProtocol,
  type ControlPort,
  type Handlers,
  type PolicyDocument,
  type PrimaryMethods,
  type Received,
  type WorkerMethods,
} from '../control/control.ts'
import type { Limits } from '../core/core.ts'
import { KnownPolicies, Policy } from '../policy/policy.ts'
import { DataPlane } from './data-plane.ts'
import { tuneEngine } from './engine.ts'
import { openLog } from './logger.ts'
import { Undo } from './undo.ts'
import { packageVersion } from './version.ts'

type Start = Received<WorkerMethods, 'start'>
type PrimaryChannel = Channel<WorkerMethods, PrimaryMethods>

/** What `start` has made. */
interface Running {
  readonly plane: DataPlane
  readonly limits: Limits
}

class WorkerProcess {
  readonly #undo = new Undo()
  readonly #channel: PrimaryChannel
  #log: Logger = openLog('info')
  #running: Running | null = null
  #ending: Promise<void> | null = null
  readonly #known = new KnownPolicies()

  constructor() {
    this.#channel = new Channel({
      mine: workerMethods,
      theirs: primaryMethods,
      handlers: this.#handlers(),
      send: (message, sent) => {
        if (process.send === undefined || !process.connected) sent(new Error('the primary is gone'))
        else process.send(message, undefined, undefined, sent)
      },
      onFault: (error, method) => {
        if (process.connected) this.#log.error({ err: error, method }, 'worker: a message failed')
      },
    })
    process.on('message', (message) => {
      this.#channel.receive(message)
    })
    process.once('disconnect', () => {
      this.#orphaned()
    })
  }

  /** Says hello; the primary answers with `start`. */
  async begin(): Promise<void> {
    await this.#channel.call(
      'hello',
      { protocol: workerProtocol, version: packageVersion() },
      30_000,
    )
  }

  /** Takes no new clients, lets sessions finish up to limits.drainMsMax, and ends the process. */
  async drain(): Promise<void> {
    await this.#running?.plane.drain()
    await this.#end()
  }

  #handlers(): Handlers<WorkerMethods> {
    const plane = (): DataPlane => {
      if (this.#running === null) throw new Error('the worker has not been started')
      return this.#running.plane
    }
    return {
      start: (start) => this.#start(start),
      usePolicy: async (document) => {
        await plane().usePolicy(await this.#load(document))
        return null
      },
      useCandidate: async (document) => {
        await plane().useCandidate(await this.#load(document))
        return null
      },
      revocation: async (change) => {
        await plane().revocation(change)
        return null
      },
      refresh: async () => {
        await plane().refresh()
        return null
      },
      cancel: ({ processId, secret }) => plane().cancel(processId, secret),
      sessions: async () => copied(await plane().sessions()),
      report: async () => copied(await plane().report()),
      observe: () => plane().observe(),
      tryOut: async (question) => copied(await plane().tryOut(question)),
      metrics: async () => copied((await plane().metrics()) ?? []),
      attemptFailed: ({ source, user }) => {
        plane().countFailedAttempt(source, user)
        return null
      },
      rowsTaken: (taken) => {
        plane().countRows(taken)
        return null
      },
      catalogOutdated: (database) => {
        plane().lookAtCatalog(database)
        return null
      },
      retire: async ({ msMax }) => {
        await plane().retire(msMax)
        return null
      },
      stop: () => {
        // The answer leaves first.
        setImmediate(() => void this.#end())
        return null
      },
    }
  }

  async #start(start: Start): Promise<{ host: string; port: number }> {
    const { name, maskKey } = start
    const configuration = start.configuration as Configuration
    const { limits } = configuration
    this.#log = openLog(configuration.logLevel, { worker: name })
    const policy = await this.#load(start.policy, limits)
    const candidate = start.candidate === null ? null : await this.#load(start.candidate, limits)
    const plane = await DataPlane.start(
      {
        ...{ configuration, environment: process.env, log: this.#log, name },
        ...{ policy, candidate, maskKey, control: this.#control(start.mayAsk) },
        ...{ metrics: new Metrics(packageVersion(), name), alone: false },
        ...{ checkOnly: false, audit: null },
      },
      this.#undo,
    )
    for (const change of start.revocations) await plane.revocation(change)
    plane.countRows(start.rows)
    this.#running = { plane, limits }
    // Clients may come before every catalog was read: their sessions wait for theirs.
    void plane.warm().then(() => this.#channel.tell('catalogsChanged', null))
    return await plane.listen()
  }

  /** The primary has checked it, and says what it costs. */
  async #load(document: PolicyDocument, limits = this.#running?.limits): Promise<Policy> {
    if (limits === undefined) throw new Error('the worker has not been started')
    const { cost } = document
    return await Policy.load(bundleOf(document), { limits, cost, known: this.#known })
  }

  /** The control plane behind the channel. */
  #control(mayAsk: boolean): ControlPort {
    const channel = this.#channel
    return {
      approvals: mayAsk ? this.#approvals() : null,
      cancelElsewhere: async (processId, secret) => {
        await channel.call('cancelElsewhere', { processId, secret }, callMsMax)
      },
      catalogsChanged: () => {
        channel.tell('catalogsChanged', null)
      },
      catalogOutdated: (database) => {
        channel.tell('catalogOutdated', database)
      },
      attemptFailed: (source, user) => {
        channel.tell('attemptFailed', { source, user })
      },
      rowsTaken: (taken) => {
        channel.tell('rowsTaken', [...taken])
      },
      session: (event) => {
        if (event.kind === 'ended') channel.tell('sessionEnded', event.id)
        else {
          const { id, database, processId, secret } = event
          channel.tell('sessionStarted', { id, database, processId, secret })
        }
      },
    }
  }

  /** Answers may take as long as people do: these calls have no time limit of their own. */
  #approvals(): ApprovalPort {
    const channel = this.#channel
    return {
      ask: (ask) => channel.call('approvalAsk', ask, 0),
      next: (holdId) => channel.call('approvalNext', holdId, 0),
      withdraw: async (holdId, reason) => {
        await channel.call('approvalWithdraw', { holdId, reason }, 0)
      },
      voided: async (holdId, approval, why) => {
        await channel.call('approvalVoided', { holdId, approval, why }, 0)
      },
    }
  }

  #orphaned(): void {
    this.#channel.close(new Error('the primary process is gone'))
    if (this.#ending !== null || this.#running === null) {
      void this.#end()
      return
    }
    const { plane, limits } = this.#running
    const sessions = plane.sessionCount
    this.#log.error(
      { sessions },
      'worker: the primary is gone; sessions may end, then this process',
    )
    void plane.retire(limits.orphanMsMax).finally(() => this.#end())
  }

  /** Ends the process, with everything closed that was opened; once. */
  #end(): Promise<void> {
    this.#ending ??= this.#undo.run().then(
      () => process.exit(0),
      (error: unknown) => {
        this.#log.error({ err: error }, 'worker: could not end well')
        process.exit(1)
      },
    )
    return this.#ending
  }
}

const callMsMax = 10_000

/** Readonly data of ours as the mutable type that a schema describes. */
function copied<T>(value: T): Mutable<T> {
  return value as Mutable<T>
}

type Mutable<T> = T extends readonly (infer Item)[]
  ? Mutable<Item>[]
  : T extends Buffer
    ? T
    : T extends object
      ? { -readonly [key in keyof T]: Mutable<T[key]> }
      : T

if (cluster.isPrimary) {
  process.stderr.write('regate: workers are started by `regate serve`\n')
  process.exit(2)
}
// node:cluster would end the process at once when the primary is gone; sessions shall end first.
if (cluster.worker !== undefined) cluster.worker.exitedAfterDisconnect = true
tuneEngine()
const worker = new WorkerProcess()
// A terminal sends its signals to the whole group; the primary decides what they mean.
for (const signal of ['SIGINT', 'SIGHUP', 'SIGUSR2'] as const) process.on(signal, () => undefined)
process.on('SIGTERM', () => void worker.drain())
await worker.begin()
