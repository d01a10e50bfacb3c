/**
 * `regate policy init`: a directory to start from. The shipped pack with its tests, data of one's own,
 * a fixture and a test against SQL, and a CI workflow that runs what a reviewer would.
 */
import { cp, mkdir, readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { CommandFailure } from './failure.ts'

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
        `  regate catalog dump --url postgres://…/yourdb -o ${join(args.dir, 'regate/examples/mine.catalog.json')}\n` +
        `  edit ${join(args.dir, 'data.json')}: which columns are classified, which groups there are\n` +
        `  regate policy test ${args.dir}\n` +
        `  regate policy build ${args.dir} -o bundle.tar.gz\n`,
    )
  },
}

/** Where the shipped pack lies, beside dist/ in the package. */
const packDirectory = fileURLToPath(new URL('../../policies', import.meta.url))

/** Writes the starter; fails where there is something already. Returns the number of files. */
export async function initPolicies(directory: string): Promise<number> {
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
  for (const [path, text] of starters) {
    await mkdir(dirname(join(directory, path)), { recursive: true })
    await writeFile(join(directory, path), text)
  }
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).length
}

const workflow = `name: policies
on: [push, pull_request]
jobs:
  policies:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-node@v4
        with: { node-version: 22 }
      - run: npx regate policy check .
      - run: npx regate policy test . --threshold 90
      - run: npx regate policy build . -o bundle.tar.gz --revision \${{ github.sha }}
      - uses: actions/upload-artifact@v4
        with: { name: bundle, path: bundle.tar.gz }
`

const readme = `# Policies

What regate asks about every statement. \`data.json\` says who may do what; \`regate/\` holds the rules.

    regate policy test .                  # fixtures from SQL, opa test, the same tests in WebAssembly
    regate policy check .                 # types, builtins, format, entrypoints
    regate policy explain "SELECT 1" -p . # what one statement would get, and why
    regate policy build . -o bundle.tar.gz

A test against SQL: put the statement into a \`*.fixture.sql\`, and judge \`data.fixtures.<name>\` in a
\`*_test.rego\`, as in \`regate/examples\`.
`

const starters: readonly (readonly [path: string, text: string])[] = [
  ['.github/workflows/policies.yml', workflow],
  ['README.md', readme],
  ['.gitignore', 'bundle.tar.gz\n'],
]
