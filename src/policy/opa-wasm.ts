/**
 * The only file that imports opa-wasm. An Engine is one instance of a compiled Rego module with its
 * data loaded; text in, text out, by the ABI's one-shot `opa_eval` (ABI 1.2 and newer).
 * https://www.openpolicyagent.org/docs/latest/wasm/#abi-version-12
 *
 * Invariants: the input's bytes are written straight into the instance's memory, never handed over as
 * an object (stringifying deep trees is quadratic) nor as a Buffer (which opa-wasm would stringify).
 * Every evaluation starts on a fresh heap. After a throw the instance must not be used again: its
 * owner makes a new one. A module may call only builtins that are here (`missingBuiltins`).
 */
import * as opaWasm from '@open-policy-agent/opa-wasm'
import { hostBuiltins } from './builtins.ts'
import { joined, restOf, type InputParts } from './input.ts'

/** A compiled module: opaque, may be handed to worker threads. */
export interface PolicyModule {
  readonly [Symbol.toStringTag]: 'WebAssembly.Module'
}

interface Memory {
  readonly buffer: ArrayBuffer
  grow(pages: number): number
}

/** TypeScript has this only in its DOM library. */
declare const WebAssembly: {
  readonly compile: (bytes: Uint8Array) => Promise<PolicyModule>
}

/** What opa-wasm's LoadedPolicy holds; its own declarations differ from what it exports. */
interface LoadedPolicy {
  readonly wasmInstance: { readonly exports: OpaExports }
  readonly mem: Memory
  readonly dataAddr: number
  readonly dataHeapPtr: number
  readonly minorVersion: number
  readonly entrypoints: Readonly<Record<string, number>>
  setData(data: ArrayBuffer): void
}

interface OpaExports {
  opa_eval(
    reserved: number,
    entrypoint: number,
    data: number,
    input: number,
    inputBytes: number,
    heap: number,
    format: number,
  ): number
  opa_json_dump(value: number): number
  opa_value_parse(address: number, bytes: number): number
  opa_value_add_path(base: number, path: number, value: number): number
  opa_heap_ptr_get(): number
  opa_heap_ptr_set(address: number): void
  opa_eval_ctx_new(): number
  opa_eval_ctx_set_input(context: number, value: number): void
  opa_eval_ctx_set_data(context: number, value: number): void
  opa_eval_ctx_set_entrypoint(context: number, entrypoint: number): void
  opa_eval_ctx_get_result(context: number): number
  eval(context: number): number
  builtins(): number
}

interface OpaWasm {
  loadPolicySync(
    module: PolicyModule,
    memory: { initial: number; maximum?: number },
    builtins: Readonly<Record<string, unknown>>,
  ): LoadedPolicy
}

const pageBytes = 65_536
const initialPageCount = 5
/** The builtins that opa-wasm itself brings; all others that a module imports must be in builtins.ts. */
const libraryBuiltins = [
  'json.is_valid',
  'regex.split',
  'sprintf',
  'yaml.is_valid',
  'yaml.marshal',
  'yaml.unmarshal',
]

const encoder = new TextEncoder()

/** Parsed texts that stay take this much before all are forgotten. */
const keptBytesMax = 4 * 1024 * 1024
/** A longer text is parsed each time. */
const keptTextLengthMax = 64 * 1024

/** Compiles a module; rejects what is not WebAssembly. */
export async function compileModule(wasm: Uint8Array): Promise<PolicyModule> {
  return WebAssembly.compile(Uint8Array.from(wasm))
}

export interface EngineOptions {
  /** Ceiling of the instance's linear memory. */
  readonly memoryBytesMax: number
}

/** One instance of a compiled policy. Not to be used again after evaluate() has thrown. */
export class Engine {
  readonly #policy: LoadedPolicy
  readonly #memory: Memory
  #bytes: Buffer
  /** Values of texts that were parsed once: they lie behind the data, below #heap. */
  readonly #kept = new Map<string, number>()
  #heap: number

  /** `data` is JSON. Throws what WebAssembly or the module throws; the caller wraps it. */
  constructor(module: PolicyModule, data: Uint8Array, options: EngineOptions) {
    const library = (opaWasm as unknown as { readonly default: OpaWasm }).default
    const maximum = Math.max(initialPageCount, Math.floor(options.memoryBytesMax / pageBytes))
    const memory = { initial: initialPageCount, maximum }
    this.#policy = library.loadPolicySync(module, memory, hostBuiltins)
    if (!(this.#policy.minorVersion >= 2)) throw new Error('ABI older than 1.2')
    // Uint8Array.from makes an exact ArrayBuffer: a pooled Buffer's .buffer holds other data too.
    this.#policy.setData(Uint8Array.from(data).buffer)
    this.#memory = this.#policy.mem
    this.#bytes = Buffer.from(this.#memory.buffer)
    this.#heap = this.#policy.dataHeapPtr
  }

  /** Entrypoint path → id. */
  get entrypoints(): Readonly<Record<string, number>> {
    return this.#policy.entrypoints
  }

  /** Linear memory in bytes; it never shrinks. */
  get memoryBytes(): number {
    return this.#memory.buffer.byteLength
  }

  /** Builtins that the module would call and nobody provides. */
  missingBuiltins(): readonly string[] {
    const exports = this.#policy.wasmInstance.exports
    const required = JSON.parse(this.#text(exports.opa_json_dump(exports.builtins()))) as object
    return Object.keys(required).filter(
      (name) => !libraryBuiltins.includes(name) && !Object.hasOwn(hostBuiltins, name),
    )
  }

  /** Evaluates an entrypoint; the answer is OPA's result set as JSON text. */
  evaluate(entrypoint: number, input: string | InputParts): string {
    if (typeof input === 'string') return this.#evaluateText(entrypoint, input)
    return input.shared.some(({ text }) => text.length > keptTextLengthMax)
      ? this.#evaluateText(entrypoint, joined(input))
      : this.#evaluateParts(entrypoint, input)
  }

  #evaluateText(entrypoint: number, input: string): string {
    const policy = this.#policy
    const start = this.#heap
    const inputBytes = this.#write(input, start)
    const answer = policy.wasmInstance.exports.opa_eval(
      0,
      entrypoint,
      policy.dataAddr,
      start,
      inputBytes,
      start + inputBytes,
      0,
    )
    return this.#text(answer)
  }

  /**
   * Shared members are parsed once and stay, as the data does: an evaluation reads both and changes
   * neither. The rest is parsed behind them, on a fresh heap.
   */
  #evaluateParts(entrypoint: number, parts: InputParts): string {
    const { shared } = parts
    const { exports } = this.#policy.wasmInstance
    if (this.#heap - this.#policy.dataHeapPtr > keptBytesMax) this.#forget()
    // All first: the fresh heap begins behind the last.
    for (const { path, text } of shared) {
      this.#keep(path)
      this.#keep(text)
    }
    const input = this.#parse(`${restOf(parts)}}`)
    for (const { path, text } of shared) {
      const added = exports.opa_value_add_path(input, this.#keep(path), this.#keep(text))
      if (added !== 0) throw new Error(`the input's ${path} was not taken (${added})`)
    }
    const context = exports.opa_eval_ctx_new()
    exports.opa_eval_ctx_set_input(context, input)
    exports.opa_eval_ctx_set_data(context, this.#policy.dataAddr)
    exports.opa_eval_ctx_set_entrypoint(context, entrypoint)
    const failed = exports.eval(context)
    if (failed !== 0) throw new Error(`the evaluation failed (${failed})`)
    return this.#text(exports.opa_json_dump(exports.opa_eval_ctx_get_result(context)))
  }

  /** The value of a text that stays. */
  #keep(text: string): number {
    const known = this.#kept.get(text)
    if (known !== undefined) return known
    const value = this.#parse(text)
    this.#heap = this.#policy.wasmInstance.exports.opa_heap_ptr_get()
    this.#kept.set(text, value)
    return value
  }

  #forget(): void {
    this.#kept.clear()
    this.#heap = this.#policy.dataHeapPtr
  }

  /** Parses onto a fresh heap. */
  #parse(text: string): number {
    const { exports } = this.#policy.wasmInstance
    const bytes = this.#write(text, this.#heap)
    exports.opa_heap_ptr_set(this.#heap + bytes)
    const value = exports.opa_value_parse(this.#heap, bytes)
    if (value === 0) throw new Error('the input is no JSON')
    return value
  }

  #grow(bytes: number): void {
    this.#memory.grow(Math.ceil(bytes / pageBytes))
    this.#bytes = Buffer.from(this.#memory.buffer)
  }

  #write(text: string, start: number): number {
    // Three bytes a UTF-16 unit is the worst case of UTF-8.
    const available = this.#memory.buffer.byteLength - start
    if (text.length * 3 > available) this.#grow(text.length * 3 - available)
    const target = this.#view()
    return encoder.encodeInto(text, target.subarray(start)).written
  }

  /** Growing replaces the memory's buffer, so a view is valid only until the module runs. */
  #view(): Buffer {
    if (this.#bytes.buffer !== this.#memory.buffer) this.#bytes = Buffer.from(this.#memory.buffer)
    return this.#bytes
  }

  /** A NUL-terminated string of the module's memory. */
  #text(address: number): string {
    const bytes = this.#view()
    const end = bytes.indexOf(0, address)
    return bytes.toString('utf8', address, end < 0 ? bytes.length : end)
  }
}
