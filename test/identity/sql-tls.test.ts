/** `regate sql` and TLS: what a connection URL asks for is what it gets, or there is no connection. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { cancelSql, connectSql, readConnection } from '../../src/commands/sql-connection.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { TestAuthority } from './support/certificates.ts'

const defaults = { host: '127.0.0.1', port: 6432, user: 'ann', database: undefined }
const read = (url: string | null, environment = {}) => readConnection(url, defaults, environment)

let authority: TestAuthority
let other: TestAuthority
let plain: TestPostgres
let secure: TestPostgres

beforeAll(async () => {
  authority = new TestAuthority()
  other = new TestAuthority('another CA')
  const pair = authority.issue('server', '/CN=localhost', ['DNS:localhost'])
  const tls = { cert: authority.read(pair.cert), key: authority.read(pair.key) }
  plain = await startPostgres()
  secure = await startPostgres({ tls: { ...tls, ca: authority.read(authority.ca) } })
})

afterAll(async () => {
  await plain.stop()
  await secure.stop()
  authority.remove()
  other.remove()
})

/** Whether the session is encrypted, or why there is none. */
async function encrypted(server: TestPostgres, host: string, query: string, environment = {}) {
  const url = `postgres://${server.user}:${server.password}@${host}:${server.port}/postgres${query}`
  try {
    const connection = read(url, environment)
    const client = await connectSql(connection, connection.password)
    try {
      const sql = 'SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'
      const { rows } = await client.query<{ ssl: string }>(sql)
      return rows[0]?.ssl === 't'
    } finally {
      await client.end()
    }
  } catch (error) {
    return (error as Error).message
  }
}

describe('sslmode', () => {
  test.each(['require', 'verify-ca', 'verify-full'])(
    '%s is no connection where the listener has no TLS',
    async (mode) => {
      const why = 'The server does not support SSL connections'
      expect(await encrypted(plain, '127.0.0.1', `?sslmode=${mode}`)).toBe(why)
      expect(await encrypted(plain, '127.0.0.1', '', { PGSSLMODE: mode })).toBe(why)
    },
  )

  test.each([
    ['?sslmode=disable', false],
    ['?sslmode=allow', false],
    ['?sslmode=prefer', true],
    ['', true],
    ['?sslmode=require', true],
    // Nobody vouches for the server's own authority here.
    ['?sslmode=verify-ca', expect.stringMatching(/certificate/)],
    ['?sslmode=verify-full', expect.stringMatching(/certificate/)],
  ])('%s with a listener that has TLS', async (query, outcome) => {
    expect(await encrypted(secure, 'localhost', query)).toEqual(outcome)
  })

  test.each(['', '?sslmode=prefer', '?sslmode=allow', '?sslmode=disable'])(
    '%s with a listener that has none',
    async (query) => {
      expect(await encrypted(plain, '127.0.0.1', query)).toBe(false)
    },
  )

  test('sslrootcert is who vouches, and verify-full checks the name', async () => {
    const root = `&sslrootcert=${authority.ca}`
    expect(await encrypted(secure, 'localhost', `?sslmode=verify-full${root}`)).toBe(true)
    expect(await encrypted(secure, '127.0.0.1', `?sslmode=verify-ca${root}`)).toBe(true)
    expect(await encrypted(secure, '127.0.0.1', `?sslmode=verify-full${root}`)).toMatch(/IP/)
    const wrong = `&sslrootcert=${other.ca}`
    for (const mode of ['require', 'verify-ca', 'verify-full']) {
      expect(await encrypted(secure, 'localhost', `?sslmode=${mode}${wrong}`)).toMatch(
        /certificate|signature/,
      )
    }
  })

  test('a cancel goes the same way', async () => {
    const url = `postgres://${secure.user}:${secure.password}@localhost:${secure.port}/postgres?sslmode=verify-full&sslrootcert=${authority.ca}`
    const connection = read(url)
    const client = await connectSql(connection, connection.password)
    const running = client.query('SELECT pg_sleep(30)').catch((error: unknown) => error)
    await new Promise((resolve) => setTimeout(resolve, 100))
    await cancelSql(client, connection)
    expect(await running).toMatchObject({ code: '57014' })
    await client.end()
  })
})

describe('a connection URL', () => {
  test('what it does not know is refused, never passed over', () => {
    expect(() => read('postgres://h/d?channel_binding=require')).toThrow(/channel_binding/)
    expect(() => read('postgres://h/d?sslmode=verify_full')).toThrow(/sslmode is verify_full/)
    expect(() => read('postgres://h/d?sslMode=require')).toThrow(/sslMode/)
    expect(() => read('postgres://h/d?sslrootcert=/no/such/file')).toThrow(/sslrootcert/)
    expect(() => read('postgres://h/d?sslmode=require&sslrootcert=system')).toThrow(/too weak/)
    expect(() => read(null, { PGSSLMODE: 'on' })).toThrow(/sslmode is on/)
  })

  test('a URL that is none is said without its password', () => {
    expect(() => read('postgres://ann:s3cret@h:port/d')).toThrow(/^(?!.*s3cret).*\/\/…@h:port\/d$/)
  })

  test('it wins over the command line, and its last value over earlier ones', () => {
    const url = 'postgres://b%40b:p%20w@[::1]:7000/sh%20op?sslmode=disable&sslmode=require'
    const { target, user, password } = read(url, { PGSSLMODE: 'disable' })
    expect([target.host, target.port, target.database]).toEqual(['::1', 7000, 'sh op'])
    expect([user, password, target.tls.mode]).toEqual(['b@b', 'p w', 'require'])
  })

  test('the database is the user where nothing names one, as with psql', () => {
    expect(read('postgres://bob@h').target.database).toBe('bob')
    expect(read(null).target).toMatchObject({ host: '127.0.0.1', port: 6432, database: 'ann' })
  })
})
