/**
 * Evaluation in a worker thread, under a wall clock. A synchronous evaluation cannot be interrupted,
 * so what may take long (a costly policy, a huge statement) runs here: a thread that exceeds its time
 * is terminated and replaced, and the statement is refused.
 *
 * Also measures what a policy costs before it becomes active: on inputs of growing size, so that a
 * loop over what the client controls is seen, and an endless one is a refused bundle instead of an
 * endless load. Nothing here decides; answers are OPA's result sets as text.
 */
import { createRequire } from 'node:module'
import { Worker } from 'node:worker_threads'
import { JobQueue, ProxyError, yieldingThread } from '../core/core.ts'
import { builtinTable } from './builtins.ts'
import type { InputPiece } from './input.ts'
import type { PolicyModule } from './opa-wasm.ts'

export interface ThreadOptions {
  readonly module: PolicyModule
  /** JSON. */
  readonly data: Uint8Array
  readonly memoryBytesMax: number
  readonly wallMsMax: number
  /** Evaluations that may wait for the thread. */
  readonly queueCountMax: number
  /** And their inputs together; one waits however large it is. */
  readonly queueBytesMax: number
  /** Where a thread comes from and goes to, if it was not ended. */
  readonly spare?: SpareThread
}

interface Answer {
  readonly answer?: string
  readonly error?: string
  /** Of each run, in microseconds. */
  readonly us?: number
}

interface Job {
  readonly entrypoint: string
  readonly pieces: readonly InputPiece[]
  readonly repeat: number
  settle(answer: Answer): void
}

const stackMiB = 16
const spareMsMax = 60_000
/** Evaluations of one measurement: fewer where they are slow, but always two after the first. */
const measuredRunsMax = 20

/** Runs inside the thread. Self-contained: only its source text is used. */
const threadBody = `${yieldingThread}
const { parentPort, workerData } = require('node:worker_threads')
const { createHash, createHmac, timingSafeEqual } = require('node:crypto')
const opa = require(workerData.library)
const builtins = {}
for (const [name, [kind, algorithm]] of Object.entries(workerData.builtins)) {
  if (kind === 'digest') builtins[name] = (text) =>
    typeof text === 'string' ? createHash(algorithm).update(text).digest('hex') : undefined
  else if (kind === 'hmac') builtins[name] = (text, key) =>
    typeof text === 'string' && typeof key === 'string'
      ? createHmac(algorithm, key).update(text).digest('hex') : undefined
  else builtins[name] = (first, second) => {
    if (typeof first !== 'string' || typeof second !== 'string') return undefined
    const left = Buffer.from(first), right = Buffer.from(second)
    return left.length === right.length && timingSafeEqual(left, right)
  }
}
const make = () => {
  const memory = { initial: 5, maximum: Math.floor(use.memoryBytesMax / 65536) }
  const policy = opa.loadPolicySync(use.module, memory, builtins)
  policy.setData(Uint8Array.from(use.data).buffer)
  return policy
}
let use = null
let policy = null
const bytesOf = (piece) => piece instanceof Uint8Array
  ? piece
  : Buffer.from(typeof piece === 'string' ? piece : JSON.stringify(piece.json))
const joined = (pieces) => Uint8Array.from(Buffer.concat(pieces.map(bytesOf)))
const evaluate = (entrypoint, input) => {
  policy ??= make()
  return JSON.stringify(policy.evaluate(input.buffer, entrypoint))
}
parentPort.on('message', (message) => {
  if ('use' in message) {
    use = message.use
    policy = null
    return
  }
  const { entrypoint, pieces, repeat } = message
  try {
    const input = joined(pieces)
    const answer = evaluate(entrypoint, input)
    // The fastest run: what else the machine does is not the policy's cost.
    let us = repeat > 1 ? Infinity : 0
    const began = performance.now()
    for (let run = 1; run < repeat; run++) {
      if (run > 2 && performance.now() - began > 100) break
      const start = performance.now()
      evaluate(entrypoint, input)
      us = Math.min(us, (performance.now() - start) * 1000)
    }
    parentPort.postMessage({ answer, us })
  } catch (error) {
    policy = null
    parentPort.postMessage({ error: String(error?.message ?? error) })
  }
})
`

/**
 * Keeps one thread between two policies, for a minute: to start one takes longer than most checks of
 * a new bundle. What the policy before left is gone with its instance.
 */
export class SpareThread {
  #worker: Worker | null = null
  #timer: NodeJS.Timeout | null = null

  /** A thread without a policy and without listeners. */
  take(): Worker {
    const worker = this.#worker
    this.#forget()
    return worker ?? startThread()
  }

  /** Takes back one that does nothing and owes no answer. */
  give(worker: Worker): void {
    // By name: a Worker has listeners of its own that it needs.
    for (const event of ['message', 'error']) worker.removeAllListeners(event)
    worker.on('error', () => {
      if (worker === this.#worker) this.#forget()
    })
    if (this.#worker !== null) {
      void worker.terminate()
      return
    }
    worker.postMessage({ use: null })
    worker.unref()
    this.#worker = worker
    this.#timer = setTimeout(() => {
      this.close()
    }, spareMsMax)
    this.#timer.unref()
  }

  /** Ends it; another may still be given or taken. */
  close(): void {
    const worker = this.#worker
    this.#forget()
    if (worker !== null) void worker.terminate()
  }

  #forget(): void {
    this.#worker = null
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}

function startThread(): Worker {
  const library = createRequire(import.meta.url).resolve('@open-policy-agent/opa-wasm')
  return new Worker(threadBody, {
    eval: true,
    workerData: { library, builtins: builtinTable },
    resourceLimits: { stackSizeMb: stackMiB },
    stdout: false,
  })
}

/** Bytes of one statement, of which a message would take the buffer with all of its text's. */
function ownPiece(piece: InputPiece): InputPiece {
  if (!(piece instanceof Uint8Array) || piece.byteLength === piece.buffer.byteLength) return piece
  return Uint8Array.prototype.slice.call(piece)
}

function lengthOf(pieces: readonly InputPiece[]): number {
  return pieces.reduce(
    (sum, piece) =>
      sum + (typeof piece === 'object' && 'json' in piece ? piece.json : piece).length,
    0,
  )
}

/** One thread and its queue; started when it is first needed. */
export class EvaluationThread {
  readonly #options: ThreadOptions
  /** A job's size: characters and bytes of its input. */
  readonly #queue: JobQueue<Job>
  #worker: Worker | null = null
  #job: Job | null = null
  #timer: NodeJS.Timeout | null = null

  constructor(options: ThreadOptions) {
    this.#options = options
    const { queueCountMax, queueBytesMax } = options
    this.#queue = new JobQueue({ countMax: queueCountMax, sizeMax: queueBytesMax })
  }

  /** Evaluates; rejects with policy_fault after the wall clock, a trap, or where too many wait. */
  async evaluate(entrypoint: string, input: string | readonly InputPiece[]): Promise<string> {
    const pieces = typeof input === 'string' ? [input] : input
    const { answer, error } = await this.#run(entrypoint, pieces, 1)
    if (answer !== undefined) return answer
    throw new ProxyError(
      'policy_fault',
      `the policy failed in ${entrypoint}: ${error ?? 'no answer'}`,
      {
        hint: 'the statement is refused because it could not be judged',
      },
    )
  }

  /** Microseconds of one evaluation, warmed up. Rejects as evaluate() does. */
  async measure(entrypoint: string, input: string): Promise<number> {
    const { us, error } = await this.#run(entrypoint, [input], measuredRunsMax)
    if (us !== undefined) return us
    throw new ProxyError(
      'policy_fault',
      `the policy failed in ${entrypoint}: ${error ?? 'no answer'}`,
    )
  }

  /** Lets the thread go; a later evaluation gets another. */
  close(): void {
    const worker = this.#worker
    this.#worker = null
    this.#stopClock()
    if (worker !== null) {
      const { spare } = this.#options
      if (this.#job === null && spare !== undefined) spare.give(worker)
      else void worker.terminate()
    }
    const jobs = [...(this.#job === null ? [] : [this.#job]), ...this.#queue.clear()]
    this.#job = null
    for (const job of jobs) job.settle({ error: 'the policy was replaced' })
  }

  #run(entrypoint: string, pieces: readonly InputPiece[], repeat: number): Promise<Answer> {
    return new Promise((settle) => {
      const job = { entrypoint, pieces, repeat, settle }
      if (this.#queue.push(job, lengthOf(pieces))) this.#next()
      else settle({ error: 'too many evaluations are waiting' })
    })
  }

  #next(): void {
    if (this.#job !== null) return
    const job = this.#queue.take()
    if (job === null) return
    this.#job = job
    this.#worker ??= this.#start()
    this.#worker.ref()
    const { wallMsMax } = this.#options
    this.#timer = setTimeout(() => {
      this.#replace()
      this.#finish({ error: `no answer within limits.evaluationMsMax (${String(wallMsMax)} ms)` })
    }, wallMsMax)
    const { entrypoint, repeat } = job
    const pieces = job.pieces.map(ownPiece)
    this.#worker.postMessage({ entrypoint, pieces, repeat })
  }

  #start(): Worker {
    const { module, data, memoryBytesMax, spare } = this.#options
    const worker = spare?.take() ?? startThread()
    worker.removeAllListeners('error')
    worker.postMessage({ use: { module, data, memoryBytesMax } })
    worker.on('message', (answer: Answer) => {
      if (worker === this.#worker) this.#finish(answer)
    })
    worker.on('error', (error: unknown) => {
      if (worker !== this.#worker) return
      this.#worker = null
      this.#finish({ error: String(error) })
    })
    return worker
  }

  #replace(): void {
    const worker = this.#worker
    this.#worker = null
    if (worker !== null) void worker.terminate()
  }

  #finish(answer: Answer): void {
    this.#stopClock()
    const job = this.#job
    this.#job = null
    this.#worker?.unref()
    job?.settle(answer)
    this.#next()
  }

  #stopClock(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }
}
