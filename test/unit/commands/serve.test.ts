/**
 * `regate serve` as people run it: the command from dist/, a real PostgreSQL behind it.
 */
import { spawn } from 'node:child_process'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../../support/postgres.ts'
import { serveProxy, writeProxyFiles, type ProxyChild } from '../../support/proxy.ts'

const password = 'a-password-that-must-not-leak'

describe('regate serve', () => {
  let postgres: TestPostgres
  let proxy: ProxyChild | null = null
  beforeAll(async () => {
    postgres = await startPostgres({ users: { app: { password } } })
    await execute(postgres, 'CREATE DATABASE shop OWNER app')
  })
  afterEach(async () => {
    await proxy?.stop()
    proxy = null
  })
  afterAll(() => postgres.stop())

  const users = { admin: { password: 'client-password', groups: ['admins'] } }

  async function start(configuration: Record<string, unknown> = {}): Promise<ProxyChild> {
    proxy = await serveProxy(postgres, {
      users,
      upstream: { user: 'app', password },
      configuration,
    })
    return proxy
  }

  async function connect(to: ProxyChild, secret = 'client-password'): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: to.url('shop', 'admin', secret) })
    client.on('error', () => undefined)
    await client.connect()
    return client
  }

  function ended(child: ProxyChild): Promise<{ code: number | null; signal: string | null }> {
    return new Promise((resolve) => {
      child.child.once('exit', (code, signal) => resolve({ code, signal }))
    })
  }

  test('a port that is in use is named with its key', async () => {
    const running = await start()
    const taken = serveProxy(postgres, {
      users,
      upstream: { user: 'app', password },
      configuration: { listen: { host: '127.0.0.1', port: running.port } },
    })
    await expect(taken).rejects.toThrow(/listen\.port: 127\.0\.0\.1:\d+ is in use/)
  })

  test('serves, says it is ready, and writes no secret anywhere', async () => {
    const running = await start({ log: { level: 'trace' } })
    const client = await connect(running)
    const { rows } = await client.query<{ one: number }>('SELECT 1 AS one')
    expect(rows).toEqual([{ one: 1 }])
    const ready = await fetch(`${running.adminUrl}/readyz`)
    expect(ready.status).toBe(200)
    const metrics = await (await fetch(`${running.adminUrl}/metrics`)).text()
    expect(metrics).toMatch(/^regate_sessions 1$/m)
    expect(metrics).toMatch(/^regate_policy_ok 1$/m)
    await client.end()
    await expect(connect(running, 'wrong')).rejects.toThrow(/authentication failed/)
    const written = running.log() + metrics
    expect(written).not.toContain(password)
    expect(written).not.toContain('client-password')
  })

  test('SIGTERM lets a transaction end, takes no new client, and exits with 0', async () => {
    const running = await start()
    const busy = await connect(running)
    const idle = await connect(running)
    const idleEnded = new Promise<void>((resolve) => idle.once('end', () => resolve()))
    await busy.query('BEGIN')
    const exit = ended(running)
    running.child.kill('SIGTERM')
    await idleEnded
    await expect(connect(running)).rejects.toThrow()
    expect((await busy.query('SELECT 2 AS two')).rows).toEqual([{ two: 2 }])
    await busy.query('COMMIT').catch(() => undefined)
    expect(await exit).toEqual({ code: 0, signal: null })
    await expect
      .poll(async () => {
        const sessions = "SELECT 1 FROM pg_stat_activity WHERE usename = 'app'"
        return (await execute(postgres, sessions)).rowCount
      })
      .toBe(0)
  })

  test('a second SIGTERM ends at once, and the transaction is rolled back', async () => {
    const running = await start()
    const busy = await connect(running)
    await busy.query('CREATE TABLE kept (n int)')
    await busy.query('BEGIN')
    await busy.query('INSERT INTO kept VALUES (1)')
    const exit = ended(running)
    running.child.kill('SIGTERM')
    await expect.poll(() => running.log()).toContain('draining')
    running.child.kill('SIGTERM')
    expect((await exit).code).toBe(0)
    expect((await execute(postgres, 'SELECT count(*)::int AS n FROM kept', 'shop')).rows).toEqual([
      { n: 0 },
    ])
  })

  test('a session that does not end is ended after drainMsMax', async () => {
    const running = await start({ limits: { drainMsMax: '300ms' } })
    const busy = await connect(running)
    await busy.query('BEGIN')
    const exit = ended(running)
    running.child.kill('SIGTERM')
    expect((await exit).code).toBe(0)
  })

  test('SIGHUP takes over users; a configuration with errors changes nothing', async () => {
    const running = await start()
    const path = join(running.directory, 'regate.yaml')
    const before = await readFile(path, 'utf8')
    const usersFile = join(running.directory, 'users.yaml')
    await rm(usersFile)
    await writeFile(path, `${before}\nnonsense: 1\n`)
    running.child.kill('SIGHUP')
    await expect.poll(() => running.log()).toContain('the old one stays')
    await (await connect(running)).end()
    await writeFile(path, before)
  })

  test('--check is silent about what is right and complete about what is wrong', async () => {
    const { directory, path, environment } = await writeProxyFiles(postgres, {
      users,
      upstream: { user: 'app', password },
    })
    try {
      const right = await run(['serve', '--check', '--config', path], environment)
      expect(right.err).not.toMatch(/error/i)
      expect(right.code).toBe(0)
      expect(right.out).toMatch(/is right/)
      const text = (await readFile(path, 'utf8')).replace('host: 127.0.0.1', 'hots: 127.0.0.1')
      await writeFile(path, `${text}\nworkers: none\n`)
      const wrong = await run(['serve', '--check', '--config', path], environment)
      expect(wrong.code).toBe(1)
      expect(wrong.err).toMatch(/did you mean host\?/)
      expect(wrong.err).toMatch(/regate.yaml:\d+:\d+: workers/)
      expect(wrong.err).not.toMatch(/\n {4}at /)
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })

  test('a classified column that does not exist is said by --check, readiness and metrics', async () => {
    const { host, port } = postgres
    const upstream = { host, port, tls: { mode: 'disable' } }
    const roles = { default: { user: 'app', password_env: 'TEST_PASSWORD_DEFAULT' } }
    const options = {
      ...{ users, upstream: { user: 'app', password } },
      data: {
        regate: { columns: { 'public.users.snn': { class: 'pii', mask: { kind: 'redact' } } } },
      },
      configuration: { databases: { shop: { upstream, roles } } },
    }
    const files = await writeProxyFiles(postgres, options)
    const checked = await run(['serve', '--check', '--config', files.path], files.environment)
    await rm(files.directory, { recursive: true, force: true })
    expect(checked.out).toMatch(/warning: classified column public\.users\.snn does not exist/)
    expect(checked.code).toBe(0)
    proxy = await serveProxy(postgres, options)
    const { adminUrl } = proxy
    await expect
      .poll(async () => await (await fetch(`${adminUrl}/readyz`)).json(), { timeout: 10_000 })
      .toMatchObject({
        status: 'ready',
        warnings: expect.arrayContaining(['classified column public.users.snn does not exist']),
      })
    const metrics = await (await fetch(`${adminUrl}/metrics`)).text()
    expect(metrics).toMatch(/^regate_policy_names_unmatched [1-9]/m)
  })

  test('a policy that does not compile stops the start and shows what OPA said', async () => {
    const { directory, path, environment } = await writeProxyFiles(postgres, {
      users,
      bundle: 'broken',
    })
    try {
      await rm(join(directory, 'broken'), { recursive: true, force: true })
      const { mkdir } = await import('node:fs/promises')
      await mkdir(join(directory, 'broken'))
      await writeFile(
        join(directory, 'broken', 'x.rego'),
        'package regate.statement\n\nallow if {\n',
      )
      const { code, err } = await run(['serve', '--config', path], environment)
      expect(code).toBe(1)
      expect(err).toMatch(/rego_parse_error/)
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
})

function run(args: readonly string[], env: Record<string, string | undefined>) {
  return new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
    const child = spawn(process.execPath, ['dist/main.js', ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let out = ''
    let err = ''
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()))
    child.on('close', (code) => resolve({ code, out, err }))
  })
}
