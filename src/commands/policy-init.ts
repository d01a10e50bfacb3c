/**
 * `regate policy init`: a directory to start from. The shipped pack with its tests, data of one's own,
 * a fixture and a test against SQL, and a CI workflow that runs what a reviewer would.
 */
import { cp, mkdir, readdir, writeFile } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { CommandFailure } from './failure.ts'
import { packageVersion } from './version.ts'

interface InitArguments {
  dir: string
}

function builder(yargs: Argv): Argv<InitArguments> {
  return yargs
    .positional('dir', { type: 'string', default: 'policies', describe: 'the directory to make' })
    .example('$0 policy init policies', 'then: regate policy test policies')
}

export const policyInitCommand = {
  command: 'init [dir]',
  describe: 'Make a policy directory: policies, data, fixtures, tests, CI workflow',
  builder,
  handler: async (args: ArgumentsCamelCase<InitArguments>): Promise<void> => {
    const files = await initPolicies(args.dir)
    process.stdout.write(
      `${args.dir}: ${String(files)} files. Next:\n` +
        `  regate catalog dump --url postgres://…/yourdb -o ${join(args.dir, 'custom/mine.catalog.json')}\n` +
        `  edit ${join(args.dir, 'data.json')}: which columns are classified, which groups there are\n` +
        `  regate policy test ${args.dir}\n` +
        `  regate policy build ${args.dir} -o bundle.tar.gz\n` +
        `For CI on GitHub move ${join(args.dir, '.github')} to the root of the repository: it is read only there.\n`,
    )
  },
}

/** Where the shipped pack lies, beside dist/ in the package. */
const packDirectory = fileURLToPath(new URL('../../policies', import.meta.url))

/** Writes the starter; fails where there is something already. Returns the number of files. */
export async function initPolicies(directory: string): Promise<number> {
  // Where the workflow will find the policies once it lies at the repository's root.
  const workflow = workflowFor(isAbsolute(directory) ? basename(directory) : normalize(directory))
  const present = await readdir(directory).catch(() => [])
  if (present.length > 0) {
    throw new CommandFailure(`${directory} is not empty`, {
      hint: 'name a new directory; nothing was written',
      misuse: true,
    })
  }
  await mkdir(directory, { recursive: true })
  await cp(packDirectory, directory, {
    dereference: true,
    recursive: true,
    filter: (path) => !path.endsWith(join('policies', 'fixtures')),
  })
  for (const [path, text] of [[workflowPath, workflow], ...starters] as const) {
    await mkdir(dirname(join(directory, path)), { recursive: true })
    await writeFile(join(directory, path), text)
  }
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).length
}

const workflowPath = '.github/workflows/policies.yml'

/** Installs this very version from a file: the registry's package of the name need not be ours. */
function workflowFor(directory: string): string {
  const tarball = `regate-${packageVersion()}.tgz`
  return `# GitHub reads workflows only in .github/workflows at the root of the repository: move this directory there.
# Put ${tarball} (\`npm pack\` in regate's checkout makes it) into the repository's root, so that CI runs
# this version and nothing that a registry has under the name.
name: policies
on: [push, pull_request]
jobs:
  policies:
    runs-on: ubuntu-latest
    env: { POLICIES: ${JSON.stringify(directory)} }
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-node@v4
        with: { node-version: 22 }
      - run: npm install --global ./${tarball}
      - run: regate policy check "$POLICIES"
      - run: regate policy test "$POLICIES" --threshold 90
      - run: regate policy build "$POLICIES" -o bundle.tar.gz --revision \${{ github.sha }}
      - uses: actions/upload-artifact@v4
        with: { name: bundle, path: bundle.tar.gz }
`
}

const readme = `# Policies

What regate asks about every statement. \`data.json\` says who may do what; \`regate/\` holds the rules.

    regate policy test .                  # fixtures from SQL, opa test, the same tests in WebAssembly
    regate policy check .                 # types, builtins, format, entrypoints
    regate policy explain "SELECT 1" -p . # what one statement would get, and why
    regate policy build . -o bundle.tar.gz

A test against SQL: put the statement into a \`*.fixture.sql\`, and judge \`data.fixtures.<name>\` in a
\`*_test.rego\`, as in \`regate/examples\`. Rules and tests of your own belong into \`custom/\`, so that
\`regate/\` and \`schemas/\` can be replaced by those of a newer regate.

\`.github/\` works only at the root of the repository: move it there.
`

const ownRules = `# METADATA
# title: Rules of our own
# description: |
#   Each element of the set deny is a reason against the statement: {"rule": …, "reason": …, "hint": …}.
# schemas:
#   - input: schema.statement.input
package regate.custom
`

const starters: readonly (readonly [path: string, text: string])[] = [
  ['README.md', readme],
  ['custom/custom.rego', ownRules],
  ['.gitignore', 'bundle.tar.gz\n'],
]
