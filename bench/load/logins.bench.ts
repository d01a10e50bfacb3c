/**
 * New connections against running sessions: logins a second by SCRAM and by token on one worker, and
 * what they cost the sessions that are there. regate, the logins and the sessions are processes of
 * their own. `direct` is the control: as many logins, but at PostgreSQL itself, while the sessions go
 * on through regate. It is what the server's new processes cost on this machine, whoever asks for
 * them; what the other two have beyond it is regate's. Cases take turns, round by round.
 *
 *   node scripts/run-ts.mjs bench/load/logins.bench.ts [--rate 200] [--seconds 6] [--rounds 5]
 *     [--load busy|light] [--pin] [--elsewhere] [--against '{"four at once":{"limits":{"upstreamLoginCountMax":4}}}']
 *
 * busy: 16 sessions of pgbench -S, prepared, 1,000 statements a second in all, whose times count from
 * when each was due. light: 4 sessions of `SELECT 1`, 4 ms after the answer to the one before.
 * --elsewhere: the logins go on to a PostgreSQL of their own, which runs at niceness 19 as they do: in
 * place of another machine, that of the database and those of the clients, whose work is not regate's.
 * --pin: regate has a core to itself, everything else is on another. --against: more regates in the
 * same run: other limits, another build (`main`), `nodeOptions`; it runs dist/, so build first.
 */
import { fork, spawnSync, type ChildProcess } from 'node:child_process'
import { cpus, loadavg, setPriority } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { startDemoProvider } from '../../src/commands/demo/oidc-provider.ts'
import { execute, startPostgres, type TestPostgres } from '../../test/support/postgres.ts'
import { serveProxy, type ProxyChild } from '../../test/support/proxy.ts'
import type { LoginOrder, LoginReport } from './logins-generator.ts'
import { cpuUsOf, initialisePgbench, pgbench } from './measure.ts'

const { values } = parseArgs({
  options: {
    rate: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '6' },
    rounds: { type: 'string', default: '5' },
    load: { type: 'string', default: 'busy' },
    pin: { type: 'boolean', default: false },
    elsewhere: { type: 'boolean', default: false },
    against: { type: 'string', default: '{}' },
  },
})
const rate = Number(values.rate)
const seconds = Number(values.seconds)
const rounds = Number(values.rounds)
const busy = { clients: 16, statements: 1_000 }
const light = { clients: 4, pauseMs: 4 }
/** pgbench logs in first: that is over when the logins begin. */
const settleS = 1

type Kind = 'none' | 'direct' | 'scram' | 'token'
const kinds: readonly Kind[] = ['none', 'direct', 'scram', 'token']

interface Variant {
  readonly main?: string
  readonly nodeOptions?: string
  readonly limits?: Readonly<Record<string, number>>
}

interface Regate {
  readonly name: string
  readonly proxy: ProxyChild
}

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

// Children inherit it: the server, the logins, the sessions.
if (values.pin) pin(process.pid, 1)
const ann = { user: 'ann', password: 'pencil', database: 'postgres' }
const postgres = await startPostgres({
  settings: { log_statement: 'none', max_connections: 400 },
  users: { ann: { password: ann.password, superuser: true } },
})
/** What the logins end at. */
const target = values.elsewhere
  ? await startPostgres({
      settings: { log_statement: 'none', max_connections: 400 },
      users: { ann: { password: ann.password, superuser: true } },
    })
  : postgres
const provider = await startDemoProvider({
  accounts: [{ id: 'dora', name: 'Dora', email: 'dora@shop.example', groups: ['admins'] }],
  machines: [],
  audience: 'regate',
  tokenSeconds: 3_600,
})
const token = await provider.tokenOf('dora')
const regates: Regate[] = []
const generator = fork('scripts/run-ts.mjs', ['bench/load/logins-generator.ts'])

if (values.elsewhere) {
  const { rows } = await execute(
    target,
    "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1) AS pid",
  )
  const [{ pid }] = rows as [{ pid: string }]
  // Its processes inherit it.
  for (const each of [Number(pid), generator.pid ?? 0]) setPriority(each, 19)
}

try {
  const variants = JSON.parse(values.against) as Readonly<Record<string, Variant>>
  regates.push({ name: 'regate', proxy: await start({}) })
  for (const [name, variant] of Object.entries(variants)) {
    regates.push({ name, proxy: await start(variant) })
  }
  if (values.load === 'busy') await initialisePgbench(contestant(postgres.port), ann, 10)
  console.log(
    `${cpus().length} cores, ${cpus()[0]?.model ?? ''}; ${rate} logins/s for ${seconds} s, ${rounds} rounds, ${values.load} load${values.pin ? ', pinned' : ''}${values.elsewhere ? ', logins elsewhere' : ''}`,
  )
  const cases = regates.flatMap((regate) => kinds.map((kind) => ({ regate, kind })))
  // Warm-up: compiled code, keys of the issuer, the server's caches.
  for (const { regate, kind } of cases) await measure(regate, kind, 2)
  const results = new Map<string, Figures[]>()
  for (let round = 0; round < rounds; round++) {
    for (const [index] of cases.entries()) {
      const next = cases[(index + round) % cases.length]
      if (next === undefined) continue
      const figures = await measure(next.regate, next.kind, seconds)
      const name = `${next.regate.name} ${next.kind}`
      results.set(name, [...(results.get(name) ?? []), figures])
      print(`${round + 1} ${name}`, figures)
    }
  }
  summarize(results)
} finally {
  generator.kill('SIGKILL')
  for (const { proxy } of regates) await proxy.stop()
  await postgres.stop()
  if (target !== postgres) await target.stop()
  await provider.stop()
}

async function start({ main, nodeOptions, limits }: Variant): Promise<ProxyChild> {
  if (main !== undefined) process.env['REGATE_MAIN'] = main
  if (nodeOptions !== undefined) process.env['NODE_OPTIONS'] = nodeOptions
  const proxy = await serveProxy(postgres, {
    users: { ann: { password: ann.password, groups: ['admins'] } },
    limits: limits ?? {},
    roles: { logins: { user: target.user, password: target.password } },
    configuration: {
      databases: {
        '*': databaseAt(postgres, 'DEFAULT'),
        logins: databaseAt(target, 'LOGINS', 'postgres'),
      },
      authentication: [
        { method: 'oidc', issuer: provider.issuer, audience: 'regate', match: { user: 'dora' } },
        { method: 'scram', users: 'users.yaml' },
      ],
    },
  })
  delete process.env['REGATE_MAIN']
  delete process.env['NODE_OPTIONS']
  if (values.pin) pin(proxy.child.pid ?? 0, 0)
  return proxy
}

function databaseAt({ host, port, user }: TestPostgres, role: string, database?: string): object {
  return {
    upstream: {
      host,
      port,
      tls: { mode: 'disable' },
      ...(database === undefined ? {} : { database }),
    },
    roles: { default: { user, password_env: `TEST_PASSWORD_${role}` } },
  }
}

function pin(pid: number, core: number): void {
  const { status } = spawnSync('taskset', ['-acp', String(core), String(pid)])
  if (status !== 0) throw new Error('taskset is not there, or there is one core only')
}

function contestant(port: number) {
  return { name: 'direct' as const, port, pid: null, directory: '' }
}

function orderOf({ proxy }: Regate, kind: Kind, duration: number): LoginOrder | null {
  const common = { rate, seconds: duration }
  const database = 'logins'
  const scram = {
    ...common,
    database,
    user: ann.user,
    password: ann.password,
    method: 'scram' as const,
  }
  switch (kind) {
    case 'none':
      return null
    case 'direct':
      return { ...scram, port: target.port, database: 'postgres' }
    case 'scram':
      return { ...scram, port: proxy.port }
    case 'token':
      return {
        ...common,
        database,
        port: proxy.port,
        user: 'dora',
        password: token,
        method: 'token',
      }
  }
}

/** Latency of running sessions while logins come at the rate. */
async function measure(regate: Regate, kind: Kind, duration: number): Promise<Figures> {
  const { port, child } = regate.proxy
  const order = orderOf(regate, kind, duration)
  const load = values.load === 'busy' ? busyLoad(port, duration) : lightLoad(port, duration)
  await delay(settleS * 1000)
  const cpuBefore = cpuUsOf(child.pid ?? null) ?? 0
  const began = Date.now()
  const report = order === null ? null : await ordered(generator, order)
  if (report === null) await delay(duration * 1000)
  const ended = Date.now()
  const cpuUs = (cpuUsOf(child.pid ?? null) ?? 0) - cpuBefore
  const latencies = (await load)
    .filter(({ atMs }) => atMs >= began && atMs <= ended)
    .map(({ ms }) => ms)
  return {
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    loginRate: (report?.latencies.length ?? 0) / (report?.seconds ?? 1),
    loginP50: quantile(report?.latencies ?? [], 0.5),
    loginP99: quantile(report?.latencies ?? [], 0.99),
    failures: report?.failures ?? 0,
    cpu: cpuUs / (ended - began),
  }
}

type Latencies = readonly { readonly atMs: number; readonly ms: number }[]

async function busyLoad(port: number, duration: number): Promise<Latencies> {
  const { latencies } = await pgbench(contestant(port), ann, {
    clients: busy.clients,
    seconds: duration + settleS + 1,
    mode: 'prepared',
    script: ['-S', '-R', String(busy.statements)],
    statementsPerTransaction: 1,
    latencies: true,
  })
  return latencies.map(({ atS, us }) => ({ atMs: atS * 1000, ms: us / 1000 }))
}

async function lightLoad(port: number, duration: number): Promise<Latencies> {
  const latencies: { atMs: number; ms: number }[] = []
  const overMs = Date.now() + (duration + settleS + 1) * 1000
  const session = async (): Promise<void> => {
    const client = new pg.Client({ host: '127.0.0.1', port, ...ann })
    await client.connect()
    while (Date.now() < overMs) {
      const sent = performance.now()
      await client.query('SELECT 1')
      latencies.push({ atMs: Date.now(), ms: performance.now() - sent })
      await delay(light.pauseMs)
    }
    await client.end()
  }
  await Promise.all(Array.from({ length: light.clients }, session))
  return latencies
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
    `${name.padEnd(18)} sessions p50 ${shown(p50)} p99 ${shown(p99)} ms | logins ${loginRate.toFixed(0).padStart(4)}/s p50 ${shown(loginP50)} p99 ${shown(loginP99)} ms, ${failures} failed | regate ${(cpu / 10).toFixed(0).padStart(3)} % CPU | load ${(loadavg()[0] ?? 0).toFixed(1)}`,
  )
}

/** Medians with extremes; ratios and CPU per login within a round. */
function summarize(results: ReadonlyMap<string, readonly Figures[]>): void {
  console.log('medians (least to most), by round:')
  for (const [name, own] of results) {
    const [kind = '', ...rest] = name.split(' ').reverse()
    const base = results.get([...rest.reverse(), 'none'].join(' ')) ?? []
    const control = results.get(name.replace(/\w+$/, 'direct')) ?? []
    const facts = [`p99 ${spread(own.map(({ p99 }) => p99))} ms`]
    if (kind !== 'none') {
      facts.push(`÷ none ${spread(own.map(({ p99 }, at) => p99 / (base[at]?.p99 ?? 0)))}`)
    }
    if (kind === 'scram' || kind === 'token') {
      facts.push(
        `÷ direct ${spread(own.map(({ p99 }, at) => p99 / (control[at]?.p99 ?? 0)))}`,
        `login p50 ${spread(own.map(({ loginP50 }) => loginP50))} p99 ${spread(own.map(({ loginP99 }) => loginP99))} ms`,
        `CPU per login ${spread(own.map(({ cpu, loginRate }, at) => (cpu - (base[at]?.cpu ?? 0)) / loginRate))} ms`,
      )
    }
    console.log(`${name.padEnd(18)} ${facts.join(' | ')}`)
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
