/** The shipped pack, built by the real OPA once per process and loaded as regate loads it. */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { defaultLimits } from '../../src/core/core.ts'
import { buildBundle } from '../../src/control/bundles-build.ts'
import { findOpa, type Opa } from '../../src/control/opa.ts'
import { Policy, readBundle, type PolicyBundle } from '../../src/policy/policy.ts'

export const packDirectory = fileURLToPath(new URL('../../policies', import.meta.url))

let opa: Promise<Opa> | undefined
let pack: Promise<PolicyBundle> | undefined

export const realOpa = (): Promise<Opa> => (opa ??= findOpa({ env: process.env }))

export async function buildDirectory(directory: string, revision?: string): Promise<Buffer> {
  return buildBundle({
    opa: await realOpa(),
    directory,
    revision,
    cacheDirectory: join(tmpdir(), 'regate-test-bundles'),
  })
}

export function readPack(packed: Uint8Array, name = 'pack'): Promise<PolicyBundle> {
  return readBundle(packed, { limits: defaultLimits, name, signing: null, nowMs: Date.now() })
}

/** The shipped pack; `data` replaces what data.json says under `regate`. */
export async function loadPack(regate?: Readonly<Record<string, unknown>>): Promise<Policy> {
  pack ??= buildDirectory(packDirectory).then((packed) => readPack(packed))
  const bundle = await pack
  if (regate === undefined) return Policy.load(bundle, { limits: defaultLimits })
  const tables = (bundle.data['regate'] as { readonly tables: unknown }).tables
  const data = { regate: { tables, ...regate } }
  return Policy.load({ ...bundle, data }, { limits: defaultLimits })
}
