/**
 * Before all tests: what several test files need is made once here instead of in every worker at
 * the same time. dist/ is what tests of commands run: one that is missing or older than its sources
 * would test nothing, or something else. Embedded PostgreSQL's template is made by its first start.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, statSync } from 'node:fs'
import type { TestProject } from 'vitest/node'
import { startPostgres } from './postgres.ts'

export default async function setup(project: TestProject): Promise<void> {
  buildIfStale()
  project.onTestsRerun(buildIfStale)
  const server = await startPostgres()
  await server.stop()
}

/** A source that is gone changes its folder. */
const sources = ['src', 'scripts/build.mjs', 'tsconfig.json', 'tsconfig.build.json']

function buildIfStale(): void {
  const built = statSync('dist/main.js', { throwIfNoEntry: false })?.mtimeMs ?? 0
  if (sources.every((path) => changedMs(path) <= built)) return
  execFileSync(process.execPath, ['scripts/build.mjs', '--quick'], { stdio: 'inherit' })
}

function changedMs(path: string): number {
  const found = statSync(path)
  if (!found.isDirectory()) return found.mtimeMs
  return readdirSync(path).reduce(
    (latest, name) => Math.max(latest, changedMs(`${path}/${name}`)),
    found.mtimeMs,
  )
}
