/** Startup: exact at every split point, bounded, and nothing in plaintext behind an encryption request. */
import fc from 'fast-check'
import { serialize } from 'pg-protocol'
import { describe, expect, it } from 'vitest'
import { ProxyError } from '../../../src/core/core.ts'
import {
  encodeCancelRequest,
  encodeGssencRequest,
  encodeQuery,
  encodeSslRequest,
  encodeStartup,
  negotiate,
  StartupReader,
  written,
  type StartupMessage,
  type StartupRequest,
} from '../../../src/wire/wire.ts'

const limits = { startupBytesMax: 10_000 }
const parameters: [string, string][] = [
  ['user', 'ada'],
  ['database', 'shop'],
  ['application_name', 'psql — ü'],
  ['options', ''],
]
const startup = (version = 0x0003_0000, list = parameters) =>
  written((w) => encodeStartup(w, version, list))

function read(pieces: readonly Buffer[]): { request: StartupRequest | null; rest: Buffer } {
  const reader = new StartupReader(limits)
  let request: StartupRequest | null = null
  for (const piece of pieces) {
    reader.push(piece)
    request ??= reader.next()
  }
  return { request, rest: reader.takeRest() }
}

function faultOf(run: () => unknown): ProxyError {
  try {
    run()
  } catch (error) {
    if (error instanceof ProxyError) return error
    throw error
  }
  throw new Error('expected a ProxyError')
}

/** A startup packet by hand. */
function packet(body: string, declaredBytes = body.length + 4): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt32BE(declaredBytes >>> 0)
  return Buffer.concat([head, Buffer.from(body, 'latin1')])
}

describe('StartupReader', () => {
  it('reads a StartupMessage at every split point, and keeps what follows it', () => {
    const rest = written((w) => encodeQuery(w, 'select 1'))
    const bytes = Buffer.concat([startup(), rest])
    for (let at = 0; at <= bytes.length; at++) {
      const got = read([bytes.subarray(0, at), bytes.subarray(at)])
      expect(got.request).toEqual({
        kind: 'startup',
        version: 0x0003_0000,
        parameters: new Map(parameters),
        protocolOptions: new Map(),
      })
      expect(got.rest.equals(rest)).toBe(true)
    }
  })

  it('reads each request when every byte comes alone', () => {
    const secret = Buffer.from('0123456789abcdef')
    const cases: [Buffer, unknown][] = [
      [written(encodeSslRequest), { kind: 'ssl_request' }],
      [written(encodeGssencRequest), { kind: 'gssenc_request' }],
      [
        written((w) => encodeCancelRequest(w, 42, secret)),
        { kind: 'cancel_request', processId: 42, secret },
      ],
    ]
    for (const [bytes, expected] of cases) {
      const got = read(Array.from(bytes, (_, i) => bytes.subarray(i, i + 1)))
      expect(got.request).toEqual(expected)
    }
  })

  it('goes on after an encryption request that was answered', () => {
    const reader = new StartupReader(limits)
    reader.push(written(encodeGssencRequest))
    expect(reader.next()?.kind).toBe('gssenc_request')
    reader.push(written(encodeSslRequest))
    expect(reader.next()?.kind).toBe('ssl_request')
    expect(reader.next()).toBe(null)
    reader.push(startup())
    expect(reader.next()?.kind).toBe('startup')
  })

  it('refuses plaintext behind an encryption request: it is not part of the encrypted stream', () => {
    for (const request of [encodeSslRequest, encodeGssencRequest]) {
      const reader = new StartupReader(limits)
      reader.push(Buffer.concat([written(request), startup()]))
      const fault = faultOf(() => reader.next())
      expect([fault.sqlstate, fault.fatal]).toEqual(['08P01', true])
      expect(fault.message).toContain('received unencrypted data after')
      // Who catches this and reads on must not get the plaintext as a request after all.
      expect(faultOf(() => reader.next())).toBe(fault)
    }
  })

  it('recognises TLS that starts directly, by its first byte, and gives every byte back', () => {
    const hello = Buffer.from([0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5])
    for (let at = 1; at <= hello.length; at++) {
      const got = read([hello.subarray(0, at), hello.subarray(at)])
      expect(got.request).toEqual({ kind: 'direct_tls' })
      expect(got.rest.equals(hello)).toBe(true)
    }
  })

  it('takes direct TLS only as the first thing on a connection', () => {
    const reader = new StartupReader(limits)
    reader.push(written(encodeSslRequest))
    reader.next()
    reader.push(Buffer.from([0x16, 3, 1, 0, 5]))
    expect(faultOf(() => reader.next()).sqlstate).toBe('08P01')
  })

  it.each([0, 4, 7, 10_005, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff])(
    'refuses the length %d from its four bytes alone',
    (declaredBytes) => {
      const reader = new StartupReader(limits)
      reader.push(packet('', declaredBytes))
      expect(faultOf(() => reader.next()).message).toBe('invalid length of startup packet')
    },
  )

  it('takes the longest packet that PostgreSQL takes', () => {
    const value = 'x'.repeat(10_000 - 4 - 'user'.length - 1 - 1 - 1)
    const bytes = startup(0x0003_0000, [['user', value]])
    expect(bytes.readUInt32BE(0)).toBe(10_004)
    expect(read([bytes]).request?.kind).toBe('startup')
    const reader = new StartupReader(limits)
    reader.push(startup(0x0003_0000, [['user', `${value}x`]]))
    expect(() => reader.next()).toThrow(ProxyError)
  })

  it.each<[string, string]>([
    ['no terminator', '\0\x03\0\0user\0ada\0'],
    ['no parameters and no terminator', '\0\x03\0\0'],
    ['a name without value', '\0\x03\0\0user\0'],
    ['an unterminated value', '\0\x03\0\0user\0ada'],
    ['two terminators', '\0\x03\0\0user\0ada\0\0\0'],
    ['parameters behind the terminator', '\0\x03\0\0user\0ada\0\0user\0eve\0\0'],
    ['a parameter twice', '\0\x03\0\0user\0ada\0user\0eve\0\0'],
    ['a setting twice, in other letters', '\0\x03\0\0DateStyle\0a\0datestyle\0b\0\0'],
    ['an SSLRequest with a body', '\x04\xd2\x16\x2fx'],
    ['a GSSENCRequest with a body', '\x04\xd2\x16\x30x'],
    ['a CancelRequest without process id', '\x04\xd2\x16\x2e'],
    ['a CancelRequest with a secret of 3 bytes', '\x04\xd2\x16\x2e\0\0\0\x01abc'],
    ['a CancelRequest with a secret of 257 bytes', `\x04\xd2\x16\x2e\0\0\0\x01${'k'.repeat(257)}`],
  ])('refuses %s', (_case, body) => {
    const fault = faultOf(() => read([packet(body)]))
    expect([fault.sqlstate, fault.fatal]).toEqual(['08P01', true])
  })

  it('refuses another major version with what it speaks', () => {
    for (const version of [0x0002_0000, 0x0004_0000, 80_877_105]) {
      const fault = faultOf(() => read([startup(version)]))
      expect([fault.sqlstate, fault.fatal]).toEqual(['0A000', true])
      expect(fault.message).toMatch(
        /^unsupported frontend protocol \d+\.\d+: server supports 3.0 to 3.2$/,
      )
    }
  })

  it('refuses an HTTP request at once', () => {
    const fault = faultOf(() => read([Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n')]))
    expect(fault.message).toBe('invalid length of startup packet')
    expect(fault.hint).toContain('HTTP')
  })

  it('refuses names and values that are not UTF-8', () => {
    for (const body of ['\0\x03\0\0us\xffer\0a\0\0', '\0\x03\0\0user\0\xff\0\0']) {
      expect(faultOf(() => read([packet(body)])).sqlstate).toBe('22021')
    }
  })

  it('reads what pg-protocol writes', () => {
    const theirs = serialize.startup({ user: 'ada', database: 'shop' })
    const request = read([theirs]).request as StartupMessage
    expect(Object.fromEntries(request.parameters)).toEqual({
      user: 'ada',
      database: 'shop',
      client_encoding: 'UTF8',
    })
    expect(read([serialize.requestSsl()]).request).toEqual({ kind: 'ssl_request' })
    expect(read([serialize.cancel(7, 258)]).request).toEqual({
      kind: 'cancel_request',
      processId: 7,
      secret: Buffer.from([0, 0, 1, 2]),
    })
  })

  it('never throws anything but a ProxyError, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.integer({ min: 0, max: 80 }), (body, n) => {
        try {
          read([packet(Buffer.from(body).toString('latin1'), n)])
        } catch (error) {
          expect(error).toBeInstanceOf(ProxyError)
        }
      }),
      { numRuns: 2000 },
    )
  })
})

describe('negotiate', () => {
  const asked = (version: number, list: [string, string][] = parameters) =>
    negotiate(read([startup(version, list)]).request as StartupMessage)

  it('speaks 3.0 and 3.2 as asked, without a word', () => {
    for (const version of [0x0003_0000, 0x0003_0001, 0x0003_0002]) {
      expect(asked(version)).toEqual({ version, unrecognizedOptions: [], announced: false })
    }
  })

  it('announces 3.2 to a client that asks for more', () => {
    expect(asked(0x0003_270f)).toEqual({
      version: 0x0003_0002,
      unrecognizedOptions: [],
      announced: true,
    })
  })

  it('announces the protocol options that it does not know, and keeps them from the settings', () => {
    const list: [string, string][] = [
      ['user', 'a'],
      ['_pq_.grease', 'x'],
    ]
    expect(asked(0x0003_0002, list)).toEqual({
      version: 0x0003_0002,
      unrecognizedOptions: ['_pq_.grease'],
      announced: true,
    })
    const request = read([startup(0x0003_0002, list)]).request as StartupMessage
    expect([...request.parameters.keys()]).toEqual(['user'])
  })
})
