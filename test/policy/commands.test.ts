/** What `regate policy` does, with the real OPA, on directories of their own. */
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify from 'fastify'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { checkDirectory } from '../../src/commands/policy-check.ts'
import { readCatalog, Workbench } from '../../src/commands/policy-facts.ts'
import {
  findFixtures,
  fixtureDocuments,
  parseFixtures,
} from '../../src/commands/policy-fixtures.ts'
import { initPolicies } from '../../src/commands/policy-init.ts'
import { policyReloadCommand, policyRollbackCommand } from '../../src/commands/policy-live.ts'
import { replay } from '../../src/commands/policy-replay.ts'
import { testOnce } from '../../src/commands/policy-test.ts'
import { buildBundle } from '../../src/control/bundles-build.ts'
import { PolicyKeeper } from '../../src/control/bundles.ts'
import { policyRoutes } from '../../src/control/bundles-routes.ts'
import { dialectOf, findOpa } from '../../src/control/opa.ts'
import { Policy } from '../../src/policy/policy.ts'
import { defaultLimits, systemClock } from '../../src/core/core.ts'
import { buildDirectory, packDirectory, readPack, realOpa } from './pack.ts'

let scratch: string
let workbench: Workbench
beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'regate-commands-test-'))
  workbench = await Workbench.open()
})
afterAll(() => {
  workbench.close()
  rmSync(scratch, { recursive: true, force: true })
})

const copyOfPack = (): string => {
  const directory = mkdtempSync(join(scratch, 'pack-'))
  cpSync(packDirectory, directory, { recursive: true })
  return directory
}

/** Runs with what it prints caught. */
async function printed(work: () => Promise<unknown>): Promise<string> {
  let text = ''
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk)
    return true
  })
  try {
    await work()
  } finally {
    write.mockRestore()
  }
  return text
}

const options = {
  coverage: false,
  threshold: undefined,
  run: undefined,
  verbose: false,
  catalog: undefined,
  wasm: true,
}

describe('regate policy init', () => {
  it('makes a directory whose tests and checks pass', async () => {
    const directory = join(scratch, 'mine')
    await initPolicies(directory)
    expect(existsSync(join(directory, '.github/workflows/policies.yml'))).toBe(true)
    const opa = await realOpa()
    const output = await printed(() => testOnce(opa, directory, workbench, options))
    expect(output).toMatch(/PASS: (\d+)\/\1/)
    expect(output).toMatch(/WebAssembly: \d+ tests, the same results/)
    const findings = await checkDirectory(opa, directory)
    expect(findings.filter(({ passed }) => !passed)).toEqual([])
  }, 120_000)

  it("makes tests that hold for other data and beside rules of one's own", async () => {
    const directory = join(scratch, 'other-schema')
    await initPolicies(directory)
    const data = {
      regate: {
        columns: {
          'crm.people.tax_number': { class: 'pii', mask: { kind: 'hash' } },
          'public.users.id': { class: 'odd', mask: { kind: 'null' } },
          'public.customers.name': { class: 'odd' },
        },
        groups: {
          support: { read: ['crm.*'], unmask: [] },
          agents: { read: [], settings: { search_path: 'crm' } },
          admins: { databases: ['crm'], limits: { rows: 1 } },
        },
        approvals: { groups: ['leads'], quorum: 2, wait: '1m', ttl: '1h' },
      },
    }
    writeFileSync(join(directory, 'data.json'), JSON.stringify(data))
    const rule = 'package regate.custom\n\ndeny contains "nobody does anything"\n'
    writeFileSync(join(directory, 'custom/custom.rego'), rule)
    const opa = await realOpa()
    const output = await printed(() => testOnce(opa, directory, workbench, options))
    expect(output).toMatch(/PASS: (\d+)\/\1/)
    writeFileSync(join(directory, 'data.json'), '{}')
    const empty = await printed(() => testOnce(opa, directory, workbench, options))
    expect(empty).toMatch(/PASS: (\d+)\/\1/)
  }, 120_000)

  it('makes a workflow for the root of the repository, with this version of regate', () => {
    const directory = join(scratch, 'mine')
    const workflow = readFileSync(join(directory, '.github/workflows/policies.yml'), 'utf8')
    expect(workflow).not.toContain('npx')
    expect(workflow).toContain('POLICIES: "mine"')
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }
    expect(workflow).toContain(`npm install --global ./regate-${version}.tgz`)
  })

  it('never writes over what is there', async () => {
    await expect(initPolicies(copyOfPack())).rejects.toThrow('not empty')
  })
})

describe('regate policy test', () => {
  it('fails where a test fails', async () => {
    const directory = copyOfPack()
    writeFileSync(
      join(directory, 'regate', 'statement', 'wrong_test.rego'),
      'package regate.statement_test\n\ntest_that_one_is_two if 1 == 2\n',
    )
    const opa = await realOpa()
    await printed(async () => {
      await expect(testOnce(opa, directory, workbench, options)).rejects.toThrow('opa test failed')
    })
  }, 60_000)

  it('fails where WebAssembly does not do what OPA does', async () => {
    const directory = copyOfPack()
    writeFileSync(
      join(directory, 'regate', 'statement', 'sprintf_test.rego'),
      'package regate.statement_test\n\ntest_sprintf if sprintf("%v", [{"a": 1}]) == `{"a": 1}`\n',
    )
    const opa = await realOpa()
    await printed(async () => {
      const run = testOnce(opa, directory, workbench, { ...options, run: 'test_sprintf' })
      await expect(run).rejects.toThrow('end differently in WebAssembly')
    })
  }, 60_000)

  it('reports coverage', async () => {
    const opa = await realOpa()
    const directory = copyOfPack()
    const output = await printed(() =>
      testOnce(opa, directory, workbench, { ...options, coverage: true, wasm: false }),
    )
    expect(output).toMatch(/100\.0 %\s+regate\/statement\/statement\.rego/)
  }, 60_000)
})

describe('regate policy check', () => {
  it.each([
    [
      'a misspelt field of the input',
      'x if input.access.colums == []',
      'opa check --strict',
      'input.access.colums',
    ],
    ['a builtin that WebAssembly has not', 'x := time.now_ns()', 'builtins', 'time.now_ns'],
    ['bad format', 'x   :=    1', 'opa fmt', 'run: opa fmt --write'],
  ])('finds %s, with its place', async (_name, rule, check, words) => {
    const directory = copyOfPack()
    const file = join(directory, 'regate', 'statement', 'mine.rego')
    writeFileSync(file, `package regate.statement\n\n${rule}\n`)
    const failed = (await checkDirectory(await realOpa(), directory)).filter(
      ({ passed }) => !passed,
    )
    const found = failed.find((finding) => finding.check.startsWith(check))
    expect(found?.words).toContain(words)
    expect(found?.words).toMatch(/mine\.rego/)
  })

  it('types packages that name no schema, and says one mistake once', async () => {
    const directory = copyOfPack()
    const rule = 'package regate.rules\n\nx if input.access.colums == []\n'
    writeFileSync(join(directory, 'mine.rego'), rule)
    const findings = await checkDirectory(await realOpa(), directory)
    expect(findings).toHaveLength(1)
    expect(findings[0]?.words).toMatch(/mine\.rego:3: .*input\.access\.colums/)
  })

  it('leaves a package the schema that it names', async () => {
    const directory = copyOfPack()
    const schema = '# METADATA\n# schemas:\n#   - input: schema.connect.input\n'
    const rule = `${schema}package regate.logins\n\nx if input.startup.database == "shop"\n`
    writeFileSync(join(directory, 'mine.rego'), rule)
    const findings = await checkDirectory(await realOpa(), directory)
    expect(findings.filter(({ passed }) => !passed)).toEqual([])
  })
})

describe('fixtures', () => {
  it('become the full input documents of their statements', async () => {
    const fixtures = await findFixtures(packDirectory)
    const documents = await fixtureDocuments(fixtures, workbench, null)
    expect(documents['agent_reads_ssn']).toMatchObject({
      statement: { kind: 'select', text: 'SELECT name, ssn FROM customers WHERE id = 7' },
      identity: { groups: ['agents'] },
      access: { complete: true, effects: ['read'] },
      approval: null,
      time: null,
    })
  })

  it('that are committed are up to date', async () => {
    const documents = await fixtureDocuments(await findFixtures(packDirectory), workbench, null)
    const committed: unknown = JSON.parse(
      readFileSync(join(packDirectory, 'fixtures/data.json'), 'utf8'),
    )
    expect(documents).toEqual(committed)
  })

  it.each([
    ['SELECT 1', 'before the first'],
    ['-- name: a b\nSELECT 1', 'no name'],
    ['-- name: a\n-- ass: agents\nSELECT 1', 'unknown key "ass"'],
    ['-- name: a\n-- as: agents\n', 'no statement'],
    ['-- name: a\n-- transaction: maybe\nSELECT 1', 'transaction'],
  ])('with a mistake name it: %j', (text, words) => {
    expect(() => parseFixtures(text, 'x.fixture.sql')).toThrow(words)
  })

  it('keep comments inside of statements', () => {
    const [fixture] = parseFixtures(
      '-- name: a\n-- as: x, y\nSELECT 1\n-- as: not a key\n + 1',
      'x.fixture.sql',
    )
    expect(fixture?.sql).toBe('SELECT 1\n-- as: not a key\n + 1')
    expect(fixture?.circumstances.groups).toEqual(['x', 'y'])
  })
})

describe('finding OPA', () => {
  it('takes what was named and nothing else', async () => {
    await expect(findOpa({ path: '/nowhere/opa', env: process.env })).rejects.toThrow(
      'no usable OPA',
    )
    await expect(findOpa({ env: { ...process.env, REGATE_OPA: '/nowhere/opa' } })).rejects.toThrow(
      'no usable OPA',
    )
  })

  it('says where it looked', async () => {
    const error: unknown = await findOpa({ path: '/bin/true', env: {} }).catch(
      (reason: unknown) => reason,
    )
    expect((error as { detail: string }).detail).toContain('/bin/true does not answer')
  })

  it('falls back to the npm package of the platform', async () => {
    expect((await findOpa({ env: { PATH: '' } })).source).toBe('npm package')
  })
})

describe('an OPA of 1.x', () => {
  // None can be had for the tests. What differs is its dialect: it reads Rego v1 without being told.
  it('is told nothing of the dialect, an older one is', () => {
    expect(dialectOf('0.70.0')).toEqual(['--v1-compatible'])
    expect(dialectOf('1.0.0')).toEqual([])
    expect(dialectOf('1.22.3-dev')).toEqual([])
  })

  it('gets no argument that OPA would not take: the same work with the same result', async () => {
    // The manifest and `import rego.v1` say here what a 1.x takes for granted.
    const directory = copyOfPack()
    writeFileSync(
      join(directory, '.manifest'),
      JSON.stringify({ rego_version: 1, roots: ['regate', 'fixtures'] }),
    )
    for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
      if (!entry.name.endsWith('.rego')) continue
      const path = join(entry.parentPath, entry.name)
      const text = readFileSync(path, 'utf8')
      writeFileSync(path, text.replace(/^(package .*)$/m, '$1\n\nimport rego.v1'))
    }
    const older = await realOpa()
    const newer = { ...older, dialect: dialectOf('1.0.0') }
    const modules = await Promise.all(
      [older, newer].map(async (opa) =>
        readPack(await buildBundle({ opa, directory, revision: 'r', cacheDirectory: null })),
      ),
    )
    expect(Buffer.from(modules[1]?.wasm ?? []).equals(Buffer.from(modules[0]?.wasm ?? []))).toBe(
      true,
    )
    const output = await printed(() => testOnce(newer, directory, workbench, options))
    expect(output).toMatch(/PASS: (\d+)\/\1/)
    expect(output).toContain('the same results')
  }, 60_000)
})

describe('regate policy replay', () => {
  const record = (
    text: string,
    action: string,
    masked: readonly string[] = [],
    session = 's1',
  ): string =>
    JSON.stringify({
      ...{ type: 'statement_decided', session, database: 'shop' },
      identity: { user: 'bot', groups: ['agents'] },
      statement: { text },
      decision: { action, rule: 'r' },
      access: { masked_columns: masked },
    })

  it('lists exactly what would change, and what gets wider', async () => {
    const file = join(scratch, 'audit.ndjson')
    const lines = [
      record('SELECT name FROM customers', 'allow'),
      record('SELECT name, ssn FROM customers', 'mask', ['public.customers.ssn']),
      record('SELECT name, ssn FROM customers', 'mask', ['public.customers.ssn']),
      record('SELECT ssn FROM customers WHERE id = 1', 'allow'),
      record('DELETE FROM orders WHERE id = 1', 'deny'),
      record('PREPARE p AS SELECT ssn FROM customers', 'allow'),
      record('EXECUTE p', 'mask', ['public.customers.ssn']),
      record('SELEC 1', 'deny'),
      record('', 'allow'),
      '{"type":"statement_ended"}',
      '{"type":"statement_decided","cut off',
    ]
    writeFileSync(file, `${lines.join('\n')}\n`)
    const catalog = await readCatalog(join(packDirectory, 'regate/examples/shop.catalog.json'))
    const bundle = await readPack(await buildDirectory(packDirectory))
    const same = await replay(
      [file],
      await Policy.load(bundle, { limits: defaultLimits }),
      catalog,
      undefined,
    )
    expect(same).toMatchObject({ judged: 7, skipped: 2, changed: 1, wider: 0 })
    expect(same.changes[0]).toMatchObject({
      before: { action: 'allow' },
      after: { action: 'mask' },
    })
    const wider = await Policy.load(bundle, {
      limits: defaultLimits,
      extraData: [{ regate: { groups: { agents: { unmask: ['*'], write: ['public.orders'] } } } }],
    })
    const report = await replay([file], wider, catalog, undefined)
    expect(report).toMatchObject({ judged: 7, changed: 4, wider: 4 })
    expect(report.changes.find(({ count }) => count === 2)?.statement).toContain('name, ssn')
    expect(await replay([file], wider, catalog, 'other')).toMatchObject({ judged: 0 })
  })
})

describe('regate policy reload and rollback', () => {
  it('say what is active then, and why nothing changed where nothing did', async () => {
    const directory = copyOfPack()
    const keeper = await PolicyKeeper.start({
      name: 'test',
      source: { kind: 'path', path: directory },
      dataFiles: [],
      limits: defaultLimits,
      clock: systemClock,
      opa: { env: process.env },
      cacheDirectory: join(tmpdir(), 'regate-test-bundles'),
      onPolicy: () => undefined,
      watchMs: 0,
    })
    const app = Fastify()
    policyRoutes({ keeper, shadow: null, log: () => undefined })(app)
    try {
      const admin = await app.listen({ host: '127.0.0.1', port: 0 })
      const args = { _: [], $0: 'regate', admin, token: undefined, json: false }
      const reload = () => printed(() => policyReloadCommand.handler(args))
      const rollback = () => printed(() => policyRollbackCommand.handler(args))
      const first = keeper.policy.revision
      await expect(rollback()).rejects.toMatchObject({
        name: 'CommandFailure',
        message: 'there is no revision to go back to',
        exitCode: 1,
      })
      expect(await reload()).toBe(`revision ${first} is active, as before\n`)
      writeFileSync(join(directory, 'data.json'), '{"regate": {"groups": {}}}')
      const told = await reload()
      expect(told).toBe(`revision ${keeper.policy.revision} is active\n`)
      expect(keeper.policy.revision).not.toBe(first)
      expect(await rollback()).toBe(`revision ${first} is active\n`)
      writeFileSync(join(directory, 'regate', 'broken.rego'), 'package regate.broken\nallow if {')
      await expect(reload()).rejects.toMatchObject({ name: 'CommandFailure', exitCode: 1 })
      expect(keeper.policy.revision).toBe(first)
      await app.close()
      await expect(rollback()).rejects.toMatchObject({
        message: `${admin} does not answer`,
        exitCode: 1,
      })
    } finally {
      await app.close()
      await keeper.close()
    }
  }, 60_000)
})
