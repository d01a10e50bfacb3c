/**
 * `npm run test:drivers`: installs the drivers from Debian's packages when it may (root, apt), runs
 * all of them directly and through regate, and writes the table into docs/drivers.md. Exit code 1
 * when anything differs or a driver is missing.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { drivers, startBench, versionOf, type DriverResult } from './drivers.ts'

const page = 'docs/drivers.md'
const begin = '<!-- made by npm run test:drivers: begin -->'
const end = '<!-- end -->'

function install(): void {
  const packages = drivers
    .filter((driver) => versionOf(driver) === null)
    .flatMap((driver) => driver.packages)
  if (packages.length === 0 || process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return
  console.log(`installing ${packages.join(' ')}`)
  execFileSync('apt-get', ['install', '-y', '--no-install-recommends', ...packages], {
    stdio: 'inherit',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
}

function table(results: readonly DriverResult[], serverVersion: number): string {
  const features = [...new Set(results.flatMap((r) => r.features.map((f) => f.feature)))]
  const common = features.filter(
    (name) => results.filter((r) => r.features.some((f) => f.feature === name)).length > 1,
  )
  const cell = (result: DriverResult, name: string): string => {
    const found = result.features.find((f) => f.feature === name)
    if (found === undefined) return '–'
    return found.equal ? 'equal' : '**differs**'
  }
  const rows = results.map((result) => {
    const own = result.features.filter((f) => !common.includes(f.feature))
    const extra = own.map((f) => `${f.feature}${f.equal ? '' : ' (**differs**)'}`).join(', ')
    const cells = [...common.map((name) => cell(result, name)), extra === '' ? '–' : extra]
    return `| ${result.driver} ${result.version} | ${cells.join(' | ')} |`
  })
  return [
    begin,
    `Server: PostgreSQL ${serverVersion}. "–": the driver has no such thing, or its script does not use it.`,
    '',
    `| driver | ${common.join(' | ')} | also |`,
    `| --- |${' --- |'.repeat(common.length + 1)}`,
    ...rows,
    end,
  ].join('\n')
}

install()
const bench = await startBench(existsSync('/usr/lib/postgresql/15/bin/postgres') ? 15 : undefined)
const results: DriverResult[] = []
let failedCount = 0
const only = process.argv.slice(2)
for (const driver of drivers) {
  if (only.length > 0 && !only.includes(driver.name)) continue
  const result = await bench.compare(driver)
  if (result === null) {
    failedCount++
    console.log(`${driver.name}: not installed (packages: ${driver.packages.join(' ')})`)
    continue
  }
  results.push(result)
  const equal = result.features.filter((feature) => feature.equal).length
  console.log(
    `${result.driver} ${result.version}: ${equal} of ${result.features.length} features equal`,
  )
  if (result.trouble !== '') console.log(result.trouble)
  if (equal < result.features.length || result.trouble !== '') failedCount++
  for (const { feature, direct, through, equal: same } of result.features) {
    if (!same) console.log(`  ${feature}\n    directly: ${direct}\n    through:  ${through}`)
  }
}
await bench.stop()
if (only.length === 0) {
  const old = readFileSync(page, 'utf8')
  const made = table(results, bench.serverVersion)
  writeFileSync(
    page,
    old.slice(0, old.indexOf(begin)) + made + old.slice(old.indexOf(end) + end.length),
  )
}
process.exitCode = failedCount === 0 ? 0 : 1
