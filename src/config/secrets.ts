/**
 * Where secrets are. A secret has no representation in the configuration, only a source: it is read
 * when it is needed, so that a rotated one is taken over, and is never kept, logged or printed.
 */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'

export type SecretSource =
  | { readonly kind: 'env'; readonly name: string }
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'command'; readonly command: string }

const commandMsMax = 10_000

/** `<name>_env`, `<name>_file`, `<name>_command` of a document's object. */
export function secretSource(
  object: object,
  name: string,
  at: (path: string) => string,
): SecretSource | null {
  const value = (suffix: string): string | undefined =>
    (object as Record<string, string | undefined>)[`${name}_${suffix}`]
  const env = value('env')
  const path = value('file')
  const command = value('command')
  if (env !== undefined) return { kind: 'env', name: env }
  if (path !== undefined) return { kind: 'file', path: at(path) }
  return command === undefined ? null : { kind: 'command', command }
}

/** Reads a secret now. Rejects with where it looked, never with what it found. */
export async function readSecret(
  source: SecretSource,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  switch (source.kind) {
    case 'env': {
      const value = environment[source.name]
      if (value === undefined || value === '') {
        throw new Error(`environment variable ${source.name} is not set`)
      }
      return value
    }
    case 'file':
      return notEmpty((await readFile(source.path, 'utf8')).replace(/\r?\n$/, ''), source.path)
    case 'command': {
      const shell = process.platform === 'win32' ? ['cmd', '/c'] : ['/bin/sh', '-c']
      const [file = '', flag = ''] = shell
      const options = { timeout: commandMsMax, maxBuffer: 65_536 }
      const { stdout } = await promisify(execFile)(file, [flag, source.command], options).catch(
        () => {
          // The error of execFile carries the output: it must not travel.
          throw new Error(`the command for a secret failed: ${source.command}`)
        },
      )
      return notEmpty(stdout.split(/\r?\n/)[0] ?? '', source.command)
    }
  }
}

function notEmpty(value: string, where: string): string {
  if (value === '') throw new Error(`the secret is empty: ${where}`)
  return value
}
