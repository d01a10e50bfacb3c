/**
 * `regate policy explain` and `regate policy input`, as a person runs them: whole command lines, real
 * OPA, the shipped policies, a catalog from a file, from a URL and from a configured database.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import yargs from 'yargs'
import {
  CommandFailure,
  describeFailure,
  registerCommands,
} from '../../../src/commands/commands.ts'
import { execute, startPostgres, type TestPostgres } from '../../support/postgres.ts'

const corpus = readFileSync('test/corpus/schema.sql', 'utf8')
const classified = JSON.parse(readFileSync('test/corpus/data.json', 'utf8')) as object

let directory: string
let server: TestPostgres
let url: string
let bundle: string
let config: string

interface Outcome {
  /** null: the command succeeded. */
  readonly failure: CommandFailure | null
  readonly out: string
  readonly errors: string
}

/** Runs a command as `regate` does, in this process: starting another one takes seconds each. */
async function regate(args: readonly string[]): Promise<Outcome> {
  const caught = { out: '', errors: '' }
  const keep = (into: keyof typeof caught) => (chunk: string | Uint8Array) => {
    caught[into] += String(chunk)
    return true
  }
  const spies = [
    vi.spyOn(process.stdout, 'write').mockImplementation(keep('out')),
    vi.spyOn(process.stderr, 'write').mockImplementation(keep('errors')),
  ]
  try {
    await registerCommands(yargs([...args]))
      .exitProcess(false)
      .fail((message, error) => {
        throw error ?? new Error(message)
      })
      .parseAsync()
    return { failure: null, ...caught }
  } catch (error) {
    if (error instanceof CommandFailure) return { failure: error, ...caught }
    throw error
  } finally {
    for (const spy of spies) spy.mockRestore()
  }
}

async function explain(sql: string, ...more: readonly string[]): Promise<string> {
  const source = more.some((one) => ['--catalog', '--url', '--database'].includes(one))
    ? []
    : ['--catalog', join(directory, 'corpus.json')]
  const asked = ['policy', 'explain', sql, '--group', 'agents', '--policy', bundle, ...source]
  const { failure, out } = await regate([...asked, ...more])
  expect(failure).toBeNull()
  return out
}

/** The lines of an output: itself and the tree below it. */
function outputOf(text: string, number: number): readonly string[] {
  const lines = text.split('\n').map((line) => line.slice(12))
  const first = lines.findIndex((line) => line.startsWith(`${number}. `))
  const length = lines.slice(first + 1).findIndex((line) => !line.startsWith('  '))
  return lines.slice(first, first + 1 + Math.max(0, length))
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'regate-explain-'))
  server = await startPostgres()
  await execute(server, 'CREATE DATABASE shop')
  await execute(server, corpus, 'shop')
  url = server.url('shop')
  config = join(directory, 'regate.yaml')
  writeFileSync(
    config,
    JSON.stringify({
      databases: {
        shop: {
          upstream: { host: server.host, port: server.port, tls: { mode: 'disable' } },
          roles: { default: { user: server.user, password_env: 'SHOP_PASSWORD' } },
        },
      },
      authentication: [{ method: 'trust', groups: ['agents'] }],
      policy: { bundle: 'policies' },
      audit: { directory: join(directory, 'audit') },
    }),
  )
  const dump = await regate(['catalog', 'dump', '--url', url, '-o', join(directory, 'corpus.json')])
  expect(dump).toMatchObject({ failure: null })
  expect(dump.errors).toMatch(/corpus\.json: shop, \d+ relations, \d+ functions/)
  bundle = join(directory, 'bundle.tar.gz')
  const data = join(directory, 'policies')
  cpSync('policies', data, { recursive: true })
  writeFileSync(join(data, 'data.json'), JSON.stringify(classified))
  const built = await regate(['policy', 'build', data, '-o', bundle])
  expect(built).toMatchObject({ failure: null })
  const again = join(directory, 'again.json')
  vi.stubEnv('SHOP_PASSWORD', server.password)
  const byName = await regate([
    ...['catalog', 'dump', '--config', config, '--database', 'shop', '-o', again],
  ])
  expect(byName).toMatchObject({ failure: null })
  expect(JSON.parse(readFileSync(again, 'utf8'))).toEqual(
    JSON.parse(readFileSync(join(directory, 'corpus.json'), 'utf8')),
  )
}, 120_000)

afterAll(async () => {
  vi.unstubAllEnvs()
  await server?.stop()
  rmSync(directory, { recursive: true, force: true })
})

describe('regate policy explain', () => {
  it('shows which output is masked, why, and which column is to blame', async () => {
    const text = await explain('SELECT id, ssn, name, upper(u.email) AS mail FROM users u')
    expect(outputOf(text, 1)).toEqual(['1. id', '  └─ public.users.id (direct)'])
    expect(outputOf(text, 2)).toEqual([
      '2. ssn  ← masked: redact, because of public.users.ssn',
      '  └─ public.users.ssn (direct)  ← masked: redact',
    ])
    expect(outputOf(text, 3)).toEqual(['3. name', '  └─ public.users.name (direct)'])
    expect(outputOf(text, 4)).toEqual([
      '4. mail  ← masked: redact, because of public.users.email, which it is computed from',
      '  └─ public.users.email (derived)  ← masked: partial',
    ])
    expect(text).toMatch(/^decision +mask: columns that are masked for you come masked$/m)
  }, 60_000)

  it('names the base columns behind views and generated columns', async () => {
    const text = await explain('SELECT who FROM contact_twice')
    const [, ...tree] = outputOf(text, 1)
    expect(outputOf(text, 1)[0]).toContain('because of public.users.email')
    expect(tree.find((line) => line.includes('public.users.email'))).toContain('← masked')
    expect(tree.find((line) => line.includes('public.users.name'))).not.toContain('← masked')
    const tail = await explain('SELECT ssn_tail FROM users')
    expect(outputOf(tail, 1)[0]).toContain('because of public.users.ssn')
  }, 60_000)

  it('shows what is refused, by which rule, and what to do instead', async () => {
    const text = await explain("SELECT id FROM users WHERE ssn LIKE '1%'")
    expect(text).toContain('public.users.ssn (filter)')
    expect(text).toMatch(
      /^decision +deny: public\.users\.ssn is masked for you and may not be used/m,
    )
    expect(text).toContain('rule regate.masking.inference')
    expect(text).toMatch(/hint: .*count\(\*\) is fine/)
    expect(outputOf(text, 1)[0]).toBe('1. id')
  }, 60_000)

  it('reads the catalog from a URL and from a database of the configuration', async () => {
    const expected = await explain('SELECT ssn FROM users')
    expect(await explain('SELECT ssn FROM users', '--url', url)).toBe(expected)
    const { out } = await regate([
      ...['policy', 'explain', 'SELECT ssn FROM users', '-g', 'agents', '-p', bundle],
      ...['--config', config, '--database', 'shop'],
    ])
    expect(out).toBe(expected)
  }, 60_000)

  it('gives programs the same as JSON', async () => {
    const explained = JSON.parse(await explain('SELECT ssn FROM users', '--json')) as {
      decision: { action: string; masks: object }
      plan: { kind: string; outputs: { mask: { kind: string }; columns: string[] }[] }
    }
    expect(explained.decision.action).toBe('mask')
    expect(explained.decision.masks).toEqual({ 'public.users.ssn': { kind: 'redact' } })
    expect(explained.plan.outputs[0]).toMatchObject({
      mask: { kind: 'redact' },
      columns: ['public.users.ssn'],
    })
  }, 60_000)

  it('says what is wrong with where the catalog should come from', async () => {
    const asked = ['policy', 'explain', 'SELECT 1', '-p', bundle]
    const nowhere = (await regate([...asked, '--url', 'mysql://x'])).failure
    expect(nowhere?.exitCode).toBe(2)
    expect(nowhere?.hint).toContain('postgres://user@host:port/database')
    const unknown = (await regate([...asked, '-f', config, '-d', 'shopp'])).failure
    expect(unknown?.exitCode).toBe(2)
    expect(unknown?.message).toContain('has no database shopp')
    const dead = (await regate(['catalog', 'dump', '--url', 'postgres://x:s3cret@127.0.0.1:1/y']))
      .failure
    expect(dead?.exitCode).toBe(1)
    expect(describeFailure(dead, true)).not.toContain('s3cret')
  }, 60_000)
})

describe('what is judged with is what regate serve would have', () => {
  const sql = 'SELECT ssn FROM users'
  let here: string
  beforeAll(() => {
    // The same configuration with data of its own environment.
    here = join(directory, 'here')
    mkdirSync(here)
    const document = JSON.parse(readFileSync(config, 'utf8')) as object
    const policy = { bundle: join(directory, 'policies'), data: ['own.json'] }
    writeFileSync(join(here, 'regate.yaml'), JSON.stringify({ ...document, policy }))
    const mask = (kind: string) =>
      JSON.stringify({ regate: { columns: { 'public.users.ssn': { mask: { kind } } } } })
    writeFileSync(join(here, 'own.json'), mask('null'))
    writeFileSync(join(here, 'other.json'), mask('hash'))
  })

  const explained = async (...more: readonly string[]): Promise<string> => {
    const { failure, out } = await regate(['policy', 'explain', sql, '-g', 'agents', ...more])
    expect(failure).toBeNull()
    return outputOf(out, 1)[0] ?? ''
  }

  it('bundle, data and the only database of the configuration', async () => {
    const named = ['-f', join(here, 'regate.yaml')]
    const masked = (kind: string) => `1. ssn  ← masked: ${kind}, because of public.users.ssn`
    expect(await explained(...named)).toBe(masked('null'))
    expect(await explained(...named, '-d', 'shop')).toBe(masked('null'))
    // What the command line names stands in that one's place.
    expect(await explained(...named, '-p', bundle)).toBe(masked('null'))
    expect(await explained(...named, '--data', join(here, 'other.json'))).toBe(masked('hash'))
    const corner = ['-p', bundle, '-c', join(directory, 'corpus.json')]
    expect(await explained(...corner)).toBe(masked('redact'))
    expect(await explained(...corner, '--data', join(here, 'own.json'))).toBe(masked('null'))
  }, 60_000)

  it('the configuration may be named by $REGATE_CONFIG', async () => {
    const before = process.env['REGATE_CONFIG']
    vi.stubEnv('REGATE_CONFIG', join(here, 'regate.yaml'))
    try {
      expect(await explained()).toMatch(/masked: null/)
    } finally {
      vi.stubEnv('REGATE_CONFIG', before)
    }
  }, 60_000)

  it('replay judges with the same, also without a bundle of its own', async () => {
    const audit = join(here, 'audit.ndjson')
    const record = {
      ...{ type: 'statement_decided', session: 's', database: 'shop' },
      identity: { user: 'agent', groups: ['agents'] },
      statement: { text: 'SELECT id FROM users' },
      ...{ decision: { action: 'allow', rule: 'x' }, access: { masked_columns: [] } },
    }
    writeFileSync(audit, `${JSON.stringify(record)}\n`)
    const ids = { 'public.users.id': { class: 'key', mask: { kind: 'null' } } }
    writeFileSync(join(here, 'own.json'), JSON.stringify({ regate: { columns: ids } }))
    const replayed = async (...more: readonly string[]): Promise<unknown> => {
      const { failure, out } = await regate(['policy', 'replay', audit, '--json', ...more])
      expect(failure).toBeNull()
      return JSON.parse(out)
    }
    const named = ['-f', join(here, 'regate.yaml')]
    expect(await replayed(...named)).toMatchObject({ judged: 1, changed: 1 })
    expect(await replayed(...named, '-b', bundle)).toMatchObject({ judged: 1, changed: 1 })
    const corner = ['-b', bundle, '-c', join(directory, 'corpus.json')]
    expect(await replayed(...corner)).toMatchObject({ judged: 1, changed: 0 })
    expect(await replayed(...corner, '--data', join(here, 'own.json'))).toMatchObject({
      changed: 1,
    })
    const neither = await regate(['policy', 'replay', audit])
    expect(neither.failure?.message).toBe('no policy is named')
  }, 60_000)

  it('says that no catalog was named, where that is why a name is not found', async () => {
    const asked = ['policy', 'explain', sql, '-g', 'agents', '-p', bundle]
    const { failure, out, errors } = await regate(asked)
    expect(failure).toBeNull()
    expect(out).toContain('relation users is not in the catalog')
    expect(errors).toMatch(/^no catalog was named/)
  })
})

describe('regate policy input', () => {
  it('gives the whole document, with the names of a live catalog', async () => {
    const { failure, out } = await regate([
      ...['policy', 'input', 'SELECT ssn FROM users', '-g', 'agents', '--url', url],
    ])
    expect(failure).toBeNull()
    const input = JSON.parse(out) as {
      access: { complete: boolean; outputs: object[] }
      identity: { groups: string[] }
    }
    expect(input.access.complete).toBe(true)
    expect(input.access.outputs).toEqual([
      { index: 0, name: 'ssn', sources: [{ column: 'public.users.ssn', via: 'direct' }] },
    ])
    expect(input.identity.groups).toEqual(['agents'])
  }, 60_000)
})
