/** The policy keeper against real directories, real OPA and a real HTTP server. */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits, systemClock } from '../../src/core/core.ts'
import { PolicyKeeper, type BundleSource } from '../../src/control/bundles.ts'
import type { Policy, SigningOptions } from '../../src/policy/policy.ts'
import { buildDirectory, packDirectory, realOpa } from './pack.ts'
import { buildBundle } from '../../src/control/bundles-build.ts'

let scratch: string
const keepers: PolicyKeeper[] = []
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'regate-keeper-test-'))
})
afterEach(async () => {
  await Promise.all(keepers.splice(0).map((keeper) => keeper.close()))
})
afterAll(() => {
  rmSync(scratch, { recursive: true, force: true })
})

async function start(
  source: BundleSource,
  options: { readonly dataFiles?: readonly string[]; readonly watchMs?: number } = {},
): Promise<{ readonly keeper: PolicyKeeper; readonly policies: Policy[] }> {
  const policies: Policy[] = []
  const keeper = await PolicyKeeper.start({
    name: 'test',
    source,
    dataFiles: options.dataFiles ?? [],
    limits: defaultLimits,
    clock: systemClock,
    opa: { env: process.env },
    cacheDirectory: join(tmpdir(), 'regate-test-bundles'),
    onPolicy: (policy) => policies.push(policy),
    watchMs: options.watchMs ?? 0,
  })
  keepers.push(keeper)
  return { keeper, policies }
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 15_000
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain for: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

const copyOfPack = (): string => {
  const directory = mkdtempSync(join(scratch, 'pack-'))
  cpSync(packDirectory, directory, { recursive: true })
  return directory
}

describe('a directory', () => {
  it('is built, and built again when it changes', async () => {
    const directory = copyOfPack()
    const { keeper, policies } = await start({ kind: 'path', path: directory }, { watchMs: 50 })
    const first = keeper.policy.revision
    const data = JSON.parse(readFileSync(join(directory, 'data.json'), 'utf8')) as {
      regate: { groups: Record<string, unknown> }
    }
    data.regate.groups['interns'] = { read: [] }
    writeFileSync(join(directory, 'data.json'), JSON.stringify(data))
    await until(() => policies.length === 1, 'the second policy')
    expect(keeper.policy.revision).not.toBe(first)
    expect(keeper.policy).toBe(policies[0])
    expect(keeper.status).toMatchObject({ code: null, previous_revision: first })
  })

  it('keeps the old policy while the new one does not compile, and says why', async () => {
    const directory = copyOfPack()
    const { keeper, policies } = await start({ kind: 'path', path: directory }, { watchMs: 50 })
    const first = keeper.policy
    const broken = join(directory, 'regate', 'statement', 'broken.rego')
    writeFileSync(broken, 'package regate.statement\n\nthis is no Rego {')
    await until(() => keeper.status.code !== null, 'the error')
    expect(keeper.policy).toBe(first)
    expect(keeper.status.errors.join('\n')).toContain('broken.rego:3')
    rmSync(broken)
    await until(() => keeper.status.code === null, 'the recovery')
    expect(policies).toEqual([])
  })

  it('refuses to start without a usable policy', async () => {
    const directory = mkdtempSync(join(scratch, 'empty-'))
    await expect(start({ kind: 'path', path: directory })).rejects.toThrow('OPA could not build')
    await expect(start({ kind: 'path', path: join(scratch, 'nothing') })).rejects.toThrow(
      'not there',
    )
  })

  it.each([
    [
      'undefined',
      'decision := {"action": "allow"} if input.statement.kind == "never"',
      'undefined',
    ],
    ['malformed', 'decision := {"action": "perhaps"}', 'malformed'],
    [
      'a builtin that WebAssembly has not',
      'decision := {"action": "allow", "reason": sprintf("%d", [time.now_ns()])}',
      'time.now_ns',
    ],
  ])('refuses a policy whose decision is %s', async (_name, rule, words) => {
    const directory = copyOfPack()
    const { keeper } = await start({ kind: 'path', path: directory })
    const first = keeper.policy
    rmSync(join(directory, 'regate', 'statement'), { recursive: true })
    mkdirSync(join(directory, 'regate', 'statement'))
    writeFileSync(
      join(directory, 'regate', 'statement', 's.rego'),
      `package regate.statement\n\n${rule}\n`,
    )
    for (const test of ['access', 'masking', 'approval', 'examples']) {
      rmSync(join(directory, 'regate', test), { recursive: true })
    }
    await expect(keeper.reload()).rejects.toThrow(words)
    expect(keeper.policy).toBe(first)
    expect(keeper.status.code).toBe('bundle_error')
  })

  it('goes back to the policy before, and stays there until told otherwise', async () => {
    const directory = copyOfPack()
    const { keeper } = await start({ kind: 'path', path: directory }, { watchMs: 50 })
    const first = keeper.policy
    const data = join(directory, 'data.json')
    const changed = readFileSync(data, 'utf8').replace('"rows": 10000', '"rows": 7')
    writeFileSync(data, changed)
    await until(() => keeper.policy !== first, 'the second policy')
    const second = keeper.policy.revision
    expect(await keeper.rollback()).toBe(true)
    expect(keeper.policy).toBe(first)
    expect(keeper.status).toMatchObject({ rolled_back: true, active_revision: first.revision })
    writeFileSync(data, changed)
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(keeper.policy).toBe(first)
    expect(await keeper.reload()).toBe(true)
    expect(keeper.policy.revision).toBe(second)
    expect(await keeper.rollback()).toBe(true)
    expect(await keeper.rollback()).toBe(false)
  })
})

describe('data files', () => {
  it('lie over the data of the bundle, and are watched', async () => {
    const file = join(mkdtempSync(join(scratch, 'data-')), 'classes.yaml')
    writeFileSync(file, 'regate:\n  columns:\n    public.t.secret: { class: pii }\n')
    const { keeper, policies } = await start(
      { kind: 'path', path: packDirectory },
      { dataFiles: [file], watchMs: 50 },
    )
    expect(keeper.policy.classified).toContain('public.t.secret')
    expect(keeper.policy.classified).toContain('public.customers.ssn')
    const module = keeper.policy.module
    writeFileSync(file, 'regate:\n  columns:\n    public.t.other: { class: pii }\n')
    await until(() => policies.length === 1, 'the new data')
    expect(keeper.policy.classified).toContain('public.t.other')
    expect(keeper.policy.module, 'a change of data compiles nothing').toBe(module)
  })
})

describe('a packed bundle', () => {
  it('that is half written changes nothing', async () => {
    const path = join(mkdtempSync(join(scratch, 'file-')), 'bundle.tar.gz')
    const packed = await buildDirectory(packDirectory, 'one')
    writeFileSync(path, packed)
    const { keeper, policies } = await start({ kind: 'path', path }, { watchMs: 20 })
    expect(keeper.policy.revision).toBe('one')
    const second = await buildDirectory(packDirectory, 'two')
    writeFileSync(path, second.subarray(0, second.length / 2))
    await until(() => keeper.status.code === 'bundle_error', 'the error')
    expect(keeper.policy.revision).toBe('one')
    writeFileSync(`${path}.new`, second)
    renameSync(`${path}.new`, path)
    await until(() => policies.length === 1, 'the whole bundle')
    expect(keeper.policy.revision).toBe('two')
    expect(keeper.status.code).toBeNull()
  })
})

interface BundleServer {
  readonly url: string
  bundle: Buffer | null
  status: number
  longPolling: boolean
  readonly requests: IncomingMessage[]
  close(): void
}

async function serve(bundle: Buffer): Promise<BundleServer> {
  const waiting: (() => void)[] = []
  let current: Buffer | null = bundle
  let version = 1
  const state = {
    url: '',
    status: 200,
    longPolling: false,
    requests: [] as IncomingMessage[],
    get bundle(): Buffer | null {
      return current
    },
    set bundle(next: Buffer | null) {
      current = next
      version++
      for (const wake of waiting.splice(0)) wake()
    },
    close: (): void => {
      server.closeAllConnections()
      server.close()
    },
  }
  const server: Server = createServer((request, response) => {
    state.requests.push(request)
    const etag = (): string => `"v${String(version)}"`
    const answer = (): void => {
      if (response.headersSent) return
      const type = state.longPolling
        ? 'application/vnd.openpolicyagent.bundles'
        : 'application/gzip'
      response.setHeader('content-type', type)
      response.setHeader('etag', etag())
      if (state.status !== 200) {
        response.statusCode = state.status
        response.end()
      } else if (request.headers['if-none-match'] === etag()) {
        response.statusCode = 304
        response.end()
      } else response.end(current)
    }
    const patient = String(request.headers['prefer']).includes('wait=')
    if (patient && request.headers['if-none-match'] === etag()) {
      waiting.push(answer)
      setTimeout(answer, 2_000).unref()
    } else answer()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  state.url = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}/`
  return state
}

function remote(
  server: BundleServer,
  over: { signing?: SigningOptions; persist?: string; longPollingMs?: number; token?: string } = {},
): BundleSource {
  const { signing, persist, longPollingMs, token } = over
  return {
    kind: 'remote',
    service: {
      ...{ url: server.url, headers: { 'x-team': 'db' }, ca: null, cert: null, key: null },
      token: token === undefined ? null : () => Promise.resolve(token),
    },
    resource: 'bundles/regate.tar.gz',
    polling: { minDelayMs: 20, maxDelayMs: 40, longPollingMs: longPollingMs ?? null },
    signing: signing ?? null,
    persist: persist ?? null,
  }
}

describe('a bundle server', () => {
  it('is polled with ETag, bearer token and headers', async () => {
    const server = await serve(await buildDirectory(packDirectory, 'one'))
    const { keeper, policies } = await start(remote(server, { token: 'sesame' }))
    expect(keeper.policy.revision).toBe('one')
    await until(() => server.requests.length > 3, 'polls')
    expect(server.requests[0]?.url).toBe('/bundles/regate.tar.gz')
    expect(server.requests[0]?.headers).toMatchObject({
      authorization: 'Bearer sesame',
      'x-team': 'db',
    })
    expect(server.requests[2]?.headers['if-none-match']).toBe('"v1"')
    expect(policies).toEqual([])
    server.bundle = await buildDirectory(packDirectory, 'two')
    await until(() => policies.length === 1, 'the second bundle')
    expect(keeper.policy.revision).toBe('two')
    server.close()
  })

  it('is asked again for a bundle that was no good, and survives being down', async () => {
    const server = await serve(await buildDirectory(packDirectory, 'one'))
    const { keeper } = await start(remote(server))
    server.bundle = Buffer.from('garbage')
    await until(() => keeper.status.code === 'bundle_error', 'the error')
    expect(keeper.policy.revision).toBe('one')
    server.status = 503
    await until(() => keeper.status.http_code === '503', 'the 503')
    server.status = 200
    server.bundle = await buildDirectory(packDirectory, 'three')
    await until(() => keeper.policy.revision === 'three', 'the good bundle')
    expect(keeper.status.code).toBeNull()
    server.close()
  })

  it('long polls where the server can', async () => {
    const server = await serve(await buildDirectory(packDirectory, 'one'))
    server.longPolling = true
    const { keeper } = await start(remote(server, { longPollingMs: 2_000 }))
    await until(() => server.requests.length >= 2, 'the long poll')
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(server.requests.length).toBeLessThanOrEqual(3)
    server.bundle = await buildDirectory(packDirectory, 'two')
    await until(() => keeper.policy.revision === 'two', 'the second bundle')
    server.close()
  })

  it('keeps the last good bundle for a start without the server', async () => {
    const persist = mkdtempSync(join(scratch, 'persist-'))
    const server = await serve(await buildDirectory(packDirectory, 'one'))
    const { keeper } = await start(remote(server, { persist }))
    await keeper.close()
    server.close()
    const { keeper: second } = await start(remote(server, { persist }))
    expect(second.policy.revision).toBe('one')
    expect(second.status.code).toBe('bundle_error')
    const elsewhere = mkdtempSync(join(scratch, 'persist-'))
    await expect(start(remote(server, { persist: elsewhere }))).rejects.toThrow('did not answer')
  })

  it('refuses a bundle that is not signed by the key, and verifies the persisted one too', async () => {
    const opa = await realOpa()
    const sign = (key: string, revision: string): Promise<Buffer> =>
      buildBundle({
        ...{ opa, directory: packDirectory, revision, cacheDirectory: null },
        signing: { key, algorithm: 'HS256' },
      })
    const signing: SigningOptions = { keys: { main: { algorithm: 'HS256', key: 'right' } } }
    const persist = mkdtempSync(join(scratch, 'persist-'))
    const server = await serve(await sign('right', 'one'))
    const { keeper } = await start(remote(server, { signing, persist }))
    server.bundle = await sign('wrong', 'two')
    await until(() => keeper.status.code === 'bundle_error', 'the error')
    expect(keeper.policy.revision).toBe('one')
    await keeper.close()
    server.close()
    writeFileSync(join(persist, 'test.bundle.tar.gz'), await sign('wrong', 'evil'))
    await expect(start(remote(server, { signing, persist }))).rejects.toThrow('does not verify')
  })
})
