/** What commands say of a mistake: what is wrong, where, and what was probably meant. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import yargs from 'yargs'
import { registerCommands } from '../../../src/commands/commands.ts'
import { readDataFiles } from '../../../src/control/bundles.ts'
import { Health, Metrics, startAdmin } from '../../../src/control/control.ts'
import { parseUsers } from '../../../src/identity/identity.ts'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'regate-messages-'))
})
afterEach(() => {
  vi.unstubAllEnvs()
  rmSync(directory, { recursive: true, force: true })
})

/** How the command ends that must not end well. */
async function failure(...args: string[]): Promise<unknown> {
  const parser = registerCommands(yargs(args))
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new Error(message)
    })
  return await parser.parseAsync().then(
    () => null,
    (error: unknown) => error,
  )
}

test('audit: an --action or --kind that there is none of is misuse, not an empty answer', async () => {
  mkdirSync(join(directory, 'audit'))
  const query = ['audit', 'query', '--directory', join(directory, 'audit')]
  expect(await failure(...query, '--action', 'denny')).toMatchObject({
    ...{ message: '--action: there is no denny', hint: 'did you mean deny?', exitCode: 2 },
  })
  expect(await failure(...query, '--kind', 'selct')).toMatchObject({
    ...{ message: '--kind: there is no selct', hint: 'did you mean select?', exitCode: 2 },
  })
})

test('demo: a port that is none', async () => {
  for (const [option, value] of [
    ['port', '70000'],
    ['admin-port', 'x'],
  ] as const) {
    expect(await failure('demo', `--${option}`, value)).toMatchObject({
      ...{ message: `--${option} is a number from 0 to 65535`, exitCode: 2 },
    })
  }
})

test('user add: a file in a directory that is not there', async () => {
  const users = join(directory, 'gone', 'users.yaml')
  expect(await failure('user', 'add', 'ann', '--generate', '--users', users)).toMatchObject({
    ...{ message: `--users ${users} cannot be written: its directory does not exist`, exitCode: 2 },
  })
})

test('users.yaml: every mistake with its line', () => {
  const text = `ann:\n  groups: agents\n  verifier: x\nbob:\n  groups: [agents]\n  verifer: y\n`
  expect(() => parseUsers(text, 'users.yaml')).toThrow(
    [
      'users.yaml:2: ann.groups: a list is expected, such as [agents]',
      'users.yaml:5: bob.verifier: a SCRAM verifier is expected; `regate user add` writes one',
      'users.yaml:5: bob: unknown key verifer; did you mean verifier?',
    ].join('\n'),
  )
})

test('policy.data: what is no JSON says so, and what cannot be read is not called so', async () => {
  const path = join(directory, 'data.json')
  writeFileSync(path, '{"regate": }')
  await expect(readDataFiles([path])).rejects.toThrow(
    /policy\.data: .*data\.json is not valid JSON: Unexpected token/,
  )
  await expect(readDataFiles([join(directory, 'gone.json')])).rejects.toThrow(/cannot be read$/)
})

test('policy build: the first error of broken Rego', async () => {
  writeFileSync(join(directory, 'x.rego'), 'package regate.statement\n\nallow if {\n')
  const failed = await failure('policy', 'build', directory, '-o', join(directory, 'b.tar.gz'))
  expect(String(failed)).toMatch(/OPA could not build .*: \S*x\.rego:\d+: rego_parse_error: /)
})

test('the admin API: no token, and one that is not accepted', async () => {
  const admin = await startAdmin({
    ...{ host: '127.0.0.1', port: 0, health: new Health(), metrics: new Metrics('0.0.0-test') },
    authenticate: () => Promise.resolve(null),
  })
  try {
    const list = ['approvals', 'list', '--admin', admin.url]
    vi.stubEnv('REGATE_ADMIN_TOKEN', '')
    expect(await failure(...list)).toMatchObject({ hint: 'put a token into REGATE_ADMIN_TOKEN' })
    vi.stubEnv('REGATE_ADMIN_TOKEN', 'wrong')
    expect(await failure(...list)).toMatchObject({
      hint: "the token in REGATE_ADMIN_TOKEN is not accepted: is it this admin API's, and still valid?",
    })
  } finally {
    await admin.close()
  }
})
