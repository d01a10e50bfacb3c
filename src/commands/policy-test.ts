/**
 * `regate policy test`: fixtures from SQL, then the real `opa test`, whose output is shown as it is;
 * then the very same tests in WebAssembly, which is what judges in production. A test that passes in
 * one and not in the other is an error.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, relative, sep } from 'node:path'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { runOpa, sourceStamp, type Opa } from '../control/control.ts'
import { defaultLimits } from '../core/core.ts'
import { TestModule, unpackBundle } from '../policy/policy.ts'
import { CommandFailure } from './failure.ts'
import { Workbench } from './policy-facts.ts'
import { writeFixtures } from './policy-fixtures.ts'
import { directoryOf, opaFor, withOpa, type OpaArguments } from './policy-opa.ts'

interface TestArguments extends OpaArguments {
  dir: string
  coverage: boolean
  threshold: number | undefined
  run: string | undefined
  verbose: boolean
  watch: boolean
  catalog: string | undefined
  wasm: boolean
}

function builder(yargs: Argv): Argv<TestArguments> {
  return withOpa(yargs)
    .positional('dir', { type: 'string', default: 'policies', describe: 'the policy directory' })
    .option('coverage', { type: 'boolean', default: false, describe: "OPA's coverage report" })
    .option('threshold', { type: 'number', describe: 'fail below this coverage, in percent' })
    .option('run', { type: 'string', describe: 'only tests whose name matches' })
    .option('verbose', { type: 'boolean', alias: 'v', default: false, describe: 'name every test' })
    .option('watch', {
      type: 'boolean',
      alias: 'w',
      default: false,
      describe: 'again on each change',
    })
    .option('catalog', { type: 'string', describe: 'catalog snapshot for all fixtures' })
    .option('wasm', {
      type: 'boolean',
      default: true,
      describe: 'run the tests in WebAssembly too',
    })
    .example('$0 policy test policies', 'fixtures, opa test, and the same tests in WebAssembly')
    .example('$0 policy test policies --coverage', 'which lines no test runs')
}

export const policyTestCommand = {
  command: 'test [dir]',
  describe: 'Test policies: fixtures from SQL, opa test, WebAssembly',
  builder,
  handler: async (args: ArgumentsCamelCase<TestArguments>): Promise<void> => {
    const opa = await opaFor(args)
    const directory = await directoryOf(args.dir)
    const workbench = await Workbench.open()
    try {
      if (args.watch) await watch(opa, directory, workbench, args)
      else await testOnce(opa, directory, workbench, args)
    } finally {
      workbench.close()
    }
  },
}

type Options = Pick<
  TestArguments,
  'coverage' | 'threshold' | 'run' | 'verbose' | 'catalog' | 'wasm'
>

/** One run; throws CommandFailure where a test failed. */
export async function testOnce(
  opa: Opa,
  directory: string,
  workbench: Workbench,
  options: Options,
): Promise<void> {
  const count = await writeFixtures(directory, workbench, options.catalog ?? null)
  if (count > 0) process.stdout.write(`fixtures: ${String(count)} statements analysed\n`)
  const parameters = [
    'test',
    ...opa.dialect,
    '--bundle',
    ...(options.run === undefined ? [] : [`--run=${options.run}`]),
    ...(options.verbose ? ['--verbose'] : []),
    ...(options.coverage ? ['--coverage', '--format=json'] : []),
    ...(options.threshold === undefined ? [] : [`--threshold=${String(options.threshold)}`]),
    '.',
  ]
  const run = await runOpa(opa, parameters, { cwd: directory })
  process.stdout.write(options.coverage ? coverageReport(run.stdout) : run.stdout)
  process.stderr.write(run.stderr)
  if (run.code !== 0) throw new CommandFailure('opa test failed')
  if (options.wasm) await testInWasm(opa, directory, options.run)
}

interface OpaTest {
  readonly package: string
  readonly name: string
  readonly fail?: boolean
  readonly error?: unknown
  readonly skip?: boolean
}

/** Each test rule becomes an entrypoint of a module that holds policies, tests and fixtures. */
async function testInWasm(opa: Opa, directory: string, filter: string | undefined): Promise<void> {
  const only = filter === undefined ? [] : [`--run=${filter}`]
  const listed = await runOpa(
    opa,
    ['test', ...opa.dialect, '--bundle', '--format=json', '--exit-zero-on-skipped', ...only, '.'],
    { cwd: directory },
  )
  const tests = (JSON.parse(listed.stdout) as readonly OpaTest[]).filter(
    ({ skip }) => skip !== true,
  )
  if (tests.length === 0) return
  const paths = new Map(
    tests.map((test) => [
      `${test.package.replace(/^data\./, '').replaceAll('.', '/')}/${test.name}`,
      test,
    ]),
  )
  const module = await buildTests(opa, directory, [...paths.keys()])
  const different: string[] = []
  for (const [path, test] of paths) {
    const passes = test.fail !== true && test.error === undefined
    const outcome = module.run(path)
    if (outcome.passed === passes) continue
    different.push(
      `${test.package}.${test.name}: OPA says ${passes ? 'pass' : 'fail'}, WebAssembly says ${outcome.words}`,
    )
  }
  if (different.length > 0) {
    throw new CommandFailure(
      `${String(different.length)} tests end differently in WebAssembly:\n  ${different.join('\n  ')}`,
      {
        hint: 'production runs WebAssembly: write the rule so that both agree (sprintf and regex.split differ most often)',
      },
    )
  }
  process.stdout.write(`WebAssembly: ${String(paths.size)} tests, the same results\n`)
}

async function buildTests(
  opa: Opa,
  directory: string,
  entrypoints: readonly string[],
): Promise<TestModule> {
  const scratch = await mkdtemp(join(tmpdir(), 'regate-test-'))
  try {
    const output = join(scratch, 'tests.tar.gz')
    const parameters = [
      'build',
      ...opa.dialect,
      '--target=wasm',
      ...entrypoints.map((path) => `--entrypoint=${path}`),
      `--output=${output}`,
      '--bundle',
      '.',
    ]
    const sources = join(scratch, 'sources')
    await copyWithoutEntrypoints(directory, sources)
    const run = await runOpa(opa, parameters, { cwd: sources })
    if (run.code !== 0) {
      const words = (run.stderr + run.stdout).trim()
      throw new CommandFailure(`the tests cannot be compiled to WebAssembly\n${words}`)
    }
    const files = await unpackBundle(await readFile(output), defaultLimits)
    return await TestModule.load(files, defaultLimits)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/**
 * OPA adds every rule that METADATA calls an entrypoint, and cannot compile functions that use `with`
 * to WebAssembly unless an entrypoint needs them: so the copy has no entrypoints but the tests.
 */
async function copyWithoutEntrypoints(from: string, to: string): Promise<void> {
  const entries = await readdir(from, { recursive: true, withFileTypes: true })
  for (const entry of entries) {
    const source = join(entry.parentPath, entry.name)
    const path = relative(from, source)
    const wanted = entry.name === '.manifest' || /\.rego$|^data\.(json|ya?ml)$/.test(entry.name)
    if (!entry.isFile() || !wanted || path.split(sep).includes('node_modules')) continue
    const target = join(to, path)
    await mkdir(dirname(target), { recursive: true })
    const text = await readFile(source, 'utf8')
    const stripped = text.replaceAll(/^#\s*entrypoint:\s*true\s*$/gm, '#')
    await writeFile(target, entry.name.endsWith('.rego') ? stripped : text)
  }
}

interface Coverage {
  readonly coverage: number
  readonly files: Readonly<
    Record<
      string,
      {
        readonly coverage?: number
        readonly not_covered?: readonly {
          readonly start: { readonly row: number }
          readonly end: { readonly row: number }
        }[]
      }
    >
  >
}

function coverageReport(json: string): string {
  let report: Coverage
  try {
    report = JSON.parse(json) as Coverage
  } catch {
    return json
  }
  const lines = Object.entries(report.files).map(([file, { coverage, not_covered }]) => {
    const missing = (not_covered ?? []).map(({ start, end }) =>
      start.row === end.row ? String(start.row) : `${String(start.row)}-${String(end.row)}`,
    )
    const percent = `${(coverage ?? 0).toFixed(1).padStart(6)} %`
    return `${percent}  ${file}${missing.length === 0 ? '' : `  not run: ${missing.join(', ')}`}`
  })
  return `${lines.join('\n')}\n${report.coverage.toFixed(1).padStart(6)} %  all\n`
}

async function watch(
  opa: Opa,
  directory: string,
  workbench: Workbench,
  options: Options,
): Promise<void> {
  let seen = ''
  for (;;) {
    const stamp = await sourceStamp(directory, true).catch(() => seen)
    if (stamp !== seen) {
      process.stdout.write(`\n${new Date().toISOString()}\n`)
      await testOnce(opa, directory, workbench, options).catch((error: unknown) => {
        process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
      })
      // Not a stamp from after the run: what was written during it is tested next.
      seen = stamp
    }
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
}
