/**
 * The server's estimate and the time of day as inputs, live: through regate to a real PostgreSQL, whose
 * log says what ran. An agent's cross join is stopped before it runs, in whatever it is wrapped.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'

let postgres: TestPostgres
let proxy: ProxyInProcess

const minutesNow = (): number => Math.floor(Date.now() / 60_000) % 1_440
const clock = (minutes: number): string => {
  const inDay = (minutes + 1_440) % 1_440
  const two = (value: number): string => String(value).padStart(2, '0')
  return `${two(Math.floor(inDay / 60))}:${two(inDay % 60)}`
}
const everyDay = ['monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday', 'sunday']

beforeAll(async () => {
  postgres = await startPostgres()
  await execute(
    postgres,
    `CREATE TABLE big AS SELECT n AS id FROM generate_series(1, 2000) n;
     CREATE UNIQUE INDEX ON big (id);
     ANALYZE big;
     CREATE TABLE notes (body text);
     CREATE VIEW pairs AS SELECT a.id FROM big a CROSS JOIN big b;
     CREATE FUNCTION opaque(n int) RETURNS int LANGUAGE plpgsql STABLE AS
       $$ BEGIN RAISE LOG 'opaque ran'; EXECUTE 'SELECT 1'; RETURN n; END $$`,
  )
  const rights = { read: ['*'], write: ['public.notes'], functions: { 'public.opaque': 'allow' } }
  const now = minutesNow()
  proxy = await startProxy(postgres, {
    data: {
      regate: {
        groups: {
          denied: { ...rights, estimate: { rows: 100_000, above: 'deny' } },
          held: { ...rights, estimate: { rows: 100_000, above: 'approve' } },
          trusted: {
            ...{ read: ['*'], write: ['*'], unmask: ['*'], infer: true, effects: { '*': 'allow' } },
            estimate: { rows: 100_000, above: 'deny' },
          },
          costed: { ...rights, estimate: { cost: 1_000, above: 'deny' } },
          open: {
            ...rights,
            windows: [{ days: everyDay, from: clock(now - 120), to: clock(now + 300) }],
          },
          closed: {
            ...rights,
            windows: [{ days: everyDay, from: clock(now + 300), to: clock(now + 360) }],
          },
        },
        approvals: { groups: ['admins'], wait: '1s', ttl: '1m' },
      },
    },
    users: Object.fromEntries(
      ['denied', 'held', 'trusted', 'costed', 'open', 'closed'].map((name) => [
        name,
        { groups: [name] },
      ]),
    ),
    configuration: { approvals: { wait: '1s' } },
  })
}, 60_000)

afterAll(async () => {
  await proxy?.stop()
  await postgres.stop()
})

interface Failure {
  readonly code: string
  readonly message: string
  readonly hint?: string
  readonly detail?: string
}

const failure = async (work: Promise<unknown>): Promise<Failure> => {
  const error: unknown = await work.then(
    () => new Error('it ran'),
    (reason: unknown) => reason,
  )
  return error as Failure
}

async function as<T>(user: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: proxy.url('postgres', user) })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

/** Lines of the server's log with the mark that are not of an EXPLAIN of regate's. */
const ranWith = (mark: string): readonly string[] =>
  postgres
    .log()
    .split('\n')
    .filter((line) => line.includes(mark) && !line.includes('EXPLAIN (FORMAT JSON)'))

const cross = (mark: string): string => `SELECT count(*) FROM big a CROSS JOIN big b /* ${mark} */`

describe('a threshold on the estimate', () => {
  it('lets through what stays below it, with one EXPLAIN before', async () => {
    await as('denied', async (client) => {
      expect((await client.query('SELECT id FROM big WHERE id = 7 /* small */')).rows).toHaveLength(
        1,
      )
      await client.query("INSERT INTO notes VALUES ('below')")
      const { rows } = await client.query('SELECT id FROM big WHERE id = $1 /* one */', [7])
      expect(rows).toEqual([{ id: 7 }])
    })
    expect(ranWith('/* small */')).not.toEqual([])
    expect(postgres.log()).toContain(
      'EXPLAIN (FORMAT JSON) SELECT id FROM big WHERE id = 7 /* small */',
    )
  })

  it('stops a cross join before it runs, and the session lives on', async () => {
    await as('denied', async (client) => {
      const error = await failure(client.query(cross('plain')))
      expect(error).toMatchObject({ code: '42501' })
      expect(error.message).toContain('4000000 rows')
      expect(error.detail).toContain('regate.approval.estimate')
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    })
    expect(ranWith('/* plain */')).toEqual([])
    expect(postgres.log()).toContain(`EXPLAIN (FORMAT JSON) ${cross('plain')}`)
  })

  it('counts the cost as well', async () => {
    await as('costed', async (client) => {
      expect((await failure(client.query(cross('cost')))).code).toBe('42501')
    })
    expect(ranWith('/* cost */')).toEqual([])
  })

  it('estimates with the values of the parameters, anew for each Execute', async () => {
    const text = 'SELECT count(*) FROM big a CROSS JOIN big b WHERE a.id <= $1 /* bound */'
    await as('denied', async (client) => {
      const query = (upTo: number) => client.query({ name: 'pairs', text, values: [upTo] })
      expect((await query(10)).rows).toEqual([{ count: '20000' }])
      expect((await failure(query(2_000))).code).toBe('42501')
      expect((await query(10)).rows).toEqual([{ count: '20000' }])
    })
    const executed = ranWith('/* bound */').filter((line) => line.includes('execute pairs'))
    expect(executed).toHaveLength(2)
  })

  it.each([
    ['a query string with something small before it', (m: string) => `SELECT 1; ${cross(m)}`],
    ['a query string with something small behind it', (m: string) => `${cross(m)}; SELECT 1`],
    ['a view', (m: string) => `SELECT count(*) FROM pairs /* ${m} */`],
    ['a CTE', (m: string) => `WITH x AS MATERIALIZED (${cross(m)}) SELECT * FROM x`],
    ['COPY TO', (m: string) => `COPY (${cross(m)}) TO STDOUT`],
    ['EXPLAIN ANALYZE', (m: string) => `EXPLAIN ANALYZE ${cross(m)}`],
    ['an INSERT', (m: string) => `INSERT INTO notes SELECT 'x' FROM big a, big b /* ${m} */`],
    ['PREPARE and EXECUTE', (m: string) => `PREPARE q AS ${cross(m)}; EXECUTE q`],
    ['DECLARE and FETCH', (m: string) => `BEGIN; DECLARE c CURSOR FOR ${cross(m)}; FETCH c; END`],
  ])('is not got around by %s', async (name, wrap) => {
    const mark = name.replaceAll(' ', '_')
    await as('denied', async (client) => {
      expect((await failure(client.query(wrap(mark)))).code).toBe('42501')
    })
    expect(ranWith(`/* ${mark} */`)).toEqual([])
  })

  it('is not got around by what is prepared or declared by itself', async () => {
    await as('denied', async (client) => {
      await client.query(`PREPARE later AS ${cross('prepared')}`)
      expect((await failure(client.query('EXECUTE later /* run_prepared */'))).code).toBe('42501')
      await client.query('BEGIN')
      expect((await failure(client.query(`DECLARE c CURSOR FOR ${cross('declared')}`))).code).toBe(
        '42501',
      )
      await client.query('ROLLBACK')
      await client.query('PREPARE few AS SELECT id FROM big WHERE id = $1')
      expect((await client.query('EXECUTE few(7)')).rows).toEqual([{ id: 7 }])
      await client.query('BEGIN')
      await client.query('DECLARE c CURSOR FOR SELECT id FROM big WHERE id < 3 ORDER BY id')
      expect((await client.query('FETCH ALL FROM c')).rows).toHaveLength(2)
      await client.query('COMMIT')
      expect((await client.query('EXPLAIN SELECT id FROM big WHERE id = 7')).rows).not.toEqual([])
    })
    expect(ranWith('/* run_prepared */')).toEqual([])
    expect(ranWith('/* declared */')).toEqual([])
  })

  it('runs no function that was not analysed only to plan', async () => {
    await as('trusted', async (client) => {
      expect((await client.query('SELECT id FROM big WHERE id = 7')).rows).toEqual([{ id: 7 }])
      const error = await failure(client.query('SELECT id FROM big WHERE id = opaque(7)'))
      expect(error.message).toContain('cannot be estimated')
      expect(error.code).toBe('42501')
    })
    expect(postgres.log()).not.toContain('LOG:  opaque ran')
  })

  it("gives the server's own error where the statement cannot be planned", async () => {
    await as('denied', async (client) => {
      expect((await failure(client.query('SELECT id FROM big WHERE id = 1/0'))).code).toBe('22012')
      const wrong = client.query('SELECT id FROM big WHERE id = $1', ['seven'])
      expect((await failure(wrong)).code).toBe('22P02')
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    })
  })

  it('holds where a group wants that', async () => {
    await as('held', async (client) => {
      const error = await failure(client.query(cross('held')))
      expect(error.code).toBe('42501')
      expect(error.hint).toContain('approved')
    })
    expect(ranWith('/* held */')).toEqual([])
  })

  it('is on record before the server plans', async () => {
    await as('denied', async (client) => {
      await failure(client.query(cross('recorded')))
    })
    const records = readdirSync(join(proxy.directory, 'audit'))
      .filter((name) => name.endsWith('.ndjson'))
      .flatMap((name) => readFileSync(join(proxy.directory, 'audit', name), 'utf8').split('\n'))
      .filter((line) => line.includes('/* recorded */'))
      .map((line) => (JSON.parse(line) as { readonly type: string }).type)
    expect(records).toEqual(['statement_estimated', 'statement_decided'])
  })
})

describe('windows', () => {
  it('open and close what a group may do', async () => {
    await as('open', async (client) => {
      expect((await client.query('SELECT count(*) FROM notes')).rows).toHaveLength(1)
    })
    await as('closed', async (client) => {
      const error = await failure(client.query('SELECT count(*) FROM notes /* closed */'))
      expect(error.code).toBe('42501')
    })
    expect(ranWith('/* closed */')).toEqual([])
  })
})
