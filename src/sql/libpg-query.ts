/**
 * The one file that touches libpg-query: PostgreSQL 18's own scanner and grammar as WebAssembly
 * (https://github.com/pganalyze/libpg_query). It makes instances of the emscripten module itself,
 * because one instance is not enough: input can break an instance (a stack overflow, an abort), and a
 * broken one is thrown away, none of its later results trusted.
 *
 * Bytes in, raw JSON text out: nothing is decoded, parsed or stringified on the way.
 * `bindEngine` is self-contained on purpose: its source text also runs in the worker thread
 * (worker.ts), where neither this file's imports nor TypeScript exist.
 * It must not: keep state between calls, or swallow a trap.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

/** Opaque to us; the types of the WebAssembly API come with TypeScript's DOM library only. */
interface WasmModule {
  readonly wasmModule: never
}
interface WasmInstance {
  readonly wasmInstance: never
}
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => WasmModule
  readonly Instance: new (module: WasmModule, imports: object) => WasmInstance
}

/** What regate uses of the emscripten module. */
interface EmscriptenModule {
  readonly HEAPU8: Uint8Array
  readonly HEAPU32: Uint32Array
  _malloc(bytes: number): number
  _free(pointer: number): void
  _wasm_parse_query_raw(pointer: number): number
  _wasm_free_parse_result(pointer: number): void
  _wasm_fingerprint(pointer: number): number
  _wasm_parse_plpgsql(pointer: number): number
  _wasm_scan(pointer: number): number
  _wasm_free_string(pointer: number): void
}

type EmscriptenFactory = (options: {
  readonly instantiateWasm: (imports: object, receive: (instance: WasmInstance) => void) => void
  readonly print: () => void
  readonly printErr: () => void
}) => Promise<EmscriptenModule>

/** The parser's answer, raw. */
export type EngineResult =
  /** JSON text, as libpg_query wrote it. */
  | { readonly kind: 'json'; readonly json: Uint8Array }
  /** PostgreSQL's own message; `cursor` counts characters from 1, 0 is none; `file` is `scan.l` … */
  | {
      readonly kind: 'error'
      readonly message: string
      readonly cursor: number
      readonly file: string
    }

/** One instance. Every method may trap (RangeError, WebAssembly.RuntimeError): then it is dead. */
export interface Engine {
  /** The result's `json` is a view of the instance's memory: valid until the instance's next call. */
  parse(text: Uint8Array): EngineResult
  /** A CREATE FUNCTION or DO statement in PL/pgSQL. `cursor` is always 0. */
  parsePlpgsql(text: Uint8Array): EngineResult
  /** libpg_query's fingerprint, 16 hexadecimal digits, or the error. */
  fingerprint(text: Uint8Array): EngineResult
  /** The scanner's tokens, comments included: `{"tokens":[{"start","end","tokenName",…}]}`, in bytes. */
  scan(text: Uint8Array): EngineResult
  /** Bytes of the instance's linear memory: it never shrinks. */
  memoryBytes(): number
}

/** See the header: no name of this file may occur inside. */
export function bindEngine(glue: EmscriptenModule): Engine {
  const decoder = new TextDecoder()
  const copyIn = (text: Uint8Array): number => {
    const pointer = glue._malloc(text.length + 1)
    if (pointer === 0) throw new RangeError('libpg_query: out of memory')
    const heap = glue.HEAPU8
    heap.set(text, pointer)
    heap[pointer + text.length] = 0
    return pointer
  }
  const stringView = (pointer: number): Uint8Array => {
    const heap = glue.HEAPU8
    return heap.subarray(pointer, heap.indexOf(0, pointer))
  }
  const word = (pointer: number): number => glue.HEAPU32[pointer >>> 2] ?? 0
  // The last result lives until the next call, so that its JSON can be read where it is.
  let kept = 0
  const release = (): void => {
    if (kept !== 0) glue._wasm_free_parse_result(kept)
    kept = 0
  }
  const textCall = (call: (pointer: number) => number, text: Uint8Array): Uint8Array => {
    const input = copyIn(text)
    const output = call(input)
    const bytes = stringView(output).slice()
    glue._free(input)
    glue._wasm_free_string(output)
    return bytes
  }
  // What is not of the wanted form is an error message.
  const answerOf = (bytes: Uint8Array, wanted: boolean): EngineResult =>
    wanted
      ? { kind: 'json', json: bytes }
      : { kind: 'error', message: decoder.decode(bytes), cursor: 0, file: '' }
  const jsonAnswer = (bytes: Uint8Array) => answerOf(bytes, bytes[0] === 0x7b)
  return {
    parse: (text) => {
      release()
      const input = copyIn(text)
      // PgQueryParseResult { char *parse_tree; char *stderr_buffer; PgQueryError *error }
      const result = glue._wasm_parse_query_raw(input)
      if (result === 0) throw new RangeError('libpg_query: out of memory')
      const error = word(result + 8)
      let answer: EngineResult
      if (error === 0) {
        answer = { kind: 'json', json: stringView(word(result)) }
      } else {
        // PgQueryError { char *message, *funcname, *filename; int lineno, cursorpos; char *context }
        const message = decoder.decode(stringView(word(error)).slice())
        const file = decoder.decode(stringView(word(error + 8)).slice())
        answer = { kind: 'error', message, cursor: word(error + 16) | 0, file }
      }
      glue._free(input)
      kept = result
      return answer
    },
    parsePlpgsql: (text) => jsonAnswer(textCall((p) => glue._wasm_parse_plpgsql(p), text)),
    scan: (text) => jsonAnswer(textCall((p) => glue._wasm_scan(p), text)),
    fingerprint: (text) => {
      const bytes = textCall((p) => glue._wasm_fingerprint(p), text)
      return answerOf(bytes, /^[0-9a-f]{16}$/.test(decoder.decode(bytes)))
    },
    memoryBytes: () => glue.HEAPU8.length,
  }
}

/**
 * Depth of the objects in JSON text; one node of a tree is two of them. Self-contained, as `bindEngine`.
 */
export function jsonDepth(json: Uint8Array): number {
  let depth = 0
  let most = 0
  for (let at = 0; at < json.length; at++) {
    const byte = json[at]
    if (byte === 0x22) {
      for (at++; json[at] !== 0x22 && at < json.length; at++) if (json[at] === 0x5c) at++
    } else if (byte === 0x7b) {
      depth += 1
      if (depth > most) most = depth
    } else if (byte === 0x7d) depth -= 1
  }
  return most
}

/** libpg_query's tree format: the version every tree carries (`"version":180004`). */
export const parserVersion = 180004

/** The compiled module and its glue, shared by all instances and worker threads. */
export interface EngineSource {
  readonly module: WasmModule
  readonly gluePath: string
}

let source: EngineSource | undefined
let factory: EmscriptenFactory | undefined

/** Reads and compiles the package's own WASM file, once per process. */
export function engineSource(): EngineSource {
  if (source === undefined) {
    const require = createRequire(import.meta.url)
    const gluePath = require.resolve('libpg-query/wasm/libpg-query.js')
    const bytes = readFileSync(require.resolve('libpg-query/wasm/libpg-query.wasm'))
    factory = require(gluePath) as EmscriptenFactory
    source = { module: new WebAssembly.Module(bytes), gluePath }
  }
  return source
}

/** A fresh instance. Settles within microtasks: nothing is read, nothing compiled again. */
export async function createEngine(): Promise<Engine> {
  const { module } = engineSource()
  const make = factory as EmscriptenFactory
  const glue = await make({
    instantiateWasm: (imports, receive) => {
      receive(new WebAssembly.Instance(module, imports))
    },
    print: () => undefined,
    printErr: () => undefined,
  })
  return bindEngine(glue)
}
