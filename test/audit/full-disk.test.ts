/**
 * A disk that fills under a whole regate: the audit's directory is a small file system of its own. Needs
 * the right to mount one.
 */
import { spawnSync } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  openSync,
  closeSync,
  rmSync,
  unlinkSync,
  writeSync,
  readdirSync,
  readFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { verifyAudit } from '../../src/audit/audit.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

const directory = mkdtempSync(join(tmpdir(), 'regate-full-'))
const disk = join(directory, 'disk')
mkdirSync(disk)
const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', disk])
const mounted = mount.status === 0
if (!mounted) {
  const why = mount.error?.message ?? mount.stderr.toString().trim()
  console.warn(`a full disk under a whole regate: skipped, no file system can be mounted (${why})`)
}

/** Takes all that is left. */
function fill(): void {
  const fd = openSync(join(disk, 'filler'), 'a')
  const block = Buffer.alloc(4096)
  try {
    for (;;) writeSync(fd, block)
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC')
  } finally {
    closeSync(fd)
  }
}

const refused = { code: '58030', message: expect.stringContaining('no room on its disk') as string }

describe.skipIf(!mounted)('with the disk full', () => {
  let postgres: TestPostgres
  let proxy: ProxyInProcess
  const clients: pg.Client[] = []

  beforeAll(async () => {
    postgres = await startPostgres()
    await execute(postgres, 'CREATE TABLE marks (mark text)')
    proxy = await startProxy(postgres, { configuration: { audit: { directory: disk } } })
  })
  afterAll(async () => {
    for (const client of clients) await client.end().catch(() => undefined)
    await proxy.stop()
    await postgres.stop()
    spawnSync('umount', [disk])
    rmSync(directory, { recursive: true, force: true })
  })

  async function connect(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: proxy.url('postgres', 'ann') })
    client.on('error', () => undefined)
    await client.connect()
    clients.push(client)
    return client
  }

  async function marks(like: string): Promise<readonly string[]> {
    const { rows } = await execute(postgres, `SELECT mark FROM marks WHERE mark LIKE '${like}'`)
    return (rows as { mark: string }[]).map(({ mark }) => mark)
  }

  test('statements are refused with a clear error, and go on when there is room', async () => {
    const client = await connect()
    const other = await connect()
    await client.query("INSERT INTO marks VALUES ('before-1')")
    fill()
    // The last page of the segment may still have room for some.
    let [taken, failure] = [0, null as unknown]
    while (failure === null && taken < 1_000) {
      failure = await client
        .query(`INSERT INTO marks VALUES ('between-${taken}')`)
        .then(() => null)
        .catch((error: unknown) => error)
      if (failure === null) taken++
    }
    expect(failure).toMatchObject(refused)
    for (let n = 0; n < 20; n++) {
      await expect(other.query(`INSERT INTO marks VALUES ('full-${n}')`)).rejects.toMatchObject(
        refused,
      )
      const prepared = { text: 'INSERT INTO marks VALUES ($1)', values: [`full-prepared-${n}`] }
      await expect(client.query(prepared)).rejects.toMatchObject(refused)
    }
    // Nothing of it ran, and the sessions live on.
    expect(await marks('full%')).toEqual([])
    expect(await marks('between%')).toHaveLength(taken)
    unlinkSync(join(disk, 'filler'))
    await vi.waitFor(async () => await client.query("INSERT INTO marks VALUES ('after-1')"), {
      timeout: 20_000,
      interval: 50,
    })
    await other.query("INSERT INTO marks VALUES ('after-2')")
    expect([...(await marks('after%'))].sort()).toEqual(['after-1', 'after-2'])
    const records = readdirSync(disk)
      .filter((name) => /^audit-main-\d+\.ndjson$/.test(name))
      .sort()
      .flatMap((name) => readFileSync(join(disk, name), 'utf8').trimEnd().split('\n'))
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    const [resumed] = records.filter(({ type }) => type === 'audit_resumed')
    expect(resumed?.['refused_statements']).toBeGreaterThanOrEqual(40)
    expect(resumed?.['lost_records']).toBe(0)
    // What ran is on record, every one of it.
    const text = JSON.stringify(records)
    for (const mark of await marks('%')) expect(text).toContain(mark)
    expect(text).not.toContain("'full-")
    expect((await verifyAudit(disk)).problems).toEqual([])
  })

  test('a transaction that meets it fails as PostgreSQL transactions do', async () => {
    const client = await connect()
    await client.query('BEGIN')
    await client.query("INSERT INTO marks VALUES ('transaction')")
    fill()
    let failure: unknown = null
    for (let n = 0; failure === null && n < 1_000; n++) {
      failure = await client
        .query('SELECT 1')
        .then(() => null)
        .catch((error: unknown) => error)
    }
    expect(failure).toMatchObject(refused)
    unlinkSync(join(disk, 'filler'))
    await vi.waitFor(
      async () => {
        const { command } = await client.query('ROLLBACK')
        expect(command).toBe('ROLLBACK')
      },
      { timeout: 20_000, interval: 50 },
    )
    expect(await marks('transaction')).toEqual([])
    expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
  })
})
