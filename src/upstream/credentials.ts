/**
 * Where upstream passwords come from: an environment variable, a file, a command. Read when they are
 * needed, so that a rotated one is taken over without restart.
 *
 * Invariants: a value is in no log, error or process title; what a command prints on stderr is shown,
 * what it prints on stdout never is; one command runs at a time per secret.
 */
import { execFile } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'
import { ProxyError, type Clock } from '../core/core.ts'
import type { Secret } from './target.ts'

const commandMsMax = 10_000
const secretBytesMax = 64 * 1024

/** A password in an environment variable; read at each connection. */
export function environmentSecret(
  name: string,
  env: Readonly<Record<string, string | undefined>>,
): Secret {
  return {
    read: () => {
      const value = env[name]
      if (value === undefined || value === '') {
        return Promise.reject(missing(`the environment variable ${name} is not set`))
      }
      return Promise.resolve(value)
    },
    invalidate: () => undefined,
  }
}

/** A password in a file, without its last newline; read again when the file has changed. */
export function fileSecret(path: string): Secret {
  let known: { readonly stamp: string; readonly value: string } | null = null
  return {
    read: async () => {
      try {
        const facts = await stat(path)
        const stamp = `${facts.mtimeMs}:${facts.size}:${facts.ino}`
        if (known?.stamp === stamp) return known.value
        if (facts.size > secretBytesMax) throw new Error('the file is too large for a password')
        const value = (await readFile(path, 'utf8')).replace(/\r?\n$/, '')
        if (value === '') throw new Error('the file is empty')
        known = { stamp, value }
        return value
      } catch (error) {
        throw missing(`the password file ${path} cannot be used`, error)
      }
    },
    invalidate: () => {
      known = null
    },
  }
}

export interface CommandSecretOptions {
  /** Program and arguments; one string alone is given to the shell. */
  readonly command: string | readonly string[]
  /** How long an output counts: a token of a cloud's IAM lives for minutes. */
  readonly maxAgeMs: number
  readonly clock: Clock
}

/** A password that a command prints, as psql's and pgpass helpers do. */
export function commandSecret(options: CommandSecretOptions): Secret {
  let known: { readonly value: string; readonly atMs: number } | null = null
  let running: Promise<string> | null = null
  const run = async (): Promise<string> => {
    try {
      const value = await runCommand(options.command)
      known = { value, atMs: options.clock.nowMs() }
      return value
    } finally {
      running = null
    }
  }
  return {
    read: () => {
      if (known !== null && options.clock.nowMs() - known.atMs < options.maxAgeMs) {
        return Promise.resolve(known.value)
      }
      running ??= run()
      return running
    },
    invalidate: () => {
      known = null
    },
  }
}

function runCommand(command: string | readonly string[]): Promise<string> {
  const [program, args] =
    typeof command === 'string'
      ? ['/bin/sh', ['-c', command]]
      : [command[0] ?? '', command.slice(1)]
  return new Promise((resolve, reject) => {
    execFile(
      program,
      args,
      { timeout: commandMsMax, maxBuffer: secretBytesMax, encoding: 'utf8' },
      (error, stdout, stderr) => {
        if (error !== null) {
          // execFile's own message repeats the command line, which may hold a secret: not taken.
          const why = error.killed === true ? 'timed out' : `failed (${error.code ?? 'signal'})`
          const said = stderr.trim().split('\n')[0] ?? ''
          reject(missing(`the password command ${why}`, new Error(said)))
          return
        }
        const value = stdout.replace(/\r?\n$/, '')
        if (value === '') reject(missing('the password command printed nothing'))
        else resolve(value)
      },
    )
  })
}

function missing(what: string, cause?: unknown): ProxyError {
  return new ProxyError('upstream_rejected', 'regate has no password for the upstream server', {
    // What is wrong is the operator's business: it goes to the log with the cause.
    cause: cause === undefined ? new Error(what) : new Error(what, { cause }),
    hint: "regate's log says why.",
  })
}
