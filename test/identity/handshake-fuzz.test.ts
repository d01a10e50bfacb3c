/**
 * The handshake under seeded noise: valid openings that were cut, spliced and changed, in every
 * order. Nobody gets in, nothing hangs, and the next honest client is served.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { deriveVerifier, oidcEntryDefaults, writeUser } from '../../src/identity/identity.ts'
import {
  encodeCancelRequest,
  encodeGssencRequest,
  encodePassword,
  encodeQuery,
  encodeSaslInitialResponse,
  encodeSaslResponse,
  encodeSslRequest,
  encodeStartup,
  protocolVersions,
  written,
} from '../../src/wire/wire.ts'
import { TestAuthority } from './support/certificates.ts'
import { RawClient } from './support/raw.ts'
import { startRelay, type Relay } from './support/relay.ts'

let authority: TestAuthority
let directory: string
let relay: Relay

beforeAll(async () => {
  authority = new TestAuthority()
  directory = mkdtempSync(join(tmpdir(), 'regate-fuzz-'))
  const users = join(directory, 'users.yaml')
  const verifier = await deriveVerifier('pencil')
  await writeUser(users, { name: 'ann', verifier, groups: [], email: null, type: null })
  const oidc = {
    ...oidcEntryDefaults,
    method: 'oidc',
    issuer: 'http://127.0.0.1:1',
    audience: ['regate'],
  } as const
  relay = await startRelay({
    entries: [
      { ...oidc, match: { user: ['tok'] }, flow: 'password' },
      oidc,
      { method: 'scram', match: null, groups: [], users },
    ],
    target: null,
    tls: { ...authority.issue('server', '/CN=localhost'), clientCa: authority.ca, crl: null },
    limits: { authenticationMsMax: 1_500 },
    attemptLimits: {
      perSourceMax: 1_000_000,
      perUserMax: 1_000_000,
      perSourceAndUserMax: 1_000_000,
    },
  })
})
afterAll(async () => {
  await relay.stop()
  authority.remove()
  rmSync(directory, { recursive: true, force: true })
})

const startup = (user: string): Buffer =>
  written((writer) => encodeStartup(writer, protocolVersions.v3_0, [['user', user]]))

/** What honest clients send, in no honest order. */
const pieces: readonly Buffer[] = [
  startup('ann'),
  startup('tok'),
  startup('ghost'),
  written((writer) =>
    encodeStartup(writer, 0x0003_0005, [
      ['user', 'ann'],
      ['_pq_.x', 'y'],
    ]),
  ),
  written(encodeSslRequest),
  written(encodeGssencRequest),
  written((writer) => encodeCancelRequest(writer, 1, Buffer.alloc(4))),
  written((writer) => encodePassword(writer, 'pencil')),
  written((writer) => encodePassword(writer, 'e30.e30.AAAA')),
  written((writer) => encodeSaslInitialResponse(writer, 'SCRAM-SHA-256', 'n,,n=,r=abc')),
  written((writer) =>
    encodeSaslInitialResponse(writer, 'SCRAM-SHA-256-PLUS', 'p=tls-server-end-point,,n=,r=a'),
  ),
  written((writer) =>
    encodeSaslInitialResponse(writer, 'OAUTHBEARER', 'n,,\x01auth=Bearer a.b.c\x01\x01'),
  ),
  written((writer) => encodeSaslInitialResponse(writer, 'OAUTHBEARER', null)),
  written((writer) => encodeSaslResponse(writer, 'c=biws,r=abc,p=AAAA')),
  written((writer) => encodeSaslResponse(writer, '\x01')),
  written((writer) => encodeQuery(writer, 'SELECT 1')),
  Buffer.from([0x16, 0x03, 0x01, 0x00, 0x02, 0x01, 0x00]),
  Buffer.from('R\0\0\0\x08\0\0\0\0'),
]

const piece = fc.constantFrom(...pieces)
const noise = fc.oneof(
  { weight: 4, arbitrary: piece },
  {
    weight: 2,
    arbitrary: fc.tuple(piece, fc.nat(), fc.nat(255)).map(([bytes, at, value]) => {
      const changed = Buffer.from(bytes)
      changed[at % changed.length] = value
      return changed
    }),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(piece, fc.nat()).map(([bytes, at]) => bytes.subarray(0, at % bytes.length)),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)) },
)

describe('the handshake', () => {
  it('lets nobody in by noise, and hangs on nobody', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(noise, { minLength: 1, maxLength: 6 }),
        fc.boolean(),
        async (chunks, apart) => {
          const client = await RawClient.connect(relay.port)
          for (const chunk of chunks) {
            client.send(chunk)
            if (apart) await new Promise((resolve) => setImmediate(resolve))
          }
          client.socket.end()
          // Ends by itself: the server closes, or the client's end is noticed.
          while ((await client.bytes()) !== null);
          expect(relay.identities).toEqual([])
        },
      ),
      { numRuns: 250, seed: 20_261_122, endOnFailure: true },
    )
    const honest = await RawClient.connect(relay.port)
    honest.startup('ann')
    await honest.next()
    expect(await honest.scram('pencil')).toMatchObject({ message: { kind: 'ok' } })
    honest.close()
  }, 120_000)
})
