/**
 * Real drivers, directly and through regate: each runs its script of features (drivers/) against
 * the same server twice, and what it saw must be equal, line by line. The scripts print one line a
 * feature: its name, a tab, everything that came back.
 */
import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { startEmbeddedPostgres } from '../../src/control/embedded-postgres.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy } from '../support/proxy.ts'

export interface Driver {
  readonly name: string
  /** Debian's packages. */
  readonly packages: readonly string[]
  readonly command: readonly string[]
  /** Prints the version; fails when the driver is not there. */
  readonly version: readonly string[]
  /** Once, before the runs. */
  readonly prepare?: (directory: string) => readonly string[]
}

const scripts = resolve('test/conformance/drivers')
const jar = '/usr/share/java/postgresql.jar'
const scratch = mkdtempSync(join(tmpdir(), 'regate-drivers-'))
process.once('exit', () => {
  rmSync(scratch, { recursive: true, force: true })
})

const python = (module: string, file: string): Pick<Driver, 'command' | 'version'> => ({
  command: ['/usr/bin/python3', join(scripts, file)],
  version: ['/usr/bin/python3', '-c', `import ${module}; print(${module}.__version__.split()[0])`],
})

const npm = (name: string, file: string): Pick<Driver, 'command' | 'version'> => ({
  command: [process.execPath, join(scripts, file)],
  version: [process.execPath, '-p', `require('${name}/package.json').version`],
})

const shell = (name: string): Pick<Driver, 'command' | 'version'> => ({
  command: ['sh', join(scripts, `${name}_features.sh`)],
  version: ['sh', '-c', `${name} --version | grep -oE '[0-9]+(\\.[0-9]+)+' | head -1`],
})

export const drivers: readonly Driver[] = [
  { name: 'psql', packages: ['postgresql-client'], ...shell('psql') },
  { name: 'pgbench', packages: ['postgresql-contrib', 'postgresql'], ...shell('pgbench') },
  { name: 'node-postgres', packages: [], ...npm('pg', 'node-postgres.mjs') },
  {
    name: 'postgres.js',
    packages: [],
    command: [process.execPath, join(scripts, 'postgres-js.mjs')],
    version: [
      process.execPath,
      '-p',
      "JSON.parse(require('fs').readFileSync('node_modules/postgres/package.json')).version",
    ],
  },
  {
    name: 'psycopg 2',
    packages: ['python3-psycopg2'],
    ...python('psycopg2', 'psycopg2_features.py'),
  },
  {
    name: 'psycopg 3',
    packages: ['python3-psycopg'],
    ...python('psycopg', 'psycopg3_features.py'),
  },
  { name: 'asyncpg', packages: ['python3-asyncpg'], ...python('asyncpg', 'asyncpg_features.py') },
  {
    name: 'JDBC',
    packages: ['libpostgresql-jdbc-java', 'default-jdk-headless'],
    command: ['java', '-cp', `${jar}:${scratch}`, 'Features'],
    version: [
      'sh',
      '-c',
      "ls /usr/share/java/postgresql-4*.jar | grep -oE '[0-9]+(\\.[0-9]+)+' | head -1",
    ],
    prepare: (directory) => ['javac', '-cp', jar, '-d', directory, join(scripts, 'Features.java')],
  },
  {
    name: 'Ruby pg',
    packages: ['ruby-pg'],
    command: ['ruby', join(scripts, 'features.rb')],
    version: ['ruby', '-e', "require 'pg'; puts PG::VERSION"],
  },
  {
    name: 'Perl DBD::Pg',
    packages: ['libdbd-pg-perl'],
    command: ['/usr/bin/perl', join(scripts, 'features.pl')],
    version: ['/usr/bin/perl', '-MDBD::Pg', '-e', 'print $DBD::Pg::VERSION'],
  },
  {
    name: 'PHP pgsql and PDO',
    packages: ['php-cli', 'php-pgsql'],
    command: ['php', join(scripts, 'features.php')],
    version: ['php', '-r', "extension_loaded('pdo_pgsql') || exit(1); echo phpversion('pgsql');"],
  },
]

/** The driver's version, null when it is not installed. */
export function versionOf(driver: Driver): string | null {
  const [file = '', ...rest] = driver.version
  try {
    const text = execFileSync(file, rest, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
    return text === '' ? null : text
  } catch {
    return null
  }
}

export interface FeatureResult {
  readonly feature: string
  readonly direct: string
  readonly through: string
  readonly equal: boolean
}

export interface DriverResult {
  readonly driver: string
  readonly version: string
  readonly features: readonly FeatureResult[]
  /** What the runs wrote to stderr, when one of them failed. */
  readonly trouble: string
}

interface Run {
  readonly lines: ReadonlyMap<string, string>
  readonly trouble: string
}

async function run(driver: Driver, environment: Record<string, string>): Promise<Run> {
  const [file = '', ...rest] = driver.command
  const output = await new Promise<{ stdout: string; trouble: string }>((settle) => {
    const options = {
      env: { ...process.env, ...environment },
      timeout: 60_000,
      maxBuffer: 64 * 1024 * 1024,
    }
    execFile(file, rest, options, (error, stdout, stderr) => {
      settle({ stdout, trouble: error === null ? '' : `${error.message}\n${stderr}` })
    })
  })
  const lines = new Map<string, string>()
  for (const line of output.stdout.split('\n')) {
    const tab = line.indexOf('\t')
    if (tab > 0) lines.set(line.slice(0, tab), line.slice(tab + 1))
  }
  return { lines, trouble: output.trouble }
}

export interface Bench {
  readonly serverVersion: number
  compare(driver: Driver): Promise<DriverResult | null>
  stop(): Promise<void>
}

/** A server and regate in front of it, with the policy that allows everything. */
export async function startBench(version?: number): Promise<Bench> {
  const server: TestPostgres =
    version === undefined
      ? await startPostgres()
      : { ...(await startEmbeddedPostgres({ version })), version }
  const proxy = await startProxy(server, {
    bundle: resolve('test/conformance/policies/allow'),
  })
  const environment = (port: number): Record<string, string> => ({
    PGHOST: '127.0.0.1',
    PGPORT: String(port),
    PGUSER: server.user,
    PGPASSWORD: server.password,
    PGDATABASE: 'postgres',
    PGSSLMODE: 'disable',
    PGGSSENCMODE: 'disable',
    PGAPPNAME: 'drivers',
  })
  return {
    serverVersion: server.version,
    compare: async (driver) => {
      const known = versionOf(driver)
      if (known === null) return null
      if (driver.prepare !== undefined) {
        const [file = '', ...rest] = driver.prepare(scratch)
        execFileSync(file, rest, { stdio: 'inherit' })
      }
      const direct = await run(driver, environment(server.port))
      const through = await run(driver, environment(proxy.port))
      const names = new Set([...direct.lines.keys(), ...through.lines.keys()])
      const features = [...names].map((feature) => {
        const ours = through.lines.get(feature) ?? '(nothing)'
        const theirs = direct.lines.get(feature) ?? '(nothing)'
        return { feature, direct: theirs, through: ours, equal: ours === theirs }
      })
      const trouble = [
        direct.trouble && `directly: ${direct.trouble}`,
        through.trouble && `through regate: ${through.trouble}`,
      ].join('')
      return { driver: driver.name, version: known, features, trouble }
    },
    stop: async () => {
      await proxy.stop()
      await server.stop()
    },
  }
}
