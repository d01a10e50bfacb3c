/** `npm run test:audit`: kills a proxy under load a hundred times (or as often as the argument says). */
import { rm } from 'node:fs/promises'
import { startPostgres } from '../support/postgres.ts'
import { writeProxyFiles } from '../support/proxy.ts'
import { killUnderLoad } from './kill.ts'

const kills = Number(process.argv[2] ?? 100)
const postgres = await startPostgres()
const { directory, path, environment } = await writeProxyFiles(postgres, {})
Object.assign(process.env, environment)
try {
  const report = await killUnderLoad(postgres, path, kills, Math.random)
  console.log(JSON.stringify(report, null, 2))
  const wrong = report.unrecorded.length + report.invented.length + report.problems.length
  process.exitCode = wrong === 0 && report.ran > kills ? 0 : 1
} finally {
  await postgres.stop()
  await rm(directory, { recursive: true, force: true })
}
