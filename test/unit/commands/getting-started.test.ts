/**
 * docs/getting-started.md is run from the configuration on: the README's file and the page's data are
 * written, its commands run in order by a shell, against a real server. Addresses are replaced by
 * those of this machine, nothing else is.
 */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../../../src/control/control.ts'
import { execute, startPostgres, type TestPostgres } from '../../support/postgres.ts'

const page = readFileSync('docs/getting-started.md', 'utf8')
const fence = (text: string, language: string, part: string): string =>
  [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)]
    .filter(([, name]) => name === language)
    .map(([, , body = '']) => body)
    .find((body) => body.includes(part)) ?? ''

let postgres: TestPostgres
let directory: string

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'regate-start-'))
  mkdirSync(join(directory, 'bin'))
  const shim = `#!/bin/sh\nexec "${process.execPath}" "${resolve('dist/main.js')}" "$@"\n`
  writeFileSync(join(directory, 'bin', 'regate'), shim, { mode: 0o755 })
  postgres = await startPostgres({ users: { app: { password: 'app-password', superuser: true } } })
  await execute(postgres, 'CREATE DATABASE shop')
  await execute(
    postgres,
    "CREATE TABLE users (ssn text); INSERT INTO users VALUES ('123-45-6789'); CREATE TABLE orders (id int)",
    'shop',
  )
}, 60_000)
afterAll(async () => {
  await postgres.stop()
  rmSync(directory, { recursive: true, force: true })
})

test('leads from the README’s file to a masked answer', { timeout: 60_000 }, async () => {
  const [port, adminPort] = [await freePort(), await freePort()]
  const upstream = 'host: db.internal, port: 5432, tls: { ca: ca.pem }'
  const readme = fence(readFileSync('README.md', 'utf8'), 'yaml', 'databases:')
  expect(readme).toContain(upstream)
  const here = `host: 127.0.0.1, port: ${postgres.port}`
  const configuration = `${readme.replace(upstream, here)}listen: { port: ${port} }\nadmin: { port: ${adminPort} }\n`
  writeFileSync(join(directory, 'regate.yaml'), configuration)
  writeFileSync(join(directory, 'data.json'), fence(page, 'json', '"regate"'))
  const make = fence(page, 'sh', 'regate policy init')
  const check = fence(page, 'sh', 'serve --config regate.yaml --check')
  // In the order of the page; it says to write the data over policies/data.json.
  const script = [
    make,
    check,
    'cp data.json policies/data.json',
    check,
    'regate serve --config regate.yaml 2>log & trap "kill $!; wait" EXIT',
    `until curl -fsS http://127.0.0.1:${adminPort}/readyz; do sleep 0.2; done`,
    `PGPASSWORD=chosen-by-ann regate sql -p ${port} -U ann -d shop -c "SELECT ssn FROM users"`,
    `PGPASSWORD=chosen-by-ann regate sql -p ${port} -U ann -d shop -c "DELETE FROM orders" || echo refused`,
  ]
  const { code, output } = await run(script.join('\n'), 'chosen-by-ann\n')
  expect(code, output).toBe(0)
  expect(output).toContain('│ **** │')
  expect(output).toContain('you may not write to public.orders')
  expect(output).toContain('refused')
})

function run(script: string, input: string): Promise<{ code: number | null; output: string }> {
  const child = spawn('bash', ['-euo', 'pipefail', '-c', script], {
    cwd: directory,
    env: {
      ...process.env,
      PATH: `${join(directory, 'bin')}${delimiter}${process.env['PATH'] ?? ''}`,
      SHOP_PASSWORD: 'app-password',
    },
  })
  let output = ''
  child.stdin.end(input)
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  return new Promise((done) => {
    child.once('close', (code) => {
      done({ code, output })
    })
  })
}
