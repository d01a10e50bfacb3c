/**
 * `regate serve`: checks the configuration, starts the proxy, and lives until it is told to stop.
 * SIGTERM and SIGINT drain (sessions may finish, up to limits.drainMsMax), a second one ends at
 * once; SIGHUP reads the configuration, certificates, users and policies again; SIGUSR2 replaces the
 * workers by new ones with the code that is installed now.
 */
import type { Logger } from 'pino'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import type { Configuration, Needed } from '../config/config.ts'
import { tuneEngine } from './engine.ts'
import { CommandFailure } from './failure.ts'
import type { Runtime } from './runtime.ts'

interface ServeArguments {
  config: string
  check: boolean
  strict: boolean
}

function builder(yargs: Argv): Argv<ServeArguments> {
  return yargs
    .option('config', {
      type: 'string',
      alias: 'f',
      default: process.env['REGATE_CONFIG'] ?? 'regate.yaml',
      describe: 'the configuration file (also $REGATE_CONFIG)',
    })
    .option('check', {
      type: 'boolean',
      default: false,
      describe: 'check everything that can be checked without serving, and end',
    })
    .option('strict', {
      type: 'boolean',
      default: false,
      implies: 'check',
      describe: 'with --check: a warning is a failure too',
    })
    .example('$0 serve --config regate.yaml', 'the proxy')
    .example('$0 serve --config regate.yaml --check', 'all errors of the configuration at once')
}

/** Loads a configuration, or what is needed of it, or fails with every error in it. */
export async function configurationFrom(path: string, needed?: Needed): Promise<Configuration> {
  const { formatConfigurationError, loadConfiguration } = await import('../config/config.ts')
  const loaded = await loadConfiguration(path, process.env, needed)
  if (loaded.kind === 'ok') return loaded.configuration
  const lines = loaded.errors.map((error) => formatConfigurationError(error, path))
  const count = loaded.errors.length
  throw new CommandFailure(
    `${count} error${count === 1 ? '' : 's'} in the configuration\n${lines.join('\n')}`,
  )
}

/** The proxy until a signal ends it. */
export const serveCommand = {
  command: 'serve',
  describe: 'The proxy',
  builder,
  handler: async (args: ArgumentsCamelCase<ServeArguments>): Promise<void> => {
    tuneEngine()
    const configuration = await configurationFrom(args.config)
    // Loaded only now: `--help` of a command should not wait for engines.
    const { startRuntime } = await import('./runtime.ts')
    const { openLog } = await import('./logger.ts')
    if (args.check) {
      // What is wrong is printed below, for people.
      const warnings = await check(configuration, openLog('silent'))
      if (args.strict && warnings > 0) throw new CommandFailure(`${String(warnings)} to look at`)
      return
    }
    const log = openLog(configuration.logLevel)
    const runtime = await startRuntime({ configuration, log, environment: process.env })
    process.on('SIGHUP', () => void reload(runtime, args.config, log))
    process.on('SIGUSR2', () => void roll(runtime, log))
    await untilStopped(runtime, log)
  },
}

/** Everything up to listening: policies are built and self-checked, files read. Counts warnings. */
async function check(configuration: Configuration, log: Logger): Promise<number> {
  const { startRuntime } = await import('./runtime.ts')
  const local = { ...configuration.listen, host: '127.0.0.1', port: 0 }
  const admin = { ...configuration.admin, host: '127.0.0.1', port: 0 }
  const runtime = await startRuntime({
    configuration: { ...configuration, listen: local, admin },
    log,
    environment: process.env,
    checkOnly: true,
  })
  await runtime.stop()
  const problems = runtime.warnings.map((line) => `  warning: ${line}\n`).join('')
  process.stdout.write(`${configuration.path} is right\n${problems}`)
  return runtime.warnings.length
}

async function reload(runtime: Runtime, path: string, log: Logger): Promise<void> {
  const { formatConfigurationError, loadConfiguration } = await import('../config/config.ts')
  const loaded = await loadConfiguration(path, process.env)
  if (loaded.kind === 'errors') {
    const errors = loaded.errors.map((error) => formatConfigurationError(error, path))
    log.error({ errors }, 'reload: the configuration has errors, the old one stays')
    return
  }
  try {
    await runtime.reload(loaded.configuration)
    log.info('reload: done')
  } catch (error) {
    log.error({ err: error }, 'reload failed, what was there before stays')
  }
}

async function roll(runtime: Runtime, log: Logger): Promise<void> {
  try {
    await runtime.roll()
    log.info('workers: all were replaced')
  } catch (error) {
    log.error({ err: error }, 'workers: not all could be replaced; what was there goes on')
  }
}

/** Resolves when the proxy has ended: by signals, or because it cannot go on. */
export async function untilStopped(runtime: Runtime, log: Logger): Promise<void> {
  let asked = 0
  await new Promise<void>((resolve, reject) => {
    const stop = (signal: NodeJS.Signals): void => {
      asked++
      if (asked === 1) {
        const sessions = runtime.sessionCount()
        log.info({ signal, sessions }, 'draining; a second signal ends at once')
        runtime.drain().then(resolve, reject)
      } else {
        log.warn({ signal }, 'ending at once')
        runtime.stop().then(resolve, reject)
      }
    }
    process.on('SIGTERM', stop)
    process.on('SIGINT', stop)
  })
}
