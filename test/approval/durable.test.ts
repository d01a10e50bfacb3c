/** The embedded store writes what it says through to the disk, counted in its own process. */
import { fork, type ChildProcess } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const program = join(import.meta.dirname, '../../src/approval/embedded.cjs')

/** Loaded before the store's program: tells how often files were synced, with every answer. */
const counting = `
  const fs = require('node:fs')
  const sync = fs.fsyncSync
  let synced = 0
  fs.fsyncSync = (fd) => { synced++; return sync(fd) }
  const send = process.send.bind(process)
  process.send = (message, ...more) => send({ ...message, synced }, ...more)
`

interface Answer {
  readonly id?: number
  readonly ready?: true
  readonly error?: unknown
  readonly synced: number
}

async function answerOf(child: ChildProcess, fits: (answer: Answer) => boolean): Promise<Answer> {
  return await new Promise((resolve, reject) => {
    child.once('close', (code) => reject(new Error(`it ended with ${code}`)))
    child.on('message', (answer: Answer) => {
      if (fits(answer)) resolve(answer)
    })
  })
}

test('every change of the embedded store is synced before it is answered', async () => {
  const parent = await mkdtemp(join(tmpdir(), 'regate-durable-'))
  await writeFile(join(parent, 'counting.cjs'), counting)
  const start = (mode: string): ChildProcess =>
    fork(program, [mode, join(parent, 'store')], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      execArgv: mode === 'run' ? ['--require', join(parent, 'counting.cjs')] : [],
    })
  const making = start('init')
  await new Promise((resolve) => making.once('close', resolve))
  const child = start('run')
  try {
    await answerOf(child, ({ ready }) => ready === true)
    let id = 0
    const run = async (text: string): Promise<number> => {
      const mine = ++id
      const answered = answerOf(child, (answer) => answer.id === mine)
      child.send({ id: mine, text, parameters: [] })
      const { error, synced } = await answered
      expect(error).toBeUndefined()
      return synced
    }
    let before = await run('CREATE TABLE used (id int)')
    expect(before).toBeGreaterThan(0)
    for (let count = 0; count < 5; count++) {
      const after = await run(`INSERT INTO used VALUES (${count})`)
      expect(after).toBeGreaterThan(before)
      before = after
    }
    expect(await run('SELECT count(*) FROM used')).toBe(before)
  } finally {
    child.removeAllListeners('close')
    const closed = new Promise((resolve) => child.once('close', resolve))
    child.send({ id: 0, close: true })
    await closed
    await rm(parent, { recursive: true, force: true })
  }
}, 120_000)
