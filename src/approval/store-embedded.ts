/**
 * The embedded store: a process that runs PGlite (embedded.cjs) in a directory of its own. One
 * process uses a directory at a time: a lock file names it, and one that is dead is taken over.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ProxyError } from '../core/core.ts'
import type { Sql, StoreConnection, StoreDriver, StoreEvents } from './store.ts'

interface Answer {
  readonly id?: number
  readonly rows?: readonly unknown[]
  readonly error?: { readonly message: string; readonly code: string | null }
  readonly notice?: string
  readonly ready?: true
  readonly failed?: { readonly message: string }
}

const startMsMax = 120_000
const lockMsMax = 15_000

/** Opens the store in `directory`, which is made where it is not there. */
export function embeddedStore(directory: string): StoreDriver {
  return async (events) => {
    mkdirSync(dirname(directory), { recursive: true, mode: 0o700 })
    const lock = `${directory}.lock`
    await takeLock(lock)
    try {
      // Making the cluster takes about five times the memory of running it: a process of its own.
      if (!existsSync(join(directory, 'PG_VERSION'))) await initialise(directory)
      return await EmbeddedConnection.start(directory, lock, events)
    } catch (error) {
      rmSync(lock, { force: true })
      throw error
    }
  }
}

async function takeLock(path: string): Promise<void> {
  const until = performance.now() + lockMsMax
  for (;;) {
    try {
      writeFileSync(path, ownerText(process.pid), { flag: 'wx', mode: 0o600 })
      return
    } catch (error) {
      if ((error as { code?: string }).code !== 'EEXIST') throw error
    }
    const owner = readIfThere(path)
    if (!isAlive(owner)) rmSync(path, { force: true })
    else if (performance.now() > until) {
      throw new ProxyError('configuration', `another process (${owner}) uses ${path}`, {
        hint: 'Give each regate an audit.directory of its own, or use a PostgreSQL as approvals.store.',
      })
    } else await sleep(100)
  }
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** The process and, where the system tells, when it started: ids are used again. */
function ownerText(pid: number): string {
  const stat = readIfThere(`/proc/${String(pid)}/stat`)
  const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  return `${String(pid)} ${started}`.trim()
}

function isAlive(owner: string): boolean {
  const pid = Number(owner.split(' ')[0])
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as { code?: string }).code !== 'EPERM') return false
  }
  return ownerText(pid) === owner
}

function startProcess(mode: 'init' | 'run', directory: string): ChildProcess {
  return fork(fileURLToPath(new URL('embedded.cjs', import.meta.url)), [mode, directory], {
    // PostgreSQL's own chatter has no reader; what went wrong comes as a message.
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    execArgv: [],
    serialization: 'json',
  })
}

async function initialise(directory: string): Promise<void> {
  const making = `${directory}.making`
  rmSync(making, { recursive: true, force: true })
  const child = startProcess('init', making)
  let failure = ''
  child.on('message', ({ failed }: Answer) => (failure = failed?.message ?? failure))
  const code = await new Promise<number | null>((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), startMsMax)
    child.once('close', (exit) => {
      clearTimeout(timer)
      resolve(exit)
    })
  })
  if (code !== 0) {
    rmSync(making, { recursive: true, force: true })
    throw new Error(`the embedded store could not be made: ${failure || `exit ${String(code)}`}`)
  }
  rmSync(directory, { recursive: true, force: true })
  renameSync(making, directory)
}

interface Waiting {
  readonly resolve: (rows: readonly unknown[]) => void
  readonly reject: (error: Error) => void
}

class EmbeddedConnection implements StoreConnection {
  readonly #child: ChildProcess
  readonly #lock: string
  readonly #waiting = new Map<number, Waiting>()
  #nextId = 1
  #last: Promise<unknown> = Promise.resolve()
  #ended = false

  private constructor(child: ChildProcess, lock: string) {
    this.#child = child
    this.#lock = lock
  }

  static async start(
    directory: string,
    lock: string,
    events: StoreEvents,
  ): Promise<EmbeddedConnection> {
    const child = startProcess('run', directory)
    // The lock follows the process that has the files open.
    writeFileSync(lock, ownerText(child.pid ?? 0))
    const connection = new EmbeddedConnection(child, lock)
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => child.kill('SIGKILL'), startMsMax)
      child.on('message', (answer: Answer) => {
        if (answer.notice !== undefined) events.onNotice(answer.notice)
        else if (answer.id !== undefined) connection.#settle(answer.id, answer)
        else if (answer.ready === true) resolve()
        else if (answer.failed !== undefined) {
          reject(new Error(`the embedded store did not start: ${answer.failed.message}`))
        }
      })
      child.once('error', reject)
      child.once('close', (code, signal) => {
        clearTimeout(timer)
        const error = new Error(`the embedded store ended (${String(code ?? signal)})`)
        reject(error)
        connection.#gone(error)
        events.onLost(error)
      })
      const ready = (): void => clearTimeout(timer)
      connection.#ready = ready
    })
    connection.#ready()
    // An idle store keeps no process alive that has nothing else to do.
    child.unref()
    child.channel?.unref()
    return connection
  }

  #ready: () => void = () => undefined

  query<Row>(text: string, parameters: readonly unknown[] | null): Promise<readonly Row[]> {
    const run = this.#last.then(() => this.#send<Row>(text, parameters))
    this.#last = run.catch(() => undefined)
    return run
  }

  alone<Result>(work: (sql: Sql) => Promise<Result>): Promise<Result> {
    const sql: Sql = { query: (text, parameters) => this.#send(text, parameters) }
    const run = this.#last.then(() => work(sql))
    this.#last = run.catch(() => undefined)
    return run
  }

  async close(): Promise<void> {
    if (this.#ended) return
    await this.#last
    const closed = new Promise<void>((resolve) => this.#child.once('close', () => resolve()))
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 10_000)
    this.#child.ref()
    this.#child.channel?.ref()
    this.#child.send({ id: this.#nextId++, close: true }, () => undefined)
    await closed
    clearTimeout(timer)
  }

  #send<Row>(text: string, parameters: readonly unknown[] | null): Promise<readonly Row[]> {
    if (this.#ended) return Promise.reject(new Error('the embedded store has ended'))
    const id = this.#nextId++
    this.#child.channel?.ref()
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, {
        reject,
        resolve: (rows) => {
          resolve(rows as readonly Row[])
        },
      })
      this.#child.send({ id, text, parameters }, (error) => {
        if (error !== null) this.#settle(id, { error: { message: error.message, code: null } })
      })
    })
  }

  #settle(id: number, { rows, error }: Answer): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (this.#waiting.size === 0) this.#child.channel?.unref()
    if (error === undefined) waiting?.resolve(rows ?? [])
    else waiting?.reject(Object.assign(new Error(error.message), { code: error.code }))
  }

  #gone(error: Error): void {
    if (this.#ended) return
    this.#ended = true
    rmSync(this.#lock, { force: true })
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}
