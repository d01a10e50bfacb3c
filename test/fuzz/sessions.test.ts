/**
 * Random sessions, directly and through regate: PostgreSQL's own answers are what is right. Short here;
 * REGATE_FUZZ_SESSIONS makes it longer, REGATE_FUZZ_SEED begins elsewhere.
 */
import { resolve } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { Random } from './random.ts'
import { difference, play, randomCase, reset, schema } from './sessions.ts'

const countMax = Number(process.env['REGATE_FUZZ_SESSIONS'] ?? 60)
const firstSeed = Number(process.env['REGATE_FUZZ_SEED'] ?? 1)
const databases = ['fuzz_direct', 'fuzz_through'] as const

let server: TestPostgres
let vault: ProxyInProcess
let pack: ProxyInProcess

beforeAll(async () => {
  server = await startPostgres()
  for (const database of databases) {
    await execute(server, `CREATE DATABASE ${database}`)
    await execute(server, schema, database)
  }
  // One that decides by the parameters, and so judges each execution anew; one that classifies columns.
  vault = await startProxy(server, { bundle: resolve('test/conformance/policies/vault') })
  const columns = { 'public.vault.gold': { class: 'pii', mask: { kind: 'redact' } } }
  pack = await startProxy(server, { groups: ['admins'], data: { regate: { columns } } })
}, 120_000)

afterAll(async () => {
  await vault.stop()
  await pack.stop()
  await server.stop()
})

it.each([
  ['that refuses some of it', (): ProxyInProcess => vault, 'denied_here'],
  ['that allows everything', (): ProxyInProcess => pack, ''],
])(
  'are answered as without a proxy, under a policy %s',
  async (_, proxy, other) => {
    const url = proxy().url(databases[1], 'anna')
    for (let seed = firstSeed; seed < firstSeed + countMax; seed++) {
      const random = new Random(seed)
      const pauseMs = random.pick([0, 0, 15])
      const batches = randomCase(random)
      for (const database of databases) await execute(server, reset, database)
      const [direct, through] = await Promise.all([
        play(server.url(databases[0]), batches, { other, pauseMs }),
        play(url, batches, { other: '', pauseMs }),
      ])
      const at = difference(direct, through)
      if (at === null) continue
      const shown = batches.map((batch) => batch.map((step) => step.shown).join('\n  '))
      const label = `seed ${seed}:\n  ${shown.join('\n  --\n  ')}`
      expect({ label, lines: through.slice(at) }).toEqual({ label, lines: direct.slice(at) })
    }
  },
  1_800_000,
)
