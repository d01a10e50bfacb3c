// PostgreSQL's own suites, directly and through regate with a policy that allows everything:
//   npm run test:regress      npm run test:isolation      (needs Debian, root or an installed suite)
// Prints both lists and compares the outputs byte for byte. A difference is accepted only where
// differences.json names its class; docs/limits.md lists them statement by statement.
//
// Needs: Debian's postgresql-15, and its source package, which is fetched and built in a cache
// folder (XDG_CACHE_HOME or ~/.cache, regate/regress). PostgreSQL refuses to run as root: when root,
// the server and the suite run as the user `postgres`.
import { spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'

const suite = process.argv[2] === 'isolation' ? 'isolation' : 'regress'
const root = process.getuid?.() === 0
const binaries = '/usr/lib/postgresql/15/bin'
const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'regate', 'regress')
// The suite's server must be able to read the cache: a root's home is closed to it.
const base = root ? '/var/tmp/regate-regress' : cache
const differences = JSON.parse(readFileSync(new URL('differences.json', import.meta.url), 'utf8'))

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28, ...options })
  if (result.status !== 0 && options.check !== false) {
    throw new Error(`${command} ${args.join(' ')} failed:\n${result.stdout}\n${result.stderr}`)
  }
  return result
}

function step(text) {
  process.stdout.write(`— ${text}\n`)
}

function installPackages() {
  const wanted = [
    'postgresql-15',
    'dpkg-dev',
    'bison',
    'flex',
    'libreadline-dev',
    'zlib1g-dev',
    'make',
    'gcc',
  ]
  const missing = wanted.filter(
    (name) =>
      run('dpkg-query', ['-W', '-f=${Status}', name], { check: false }).stdout !==
      'install ok installed',
  )
  if (missing.length === 0) return
  if (!root) throw new Error(`install first: apt-get install ${missing.join(' ')}`)
  step(`installing ${missing.join(', ')}`)
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  run('apt-get', ['update'], { env: environment })
  run('apt-get', ['install', '-y', '--no-install-recommends', ...missing], { env: environment })
}

// Debian 12 and later describe the mirror in one deb822 file, older ones in sources.list.
function enableSources() {
  const described = '/etc/apt/sources.list.d/debian.sources'
  const listed = '/etc/apt/sources.list'
  if (existsSync(described)) {
    const text = readFileSync(described, 'utf8')
    writeFileSync(described, text.replaceAll(/^Types: deb$/gm, 'Types: deb deb-src'))
  } else {
    const text = readFileSync(listed, 'utf8')
    const lines = text.split('\n').filter((line) => line.startsWith('deb '))
    writeFileSync(
      listed,
      `${text}\n${lines.map((line) => line.replace('deb ', 'deb-src ')).join('\n')}\n`,
    )
  }
  run('apt-get', ['update'])
}

function fetchSource() {
  mkdirSync(base, { recursive: true })
  const found = () => readdirSync(base).find((name) => /^postgresql-15\.\d+$/.test(name))
  if (found() === undefined) {
    step('fetching the source package of postgresql-15')
    const known = run('apt-cache', ['showsrc', 'postgresql-15'], { check: false }).stdout
    if (known === '' && root) enableSources()
    const versions = [
      ...run('apt-cache', ['showsrc', 'postgresql-15']).stdout.matchAll(/^Version: (\S+)/gm),
    ]
    // The newest may be gone from the mirror already: the one before serves as well.
    const fetched = versions
      .map((match) => match[1])
      .some((version) => {
        const get = ['source', '--download-only', `postgresql-15=${version}`]
        return run('apt-get', get, { cwd: base, check: false }).status === 0
      })
    if (!fetched) throw new Error('apt-get source postgresql-15 failed: is deb-src enabled?')
    const archive = readdirSync(base).find((name) => name.includes('.orig.tar.'))
    run('tar', ['xf', archive], { cwd: base })
  }
  const source = join(base, found())
  const built = join(
    source,
    'src/test',
    suite,
    suite === 'regress' ? 'pg_regress' : 'pg_isolation_regress',
  )
  if (!existsSync(built)) {
    step('building the suite (a few minutes)')
    const make = (...args) => run('make', ['-s', '-C', ...args], { cwd: source })
    if (!existsSync(join(source, 'config.status')))
      run('./configure', ['--without-icu'], { cwd: source })
    make('src/backend', 'generated-headers')
    for (const part of ['src/port', 'src/common', 'src/interfaces/libpq']) make(part)
    make('src/test/regress', 'pg_regress', 'regress.so')
    if (suite === 'isolation') make('src/test/isolation')
  }
  run('chmod', ['-R', 'a+rX', base])
  return source
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

function identity() {
  if (!root) return {}
  const [uid, gid] = ['-u', '-g'].map((flag) => Number(run('id', [flag, 'postgres']).stdout))
  return { uid, gid }
}

async function startServer(work, port) {
  const data = join(work, 'data')
  const as = identity()
  if (root) chownSync(work, as.uid, as.gid)
  run(
    join(binaries, 'initdb'),
    ['-D', data, '-U', 'postgres', '--auth=trust', '--no-locale', '-E', 'UTF8'],
    { ...as, cwd: work },
  )
  const options = `-p ${port} -k ${work} -c fsync=off -c max_connections=100 -c max_prepared_transactions=10`
  run(
    join(binaries, 'pg_ctl'),
    ['-D', data, '-o', options, '-l', join(work, 'server.log'), '-w', 'start'],
    { ...as, cwd: work, stdio: 'ignore' },
  )
  return () =>
    run(join(binaries, 'pg_ctl'), ['-D', data, '-m', 'immediate', 'stop'], {
      ...as,
      cwd: work,
      check: false,
      stdio: 'ignore',
    })
}

async function startProxy(work, upstreamPort) {
  const port = await freePort()
  const config = join(work, 'regate.yaml')
  const bundle = join(work, 'policies')
  cpSync(new URL('../../test/conformance/policies/allow', import.meta.url), bundle, {
    recursive: true,
  })
  writeFileSync(
    config,
    JSON.stringify({
      listen: { host: '127.0.0.1', port },
      databases: {
        '*': {
          upstream: { host: '127.0.0.1', port: upstreamPort, tls: { mode: 'disable' } },
          roles: { default: { user: 'postgres' } },
        },
      },
      authentication: [{ method: 'trust', groups: ['everyone'] }],
      policy: { bundle },
      audit: { directory: join(work, 'audit') },
      admin: { host: '127.0.0.1', port: await freePort() },
    }),
  )
  const child = spawn(process.execPath, ['dist/main.js', 'serve', '--config', config], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let log = ''
  child.stderr.on('data', (chunk) => (log += chunk))
  for (let wait = 0; !log.includes('"msg":"listening"'); wait++) {
    if (child.exitCode !== null || wait > 600) throw new Error(`regate did not start:\n${log}`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return { port, stop: () => child.kill('SIGTERM'), log: () => log }
}

function runSuite(source, work, name, port) {
  const output = join(work, name)
  mkdirSync(output)
  const as = identity()
  if (root) chownSync(output, as.uid, as.gid)
  const inputs = join(source, 'src/test', suite)
  const program = join(inputs, suite === 'regress' ? 'pg_regress' : 'pg_isolation_regress')
  const schedule = join(inputs, suite === 'regress' ? 'parallel_schedule' : 'isolation_schedule')
  const parameters = [
    ...[`--inputdir=${inputs}`, `--outputdir=${output}`, `--bindir=${binaries}`],
    ...[`--dlpath=${join(source, 'src/test/regress')}`, `--schedule=${schedule}`],
    ...['--host=127.0.0.1', `--port=${port}`, '--user=postgres'],
  ]
  const library = join(source, 'src/interfaces/libpq')
  const startedMs = Date.now()
  const result = run(program, parameters, {
    ...as,
    cwd: suite === 'isolation' ? inputs : output,
    check: false,
    env: { PATH: process.env.PATH, LD_LIBRARY_PATH: library, HOME: output },
  })
  writeFileSync(join(work, `${name}.log`), result.stdout + result.stderr)
  const outcome = new Map()
  for (const match of result.stdout.matchAll(
    /^(?:test)? +(\S+) +\.\.\. (ok|FAILED|failed \(ignored\))/gm,
  )) {
    outcome.set(match[1], match[2] === 'ok')
  }
  if (outcome.size === 0)
    throw new Error(`the suite did not run:\n${result.stdout}\n${result.stderr}`)
  const seconds = Math.round((Date.now() - startedMs) / 1000)
  const passed = [...outcome.values()].filter(Boolean).length
  step(`${name}: ${passed} of ${outcome.size} passed in ${seconds} s`)
  return {
    outcome,
    results: join(output, suite === 'isolation' ? 'output_iso/results' : 'results'),
  }
}

function resultsOf(directory, name) {
  const path = join(directory, `${name}.out`)
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}

async function main() {
  installPackages()
  const source = fetchSource()
  // `run.mjs fetch`: only the suite itself, for the oracles of test/oracle.
  if (process.argv[2] === 'fetch') {
    process.stdout.write(`${join(source, 'src/test/regress')}\n`)
    return
  }
  const work = mkdtempSync(join(root ? '/var/tmp' : tmpdir(), 'regate-suite-'))
  chmodSync(work, 0o755)
  let failures = 0
  try {
    const [firstPort, secondPort] = [await freePort(), await freePort()]
    mkdirSync(join(work, 'a'))
    mkdirSync(join(work, 'b'))
    const stopFirst = await startServer(join(work, 'a'), firstPort)
    const direct = runSuite(source, work, 'direct', firstPort)
    stopFirst()
    const stopSecond = await startServer(join(work, 'b'), secondPort)
    const proxy = await startProxy(work, secondPort)
    const through = runSuite(source, work, 'through', proxy.port)
    proxy.stop()
    stopSecond()
    process.stdout.write('\ntest                          direct  through\n')
    for (const [name, ok] of direct.outcome) {
      const passed = through.outcome.get(name) ?? false
      const equal = resultsOf(direct.results, name) === resultsOf(through.results, name)
      if (ok && passed) continue
      const known = differences[suite]?.[name]
      let note = known ?? 'NOT EXPECTED'
      if (equal) note = 'the same output'
      else if (known === undefined && ok) failures++
      process.stdout.write(
        `${name.padEnd(30)}${ok ? 'ok    ' : 'failed'}  ${passed ? 'ok    ' : 'failed'}   ${note}\n`,
      )
    }
    const kept = process.env.REGATE_KEEP === undefined ? '' : ` (kept in ${work})`
    process.stdout.write(
      `\n${failures} tests pass directly and fail through regate without a named reason${kept}\n`,
    )
  } finally {
    if (process.env.REGATE_KEEP === undefined) rmSync(work, { recursive: true, force: true })
  }
  process.exit(failures === 0 ? 0 : 1)
}

await main()
