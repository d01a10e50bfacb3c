/**
 * What `regate policy input` and `regate policy explain` have in common: the statements of the
 * command line, who asks, and where the catalog comes from.
 */
import { text as textOf } from 'node:stream/consumers'
import type { Argv } from 'yargs'
import type { StatementFacts } from '../policy/policy.ts'
import type { Configuration } from '../config/config.ts'
import { builtInCatalog, deskCatalog, withCatalog, type CatalogArguments } from './policy-desk.ts'
import { Workbench } from './policy-facts.ts'

export interface StatementArguments extends CatalogArguments {
  sql: string
  as: string | undefined
  group: string[]
  type: 'human' | 'machine'
  'search-path': string | undefined
}

/** Adds the statement and the options that say who asks and against which catalog. */
export function withStatement<T>(yargs: Argv<T>): Argv<T & StatementArguments> {
  return withCatalog(yargs)
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
    .option('database', {
      type: 'string',
      alias: 'd',
      describe: 'a database of the configuration; may be left out where it has one',
    })
    .option('search-path', { type: 'string', describe: 'schemas, with commas; default public' })
    .conflicts('catalog', 'database')
    .conflicts('url', 'database')
}

/** What a policy would be asked about each statement, in order. */
export async function statementFacts(
  args: StatementArguments,
  configuration: Configuration | null,
): Promise<readonly StatementFacts[]> {
  const catalog = (await deskCatalog(args, configuration)) ?? builtInCatalog()
  const text = args.sql === '-' ? await textOf(process.stdin) : args.sql
  const workbench = await Workbench.open()
  try {
    const path = args['search-path']
    const circumstances = {
      ...{ user: args.as, groups: args.group, type: args.type, database: args.database },
      searchPath: path?.split(',').map((name) => name.trim()),
    }
    const statements = await workbench.parse(text)
    return statements.map((one) => workbench.facts(one, catalog, circumstances))
  } finally {
    workbench.close()
  }
}
