/**
 * What `policy explain`, `input` and `replay` judge with: the policy, its data and a catalog, as
 * `regate serve` would have them. What the command line leaves open is the configuration's; what it
 * names stands in that one's place.
 */
import { readFile, stat } from 'node:fs/promises'
import type { Argv } from 'yargs'
import type { Configuration } from '../config/config.ts'
import { buildBundle, PolicyKeeper, readDataFiles } from '../control/control.ts'
import { defaultLimits, systemClock } from '../core/core.ts'
import { Policy, readBundleFiles, unpackBundle } from '../policy/policy.ts'
import type { Catalog } from '../sql/sql.ts'
import { byUrl, configured } from './catalog.ts'
import { CommandFailure } from './failure.ts'
import { emptyCatalog, readCatalog } from './policy-facts.ts'
import { opaFor, type OpaArguments } from './policy-opa.ts'
import { bundleCache, keeperOptions } from './policy-source.ts'
import { configurationFrom } from './serve.ts'

export interface CatalogArguments {
  catalog: string | undefined
  url: string | undefined
  config: string | undefined
  database: string | undefined
}

export interface PolicyArguments extends OpaArguments {
  data: string[]
}

const configDefault = 'regate.yaml'

/** Adds `--catalog`, `--url` and `--config`; what `--database` means is the command's. */
export function withCatalog<T>(yargs: Argv<T>): Argv<T & Omit<CatalogArguments, 'database'>> {
  return yargs
    .option('catalog', {
      type: 'string',
      alias: 'c',
      describe: 'a snapshot of `regate catalog dump`',
    })
    .option('url', { type: 'string', describe: 'postgres://… to read the catalog from' })
    .option('config', {
      type: 'string',
      alias: 'f',
      describe: `the configuration that says what is not named here; default $REGATE_CONFIG, then ${configDefault}`,
    })
    .conflicts('catalog', 'url')
}

/** Adds `--data`. */
export function withData<T>(yargs: Argv<T>): Argv<T & { data: string[] }> {
  return yargs.option('data', {
    type: 'string',
    array: true,
    nargs: 1,
    default: [] as string[],
    describe: "data merged over the bundle's, in place of policy.data of the configuration",
  })
}

/**
 * The configuration that a command judges by; null for none. Where nothing names one and nothing is
 * left open, none is read: it may want secrets that a desk does not have.
 * @param complete bundle and catalog are named
 */
export async function deskConfiguration(
  args: Pick<CatalogArguments, 'config' | 'database'>,
  complete: boolean,
): Promise<Configuration | null> {
  const named = args.config ?? process.env['REGATE_CONFIG']
  if (named !== undefined) return await configurationFrom(named)
  const there = await stat(configDefault).catch(() => null)
  const needed = args.database !== undefined || (!complete && there !== null)
  return needed ? await configurationFrom(configDefault) : null
}

/**
 * The policy of a directory or a bundle, or the configuration's where `path` is undefined, with the
 * data that `regate serve` would merge over it.
 */
export async function deskPolicy(
  path: string | undefined,
  args: PolicyArguments,
  configuration: Configuration | null,
): Promise<Policy> {
  const data = args.data.length > 0 ? args.data : (configuration?.policy.data ?? [])
  const opa = args.opa ?? configuration?.policy.opa ?? undefined
  if (path !== undefined) return await policyFrom(path, data, { opa })
  if (configuration === null) {
    throw new CommandFailure('no policy is named', {
      hint: `name a policy directory or a bundle.tar.gz, or a configuration with --config`,
      misuse: true,
    })
  }
  const { policy } = configuration
  if (policy.bundle.kind === 'path') return await policyFrom(policy.bundle.path, data, { opa })
  const bundle = { ...policy.bundle, persist: null }
  const keeper = await PolicyKeeper.start({
    ...(await keeperOptions(
      { bundle, data, opa: opa ?? null },
      { limits: configuration.limits, environment: process.env },
    )),
    ...{ watchMs: 0, clock: systemClock, onPolicy: () => undefined },
  })
  await keeper.close()
  return keeper.policy
}

/**
 * Loaded as `regate serve` does, but for signatures: what is only looked at on the desk is not trusted
 * with anything, and the key may be elsewhere.
 */
async function policyFrom(
  path: string,
  dataFiles: readonly string[],
  args: OpaArguments,
): Promise<Policy> {
  const found = await stat(path).catch(() => {
    throw new CommandFailure(`${path} is not there`, {
      hint: 'name a policy directory or a bundle.tar.gz',
      misuse: true,
    })
  })
  const packed = found.isDirectory()
    ? await buildBundle({
        opa: await opaFor(args),
        directory: path,
        cacheDirectory: bundleCache(process.env),
      })
    : await readFile(path)
  const options = { limits: defaultLimits, name: 'policy', signing: null, nowMs: Date.now() }
  const files = new Map(await unpackBundle(packed, defaultLimits))
  files.delete('.signatures.json')
  const extraData = await readDataFiles(dataFiles)
  return await Policy.load(await readBundleFiles(files, options), {
    limits: defaultLimits,
    extraData,
  })
}

/** The catalog that the options name, or the configuration's only one; null: none is named. */
export async function deskCatalog(
  args: CatalogArguments,
  configuration: Configuration | null,
): Promise<Catalog | null> {
  if (args.catalog !== undefined) return await readCatalog(args.catalog)
  if (args.url !== undefined) return (await byUrl(args.url)).catalog
  if (configuration === null) return null
  const { database } = args
  return (await configured(configuration, { database, role: undefined })).catalog
}

/** Only built-in names; who asks about others has to be told why they are not found. */
export function builtInCatalog(): Catalog {
  process.stderr.write(
    'no catalog was named (--catalog, --url, or --database of a configuration): only built-in names are known\n',
  )
  return emptyCatalog()
}
