/**
 * `regate catalog dump`: a database's catalog snapshot as a file, so that policies are developed
 * and tested without the database (`regate policy input --catalog`). It holds names, types and
 * definitions, never a value of a row.
 */
import { writeFile } from 'node:fs/promises'
import pg from 'pg'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import type { Configuration } from '../config/config.ts'
import { defaultLimits, systemClock } from '../core/core.ts'
import { catalogQuery, connectCatalog, loadCatalog } from '../upstream/upstream.ts'
import { CommandFailure, lacksPassword } from './failure.ts'
import { configurationFrom } from './serve.ts'
import { upstreamFor, upstreamsOf } from './wiring.ts'

interface DumpArguments {
  url: string | undefined
  config: string
  database: string | undefined
  role: string | undefined
  output: string
}

function builder(yargs: Argv): Argv<DumpArguments> {
  return yargs
    .option('url', {
      type: 'string',
      describe:
        'postgres://user@host:port/database, instead of a configuration; password in $PGPASSWORD',
    })
    .option('config', {
      type: 'string',
      alias: 'f',
      default: process.env['REGATE_CONFIG'] ?? 'regate.yaml',
      describe: 'the configuration file (also $REGATE_CONFIG)',
    })
    .option('database', {
      type: 'string',
      alias: 'd',
      describe: 'a name as clients use it; may be left out where the configuration has one',
    })
    .option('role', {
      type: 'string',
      describe: 'key of the database\'s roles; default: "default", else the first',
    })
    .option('output', {
      type: 'string',
      alias: 'o',
      default: '-',
      describe: 'file to write; - is standard output',
    })
    .example('$0 catalog dump -d shop -o shop.catalog.json', 'a database of regate.yaml')
    .example('$0 catalog dump --url postgres://app@db/shop -o shop.catalog.json', 'any other')
}

/** The command's parent: `regate catalog <command>`. */
export const catalogCommand = {
  command: 'catalog',
  describe: 'Catalog snapshots',
  builder: (yargs: Argv): Argv =>
    yargs
      .command(dumpCommand)
      .demandCommand(1, 'Say what to do: regate catalog dump')
      .example('$0 catalog dump -d shop -o shop.catalog.json', 'a database of regate.yaml'),
  handler: (): void => undefined,
}

const dumpCommand = {
  command: 'dump',
  describe: "Write a database's catalog snapshot to a file",
  builder,
  handler: async (args: ArgumentsCamelCase<DumpArguments>): Promise<void> => {
    const { catalog } =
      args.url === undefined
        ? await configured(await databasesFrom(args), args)
        : await byUrl(args.url)
    const text = `${JSON.stringify(catalog.snapshot)}\n`
    if (args.output === '-') {
      process.stdout.write(text)
      return
    }
    await writeFile(args.output, text)
    const { relations, functions } = catalog.snapshot
    process.stderr.write(
      `${args.output}: ${catalog.database}, ${relations.length} relations, ` +
        `${functions.length} functions\n`,
    )
  },
}

/** The catalog of a connection URL. */
export async function byUrl(url: string) {
  if (!/^postgres(ql)?:\/\//.test(url)) {
    throw new CommandFailure('--url is not a connection URL', {
      hint: 'It looks like postgres://user@host:port/database, with the password in PGPASSWORD',
      misuse: true,
    })
  }
  if (!URL.canParse(url)) {
    throw new CommandFailure('--url is not a connection URL', {
      hint: 'Characters such as @, :, / and # in a name or password are written as %40, %3A, %2F, %23.',
      misuse: true,
    })
  }
  const client = new pg.Client({ connectionString: url, application_name: 'regate catalog' })
  try {
    await client.connect()
    return await loadCatalog(catalogQuery(client))
  } catch (error) {
    if (lacksPassword(error)) {
      throw new CommandFailure('the server asks for a password', { hint: 'set PGPASSWORD' })
    }
    throw new CommandFailure('the catalog cannot be read', { cause: error })
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** What the configuration says of databases: the rest of it may be unfinished. */
function databasesFrom(args: Pick<DumpArguments, 'config' | 'database'>): Promise<Configuration> {
  const wanted = args.database
  return configurationFrom(args.config, {
    keys: ['databases'],
    // The password of the one role that is used is asked for when it connects.
    concerns: ([, name, part]) =>
      part !== 'roles' && (wanted === undefined || name === wanted || name === '*'),
  })
}

/** The catalog of a database of the configuration. */
export async function configured(
  configuration: Configuration,
  args: Pick<DumpArguments, 'database' | 'role'>,
) {
  const names = [...configuration.databases.keys()].filter((name) => name !== '*')
  const database = args.database ?? (names.length === 1 ? names[0] : undefined)
  if (database === undefined) {
    throw new CommandFailure('which database?', {
      hint: `Name one with --database; ${configuration.path} has ${names.join(', ')}`,
      misuse: true,
    })
  }
  const own = configuration.databases.has(database) ? database : '*'
  const databases = new Map([...configuration.databases].filter(([name]) => name === own))
  const upstreams = await upstreamsOf({ ...configuration, databases }, process.env, systemClock)
  const upstream = upstreamFor(upstreams, database)
  if (upstream === null) {
    throw new CommandFailure(`${configuration.path} has no database ${database}`, { misuse: true })
  }
  const roleName =
    args.role ?? (upstream.roles.has('default') ? 'default' : firstOf(upstream.roles))
  const role = upstream.roles.get(roleName)
  if (role === undefined) {
    throw new CommandFailure(`database ${database} has no role ${roleName}`, { misuse: true })
  }
  const connection = await connectCatalog({
    target: upstream.target(database),
    role,
    limits: defaultLimits,
    allowUnsupported: upstream.allowUnsupported,
  })
  try {
    return await loadCatalog(connection.query)
  } finally {
    await connection.end()
  }
}

function firstOf(roles: ReadonlyMap<string, unknown>): string {
  return roles.keys().next().value ?? 'default'
}
