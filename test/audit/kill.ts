/**
 * Kill -9 under load: a proxy in a process of its own is killed at a random moment while clients write
 * marked rows through it, again and again over one audit directory. What the server ran is then compared
 * with what is on record.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { FileAuditLog, verifyAudit } from '../../src/audit/audit.ts'
import { segmentsOf } from '../../src/audit/segments.ts'
import { systemClock } from '../../src/core/core.ts'
import { execute, type TestPostgres } from '../support/postgres.ts'

export interface KillReport {
  readonly kills: number
  /** Marked statements that the server logged. */
  readonly ran: number
  readonly recorded: number
  /** Ran, and no decided record: must be empty. */
  readonly unrecorded: readonly string[]
  /** Recorded as answered, and not in the server's log: must be empty. */
  readonly invented: readonly string[]
  readonly problems: readonly string[]
  readonly repairs: number
}

const clientCount = 4
const main = process.env['REGATE_MAIN'] ?? 'dist/main.js'

/** @param random between 0 and 1. */
export async function killUnderLoad(
  postgres: TestPostgres,
  configuration: string,
  kills: number,
  random: () => number,
): Promise<KillReport> {
  await execute(postgres, 'CREATE TABLE IF NOT EXISTS marks (mark text)')
  for (let round = 0; round < kills; round++) {
    const { child, port } = await start(configuration)
    let inserted: () => void = () => undefined
    const first = new Promise<void>((resolve) => (inserted = resolve))
    const load = Array.from({ length: clientCount }, (_, client) =>
      insertUntilGone(port, `${round}-${client}`, inserted),
    )
    // Not before there is load; a load that ends by itself is shown by what ran.
    await Promise.race([first, Promise.all(load)])
    await new Promise((resolve) => setTimeout(resolve, random() * 500))
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
    child.kill('SIGKILL')
    await gone
    await Promise.all(load)
  }
  // Once more: what the last kill left is repaired, and the log is closed properly.
  FileAuditLog.open({
    ...{ directory: join(configuration, '..', 'audit'), worker: 'main', fsync: 'batch' },
    ...{ segmentBytesMax: 1e9, segmentMsMax: 1e9, retainMs: 0, clock: systemClock },
    onNews: () => undefined,
  }).close()
  return await compare(postgres, configuration, kills)
}

/** `regate serve` as people run it, from dist/: with its port when it listens. */
async function start(configuration: string): Promise<{ child: ChildProcess; port: number }> {
  const child = spawn(process.execPath, [main, 'serve', '--config', configuration], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const orphaned = (): boolean => child.kill('SIGKILL')
  process.once('exit', orphaned)
  child.once('exit', () => process.off('exit', orphaned))
  let log = ''
  const port = await new Promise<number>((resolve, reject) => {
    child.stderr.on('data', (chunk: Buffer) => {
      log += chunk.toString()
      const found = /"port":(\d+),.*"msg":"listening"/.exec(log)
      if (found !== null) resolve(Number(found[1]))
    })
    child.once('exit', (code) => reject(new Error(`the proxy ended with ${String(code)}:\n${log}`)))
  })
  return { child, port }
}

async function insertUntilGone(port: number, name: string, inserted: () => void): Promise<void> {
  const client = new pg.Client(`postgres://ann@127.0.0.1:${port}/postgres`)
  client.on('error', () => undefined)
  try {
    await client.connect()
    for (let n = 0; ; n++) {
      await client.query(`INSERT INTO marks VALUES ('m-${name}-${n}.')`)
      inserted()
    }
  } catch {
    // The proxy is gone: that is what this is for.
  }
}

const markPattern = /INSERT INTO marks VALUES \('(m-[\d-]+)\.'\)/

async function compare(
  postgres: TestPostgres,
  configuration: string,
  kills: number,
): Promise<KillReport> {
  const directory = join(configuration, '..', 'audit')
  const decided = new Map<string, string>()
  const answered = new Set<string>()
  let repairs = 0
  for (const { path } of segmentsOf(directory, 'main')) {
    for (const line of readFileSync(path, 'utf8').split('\n')) {
      if (line === '') continue
      const record = JSON.parse(line) as {
        type: string
        statement?: { text: string }
        decision?: { decision_id: string }
        outcome?: { forwarded: boolean; tag?: string | null } | null
      }
      if (record.type === 'audit_repaired') repairs++
      const mark = markPattern.exec(record.statement?.text ?? '')?.[1]
      const id = record.decision?.decision_id ?? ''
      if (record.type === 'statement_decided' && mark !== undefined) decided.set(id, mark)
      if (record.type === 'statement_ended' && record.outcome?.tag === 'INSERT 0 1') {
        answered.add(id)
      }
    }
  }
  const ran = new Set<string>()
  for (const line of postgres.log().split('\n')) {
    const mark = markPattern.exec(line)?.[1]
    if (mark !== undefined) ran.add(mark)
  }
  const marks = new Set(decided.values())
  const { problems } = await verifyAudit(directory)
  return {
    ...{ kills, ran: ran.size, recorded: marks.size, repairs },
    unrecorded: [...ran].filter((mark) => !marks.has(mark)),
    invented: [...decided]
      .filter(([id, mark]) => answered.has(id) && !ran.has(mark))
      .map(([, mark]) => mark),
    problems: problems.map(({ message }) => message),
  }
}
