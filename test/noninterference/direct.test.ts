/**
 * Proves the test itself: without anything in between, nearly every case of leaks.sql must be
 * reported as a leak, and hardly any case of utility.sql.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readCases } from './cases.ts'
import { directly, judge, type Connect } from './compare.ts'
import { modes } from './raw-connection.ts'
import { buildWorlds, databaseName, otherSchema, type Worlds } from './worlds.ts'

let worlds: Worlds
const connect: Connect = (world) => directly(world, databaseName)

beforeAll(async () => {
  worlds = await buildWorlds()
}, 180_000)

afterAll(async () => {
  await worlds.stop()
})

/**
 * These tell nothing directly either: the same file in every world, an error, or values that agree
 * in both worlds on purpose.
 */
const silent = new Set([
  'read_file',
  // Byte lengths agree in both worlds.
  'length',
  // An oid of the server's own.
  'large_object',
  // Several statements are an error in the extended protocol.
  'multi_statement',
  // With the setting off the text is one string; it is libpg_query that would read it otherwise.
  'scs_off',
  // The first column that differs decides, and that is the id.
  'record_comparison',
])

describe('noninterference, directly on the server', () => {
  it('changes sensitive values only', () => {
    expect(() => otherSchema('SELECT 1')).toThrow('schema.sql no longer holds')
  })

  it('reports a leak for nearly every case of leaks.sql, in every mode', async () => {
    const missed: string[] = []
    let checked = 0
    for (const item of readCases('leaks.sql')) {
      for (const mode of [modes[0], modes[1], modes[4]]) {
        if (mode === undefined) continue
        const verdict = await judge(connect, worlds, item, mode)
        checked += 1
        // What the case makes has an oid, which the worlds' servers may count differently.
        if (verdict.kind === 'noise' && item.name.startsWith('launder_')) continue
        if (verdict.kind !== 'leak') missed.push(`${item.name} (${verdict.kind})`)
      }
    }
    const names = [...new Set(missed.map((text) => text.split(' ')[0] ?? ''))]
    console.log(`direct: ${checked - missed.length} of ${checked} leak; not: ${missed.join(', ')}`)
    expect(names.filter((name) => !silent.has(name))).toEqual([])
    expect(missed.length / checked).toBeLessThan(0.1)
  }, 300_000)

  it('finds the cases of utility.sql equal', async () => {
    const different: string[] = []
    for (const item of readCases('utility.sql')) {
      const mode = modes[0]
      if (mode === undefined) continue
      const verdict = await judge(connect, worlds, item, mode)
      if (verdict.kind !== 'equal') different.push(`${item.name}: ${verdict.kind}`)
    }
    expect(different).toEqual([])
  }, 120_000)
})
