/**
 * Shapes are injective: two texts of one key have trees that are equal but for hidden constants. Proven
 * against libpg_query on generated pairs; REGATE_SHAPE_PAIRS says how many (`npm run test:shape`: a
 * million), REGATE_SHAPE_SEED where to begin, REGATE_SHAPE_SQL a folder of *.sql files to read as well.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createEngine, type Engine } from '../../../src/sql/libpg-query.ts'
import { parseWithoutComments } from '../../../src/sql/parser-comments.ts'
import { splitTrees } from '../../../src/sql/parser-split.ts'
import { shapeOf } from '../../../src/sql/shape.ts'
import { randomFrom, StatementGenerator } from './shape-generator.ts'
import { difference } from './shape-oracle.ts'

const pairs = Number(process.env['REGATE_SHAPE_PAIRS'] ?? 20_000)
const seed = Number(process.env['REGATE_SHAPE_SEED'] ?? 1)
const folder = process.env['REGATE_SHAPE_SQL']

/** The trees, or null where the text does not parse. */
function treesOf(engine: Engine, text: string): unknown {
  const bytes = Buffer.from(text)
  const first = engine.parse(bytes)
  const answer = first.kind === 'json' ? first : (parseWithoutComments(engine, bytes) ?? first)
  return answer.kind === 'json' ? JSON.parse(Buffer.from(answer.json).toString()) : null
}

function check(engine: Engine, a: string, b: string): void {
  const left = treesOf(engine, a)
  const right = treesOf(engine, b)
  if (left === null || right === null) {
    if (left === right) return
    throw new Error(`only one of them parses ${JSON.stringify([a, b])}`)
  }
  const found = difference(left, right)
  if (found !== null) throw new Error(`${found}\n  ${a}\n  ${b}`)
}

describe('texts of one shape', () => {
  it(
    `have one tree but for hidden constants (${pairs} pairs)`,
    { timeout: 3_600_000 },
    async () => {
      let engine = await createEngine()
      const random = randomFrom(seed)
      const generator = new StatementGenerator(random)
      const counts = { pairs: 0, shaped: 0, same: 0, hidden: 0, parsed: 0 }
      while (counts.pairs < pairs) {
        if (counts.pairs % 50_000 === 0) engine = await createEngine()
        const tokens = generator.statement()
        const a = generator.text(tokens)
        const shape = shapeOf(Buffer.from(a))
        if (shape !== null) {
          counts.shaped += 1
          if (shape.hiddenCount > 0) counts.hidden += 1
          expect(shapeOf(Buffer.from(shape.text))?.text).toBe(shape.text)
          check(engine, a, shape.text)
          if (treesOf(engine, a) !== null) counts.parsed += 1
        }
        for (let i = 0; i < 8; i++) {
          counts.pairs += 1
          const b = generator.text(generator.relative(tokens))
          if (shape === null || a === b || shapeOf(Buffer.from(b))?.text !== shape.text) continue
          counts.same += 1
          check(engine, a, b)
        }
      }
      console.log(JSON.stringify({ seed, ...counts }))
      // The test is worth something only if it meets the case it is about.
      expect(counts.same).toBeGreaterThan(pairs / 50)
      expect(counts.parsed).toBeGreaterThan(counts.shaped / 3)
    },
  )

  it.runIf(folder !== undefined)(
    'of PostgreSQL’s own regression suite',
    { timeout: 3_600_000 },
    async () => {
      const engine = await createEngine()
      let count = 0
      for (const name of readdirSync(folder as string).filter((file) => file.endsWith('.sql'))) {
        const text = readFileSync(join(folder as string, name), 'utf8')
        for (const statement of text.split(/;\s*\n/)) {
          const answer = engine.parse(Buffer.from(statement))
          if (answer.kind !== 'json' || splitTrees(Buffer.from(answer.json)).length !== 1) continue
          const shape = shapeOf(Buffer.from(statement))
          if (shape === null) continue
          count += 1
          check(engine, statement, shape.text)
        }
      }
      console.log(`${count} statements of the suite have a shape`)
      expect(count).toBeGreaterThan(1_000)
    },
  )
})
