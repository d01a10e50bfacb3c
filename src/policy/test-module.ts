/**
 * Rego tests inside WebAssembly: a module whose entrypoints are test rules. Used by `regate policy
 * test` to hold what runs in production against what OPA itself says.
 */
import type { Limits } from '../core/core.ts'
import type { BundleFiles } from './bundle.ts'
import { compileModule, Engine, type PolicyModule } from './opa-wasm.ts'

export interface TestOutcome {
  readonly passed: boolean
  /** What came out, for people. */
  readonly words: string
}

export class TestModule {
  readonly #module: PolicyModule
  readonly #data: Uint8Array
  readonly #limits: Limits
  #engine: Engine

  /** From the files of a bundle that OPA built with test rules as entrypoints. */
  static async load(files: BundleFiles, limits: Limits): Promise<TestModule> {
    const wasm = files.get('policy.wasm')
    if (wasm === undefined) throw new Error('the bundle holds no policy.wasm')
    const data = files.get('data.json') ?? Buffer.from('{}')
    return new TestModule(await compileModule(wasm), data, limits)
  }

  private constructor(module: PolicyModule, data: Uint8Array, limits: Limits) {
    this.#module = module
    this.#data = data
    this.#limits = limits
    this.#engine = this.#instantiate()
  }

  /** Runs one test rule. */
  run(path: string): TestOutcome {
    const entrypoint = this.#engine.entrypoints[path]
    if (entrypoint === undefined) return { passed: false, words: 'not there' }
    try {
      const answer = this.#engine.evaluate(entrypoint, '{}')
      const set = JSON.parse(answer) as readonly { readonly result?: unknown }[]
      const passed = set.length === 1 && set[0]?.result === true
      return { passed, words: passed ? 'pass' : `fail (${answer.slice(0, 200)})` }
    } catch (error) {
      this.#engine = this.#instantiate()
      const message = (error as { message?: unknown } | null)?.message ?? error
      return { passed: false, words: `error: ${String(message)}` }
    }
  }

  #instantiate(): Engine {
    return new Engine(this.#module, this.#data, {
      memoryBytesMax: this.#limits.policyMemoryBytesMax,
    })
  }
}
