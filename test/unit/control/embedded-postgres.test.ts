import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import { execute, startPostgres } from '../../support/postgres.ts'

test('an embedded server answers, logs every statement, and leaves nothing behind', async () => {
  const server = await startPostgres({ users: { app: { password: "it's" } } })
  const result = await execute(server, "SELECT rolname FROM pg_roles WHERE rolname = 'app'")
  expect(result.rows).toEqual([{ rolname: 'app' }])
  expect(server.log()).toContain('SELECT rolname FROM pg_roles')
  expect(server.log()).not.toContain("it's")
  await server.stop()
  await server.stop()
  if (server.socketDirectory !== null) expect(existsSync(server.socketDirectory)).toBe(false)
  await expect(execute(server, 'SELECT 1')).rejects.toThrow()
})

test('two servers at once have ports, data and passwords of their own', async () => {
  const [a, b] = await Promise.all([startPostgres(), startPostgres()])
  try {
    expect(a.port).not.toBe(b.port)
    expect(a.password).not.toBe(b.password)
    await execute(a, 'CREATE DATABASE only_in_a')
    const names = await execute(b, "SELECT 1 FROM pg_database WHERE datname = 'only_in_a'")
    expect(names.rowCount).toBe(0)
  } finally {
    await Promise.all([a.stop(), b.stop()])
  }
})

test('a setting that is wrong is an error with the server log in it', async () => {
  await expect(startPostgres({ settings: { max_connections: 'many' } })).rejects.toThrow(
    /max_connections/,
  )
})

test.runIf(process.platform !== 'win32')(
  'a server ends with the process that started it, however that ended',
  async () => {
    const script = `
      import { startEmbeddedPostgres } from './dist/control/embedded-postgres.js'
      const server = await startEmbeddedPostgres()
      process.stdout.write(server.dataDirectory + '\\n')
      setInterval(() => {}, 1000)`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const directory = await new Promise<string>((resolve) => {
      child.stdout.once('data', (line: Buffer) => {
        resolve(line.toString().trim())
      })
    })
    expect(existsSync(directory)).toBe(true)
    child.kill('SIGKILL')
    await expect.poll(() => existsSync(directory), { timeout: 10_000 }).toBe(false)
  },
)
