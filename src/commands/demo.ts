/**
 * `regate demo`: a PostgreSQL with sample data, the shipped policies compiled by OPA, an OIDC
 * provider and the proxy, all on loopback, all gone when it ends. Prints what to try; with --smoke it
 * tries that itself and says so with its exit code.
 */
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { basename } from 'node:path'
import type { Demo } from './demo/start.ts'
import { CommandFailure } from './failure.ts'
import { untilStopped } from './serve.ts'

interface DemoArguments {
  smoke: boolean
  port: number
  'admin-port': number
}

function builder(yargs: Argv): Argv<DemoArguments> {
  return yargs
    .option('smoke', {
      type: 'boolean',
      default: false,
      describe: 'run the tour, say what came out, and end',
    })
    .option('port', {
      type: 'number',
      alias: 'p',
      default: 6432,
      describe: 'port of the proxy; the next free one if it is taken',
    })
    .option('admin-port', {
      type: 'number',
      default: 8432,
      describe: 'port of health, metrics and console; the next free one if it is taken',
    })
    .example('$0 demo', 'everything, until Ctrl-C')
    .example('$0 demo --smoke', 'exit code 0 if the tour came out as it should')
}

/** The demo until Ctrl-C, or its tour. */
export const demoCommand = {
  command: 'demo',
  describe: 'A PostgreSQL with sample data, policies and the proxy, to try',
  builder,
  handler: async (args: ArgumentsCamelCase<DemoArguments>): Promise<void> => {
    for (const name of ['port', 'admin-port'] as const) {
      const port = args[name]
      if (Number.isInteger(port) && port >= 0 && port <= 65_535) continue
      throw new CommandFailure(`--${name} is a number from 0 to 65535`, { misuse: true })
    }
    // Loaded only now: `--help` of a command should not wait for engines.
    const { startDemo } = await import('./demo/start.ts')
    const { openLog } = await import('./logger.ts')
    const say = (line: string): void => void process.stderr.write(`${line}\n`)
    const log = openLog(process.env['REGATE_LOG'] ?? 'error')
    const demo = await startDemo({
      ...{ say, log, environment: process.env },
      port: args.smoke ? 0 : args.port,
      adminPort: args.smoke ? 0 : args['admin-port'],
    })
    try {
      if (args.smoke) {
        const { takeTour } = await import('./demo/tour.ts')
        const failed = await takeTour(demo, (line) => void process.stdout.write(`${line}\n`))
        if (failed > 0) throw new CommandFailure(`${failed} of the tour's steps went wrong`)
        return
      }
      process.stdout.write(guide(demo))
      await untilStopped(demo.runtime, log)
    } finally {
      await demo.stop()
    }
  },
}

/** As it was called; npx must not ask a registry for the name. */
const regate = basename(process.argv[1] ?? '') === 'regate' ? 'regate' : 'npx --no regate'

function guide(demo: Demo): string {
  const { port } = demo.runtime
  const command = port === 6432 ? `${regate} sql` : `${regate} sql -p ${port}`
  return `
regate listens on 127.0.0.1:${port}, in front of PostgreSQL ${demo.serverVersion} with a small shop.

Connect (the password is the user's name: agent, engineer or admin):
  psql "postgres://agent:agent@127.0.0.1:${port}/shop"
  ${command} -U agent -d shop

As agent, try:
  SELECT status, count(*) FROM orders GROUP BY status;    allowed
  SELECT name, email, ssn FROM customers LIMIT 3;         masked: the ssn is ****
  SELECT name FROM customers WHERE ssn LIKE '1%';         denied: a filter would tell what the mask hides
  DELETE FROM orders;                                     denied: agents do not write, and it has no WHERE
  BEGIN; DELETE FROM orders;                              the refusal is an error, the session lives on

As admin nothing is masked. With a token instead of a password (ada is an engineer, grace an admin):
  PGPASSWORD=$(${regate} login --issuer ${demo.provider.issuer} --client-id ${demo.provider.clientId} --print) \\
    ${command} -U ada -d shop
(open the page it prints, log in as ada; any password will do)

Who may do what: ${demo.dataFile}
(change it and save: sessions that are open are judged by it from their next statement on).

The console, in a browser: ${demo.runtime.adminUrl}/
  grace (an admin) sees and does everything, ada (an engineer) sees everything; any password will do.
  As engineer, try  UPDATE products SET price = price;  it waits until grace approves it there.

Configuration  ${demo.configurationFile}
Health         ${demo.runtime.adminUrl}/readyz
Metrics        curl -H "Authorization: Bearer ${demo.adminToken}" ${demo.runtime.adminUrl}/metrics

Ctrl-C ends everything and leaves nothing behind.
`
}
