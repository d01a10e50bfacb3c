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
import { nearest } from './core/core.ts'

function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}

interface Usage {
  getDescriptions(): object
}

function misuse(message: string): CommandFailure {
  return new CommandFailure(message, {
    misuse: true,
    hint: 'regate --help, or regate <command> --help',
  })
}

/** An option that nobody knows, with the one that may have been meant. */
function withNearest(message: string, known: readonly string[]): string {
  const unknown = /^Unknown arguments?: (.+)$/.exec(message)?.[1]
  const meant = (unknown ?? '')
    .split(', ')
    .map((name) => nearest(name, known))
    .filter((name) => name !== null)
  const names = [...new Set(meant)].map((name) => `--${name}`)
  return names.length === 0 ? message : `${message}; did you mean ${names.join(', ')}?`
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
  .check((args) => {
    for (const [name, value] of Object.entries(args)) {
      if (Number.isNaN(value)) throw misuse(`--${name}: a number is expected`)
    }
    return true
  })
  .fail((message: string | null, error: Error | undefined, usage) => {
    // Yargs reports misuse by message; an error alone comes from a handler.
    if (error !== undefined) throw error
    // Typed as the parser, it is what `--help` is made from.
    const known = Object.keys((usage as unknown as Usage).getDescriptions())
    throw misuse(withNearest(message ?? 'misuse', known))
  })

try {
  await parser.parseAsync()
} catch (thrown) {
  // What yargs itself throws is about the command line.
  const isMisuse = thrown instanceof Error && thrown.name === 'YError'
  const error = isMisuse ? misuse(thrown.message) : thrown
  const debug = (process.env['REGATE_DEBUG'] ?? '') !== ''
  process.stderr.write(`${describeFailure(error, debug)}\n`)
  process.exitCode = error instanceof CommandFailure ? error.exitCode : exitCodes.failed
}
