#!/usr/bin/env node
/**
 * The `regate` command: argv in, exit code out. What a command does is in src/commands. Together
 * with them this file alone touches `process`.
 */
import { readFileSync } from 'node:fs'
import yargs from 'yargs'
import {
  describeFailure,
  exitCodes,
  registerCommands,
  CommandFailure,
} from './commands/commands.ts'

function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}

const parser = registerCommands(yargs(process.argv.slice(2)).scriptName('regate'))
  .usage('$0 <command>\n\nA PostgreSQL proxy that judges every statement with Rego policies.')
  .demandCommand(1, 'Which command? `regate --help` lists them.')
  .strict()
  .strictCommands()
  .recommendCommands()
  .help()
  .alias('help', 'h')
  .version(version())
  .alias('version', 'V')
  .wrap(Math.min(100, process.stdout.columns || 100))
  .epilogue('Exit codes: 0 done, 1 failed, 2 misuse. REGATE_DEBUG=1 shows stack traces.')
  .exitProcess(false)
  .fail((message: string | null, error: Error | undefined) => {
    // Yargs reports misuse by message; an error alone comes from a handler.
    throw (
      error ??
      new CommandFailure(message ?? 'misuse', {
        misuse: true,
        hint: 'regate --help, or regate <command> --help',
      })
    )
  })

try {
  await parser.parseAsync()
} catch (error) {
  const debug = (process.env['REGATE_DEBUG'] ?? '') !== ''
  process.stderr.write(`${describeFailure(error, debug)}\n`)
  process.exitCode = error instanceof CommandFailure ? error.exitCode : exitCodes.failed
}
