/**
 * Parsing in worker threads: large and deep texts, under a wall clock, with a large stack.
 *
 * The stack is 16 MiB because libpg_query's own stack inside WebAssembly is 32 MiB and overflows
 * silently into its data: the thread's stack must end first. Measured for every recursive shape of
 * the grammar, the inner stack is at 21 MiB when 16 MiB of the thread's are used up.
 *
 * A thread that traps makes itself a fresh instance; one that runs out of time is terminated and
 * replaced. Nothing here rejects: what goes wrong is a value.
 */
import { Worker } from 'node:worker_threads'
import { JobQueue, yieldingThread } from '../core/core.ts'
import { constantsKept, shortenConstants } from './parser-shorten.ts'
import { bindEngine, engineSource, jsonDepth, type EngineResult } from './libpg-query.ts'

/** The engine's answer, or why there is none. */
export type WorkerAnswer =
  | Exclude<EngineResult, { readonly kind: 'json' }>
  /** `depth` counts nodes; `short` is the JSON without endless lists of constants, null if the same. */
  | {
      readonly kind: 'json'
      readonly json: Uint8Array
      readonly depth: number
      readonly short: Uint8Array | null
      /** One of its statements may use a name of the session's own. */
      readonly names: boolean
    }
  /** The tree is larger than `treeBytesMax`. */
  | { readonly kind: 'large'; readonly bytes: number }
  | { readonly kind: 'trap'; readonly reason: string }
  | { readonly kind: 'timeout' }
  | { readonly kind: 'overloaded' }

export type WorkerOperation = 'parse' | 'parsePlpgsql'

export interface ParseWorkersOptions {
  readonly threadsMax: number
  readonly queueCountMax: number
  readonly queueBytesMax: number
  readonly wallMsMax: number
  readonly treeBytesMax: number
  /** An idle thread ends after this. */
  readonly idleMsMax: number
}

interface Job {
  readonly operation: WorkerOperation
  readonly text: Uint8Array<ArrayBuffer>
  readonly settle: (answer: WorkerAnswer) => void
}

interface Thread {
  readonly worker: Worker
  job: Job | null
  timer: NodeJS.Timeout | null
}

/** Tags of what names a prepared statement or a cursor: EXPLAIN and CREATE TABLE AS may hold one. */
export const nameUses = ['"ExecuteStmt"', '"FetchStmt"', '"CurrentOfExpr"']

const stackMiB = 16
/** An instance whose memory has grown beyond this is replaced; it begins with 128 MiB. */
const engineBytesMax = 192 * 1024 * 1024

/** Runs inside the thread; `bind` is `bindEngine`. Self-contained: only its source text is used. */
const threadBody = `${yieldingThread}
const { parentPort, workerData } = require('node:worker_threads')
const factory = require(workerData.gluePath)
const bind = (${bindEngine.toString()})
const jsonDepth = (${jsonDepth.toString()})
const shortenConstants = (${shortenConstants.toString()})
const make = async () => bind(await factory({
  instantiateWasm: (imports, receive) => {
    receive(new WebAssembly.Instance(workerData.module, imports))
  },
  print: () => undefined,
  printErr: () => undefined,
}))
let engine = make()
parentPort.on('message', async ({ operation, text }) => {
  try {
    const instance = await engine
    const answer = instance[operation](text)
    if (answer.kind === 'json' && answer.json.length > workerData.treeBytesMax) {
      parentPort.postMessage({ kind: 'large', bytes: answer.json.length })
    } else if (answer.kind === 'json') {
      const depth = Math.ceil(jsonDepth(answer.json) / 2)
      const json = answer.json.slice()
      const shorter = shortenConstants(json, ${constantsKept})
      const short = shorter === json ? null : shorter.slice()
      const names = ${JSON.stringify(nameUses)}.some((tag) => Buffer.from(json.buffer).includes(tag))
      const buffers = short === null ? [json.buffer] : [json.buffer, short.buffer]
      parentPort.postMessage({ kind: 'json', json, depth, short, names }, buffers)
    } else parentPort.postMessage(answer)
    // Its memory never shrinks.
    if (instance.memoryBytes() > ${engineBytesMax}) engine = make()
  } catch (cause) {
    engine = make()
    parentPort.postMessage({ kind: 'trap', reason: String(cause && cause.message) })
  }
})
`

/** The threads and their queue. `close` ends them all; jobs still open settle as traps. */
export class ParseWorkers {
  readonly #options: ParseWorkersOptions
  readonly #queue: JobQueue<Job>
  readonly #threads = new Set<Thread>()
  #closed = false

  constructor(options: ParseWorkersOptions) {
    this.#options = options
    const { queueCountMax, queueBytesMax } = options
    this.#queue = new JobQueue({ countMax: queueCountMax, sizeMax: queueBytesMax })
  }

  /** Copies the text; never rejects. */
  run(operation: WorkerOperation, text: Uint8Array): Promise<WorkerAnswer> {
    return new Promise((settle) => {
      const job = { operation, text: new Uint8Array(text), settle }
      if (this.#closed || !this.#queue.push(job, text.length)) settle({ kind: 'overloaded' })
      else this.#dispatch()
    })
  }

  /** Ends every thread. */
  async close(): Promise<void> {
    this.#closed = true
    for (const job of this.#queue.clear()) job.settle({ kind: 'trap', reason: 'shutting down' })
    await Promise.all([...this.#threads].map((thread) => this.#end(thread, 'shutting down')))
  }

  #dispatch(): void {
    while (this.#queue.count > 0) {
      const thread = this.#idleThread()
      const job = thread === null ? null : this.#queue.take()
      if (thread === null || job === null) return
      this.#start(thread, job)
    }
  }

  #idleThread(): Thread | null {
    for (const thread of this.#threads) if (thread.job === null) return thread
    return this.#threads.size < this.#options.threadsMax ? this.#spawn() : null
  }

  #spawn(): Thread {
    const worker = new Worker(threadBody, {
      eval: true,
      workerData: { treeBytesMax: this.#options.treeBytesMax, ...engineSource() },
      execArgv: [],
      env: {},
      resourceLimits: { stackSizeMb: stackMiB },
    })
    const thread: Thread = { worker, job: null, timer: null }
    worker.on('message', (answer: WorkerAnswer) => {
      this.#finish(thread, answer)
    })
    worker.on('error', (cause) => {
      void this.#end(thread, cause instanceof Error ? cause.message : 'the thread failed')
    })
    worker.on('exit', () => {
      void this.#end(thread, 'the thread ended')
    })
    this.#threads.add(thread)
    return thread
  }

  #start(thread: Thread, job: Job): void {
    if (thread.timer !== null) clearTimeout(thread.timer)
    thread.job = job
    thread.worker.ref()
    thread.timer = setTimeout(() => {
      thread.job = null
      job.settle({ kind: 'timeout' })
      void this.#end(thread, 'timeout')
    }, this.#options.wallMsMax)
    thread.worker.postMessage({ operation: job.operation, text: job.text }, [job.text.buffer])
  }

  #finish(thread: Thread, answer: WorkerAnswer): void {
    const job = thread.job
    if (job === null) return
    thread.job = null
    if (thread.timer !== null) clearTimeout(thread.timer)
    thread.timer = setTimeout(() => void this.#end(thread, 'idle'), this.#options.idleMsMax)
    thread.timer.unref()
    thread.worker.unref()
    job.settle(answer)
    this.#dispatch()
  }

  async #end(thread: Thread, reason: string): Promise<void> {
    if (!this.#threads.delete(thread)) return
    if (thread.timer !== null) clearTimeout(thread.timer)
    thread.job?.settle({ kind: 'trap', reason })
    thread.job = null
    await thread.worker.terminate()
    this.#dispatch()
  }
}
