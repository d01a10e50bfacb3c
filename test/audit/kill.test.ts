/** The short form of `npm run test:audit`: a few kills, with the same questions afterwards. */
import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { writeProxyFiles } from '../support/proxy.ts'
import { killUnderLoad } from './kill.ts'

const kills = 4
let postgres: TestPostgres
let files: Awaited<ReturnType<typeof writeProxyFiles>>

beforeAll(async () => {
  postgres = await startPostgres()
  files = await writeProxyFiles(postgres, {})
  Object.assign(process.env, files.environment)
})
afterAll(async () => {
  await postgres.stop()
  await rm(files.directory, { recursive: true, force: true })
})

test(
  'a proxy that is killed under load has every statement on record that the server ran',
  { timeout: 180_000 },
  async () => {
    let round = 0
    const report = await killUnderLoad(postgres, files.path, kills, () => ++round / (kills + 1))
    expect(report).toMatchObject({ kills, unrecorded: [], invented: [], problems: [] })
    expect(report.ran).toBeGreaterThan(kills)
    expect(report.recorded).toBeGreaterThanOrEqual(report.ran)
  },
)
