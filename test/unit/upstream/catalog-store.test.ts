/** The catalog store on a real server: freshness, one read for all who wait, lost connections. */
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits } from '../../../src/core/core.ts'
import {
  CatalogStore,
  catalogQuery,
  connectCatalog,
  type CatalogStoreOptions,
  type UpstreamTls,
} from '../../../src/upstream/upstream.ts'
import { startPostgres, type TestPostgres } from '../../support/postgres.ts'

let server: TestPostgres
let client: pg.Client
const stores: CatalogStore[] = []

beforeAll(async () => {
  server = await startPostgres({ users: { plain: { password: 'plain' } } })
  client = new pg.Client({ connectionString: server.url() })
  await client.connect()
  await client.query('CREATE TABLE first (id int)')
})

afterEach(async () => {
  for (const store of stores.splice(0)) await store.stop()
})

afterAll(async () => {
  await client?.end()
  await server?.stop()
})

interface Watched {
  readonly store: CatalogStore
  /** Every text that ran. */
  readonly texts: string[]
  readonly errors: unknown[]
}

/** A store as the ordinary role `plain`, over `pg`. */
function open(more: Partial<CatalogStoreOptions> = {}): Watched {
  const texts: string[] = []
  const errors: unknown[] = []
  const store = new CatalogStore({
    connect: async (database) => {
      const own = new pg.Client({
        ...{ host: server.host, port: server.port, database, user: 'plain', password: 'plain' },
      })
      own.on('error', () => undefined)
      await own.connect()
      const query = catalogQuery(own)
      return {
        query: (given) => {
          texts.push(...given)
          return query(given)
        },
        end: () => own.end(),
      }
    },
    pollMs: 0,
    onError: (_database, error) => errors.push(error),
    ...more,
  })
  stores.push(store)
  return { store, texts, errors }
}

/** Connects as regate does. */
function overWire(port: number): CatalogStoreOptions['connect'] {
  const tls: UpstreamTls = {
    ...{ ca: null, cert: null, key: null, crl: null, serverName: null },
    mode: 'disable',
    negotiation: 'postgres',
  }
  return (database, interrupt) =>
    connectCatalog({
      target: { host: '127.0.0.1', port, database, tls },
      role: {
        user: 'plain',
        secret: { read: () => Promise.resolve('plain'), invalidate: () => undefined },
      },
      limits: defaultLimits,
      interrupt,
    })
}

const reads = (texts: readonly string[]): number =>
  texts.filter((text) => text.startsWith('BEGIN')).length

describe('the catalog store', () => {
  it('reads as an ordinary role at first use, once for all who open it together', async () => {
    const { store, texts } = open()
    const opened = await Promise.all([1, 2, 3].map(() => store.open('postgres')))
    expect(opened[0]?.current().relation('public', 'first')).not.toBeNull()
    expect(new Set(opened).size).toBe(1)
    expect(reads(texts)).toBeLessThanOrEqual(2)
    expect(store.current('postgres')).toBe(opened[0]?.current())
    expect(store.current('other')).toBeNull()
  })

  it('is as new as the call that refreshes it, with one more read for all who ask meanwhile', async () => {
    const { store, texts } = open()
    const database = await store.open('postgres')
    const before = reads(texts)
    const running = database.refresh('DDL')
    await client.query('CREATE TABLE during (id int)')
    await Promise.all([running, ...Array.from({ length: 20 }, () => database.refresh('DDL'))])
    expect(database.current().relation('public', 'during')).not.toBeNull()
    expect(reads(texts) - before).toBe(2)
  })

  it('asks one small question where nothing happened, and keeps the very catalog', async () => {
    const { store, texts } = open()
    const database = await store.open('postgres')
    const catalog = database.current()
    await delay(150)
    texts.length = 0
    await database.recheck()
    expect(texts).toEqual(['SELECT pg_catalog.pg_current_snapshot()::text AS row'])
    await client.query('BEGIN; CREATE TABLE undone (id int); ROLLBACK')
    await client.query('INSERT INTO first VALUES (1)')
    await delay(150)
    await database.recheck()
    expect(database.current()).toBe(catalog)
    expect(database.recheck()).toBeNull()
  })

  it('sees by its poll what another session changed, and says so', async () => {
    const changes: string[] = []
    const { store } = open({
      pollMs: 50,
      onChange: (_name, _catalog, reason) => changes.push(reason),
    })
    const database = await store.open('postgres')
    const generation = database.generation
    await client.query('ALTER TABLE first RENAME COLUMN id TO renamed')
    await expect
      .poll(
        () => [
          ...database.current().columnsOf(database.current().relation('public', 'first')!).keys(),
        ],
        {
          timeout: 10_000,
        },
      )
      .toEqual(['renamed'])
    expect(database.generation).toBeGreaterThan(generation)
    expect(changes).toEqual(['first use', 'changed by another session'])
    await client.query('ALTER TABLE first RENAME COLUMN renamed TO id')
  })

  it('keeps what it has while the server cannot be asked, and comes back by itself', async () => {
    const { store, errors } = open({ pollMs: 50 })
    const database = await store.open('postgres')
    await client.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'plain'",
    )
    await expect.poll(() => errors.length, { timeout: 10_000 }).toBeGreaterThan(0)
    expect(database.current().relation('public', 'first')).not.toBeNull()
    await client.query('CREATE TABLE afterwards (id int)')
    await expect
      .poll(() => database.current().relation('public', 'afterwards')?.name, { timeout: 10_000 })
      .toBe('afterwards')
  })

  it('rejects a database that cannot be read, and may be asked again', async () => {
    const { store } = open()
    await expect(store.open('nowhere')).rejects.toThrow('does not exist')
    await expect(store.open('nowhere')).rejects.toThrow('does not exist')
    expect(store.current('nowhere')).toBeNull()
  })

  it('reads over an upstream connection as sessions have it', async () => {
    const { store } = open({ connect: overWire(server.port) })
    const database = await store.open('postgres')
    expect(database.current().relation('public', 'first')).not.toBeNull()
    await client.query('CREATE TABLE over_wire (id int)')
    await database.refresh('DDL')
    expect(database.current().relation('public', 'over_wire')).not.toBeNull()
  })

  it('does not wait for a server that says nothing when it stops', async () => {
    const mute = createServer(() => undefined).listen(0, '127.0.0.1')
    await once(mute, 'listening')
    const { store } = open({ connect: overWire((mute.address() as AddressInfo).port) })
    const opened = store.open('postgres').catch((error: unknown) => error)
    await once(mute, 'connection')
    await store.stop()
    expect(await opened).toBeInstanceOf(Error)
    mute.close()
  })

  it('does not wait for a read behind a lock when it stops', async () => {
    const { store } = open({ connect: overWire(server.port) })
    const database = await store.open('postgres')
    await client.query('BEGIN; LOCK TABLE pg_catalog.pg_namespace IN ACCESS EXCLUSIVE MODE')
    try {
      const read = database.refresh('DDL').catch((error: unknown) => error)
      await delay(100)
      await store.stop()
      expect(await read).toBeInstanceOf(Error)
    } finally {
      await client.query('ROLLBACK')
    }
  })

  it('gives a session its own view: in a transaction, and of its temporary objects after it', async () => {
    const { store } = open()
    const database = await store.open('postgres')
    const session = new pg.Client({ connectionString: server.url() })
    await session.connect()
    try {
      await session.query('BEGIN; CREATE TEMPORARY TABLE mine (id int); CREATE TABLE ours (id int)')
      const during = await database.overlay(catalogQuery(session))
      expect(during.temporarySchema).toMatch(/^pg_temp_\d+$/)
      expect(during.catalog.relation(during.temporarySchema ?? '', 'mine')).not.toBeNull()
      expect(during.catalog.relation('public', 'ours')).not.toBeNull()
      expect(database.current().relation('public', 'ours')).toBeNull()
      await session.query('COMMIT')
      // Outside a block the texts go in one segment, one transaction: here the helper opens one.
      await session.query('BEGIN')
      const after = await database.overlay(catalogQuery(session))
      expect(after.catalog.relation(after.temporarySchema ?? '', 'mine')?.temporary).toBe(true)
      await session.query('COMMIT')
      const shown = await session.query<{ search_path: string }>('SHOW search_path')
      expect(shown.rows[0]?.search_path).toBe('"$user", public')
    } finally {
      await session.end()
    }
  })

  it('does not wait for ever behind a lock that DDL of an open transaction holds', async () => {
    await client.query(
      'CREATE TABLE base (id int, a text); CREATE VIEW above AS SELECT a FROM base',
    )
    const { store } = open({ fullMs: 0 })
    const database = await store.open('postgres')
    const session = new pg.Client({ connectionString: server.url() })
    await session.connect()
    try {
      await session.query('BEGIN; ALTER TABLE base ADD COLUMN b int')
      await client.query('CREATE TABLE unrelated (id int)')
      // A full read would wait for the view's definition; what changed can be read.
      await database.refresh('DDL')
      expect(database.current().relation('public', 'unrelated')).not.toBeNull()
      const own = await database.overlay(catalogQuery(session))
      const base = own.catalog.relation('public', 'base')
      expect(base?.columns.map(({ name }) => name)).toEqual(['id', 'a', 'b'])
      await expect(open().store.open('postgres')).rejects.toThrow('holds a table exclusively')
      await session.query('COMMIT')
      await database.refresh('DDL')
      expect(database.current().relation('public', 'base')?.columns).toHaveLength(3)
    } finally {
      await session.end()
    }
  })

  it('is not misled by operators, functions and tables that a session puts into its path', async () => {
    const { store } = open()
    const database = await store.open('postgres')
    const session = new pg.Client({ connectionString: server.url() })
    await session.connect()
    try {
      await session.query(`BEGIN; CREATE SCHEMA trick; SET LOCAL search_path = trick, pg_temp, pg_catalog;
        CREATE FUNCTION trick.never(oid, oid) RETURNS bool RETURN false;
        CREATE OPERATOR trick.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = trick.never);
        CREATE FUNCTION trick.current_setting(text) RETURNS text RETURN 'lie';
        CREATE TEMPORARY TABLE pg_class AS TABLE pg_catalog.pg_class WITH NO DATA;
        CREATE TABLE trick.hidden (id int, secret text)`)
      const { catalog } = await database.overlay(catalogQuery(session))
      expect(catalog.relation('trick', 'hidden')?.columns.map(({ name }) => name)).toEqual([
        'id',
        'secret',
      ])
      expect(catalog.relation('public', 'first')).not.toBeNull()
      expect((await session.query<{ search_path: string }>('SHOW search_path')).rows).toEqual([
        { search_path: 'trick, pg_temp, pg_catalog' },
      ])
      await session.query('ROLLBACK')
    } finally {
      await session.end()
    }
  })
})
