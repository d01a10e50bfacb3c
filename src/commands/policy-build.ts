/** `regate policy build`: a directory of Rego to a bundle that regate loads without OPA. */
import { rename, stat, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { buildBundle } from '../control/control.ts'
import { defaultLimits } from '../core/core.ts'
import { Policy, readManifest, unpackBundle, readBundleFiles } from '../policy/policy.ts'
import { CommandFailure } from './failure.ts'
import { directoryOf, opaFor, withOpa, type OpaArguments } from './policy-opa.ts'

interface BuildArguments extends OpaArguments {
  dir: string
  output: string
  revision: string | undefined
  'sign-key': string | undefined
  'sign-alg': string
  scope: string | undefined
  'key-id': string | undefined
  optimize: number | undefined
}

function builder(yargs: Argv): Argv<BuildArguments> {
  return withOpa(yargs)
    .positional('dir', { type: 'string', default: 'policies', describe: 'the policy directory' })
    .option('output', {
      type: 'string',
      alias: 'o',
      default: 'bundle.tar.gz',
      describe: 'the bundle',
    })
    .option('revision', {
      type: 'string',
      alias: 'r',
      describe: 'revision of the bundle; default that of .manifest, else a hash of the sources',
    })
    .option('sign-key', {
      type: 'string',
      describe: 'PEM file with the private key, or the secret of HS*',
    })
    .option('sign-alg', { type: 'string', default: 'RS256', describe: 'RS256, ES256, HS256, …' })
    .option('scope', { type: 'string', describe: 'scope of the signature' })
    .option('key-id', { type: 'string', describe: 'names the key in the signature' })
    .option('optimize', { type: 'number', describe: "level of OPA's optimizer, 0 to 2" })
    .example('$0 policy build policies -o bundle.tar.gz', 'build')
    .example('$0 policy build policies --sign-key key.pem --revision 7', 'build and sign')
}

export const policyBuildCommand = {
  command: 'build [dir]',
  describe: 'Compile policies to a bundle (opa build -t wasm)',
  builder,
  handler: async (args: ArgumentsCamelCase<BuildArguments>): Promise<void> => {
    const opa = await opaFor(args)
    const signing =
      args['sign-key'] === undefined
        ? undefined
        : {
            key: await signingKey(args['sign-key'], args['sign-alg']),
            algorithm: args['sign-alg'],
            scope: args.scope,
            keyId: args['key-id'],
          }
    const bundle = await buildBundle({
      opa,
      directory: await directoryOf(args.dir),
      revision: args.revision,
      optimize: args.optimize,
      signing,
      cacheDirectory: null,
    })
    const revision = await inspect(bundle)
    const making = `${args.output}.${String(process.pid)}.making`
    await writeFile(making, bundle)
    await rename(making, args.output)
    const kilobytes = Math.ceil(bundle.length / 1024)
    process.stdout.write(
      `${args.output}: revision ${revision}, ${String(kilobytes)} KiB, by OPA ${opa.version} (${opa.source})` +
        `${signing === undefined ? '' : `, signed with ${signing.algorithm}`}\n`,
    )
  },
}

/**
 * OPA runs in the policies' directory, so a key's path is made absolute. Where there is no such file OPA
 * would take the name itself for the key; only the secret of HS* may be given so.
 */
async function signingKey(key: string, algorithm: string): Promise<string> {
  const path = resolve(key)
  const found = await stat(path).catch(() => null)
  if (found?.isFile() === true) return path
  if (/^HS\d+$/.test(algorithm)) return key
  throw new CommandFailure(`--sign-key: ${path} is not a file`, {
    hint: 'name the PEM file with the private key: openssl genrsa -out private.pem 2048',
    misuse: true,
  })
}

/** Loads what was built exactly as `regate serve` would, so that a bad bundle never leaves the desk. */
async function inspect(packed: Buffer): Promise<string> {
  const files = new Map(await unpackBundle(packed, defaultLimits))
  files.delete('.signatures.json')
  const manifest = files.get('.manifest')
  const { revision } = readManifest(
    manifest === undefined ? null : Buffer.from(manifest).toString(),
  )
  const options = { limits: defaultLimits, name: 'build', signing: null, nowMs: Date.now() }
  const policy = await Policy.load(await readBundleFiles(files, options), { limits: defaultLimits })
  return revision === '' ? policy.revision : revision
}
