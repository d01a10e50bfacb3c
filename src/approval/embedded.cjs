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
const fs = require('node:fs')
const { join } = require('node:path')
const { PGlite } = require('@electric-sql/pglite')

const [mode, directory] = process.argv.slice(2)
const channel = 'regate_approvals'
// PGlite serves one connection: it needs none of the room that a server would reserve.
const settings = ['shared_buffers=2MB', 'wal_buffers=64kB', 'work_mem=1MB', 'max_connections=3']
// An approval that was used must not be open again after a loss of power. PGlite starts PostgreSQL
// without fsync (-F), and its file system has none; fdatasync, the default method, never gets there.
settings.push('fsync=on', 'wal_sync_method=fsync')
const startParams = [
  ...PGlite.defaultStartParams.filter((parameter) => parameter !== '-F'),
  ...settings.flatMap((setting) => ['-c', setting]),
]

function plainError(error) {
  return { message: String(error?.message ?? error), code: error?.code ?? null }
}

/** Gives PGlite's view of the directory an fsync: of files, and of directories by their path. */
function makeDurable(db, root) {
  const { FS } = db.Module
  const stream = FS.open(`${root}/PG_VERSION`, 'r')
  stream.stream_ops.fsync = ({ nfd, node }) => {
    if (nfd !== undefined) {
      fs.fsyncSync(nfd)
      return 0
    }
    const opened = fs.openSync(join(directory, FS.getPath(node).slice(root.length)), 'r')
    try {
      fs.fsyncSync(opened)
    } finally {
      fs.closeSync(opened)
    }
    return 0
  }
  FS.close(stream)
}

async function main() {
  const db = await PGlite.create({ dataDir: directory, startParams })
  if (mode === 'init') {
    await db.close()
    process.exit(0)
  }
  const shown = await db.query("SELECT current_setting('data_directory') AS root")
  makeDurable(db, shown.rows[0].root)
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
