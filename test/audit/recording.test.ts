/**
 * What the segments hold, and what they must not: constants where they are redacted, values that were
 * masked where results are recorded. Files are searched as bytes, in every form that a value can take.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

interface AnyRecord {
  readonly type: string
  readonly statement?: { readonly text: string; readonly redacted: boolean }
  readonly decision?: { readonly action: string; readonly decision_id: string }
  readonly result?: {
    readonly columns?: readonly string[]
    readonly rows?: readonly (readonly (string | null)[])[]
    readonly copy?: string
    readonly truncated: boolean
  }
}

const data = {
  regate: {
    columns: {
      'public.people.ssn': { class: 'pii', mask: { kind: 'redact' } },
      'public.people.salary': { class: 'pii', mask: { kind: 'constant', value: 1 } },
    },
    groups: {
      agents: {
        ...{ read: ['*'], write: ['public.log'], ddl: 'deny', unmask: [], infer: false },
        effects: { session: 'allow', procedure: 'allow' },
      },
      admins: {
        ...{ read: ['*'], write: ['*'], ddl: 'allow', unmask: ['*'], infer: true },
        effects: { '*': 'allow' },
      },
    },
  },
}

let postgres: TestPostgres

beforeAll(async () => {
  postgres = await startPostgres()
  await execute(
    postgres,
    `CREATE TABLE people (id int PRIMARY KEY, name text, ssn text, salary int);
     INSERT INTO people VALUES (1, 'Ann', '078-05-1120', 98765), (2, 'Bob', '219-09-9999', 87654);
     CREATE TABLE log (id int PRIMARY KEY, note text UNIQUE)`,
  )
})
afterAll(async () => {
  await postgres.stop()
})

async function connect(proxy: ProxyInProcess, user: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: proxy.url('postgres', user) })
  client.on('error', () => undefined)
  await client.connect()
  return client
}

function records(proxy: ProxyInProcess): readonly AnyRecord[] {
  const directory = join(proxy.directory, 'audit')
  return readdirSync(directory)
    .filter((name) => name.startsWith('audit-') && name.endsWith('.ndjson'))
    .sort()
    .flatMap((name) => readFileSync(join(directory, name), 'utf8').trimEnd().split('\n'))
    .map((line) => JSON.parse(line) as AnyRecord)
}

/** Every byte below the directory of the audit. */
function everything(proxy: ProxyInProcess): string {
  const directory = join(proxy.directory, 'audit')
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1'))
    .join('\n')
}

/** As it is, as hexadecimal digits and as Base64 at each of three offsets. */
function formsOf(value: string): readonly string[] {
  const bytes = Buffer.from(value)
  const base64 = [0, 1, 2].map((pad) =>
    Buffer.concat([Buffer.alloc(pad), bytes])
      .toString('base64')
      .slice(pad === 0 ? 0 : 4, -4),
  )
  return [value, bytes.toString('hex'), ...base64].filter((form) => form.length >= 4)
}

/** What was recorded of the statement with this text: its end comes a moment later. */
async function resultOf(proxy: ProxyInProcess, text: string): Promise<AnyRecord['result']> {
  const end = await vi.waitFor(
    () => {
      const all = records(proxy)
      const id = all.findLast((one) => one.statement?.text === text)?.decision?.decision_id
      const found = all.find(
        (one) => one.type === 'statement_ended' && one.decision?.decision_id === id,
      )
      if (id === undefined || found === undefined) throw new Error(`${text} has not ended`)
      return found
    },
    { timeout: 20_000, interval: 20 },
  )
  return end.result
}

describe('literals: redact', () => {
  let proxy: ProxyInProcess
  let client: pg.Client
  beforeAll(async () => {
    proxy = await startProxy(postgres, {
      data,
      users: { ann: { groups: ['admins'] }, bot: { groups: ['agents'] } },
      configuration: { audit: { directory: 'audit', literals: 'redact' } },
    })
    client = await connect(proxy, 'ann')
  })
  afterAll(async () => {
    await client.end()
    await proxy.stop()
  })

  test('no constant is anywhere in the files, however it is written or refused', async () => {
    const secrets: string[] = []
    let count = 0
    /** A value that stands nowhere else: letters, or digits. */
    const word = (): string => {
      const secret = `zq${String.fromCharCode(97 + (count % 26))}w${(count++ * 7919 + 1_000_003).toString(36)}k`
      secrets.push(secret)
      return secret
    }
    const digits = (): string => {
      const secret = String(730_000_019 + count++ * 1_000_003)
      secrets.push(secret)
      return secret
    }
    const bot = await connect(proxy, 'bot')
    const tried = async (sql: string, values?: unknown[]): Promise<void> => {
      const query = values === undefined ? { text: sql } : { text: sql, values }
      await client.query(query).catch(() => undefined)
      await bot.query(query).catch(() => undefined)
    }
    await tried(`SELECT '${word()}', E'${word()}\\n', $tag$${word()}$tag$, B'101', X'AB'`)
    await tried(`SELECT U&'${word()}', N'${word()}', ${digits()}, ${digits()}.5, -${digits()}`)
    await tried(`SELECT '${word()}' /* ${word()} */ -- ${word()}`)
    await tried('SELECT $1::text, $2::int', [word(), digits()])
    await tried('SELECT $1::int', [word()])
    await tried(`SELECT '${word()}'::int`)
    await tried(`SELECT CAST('${word()}' AS date)`)
    await tried(`INSERT INTO log VALUES (${digits()}, '${word()}')`)
    const key = word()
    for (let again = 0; again < 2; again++) await tried(`INSERT INTO log VALUES (7, '${key}')`)
    await tried(`SELEC '${word()}'`)
    await tried(`SELECT '${word()}`)
    await tried(`SELECT 1 WHERE name = '${word()}' FROM`)
    await tried(`DELETE FROM people WHERE name = '${word()}'`)
    await tried(`SELECT id FROM people WHERE ssn = '${word()}'`)
    await tried(`SET application_name = '${word()}'`)
    await tried(`SET my.setting TO ${word()}`)
    await tried(`SELECT set_config('my.setting', '${word()}', false)`)
    await tried(`DO $$BEGIN RAISE EXCEPTION '${word()}'; END$$`)
    await tried(`PREPARE one AS SELECT '${word()}'::text, $1::text`)
    await tried(`EXECUTE one('${word()}')`)
    await tried(`BEGIN; DECLARE c CURSOR FOR SELECT '${word()}'; FETCH 1 FROM c; COMMIT`)
    await tried(`NOTIFY news, '${word()}'`)
    await tried(`CREATE ROLE somebody PASSWORD '${word()}'`)
    await tried(`COPY log FROM STDIN WITH (DELIMITER '|', NULL '${word()}')`)
    await tried(`COPY (SELECT '${word()}') TO STDOUT`)
    await tried(`CREATE VIEW v${count} AS SELECT '${word()}' AS a`)
    await tried(`COMMENT ON TABLE people IS '${word()}'`)
    await tried(`SELECT '${word()}'`.padEnd(90_000) + `, '${word()}'`)
    await bot.end()
    const copying = client.query(copyFrom('COPY log FROM STDIN'))
    copying.end(`${digits().slice(0, 9)}\t${word()}\n`)
    await new Promise((resolve, reject) => copying.once('finish', resolve).once('error', reject))
    const text = everything(proxy)
    expect(records(proxy).length).toBeGreaterThan(60)
    const found = secrets.filter((secret) => formsOf(secret).some((form) => text.includes(form)))
    expect(found).toEqual([])
    // What was meant is still to be seen.
    expect(text).toContain('SELECT id FROM people WHERE ssn = ?')
  })

  test('where literals are kept, a statement with a password is redacted all the same', async () => {
    const keeping = await startProxy(postgres, {
      data,
      users: { ann: { groups: ['admins'] } },
    })
    try {
      const ann = await connect(keeping, 'ann')
      await ann.query("CREATE ROLE anybody PASSWORD 'zq-never-recorded'").catch(() => undefined)
      await ann.query("SELECT 'kept-as-it-is'")
      await ann.end()
      const text = everything(keeping)
      expect(text).not.toContain('zq-never-recorded')
      expect(text).toContain('kept-as-it-is')
    } finally {
      await keeping.stop()
    }
  })
})

describe('results: masked', () => {
  let proxy: ProxyInProcess
  let bot: pg.Client
  const limits = { recordedRowCountMax: 5, recordedResultBytesMax: 2_000 }
  beforeAll(async () => {
    proxy = await startProxy(postgres, {
      ...{ data, limits },
      users: { ann: { groups: ['admins'] }, bot: { groups: ['agents'] } },
      configuration: { audit: { directory: 'audit', results: 'masked' } },
    })
    bot = await connect(proxy, 'bot')
  })
  afterAll(async () => {
    await bot.end()
    await proxy.stop()
  })

  async function copied(sql: string): Promise<string> {
    const chunks: Buffer[] = []
    await pipeline(bot.query(copyTo(sql)), async (source) => {
      for await (const chunk of source) chunks.push(chunk as Buffer)
    })
    return Buffer.concat(chunks).toString('latin1')
  }

  const masked = [
    ['1', '****', '1'],
    ['2', '****', '1'],
  ]
  const select = 'SELECT id, ssn, salary FROM people ORDER BY id'

  test('simple and extended, text and binary', async () => {
    await bot.query(select)
    expect(await resultOf(proxy, select)).toEqual({
      columns: ['id', 'ssn', 'salary'],
      rows: masked,
      truncated: false,
    })
    const extended = 'SELECT id, ssn, salary FROM people WHERE id > $1 ORDER BY id'
    await bot.query({ text: extended, values: [0] })
    expect((await resultOf(proxy, extended))?.rows).toEqual(masked)
    const binary = 'SELECT id, ssn, salary FROM people WHERE id < $1 ORDER BY id'
    const options = { text: binary, values: [9], binary: true }
    await bot.query(options as pg.QueryConfig)
    expect((await resultOf(proxy, binary))?.rows).toEqual([
      ['\\x00000001', '\\x2a2a2a2a', '\\x00000001'],
      ['\\x00000002', '\\x2a2a2a2a', '\\x00000001'],
    ])
  })

  test('what a prepared name, a cursor, COPY and RETURNING give', async () => {
    await bot.query(`PREPARE everybody AS ${select}`)
    await bot.query('EXECUTE everybody')
    expect((await resultOf(proxy, 'EXECUTE everybody'))?.rows).toEqual(masked)
    await bot.query('BEGIN')
    await bot.query(`DECLARE c CURSOR FOR ${select}`)
    await bot.query('FETCH 1 FROM c')
    await bot.query('FETCH 5 FROM c')
    await bot.query('COMMIT')
    expect((await resultOf(proxy, 'FETCH 1 FROM c'))?.rows).toEqual(masked.slice(0, 1))
    expect((await resultOf(proxy, 'FETCH 5 FROM c'))?.rows).toEqual(masked.slice(1))
    for (const [options, expected] of [
      ['', '1\t****\t1\n2\t****\t1\n'],
      ['WITH (FORMAT csv)', '1,****,1\n2,****,1\n'],
    ] as const) {
      const copy = `COPY (${select}) TO STDOUT ${options}`.trim()
      expect(await copied(copy)).toBe(expected)
      expect(await resultOf(proxy, copy)).toEqual({ copy: expected, truncated: false })
    }
    const binary = `COPY (${select}) TO STDOUT WITH (FORMAT binary)`
    const bytes = await copied(binary)
    expect(bytes).toContain('****')
    expect((await resultOf(proxy, binary))?.copy).toBe(
      `\\x${Buffer.from(bytes, 'latin1').toString('hex')}`,
    )
    const write = "INSERT INTO log VALUES (900, 'r') RETURNING id, note"
    await bot.query(write)
    expect((await resultOf(proxy, write))?.rows).toEqual([['900', 'r']])
    const text = everything(proxy)
    for (const value of ['078-05-1120', '219-09-9999', '98765', '87654']) {
      expect(formsOf(value).some((form) => text.includes(form))).toBe(false)
    }
    // Four bytes of a salary, as they would stand in a binary row.
    expect(text).not.toContain('000181cd')
  })

  test('no more than the limits, and it is said that there was more', async () => {
    const rows = 'SELECT n FROM generate_series(1, 8) n'
    expect((await bot.query(rows)).rows).toHaveLength(8)
    expect(await resultOf(proxy, rows)).toMatchObject({
      rows: [['1'], ['2'], ['3'], ['4'], ['5']],
      truncated: true,
    })
    const wide = "SELECT repeat('y', 100000) AS y FROM generate_series(1, 4)"
    await bot.query(wide)
    const recorded = await resultOf(proxy, wide)
    expect(recorded?.truncated).toBe(true)
    expect(JSON.stringify(recorded).length).toBeLessThan(20_000)
    const copy = "COPY (SELECT repeat('z', 90) FROM generate_series(1, 500)) TO STDOUT"
    expect(await copied(copy)).toHaveLength(500 * 91)
    const copiedPart = await resultOf(proxy, copy)
    expect(copiedPart?.truncated).toBe(true)
    expect(copiedPart?.copy?.length).toBeLessThanOrEqual(2_001)
    const huge = "SELECT repeat('q', 30000000) AS q"
    await bot.query(huge)
    expect(JSON.stringify(await resultOf(proxy, huge)).length).toBeLessThan(20_000)
  })
})
