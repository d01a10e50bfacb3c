/**
 * A real PostgreSQL for a test: embedded by default, or as `REGATE_TEST_POSTGRES` says:
 * `embedded`, `debian` (the operating system's installation), `testcontainers` (needs Docker), or a
 * URL of a superuser on an existing server. It logs every statement, so that a test can prove what
 * reached the server and what did not. Always stop() it.
 */
import pg from 'pg'
import {
  startEmbeddedPostgres,
  type EmbeddedPostgresOptions,
} from '../../src/control/embedded-postgres.ts'

export interface TestPostgres {
  readonly host: string
  readonly port: number
  /** A superuser. */
  readonly user: string
  readonly password: string
  /** Major version. */
  readonly version: number
  /** Directory of the Unix socket where there is one. */
  readonly socketDirectory: string | null
  /** Connection URL of the superuser. */
  url(database?: string): string
  /** The server's log with every statement; '' where the server is not ours (a URL). */
  log(): string
  /** A signal to the postmaster; only embedded servers. */
  kill(signal: NodeJS.Signals): void
  stop(): Promise<void>
}

export type TestPostgresOptions = EmbeddedPostgresOptions

/** Starts (or borrows) a server; see the head of this file. */
export async function startPostgres(options: TestPostgresOptions = {}): Promise<TestPostgres> {
  const choice = process.env['REGATE_TEST_POSTGRES'] ?? 'embedded'
  const settings = { log_statement: 'all', ...options.settings }
  if (choice === 'testcontainers') return await startContainer({ ...options, settings })
  if (/^postgres(ql)?:\/\//.test(choice)) return await borrow(choice, options)
  if (choice === 'debian' && options.version === undefined) {
    return await startEmbeddedPostgres({ ...options, settings, version: 15 })
  }
  return await startEmbeddedPostgres({ ...options, settings })
}

/** Runs SQL (one or many statements) as the superuser. */
export async function execute(server: TestPostgres, sql: string, database = 'postgres') {
  const client = new pg.Client({ connectionString: server.url(database) })
  await client.connect()
  try {
    return await client.query(sql)
  } finally {
    await client.end()
  }
}

async function createUsers(url: string, options: TestPostgresOptions): Promise<number> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    for (const [name, user] of Object.entries(options.users ?? {})) {
      const role = pg.escapeIdentifier(name)
      const known = await client.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [name])
      await client.query(
        `${known.rowCount === 0 ? 'CREATE' : 'ALTER'} ROLE ${role} LOGIN ` +
          `${user.superuser === true ? 'SUPERUSER' : ''} PASSWORD ${pg.escapeLiteral(user.password)}`,
      )
    }
    const facts = await client.query<{ version: string }>(
      "SELECT current_setting('server_version_num') AS version",
    )
    return Math.trunc(Number(facts.rows[0]?.version) / 10_000)
  } finally {
    await client.end()
  }
}

async function borrow(url: string, options: TestPostgresOptions): Promise<TestPostgres> {
  const parsed = new URL(url)
  const version = await createUsers(url, options)
  if (options.version !== undefined && options.version !== version) {
    throw new Error(`REGATE_TEST_POSTGRES is version ${version}, the test needs ${options.version}`)
  }
  return {
    host: parsed.hostname,
    port: Number(parsed.port || 5432),
    user: decodeURIComponent(parsed.username),
    password: decodeURIComponent(parsed.password),
    version,
    socketDirectory: null,
    url: (database = 'postgres') => Object.assign(new URL(url), { pathname: `/${database}` }).href,
    log: () => '',
    kill: () => {
      throw new Error('this server belongs to somebody else')
    },
    stop: () => Promise.resolve(),
  }
}

async function startContainer(options: TestPostgresOptions): Promise<TestPostgres> {
  const { GenericContainer, Wait } = await import('testcontainers')
  const version = options.version ?? 18
  const flags = Object.entries(options.settings ?? {}).flatMap(([name, value]) => [
    '-c',
    `${name}=${String(value)}`,
  ])
  const lines: string[] = []
  const container = await new GenericContainer(`postgres:${version}-alpine`)
    .withEnvironment({ POSTGRES_PASSWORD: 'regate' })
    .withCommand(['postgres', '-c', 'fsync=off', ...flags])
    .withExposedPorts(5432)
    .withLogConsumer((stream) => stream.on('data', (line: Buffer) => lines.push(line.toString())))
    .withWaitStrategy(Wait.forLogMessage(/ready to accept connections/, 2))
    .start()
  const host = container.getHost()
  const port = container.getMappedPort(5432)
  const url = (database = 'postgres'): string =>
    `postgres://postgres:regate@${host}:${port}/${database}`
  await createUsers(url(), options)
  return {
    ...{ host, port, user: 'postgres', password: 'regate', version, socketDirectory: null, url },
    log: () => lines.join(''),
    kill: () => {
      throw new Error('containers take no signal here')
    },
    stop: async () => {
      await container.stop()
    },
  }
}
