import { mkdtempSync, rmSync, writeFileSync, mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  formatConfigurationError,
  loadConfiguration,
  parseConfiguration,
  readSecret,
  type Configuration,
  type ConfigurationError,
} from '../../../src/config/config.ts'
import { durationMs, sizeBytes } from '../../../src/config/values.ts'
import { nearest } from '../../../src/core/core.ts'

let directory = ''
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'regate-config-'))
  mkdirSync(join(directory, 'policies'))
  for (const name of ['users.yaml', 'cert.pem', 'key.pem', 'secret', 'classes.json']) {
    writeFileSync(join(directory, name), `${name}\n`)
  }
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const minimal = `
databases:
  shop:
    upstream: { host: db.example.com }
    roles:
      default: { user: app, password_env: SHOP_PASSWORD }
authentication:
  - { method: scram, users: users.yaml }
policy:
  bundle: policies/
`
const environment = { SHOP_PASSWORD: 'never shown' }

function load(text: string, env: Record<string, string> = environment) {
  return parseConfiguration(text, join(directory, 'regate.yaml'), env)
}

function ok(text: string, env?: Record<string, string>): Configuration {
  const loaded = load(text, env)
  if (loaded.kind === 'errors') throw new Error(JSON.stringify(loaded.errors, null, 1))
  return loaded.configuration
}

function errors(text: string, env?: Record<string, string>): readonly ConfigurationError[] {
  const loaded = load(text, env)
  return loaded.kind === 'errors' ? loaded.errors : []
}

describe('a configuration that is right', () => {
  test('needs little, and has the documented defaults', () => {
    const configuration = ok(minimal)
    expect(configuration.listen).toEqual({ host: '127.0.0.1', port: 6432, tls: null })
    expect(configuration.workers).toBe(1)
    expect(configuration.admin).toMatchObject({ host: '127.0.0.1', port: 8432 })
    const shop = configuration.databases.get('shop')
    expect(shop).toMatchObject({ host: 'db.example.com', port: 5432, database: null })
    expect(shop?.tls.mode).toBe('verify-full')
    expect(shop?.roles.get('default')).toEqual({
      user: 'app',
      password: { kind: 'env', name: 'SHOP_PASSWORD' },
    })
    expect(configuration.policy.bundle).toEqual({
      kind: 'path',
      path: join(directory, 'policies'),
    })
    expect(JSON.stringify(configuration)).not.toContain('never shown')
  })

  test('takes every part of a whole configuration', () => {
    const configuration = ok(`
listen:
  host: 0.0.0.0
  port: 5432
  tls: { cert: cert.pem, key: key.pem, client_ca: cert.pem, required: true }
workers: auto
databases:
  "*":
    upstream: { host: /run/postgresql, port: 5433, database: x }
    roles:
      default: { user: app }
      readonly: { user: ro, password_file: secret }
authentication:
  - method: oidc
    issuer: https://id.example.com/
    audience: regate
    groups_claim: [groups, realm_access.roles]
    match: { address: [10.0.0.0/8], tls: true }
  - { method: scram, users: users.yaml }
  - { method: certificate, subject: cn, match: { certificate: true } }
policy:
  bundle:
    service: { url: "https://bundles.example.com", token_file: secret }
    resource: bundles/regate.tar.gz
    polling: { min_delay_seconds: 5, max_delay_seconds: 10 }
    signing: { keyid: k, public_key: cert.pem }
    persist: cache
  data: [classes.json]
  shadow: { bundle: policies }
approvals: { adapter: webhook, webhook: { url: "https://a.example.com", secret_file: secret }, wait: 1m, ttl: 1h, store: "postgres://r@s/d", store_password_file: secret }
audit: { directory: log, fsync: always, retain: 7d, literals: redact, results: masked, sinks: [{ kind: stdout }, { kind: opa, url: "https://o.example.com" }] }
admin: { host: 127.0.0.1, port: 0, groups: [dba] }
masking: { key_file: secret }
log: { level: warn }
limits: { statementBytesMax: 1MB, drainMsMax: 5s, connectionsMax: 12 }
`)
    expect(configuration.workers).toBeGreaterThan(0)
    expect(configuration.limits).toMatchObject({
      statementBytesMax: 1024 * 1024,
      drainMsMax: 5000,
      connectionsMax: 12,
      portalCountMax: 10_000,
    })
    expect(configuration.databases.get('*')?.tls.mode).toBe('prefer')
    expect(configuration.approvals).toMatchObject({ waitMs: 60_000, ttlMs: 3_600_000 })
    expect(configuration.authentication.map(({ method }) => method)).toEqual([
      'oidc',
      'scram',
      'certificate',
    ])
  })
})

describe('a configuration that is wrong', () => {
  test('reports all errors at once, each with its line, what was expected, and a fix', () => {
    const found = errors(`listn: {}
listen: { port: 70000 }
workers: many
databases:
  shop:
    upstream: { port: 5432 }
    roles:
      readonly: { user: app, password: hunter2, password_env: NOWHERE }
authentication:
  - { method: scrm }
  - { method: trust, grups: [x] }
policy:
  bundle: nowhere/
audit: { retain: 30 }
limits: { drainMax: 1 }
`)
    const byKey = new Map(found.map((error) => [error.key, error]))
    expect(byKey.get('listn')).toMatchObject({ line: 1, fix: 'did you mean listen?' })
    expect(byKey.get('listen.port')).toMatchObject({ line: 2, column: 17 })
    expect(byKey.get('listen.port')?.message).toMatch(/is 70000, expected .*0 to 65535.*TCP port/)
    expect(byKey.get('workers')?.message).toMatch(/"many", expected a whole number.*`auto`/)
    expect(byKey.get('databases.shop.upstream.host')?.message).toMatch(/is missing/)
    expect(byKey.get('databases.shop.upstream.host')?.line).toBe(6)
    expect(byKey.get('databases.shop.roles.readonly.password')?.fix).toMatch(/password_env/)
    expect(byKey.get('authentication[0].method')?.fix).toBe('did you mean scram?')
    expect(byKey.get('authentication[1].grups')?.fix).toBe('did you mean groups?')
    expect(byKey.get('policy.bundle')?.message).toMatch(/nowhere does not exist/)
    expect(byKey.get('audit.retain')?.fix).toMatch(/30s/)
    expect(byKey.get('limits.drainMax')?.fix).toBe('did you mean drainMsMax?')
    expect(found.map((error) => error.line ?? 0)).toEqual(
      found.map((error) => error.line ?? 0).toSorted((a, b) => a - b),
    )
    expect(found.length).toBe(byKey.size)
  })

  test('never repeats a secret that somebody wrote inline', () => {
    const text = minimal.replace('password_env: SHOP_PASSWORD', 'password: hunter2')
    const found = errors(text)
    expect(found).toHaveLength(1)
    expect(JSON.stringify(found)).not.toContain('hunter2')
  })

  test.each([
    ['a variable that is not set', minimal, {}, /SHOP_PASSWORD is not set/],
    [
      'two sources of one secret',
      minimal.replace('password_env: SHOP_PASSWORD', 'password_env: A, password_file: secret'),
      { A: 'x' },
      /2 sources/,
    ],
    ['no default role', minimal.replace('default:', 'reader:'), environment, /no role `default`/],
    [
      'trust beyond loopback',
      `${minimal.replace('method: scram, users: users.yaml', 'method: trust')}listen: { host: 0.0.0.0 }\n`,
      environment,
      /trust lets everybody in/,
    ],
    [
      'certificate without a CA',
      minimal.replace('method: scram, users: users.yaml', 'method: certificate'),
      environment,
      /whose certificates/,
    ],
    [
      'admin API for everybody',
      `${minimal}admin: { host: 0.0.0.0 }\n`,
      environment,
      /nothing asks/,
    ],
    [
      'webhook without secret',
      `${minimal}approvals: { adapter: webhook, webhook: { url: "https://x.example.com" } }\n`,
      environment,
      /forge/,
    ],
    [
      'a password in a URL',
      `${minimal}approvals: { store: "postgres://a:b@c/d" }\n`,
      environment,
      /holds a password/,
    ],
    [
      'a users file that is not there',
      minimal.replace('users.yaml', 'u'),
      environment,
      /not exist/,
    ],
    [
      'a file that is no bundle',
      minimal.replace('policies/', 'users.yaml'),
      environment,
      /is no bundle/,
    ],
  ])('%s is an error', (_name, text, env, message) => {
    const found = errors(text, env)
    expect(found.map((error) => error.message).join('\n')).toMatch(message)
    expect(found[0]?.line).not.toBeNull()
  })

  test('YAML that does not parse, and a key given twice, name the line', () => {
    expect(errors('listen: [\n')[0]?.line).toBeGreaterThan(0)
    const twice = errors(`${minimal}log: {}\nlog: {}\n`)
    expect(twice[0]?.message).toMatch(/unique/)
    expect(twice[0]?.line).toBe(12)
  })

  test('an empty file, a list and a scalar are errors, not exceptions', () => {
    for (const text of ['', '- 1', 'hello', '42', 'null', '{}']) {
      expect(errors(text).length).toBeGreaterThan(0)
    }
  })

  test('names of the object prototype are unknown keys like any other', () => {
    for (const name of ['__proto__', 'constructor', 'toString']) {
      expect(errors(`${minimal}${name}: { a: 1 }\n`).length, name).toBeGreaterThan(0)
    }
  })

  test('a file that is not there says so', async () => {
    const loaded = await loadConfiguration(join(directory, 'none.yaml'), {})
    expect(loaded.kind).toBe('errors')
    if (loaded.kind === 'errors') {
      expect(loaded.errors[0]?.message).toMatch(/no such file/)
      expect(formatConfigurationError(loaded.errors[0]!, 'none.yaml')).toMatch(/--config/)
    }
  })
})

describe('what is not there yet', () => {
  test('is said with the command that makes it', () => {
    const found = errors(
      minimal.replace('users.yaml', 'people.yaml').replace('policies/', 'rules/'),
    )
    expect(found.map(({ fix }) => fix)).toEqual([
      expect.stringContaining('`regate user add ann --group agents --users people.yaml`'),
      expect.stringContaining('`regate policy init rules/`'),
    ])
  })

  test('an audit directory that takes no file is an error of audit.directory', () => {
    const [found] = errors(`${minimal}audit: { directory: secret/log }\n`)
    expect(found).toMatchObject({ key: 'audit.directory' })
    expect(found?.message).toContain('cannot be written to')
    expect(errors(`${minimal}audit: { directory: a/b/c }\n`)).toEqual([])
  })

  test('an unknown limit is answered with the nearest names, not with all of them', () => {
    const [found] = errors(`${minimal}limits: { sessionsHowMany: 3 }\n`)
    expect(found?.fix).toMatch(/^remove it; the nearest of \d+ known here: \w+, \w+, \w+$/)
  })
})

describe('what a command needs', () => {
  test('may be right where the rest is not', () => {
    const text = `${minimal.replace('users.yaml', 'none.yaml')}audit: { directory: log }\nlistn: 3\n`
    const path = join(directory, 'regate.yaml')
    const needed = { keys: ['audit'], concerns: () => false }
    const loaded = parseConfiguration(text, path, {}, needed)
    if (loaded.kind === 'errors') throw new Error(JSON.stringify(loaded.errors))
    expect(loaded.configuration.audit.directory).toBe(join(directory, 'log'))
    const wrong = parseConfiguration(`${minimal}audit: { directory: 3 }\n`, path, {}, needed)
    expect(wrong.kind).toBe('errors')
  })
})

describe('values', () => {
  test('durations and sizes', () => {
    expect(durationMs('1.5s')).toBe(1500)
    expect(durationMs('250ms')).toBe(250)
    expect(durationMs('2d')).toBe(172_800_000)
    expect(sizeBytes('64MB')).toBe(64 * 1024 * 1024)
    expect(sizeBytes('1kB')).toBe(1024)
  })

  test('suggestions are near or none', () => {
    expect(nearest('polcy', ['policy', 'audit'])).toBe('policy')
    expect(nearest('zzz', ['policy', 'audit'])).toBeNull()
  })

  test('secrets come from the environment, a file without its newline, or a command', async () => {
    expect(await readSecret({ kind: 'env', name: 'A' }, { A: ' x ' })).toBe(' x ')
    expect(await readSecret({ kind: 'file', path: join(directory, 'secret') }, {})).toBe('secret')
    expect(await readSecret({ kind: 'command', command: 'echo one; echo two' }, {})).toBe('one')
    await expect(readSecret({ kind: 'env', name: 'A' }, {})).rejects.toThrow(/A is not set/)
    const failing = readSecret({ kind: 'command', command: 'printf lea; echo ked; exit 1' }, {})
    const error: unknown = await failing.catch((reason: unknown) => reason)
    expect(String(error)).toMatch(/command for a secret failed/)
    expect(JSON.stringify(error) + String((error as Error).stack)).not.toContain('leaked')
  })
})
