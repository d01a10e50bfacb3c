/**
 * Three clusters built by one script, so every oid agrees: `first`, its `control` (an exact copy)
 * and `other`, which differs in the values of sensitive columns only, with equal byte lengths and
 * equal parts that a mask is meant to show (the end of e-mail addresses).
 *
 * What differs between first and control is noise; what differs only between first and other is a
 * leak.
 */
import pg from 'pg'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { corpusText } from './cases.ts'

export interface World {
  readonly name: 'first' | 'control' | 'other'
  readonly server: TestPostgres
  /** A superuser's connection, for setting up and tidying between cases. */
  readonly admin: pg.Client
}

export interface Worlds {
  readonly first: World
  readonly control: World
  readonly other: World
  readonly all: readonly World[]
  stop(): Promise<void>
}

export const databaseName = 'corpus'

const settings = {
  autovacuum: 'off',
  jit: 'off',
  max_parallel_workers_per_gather: 0,
  statement_timeout: '5s',
  lock_timeout: '2s',
  log_statement: 'none',
  max_connections: 60,
  shared_buffers: '32MB',
}

/** Expressions of schema.sql that make sensitive values, and what makes the other ones. */
const replacements: readonly (readonly [string, string])[] = [
  ["'s3cr3t-' || 'S3CR3T' || g", "'w9kq7z-' || 'T4DS4U' || g"],
  [
    "'S3CR3T-' || lpad((9000 + g)::text, 4, '0')",
    "'T4DS4U-' || lpad((8999 - g * 7)::text, 4, '0')",
  ],
  ['77000000 + g * 13', '77000900 - g / 2 * 8'],
  ['88000000.25 + g', '88000900.75 - (g * 41) % 103'],
  ["date '1901-01-01' + g", "date '1901-12-01' - (g * 43) % 107"],
  ["lpad(g::text, 12, '0'))::uuid", "lpad((999 - g)::text, 12, '0'))::uuid"],
  ["'S3CR3T-photo-'", "'T4DS4U-photo-'"],
  ["'S3CR3T-alias-'", "'T4DS4U-alias-'"],
  ["'S3CR3T-nick-'", "'T4DS4U-nick-'"],
  ["'S3CR3T-json-'", "'T4DS4U-json-'"],
  ["'S3CR3T-pin-'", "'T4DS4U-pin-'"],
  ['g % 3 = 0', 'g > 9 AND g % 4 = 1'],
  ["'S3CR3T-4111' || lpad(g::text, 8, '0')", "'T4DS4U-5222' || lpad((999 - g)::text, 8, '0')"],
  ["'S3CR3T-event-'", "'T4DS4U-event-'"],
]

/** The script of the other world. Every expression must be there: the corpus may grow. */
export function otherSchema(schema: string): string {
  let script = schema
  for (const [from, to] of replacements) {
    if (!script.includes(from)) throw new Error(`schema.sql no longer holds ${from}`)
    script = script.replaceAll(from, to)
  }
  return script
}

async function build(name: World['name'], script: string, version?: number): Promise<World> {
  const server = await startPostgres(version === undefined ? { settings } : { settings, version })
  const setup = new pg.Client({ connectionString: server.url() })
  await setup.connect()
  await setup.query(`CREATE DATABASE ${databaseName}`)
  await setup.end()
  const admin = new pg.Client({ connectionString: server.url(databaseName) })
  admin.on('error', () => undefined)
  await admin.connect()
  await admin.query(script)
  return { name, server, admin }
}

export interface Extra {
  /** For first and control. */
  readonly first: string
  readonly other: string
}

/** Builds the three worlds; `extra` runs after the schema. */
export async function buildWorlds(
  options: { extra?: Extra; version?: number } = {},
): Promise<Worlds> {
  const schema = corpusText('schema.sql')
  const extra = options.extra ?? { first: '', other: '' }
  const [first, control, other] = await Promise.all([
    build('first', `${schema}\n${extra.first}`, options.version),
    build('control', `${schema}\n${extra.first}`, options.version),
    build('other', `${otherSchema(schema)}\n${extra.other}`, options.version),
  ])
  const all = [first, control, other]
  await assertSameOids(all)
  return {
    first,
    control,
    other,
    all,
    stop: async () => {
      await Promise.all(
        all.map(async ({ admin, server }) => {
          await admin.end().catch(() => undefined)
          await server.stop()
        }),
      )
    },
  }
}

/** Different oids would be noise in every RowDescription, and hide leaks. */
async function assertSameOids(worlds: readonly World[]): Promise<void> {
  const query =
    "SELECT json_agg(oid::int ORDER BY oid) AS oids FROM pg_class WHERE relname !~ '^pg_toast'"
  const oids = await Promise.all(
    worlds.map(async ({ admin }) => JSON.stringify((await admin.query(query)).rows)),
  )
  if (new Set(oids).size !== 1) throw new Error('the clusters do not have the same oids')
}

/** Undoes what a case may have written. */
export async function tidy(world: World): Promise<void> {
  await world.admin.query('TRUNCATE scratch')
}
