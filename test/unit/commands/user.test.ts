/** `regate user add`, as a person runs it. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import yargs from 'yargs'
import { registerCommands } from '../../../src/commands/commands.ts'
import { deriveVerifier, formatVerifier } from '../../../src/identity/identity.ts'

let directory: string
let users: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'regate-user-'))
  users = join(directory, 'users.yaml')
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
})

afterEach(() => {
  vi.restoreAllMocks()
  rmSync(directory, { recursive: true, force: true })
})

async function add(...args: string[]): Promise<string> {
  let out = ''
  const spy = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    out += String(chunk)
    return true
  })
  try {
    await registerCommands(yargs(['user', 'add', ...args, '--users', users]))
      .exitProcess(false)
      .fail((message, error) => {
        throw error ?? new Error(message)
      })
      .parseAsync()
  } finally {
    spy.mockRestore()
  }
  return out
}

test('--verifier takes what pg_authid has', async () => {
  const verifier = formatVerifier(await deriveVerifier('secret'))
  expect(await add('ann', '--verifier', verifier, '-g', 'engineers')).toBe('')
  expect(readFileSync(users, 'utf8')).toContain(verifier)
})

test('--generate prints a new password', async () => {
  expect(await add('agent', '--generate')).toMatch(/^[\w-]{32}\n$/)
})

test('one of the two, not both, and only a verifier that is one', async () => {
  await expect(add('ann', '--generate', '--verifier', 'x')).rejects.toThrow(/mutually exclusive/)
  await expect(add('ann', '--verifier', 'md5abc')).rejects.toThrow(/no SCRAM-SHA-256 verifier/)
})
