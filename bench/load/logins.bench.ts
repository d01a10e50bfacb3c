/**
 * New connections against running sessions: logins a second by SCRAM and by token on one worker, and
 * what they cost the sessions that are there. regate, the logins and the sessions are processes of
 * their own. `direct` is the control: as many logins, but at PostgreSQL itself, while the sessions go
 * on through regate. It is what the server's new processes cost on this machine, whoever asks for
 * them; what the other two have beyond it is regate's. Contestants take turns, round by round.
 *
 *   node scripts/run-ts.mjs bench/load/logins.bench.ts [--rate 200] [--seconds 6] [--rounds 5]
 */
import { fork, spawn, type ChildProcess } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { startDemoProvider } from '../../src/commands/demo/oidc-provider.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { writeProxyFiles } from '../../test/support/proxy.ts'
import type { LoginOrder, LoginReport } from './logins-generator.ts'

const { values } = parseArgs({
  options: {
    rate: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '6' },
    rounds: { type: 'string', default: '5' },
    'cpu-prof': { type: 'string' },
  },
})
const rate = Number(values.rate)
const seconds = Number(values.seconds)
const rounds = Number(values.rounds)
const sessionCount = 4
const pauseMs = 4

type Kind = 'none' | 'direct' | 'scram' | 'token'
const kinds: readonly Kind[] = ['none', 'direct', 'scram', 'token']

/** One measurement. */
interface Figures {
  readonly p50: number
  readonly p99: number
  readonly loginRate: number
  readonly loginP50: number
  readonly loginP99: number
  readonly failures: number
  /** CPU of regate's process, ms for each second. */
  readonly cpu: number
}

const postgres = await startPostgres({
  settings: { log_statement: 'none', max_connections: 400 },
  users: { ann: { password: 'pencil', superuser: true } },
})
const provider = await startDemoProvider({
  accounts: [{ id: 'dora', name: 'Dora', email: 'dora@shop.example', groups: ['admins'] }],
  machines: [],
  audience: 'regate',
  tokenSeconds: 3_600,
})
const token = await provider.tokenOf('dora')
const { directory, path, environment } = await writeProxyFiles(postgres, {
  users: { ann: { password: 'pencil', groups: ['admins'] } },
  configuration: {
    authentication: [
      { method: 'oidc', issuer: provider.issuer, audience: 'regate', match: { user: 'dora' } },
      { method: 'scram', users: 'users.yaml' },
    ],
  },
})
const profile = values['cpu-prof']
const child = spawn(
  process.execPath,
  [
    ...(profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`]),
    ...['scripts/run-ts.mjs', 'src/main.ts', 'serve', '-f', path],
  ],
  { env: environment, stdio: ['ignore', 'ignore', 'pipe'] },
)
let log = ''
child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))
const generator = fork('scripts/run-ts.mjs', ['bench/load/logins-generator.ts'])

try {
  const port = await listeningPort()
  console.log(
    `${cpus().length} cores, ${cpus()[0]?.model ?? ''}; ${rate} logins/s for ${seconds} s, ${rounds} rounds, ${sessionCount} sessions`,
  )
  const sessions = await Promise.all(
    Array.from({ length: sessionCount }, async () => {
      const client = new pg.Client({
        ...{ host: '127.0.0.1', port, user: 'ann', password: 'pencil', database: 'postgres' },
      })
      await client.connect()
      return client
    }),
  )
  const orders: Record<Kind, LoginOrder | null> = {
    none: null,
    direct: order(postgres.port, 'ann', 'pencil', 'scram'),
    scram: order(port, 'ann', 'pencil', 'scram'),
    token: order(port, 'dora', token, 'token'),
  }
  // Warm-up: compiled code, keys of the issuer, the server's caches.
  for (const kind of kinds) await measure(sessions, orders[kind], 1)
  const results: Record<Kind, Figures[]> = { none: [], direct: [], scram: [], token: [] }
  for (let round = 0; round < rounds; round++) {
    for (const [index] of kinds.entries()) {
      const kind = kinds[(index + round) % kinds.length] ?? 'none'
      const figures = await measure(sessions, orders[kind], seconds)
      results[kind].push(figures)
      print(`${round + 1} ${kind}`, figures)
    }
  }
  summarize(results)
  await Promise.all(sessions.map((client) => client.end()))
} finally {
  generator.kill('SIGKILL')
  if (child.exitCode === null && child.signalCode === null) {
    const exited = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGTERM')
    await exited
  }
  await postgres.stop()
  await provider.stop()
  rmSync(directory, { recursive: true, force: true })
}

function order(
  port: number,
  user: string,
  password: string,
  method: 'scram' | 'token',
): LoginOrder {
  return { port, user, password, method, rate, seconds }
}

async function listeningPort(): Promise<number> {
  for (let count = 0; count < 600; count++) {
    const found = /"port":(\d+),.*"msg":"listening"/.exec(log)
    if (found !== null) return Number(found[1])
    if (child.exitCode !== null) break
    await delay(100)
  }
  throw new Error(`regate did not start:\n${log}`)
}

/** Latency of running sessions while logins come at the rate. */
async function measure(
  sessions: readonly pg.Client[],
  order: LoginOrder | null,
  duration: number,
): Promise<Figures> {
  const latencies: number[] = []
  let over = false
  const cpuBefore = cpuMs(child.pid ?? 0)
  const began = performance.now()
  const running = sessions.map(async (client) => {
    while (!over) {
      const sent = performance.now()
      await client.query('SELECT 1')
      latencies.push(performance.now() - sent)
      await delay(pauseMs)
    }
  })
  const report = order === null ? null : await ordered(generator, { ...order, seconds: duration })
  if (report === null) await delay(duration * 1000)
  over = true
  await Promise.all(running)
  const elapsed = (performance.now() - began) / 1000
  return {
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    loginRate: (report?.latencies.length ?? 0) / (report?.seconds ?? 1),
    loginP50: quantile(report?.latencies ?? [], 0.5),
    loginP99: quantile(report?.latencies ?? [], 0.99),
    failures: report?.failures ?? 0,
    cpu: (cpuMs(child.pid ?? 0) - cpuBefore) / elapsed,
  }
}

function ordered(process: ChildProcess, order: LoginOrder): Promise<LoginReport> {
  return new Promise((resolve, reject) => {
    process.once('message', (report) => {
      resolve(report as LoginReport)
    })
    process.send(order, (error) => {
      if (error !== null) reject(error)
    })
  })
}

function print(name: string, figures: Figures): void {
  const { p50, p99, loginRate, loginP50, loginP99, failures, cpu } = figures
  console.log(
    `${name.padEnd(9)} sessions p50 ${shown(p50)} p99 ${shown(p99)} ms | logins ${loginRate.toFixed(0).padStart(4)}/s p50 ${shown(loginP50)} p99 ${shown(loginP99)} ms, ${failures} failed | regate ${(cpu / 10).toFixed(0).padStart(3)} % CPU | load ${(loadavg()[0] ?? 0).toFixed(1)}`,
  )
}

/** Medians with extremes; ratios and CPU per login within a round. */
function summarize(results: Readonly<Record<Kind, readonly Figures[]>>): void {
  console.log('medians (least to most), by round:')
  for (const kind of kinds) {
    const own = results[kind]
    const base = results.none
    const control = results.direct
    const facts = [`p99 ${spread(own.map(({ p99 }) => p99))} ms`]
    if (kind !== 'none') {
      facts.push(`÷ none ${spread(own.map(({ p99 }, at) => p99 / (base[at]?.p99 ?? 0)))}`)
    }
    if (kind === 'scram' || kind === 'token') {
      facts.push(
        `÷ direct ${spread(own.map(({ p99 }, at) => p99 / (control[at]?.p99 ?? 0)))}`,
        `CPU per login ${spread(own.map(({ cpu, loginRate }, at) => (cpu - (base[at]?.cpu ?? 0)) / loginRate))} ms`,
      )
    }
    console.log(`${kind.padEnd(7)} ${facts.join(' | ')}`)
  }
}

function spread(list: readonly number[]): string {
  return `${quantile(list, 0.5).toFixed(2)} (${Math.min(...list).toFixed(2)} to ${Math.max(...list).toFixed(2)})`
}

function shown(value: number): string {
  return value.toFixed(2).padStart(7)
}

function quantile(list: readonly number[], part: number): number {
  const sorted = [...list].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0
}

/** User and system time of a process, from /proc; 10 ms ticks. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}
