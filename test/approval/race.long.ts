/** `npm run test:approvals [-- REQUESTS]`: the race with 10,000 requests, 50 requesters, 20 reviewers. */
import { runRace } from './race.ts'

const requests = Number(process.argv[2] ?? 10_000)
const started = Date.now()
const report = await runRace({
  ...{ requests, requesters: 50, reviewers: 20, restartEvery: 700 },
  say: (line) => process.stderr.write(`${line}\n`),
})
const seconds = Math.round((Date.now() - started) / 1_000)
process.stdout.write(`${JSON.stringify({ ...report, seconds }, null, 2)}\n`)
process.exitCode = report.violations.length === 0 && report.ran > 0 ? 0 : 1
