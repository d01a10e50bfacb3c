/**
 * What it costs to hold statements (`npm run test:holds`, needs `npm run build`):
 *   npm run test:holds -- --count 1000 --seconds 20 --store postgres --text same
 * So many sessions idle, then all of them held: the memory that a held statement adds, and the CPU
 * time of regate (and of its embedded store) while nothing happens. Then everything is withdrawn, and
 * the memory must not be asked for again by a second round. Exit code 1 where a hold costs more than
 * the guide says.
 */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { cpuUsOf, residentBytesOf } from '../../bench/load/measure.ts'
import { execute, startPostgres } from '../support/postgres.ts'
import { serveProxy, type ProxyChild } from '../support/proxy.ts'

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '20' },
    store: { type: 'string', default: 'postgres' },
    /** `same`: one text, other parameters; `distinct`: each its own, which fills caches too. */
    text: { type: 'string', default: 'same' },
  },
})
const count = Number(values.count)
const seconds = Number(values.seconds)
/** What the guide states, with room for a garbage collector. */
const holdBytesMax = 200 * 1024
/** Milliseconds of CPU in a second of waiting. */
const cpuMsMax = 20

const token = randomBytes(24).toString('hex')
process.env['TEST_APPROVAL_TOKEN'] = token

const say = (line: string): boolean => process.stderr.write(`${line}\n`)

/** Of regate and of what it started: the embedded store. */
async function cpuMsPerSecond(pid: number): Promise<number> {
  const before = cpuUsOf(pid) ?? 0
  const started = performance.now()
  await sleep(seconds * 1_000)
  return ((cpuUsOf(pid) ?? 0) - before) / (performance.now() - started)
}

function statementOf(round: number, at: number): [text: string, values: string[]] {
  const what = `round ${round}, statement ${at}`
  return values.text === 'same'
    ? ['INSERT INTO ran (what) VALUES ($1) RETURNING what', [what]]
    : [`INSERT INTO ran (what) VALUES ('${what}') RETURNING what`, []]
}

async function heldCount(proxy: ProxyChild): Promise<number> {
  const response = await fetch(`${proxy.adminUrl}/metrics`, {
    headers: { authorization: `Bearer ${token}` },
  })
  return Number(
    /^regate_approvals_held(?:\{[^}]*\})? (\d+)/m.exec(await response.text())?.[1] ?? -1,
  )
}

async function whenHeld(proxy: ProxyChild, wanted: number): Promise<void> {
  for (let held = -1; held !== wanted; held = await heldCount(proxy)) {
    if (held >= 0) say(`${held} held`)
    await sleep(1_000)
  }
}

const server = await startPostgres({
  settings: { max_connections: String(count + 50), log_statement: 'none', fsync: 'off' },
})
await execute(server, 'CREATE TABLE ran (id serial, what text)')
await execute(server, 'CREATE DATABASE approvals')
const store = new URL(server.url('approvals'))
process.env['TEST_STORE_PASSWORD'] = decodeURIComponent(store.password)
store.password = ''
const engineers = { read: ['*'], write: { '*': 'approve' }, effects: { session: 'allow' } }
const proxy = await serveProxy(server, {
  data: {
    regate: {
      approvals: { groups: ['dba'], quorum: 1, wait: '2h', ttl: '3h' },
      columns: {},
      groups: { engineers },
    },
  },
  groups: ['engineers'],
  limits: { pendingApprovalsMax: count * 2, sessionsPerSubjectMax: count * 2 },
  configuration: {
    approvals:
      values.store === 'embedded'
        ? {}
        : { store: store.href, store_password_env: 'TEST_STORE_PASSWORD' },
    admin: { port: 0, token_env: 'TEST_APPROVAL_TOKEN', groups: ['dba', 'admins'] },
  },
})

const pid = proxy.child.pid ?? 0
const mib = (bytes: number): string => (bytes / 1024 / 1024).toFixed(1)
const clients: pg.Client[] = []
try {
  // The store is open and everything is compiled before anything is measured.
  const first = new pg.Client({ connectionString: proxy.url('postgres', 'ann') })
  first.on('error', () => undefined)
  await first.connect()
  const warm = first.query("INSERT INTO ran (what) VALUES ('warm')").catch(() => undefined)
  await whenHeld(proxy, 1)
  for (let at = 0; at < count; at++) {
    const client = new pg.Client({ connectionString: proxy.url('postgres', 'ann') })
    client.on('error', () => undefined)
    await client.connect()
    await client.query('SELECT 1')
    clients.push(client)
  }
  say(`${count} sessions`)
  await sleep(5_000)
  const idleBytes = residentBytesOf(pid) ?? 0
  const idleCpu = await cpuMsPerSecond(pid)
  const rounds: { heldBytes: number; cpu: number; askMs: number }[] = []
  for (const round of [1, 2]) {
    const started = performance.now()
    const waits = clients.map((client, at) =>
      client.query(...statementOf(round, at)).catch((error: unknown) => (error as Error).message),
    )
    await whenHeld(proxy, count + 1)
    const askMs = performance.now() - started
    await sleep(6_000)
    const cpu = await cpuMsPerSecond(pid)
    rounds.push({ heldBytes: residentBytesOf(pid) ?? 0, cpu, askMs })
    const list = await fetch(`${proxy.adminUrl}/v1/approvals?limit=500`, {
      headers: { authorization: `Bearer ${token}` },
    })
    const { approvals } = (await list.json()) as { approvals: { id: string; session: string }[] }
    if (approvals.length !== 500) throw new Error('the list is not complete')
    if (round === 2) break
    await rejectAll(proxy)
    await Promise.all(waits)
  }
  const [one, two] = rounds
  if (one === undefined || two === undefined) throw new Error('no rounds')
  const perHold = (one.heldBytes - idleBytes) / count
  const report = {
    ...{ count, seconds, store: values.store, text: values.text },
    idle: { mib: mib(idleBytes), cpuMsPerSecond: idleCpu },
    held: rounds.map(({ heldBytes, cpu, askMs }) => ({
      ...{ mib: mib(heldBytes), cpuMsPerSecond: cpu },
      asksPerSecond: Math.round(count / (askMs / 1_000)),
    })),
    kibPerHold: (perHold / 1024).toFixed(1),
    kibPerHoldMoreInRoundTwo: ((two.heldBytes - one.heldBytes) / count / 1024).toFixed(1),
  }
  process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
  const cpuMs = Math.max(one.cpu, two.cpu)
  process.exitCode = perHold < holdBytesMax && cpuMs < cpuMsMax ? 0 : 1
  await first.end().catch(() => undefined)
  await warm
} finally {
  for (const client of clients) void client.end().catch(() => undefined)
  await proxy.stop()
  await server.stop()
}

async function rejectAll(of: ProxyChild): Promise<void> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  for (;;) {
    const list = await fetch(`${of.adminUrl}/v1/approvals?limit=500`, { headers })
    const { approvals } = (await list.json()) as {
      approvals: { id: string; statement: { text: string } }[]
    }
    const open = approvals.filter(({ statement }) => !statement.text.includes('warm'))
    if (open.length === 0) return
    const body = JSON.stringify({ reason: 'the round is over' })
    for (const { id } of open) {
      await fetch(`${of.adminUrl}/v1/approvals/${id}/reject`, { method: 'POST', headers, body })
    }
  }
}
