/** Revocations outlive the process: what is on disk, what a restart makes of it, a file that is broken. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startRuntime, type Runtime } from '../../src/commands/runtime.ts'
import { loadConfiguration } from '../../src/config/config.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { writeProxyFiles, type ProxyFiles } from '../support/proxy.ts'

let postgres: TestPostgres
let files: ProxyFiles
let runtime: Runtime | null = null

beforeAll(async () => {
  postgres = await startPostgres()
  files = await writeProxyFiles(postgres, {
    users: {
      ann: { password: 'a', groups: ['admins'] },
      bob: { password: 'b', groups: ['admins'] },
    },
    configuration: { workers: 1 },
  })
})

afterAll(async () => {
  await runtime?.stop()
  await postgres.stop()
  rmSync(files.directory, { recursive: true })
})

const path = () => join(files.directory, 'audit', 'revocations.json')

async function start(): Promise<void> {
  await runtime?.stop()
  runtime = null
  const loaded = await loadConfiguration(files.path, files.environment)
  if (loaded.kind === 'errors') throw new Error('the configuration is wrong')
  const { configuration } = loaded
  const { environment } = files
  runtime = await startRuntime({ configuration, environment, log: pino({ level: 'silent' }) })
}

async function login(user: string, password: string): Promise<string> {
  const client = new pg.Client({
    ...{ host: '127.0.0.1', port: runtime?.port ?? 0, user, password, database: 'postgres' },
  })
  try {
    await client.connect()
    await client.end()
    return 'let in'
  } catch (error) {
    return (error as { code: string }).code
  }
}

async function api(method: string, at: string, body: unknown = null): Promise<number> {
  const answer = await fetch(`${runtime?.adminUrl ?? ''}/v1/revocations${at}`, {
    method,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  await answer.arrayBuffer()
  return answer.status
}

const until = new Date(Date.now() + 3_600_000).toISOString()

it('are there after a restart, until they are taken back', async () => {
  await start()
  expect(await login('ann', 'a')).toBe('let in')
  expect(await api('POST', '', { subject: 'ann', until })).toBe(201)
  expect(await login('ann', 'a')).toBe('28P01')
  expect(readFileSync(path(), 'utf8')).toContain('"subject": "ann"')
  await start()
  expect(await login('ann', 'a')).toBe('28P01')
  expect(await login('bob', 'b')).toBe('let in')
  expect(await api('DELETE', '/ann', {})).toBe(200)
  await start()
  expect(await login('ann', 'a')).toBe('let in')
})

it('are in force, and said to be forgotten by a restart, where they cannot be saved', async () => {
  await start()
  rmSync(path(), { force: true })
  mkdirSync(path())
  expect(await api('POST', '', { subject: 'bob', until })).toBe(500)
  expect(await login('bob', 'b')).toBe('28P01')
  rmSync(path(), { recursive: true })
  // The next one saves all.
  expect(await api('POST', '', { subject: 'carl', until })).toBe(201)
  expect(readFileSync(path(), 'utf8')).toContain('"subject": "bob"')
})

it('that cannot be read let nobody in', async () => {
  await runtime?.stop()
  runtime = null
  for (const text of ['', '{"revocations":[{"subject":"ann"}]}', 'not JSON']) {
    writeFileSync(path(), text)
    await expect(start()).rejects.toThrow(
      'revocations.json cannot be read: it is no list of revocations',
    )
  }
  rmSync(path())
  await start()
})
