/**
 * What a process still knows of policies that it loaded: compiled modules by the hash of their bytes,
 * and what a self-check proved of a module together with its data. So a change of data compiles
 * nothing, and coming back to known content (the way back, two bundles in turn) proves nothing twice.
 *
 * Sound because both are functions of the bytes alone. What is not (signature, its expiry, roots,
 * declarations) is looked at in every load. A content that failed is not remembered.
 */
import { LRUCache } from 'lru-cache'
import type { PolicyModule } from './opa-wasm.ts'
import { SpareThread } from './thread.ts'

/** Expected microseconds: `us` at `bytes` of input, growing with the power `exponent`. */
export interface Cost {
  readonly bytes: number
  readonly us: number
  readonly exponent: number
  readonly leastUs: number
}

const modulesMax = 8
const costsMax = 256

export class KnownPolicies {
  /** Checks one policy after the other. */
  readonly thread = new SpareThread()
  /** By SHA-256 of their bytes. */
  readonly modules = new LRUCache<string, PolicyModule>({ max: modulesMax })
  /** What passed its self-check, by SHA-256 of module and data. */
  readonly costs = new LRUCache<string, Cost>({ max: costsMax })
  /**
   * Revisions with a hash of what they were: another content under a known name gets a name of its
   * own, because verdicts are kept by revision.
   */
  readonly revisions = new Map<string, string>()

  /** Nothing more will be loaded. */
  close(): void {
    this.thread.close()
  }
}
