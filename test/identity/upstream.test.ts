/** connectUpstream and sendCancel against a real PostgreSQL: every method, every TLS mode. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import net from 'node:net'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { defaultLimits, Interrupt, ProxyError, systemClock } from '../../src/core/core.ts'
import {
  commandSecret,
  connectUpstream,
  environmentSecret,
  fileSecret,
  sendCancel,
  type Secret,
  type UpstreamOptions,
  type UpstreamTarget,
  type UpstreamTls,
} from '../../src/upstream/upstream.ts'
import { decodeErrorOrNotice, encodeQuery, FrameReader, written } from '../../src/wire/wire.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { TestAuthority } from './support/certificates.ts'

const password = 'pässwörd \\ "quoted"'
const noTls: UpstreamTls = {
  mode: 'disable',
  ca: null,
  cert: null,
  key: null,
  crl: null,
  serverName: null,
  negotiation: 'postgres',
}
const constant = (value: string): Secret => ({
  read: () => Promise.resolve(value),
  invalidate: () => undefined,
})

let authority: TestAuthority
let otherAuthority: TestAuthority
let server: TestPostgres

beforeAll(async () => {
  authority = new TestAuthority()
  otherAuthority = new TestAuthority('another CA')
  const pair = authority.issue('server', '/CN=db.example', ['DNS:localhost', 'DNS:db.example'])
  server = await startPostgres({
    tls: {
      cert: authority.read(pair.cert),
      key: authority.read(pair.key),
      ca: authority.read(authority.ca),
    },
    hba: [
      'hostssl all certified all cert',
      'hostnossl all tlsonly all reject',
      'hostssl all nontls all reject',
      'host all plain all password',
      'host all hashed all md5',
      'host all trusted all trust',
      'local all all trust',
      'host all all all scram-sha-256',
    ],
  })
  await execute(
    server,
    `SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'secret';
     SET password_encryption = 'scram-sha-256';
     CREATE ROLE app LOGIN PASSWORD E'${password.replaceAll('\\', '\\\\')}';
     CREATE ROLE plain LOGIN PASSWORD 'secret';
     CREATE ROLE trusted LOGIN; CREATE ROLE certified LOGIN;
     CREATE ROLE tlsonly LOGIN PASSWORD 'secret'; CREATE ROLE nontls LOGIN PASSWORD 'secret';
     CREATE ROLE odd LOGIN PASSWORD 'secret';
     ALTER ROLE odd SET standard_conforming_strings = off;
     ALTER ROLE odd SET client_encoding = 'LATIN1'; CREATE DATABASE shop`.replace(
      '; CREATE DATABASE shop',
      '',
    ),
  )
}, 120_000)

afterAll(async () => {
  await server.stop()
  authority.remove()
  otherAuthority.remove()
})

function target(
  tls: Partial<UpstreamTls> = {},
  over: Partial<UpstreamTarget> = {},
): UpstreamTarget {
  return {
    host: 'localhost',
    port: server.port,
    database: 'postgres',
    tls: { ...noTls, ...tls },
    ...over,
  }
}

async function connect(
  user: string,
  secret: Secret | null,
  tls: Partial<UpstreamTls> = {},
  over: Partial<UpstreamOptions> = {},
) {
  const connection = await connectUpstream({
    target: target(tls),
    role: { user, secret },
    parameters: new Map(),
    protocolMinor: 0,
    limits: defaultLimits,
    ...over,
  })
  return connection
}

/** One text value of one row. */
async function ask(connection: Awaited<ReturnType<typeof connect>>, sql: string): Promise<string> {
  const reader = new FrameReader({ frameBytesMax: 1_000_000 })
  connection.socket.write(written((writer) => encodeQuery(writer, sql)))
  let value = ''
  return new Promise((resolve, reject) => {
    connection.socket.on('close', () => resolve(value))
    connection.socket.on('data', (chunk: Buffer) => {
      reader.push(chunk)
      while (reader.next() === 'frame') {
        const type = String.fromCharCode(reader.type)
        if (type === 'D') value = reader.buffer.toString('utf8', reader.start + 11, reader.end)
        if (type === 'E') value = decodeErrorOrNotice(reader).get('C') ?? ''
        if (type === 'Z') {
          connection.socket.removeAllListeners('data')
          resolve(value)
        }
      }
    })
    connection.socket.on('error', reject)
  })
}

async function fault(attempt: Promise<unknown>): Promise<ProxyError> {
  const error = await attempt.then(
    () => new Error('it connected'),
    (reason: unknown) => reason,
  )
  if (!(error instanceof ProxyError)) throw error
  return error
}

describe('authentication upstream', () => {
  it.each([
    ['app', password],
    ['hashed', 'secret'],
    ['plain', 'secret'],
    ['trusted', null],
  ])('logs in as %s', async (user, secret) => {
    const connection = await connect(user, secret === null ? null : constant(secret))
    expect(await ask(connection, 'SELECT current_user')).toBe(user)
    expect(connection.serverVersion).toBeGreaterThanOrEqual(140_000)
    expect(connection.parameters.get('server_encoding')).toBe('UTF8')
    expect(connection.pending).toHaveLength(0)
    expect(connection.secret.length).toBeGreaterThanOrEqual(4)
    connection.socket.destroy()
  })

  it('binds SCRAM to the TLS channel where the server offers it', async () => {
    const connection = await connect('app', constant(password), {
      mode: 'verify-full',
      ca: authority.read(authority.ca),
    })
    expect(connection.encrypted).toBe(true)
    expect(await ask(connection, 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()')).toBe(
      't',
    )
    connection.socket.destroy()
  })

  it('comes in over the Unix socket', async ({ skip }) => {
    const host = server.socketDirectory ?? skip('the server has no Unix socket')
    const connection = await connect(
      'app',
      null,
      {},
      {
        target: target({ mode: 'verify-full' }, { host }),
      },
    )
    expect(await ask(connection, 'SELECT inet_client_addr() IS NULL')).toBe('t')
    connection.socket.destroy()
  })

  it('speaks protocol 3.2 with a server that does, and 3.0 with one that does not', async () => {
    const connection = await connect('app', constant(password), {}, { protocolMinor: 2 })
    const minor = connection.serverVersion >= 180_000 ? 2 : 0
    expect(connection.protocolMinor).toBe(minor)
    expect(connection.secret.length).toBe(minor === 2 ? 32 : 4)
    connection.socket.destroy()
  })

  it('hides the server’s message about regate’s own credentials, and says so', async () => {
    const error = await fault(connect('app', constant('wrong')))
    expect(error.code).toBe('upstream_rejected')
    expect(error.sqlstate).toBe('08004')
    expect(`${error.message} ${error.detail} ${error.hint}`).not.toContain('app')
    expect((error.cause as Error).message).toContain('password authentication failed')
  })

  it('reads the secret again when it was refused, once', async () => {
    let reads = 0
    let invalidated = 0
    const rotating: Secret = {
      read: () => Promise.resolve(++reads === 1 ? 'old' : password),
      invalidate: () => {
        invalidated++
      },
    }
    const connection = await connect('app', rotating)
    expect([reads, invalidated]).toEqual([2, 1])
    connection.socket.destroy()
  })

  it('shows the server’s own error where it is about the client’s wish', async () => {
    const missing = await fault(
      connect('app', constant(password), {}, { target: target({}, { database: 'nowhere' }) }),
    )
    expect(missing.sqlstate).toBe('3D000')
    expect(missing.message).toContain('database "nowhere" does not exist')
    const bad = await fault(
      connect('app', constant(password), {}, { parameters: new Map([['work_mem', 'lots']]) }),
    )
    expect(bad.sqlstate).toBe('22023')
  })

  it('pins how the server reads SQL over what the role has stored', async () => {
    const connection = await connect('odd', constant('secret'))
    expect(await ask(connection, 'SHOW standard_conforming_strings')).toBe('on')
    expect(await ask(connection, 'SHOW client_encoding')).toBe('UTF8')
    connection.socket.destroy()
  })

  it('does not let a caller’s parameter replace a pinned one', async () => {
    const parameters = new Map([
      ['Client_Encoding', 'LATIN1'],
      ['application_name', 'x'],
    ])
    const connection = await connect('app', constant(password), {}, { parameters })
    expect(await ask(connection, 'SHOW client_encoding')).toBe('UTF8')
    connection.socket.destroy()
  })
})

describe('TLS upstream', () => {
  it('verify-full refuses another CA, another name, and a server without TLS', async () => {
    const secret = constant(password)
    const ca = authority.read(authority.ca)
    const foreign = await fault(
      connect('app', secret, { mode: 'verify-full', ca: otherAuthority.read(otherAuthority.ca) }),
    )
    expect(foreign.code).toBe('upstream_unreachable')
    const named = await fault(
      connect('app', secret, { mode: 'verify-full', ca, serverName: 'evil.example' }),
    )
    expect(named.detail).toContain('evil.example')
    const address = await fault(
      connect(
        'app',
        secret,
        {},
        { target: target({ mode: 'verify-full', ca }, { host: '127.0.0.1' }) },
      ),
    )
    expect(address.code).toBe('upstream_unreachable')
  })

  it('verify-ca checks the chain and not the name, require neither', async () => {
    const secret = constant(password)
    const ca = authority.read(authority.ca)
    const host = '127.0.0.1'
    for (const tls of [{ mode: 'verify-ca', ca } as const, { mode: 'require' } as const]) {
      const connection = await connect('app', secret, {}, { target: target(tls, { host }) })
      expect(connection.encrypted).toBe(true)
      connection.socket.destroy()
    }
    const foreign = otherAuthority.read(otherAuthority.ca)
    expect((await fault(connect('app', secret, { mode: 'verify-ca', ca: foreign }))).code).toBe(
      'upstream_unreachable',
    )
    expect((await fault(connect('app', secret, { mode: 'require', ca: foreign }))).code).toBe(
      'upstream_unreachable',
    )
  })

  it('prefer and allow take the other way when pg_hba.conf refuses the first', async () => {
    const secret = constant('secret')
    const allowed = await connect('tlsonly', secret, { mode: 'allow' })
    expect(allowed.encrypted).toBe(true)
    allowed.socket.destroy()
    const preferred = await connect('nontls', secret, { mode: 'prefer' })
    expect(preferred.encrypted).toBe(false)
    preferred.socket.destroy()
    expect((await fault(connect('nontls', secret, { mode: 'require' }))).code).toBe(
      'upstream_rejected',
    )
  })

  it('shows a client certificate', async () => {
    const pair = authority.issue('certified', '/CN=certified')
    const tls = {
      mode: 'verify-full',
      ca: authority.read(authority.ca),
      cert: authority.read(pair.cert),
      key: authority.read(pair.key),
    } as const
    const connection = await connect('certified', null, tls)
    expect(await ask(connection, 'SELECT current_user')).toBe('certified')
    connection.socket.destroy()
    expect((await fault(connect('certified', null, { ...tls, cert: null, key: null }))).code).toBe(
      'upstream_rejected',
    )
  })

  it('negotiates TLS directly with PostgreSQL 17 and later', async ({ skip }) => {
    const probe = await connect('app', constant(password))
    probe.socket.destroy()
    if (probe.serverVersion < 170_000) skip('the server is older than PostgreSQL 17')
    const connection = await connect('app', constant(password), {
      mode: 'verify-full',
      ca: authority.read(authority.ca),
      negotiation: 'direct',
    })
    expect(connection.encrypted).toBe(true)
    connection.socket.destroy()
  })
})

describe('cancel', () => {
  it.each(['disable', 'verify-full'] as const)('stops a statement (tls %s)', async (mode) => {
    const tls = mode === 'disable' ? {} : { mode, ca: authority.read(authority.ca) }
    const connection = await connect('app', constant(password), tls)
    const answer = ask(connection, 'SELECT pg_sleep(60)')
    await new Promise((resolve) => setTimeout(resolve, 200))
    await sendCancel(target(tls), connection.processId, connection.secret)
    expect(await answer).toBe('57014')
    connection.socket.destroy()
  })

  it('resolves for a key that is not right, and hits nothing', async () => {
    const connection = await connect('app', constant(password))
    const answer = ask(connection, 'SELECT pg_sleep(0.5)::text')
    await sendCancel(target(), connection.processId, Buffer.alloc(connection.secret.length, 7))
    expect(await answer).toBe('')
    connection.socket.destroy()
  })
})

describe('a server that is down, slow or hostile', () => {
  async function hostile(onClient: (socket: net.Socket) => void) {
    const sockets: net.Socket[] = []
    const listener = net.createServer((socket) => {
      socket.on('error', () => undefined)
      sockets.push(socket)
      onClient(socket)
    })
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve))
    const { port } = listener.address() as net.AddressInfo
    return {
      port,
      sockets,
      stop: () => {
        for (const socket of sockets) socket.destroy()
        listener.close()
      },
    }
  }

  async function meet(
    onClient: (socket: net.Socket) => void,
    tls: Partial<UpstreamTls> = {},
    limits = defaultLimits as { readonly upstreamConnectMsMax: number },
  ): Promise<ProxyError> {
    const fake = await hostile(onClient)
    try {
      return await fault(
        connect(
          'app',
          constant('s3cret-value'),
          {},
          {
            target: target(tls, { host: '127.0.0.1', port: fake.port }),
            limits: { ...defaultLimits, ...limits },
          },
        ),
      )
    } finally {
      fake.stop()
    }
  }

  it('that does not listen is 08001', async () => {
    const fake = await hostile(() => undefined)
    fake.stop()
    const error = await fault(
      connect('app', null, {}, { target: target({}, { host: '127.0.0.1', port: fake.port }) }),
    )
    expect(error.sqlstate).toBe('08001')
    expect(error.detail).toContain('ECONNREFUSED')
  })

  it.each([
    ['plain', {}],
    ['TLS', { mode: 'require' as const }],
  ])('that never answers is 08001 after the limit (%s)', async (_name, tls) => {
    const error = await meet(() => undefined, tls, { upstreamConnectMsMax: 300 })
    expect(error.sqlstate).toBe('08001')
  })

  it('that never answers keeps waiting logins no longer than the limit, and no other server', async () => {
    const fake = await hostile((socket) => void socket.resume())
    const limits = { ...defaultLimits, upstreamConnectMsMax: 500, upstreamLoginCountMax: 1 }
    const dead = { target: target({}, { host: '127.0.0.1', port: fake.port }), limits }
    const stuck = [1, 2, 3].map(() => fault(connect('app', null, {}, dead)))
    const alive = await connect(
      'app',
      constant(password),
      {},
      { limits: { ...limits, upstreamConnectMsMax: 15_000 } },
    )
    alive.socket.destroy()
    for (const error of await Promise.all(stuck)) {
      expect(error.sqlstate).toBe('08001')
      expect(error.detail).toContain('timeout')
    }
    // Only one of them was on its way at a time.
    expect(fake.sockets.length).toBeLessThanOrEqual(2)
    fake.stop()
  })

  it('that closes at once is 08001', async () => {
    expect((await meet((socket) => socket.end())).sqlstate).toBe('08001')
  })

  it('that injects bytes before TLS is dropped', async () => {
    const error = await meet((socket) => void socket.write('SR\0\0\0\x08\0\0\0\0'), {
      mode: 'require',
    })
    expect(error.detail).toContain('before the TLS handshake')
  })

  it('that answers SSLRequest with an error is not quoted', async () => {
    const error = await meet((socket) => void socket.write('EFATAL forged text\0'), {
      mode: 'require',
    })
    expect(JSON.stringify([error.message, error.detail])).not.toContain('forged')
  })

  it('that says AuthenticationOk in the middle of SCRAM is an impostor', async () => {
    const sasl = Buffer.from('R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0')
    sasl.writeUInt32BE(sasl.length - 1, 1)
    const error = await meet((socket) => {
      socket.once('data', () => {
        socket.write(sasl)
        socket.once('data', () => socket.write(Buffer.from('R\0\0\0\x08\0\0\0\0')))
      })
    })
    expect(error.detail).toContain('before it proved')
  })

  it.each([
    ['garbage', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['a huge frame', Buffer.from([0x53, 0x7f, 0xff, 0xff, 0xff])],
    ['a row', Buffer.from('D\0\0\0\x06\0\0')],
    ['ready at once', Buffer.from('Z\0\0\0\x05I')],
  ])('that sends %s is refused', async (_name, bytes) => {
    const error = await meet((socket) => void socket.once('data', () => socket.write(bytes)))
    expect(['08004', '08P01', '54000']).toContain(error.sqlstate)
  })

  it('that pretends another version is refused', async () => {
    const reply = (name: string, value: string): Buffer => {
      const body = Buffer.from(`${name}\0${value}\0`)
      const head = Buffer.from('S\0\0\0\0')
      head.writeUInt32BE(body.length + 4, 1)
      return Buffer.concat([head, body])
    }
    const error = await meet((socket) => {
      socket.once('data', () =>
        socket.write(
          Buffer.concat([
            Buffer.from('R\0\0\0\x08\0\0\0\0'),
            reply('server_version', '13.2'),
            Buffer.from('K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I'),
          ]),
        ),
      )
    })
    expect(error.code).toBe('unsupported_server')
  })

  it('leaves no connection behind when the client gives up', async () => {
    const fake = await hostile((socket) => void socket.resume())
    const interrupt = new Interrupt()
    const attempt = connect(
      'app',
      null,
      {},
      {
        target: target({}, { host: '127.0.0.1', port: fake.port }),
        interrupt,
      },
    )
    await new Promise((resolve) => setTimeout(resolve, 100))
    interrupt.raise(new Error('left'))
    await fault(attempt)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(fake.sockets.every((socket) => socket.readableEnded || socket.destroyed)).toBe(true)
    fake.stop()
  })
})

describe('secrets', () => {
  let directory: string
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'regate-secret-'))
  })
  afterAll(() => rmSync(directory, { recursive: true }))

  it('from the environment are read at each use', async () => {
    const env: Record<string, string> = { DB: 'one' }
    const secret = environmentSecret('DB', env)
    expect(await secret.read()).toBe('one')
    env['DB'] = 'two'
    expect(await secret.read()).toBe('two')
    await expect(environmentSecret('NONE', env).read()).rejects.toThrow('no password')
  })

  it('from a file are read again when it changed, without the last newline', async () => {
    const path = join(directory, 'secret')
    writeFileSync(path, 'one\n')
    const secret = fileSecret(path)
    expect(await secret.read()).toBe('one')
    writeFileSync(path, 'longer\r\n')
    expect(await secret.read()).toBe('longer')
    writeFileSync(path, '')
    await expect(secret.read()).rejects.toThrow('no password')
    await expect(fileSecret(join(directory, 'none')).read()).rejects.toThrow('no password')
  })

  it('from a command are kept for their time, made once for many, and made anew when refused', async () => {
    const script = join(directory, 'make')
    writeFileSync(
      script,
      `#!/bin/sh\necho x >> ${join(directory, 'runs')}\nwc -l < ${join(directory, 'runs')} | tr -d ' '\n`,
    )
    chmodSync(script, 0o755)
    let nowMs = 0
    const clock = { nowMs: () => nowMs, monotonicUs: () => 0 }
    const secret = commandSecret({ command: [script], maxAgeMs: 1_000, clock })
    expect(await Promise.all([secret.read(), secret.read()])).toEqual(['1', '1'])
    expect(await secret.read()).toBe('1')
    nowMs = 1_001
    expect(await secret.read()).toBe('2')
    secret.invalidate()
    expect(await secret.read()).toBe('3')
  })

  it('of a command that fails are in no error', async () => {
    const secret = commandSecret({
      command: 'echo the-secret; echo it broke >&2; exit 3',
      maxAgeMs: 1_000,
      clock: systemClock,
    })
    const error = await fault(secret.read())
    const all = JSON.stringify([error.message, error.detail, String(error.cause), error.hint])
    expect(all).not.toContain('the-secret')
    expect(all).toContain('failed (3)')
  })
})
