/**
 * `regate policy check`: everything that can be known of a policy directory without running it.
 * `opa check --strict`, typed with the input schemas; builtins that WebAssembly lacks, with their
 * line; `opa fmt`; then the build, the entrypoints and the shape of their decisions.
 */
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { buildBundle, ignoreParameters, runOpa, type Opa } from '../control/control.ts'
import { defaultLimits } from '../core/core.ts'
import { hostBuiltinNames, Policy, readBundle } from '../policy/policy.ts'
import { CommandFailure } from './failure.ts'
import { directoryOf, opaFor, withOpa, type OpaArguments } from './policy-opa.ts'

interface CheckArguments extends OpaArguments {
  dir: string
}

function builder(yargs: Argv): Argv<CheckArguments> {
  return withOpa(yargs)
    .positional('dir', { type: 'string', default: 'policies', describe: 'the policy directory' })
    .example('$0 policy check policies', 'all checks; exit code 1 where one fails')
}

interface Finding {
  readonly check: string
  readonly passed: boolean
  readonly words: string
}

export const policyCheckCommand = {
  command: 'check [dir]',
  describe: 'Check types, builtins, format, entrypoints and decisions',
  builder,
  handler: async (args: ArgumentsCamelCase<CheckArguments>): Promise<void> => {
    const opa = await opaFor(args)
    const findings = await checkDirectory(opa, await directoryOf(args.dir))
    for (const { check, passed, words } of findings) {
      process.stdout.write(`${passed ? 'ok  ' : 'FAIL'}  ${check}\n`)
      if (words !== '') process.stdout.write(`${words.replaceAll(/^/gm, '      ')}\n`)
    }
    if (findings.some(({ passed }) => !passed)) {
      const rest = checks.length - findings.length
      throw new CommandFailure(
        rest === 0 ? 'a check failed' : `a check failed; ${String(rest)} more were not run`,
      )
    }
  },
}

const checks = [checkTypes, checkBuiltins, checkEntrypoints, checkFormat]

/** Runs the checks up to the first that fails: the others would tell of the same mistake again. */
export async function checkDirectory(opa: Opa, directory: string): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  for (const check of checks) {
    const found = await check(opa, directory)
    findings.push(found)
    if (!found.passed) break
  }
  return findings
}

async function checkTypes(opa: Opa, directory: string): Promise<Finding> {
  const schemas = join(directory, 'schemas')
  const typed = await stat(schemas).then(
    (found) => found.isDirectory(),
    () => false,
  )
  const title = 'opa check --strict: types'
  const base = ['check', ...opa.dialect, '--strict', '--bundle']
  if (!typed) {
    const run = await runOpa(opa, [...base, '.'], { cwd: directory })
    const words = run.stderr || run.stdout
    return finding(`${title} (no schemas/ directory, so input is not typed)`, run.code === 0, words)
  }
  const scratch = await mkdtemp(join(tmpdir(), 'regate-check-'))
  try {
    await writeSchemaAnnotations(directory, scratch)
    const parameters = [...base, `--schema=${schemas}`, '.', scratch]
    const run = await runOpa(opa, parameters, { cwd: directory })
    return finding(`${title}, by the schemas`, run.code === 0, run.stderr || run.stdout)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/**
 * A bundle beside the policies that types the input of every package. OPA takes the nearest
 * annotation, so a package that names its own schema keeps it, and one that names none is taken to
 * be asked about statements: without this nothing in it would be typed, in silence.
 */
async function writeSchemaAnnotations(directory: string, scratch: string): Promise<void> {
  const roots = new Set<string>()
  for (const name of await regoFiles(directory)) {
    const text = await readFile(join(directory, name), 'utf8')
    const root = /^package\s+(\w+)/m.exec(text)?.[1]
    if (root !== undefined) roots.add(root)
  }
  const manifest = { roots: [...roots], rego_version: 1 }
  await writeFile(join(scratch, '.manifest'), JSON.stringify(manifest))
  for (const root of roots) {
    const annotation = `# METADATA\n# scope: subpackages\n# schemas:\n#   - input: schema.statement.input\n`
    await writeFile(join(scratch, `${root}.rego`), `${annotation}package ${root}\n`)
  }
}

const finding = (check: string, passed: boolean, words: string): Finding => ({
  check,
  passed,
  words: passed ? '' : words.trim(),
})

/** OPA itself names file and line of a builtin, once it is told which ones there are. */
async function checkBuiltins(opa: Opa, directory: string): Promise<Finding> {
  const title = 'builtins: each exists in WebAssembly'
  const current = await runOpa(opa, ['capabilities', '--current'])
  if (current.code !== 0) return finding(title, false, current.stderr)
  const capabilities = JSON.parse(current.stdout) as {
    builtins: readonly { readonly name: string }[]
  }
  const known = new Set([...(await wasmBuiltins()), ...hostBuiltinNames])
  capabilities.builtins = capabilities.builtins.filter(({ name }) => known.has(name))
  const scratch = await mkdtemp(join(tmpdir(), 'regate-check-'))
  try {
    const path = join(scratch, 'capabilities.json')
    await writeFile(path, JSON.stringify(capabilities))
    const parameters = [
      'check',
      ...opa.dialect,
      '--bundle',
      `--capabilities=${path}`,
      ...ignoreParameters,
      '.',
    ]
    const run = await runOpa(opa, parameters, { cwd: directory })
    const words = run.stderr.replaceAll('undefined function', 'does not exist in WebAssembly:')
    return finding(title, run.code === 0, words)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** The builtins that OPA compiles to WebAssembly, and those that opa-wasm brings. */
async function wasmBuiltins(): Promise<readonly string[]> {
  const entry = createRequire(import.meta.url).resolve('@open-policy-agent/opa-wasm')
  const path = join(dirname(entry), '..', 'capabilities.json')
  const { builtins } = JSON.parse(await readFile(path, 'utf8')) as {
    readonly builtins: readonly { readonly name: string }[]
  }
  return builtins.map(({ name }) => name)
}

async function checkFormat(opa: Opa, directory: string): Promise<Finding> {
  const files = await regoFiles(directory)
  if (files.length === 0) return finding('opa fmt', false, 'there is no Rego file')
  const listed = await runOpa(opa, ['fmt', ...opa.dialect, '--list', ...files], { cwd: directory })
  const names = listed.stdout.split('\n').filter((line) => line !== '')
  if (listed.code !== 0) return finding('opa fmt', false, listed.stderr)
  const diffs: string[] = []
  for (const name of names) {
    const diff = await runOpa(opa, ['fmt', ...opa.dialect, '--diff', name], { cwd: directory })

    diffs.push(`${name}\n${diff.stdout.replaceAll(/\u001b\[\d*m/g, '').trim()}`)
  }
  const words = `${diffs.join('\n\n')}\n\nrun: opa fmt --write ${names.join(' ')}`
  return finding('opa fmt', names.length === 0, words)
}

async function regoFiles(directory: string): Promise<readonly string[]> {
  const entries = await readdir(directory, { recursive: true })
  return entries.filter((name) => name.endsWith('.rego') && !name.includes('node_modules')).sort()
}

async function checkEntrypoints(opa: Opa, directory: string): Promise<Finding> {
  const title = 'entrypoints: both are there and answer with decisions'
  try {
    const packed = await buildBundle({ opa, directory, cacheDirectory: null })
    const options = { limits: defaultLimits, name: 'check', signing: null, nowMs: Date.now() }
    await Policy.load(await readBundle(packed, options), { limits: defaultLimits })
    return finding(title, true, '')
  } catch (error) {
    const { message, detail, hint } = error as { message: string; detail?: string; hint?: string }
    return finding(
      title,
      false,
      [message, detail, hint].filter((part) => part !== undefined).join('\n'),
    )
  }
}
