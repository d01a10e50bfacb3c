/**
 * All commands, one line each: what is typed, what it does, where it is. A command's module is loaded
 * only when it is used, so that `--help` and `regate sql` do not wait for engines they do not need.
 *
 * A module exports `{ builder, handler }`: every builder gives an example, every handler fails by
 * throwing.
 */
import type { ArgumentsCamelCase, Argv, CommandModule } from 'yargs'

export { CommandFailure, describeFailure, exitCodes } from './failure.ts'

interface Command<Arguments> {
  builder(yargs: Argv): Argv<Arguments>
  handler(args: ArgumentsCamelCase<Arguments>): void | Promise<void>
}

function lazy<Arguments>(
  command: string,
  describe: string,
  load: () => Promise<Command<Arguments>>,
): CommandModule<object, Arguments> {
  return {
    command,
    describe,
    builder: async (yargs) => (await load()).builder(yargs),
    handler: async (args) => {
      await (await load()).handler(args)
    },
  }
}

/** Adds every command to the parser. */
export function registerCommands(parser: Argv): Argv {
  return parser
    .command(lazy('serve', 'The proxy', async () => (await import('./serve.ts')).serveCommand))
    .command(
      lazy(
        'demo',
        'A PostgreSQL with sample data, policies and the proxy, to try',
        async () => (await import('./demo.ts')).demoCommand,
      ),
    )
    .command(
      lazy(
        'policy',
        'Write, test, build and compare policies',
        async () => (await import('./policy.ts')).policyCommand,
      ),
    )
    .command(
      lazy(
        'audit',
        'Search, check, play and export the audit log',
        async () => (await import('./audit.ts')).auditCommand,
      ),
    )
    .command(
      lazy(
        'catalog',
        'Catalog snapshots',
        async () => (await import('./catalog.ts')).catalogCommand,
      ),
    )
    .command(
      lazy(
        'login',
        'Get a token of your OIDC issuer, for psql and other clients',
        async () => (await import('./login.ts')).loginCommand,
      ),
    )
    .command(
      lazy(
        'approvals',
        'Decide what waits for people',
        async () => (await import('./approvals.ts')).approvalsCommand,
      ),
    )
    .command(
      lazy('user', 'Local users (users.yaml)', async () => (await import('./user.ts')).userCommand),
    )
    .command(
      lazy(
        'sql [url]',
        'A small SQL prompt through the proxy',
        async () => (await import('./sql.ts')).sqlCommand,
      ),
    )
}
