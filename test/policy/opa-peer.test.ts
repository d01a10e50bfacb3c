/**
 * The real OPA and regate as peers: `opa run --server` and regate ask the same bundle server, with the
 * same key, by the same protocol; both take what is good, refuse what was tampered with, decide the same
 * about the same inputs, and send decision logs and status documents of the same form.
 *
 * OPA gets the sources of the bundle (`opa build`), regate the same sources compiled (`opa build -t
 * wasm`): OPA's static builds have no WebAssembly engine.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildBundle, ignoreParameters } from '../../src/control/bundles-build.ts'
import { freePort } from '../../src/control/control.ts'
import { runOpa } from '../../src/control/opa.ts'
import { defaultLimits } from '../../src/core/core.ts'
import { Policy, readBundle, type SigningOptions } from '../../src/policy/policy.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { packDirectory, realOpa } from './pack.ts'

type Peer = 'opa' | 'regate'
const peers: readonly Peer[] = ['opa', 'regate']

interface Held {
  readonly bundle: Buffer
  readonly etag: string
}

interface Asked {
  readonly etag: string | undefined
  readonly prefer: string | undefined
  readonly status: number
}

/** What OPA calls a service: bundles out by GET, decisions and status in by POST. */
class Service {
  readonly asked: Record<Peer, Asked[]> = { opa: [], regate: [] }
  readonly logs: Record<Peer, unknown[]> = { opa: [], regate: [] }
  readonly statuses: Record<Peer, Record<string, unknown>[]> = { opa: [], regate: [] }
  readonly #held = new Map<Peer, Held>()
  readonly #waiting: (() => void)[] = []
  readonly #server: Server
  #version = 0

  constructor() {
    this.#server = createHttpServer((request, response) => {
      const [, who = '', what = ''] = (request.url ?? '').split('/')
      if (request.method === 'POST') void this.#take(who as Peer, what, request, response)
      else this.#give(who as Peer, request, response)
    })
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`
  }

  /** The same version for both, so under the same ETag. */
  hold(bundles: Record<Peer, Buffer>): void {
    this.#version++
    for (const who of peers) {
      this.#held.set(who, { bundle: bundles[who], etag: `"v${String(this.#version)}"` })
    }
    for (const wake of this.#waiting.splice(0)) wake()
  }

  stop(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }

  #give(who: Peer, request: IncomingMessage, response: ServerResponse): void {
    const { prefer } = request.headers as { readonly prefer?: string }
    const etag = request.headers['if-none-match']
    const answer = (): void => {
      if (response.writableEnded) return
      const held = this.#held.get(who)
      const status = held === undefined ? 404 : held.etag === etag ? 304 : 200
      this.asked[who].push({ etag, prefer, status })
      response.statusCode = status
      response.setHeader('content-type', 'application/vnd.openpolicyagent.bundles')
      response.setHeader('etag', held?.etag ?? '')
      response.end(status === 200 ? held?.bundle : undefined)
    }
    const patient = prefer?.includes('wait=') === true
    if (patient && this.#held.get(who)?.etag === etag) {
      this.#waiting.push(answer)
      setTimeout(answer, 1_000).unref()
    } else answer()
  }

  async #take(
    who: Peer,
    what: string,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk)
    const body = Buffer.concat(chunks)
    const zipped = request.headers['content-encoding'] === 'gzip'
    const document: unknown = JSON.parse((zipped ? gunzipSync(body) : body).toString())
    // As OPA has it: logs are packed, status documents are not.
    if (zipped !== (what === 'logs')) response.statusCode = 415
    else if (what === 'logs') this.logs[who].push(...(document as unknown[]))
    else this.statuses[who].push(document as Record<string, unknown>)
    response.end()
  }
}

let scratch: string
let service: Service
let postgres: TestPostgres
let proxy: ProxyInProcess
let opaServer: ChildProcess
let opaUrl: string
let opaLog = ''
let keyFile: string
let publicKeyFile: string
let first: Record<Peer, Buffer>

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const end = Date.now() + 30_000
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain for: ${what}\n${opaLog.slice(-2_000)}`)
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
}

/** The pack for each peer, signed by `opa build --signing-key`. */
async function build(
  revision: string,
  agentsRead: 'allow' | 'deny',
  key = keyFile,
): Promise<Record<Peer, Buffer>> {
  const opa = await realOpa()
  const directory = mkdtempSync(join(scratch, 'pack-'))
  cpSync(packDirectory, directory, { recursive: true })
  const data = JSON.parse(readFileSync(join(directory, 'data.json'), 'utf8')) as {
    regate: { groups: Record<string, { read: unknown }> }
  }
  const { agents } = data.regate.groups
  if (agents !== undefined) agents.read = { '*': agentsRead }
  writeFileSync(join(directory, 'data.json'), JSON.stringify(data))
  const signing = { key, algorithm: 'ES256' }
  const regate = await buildBundle({ opa, directory, revision, signing, cacheDirectory: null })
  const output = join(scratch, `${revision}.tar.gz`)
  const parameters = ['build', ...opa.dialect, ...ignoreParameters, `--revision=${revision}`]
  const signed = [`--signing-key=${key}`, '--signing-alg=ES256', `--output=${output}`]
  const run = await runOpa(opa, [...parameters, ...signed, '--bundle', '.'], { cwd: directory })
  expect(run.code, run.stderr).toBe(0)
  return { regate, opa: readFileSync(output) }
}

function newKey(name: string): { readonly file: string; readonly open: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const file = join(scratch, `${name}.pem`)
  const open = join(scratch, `${name}.pub.pem`)
  writeFileSync(file, privateKey.export({ type: 'pkcs8', format: 'pem' }))
  writeFileSync(open, publicKey.export({ type: 'spki', format: 'pem' }))
  return { file, open }
}

async function startOpa(url: string, publicKey: string): Promise<void> {
  const opa = await realOpa()
  const configuration = join(scratch, 'opa.json')
  const delays = { min_delay_seconds: 1, max_delay_seconds: 1 }
  writeFileSync(
    configuration,
    JSON.stringify({
      services: { main: { url: `${url}/opa` } },
      keys: { main: { key: readFileSync(publicKey, 'utf8'), algorithm: 'ES256' } },
      bundles: {
        regate: {
          ...{ service: 'main', resource: 'regate.tar.gz', signing: { keyid: 'main' } },
          polling: { ...delays, long_polling_timeout_seconds: 5 },
        },
      },
      decision_logs: { service: 'main', reporting: delays },
      status: { service: 'main' },
    }),
  )
  const address = `127.0.0.1:${String(await freePort())}`
  opaUrl = `http://${address}`
  const quiet = ['--disable-telemetry', '--log-level=error']
  const more = [`--addr=${address}`, `--config-file=${configuration}`]
  opaServer = spawn(opa.path, ['run', '--server', ...opa.dialect, ...quiet, ...more], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  for (const stream of [opaServer.stdout, opaServer.stderr]) {
    stream?.on('data', (chunk: Buffer) => (opaLog += chunk.toString()))
  }
}

interface OpaAnswer {
  readonly result?: unknown
  readonly provenance?: { readonly bundles?: Record<string, { readonly revision: string }> }
}

async function askOpa(path: string, input: unknown): Promise<OpaAnswer> {
  const response = await fetch(`${opaUrl}/v1/data/${path}?provenance=true`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ input }),
  })
  return (await response.json()) as OpaAnswer
}

const revisionOf: Record<Peer, () => Promise<string>> = {
  regate: () => Promise.resolve(proxy.runtime.policyStatus.active_revision),
  opa: async () => {
    const nothing: OpaAnswer = {}
    const { provenance } = await askOpa('regate/connect/decision', {}).catch(() => nothing)
    return provenance?.bundles?.['regate']?.revision ?? ''
  },
}

async function untilRevision(revision: string): Promise<void> {
  for (const who of peers) {
    await until(async () => (await revisionOf[who]()) === revision, `${who} at ${revision}`)
  }
}

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'regate-opa-peer-'))
  const key = newKey('ours')
  keyFile = key.file
  publicKeyFile = key.open
  service = new Service()
  const url = await service.start()
  first = await build('one', 'allow')
  service.hold(first)
  postgres = await startPostgres()
  await startOpa(url, key.open)
  proxy = await startProxy(postgres, {
    groups: ['agents'],
    configuration: {
      policy: {
        bundle: {
          ...{ service: { url: `${url}/regate` }, resource: 'regate.tar.gz' },
          signing: { public_key: key.open, algorithm: 'ES256' },
          polling: {
            ...{ min_delay_seconds: 1, max_delay_seconds: 1, long_polling_timeout_seconds: 5 },
          },
        },
      },
      audit: {
        directory: 'audit',
        sinks: [
          { kind: 'opa', url: `${url}/regate` },
          { kind: 'opa_file', path: 'decisions.ndjson' },
        ],
      },
    },
  })
  await untilRevision('one')
}, 120_000)

afterAll(async () => {
  opaServer.kill('SIGTERM')
  await proxy?.stop()
  service.stop()
  await postgres.stop()
  rmSync(scratch, { recursive: true, force: true })
})

describe('opa run --server beside regate', () => {
  it('decides as regate does, about every fixture of the pack', async () => {
    const fixtures = JSON.parse(
      readFileSync(join(packDirectory, 'fixtures/data.json'), 'utf8'),
    ) as { readonly fixtures?: object }
    const documents = Object.entries(fixtures.fixtures ?? fixtures)
    expect(documents.length).toBeGreaterThan(20)
    const key = readFileSync(publicKeyFile, 'utf8')
    const signing: SigningOptions = { keys: { main: { algorithm: 'ES256', key } } }
    const reading = { limits: defaultLimits, name: 'regate', signing, nowMs: Date.now() }
    const bundle = await readBundle(first.regate, reading)
    const policy = await Policy.load(bundle, { limits: defaultLimits })
    for (const [name, input] of documents) {
      const entrypoint = 'regate/statement/decision'
      const ours = JSON.parse(policy.evaluate(entrypoint, JSON.stringify(input))) as [
        { readonly result: { readonly action: string } },
      ]
      const { result } = await askOpa(entrypoint, input)
      expect(result, name).toEqual(ours[0].result)
    }
  })

  it('asks for bundles as regate does: ETag, long polling', async () => {
    for (const who of peers) {
      const known = service.asked[who].length
      await until(() => service.asked[who].length > known + 1, `polls of ${who}`)
      const last = service.asked[who].at(-1)
      expect(last, who).toMatchObject({ etag: '"v1"', status: 304 })
      expect(last?.prefer, who).toMatch(/modes=snapshot/)
      expect(last?.prefer, who).toMatch(/wait=5/)
    }
  })

  it('takes the next bundle with regate, and refuses with it what was not signed by the key', async () => {
    service.hold(await build('two', 'deny'))
    await untilRevision('two')
    const asked = { opa: service.asked.opa.length, regate: service.asked.regate.length }
    service.hold(await build('three', 'allow', newKey('theirs').file))
    for (const who of peers) {
      // It asks again and again, without the ETag of what it refused.
      await until(
        () =>
          service.asked[who].slice(asked[who]).filter(({ status }) => status === 200).length > 1,
        `${who} to refuse`,
      )
      expect(await revisionOf[who]()).toBe('two')
    }
    const error = (who: Peer): unknown =>
      (
        service.statuses[who].at(-1)?.['bundles'] as Record<string, { code?: unknown }> | undefined
      )?.['regate']?.code
    for (const who of peers) await until(() => error(who) === 'bundle_error', `status of ${who}`)
    service.hold(await build('four', 'allow'))
    await untilRevision('four')
  }, 120_000)

  it('reports its status as regate does', async () => {
    for (const who of peers) {
      const bundleOf = (document?: Record<string, unknown>): Record<string, unknown> =>
        (document?.['bundles'] as Record<string, Record<string, unknown>> | undefined)?.[
          'regate'
        ] ?? {}
      await until(
        () => bundleOf(service.statuses[who].at(-1))['active_revision'] === 'four',
        `the status of ${who}`,
      )
      const document = service.statuses[who].at(-1)
      expect(Object.keys(document?.['labels'] ?? {}), who).toContain('id')
      expect(bundleOf(document), who).toMatchObject({
        ...{ name: 'regate', active_revision: 'four', type: 'snapshot' },
        size: expect.any(Number) as number,
        last_request: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) as string,
        last_successful_request: expect.stringMatching(/Z$/) as string,
        last_successful_download: expect.stringMatching(/Z$/) as string,
        last_successful_activation: expect.stringMatching(/Z$/) as string,
      })
      expect(bundleOf(document)['code'] ?? null, who).toBeNull()
    }
  })

  it('logs decisions as regate does', async () => {
    const client = new pg.Client({ connectionString: proxy.url('postgres', 'ann') })
    await client.connect()
    await client.query('SELECT 1 AS logged')
    await client.end()
    await askOpa('regate/statement/decision', { logged: true })
    const path = 'regate/statement/decision'
    interface Event extends Record<string, unknown> {
      readonly path: string
    }
    const eventOf = (who: Peer): Event | undefined =>
      (service.logs[who] as Event[]).find(
        (event) => event.path === path && JSON.stringify(event).includes('logged'),
      )
    for (const who of peers) {
      await until(() => eventOf(who) !== undefined, `the decision of ${who}`)
      expect(eventOf(who), who).toMatchObject({
        labels: { id: expect.any(String) as string },
        decision_id: expect.any(String) as string,
        bundles: { regate: { revision: 'four' } },
        path,
        input: expect.any(Object) as object,
        result: { action: expect.any(String) as string },
        timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) as string,
        metrics: { timer_rego_query_eval_ns: expect.any(Number) as number },
      })
    }
    const inFile = (): Event | undefined => {
      const path = join(proxy.directory, 'decisions.ndjson')
      const lines = existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : []
      return lines
        .map((line) => JSON.parse(line) as Event)
        .find(({ decision_id }) => decision_id === eventOf('regate')?.['decision_id'])
    }
    await until(() => inFile() !== undefined, 'the decision in the file')
    const { labels, ...rest } = eventOf('regate') ?? { labels: null }
    expect(inFile(), 'a line of the file is an event of the service').toMatchObject(rest)
    expect(labels).toMatchObject({ app: 'regate' })
    expect(eventOf('regate')).toMatchObject({
      requested_by: '127.0.0.1',
      erased: expect.arrayContaining(['/input/statement/ast']) as string[],
      masked: [],
    })
  }, 60_000)
})
