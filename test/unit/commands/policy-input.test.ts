/** `regate policy input` prints the very document that a policy would get. */
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test, vi } from 'vitest'
import yargs from 'yargs'
import { policyInputCommand } from '../../../src/commands/policy-input.ts'

const catalog = fileURLToPath(new URL('../sql/data/analysis-corpus.json', import.meta.url))

afterEach(() => {
  vi.restoreAllMocks()
})

async function run(...words: string[]): Promise<unknown> {
  let text = ''
  vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk)
    return true
  })
  const parser = yargs(['input', ...words])
    .command(policyInputCommand)
    .exitProcess(false)
  await parser.parseAsync()
  vi.restoreAllMocks()
  return JSON.parse(text)
}

test('a statement becomes its input document', async () => {
  const document = await run('SELECT ssn FROM users', '--as', 'ada', '-g', 'agents', '-c', catalog)
  expect(document).toMatchObject({
    statement: { text: 'SELECT ssn FROM users', kind: 'select' },
    access: {
      complete: true,
      outputs: [{ name: 'ssn', sources: [{ column: 'public.users.ssn', via: 'direct' }] }],
    },
    identity: { user: 'ada', groups: ['agents'] },
  })
})

test('several statements become a list, and search_path decides names', async () => {
  const documents = await run('SELECT 1; TABLE users', '--search-path', 'hr', '-c', catalog)
  expect(documents).toMatchObject([
    { statement: { index: 0, count: 2 } },
    { access: { relations: [{ schema: 'hr', name: 'users' }] } },
  ])
})
