/**
 * Text → statements. Small texts are parsed in place, large or deep ones in a worker thread; which
 * one is decided by a linear scan before the parser sees a byte.
 *
 * Invariants: after a trap the instance is gone and the next parse runs on another; a result comes
 * from an instance that has never trapped; a refusal is a value. Texts are valid UTF-8 without NUL
 * (the wire refuses others before).
 */
import { LRUCache } from 'lru-cache'
import { ProxyError, type Limits } from '../core/core.ts'
import type { ParsedStatement, SyntaxNode } from './access.ts'
import { createEngine, type Engine, type EngineResult } from './libpg-query.ts'
import { parseWithoutComments } from './parser-comments.ts'
import { parseError, tooComplex } from './parse-errors.ts'
import { kindOfTree } from './parser-kinds.ts'
import { depthBound } from './parser-scan.ts'
import { splitTrees, type StatementSlice } from './parser-split.ts'
import { plpgsqlBody, withoutRowTypes, type PlpgsqlBody } from './plpgsql.ts'
import { shapeOf } from './shape.ts'
import { nameUses, ParseWorkers, type WorkerAnswer } from './worker.ts'

/** What became of a query string. */
export type ParseResult =
  /** Empty for a query string without a statement. */
  | { readonly kind: 'parsed'; readonly statements: readonly ParsedStatement[] }
  /** PostgreSQL's own error, or 54000/54001 for too large and too deep. */
  | { readonly kind: 'failed'; readonly error: ProxyError }

export interface SqlParserOptions {
  readonly limits: Limits
  /** Threads for large texts; default 2. */
  readonly threadsMax?: number
  /** Depth in tokens above which a text goes to a thread; default 1,000. */
  readonly inPlaceDepthMax?: number
}

/**
 * Depth, in tokens, that the main thread's stack (about 1 MB) carries several times over. Measured on
 * an empty stack: nested sub-selects trap between 3,200 and 6,400 tokens, the other shapes later.
 */
const inPlaceDepthMax = 1_000
/** Instances kept ready, so that one can be replaced within a turn of the event loop. */
const sparesCount = 2
/** Blanked statements that are remembered: their text, tree and its object. */
const hiddenFormsBytesMax = 16 * 1024 * 1024
/** An instance whose memory has grown beyond this is replaced: it never shrinks. */
const engineBytesMax = 192 * 1024 * 1024

/** The grammar's own version (server_version_num). */
const newestVersion = 180_000

class Statement implements ParsedStatement {
  readonly text: string
  readonly kind: string
  readonly index: number
  readonly count: number
  readonly tree: string | Buffer
  #astJson: string | undefined
  #usesNames: boolean | undefined
  /** The JSON that `ast` comes from where that is another, shorter one. */
  readonly #shortJson: Buffer | null
  #ast: SyntaxNode | undefined

  constructor(
    text: string,
    tree: string | Buffer,
    shortJson: Buffer | null,
    kind: string,
    index: number,
    count: number,
    usesNames: boolean | undefined,
  ) {
    this.text = text
    this.#usesNames = usesNames
    this.tree = tree
    this.#shortJson = shortJson
    this.kind = kind
    this.index = index
    this.count = count
  }

  get usesNames(): boolean {
    return (this.#usesNames ??= nameUses.some((tag) => this.tree.includes(tag)))
  }

  get astJson(): string {
    if (typeof this.tree === 'string') return this.tree
    return (this.#astJson ??= this.tree.toString('utf8'))
  }

  /** Of a text parsed in a thread: lists of constants are cut after `constantsKept` items. */
  get ast(): SyntaxNode {
    return (this.#ast ??= JSON.parse(this.#shortJson?.toString() ?? this.astJson) as SyntaxNode)
  }
}

interface Trees {
  readonly json: Uint8Array
  /** Nobody else writes to `json`. */
  readonly owned: boolean
  readonly short: Uint8Array | null
  /** Whether any statement uses names, where that is known. */
  readonly names: boolean | undefined
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Owns the instances of this thread and the worker threads. `close` it. */
export class SqlParser {
  readonly #limits: Limits
  readonly #depthMax: number
  readonly #workers: ParseWorkers
  #engine: Engine | null
  /** Of its own: the PL/pgSQL compiler keeps static state over its errors. */
  #plpgsqlEngine: Engine | null
  readonly #spares: Engine[]
  readonly #hiddenForms = new LRUCache<string, ParsedStatement>({
    maxSize: hiddenFormsBytesMax,
    sizeCalculation: (form, text) => 512 + text.length * 4 + form.astJson.length * 4,
  })
  #replenishing = false
  #trapCount = 0

  private constructor(options: SqlParserOptions, engines: Engine[]) {
    this.#limits = options.limits
    this.#depthMax = options.inPlaceDepthMax ?? inPlaceDepthMax
    this.#engine = engines.pop() ?? null
    this.#plpgsqlEngine = engines.pop() ?? null
    this.#spares = engines
    this.#workers = new ParseWorkers({
      threadsMax: options.threadsMax ?? 2,
      queueCountMax: 1_000,
      queueBytesMax: 4 * options.limits.statementBytesMax,
      wallMsMax: options.limits.parseMsMax,
      treeBytesMax: options.limits.treeBytesMax,
      idleMsMax: 60_000,
    })
  }

  /** Compiles the module (once per process) and makes the first instances. */
  static async create(options: SqlParserOptions): Promise<SqlParser> {
    const engines = await Promise.all(Array.from({ length: 2 + sparesCount }, createEngine))
    return new SqlParser(options, engines)
  }

  /** Instances of this thread that were thrown away after a trap. */
  get trapCount(): number {
    return this.#trapCount
  }

  /**
   * In place, synchronous. 'later' where the text belongs into a worker thread.
   * @param text valid UTF-8 without NUL; a view, not kept.
   * @param serverVersion server_version_num of the upstream: errors are worded as it would.
   */
  parse(text: Buffer, serverVersion = newestVersion): ParseResult | { readonly kind: 'later' } {
    const refused = this.#refusedBySize(text)
    if (refused !== null) return refused
    if (text.length > this.#limits.inPlaceParseBytesMax) return later
    if (depthBound(text, this.#depthMax) > this.#depthMax) return later
    const engine = this.#engine
    if (engine === null) return later
    let answer: EngineResult
    try {
      answer = engine.parse(text)
      if (answer.kind === 'error') answer = parseWithoutComments(engine, text) ?? answer
    } catch {
      this.#replace()
      return later
    }
    if (engine.memoryBytes() > engineBytesMax) this.#replace()
    return this.#result(text, answer, serverVersion)
  }

  /** Under limits.parseMsMax. Never rejects. @param text not to be changed before it is settled. */
  async parseInWorker(text: Buffer, serverVersion = newestVersion): Promise<ParseResult> {
    const refused = this.#refusedBySize(text)
    if (refused !== null) return refused
    return this.#result(text, await this.#workers.run('parse', text), serverVersion)
  }

  /**
   * SQL that regate itself looks into: a view's definition, a function's body. In place only.
   * @returns null where it does not parse, or is too large or deep for that.
   */
  parseBody(text: string): readonly ParsedStatement[] | null {
    if (text.includes('\0')) return null
    const result = this.parse(Buffer.from(text))
    return result.kind === 'parsed' ? result.statements : null
  }

  /**
   * The static contents of one PL/pgSQL function or DO block.
   * @param text a whole `CREATE FUNCTION … LANGUAGE plpgsql AS '…'` or `DO '…'` statement.
   * @returns null where it is not PL/pgSQL, does not compile, or not all of it is known.
   */
  parsePlpgsql(text: string): PlpgsqlBody | null {
    const source = withoutRowTypes(text)
    const bytes = Buffer.from(source)
    const engine = this.#plpgsqlEngine
    if (engine === null || text.includes('\0')) return null
    if (bytes.length > this.#limits.inPlaceParseBytesMax * 4) return null
    try {
      const answer = engine.parsePlpgsql(bytes)
      if (answer.kind !== 'json') return null
      return plpgsqlBody(JSON.parse(decoder.decode(answer.json)), source)
    } catch {
      this.#plpgsqlEngine = null
      this.#replenish()
      return null
    }
  }

  /**
   * What a bundle that declares `constants: hidden` sees instead of the statement: the blanked text
   * and its tree. Remembered by shape, so a known one costs the scan alone.
   * @param text of one statement, valid UTF-8; a view, not kept.
   * @returns null where the statement has no shape, or does not parse.
   */
  hiddenForm(text: Uint8Array): ParsedStatement | null {
    const shape = shapeOf(text)
    if (shape === null) return null
    const known = this.#hiddenForms.get(shape.text)
    if (known !== undefined) return known
    const form = this.parseBody(shape.text)?.[0]
    if (form === undefined) return null
    this.#hiddenForms.set(shape.text, form)
    return form
  }

  /** libpg_query's fingerprint of one statement: 16 hexadecimal digits; null where it does not parse. */
  fingerprint(text: string): string | null {
    const bytes = Buffer.from(text)
    const engine = this.#engine
    if (engine === null || bytes.length > this.#limits.inPlaceParseBytesMax) return null
    if (depthBound(bytes, this.#depthMax) > this.#depthMax) return null
    try {
      const answer = engine.fingerprint(bytes)
      return answer.kind === 'json' ? decoder.decode(answer.json) : null
    } catch {
      this.#replace()
      return null
    }
  }

  /** Ends the worker threads. */
  async close(): Promise<void> {
    await this.#workers.close()
  }

  #refusedBySize(text: Buffer): ParseResult | null {
    const most = this.#limits.statementBytesMax
    if (text.length <= most) return null
    return failed(
      new ProxyError('program_limit_exceeded', 'query string is too long', {
        detail: `It has ${text.length} bytes; limits.statementBytesMax is ${most}.`,
        hint: 'Split it, or load data with COPY.',
      }),
    )
  }

  #result(text: Buffer, answer: EngineResult | WorkerAnswer, serverVersion: number): ParseResult {
    switch (answer.kind) {
      case 'error':
        return failed(parseError(answer, text, serverVersion))
      case 'json':
        if ('depth' in answer && answer.depth > this.#limits.depthMax) {
          return failed(
            tooComplex(
              `Its depth is ${answer.depth}; limits.depthMax is ${this.#limits.depthMax}.`,
            ),
          )
        }
        return this.#statements(text, {
          json: answer.json,
          owned: 'depth' in answer,
          short: 'short' in answer ? answer.short : null,
          names: 'names' in answer ? answer.names : undefined,
        })
      case 'large':
        return failed(
          new ProxyError('program_limit_exceeded', 'statement has too large a syntax tree', {
            detail: `It has ${answer.bytes} bytes; limits.treeBytesMax is ${this.#limits.treeBytesMax}.`,
            hint: 'Split the statement, or load data with COPY.',
          }),
        )
      case 'timeout':
        return failed(tooComplex(`Parsing took longer than limits.parseMsMax allows.`))
      case 'trap':
        return failed(tooComplex(`The parser gave up: ${answer.reason}.`))
      case 'overloaded':
        return failed(
          new ProxyError('out_of_memory', 'too many large statements are waiting to be checked', {
            hint: 'Send it again.',
          }),
        )
    }
  }

  #statements(text: Buffer, trees: Trees): ParseResult {
    const json = bufferOf(trees.json)
    const slices = splitTrees(json)
    const count = slices.length
    if (count > this.#limits.statementCountMax) {
      return failed(
        new ProxyError('program_limit_exceeded', 'query string has too many statements', {
          detail: `It has ${count}; limits.statementCountMax is ${this.#limits.statementCountMax}.`,
        }),
      )
    }
    const short = trees.short ? bufferOf(trees.short) : null
    const shortSlices = short === null ? [] : splitTrees(short)
    const statements: ParsedStatement[] = []
    for (const slice of slices) {
      const index = statements.length
      const kind = kindOfTree(json, slice.start)
      if (kind === null) return failed(unknownStatement())
      const cut = shortSlices[index]
      const shortJson = short === null || !cut ? null : short.subarray(cut.start, cut.end)
      // A view of the engine's memory ends with the next call; a thread's buffer is ours.
      const tree = trees.owned
        ? json.subarray(slice.start, slice.end)
        : json.toString('utf8', slice.start, slice.end)
      statements.push(
        new Statement(textOf(text, slice), tree, shortJson, kind, index, count, trees.names),
      )
    }
    return { kind: 'parsed', statements }
  }

  #replace(): void {
    this.#trapCount += 1
    this.#engine = this.#spares.pop() ?? null
    this.#replenish()
  }

  #replenish(): void {
    if (this.#replenishing) return
    this.#replenishing = true
    void this.#makeEngines().finally(() => {
      this.#replenishing = false
    })
  }

  async #makeEngines(): Promise<void> {
    while (this.#spares.length < sparesCount || !this.#engine || !this.#plpgsqlEngine) {
      const engine = await createEngine()
      if (this.#engine === null) this.#engine = engine
      else if (this.#plpgsqlEngine === null) this.#plpgsqlEngine = engine
      else this.#spares.push(engine)
    }
  }
}

const decoder = new TextDecoder()

const later = { kind: 'later' } as const

function failed(error: ProxyError): ParseResult {
  return { kind: 'failed', error }
}

function textOf(text: Buffer, slice: StatementSlice): string {
  const end = slice.bytes === 0 ? text.length : slice.location + slice.bytes
  return text.toString('utf8', slice.location, trimmedEnd(text, slice.location, end))
}

/** White space of scan.l only: U+00A0 is a letter to PostgreSQL. */
export function isSpace(byte: number): boolean {
  return byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)
}

function trimmedEnd(text: Buffer, start: number, end: number): number {
  while (end > start && isSpace(text[end - 1] ?? 0)) end--
  return end
}

function unknownStatement(): ProxyError {
  return new ProxyError('feature_not_supported', 'this kind of statement is not known to regate')
}
