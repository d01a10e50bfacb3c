/** What a wrong command line is told; the command is the one in dist/. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { describe, expect, test } from 'vitest'

const main = 'dist/main.js'

describe.runIf(existsSync(main))('a wrong command line', () => {
  test.each([
    ['sevre', 'Did you mean serve?'],
    ['serve --confg x', 'Unknown argument: confg; did you mean --config?'],
    ['audit query --limit many', '--limit: a number is expected'],
    ['sql -c', 'Not enough arguments following: c'],
    ['approvals list --admin 127.0.0.1:8432', 'for example --admin http://127.0.0.1:8432'],
    ['approvals list --admin ftp://x', 'is no URL of an admin API'],
  ])('%s', (line, told) => {
    const { status, stderr } = spawnSync(process.execPath, [main, ...line.split(' ')], {
      encoding: 'utf8',
    })
    expect(stderr).toContain(told)
    expect(status).toBe(2)
  })
})
