/**
 * docs/guides/policies.md is run: its files are written, its commands run in order by a shell, in a
 * directory of their own, against a real server. What the page says and what happens cannot drift
 * apart. Addresses of the page are replaced by those of this machine, nothing else is.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { freePort } from '../../src/control/control.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'

const page = readFileSync('docs/guides/policies.md', 'utf8')
const main = resolve('dist/main.js')

/** The page's fences in order: shell to run, or a file to write (its name behind the language). */
const fences = [...page.matchAll(/^```(\w+)(?: (\S+))?\n([\s\S]*?)^```$/gm)].map(
  ([, language = '', file = '', text = '']) => ({ language, file, text }),
)

let postgres: TestPostgres
let bundleServer: Server
let directory: string
let replacements: readonly (readonly [string, string])[]

function here(text: string): string {
  return replacements.reduce((changed, [from, to]) => changed.replaceAll(from, to), text)
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'regate-guide-'))
  postgres = await startPostgres({ users: { app: { password: 'app-password', superuser: true } } })
  await execute(postgres, 'CREATE DATABASE shop')
  await execute(postgres, readFileSync('src/commands/demo/shop.sql', 'utf8'), 'shop')
  bundleServer = createHttpServer((request, response) => {
    const path = join(directory, 'bundles', basename(request.url ?? ''))
    if (!existsSync(path)) response.statusCode = 404
    response.end(existsSync(path) ? readFileSync(path) : undefined)
  })
  await new Promise<void>((done) => bundleServer.listen(0, '127.0.0.1', done))
  const bundlePort = (bundleServer.address() as AddressInfo).port
  replacements = [
    [
      'postgres://app@db.example.org/shop',
      `postgres://app:app-password@127.0.0.1:${postgres.port}/shop`,
    ],
    [
      'host: db.example.org, port: 5432, tls: { mode: verify-full }',
      `host: 127.0.0.1, port: ${postgres.port}, tls: { mode: disable }`,
    ],
    ['https://bundles.example.org', `http://127.0.0.1:${bundlePort}`],
    ['6432', String(await freePort())],
    ['8432', String(await freePort())],
  ]
  const bin = join(directory, 'bin')
  mkdirSync(bin)
  const shim = `#!/bin/sh\nexec "${process.execPath}" "${main}" "$@"\n`
  writeFileSync(join(bin, 'regate'), shim, { mode: 0o755 })
}, 120_000)

afterAll(async () => {
  bundleServer.closeAllConnections()
  bundleServer.close()
  await postgres.stop()
  rmSync(directory, { recursive: true, force: true })
})

/** One shell for all, as a reader has it; stops at the first command that fails. */
async function run(
  script: string,
): Promise<{ readonly code: number | null; readonly output: string }> {
  const child = spawn('bash', ['-c', script], {
    cwd: directory,
    detached: true,
    env: {
      ...process.env,
      PATH: `${join(directory, 'bin')}${delimiter}${process.env['PATH'] ?? ''}`,
      SHOP_PASSWORD: 'app-password',
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const code = await new Promise<number | null>((done, fail) => {
    child.once('error', fail)
    child.once('close', done)
  })
  return { code, output }
}

describe('the guide to policies', () => {
  it('shows no command that is not run', () => {
    const shell = fences.filter(({ language }) => language === 'sh').map(({ text }) => text)
    const prose = page.replace(/^```[\s\S]*?^```$/gm, '')
    // Indented blocks would be shown as commands and not be run.
    expect(prose).not.toMatch(/^ {4}(regate|opa|curl) /m)
    expect(shell.join('').match(/^regate /gm)?.length).toBeGreaterThanOrEqual(10)
    const offline = ['init', 'test', 'check', 'explain', 'input', 'build', 'replay']
    for (const command of [...offline, 'reload', 'rollback']) {
      expect(shell.join('')).toContain(`regate policy ${command} `)
    }
  })

  it('leads from nothing to a tested, signed bundle that was swapped and rolled back', async () => {
    const steps = fences.flatMap(({ language, file, text }, index) => {
      if (language === 'sh') return [`echo; echo "@${index}"`, here(text)]
      if (file === '') return []
      const kept = join(directory, `fence-${index}`)
      writeFileSync(kept, here(text))
      return [`mkdir -p "${dirname(file)}"`, `cp "${kept}" "${file}"`]
    })
    const script = ['set -euo pipefail', "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT", ...steps]
    const { code, output } = await run(script.join('\n'))
    expect(code, output).toBe(0)
    const said = new Map(
      output.split(/^@(?=\d+$)/m).map((part) => {
        const [index = '', ...rest] = part.split('\n')
        return [fences[Number(index)]?.text ?? '', rest.join('\n')]
      }),
    )
    const of = (command: string): string =>
      [...said].find(([text]) => text.includes(command))?.[1] ?? ''
    expect(of('policy test')).toMatch(/PASS: (\d+)\/\1/)
    // The page edits data.json; the pack's own tests must hold all the same.
    expect(fences.map(({ file }) => file)).toContain('policies/data.json')
    expect(of('policy explain')).toContain('mask')
    expect(of('regate sql')).toContain('****')
    expect(of('policy replay')).toContain('0')
    expect(of('policy reload')).toMatch(/^revision 8 is active/m)
    expect(of('policy rollback')).toMatch(/^revision 7 is active/m)
    expect(of('kill -HUP')).toContain('"revision":"8"')
    expect(of('--coverage')).toMatch(/\d %  all/)
    const audit = join(directory, 'regate-data/audit')
    expect(existsSync(audit)).toBe(true)
  }, 300_000)
})
