/**
 * New connections against running sessions: logins a second by SCRAM and by token on one worker, and
 * what they cost the sessions that are there. Everything is started here; regate is a process of its
 * own. What is measured is the machine's state too: it is said first, and ratios are what counts.
 *
 *   node scripts/run-ts.mjs bench/load/logins.bench.ts [--rate 200] [--seconds 8]
 */
import { spawn } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { startDemoProvider } from '../../src/commands/demo/oidc-provider.ts'
import { ScramKeyCache } from '../../src/identity/identity.ts'
import { startPostgres } from '../../test/support/postgres.ts'
import { writeProxyFiles } from '../../test/support/proxy.ts'
import { RawClient } from '../../test/identity/support/raw.ts'

const { values } = parseArgs({
  options: {
    rate: { type: 'string', default: '200' },
    seconds: { type: 'string', default: '8' },
  },
})
const rate = Number(values.rate)
const seconds = Number(values.seconds)
const sessionCount = 4
const pauseMs = 4

const postgres = await startPostgres({ settings: { log_statement: 'none', max_connections: 400 } })
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
const child = spawn(process.execPath, ['scripts/run-ts.mjs', 'src/main.ts', 'serve', '-f', path], {
  env: environment,
  stdio: ['ignore', 'ignore', 'pipe'],
})
let log = ''
child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()))

try {
  const port = await listeningPort()
  console.log(
    `${cpus().length} cores, ${cpus()[0]?.model ?? ''}, load ${loadavg()
      .map((value) => value.toFixed(1))
      .join(' ')}; ${rate} logins/s for ${seconds} s each`,
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
  const keys = new ScramKeyCache()
  const kinds = {
    none: null,
    scram: () => loginScram(port, keys),
    token: () => loginToken(port),
  }
  for (const round of [1, 2]) {
    for (const [name, login] of Object.entries(kinds))
      await measure(`${round} ${name}`, sessions, login)
  }
  await Promise.all(sessions.map((client) => client.end()))
} finally {
  child.kill('SIGKILL')
  await postgres.stop()
  await provider.stop()
  rmSync(directory, { recursive: true, force: true })
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
  name: string,
  sessions: readonly pg.Client[],
  login: (() => Promise<void>) | null,
): Promise<void> {
  const latencies: number[] = []
  const logins: number[] = []
  let failures = 0
  let over = false
  const cpuBefore = cpuMs(child.pid ?? 0)
  const running = sessions.map(async (client) => {
    while (!over) {
      const began = performance.now()
      await client.query('SELECT 1')
      latencies.push(performance.now() - began)
      await delay(pauseMs)
    }
  })
  const attempts: Promise<void>[] = []
  const beganMs = performance.now()
  const wanted = login === null ? 0 : rate * seconds
  while (performance.now() - beganMs < seconds * 1000) {
    const due = Math.min(wanted, ((performance.now() - beganMs) / 1000) * rate)
    while (login !== null && attempts.length < due) {
      const began = performance.now()
      attempts.push(
        login().then(
          () => void logins.push(performance.now() - began),
          () => {
            failures++
          },
        ),
      )
    }
    await delay(2)
  }
  await Promise.all(attempts)
  const elapsed = (performance.now() - beganMs) / 1000
  over = true
  await Promise.all(running)
  const cpu = cpuMs(child.pid ?? 0) - cpuBefore
  const shown = (list: number[], part: number): string =>
    quantile(list, part).toFixed(2).padStart(8)
  console.log(
    `${name.padEnd(8)} sessions p50 ${shown(latencies, 0.5)} p99 ${shown(latencies, 0.99)} ms (n ${latencies.length}) | logins ${(logins.length / elapsed).toFixed(0).padStart(4)}/s p50 ${shown(logins, 0.5)} p99 ${shown(logins, 0.99)} ms, ${failures} failed | regate ${(cpu / (logins.length || 1)).toFixed(2)} ms CPU per login`,
  )
}

function quantile(list: number[], part: number): number {
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

async function loginScram(port: number, keys: ScramKeyCache): Promise<void> {
  const client = await RawClient.connect(port)
  client.startup('ann', { database: 'postgres' })
  await client.next()
  await client.scram('pencil', 'SCRAM-SHA-256', null, keys)
  await ready(client)
}

async function loginToken(port: number): Promise<void> {
  const client = await RawClient.connect(port)
  client.startup('dora', { database: 'postgres' })
  await client.next()
  client.password(token)
  await ready(client)
}

async function ready(client: RawClient): Promise<void> {
  for (;;) {
    const said = await client.next()
    if (said.kind === 'error' || said.kind === 'closed') throw new Error('refused')
    if (said.kind === 'other' && said.type === 'Z') break
  }
  client.send(Buffer.from([0x58, 0, 0, 0, 4]))
  client.close()
}
