/** The race in short; `npm run test:approvals` is the long one. */
import { expect, test } from 'vitest'
import { runRace } from './race.ts'

test('two regates, one store, chaos: nothing runs twice or without a valid approval', async () => {
  const report = await runRace({
    ...{ requests: 60, requesters: 12, reviewers: 6, restartEvery: 25 },
    say: () => undefined,
  })
  expect(report.violations).toEqual([])
  expect(report.ran).toBeGreaterThan(5)
  expect(report.callbacks['200'] ?? 0).toBeGreaterThan(5)
}, 240_000)
