/**
 * Compiling a directory of Rego to a bundle, by the real OPA. What was built once is kept in a cache
 * directory under the hash of everything that went into it, so starting again costs no compilation.
 *
 * A build is atomic: OPA writes to a file of its own, which is read and thrown away; nothing is left
 * half written where somebody could load it.
 */
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { ProxyError } from '../core/core.ts'
import { connectEntrypoint, statementEntrypoint } from '../policy/policy.ts'
import { runOpa, type Opa } from './opa.ts'

export interface BuildOptions {
  readonly opa: Opa
  readonly directory: string
  /** Overrides the revision of `.manifest`; without both it is the hash of the sources. */
  readonly revision?: string | undefined
  readonly signing?: BuildSigning | undefined
  /** Where finished bundles are kept; null keeps none. */
  readonly cacheDirectory: string | null
  readonly optimize?: number | undefined
}

export interface BuildSigning {
  /** Path of a PEM file, or the secret of HS*. */
  readonly key: string
  readonly algorithm: string
  readonly scope?: string | undefined
  /** OPA says "default" without one. */
  readonly keyId?: string | undefined
}

/** Not part of a policy: tests and their fixtures. */
const ignored = ['*_test.rego', '*.fixture.sql', 'fixtures', 'node_modules', '.git', '.github']

/** What OPA must not load from a policy directory, as arguments. */
export const ignoreParameters: readonly string[] = ignored.map((pattern) => `--ignore=${pattern}`)

/** Builds the directory to a `.tar.gz`; throws policy_fault with OPA's own words. */
export async function buildBundle(options: BuildOptions): Promise<Buffer> {
  const hash = await sourceHash(options.directory)
  const key = createHash('sha256')
    .update(
      JSON.stringify([hash, options.opa.version, options.revision ?? null, options.optimize ?? 0]),
    )
    .digest('hex')
  const cached =
    options.cacheDirectory === null || options.signing !== undefined
      ? null
      : join(options.cacheDirectory, `bundle-${key.slice(0, 32)}.tar.gz`)
  if (cached !== null) {
    const known = await readFile(cached).catch(() => null)
    if (known !== null) return known
  }
  const bundle = await compile(options, hash)
  if (cached !== null) await keep(cached, bundle).catch(() => undefined)
  return bundle
}

async function compile(options: BuildOptions, hash: string): Promise<Buffer> {
  const scratch = await mkdtemp(join(tmpdir(), 'regate-build-'))
  try {
    const output = join(scratch, 'bundle.tar.gz')
    const revision = options.revision ?? (await ownRevision(options.directory)) ?? hash.slice(0, 12)
    const claims = await writeClaims(options.signing, scratch)
    const parameters = [
      'build',
      ...options.opa.dialect,
      '--target=wasm',
      `--entrypoint=${statementEntrypoint}`,
      `--entrypoint=${connectEntrypoint}`,
      ...ignoreParameters,
      `--revision=${revision}`,
      ...(options.optimize === undefined ? [] : [`--optimize=${String(options.optimize)}`]),
      ...signingParameters(options.signing, claims),
      `--output=${output}`,
      '--bundle',
      '.',
    ]
    const run = await runOpa(options.opa, parameters, { cwd: options.directory })
    if (run.code !== 0) throw buildFault(options.directory, run.stderr || run.stdout)
    return await readFile(output)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** OPA's own `--scope` is for verifying: a signature's scope is a claim. */
async function writeClaims(
  signing: BuildSigning | undefined,
  scratch: string,
): Promise<string | null> {
  if (signing?.scope === undefined && signing?.keyId === undefined) return null
  const path = join(scratch, 'claims.json')
  const { scope, keyId } = signing
  await writeFile(path, JSON.stringify({ scope, keyid: keyId }))
  return path
}

function signingParameters(
  signing: BuildSigning | undefined,
  claimsPath: string | null,
): readonly string[] {
  if (signing === undefined) return []
  const parameters = [`--signing-key=${signing.key}`, `--signing-alg=${signing.algorithm}`]
  return claimsPath === null ? parameters : [...parameters, `--claims-file=${claimsPath}`]
}

function buildFault(directory: string, words: string): ProxyError {
  const first = /(\S+\.rego:\d+: [^\n]+)/.exec(words)?.[1]
  const what = first === undefined ? '' : `: ${first}`
  return new ProxyError('policy_fault', `OPA could not build ${directory}${what}`, {
    detail: words.trim(),
    hint: '`regate policy check` shows every error with its line',
  })
}

/** The revision that the directory's own `.manifest` names. */
async function ownRevision(directory: string): Promise<string | null> {
  const json = await readFile(join(directory, '.manifest'), 'utf8').catch(() => null)
  if (json === null) return null
  try {
    const { revision } = JSON.parse(json) as { readonly revision?: unknown }
    return typeof revision === 'string' && revision !== '' ? revision : null
  } catch (cause) {
    throw new ProxyError('policy_fault', `${join(directory, '.manifest')} is not JSON`, { cause })
  }
}

/** A hash of every file that can end up in the bundle. */
export async function sourceHash(directory: string): Promise<string> {
  const hash = createHash('sha256')
  for (const path of await sourceFiles(directory)) {
    const content = await readFile(path)
    hash.update(`${relative(directory, path)}\0${String(content.length)}\0`).update(content)
  }
  return hash.digest('hex')
}

/** Changes when a file below the path (or the file itself) was written; cheap, reads no content. */
export async function sourceStamp(path: string, withTests = false): Promise<string> {
  const found = await stat(path)
  if (!found.isDirectory())
    return `${String(found.mtimeMs)} ${String(found.size)} ${String(found.ino)}`
  const files = await sourceFiles(path, withTests)
  const stamps = await Promise.all(
    files.map(async (file) => {
      const { mtimeMs, size, ino } = await stat(file)
      return `${file} ${String(mtimeMs)} ${String(size)} ${String(ino)}`
    }),
  )
  return stamps.join('\n')
}

async function sourceFiles(directory: string, withTests = false): Promise<readonly string[]> {
  let entries
  try {
    entries = await readdir(directory, { recursive: true, withFileTypes: true })
  } catch (cause) {
    throw new ProxyError('configuration', `the policy directory ${directory} cannot be read`, {
      cause,
    })
  }
  return entries
    .filter(
      (entry) => entry.isFile() && (isSource(entry.name) || (withTests && isTest(entry.name))),
    )
    .map((entry) => join(entry.parentPath, entry.name))
    .filter(
      (path) =>
        !relative(directory, path)
          .split(/[\\/]/)
          .some((part) => ignored.includes(part)),
    )
    .sort()
}

const isTest = (name: string): boolean => /(_test\.rego|\.fixture\.sql)$/.test(name)

function isSource(name: string): boolean {
  if (name.endsWith('_test.rego')) return false
  return name === '.manifest' || /\.(rego|json|ya?ml)$/.test(name)
}

async function keep(path: string, bundle: Buffer): Promise<void> {
  await mkdir(join(path, '..'), { recursive: true, mode: 0o700 })
  const making = `${path}.${String(process.pid)}.making`
  await writeFile(making, bundle, { mode: 0o600 })
  await rename(making, path)
}
