/**
 * A policy that is swapped again and again under load, with what must not be taken in between: a
 * broken bundle, one signed by somebody else, one that ends in the middle, one that denies but whose
 * signature is of another. The bundle server is a real one, the signatures are OPA's, the load is
 * pgbench; what happened is read from the audit.
 */
import { spawn } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { runOpa } from '../../../src/control/opa.ts'
import type { TestPostgres } from '../../support/postgres.ts'
import { realOpa } from '../pack.ts'

/** What the bundle server may hold. */
export interface Bundles {
  /** Good ones, by revision; the first is active when a run begins. */
  readonly good: ReadonlyMap<string, Buffer>
  /** What must never be active, by what is wrong with it. */
  readonly bad: ReadonlyMap<string, Buffer>
  readonly publicKeyFile: string
  readonly adminTokenFile: string
  remove(): void
}

const adminToken = randomBytes(24).toString('hex')

const connectRego = `package regate.connect

# METADATA
# entrypoint: true
decision := {"action": "allow"}
`

/** Allows everything, and says by its rule which bundle it is. */
function statementRego(rule: string, action: string): string {
  return `package regate.statement

# METADATA
# entrypoint: true
decision := {"action": "${action}", "rule": "${rule}", "reason": "${rule}"}
`
}

/**
 * Builds them with the real OPA: `opa build --signing-key`. The good ones are called a, b, and so on
 * as far as `goodCount` goes: enough of them are never seen twice in a run.
 */
export async function makeBundles(goodCount = 2): Promise<Bundles> {
  const directory = mkdtempSync(join(tmpdir(), 'regate-swaps-'))
  const opa = await realOpa()
  const keyOf = (name: string): { readonly own: string; readonly open: string } => {
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const own = join(directory, `${name}.pem`)
    const open = join(directory, `${name}.pub.pem`)
    writeFileSync(own, pair.privateKey.export({ type: 'pkcs8', format: 'pem' }))
    writeFileSync(open, pair.publicKey.export({ type: 'spki', format: 'pem' }))
    return { own, open }
  }
  const ours = keyOf('ours')
  const theirs = keyOf('theirs')
  const build = async (revision: string, files: Record<string, string>, key: string) => {
    const source = join(directory, revision)
    mkdirSync(source, { recursive: true })
    for (const [name, text] of Object.entries(files)) writeFileSync(join(source, name), text)
    const output = join(directory, `${revision}.tar.gz`)
    const entrypoints = ['-e', 'regate/statement/decision', '-e', 'regate/connect/decision']
    const signing = ['--signing-key', key, '--signing-alg', 'ES256', '--revision', revision]
    const target = ['build', ...opa.dialect, '-t', 'wasm', ...entrypoints, ...signing]
    const { code, stderr } = await runOpa(opa, [...target, '-o', output, '-b', '.'], {
      cwd: source,
    })
    if (code !== 0) throw new Error(`opa build ${revision}: ${stderr}`)
    return readFileSync(output)
  }
  const pair = (statement: string): Record<string, string> => ({
    'connect.rego': connectRego,
    'statement.rego': statement,
  })
  const allow = (name: string): Record<string, string> => pair(statementRego(name, 'allow'))
  const good = new Map<string, Buffer>()
  for (let index = 0; index < goodCount; index++) {
    const name = index < 26 ? String.fromCharCode(97 + index) : `good${String(index)}`
    good.set(name, await build(name, allow(name), ours.own))
  }
  const deny = await build('foreign', pair(statementRego('foreign', 'deny')), theirs.own)
  const broken = await build('broken', pair(statementRego('broken', 'shrug')), ours.own)
  const third = await build('third', allow('third'), ours.own)
  const bad = new Map([
    ['broken', broken],
    ['wrongly signed', deny],
    ['half written', third.subarray(0, Math.floor(third.length / 2))],
  ])
  const adminTokenFile = join(directory, 'admin.token')
  writeFileSync(adminTokenFile, adminToken)
  return {
    ...{ good, bad, publicKeyFile: ours.open, adminTokenFile },
    remove: () => {
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** A bundle server that holds one bundle at a time. */
export interface BundleServer {
  readonly url: string
  hold(bundle: Buffer): void
  stop(): void
}

export async function startBundleServer(first: Buffer): Promise<BundleServer> {
  let held = first
  let version = 1
  const server: Server = createServer((request, response) => {
    const etag = `"v${version}"`
    response.setHeader('etag', etag)
    response.setHeader('content-type', 'application/gzip')
    if (request.headers['if-none-match'] === etag) response.statusCode = 304
    response.end(response.statusCode === 304 ? undefined : held)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    hold: (bundle) => {
      held = bundle
      version++
    },
    stop: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

/** What the swapping did. */
export interface Swapping {
  readonly activated: number
  readonly refused: number
  readonly seconds: number
  /** Milliseconds from asking for a reload to its answer, in order of their length. */
  readonly takenMs: readonly number[]
  readonly refusedMs: readonly number[]
  /** When it began and ended, in milliseconds of the clock on the wall. */
  readonly from: number
  readonly to: number
}

/** Swaps through POST /v1/policy/reload: a bad bundle before each good one, which come in turn. */
export class Swapper {
  readonly #bundles: Bundles
  readonly #server: BundleServer
  readonly #adminUrl: string
  #activated = 0
  #refused = 0
  #active = 'a'

  constructor(bundles: Bundles, server: BundleServer, adminUrl: string) {
    this.#bundles = bundles
    this.#server = server
    this.#adminUrl = adminUrl
  }

  /** `perMinute` swaps for `seconds`. Throws where a good one is not taken or a bad one is. */
  async run(options: { readonly perMinute: number; readonly seconds: number }): Promise<Swapping> {
    const [from, began] = [Date.now(), performance.now()]
    const elapsed = (): number => (performance.now() - began) / 1000
    const takenMs: number[] = []
    const refusedMs: number[] = []
    while (elapsed() < options.seconds) {
      refusedMs.push(await this.#refuse())
      takenMs.push(await this.#take())
      const due = (takenMs.length * 60) / options.perMinute
      await delay(Math.max(0, due - elapsed()) * 1000)
    }
    for (const times of [takenMs, refusedMs]) times.sort((one, two) => one - two)
    const done = { activated: takenMs.length, refused: refusedMs.length, seconds: elapsed() }
    return { ...done, takenMs, refusedMs, from, to: Date.now() }
  }

  async #refuse(): Promise<number> {
    const bad = [...this.#bundles.bad]
    const [flaw, flawed] = bad[this.#refused++ % bad.length] ?? ['', Buffer.alloc(0)]
    this.#server.hold(flawed)
    const refusal = await reload(this.#adminUrl)
    if (!refusal.ok && refusal.revision === this.#active) return refusal.ms
    throw new Error(`the ${flaw} bundle was not refused as it should be: ${refusal.text}`)
  }

  async #take(): Promise<number> {
    const good = [...this.#bundles.good]
    const [revision, bundle] = good[++this.#activated % good.length] ?? ['', Buffer.alloc(0)]
    this.#server.hold(bundle)
    const taken = await reload(this.#adminUrl)
    if (!taken.ok || taken.revision !== revision) {
      throw new Error(`revision ${revision} was not taken: ${taken.text}`)
    }
    this.#active = revision
    return taken.ms
  }
}

/** 200 with the revision that is active now, or 422 with the one that stays. */
async function reload(
  adminUrl: string,
): Promise<{ ok: boolean; revision: string; text: string; ms: number }> {
  const began = performance.now()
  const response = await fetch(`${adminUrl}/v1/policy/reload`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${adminToken}` },
    body: '{}',
  })
  const text = await response.text()
  const { revision = '' } = JSON.parse(text) as { readonly revision?: string }
  return { ok: response.ok, revision, text, ms: performance.now() - began }
}

/** One run of pgbench. */
export interface Load {
  readonly transactions: readonly Transaction[]
  readonly failed: number
  readonly output: string
}

/** When it ended by the clock on the wall, and how long it took, in milliseconds. */
export interface Transaction {
  readonly at: number
  readonly ms: number
}

/** The latency that `part` of the transactions do not exceed. */
export function percentile(transactions: readonly Transaction[], part: number): number {
  const sorted = transactions.map(({ ms }) => ms).sort((one, two) => one - two)
  return sorted[Math.floor(sorted.length * part)] ?? 0
}

/** pgbench -S in simple protocol through regate, each transaction logged. */
export async function pgbench(
  port: number,
  user: string,
  options: { readonly clients: number; readonly seconds: number },
): Promise<Load> {
  const directory = mkdtempSync(join(tmpdir(), 'regate-pgbench-'))
  try {
    const child = spawn(
      'pgbench',
      [
        ...['-n', '-S', '-M', 'simple', '-c', String(options.clients), '-j', '2'],
        ...['-T', String(options.seconds), '-l', '--log-prefix', join(directory, 'log')],
        ...['-h', '127.0.0.1', '-p', String(port), '-U', user, 'postgres'],
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, PGSSLMODE: 'disable' } },
    )
    let output = ''
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', resolve)
    })
    const failed = Number(/number of failed transactions: (\d+)/.exec(output)?.[1] ?? Number.NaN)
    if (code !== 0) throw new Error(`pgbench ended with ${code}:\n${output}`)
    // client, number, microseconds, script, seconds of the epoch, microseconds of that second
    const transactions = readdirSync(directory)
      .flatMap((name) => readFileSync(join(directory, name), 'utf8').trim().split('\n'))
      .map((line) => {
        const fields = line.split(' ').map(Number)
        const [, , us = 0, , second = 0, part = 0] = fields
        return { at: second * 1_000 + part / 1_000, ms: us / 1_000 }
      })
    return { transactions, failed, output }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Tables of pgbench, made at the server itself. */
export async function preparePgbench(postgres: TestPostgres): Promise<void> {
  const child = spawn('pgbench', ['-i', '-q', postgres.url()], { stdio: 'ignore' })
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  if (code !== 0) throw new Error(`pgbench -i ended with ${code}`)
}

/** What the audit says of revisions. */
export interface AuditedRevisions {
  readonly statements: number
  readonly activations: number
  readonly refused: number
  /** Statements by the revision that judged them. */
  readonly byRevision: ReadonlyMap<string, number>
  /** Records where a statement was judged by a revision that was not active there. */
  readonly wrong: readonly string[]
}

/** Reads the chains: behind an activation each session is judged by it from its next statement on. */
export function auditedRevisions(directory: string): AuditedRevisions {
  const byRevision = new Map<string, number>()
  const wrong: string[] = []
  let [statements, activations, refused] = [0, 0, 0]
  const chains = new Map<string, { active: string; before: string; bound: Set<string> }>()
  const segments = readdirSync(directory).filter((name) => name.endsWith('.ndjson'))
  for (const name of segments.sort()) {
    for (const line of readFileSync(join(directory, name), 'utf8').split('\n')) {
      if (line === '') continue
      const record = JSON.parse(line) as {
        readonly id?: string
        readonly type: string
        readonly session?: string
        readonly revision?: string
        readonly decision?: {
          readonly revision: string
          readonly action: string
          readonly rule: string
        }
      }
      // Checkpoints have no id.
      if (record.id === undefined) continue
      const chain = record.id.replace(/-\d+$/, '')
      if (record.type === 'policy_activated') {
        activations++
        const active = record.revision ?? ''
        chains.set(chain, { active, before: chains.get(chain)?.active ?? active, bound: new Set() })
      } else if (record.type === 'statement_decided' && record.decision !== undefined) {
        statements++
        const { revision, action, rule } = record.decision
        byRevision.set(revision, (byRevision.get(revision) ?? 0) + 1)
        if (action !== 'allow') refused++
        const now = chains.get(chain) ?? { active: '', before: '', bound: new Set<string>() }
        const session = record.session ?? ''
        // What was judged when the new one came is recorded at the end of its turn, right behind the
        // activation: one statement of a session at most, and never behind one of the new revision.
        const judged =
          revision === now.active || (revision === now.before && !now.bound.has(session))
        now.bound.add(session)
        // The policy's own rule says which one it was, whatever the record claims.
        if (!judged || rule !== revision) wrong.push(line)
      }
    }
  }
  return { statements, activations, refused, byRevision, wrong }
}

/** The keys of regate.yaml that a swapping needs: OPA's bundle protocol, signed, polled by hand. */
export function swapConfiguration(bundles: Bundles, server: BundleServer): Record<string, unknown> {
  return {
    policy: {
      bundle: {
        service: { url: server.url },
        resource: 'bundle.tar.gz',
        polling: { min_delay_seconds: 3_600, max_delay_seconds: 7_200 },
        signing: { public_key: bundles.publicKeyFile, algorithm: 'ES256' },
      },
    },
    admin: { port: 0, token_file: bundles.adminTokenFile },
  }
}
