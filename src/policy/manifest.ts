/** A bundle's `.manifest`: https://www.openpolicyagent.org/docs/latest/management-bundles/#bundle-file-format */
import { ProxyError } from '../core/core.ts'

export interface Manifest {
  /** Empty where the bundle names none. */
  readonly revision: string
  /** Paths that the bundle owns; `['']` is everything. */
  readonly roots: readonly string[]
  /** Entrypoint → path of its module inside the bundle. */
  readonly modules: ReadonlyMap<string, string>
  /** Entrypoint → `custom.regate` of its METADATA. */
  readonly annotations: ReadonlyMap<string, Readonly<Record<string, unknown>>>
}

const fault = (message: string) =>
  new ProxyError('policy_fault', `.manifest of the bundle: ${message}`)

/** Reads a `.manifest`; a bundle without one owns everything and names no module. */
export function readManifest(json: string | null): Manifest {
  let document: unknown
  try {
    document = JSON.parse(json ?? '{}')
  } catch (cause) {
    throw new ProxyError('policy_fault', '.manifest of the bundle is not JSON', { cause })
  }
  if (typeof document !== 'object' || document === null) throw fault('must be an object')
  const given = document as Readonly<Record<string, unknown>>
  const revision = given['revision'] ?? ''
  if (typeof revision !== 'string') throw fault('"revision" must be a string')
  const roots = given['roots'] ?? ['']
  if (!Array.isArray(roots) || !roots.every((root) => typeof root === 'string')) {
    throw fault('"roots" must be a list of strings')
  }
  const modules = new Map<string, string>()
  const annotations = new Map<string, Readonly<Record<string, unknown>>>()
  for (const item of (given['wasm'] ?? []) as readonly WasmItem[]) {
    if (typeof item.entrypoint !== 'string' || typeof item.module !== 'string') {
      throw fault('"wasm" needs an entrypoint and a module in each entry')
    }
    modules.set(item.entrypoint, item.module.replace(/^\/+/, ''))
    for (const annotation of item.annotations ?? []) {
      const custom = annotation.custom?.regate
      if (custom === undefined) continue
      annotations.set(item.entrypoint, { ...annotations.get(item.entrypoint), ...custom })
    }
  }
  return {
    revision,
    roots: roots.map((root: string) => root.replaceAll(/^\/+|\/+$/g, '')),
    modules,
    annotations,
  }
}

interface WasmItem {
  readonly entrypoint?: unknown
  readonly module?: unknown
  readonly annotations?: readonly {
    readonly custom?: { readonly regate?: Readonly<Record<string, unknown>> }
  }[]
}
