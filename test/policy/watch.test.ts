/** `regate policy test --watch`: files are changed as an editor changes them, and the tests run again. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'

const main = resolve('dist/main.js')

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'regate-watch-test-'))
  writeFileSync(
    join(directory, 'statement.rego'),
    `package regate.statement

decision := {"action": "deny"} if input.statement.kind == "delete"

decision := {"action": "allow"} if input.statement.kind != "delete"
`,
  )
  writeFileSync(join(directory, 'mine.fixture.sql'), '-- name: mine\nSELECT 1\n')
  writeFileSync(
    join(directory, 'statement_test.rego'),
    `package regate.statement_test

test_mine if data.regate.statement.decision.action == "allow" with input as data.fixtures.mine
`,
  )
})
afterAll(() => {
  rmSync(directory, { recursive: true, force: true })
})

describe('watching', () => {
  it('runs the tests again whenever a policy, a test or a fixture changes', async () => {
    const child = spawn(process.execPath, [main, 'policy', 'test', directory, '--watch'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => (output += chunk.toString()))
    }
    /** What is printed from now on, as far as `pattern`. */
    const next = async (pattern: RegExp): Promise<void> => {
      const end = Date.now() + 60_000
      while (!pattern.test(output)) {
        if (Date.now() > end || child.exitCode !== null)
          throw new Error(`no ${pattern}:\n${output}`)
        await new Promise((done) => setTimeout(done, 50))
      }
      output = ''
    }
    try {
      await next(/PASS: 1\/1[^]*WebAssembly: 1 tests, the same results\n/)
      // A fixture, so that the document under the test is another.
      writeFileSync(join(directory, 'mine.fixture.sql'), '-- name: mine\nDELETE FROM t\n')
      await next(/FAIL: 1\/1[^]*opa test failed\n/)
      // The policy, by an editor that writes beside the file and renames.
      const policy = join(directory, 'statement.rego')
      const mended = readFileSync(policy, 'utf8').replaceAll('"delete"', '"truncate"')
      writeFileSync(`${policy}.tmp`, mended)
      renameSync(`${policy}.tmp`, policy)
      await next(/PASS: 1\/1[^]*WebAssembly: 1 tests, the same results\n/)
      // What does not compile is said, and the watching goes on.
      const test = join(directory, 'statement_test.rego')
      const good = readFileSync(test, 'utf8')
      writeFileSync(test, `${good}\nbroken {{`)
      await next(/rego_parse_error[^]*opa test failed\n/)
      writeFileSync(test, `${good}\ntest_more := true\n`)
      await next(/PASS: 2\/2[^]*WebAssembly: 2 tests, the same results\n/)
    } finally {
      child.kill('SIGINT')
      await new Promise((done) => child.once('close', done))
    }
    expect(child.exitCode ?? child.signalCode).not.toBe(0)
  }, 300_000)
})
