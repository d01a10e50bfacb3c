/** A bundle server over TLS that wants a client certificate: a real server, certificates of openssl. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { TLSSocket } from 'node:tls'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { serviceOptions } from '../../src/commands/policy-source.ts'
import { PolicyKeeper } from '../../src/control/bundles.ts'
import { defaultLimits, systemClock } from '../../src/core/core.ts'
import { TestAuthority, type Pair } from '../identity/support/certificates.ts'
import { buildDirectory, packDirectory } from './pack.ts'

let scratch: string
let ours: TestAuthority
let theirs: TestAuthority
let client: Pair
let stranger: Pair
let server: Server
let url: string
const subjects: string[] = []

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'regate-bundle-tls-'))
  ours = new TestAuthority('bundles')
  theirs = new TestAuthority('somebody else')
  client = ours.issue('client', '/CN=regate')
  stranger = theirs.issue('client', '/CN=regate')
  const { cert, key } = ours.issue('server', '/CN=bundles', ['IP:127.0.0.1'])
  const bundle = await buildDirectory(packDirectory, 'over-tls')
  server = createServer(
    {
      ...{ cert: ours.read(cert), key: ours.read(key), ca: ours.read(ours.ca) },
      ...{ requestCert: true, rejectUnauthorized: true },
    },
    (request, response) => {
      const { socket } = request
      if (socket instanceof TLSSocket) subjects.push(String(socket.getPeerCertificate().subject.CN))
      response.end(bundle)
    },
  )
  // A refused handshake is what some of the tests are about.
  server.on('tlsClientError', () => undefined)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `https://127.0.0.1:${String((server.address() as AddressInfo).port)}`
}, 60_000)

afterAll(() => {
  server.closeAllConnections()
  server.close()
  ours.remove()
  theirs.remove()
  rmSync(scratch, { recursive: true, force: true })
})

interface Files {
  readonly ca: string | null
  readonly pair: Pair | null
  readonly persist?: string
}

async function start({ ca, pair, persist }: Files): Promise<PolicyKeeper> {
  const paths = { ca, cert: pair?.cert ?? null, key: pair?.key ?? null }
  const service = await serviceOptions({ url, headers: {}, token: null, ...paths }, {})
  return PolicyKeeper.start({
    name: 'test',
    source: {
      ...{ kind: 'remote', service, resource: 'regate.tar.gz', signing: null },
      polling: { minDelayMs: 60_000, maxDelayMs: 60_000, longPollingMs: null },
      persist: persist ?? null,
    },
    ...{ dataFiles: [], limits: defaultLimits, clock: systemClock, opa: { env: process.env } },
    ...{ cacheDirectory: null, onPolicy: () => undefined, watchMs: 0 },
  })
}

it('gives its bundle to who shows the certificate', async () => {
  const keeper = await start({ ca: ours.ca, pair: client })
  expect(keeper.policy.revision).toBe('over-tls')
  expect(subjects).toEqual(['regate'])
  await keeper.close()
})

it('gives nothing without one, nor for one of another authority', async () => {
  const before = subjects.length
  await expect(start({ ca: ours.ca, pair: null })).rejects.toThrow('did not answer')
  await expect(start({ ca: ours.ca, pair: stranger })).rejects.toThrow('did not answer')
  expect(subjects).toHaveLength(before)
})

it('is not believed where its own certificate is of another authority', async () => {
  const before = subjects.length
  await expect(start({ ca: theirs.ca, pair: client })).rejects.toThrow('did not answer')
  await expect(start({ ca: null, pair: client })).rejects.toThrow('did not answer')
  expect(subjects, 'nothing was asked of it').toHaveLength(before)
})

it('is not needed for a start with the bundle that was kept', async () => {
  const persist = join(scratch, 'kept')
  await (await start({ ca: ours.ca, pair: client, persist })).close()
  const keeper = await start({ ca: theirs.ca, pair: client, persist })
  expect(keeper.policy.revision).toBe('over-tls')
  expect(keeper.status).toMatchObject({ code: 'bundle_error' })
  await keeper.close()
})
