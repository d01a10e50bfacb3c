/** What the `regate policy` commands share: finding OPA, naming the directory, saying what OPA said. */
import { stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Argv } from 'yargs'
import { findOpa, type Opa } from '../control/control.ts'
import { CommandFailure } from './failure.ts'

export interface OpaArguments {
  opa: string | undefined
}

/** Adds `--opa`. */
export function withOpa<T>(yargs: Argv<T>): Argv<T & OpaArguments> {
  return yargs.option('opa', {
    type: 'string',
    describe: 'the opa to use; default $REGATE_OPA, then PATH, then the npm package',
  })
}

export function opaFor(args: OpaArguments): Promise<Opa> {
  return findOpa({ env: process.env, ...(args.opa === undefined ? {} : { path: args.opa }) })
}

/** The absolute path of a directory that exists. */
export async function directoryOf(path: string): Promise<string> {
  const found = await stat(path).catch(() => null)
  if (found?.isDirectory() === true) return resolve(path)
  throw new CommandFailure(`${path} is no directory`, {
    hint: 'name the directory that holds .manifest and the Rego files; `regate policy init` makes one',
    misuse: true,
  })
}
