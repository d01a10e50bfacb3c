/**
 * Statements of PostgreSQL's regression suite, chosen by a seed, whose kind, effects and relations a
 * person has read and found right (hand-checked.json; the suite is under the PostgreSQL licence).
 * The replay compares each of them with the analysis of the day.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Analysis } from '../../src/sql/sql.ts'

export interface Expectation {
  /** The suite's file, without its ending. */
  readonly test: string
  readonly sql: string
  readonly kind: string
  readonly effects: readonly string[]
  /** `schema.name action,action` and, where the client did not name it, ` through …`. */
  readonly relations: readonly string[]
}

const sqlBytesMax = 200

export function readHandChecked(): readonly Expectation[] {
  const path = new URL('hand-checked.json', import.meta.url)
  return JSON.parse(readFileSync(path, 'utf8')) as readonly Expectation[]
}

/** What the list says of a statement. Temporary schemas are numbered by session: all are pg_temp. */
export function factsOf(test: string, text: string, analysis: Analysis): Expectation {
  const relations = analysis.access.relations.map(({ schema, name, actions, through }) => {
    const whole = `${schema.replace(/^pg_temp_\d+$/, 'pg_temp')}.${name} ${[...actions].sort().join(',')}`
    return through === null ? whole : `${whole} through ${through}`
  })
  return {
    ...{ test, sql: bare(text), kind: analysis.kind },
    effects: [...analysis.access.effects].sort(),
    relations: relations.sort(),
  }
}

/** Without the comments and the white space around it. */
function bare(text: string): string {
  return text.replace(/^(?:\s|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/)+/, '').trim()
}

/** Compares what is run with the list, and draws new lists. */
export class HandChecked {
  readonly wrong: { readonly expected: Expectation; readonly found: Expectation }[] = []
  readonly #expected: ReadonlyMap<string, Expectation>
  readonly #met = new Set<string>()
  readonly #seen = new Map<string, Expectation>()
  readonly #twice = new Set<string>()

  constructor(expected: readonly Expectation[] = readHandChecked()) {
    this.#expected = new Map(expected.map((one) => [keyOf(one), one]))
  }

  /** A statement that the server has accepted. */
  add(test: string, text: string, analysis: Analysis): void {
    const found = factsOf(test, text, analysis)
    const key = keyOf(found)
    if (this.#seen.has(key)) this.#twice.add(key)
    this.#seen.set(key, found)
    const expected = this.#expected.get(key)
    if (expected === undefined) return
    this.#met.add(key)
    if (JSON.stringify(expected) !== JSON.stringify(found)) this.wrong.push({ expected, found })
  }

  summary(): string {
    const lines = [`hand-checked: ${this.#met.size} of ${this.#expected.size} met`]
    for (const { expected, found } of this.wrong) {
      lines.push(`WRONG ${JSON.stringify(found)}\n      ${JSON.stringify(expected)}`)
    }
    return lines.join('\n')
  }

  /** Short statements that stand once in their file, the same ones for the same seed. */
  sample(count: number, seed: number): readonly Expectation[] {
    const draw = (key: string): string =>
      createHash('sha256').update(`${seed} ${key}`).digest('hex')
    return [...this.#seen]
      .filter(([key, { sql }]) => !this.#twice.has(key) && Buffer.byteLength(sql) <= sqlBytesMax)
      .map(([key, one]) => ({ order: draw(key), one }))
      .sort((a, b) => (a.order < b.order ? -1 : 1))
      .slice(0, count)
      .map(({ one }) => one)
  }
}

function keyOf({ test, sql }: { readonly test: string; readonly sql: string }): string {
  return `${test}\n${sql}`
}
