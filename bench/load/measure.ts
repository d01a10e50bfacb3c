/**
 * How it is measured: load by the real pgbench, results by a client that only counts bytes, CPU and
 * memory of the proxy from /proc. A figure that cannot be had here is null, never guessed.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { FrameReader, written, type ByteWriter } from '../../src/wire/wire.ts'
import type { Contestant } from './contestants.ts'

const run = promisify(execFile)

/** One measurement of one contestant in one round. */
export interface Sample {
  readonly value: number
  /** µs of proxy CPU (user and system) per statement, row or MB, as the case says. */
  readonly cpuUs: number | null
}

export interface Login {
  readonly user: string
  readonly password: string
  readonly database: string
}

/** Clock ticks of a process and its children: user and system. Null where there is no /proc. */
export function cpuUsOf(pid: number | null): number | null {
  if (pid === null) return null
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    // Fields 14 and 15 of proc(5), in ticks of 10 ms.
    const ticks = Number(fields[11]) + Number(fields[12])
    return ticks * 10_000 + childrenOf(pid).reduce((sum, child) => sum + (cpuUsOf(child) ?? 0), 0)
  } catch {
    return null
  }
}

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  return text === '' ? [] : text.split(' ').map(Number)
}

/** Resident bytes. */
export function residentBytesOf(pid: number | null): number | null {
  if (pid === null) return null
  try {
    const kilobytes = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    return kilobytes === undefined ? null : Number(kilobytes) * 1024
  } catch {
    return null
  }
}

/** Runs and gives CPU per unit of what was done. */
export async function withCpu(
  contestant: Contestant,
  work: () => Promise<{ readonly value: number; readonly units: number }>,
): Promise<Sample> {
  const before = cpuUsOf(contestant.pid)
  const { value, units } = await work()
  const after = cpuUsOf(contestant.pid)
  const cpuUs = before === null || after === null || units === 0 ? null : (after - before) / units
  return { value, cpuUs }
}

export interface PgbenchOptions {
  readonly clients: number
  readonly seconds: number
  readonly mode: 'simple' | 'extended' | 'prepared'
  /** `-S`, `-f file`, or nothing for TPC-B. */
  readonly script: readonly string[]
  readonly statementsPerTransaction: number
  /** Keeps every latency. */
  readonly latencies?: boolean
}

export interface PgbenchResult {
  readonly tps: number
  readonly statementCount: number
  readonly failedCount: number
  /** µs, in order of completion, with the time of completion in seconds; empty unless asked for. */
  readonly latencies: readonly { readonly atS: number; readonly us: number }[]
}

export async function pgbench(
  contestant: Contestant,
  login: Login,
  options: PgbenchOptions,
): Promise<PgbenchResult> {
  const { clients, seconds, mode, script, latencies = false } = options
  const directory = mkdtempSync(join(tmpdir(), 'regate-pgbench-'))
  try {
    const { stdout } = await run(
      'pgbench',
      [
        ...['-n', '-h', '127.0.0.1', '-p', String(contestant.port), '-U', login.user],
        ...['-c', String(clients), '-j', String(Math.min(2, clients)), '-T', String(seconds)],
        ...['-M', mode, ...script],
        ...(latencies ? ['-l', `--log-prefix=${join(directory, 'log')}`] : []),
        login.database,
      ],
      {
        maxBuffer: 16 * 1024 * 1024,
        env: { ...process.env, PGSSLMODE: 'disable', PGPASSWORD: login.password },
      },
    )
    const number = (pattern: RegExp): number => Number(pattern.exec(stdout)?.[1] ?? Number.NaN)
    const transactions = number(/transactions actually processed: (\d+)/)
    return {
      tps: number(/tps = ([\d.]+) \(without/),
      statementCount: transactions * options.statementsPerTransaction,
      failedCount: number(/failed transactions: (\d+)/) || 0,
      latencies: latencies ? readLatencies(directory) : [],
    }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** The tables of pgbench. */
export async function initialisePgbench(
  contestant: Contestant,
  login: Login,
  scale: number,
): Promise<void> {
  const where = ['-h', '127.0.0.1', '-p', String(contestant.port), '-U', login.user]
  await run('pgbench', ['-i', '-q', '-s', String(scale), ...where, login.database], {
    env: { ...process.env, PGSSLMODE: 'disable', PGPASSWORD: login.password },
  })
}

/** Lines of `pgbench -l`: client, transaction, latency in µs, script, epoch seconds, µs. */
function readLatencies(directory: string): PgbenchResult['latencies'] {
  return readdirSync(directory)
    .flatMap((file) => readFileSync(join(directory, file), 'utf8').trim().split('\n'))
    .map((line) => line.split(' ').map(Number))
    .map(([, , us = 0, , seconds = 0, micros = 0]) => ({ atS: seconds + micros / 1e6, us }))
    .sort((a, b) => a.atS - b.atS)
}

/** A connection that is driven by frames and only counts what it gets. */
export class CountingClient {
  readonly #client: pg.Client
  readonly #socket: Socket
  readonly #reader = new FrameReader({ frameBytesMax: 64 * 1024 * 1024 })
  #done: ((count: Counted) => void) | null = null
  #failed: ((error: Error) => void) | null = null
  #rows = 0
  #bytes = 0

  private constructor(client: pg.Client, socket: Socket) {
    this.#client = client
    this.#socket = socket
    socket.removeAllListeners('data')
    socket.on('data', (chunk: Buffer) => {
      this.#bytes += chunk.length
      this.#reader.push(chunk)
      this.#count()
    })
  }

  static async connect(port: number, login: Login): Promise<CountingClient> {
    const client = new pg.Client({ host: '127.0.0.1', port, ...login })
    client.on('error', () => undefined)
    await client.connect()
    const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
    return new CountingClient(client, stream)
  }

  /** Sends frames and counts up to ReadyForQuery. */
  async exchange(write: (to: ByteWriter) => void): Promise<Counted> {
    this.#rows = 0
    this.#bytes = 0
    const started = performance.now()
    const done = new Promise<Counted>((resolve, reject) => {
      this.#done = (counted) => {
        resolve({ ...counted, ms: performance.now() - started })
      }
      this.#failed = reject
    })
    this.#socket.write(written(write))
    return await done
  }

  close(): void {
    this.#socket.destroy()
    void this.#client.end().catch(() => undefined)
  }

  #count(): void {
    for (let found = this.#reader.next(); found !== 'none'; found = this.#reader.next()) {
      if (found === 'partial') return
      const { type } = this.#reader
      if (type === 0x44 || type === 0x64) this.#rows++
      else if (type === 0x45) {
        const { buffer, start, end } = this.#reader
        this.#failed?.(new Error(buffer.toString('utf8', start + 5, end).replaceAll('\0', ' ')))
      } else if (type === 0x5a) this.#done?.({ rows: this.#rows, bytes: this.#bytes, ms: 0 })
    }
  }
}

export interface Counted {
  readonly rows: number
  readonly bytes: number
  readonly ms: number
}

export function percentile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN
}

/** Of an even count, the mean of the middle two. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const [low, high] = [(sorted.length - 1) >> 1, sorted.length >> 1]
  return ((sorted[low] ?? Number.NaN) + (sorted[high] ?? Number.NaN)) / 2
}
