/**
 * The test that decides whether masks hold: two databases that differ only in sensitive values look
 * the same to the masked client, whatever it sends. And the other half: what touches nothing
 * sensitive is answered exactly.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { backendTypes } from '../../src/wire/wire.ts'
import { readCases } from './cases.ts'
import {
  Comparison,
  directly,
  judge,
  run,
  summarise,
  type Connect,
  type Transcript,
} from './compare.ts'
import { attackQuery, maskedQuery, plainQuery, sample } from './generated.ts'
import { startProxies, type Proxies } from './proxies.ts'
import { modeName, modes } from './raw-connection.ts'
import { hasSqlsmith, sqlsmith } from './sqlsmith.ts'
import { buildWorlds, databaseName, type Worlds } from './worlds.ts'

let worlds: Worlds
let proxies: Proxies
const direct: Connect = (world) => directly(world, databaseName)

beforeAll(async () => {
  worlds = await buildWorlds()
  proxies = await startProxies(worlds)
}, 240_000)

afterAll(async () => {
  await proxies?.stop()
  await worlds?.stop()
})

/** Tokens and ranges that schema.sql gives sensitive values in the first world. */
const sensitive = /S3CR3T|s3cr3t|deaddead-dead|770\d{5}|880000\d\d\.\d5|1901-0|53334352/

/** Rows as the client saw them, with what describes them. */
function answer(transcript: Transcript): readonly string[] {
  const kept: readonly number[] = [
    backendTypes.RowDescription,
    backendTypes.DataRow,
    backendTypes.CopyData,
    backendTypes.CommandComplete,
    backendTypes.ReadyForQuery,
  ]
  return transcript.frames
    .filter((frame) => kept.includes(frame[0] ?? 0))
    .map((frame) => frame.toString('latin1'))
}

describe('noninterference through regate', () => {
  for (const mode of modes) {
    it(`no case of leaks.sql tells anything (${modeName(mode)})`, async () => {
      const leaks: string[] = []
      let answered = 0
      let noise = 0
      const cases = readCases('leaks.sql')
      for (const item of cases) {
        const verdict = await judge(proxies.connect, worlds, item, mode)
        if (verdict.kind === 'leak') leaks.push(`${item.name}: ${verdict.difference}`)
        if (verdict.kind === 'noise') noise += 1
        const received = verdict.first.frames.map((frame) => frame.toString('latin1')).join('\n')
        const shown = sensitive.exec(received)
        if (shown !== null) leaks.push(`${item.name}: shows ${shown[0]}`)
        if (verdict.first.sqlstate === null) answered += 1
      }
      console.log(`${modeName(mode)}: ${cases.length} cases, ${answered} answered, ${noise} noise`)
      expect(leaks).toEqual([])
      expect(noise).toBeLessThan(cases.length / 20)
    }, 240_000)
  }

  for (const mode of [modes[0], modes[1], modes[4]]) {
    if (mode === undefined) continue
    it(`every case of utility.sql is answered exactly (${modeName(mode)})`, async () => {
      const wrong: string[] = []
      for (const item of readCases('utility.sql')) {
        const proxied = await run(proxies.connect, worlds.first, item, mode)
        const expected = await run(direct, worlds.first, item, mode)
        const same = JSON.stringify(answer(proxied)) === JSON.stringify(answer(expected))
        if (!same || proxied.sqlstate !== expected.sqlstate) {
          wrong.push(`${item.name}: ${reasonOf(proxied)}`)
        }
      }
      expect(wrong).toEqual([])
    }, 120_000)
  }

  it('answers generated queries that touch nothing sensitive, exactly', async () => {
    const { answered, refused, wrong } = await figures(sample(plainQuery, 300, 7), true)
    console.log(`plain: ${answered} answered, ${refused.length} refused`)
    expect(wrong).toEqual([])
    expect(refused.length / (answered + refused.length), refused.join('\n')).toBeLessThan(0.02)
  }, 240_000)

  it('answers generated queries whose only sensitive use is an output, masked', async () => {
    const { answered, refused, wrong } = await figures(sample(maskedQuery, 300, 7), false)
    console.log(`masked: ${answered} answered, ${refused.length} refused`)
    expect(wrong).toEqual([])
    expect(answered / (answered + refused.length), refused.join('\n')).toBeGreaterThan(0.5)
  }, 240_000)

  it('tells nothing to generated queries that use sensitive columns anywhere', async () => {
    expect(await leaksOf(sample(attackQuery, 300, 7))).toEqual([])
  }, 240_000)

  it.skipIf(!hasSqlsmith())(
    'tells nothing to SQLsmith (npm run test:noninterference for more)',
    async () => {
      const queries = await sqlsmith(worlds.first.server, databaseName, { count: 300, seed: 42 })
      expect(queries.length).toBeGreaterThan(200)
      expect(await leaksOf(queries)).toEqual([])
    },
    240_000,
  )

  async function leaksOf(queries: readonly string[]): Promise<readonly string[]> {
    const comparison = new Comparison(proxies.connect, worlds)
    const leaks: string[] = []
    try {
      for (const [index, sql] of queries.entries()) {
        const mode = modes[index % modes.length]
        if (mode === undefined) continue
        const verdict = await comparison.judge(sql, mode)
        if (verdict.kind === 'leak') leaks.push(`${sql}: ${verdict.difference}`)
      }
    } finally {
      await comparison.close()
    }
    return leaks
  }

  async function figures(
    queries: readonly string[],
    exact: boolean,
  ): Promise<{ answered: number; refused: string[]; wrong: string[] }> {
    const refused: string[] = []
    const wrong: string[] = []
    let answered = 0
    const comparison = new Comparison(proxies.connect, worlds)
    const straight = await direct(worlds.first)
    try {
      for (const [index, sql] of queries.entries()) {
        const mode = modes[index % modes.length]
        if (mode === undefined) continue
        const expected = summarise(await straight.send(sql, mode), straight.closed)
        const verdict = await comparison.judge(sql, mode)
        const received = verdict.first.frames.map((frame) => frame.toString('latin1')).join('\n')
        if (verdict.kind === 'leak') wrong.push(`${sql}: ${verdict.difference}`)
        if (sensitive.test(received)) wrong.push(`${sql}: shows a value`)
        if (expected.sqlstate !== null) continue
        if (verdict.first.sqlstate === '42501') {
          refused.push(`${sql}: ${reasonOf(verdict.first)}`)
          continue
        }
        answered += 1
        const same = JSON.stringify(answer(verdict.first)) === JSON.stringify(answer(expected))
        if (exact && !same) wrong.push(`${sql}: ${reasonOf(verdict.first)}`)
        if (!exact && verdict.first.rowCount !== expected.rowCount) wrong.push(`${sql}: row count`)
      }
    } finally {
      await comparison.close()
      await straight.close()
    }
    return { answered, refused, wrong }
  }
})

function reasonOf(transcript: Transcript): string {
  const error = transcript.frames.find((frame) => frame[0] === backendTypes.ErrorResponse)
  return error === undefined
    ? 'other rows'
    : error.toString('utf8').replaceAll('\0', ' ').slice(5, 300)
}
