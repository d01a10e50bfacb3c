/**
 * One worker process as the primary sees it: its channel, its state, the sessions it has. Behind
 * `DataPlanePort` like a data plane in this process.
 *
 *   starting ──▶ running ──▶ retiring ──▶ ended
 *       └───────────┴─────────────────────▶
 */
import cluster, { type Worker } from 'node:cluster'
import type { Logger } from 'pino'
import {
  Channel,
  policyDocument,
  primaryMethods,
  workerMethods,
  type DataPlanePort,
  type Handlers,
  type MetricDocument,
  type Params,
  type PlaneObservation,
  type PlaneReport,
  type PrimaryMethods,
  type Received,
  type TryAnswer,
  type TryQuestion,
  type WorkerMethods,
} from '../control/control.ts'
import type { RevocationChange } from '../identity/identity.ts'
import type { Policy } from '../policy/policy.ts'
import type { SessionInfo } from '../server/server.ts'
import type { Environment } from './wiring.ts'

export type WorkerState = 'starting' | 'running' | 'retiring' | 'ended'

/** A session as its worker told of it when it began: enough to cancel what it left upstream. */
export type KnownSession = Received<PrimaryMethods, 'sessionStarted'>

/** What the pool does for a worker; `worker` is who asks. */
export interface WorkerEvents {
  readonly handlers: (
    worker: RemoteWorker,
  ) => Omit<Handlers<PrimaryMethods>, 'sessionStarted' | 'sessionEnded' | 'hello'>
  /** Its hello: throws where it speaks another protocol. */
  hello(worker: RemoteWorker, protocol: number, version: string): void
  ended(worker: RemoteWorker, how: string): void
}

export interface RemoteWorkerOptions {
  readonly name: string
  readonly environment: Environment
  readonly events: WorkerEvents
  readonly log: Logger
}

/** A worker that answers nothing for so long is left out of the answer. */
const callMsMax = 10_000
/** Compiling a large module takes its time on a loaded machine. */
const policyMsMax = 60_000
/** Between the order to stop and SIGKILL. */
const stopMsMax = 5_000

export class RemoteWorker implements DataPlanePort {
  readonly name: string
  readonly startedMs = Date.now()
  readonly #worker: Worker
  readonly #channel: Channel<PrimaryMethods, WorkerMethods>
  readonly #sessions = new Map<string, KnownSession>()
  readonly #ended: Promise<string>
  #state: WorkerState = 'starting'
  /** The order to start, which brings what is the newest then; null before it was sent. */
  #started: Promise<unknown> | null = null
  version = ''
  revision = ''

  /** Starts the process; what it runs is set by `cluster.setupPrimary`. */
  constructor(options: RemoteWorkerOptions) {
    const { name, environment, events, log } = options
    this.name = name
    this.#worker = cluster.fork(environment)
    const worker = this.#worker
    this.#channel = new Channel({
      mine: primaryMethods,
      theirs: workerMethods,
      send: (message, sent) => {
        if (worker.isConnected()) worker.process.send(message, undefined, undefined, sent)
        else sent(new Error(`worker ${name} is gone`))
      },
      handlers: {
        ...events.handlers(this),
        hello: ({ protocol, version }) => {
          this.version = version
          events.hello(this, protocol, version)
          return null
        },
        sessionStarted: (session) => {
          this.#sessions.set(session.id, session)
          return null
        },
        sessionEnded: (id) => {
          this.#sessions.delete(id)
          return null
        },
      },
      onFault: (error, method) => {
        if (this.#state !== 'ended')
          log.error({ worker: name, err: error, method }, 'worker: message')
      },
    })
    worker.on('message', (message: unknown) => {
      this.#channel.receive(message)
    })
    worker.on('error', (error) => {
      log.error({ worker: name, err: error }, 'worker: process')
    })
    this.#ended = new Promise((resolve) => {
      worker.once('exit', (code: number | null, signal: string | null) => {
        const how = signal === null ? `with exit code ${String(code)}` : `by ${signal}`
        this.#channel.close(new Error(`worker ${name} has ended ${how}`))
        this.#state = 'ended'
        resolve(how)
        events.ended(this, how)
      })
    })
  }

  get state(): WorkerState {
    return this.#state
  }

  get pid(): number {
    return this.#worker.process.pid ?? 0
  }

  /** Sessions that it has, or had when it ended. */
  get knownSessions(): ReadonlyMap<string, KnownSession> {
    return this.#sessions
  }

  /** Prepares it and makes it listen; rejects where it cannot, with the process ended. */
  async start(
    params: Params<WorkerMethods, 'start'>,
    msMax: number,
  ): Promise<{ readonly host: string; readonly port: number }> {
    try {
      const started = this.#channel.call('start', params, msMax)
      this.#started = started
      const address = await started
      this.revision = params.policy.manifest.revision
      if (this.#state === 'starting') this.#state = 'running'
      return address
    } catch (error) {
      this.kill()
      throw error
    }
  }

  async usePolicy(policy: Policy): Promise<void> {
    if (!(await this.#listens())) return
    await this.#channel.call('usePolicy', policyDocument(policy), policyMsMax)
    this.revision = policy.revision
  }

  async useCandidate(policy: Policy): Promise<void> {
    if (!(await this.#listens())) return
    await this.#channel.call('useCandidate', policyDocument(policy), policyMsMax)
  }

  async revocation(change: RevocationChange): Promise<void> {
    if (!(await this.#listens())) return
    await this.#channel.call('revocation', change, callMsMax)
  }

  async refresh(): Promise<void> {
    if (await this.#listens()) await this.#channel.call('refresh', null, callMsMax)
  }

  async cancel(processId: number, secret: Buffer): Promise<boolean> {
    if (!this.serves) return false
    return await this.#channel.call('cancel', { processId, secret }, callMsMax)
  }

  async sessions(): Promise<readonly SessionInfo[]> {
    return this.serves ? await this.#channel.call('sessions', null, callMsMax) : []
  }

  async report(): Promise<PlaneReport> {
    if (!this.serves) return { revision: this.revision, shadow: null, unmatched: null }
    return await this.#channel.call('report', null, callMsMax)
  }

  async observe(): Promise<PlaneObservation> {
    return await this.#channel.call('observe', null, callMsMax)
  }

  async tryOut(question: TryQuestion): Promise<TryAnswer> {
    return await this.#channel.call('tryOut', question, callMsMax)
  }

  async metrics(): Promise<MetricDocument | null> {
    if (!this.serves) return null
    return (await this.#channel.call('metrics', null, callMsMax)) as unknown as MetricDocument
  }

  /** A message without an answer, to a worker that serves. */
  tell<Name extends keyof WorkerMethods>(method: Name, params: Params<WorkerMethods, Name>): void {
    if (this.serves) this.#channel.tell(method, params)
  }

  /** No new clients; resolves when its sessions are over and it has ended. */
  async retire(msMax: number): Promise<void> {
    if (this.#state === 'ended') return
    this.#state = 'retiring'
    await this.#channel.call('retire', { msMax }, 0)
    await this.stop()
  }

  /** Ends it, with what it still has; resolves when the process is gone. */
  async stop(): Promise<void> {
    if (this.#state === 'ended') return
    this.#state = 'retiring'
    const timer = setTimeout(() => {
      this.kill()
    }, stopMsMax)
    await this.#channel.call('stop', null, stopMsMax).catch(() => undefined)
    await this.#ended
    clearTimeout(timer)
  }

  /** Calls back when the process has ended. */
  whenEnded(call: (how: string) => void): void {
    void this.#ended.then(call)
  }

  kill(): void {
    this.#worker.process.kill('SIGKILL')
  }

  get serves(): boolean {
    return this.#state === 'running' || this.#state === 'retiring'
  }

  /**
   * Whether it has to be told of a change: not before the order to start, which brings it, and while
   * it starts only when it has started, or it would miss what changed meanwhile.
   */
  async #listens(): Promise<boolean> {
    if (this.#started === null) return false
    await this.#started.catch(() => undefined)
    return this.#state !== 'ended'
  }
}
