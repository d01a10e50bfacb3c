/**
 * A PostgreSQL 15 of its own for the oracles over PostgreSQL's regression suite, and the suite itself:
 * fetched from Debian and built by scripts/regress/run.mjs where it is not there yet.
 */
import { spawnSync } from 'node:child_process'
import {
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { startEmbeddedPostgres } from '../../src/control/embedded-postgres.ts'
import { execute } from '../support/postgres.ts'

const version = 15
/** pg_regress makes it under this name. */
export const suiteDatabase = 'regression'

export interface SuiteServer {
  /** The folder with `sql/`, `parallel_schedule` and `regress.so`. */
  readonly suite: string
  /** The superuser's URL of the database `regression`. */
  readonly url: string
  stop(): Promise<void>
}

/** The folder of the suite; `given` where there is one already. */
export function suiteFolder(given: string | undefined): string {
  if (given !== undefined) return given
  const script = spawnSync(process.execPath, ['scripts/regress/run.mjs', 'fetch'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const folder = script.stdout.trim().split('\n').at(-1)
  if (script.status !== 0 || folder === undefined) throw new Error(script.stdout)
  return folder
}

/** A server whose database `regression` is empty (`filled: false`) or as pg_regress leaves it. */
export async function startSuiteServer(
  given: string | undefined,
  filled: boolean,
): Promise<SuiteServer> {
  const suite = suiteFolder(given)
  const server = await startEmbeddedPostgres({
    version,
    settings: { max_prepared_transactions: 10, autovacuum: 'off', log_statement: 'none' },
  })
  try {
    // The suite's own roles have no passwords.
    const rules = join(server.dataDirectory, 'pg_hba.conf')
    writeFileSync(rules, 'local all all trust\nhost all all 127.0.0.1/32 trust\n')
    await execute(server, 'SELECT pg_reload_conf()')
    if (filled) fill(suite, server.port, server.dataDirectory)
    else await execute(server, `CREATE DATABASE ${suiteDatabase} TEMPLATE template0`)
    // What pg_regress sets: the expected outputs, and a few views, depend on it.
    for (const setting of ["datestyle TO 'Postgres, MDY'", "timezone TO 'PST8PDT'"]) {
      await execute(server, `ALTER DATABASE ${suiteDatabase} SET ${setting}`)
    }
  } catch (error) {
    await server.stop()
    throw error
  }
  return { suite, url: server.url(suiteDatabase), stop: async () => await server.stop() }
}

function fill(suite: string, port: number, dataDirectory: string): void {
  const binaries = `/usr/lib/postgresql/${version}/bin`
  const { uid, gid } = statSync(dataDirectory)
  const output = mkdtempSync('/var/tmp/regate-oracle-')
  chownSync(output, uid, gid)
  try {
    mkdirSync(join(output, 'testtablespace'))
    const { status, stdout } = spawnSync(
      join(suite, 'pg_regress'),
      [
        ...[`--inputdir=${suite}`, `--outputdir=${output}`, `--bindir=${binaries}`],
        ...[`--dlpath=${suite}`, `--schedule=${join(suite, 'parallel_schedule')}`],
        ...['--host=127.0.0.1', `--port=${port}`, '--user=postgres'],
      ],
      {
        ...{ uid, gid, cwd: output, encoding: 'utf8', maxBuffer: 1 << 28 },
        env: {
          PATH: process.env['PATH'],
          LD_LIBRARY_PATH: join(suite, '../../interfaces/libpq'),
          HOME: output,
        },
      },
    )
    // A test or two fail outside Debian's own build (locales): their objects are there all the same.
    if (status === null || !/\d+ (of \d+ )?tests/.test(stdout)) throw new Error(stdout)
    process.stderr.write(`${/^.*\d+ (of \d+ )?tests.*$/m.exec(stdout)?.[0] ?? ''}\n`)
  } finally {
    rmSync(output, { recursive: true, force: true })
  }
}

/** The statements of one file of the suite need these psql variables. */
export function suiteVariables(suite: string, database: string): ReadonlyMap<string, string> {
  return new Map([
    ['regresslib', join(suite, 'regress.so')],
    ['abs_srcdir', suite],
    ['abs_builddir', suite],
    ['libdir', suite],
    ['dlsuffix', '.so'],
    ['HIDE_TOAST_COMPRESSION', 'on'],
    ['DBNAME', database],
    ['USER', 'postgres'],
  ])
}

/** One file of the suite. */
export function suiteScript(suite: string, test: string): string {
  return readFileSync(join(suite, 'sql', `${test}.sql`), 'utf8')
}
