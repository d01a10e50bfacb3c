/**
 * Runs totality.ts through regate:
 *   npm run test:totality -- [--only <regular expression>]
 * Prints every expression that tells extreme values from harmless ones; exit code 1 if there is one.
 */
import { parseArgs } from 'node:util'
import { Comparison } from './compare.ts'
import { startProxies } from './proxies.ts'
import { modes } from './raw-connection.ts'
import { edgeClassified, edgeTables, totalityQueries } from './totality.ts'
import { buildWorlds } from './worlds.ts'

const { values } = parseArgs({ options: { only: { type: 'string', default: '' } } })
const only = new RegExp(values.only)

const worlds = await buildWorlds({ extra: edgeTables })
const figures = { run: 0, answered: 0, refused: 0, errors: 0, noise: 0, leaks: 0 }
try {
  const proxies = await startProxies(worlds, edgeClassified)
  const comparison = new Comparison(proxies.connect, worlds)
  const mode = modes[1]
  try {
    for (const sql of await totalityQueries(worlds.first.admin)) {
      if (mode === undefined) break
      if (!only.test(sql)) continue
      const verdict = await comparison.judge(sql, mode)
      figures.run += 1
      if (verdict.kind === 'noise') figures.noise += 1
      if (verdict.first.sqlstate === null) figures.answered += 1
      else if (verdict.first.sqlstate === '42501') figures.refused += 1
      else figures.errors += 1
      if (verdict.kind !== 'leak') continue
      figures.leaks += 1
      console.log(`LEAK ${sql}\n     ${verdict.difference}`)
    }
  } finally {
    await comparison.close()
    await proxies.stop()
  }
} finally {
  await worlds.stop()
}
console.log(JSON.stringify(figures))
process.exitCode = figures.leaks > 0 ? 1 : 0
