// Compiles src/ to dist/, and copies what is not TypeScript: SQL, JSON, HTML, CSS, images.
// The result replaces dist/ at the end, so that a build that fails leaves the last one usable.
// With --quick: the same JavaScript without types and their check, for what only runs it (tests);
// nor are documents made anew, so that a test sees one that was forgotten.
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, renameSync, rmSync, statSync } from 'node:fs'

const making = `dist-making-${process.pid}`
const quick = process.argv.includes('--quick') ? ['--noCheck', '--declaration', 'false'] : []

function fail(status) {
  rmSync(making, { recursive: true, force: true })
  process.exit(status)
}

function compile(project, outDir, ...more) {
  const tsc = spawnSync(
    process.execPath,
    ['node_modules/typescript/bin/tsc', '-p', project, '--outDir', outDir, ...more],
    { stdio: 'inherit' },
  )
  if (tsc.status !== 0) fail(tsc.status ?? 1)
}

compile('tsconfig.build.json', making, ...quick)
// The console's modules run in a browser: another library, and nothing but their JavaScript.
compile('src/console/browser', `${making}/console/browser`, '--noEmit', 'false', ...quick)

cpSync('src', making, {
  recursive: true,
  filter: (path) => statSync(path).isDirectory() || !/\.ts$|tsconfig\.json$/.test(path),
})
chmodSync(`${making}/main.js`, 0o755)
if (existsSync('dist')) rmSync('dist', { recursive: true, force: true })
renameSync(making, 'dist')

if (quick.length > 0) process.exit(0)

// Documents that are generated from the code.
const generate = spawnSync(process.execPath, ['scripts/generate-configuration.mjs'], {
  stdio: 'inherit',
})
if (generate.status !== 0) process.exit(generate.status ?? 1)
