/**
 * Reading a bundle: packed or loose bytes in, a checked PolicyBundle out. The bytes come from outside,
 * so nothing of them is believed before it was checked: sizes before they are buffered, paths before
 * they are names, the signature before the content is looked at.
 * https://www.openpolicyagent.org/docs/latest/management-bundles/#bundle-file-format
 *
 * Touches no file and no network: control fetches, this reads.
 */
import { gunzipSync } from 'node:zlib'
import { Parser as TarParser, type ReadEntry } from 'tar'
import { parse as parseYaml } from 'yaml'
import { ProxyError, type Limits } from '../core/core.ts'
import { connectEntrypoint, statementEntrypoint, type PolicyBundle } from './loaded.ts'
import { readManifest, type Manifest } from './manifest.ts'
import { mergeData } from './merge.ts'
import { verifySignatures, type SigningOptions } from './signature.ts'

/** Files of a bundle by their path, without a leading slash. */
export type BundleFiles = ReadonlyMap<string, Uint8Array>

export interface ReadBundleOptions {
  readonly limits: Limits
  readonly name: string
  /** Null: no signature is expected, and a bundle that brings one is refused. */
  readonly signing: SigningOptions | null
  readonly nowMs: number
}

const fault = (message: string, hint?: string, cause?: unknown) =>
  new ProxyError('policy_fault', message, { cause, ...(hint === undefined ? {} : { hint }) })

/** Reads a `.tar.gz` (or plain tar); throws policy_fault. */
export async function readBundle(
  packed: Uint8Array,
  options: ReadBundleOptions,
): Promise<PolicyBundle> {
  return readBundleFiles(await unpackBundle(packed, options.limits), options)
}

/** Verifies and reads a bundle's files; throws policy_fault. */
export async function readBundleFiles(
  files: BundleFiles,
  options: ReadBundleOptions,
): Promise<PolicyBundle> {
  await verifySignatures(files, options.signing, options.nowMs)
  const manifestBytes = files.get('.manifest')
  const manifest = readManifest(manifestBytes === undefined ? null : text(manifestBytes))
  const data = readData(files)
  checkRoots(data, manifest)
  return { name: options.name, wasm: findModule(files, manifest), data, manifest }
}

/** The files of a packed bundle; throws policy_fault for what no bundle would hold. */
export async function unpackBundle(packed: Uint8Array, limits: Limits): Promise<BundleFiles> {
  if (packed.byteLength > limits.bundleBytesMax) throw tooLarge(limits)
  const tarball = unzip(packed, limits)
  if (tarball.byteLength % 512 !== 0) {
    throw fault('the bundle is cut off: its length is no multiple of a tar block')
  }
  const files = new Map<string, Uint8Array>()
  let total = 0
  await new Promise<void>((resolve, reject) => {
    const parser = new TarParser({
      strict: true,
      onReadEntry: (entry: ReadEntry) => {
        try {
          const path = checkedPath(entry)
          if (path === null) {
            entry.resume()
            return
          }
          if (files.has(path)) throw fault(`the bundle holds "${path}" twice`)
          if (files.size >= limits.bundleFileCountMax) throw tooLarge(limits)
          total += entry.size
          if (total > limits.bundleBytesMax) throw tooLarge(limits)
          const chunks: Buffer[] = []
          files.set(path, Buffer.alloc(0))
          entry.on('data', (chunk: Buffer) => chunks.push(chunk))
          entry.on('end', () => files.set(path, Buffer.concat(chunks)))
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)))
          entry.resume()
        }
      },
    })
    parser.on('error', (error: unknown) => {
      reject(fault('the bundle is no readable tar archive', undefined, error))
    })
    parser.on('end', () => {
      resolve()
    })
    parser.end(tarball)
  })
  return files
}

function unzip(packed: Uint8Array, limits: Limits): Buffer {
  if (packed[0] !== 0x1f || packed[1] !== 0x8b) return Buffer.from(packed)
  try {
    return gunzipSync(packed, { maxOutputLength: limits.bundleBytesMax })
  } catch (cause) {
    const full = (cause as { readonly code?: string }).code === 'ERR_BUFFER_TOO_LARGE'
    throw full ? tooLarge(limits) : fault('the bundle is not gzip, or cut off', undefined, cause)
  }
}

function tooLarge(limits: Limits): ProxyError {
  return fault(
    `the bundle is larger than limits.bundleBytesMax (${String(limits.bundleBytesMax)}) or has more files than limits.bundleFileCountMax (${String(limits.bundleFileCountMax)})`,
  )
}

/** Null for directories. Links, devices and paths that leave the bundle have no place in one. */
function checkedPath(entry: ReadEntry): string | null {
  if (entry.type === 'Directory' || entry.type === 'GNUDumpDir') return null
  if (entry.type !== 'File' && entry.type !== 'OldFile' && entry.type !== 'ContiguousFile') {
    throw fault(`the bundle holds "${entry.path}" of type ${entry.type}; only files are allowed`)
  }
  const path = entry.path.replace(/^(\.?\/)+/, '')
  const parts = path.split('/')
  if (path === '' || path.includes('\\') || path.includes('\0') || parts.includes('..')) {
    throw fault(`the bundle holds the path ${JSON.stringify(entry.path)}, which leaves it`)
  }
  return parts.filter((part) => part !== '' && part !== '.').join('/')
}

function findModule(files: BundleFiles, manifest: Manifest): Uint8Array {
  const modules = new Set<string>()
  for (const entrypoint of [connectEntrypoint, statementEntrypoint]) {
    const module = manifest.modules.get(entrypoint)
    if (module !== undefined) modules.add(module)
  }
  if (modules.size === 0 && files.has('policy.wasm')) modules.add('policy.wasm')
  const [path, second] = [...modules]
  if (path === undefined) {
    throw fault(
      "the bundle has no WebAssembly module for regate's entrypoints",
      'build it with `regate policy build`, or `opa build -t wasm -e regate/statement/decision -e regate/connect/decision`',
    )
  }
  if (second !== undefined) throw fault('the entrypoints lie in different modules of the bundle')
  const wasm = files.get(path)
  if (wasm === undefined) throw fault(`the bundle's .manifest names ${path}, which is not in it`)
  return wasm
}

function readData(files: BundleFiles): Readonly<Record<string, unknown>> {
  let data: Readonly<Record<string, unknown>> = {}
  for (const [path, bytes] of files) {
    const parts = path.split('/')
    const name = parts.pop() ?? ''
    if (name !== 'data.json' && name !== 'data.yaml' && name !== 'data.yml') continue
    let document: unknown
    try {
      document = name === 'data.json' ? JSON.parse(text(bytes)) : parseYaml(text(bytes))
    } catch (cause) {
      throw fault(`${path} of the bundle cannot be read`, undefined, cause)
    }
    if (typeof document !== 'object' || document === null || Array.isArray(document)) {
      throw fault(`${path} of the bundle must hold an object`)
    }
    const nested = parts.reduceRight<unknown>((inner, part) => ({ [part]: inner }), document)
    data = mergeData(data, nested as Readonly<Record<string, unknown>>)
  }
  return data
}

/** Every leaf of the data must lie below one of the roots that the manifest claims. */
function checkRoots(data: Readonly<Record<string, unknown>>, manifest: Manifest): void {
  const roots = manifest.roots.map((root) => (root === '' ? [] : root.split('/')))
  const walk = (value: unknown, path: readonly string[]): void => {
    if (roots.some((root) => root.every((part, index) => path[index] === part))) return
    const above = roots.some((root) => path.every((part, index) => root[index] === part))
    if (above && typeof value === 'object' && value !== null && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value)) walk(inner, [...path, key])
      return
    }
    throw fault(
      `the bundle's data at "${path.join('/')}" lies outside of its roots (${manifest.roots.join(', ')})`,
    )
  }
  walk(data, [])
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
}
