/**
 * Random queries of SQLsmith (https://github.com/anse1/sqlsmith, Debian package `sqlsmith`) over the
 * corpus, generated without being run. The same seed and schema give the same queries.
 */
import { execFile, spawnSync } from 'node:child_process'
import { promisify } from 'node:util'
import type { TestPostgres } from '../support/postgres.ts'

const SAMPLE = /tablesample (?:bernoulli|system) \([\d.]+\)/g
const outputBytesMax = 1024 * 1024 * 1024

export function hasSqlsmith(): boolean {
  return spawnSync('sqlsmith', ['--version']).error === undefined
}

export interface SqlsmithOptions {
  readonly count: number
  readonly seed: number
  /** Relations of the system catalogs too. */
  readonly catalog?: boolean
  /** Who asks: SQLsmith uses the relations on which that role has a privilege. Default: superuser. */
  readonly role?: { readonly user: string; readonly password: string }
}

/** `count` queries; relations of the catalog are left out unless asked for. */
export async function sqlsmith(
  server: TestPostgres,
  database: string,
  options: SqlsmithOptions,
): Promise<readonly string[]> {
  const { host, port } = server
  const { user, password } = options.role ?? server
  const target = `host=${host} port=${port} user=${user} password=${password} dbname=${database}`
  const { stdout } = await promisify(execFile)(
    'sqlsmith',
    [
      `--target=${target}`,
      '--dry-run',
      `--max-queries=${options.count}`,
      `--seed=${options.seed}`,
      ...(options.catalog === true ? [] : ['--exclude-catalog']),
    ],
    { maxBuffer: outputBytesMax },
  )
  return (
    stdout
      .split(/;\s*\n/)
      // Without a fixed seed a sample is noise, and noise hides leaks.
      .map((query) => query.trim().replace(SAMPLE, '$& repeatable (1)'))
      .filter((query) => query !== '' && !query.startsWith('--'))
  )
}
