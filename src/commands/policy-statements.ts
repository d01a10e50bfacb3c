/**
 * What `regate policy input` and `regate policy explain` have in common: the statements of the
 * command line, who asks, and where the catalog comes from.
 */
import { text as textOf } from 'node:stream/consumers'
import type { Argv } from 'yargs'
import type { StatementFacts } from '../policy/policy.ts'
import type { Catalog } from '../sql/sql.ts'
import { byUrl, configured } from './catalog.ts'
import { emptyCatalog, readCatalog, Workbench } from './policy-facts.ts'

export interface StatementArguments {
  sql: string
  as: string | undefined
  group: string[]
  type: 'human' | 'machine'
  catalog: string | undefined
  url: string | undefined
  config: string
  database: string | undefined
  'search-path': string | undefined
}

/** Adds the statement and the options that say who asks and against which catalog. */
export function withStatement<T>(yargs: Argv<T>): Argv<T & StatementArguments> {
  return yargs
    .positional('sql', {
      type: 'string',
      demandOption: true,
      describe: 'one or more statements; - reads standard input',
    })
    .option('as', { type: 'string', alias: 'u', describe: 'the user who asks' })
    .option('group', {
      type: 'string',
      array: true,
      alias: 'g',
      default: [] as string[],
      describe: 'a group of the user; may be repeated',
    })
    .option('type', {
      choices: ['human', 'machine'] as const,
      default: 'human' as const,
      describe: 'what kind of client asks',
    })
    .option('catalog', {
      type: 'string',
      alias: 'c',
      describe: 'a snapshot of `regate catalog dump`',
    })
    .option('url', { type: 'string', describe: 'postgres://… to read the catalog from' })
    .option('config', {
      type: 'string',
      alias: 'f',
      default: process.env['REGATE_CONFIG'] ?? 'regate.yaml',
      describe: 'the configuration, for --database (also $REGATE_CONFIG)',
    })
    .option('database', { type: 'string', alias: 'd', describe: 'a database of the configuration' })
    .option('search-path', { type: 'string', describe: 'schemas, with commas; default public' })
    .conflicts('catalog', ['url', 'database'])
    .conflicts('url', 'database')
}

/** The catalog that the options name; without any, one that has only the built-in names. */
export async function catalogOf(args: StatementArguments): Promise<Catalog> {
  if (args.catalog !== undefined) return await readCatalog(args.catalog)
  if (args.url !== undefined) return (await byUrl(args.url)).catalog
  if (args.database !== undefined) {
    const { config, database } = args
    return (await configured({ config, database, role: undefined })).catalog
  }
  return emptyCatalog()
}

/** What a policy would be asked about each statement, in order. */
export async function statementFacts(
  args: StatementArguments,
): Promise<{ readonly facts: readonly StatementFacts[]; readonly catalog: Catalog }> {
  const catalog = await catalogOf(args)
  const text = args.sql === '-' ? await textOf(process.stdin) : args.sql
  const workbench = await Workbench.open()
  try {
    const path = args['search-path']
    const circumstances = {
      ...{ user: args.as, groups: args.group, type: args.type, database: args.database },
      searchPath: path?.split(',').map((name) => name.trim()),
    }
    const statements = await workbench.parse(text)
    return {
      facts: statements.map((one) => workbench.facts(one, catalog, circumstances)),
      catalog,
    }
  } finally {
    workbench.close()
  }
}
