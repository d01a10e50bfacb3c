/** What the commands of `regate audit` share: where the log is, what to look for, progress, output. */
import { existsSync, statSync } from 'node:fs'
import { once } from 'node:events'
import type { Argv } from 'yargs'
import { auditFilter, FilterError, filterNames, type AuditFilter } from '../audit/audit.ts'
import { nearest, nearestOf, systemClock } from '../core/core.ts'
import { statementKinds } from '../sql/sql.ts'
import { CommandFailure } from './failure.ts'

export interface DirectoryArguments {
  directory: string | undefined
  config: string
}

/** `--directory`, or the configuration that names it. */
export function withDirectory<T>(yargs: Argv<T>): Argv<T & DirectoryArguments> {
  return yargs
    .option('directory', {
      type: 'string',
      alias: 'd',
      describe: 'the audit directory; default that of the configuration, else regate-data/audit',
    })
    .option('config', {
      type: 'string',
      alias: 'f',
      default: process.env['REGATE_CONFIG'] ?? 'regate.yaml',
      describe: 'the configuration (also $REGATE_CONFIG)',
    })
}

/** The directory that is meant; fails where there is none. */
export async function directoryOf(args: DirectoryArguments): Promise<string> {
  const directory = args.directory ?? (await configuredDirectory(args.config))
  if (existsSync(directory) && statSync(directory).isDirectory()) return directory
  throw new CommandFailure(`${directory} is no audit directory`, {
    misuse: true,
    hint: 'name it with --directory, or the configuration with --config',
  })
}

async function configuredDirectory(path: string): Promise<string> {
  if (!existsSync(path)) return 'regate-data/audit'
  const { loadConfiguration, formatConfigurationError } = await import('../config/config.ts')
  // Whoever reads the log need not have what serving takes, and the directory may be read-only.
  const needed = { keys: ['audit'], concerns: () => false }
  const loaded = await loadConfiguration(path, process.env, needed)
  if (loaded.kind === 'ok') return loaded.configuration.audit.directory
  throw new CommandFailure('where the log is cannot be read from the configuration', {
    detail: loaded.errors.map((error) => formatConfigurationError(error, path)).join('; '),
    hint: 'name the directory with --directory',
  })
}

const descriptions: Readonly<Record<(typeof filterNames)[number], string>> = {
  user: 'user name or subject',
  subject: 'subject',
  group: 'group of the user',
  database: 'database',
  session: 'session id',
  id: 'record id',
  decision: 'decision id, as in the DETAIL of a refusal',
  table: 'users, public.users; * is any characters',
  column: 'ssn, users.ssn, public.users.ssn; * is any characters',
  action: 'allow, mask, deny or approve',
  rule: 'a rule or its beginning',
  kind: 'select, insert, …',
  fingerprint: 'statement fingerprint',
  sqlstate: 'of the refusal or of the error it ended with',
  type: 'record type: statement_decided, session_started, …',
  text: "part of the statement's text",
}

/** One option for each filter; each may be given several times. */
export function withFilters<T>(yargs: Argv<T>): Argv<T> {
  for (const name of filterNames) {
    yargs.option(name, { type: 'string', array: true, nargs: 1, describe: descriptions[name] })
  }
  return yargs
    .option('since', { type: 'string', describe: 'RFC 3339, or a duration before now: 2h, 7d' })
    .option('until', { type: 'string', describe: 'the same' })
    .group([...filterNames, 'since', 'until'], 'What to find:')
}

/** The filter that the arguments ask for; a wrong one is misuse. */
export function filterOf(args: Readonly<Record<string, unknown>>): AuditFilter {
  const given: Record<string, string | readonly string[]> = {}
  for (const name of [...filterNames, 'since', 'until']) {
    const value = args[name]
    if (typeof value === 'string') given[name] = value
    else if (Array.isArray(value)) given[name] = value.map(String)
  }
  for (const [name, known] of Object.entries(knownValues)) {
    for (const one of [given[name] ?? []].flat()) {
      if (known.includes(one)) continue
      const meant = nearest(one, known)
      const few =
        meant === null
          ? `known are: ${nearestOf(one, known, 4).join(', ')}${known.length > 4 ? ', …' : ''}`
          : `did you mean ${meant}?`
      throw new CommandFailure(`--${name}: there is no ${one}`, { hint: few, misuse: true })
    }
  }
  return misused(() => auditFilter(given, systemClock.nowMs()))
}

/** Filters whose values are few: another one would find nothing, in silence. */
const knownValues: Readonly<Record<string, readonly string[]>> = {
  action: ['allow', 'mask', 'deny', 'approve'],
  kind: statementKinds,
}

/** A filter or cursor that cannot be understood is misuse of the command. */
export function misused<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof FilterError) throw new CommandFailure(error.message, { misuse: true })
    throw error
  }
}

export interface Progress {
  readonly update: (bytesRead: number, bytesTotal: number) => void
  stop(): void
}

/** A bar on stderr where that is a terminal and stdout is not, so that they do not mix. */
export async function startProgress(): Promise<Progress> {
  if (!process.stderr.isTTY || process.stdout.isTTY) {
    return { update: () => undefined, stop: () => undefined }
  }
  return await progressBar()
}

/** A bar on stderr where that is a terminal. */
export async function progressBar(): Promise<Progress> {
  if (!process.stderr.isTTY) return { update: () => undefined, stop: () => undefined }
  const { SingleBar, Presets } = await import('cli-progress')
  const format = ' {bar} {percentage}% | {value}/{total} MB | {eta_formatted} left'
  const bar = new SingleBar({ format, clearOnComplete: true }, Presets.shades_classic)
  const megabytes = (bytes: number): number => Math.round(bytes / 1e6)
  let started = false
  return {
    update: (read, total) => {
      if (!started) bar.start(megabytes(total), 0)
      started = true
      bar.update(megabytes(read))
    },
    stop: () => {
      if (started) bar.stop()
    },
  }
}

let isReaderGone = false

/** One listener for all outputs of the process: stdout is one, and lasts. */
function readerGone(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error
  isReaderGone = true
}

/** Where lines go: waits when the reader is slow, and ends quietly when it has gone (`| head`). */
export class Output {
  constructor() {
    const { stdout } = process
    if (!stdout.listeners('error').includes(readerGone)) stdout.on('error', readerGone)
  }

  /** Nobody reads any more. */
  get gone(): boolean {
    return isReaderGone
  }

  async write(text: string | Buffer): Promise<void> {
    if (isReaderGone || process.stdout.write(text)) return
    await Promise.race([once(process.stdout, 'drain'), once(process.stdout, 'close')]).catch(
      () => undefined,
    )
  }
}
