/**
 * docs/guides/identity.md is run: its configurations are loaded, its commands run by a shell against
 * a real provider, a real server and regate as the page configures it. Addresses of the page are
 * replaced by those of this machine, nothing else is.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { startDemoProvider, type DemoProvider } from '../../src/commands/demo/oidc-provider.ts'
import { parseConfiguration } from '../../src/config/config.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { TestAuthority, type Pair } from './support/certificates.ts'
import { browse } from './support/person.ts'

const page = readFileSync('docs/guides/identity.md', 'utf8')
const fences = [...page.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(
  ([, language = '', text = '']) => ({ language, text }),
)
const configurations = fences.filter(({ language }) => language === 'yaml')
const shell = fences.filter(({ language }) => language === 'sh').map(({ text }) => text)
const hasPsql = spawnSync('psql', ['--version']).error === undefined

let authority: TestAuthority
let pair: Pair
let provider: DemoProvider
let postgres: TestPostgres
let proxy: ProxyInProcess
let directory: string

beforeAll(async () => {
  authority = new TestAuthority()
  pair = authority.issue('server', '/CN=localhost', ['DNS:localhost', 'IP:127.0.0.1'])
  directory = mkdtempSync(join(tmpdir(), 'regate-guide-'))
  mkdirSync(join(directory, 'bin'))
  writeFileSync(
    join(directory, 'bin', 'regate'),
    `#!/bin/sh\nexec "${process.execPath}" "${resolve('dist/main.js')}" "$@"\n`,
    { mode: 0o755 },
  )
  provider = await startDemoProvider({
    accounts: [{ id: 'ann', name: 'Ann', email: 'ann@shop.example', groups: ['admins'] }],
    machines: [],
    audience: 'regate',
  })
  postgres = await startPostgres()
  await execute(postgres, 'CREATE DATABASE shop')
  const first = parse(here(configurations[0]?.text ?? '')) as { authentication: object[] }
  proxy = await startProxy(postgres, {
    users: { app_shop: { password: 'app-password', groups: ['admins'] } },
    configuration: {
      listen: { host: '127.0.0.1', port: 0, tls: { cert: pair.cert, key: pair.key } },
      authentication: first.authentication,
    },
  })
}, 120_000)
afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
  await provider.stop()
  authority.remove()
  rmSync(directory, { recursive: true, force: true })
})

/** The page's text with the addresses of this machine. */
function here(text: string): string {
  return text
    .replaceAll('https://login.example.com', provider.issuer)
    .replaceAll('http://127.0.0.1:8432', (proxy as ProxyInProcess | undefined)?.adminUrl ?? '')
    .replaceAll('host=db-proxy port=6432', `host=localhost port=${proxyPort()}`)
    .replaceAll('db-proxy:6432', `localhost:${proxyPort()}`)
}

function proxyPort(): number {
  return (proxy as ProxyInProcess | undefined)?.port ?? 0
}

interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

function run(script: string, input = '', onError: (text: string) => void = () => undefined) {
  const child = spawn('sh', ['-e', '-c', script], {
    env: {
      ...process.env,
      PATH: `${join(directory, 'bin')}${delimiter}${process.env['PATH'] ?? ''}`,
      HOME: directory,
      PGPASSFILE: join(directory, 'pgpass'),
      PGSSLROOTCERT: authority.ca,
      PGUSER: 'ann',
      REGATE_TOKENS: join(directory, 'logins', 'tokens.json'),
    },
  })
  let out = ''
  let err = ''
  child.stdin.end(input)
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => {
    err += chunk.toString()
    onError(err)
  })
  return new Promise<Ran>((done) => {
    child.once('close', (code) => {
      done({ code, out, err })
    })
  })
}

describe('the guide', () => {
  it.each(configurations.map(({ text }) => text))('has a configuration that loads: %s', (text) => {
    const own = /^(listen|authentication|databases):/m.test(text)
      ? text
      : `authentication:\n${text.replaceAll(/^/gm, '  ')}`
    const rest = [
      'policy: { bundle: policies }',
      ...(/^databases:/m.test(own)
        ? []
        : [
            'databases: { shop: { upstream: { host: 127.0.0.1 }, roles: { default: { user: app } } } }',
          ]),
      ...(/^listen:/m.test(own) ? [] : ['listen: { host: 127.0.0.1 }']),
    ].join('\n')
    const loaded = parseConfiguration(`${rest}\n${own}`, join(directory, 'regate.yaml'), {})
    const faults = loaded.kind === 'errors' ? loaded.errors : []
    // Files that the page names are those of its reader.
    expect(faults.filter(({ message }) => !/no such file|ENOENT|not exist/i.test(message))).toEqual(
      [],
    )
  })

  it.skipIf(!hasPsql)(
    'logs in with a token as psql’s password and by a pgpass line',
    async () => {
      const script = here(shell[0] ?? '')
      const exports = script.split('\n').filter((line) => line.startsWith('export '))
      let asked = false
      const first = await run(
        `${exports.join('\n')}\nregate login --print --no-browser`,
        '',
        (said) => {
          const address = /or open (\S+)\n/.exec(said)?.[1]
          if (address === undefined || asked) return
          asked = true
          void browse(address, { login: 'ann', password: 'x' })
        },
      )
      expect(first).toMatchObject({ code: 0 })
      // Known now: nobody is asked again.
      const ran = await run(script, 'SELECT current_setting($$application_name$$) AS who;\n')
      expect(ran).toMatchObject({ code: 0 })
      expect(ran.out).toContain('ann/psql')
      const byFile = await run(
        `psql -w -AtX "host=localhost port=${proxyPort()} dbname=shop sslmode=verify-full" -c 'SELECT 1'`,
      )
      expect(byFile).toMatchObject({ code: 0, out: '1\n' })
    },
    90_000,
  )

  it('lets a service in by its password beside it', async () => {
    const client = new pg.Client({
      ...{ host: 'localhost', port: proxyPort(), user: 'app_shop', password: 'app-password' },
      ...{ database: 'shop', ssl: { ca: authority.read(authority.ca) } },
    })
    await client.connect()
    expect((await client.query<{ one: number }>('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    await client.end()
  })

  it('revokes a subject by the admin API', async () => {
    const commands = here(shell.find((text) => text.includes('/v1/revocations')) ?? '')
    const [revoke = ''] = commands.split('\n')
    const { out } = await run(`${revoke} --silent --show-error --fail`)
    expect(out).toContain('ann')
    const listed = await (await fetch(`${proxy.adminUrl}/v1/revocations`)).json()
    expect(listed).toMatchObject({ revocations: [{ subject: 'ann' }] })
  })
})
