/**
 * The embedded store's process: PGlite (PostgreSQL as WebAssembly) in one directory, driven by
 * messages of its parent. A process of its own, because a statement in it blocks its thread, and
 * because its memory is given back when it ends. Started by store-embedded.ts; JavaScript, so that
 * it runs the same from the sources and from dist/.
 *
 * Arguments: `init` or `run`, the directory. In: { id, text, parameters } or { id, close: true }.
 * Out: { id, rows } or { id, error }, { notice } for every notification, { ready: true } once.
 */
'use strict'
const { PGlite } = require('@electric-sql/pglite')

const [mode, directory] = process.argv.slice(2)
const channel = 'regate_approvals'
// PGlite serves one connection: it needs none of the room that a server would reserve.
const settings = ['shared_buffers=2MB', 'wal_buffers=64kB', 'work_mem=1MB', 'max_connections=3']
const startParams = [
  ...PGlite.defaultStartParams,
  ...settings.flatMap((setting) => ['-c', setting]),
]

function plainError(error) {
  return { message: String(error?.message ?? error), code: error?.code ?? null }
}

async function main() {
  const db = await PGlite.create({ dataDir: directory, startParams })
  if (mode === 'init') {
    await db.close()
    process.exit(0)
  }
  await db.listen(channel, (payload) => process.send({ notice: payload }))
  const answer = async ({ id, text, parameters, close }) => {
    try {
      if (close) {
        await db.close()
        process.send({ id, rows: [] }, () => process.exit(0))
        return
      }
      const { rows } =
        parameters === null
          ? ((await db.exec(text)).at(-1) ?? { rows: [] })
          : await db.query(text, parameters)
      process.send({ id, rows })
    } catch (error) {
      process.send({ id, error: plainError(error) })
    }
  }
  // One after the other: a transaction of the parent's is never mixed with anything else.
  let last = Promise.resolve()
  process.on('message', (message) => {
    last = last.then(() => answer(message))
  })
  process.on('disconnect', () => {
    last = last.then(() => db.close()).finally(() => process.exit(0))
  })
  process.send({ ready: true })
}

// Ctrl-C goes to the whole group: the parent closes this process when it is done with it.
process.on('SIGINT', () => undefined)
main().catch((error) => {
  process.send?.({ failed: plainError(error) })
  process.exitCode = 1
  setImmediate(() => process.exit(1))
})
