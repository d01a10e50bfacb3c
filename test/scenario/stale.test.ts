/**
 * What a statement means can move between its judgement and its run: a search path that ends with
 * its transaction, DDL of the same string, segment or session, a cursor whose function is replaced.
 * Each road below gives the value on a direct connection.
 */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  encodeBind,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeSync,
  FrameReader,
  frontendTypes,
  written,
  type ByteWriter,
} from '../../src/wire/wire.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { ready, WireClient } from './refusals-client.ts'

let server: TestPostgres
let proxy: ProxyInProcess

let databaseCount = 0

/** A namesake of a table with a classified column, where nothing is classified. */
const setUp = `
  CREATE TABLE hr.cards (id int, pan text);
  INSERT INTO hr.cards VALUES (1, 'harmless');
  CREATE FUNCTION shown(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
`

beforeAll(async () => {
  server = await startPostgres()
  await execute(server, 'CREATE DATABASE corpus')
  await execute(server, readFileSync('test/corpus/schema.sql', 'utf8') + setUp, 'corpus')
  const { regate } = JSON.parse(readFileSync('test/corpus/data.json', 'utf8')) as {
    regate: { groups: object }
  }
  const builders = { read: ['*'], write: ['*'], ddl: 'allow', unmask: [], infer: false }
  const data = { regate: { ...regate, groups: { ...regate.groups, builders } } }
  proxy = await startProxy(server, {
    users: { agent: { groups: ['agents'] }, builder: { groups: ['builders'] } },
    data,
  })
})

afterAll(async () => {
  await proxy?.stop()
  await server?.stop()
})

/** A copy of the corpus: what a road does to it hurts no other. */
async function freshDatabase(): Promise<string> {
  const name = `copy_${++databaseCount}`
  await execute(server, `CREATE DATABASE ${name} TEMPLATE corpus`)
  return name
}

type Write = (to: ByteWriter) => void
/** Of the session, or of another one of the same user. */
type Turn = Write | { readonly other: Write }

const q =
  (text: string): Write =>
  (to) => {
    encodeQuery(to, text)
  }

function run(to: ByteWriter, text: string): void {
  encodeParse(to, { name: '', text })
  encodeBind(to, { portal: '', statement: '' })
  encodeExecute(to, '')
}

function again(to: ByteWriter, statement: string): void {
  encodeBind(to, { portal: '', statement })
  encodeExecute(to, '')
}

const card = "SELECT pan || '' AS x FROM cards WHERE id = 1"
const useShown = 'SELECT shown(ssn) FROM users WHERE id = 1'
const launderingNow = `CREATE OR REPLACE FUNCTION shown(text) RETURNS text LANGUAGE plpgsql AS
  'BEGIN INSERT INTO scratch (a) VALUES ($1); RETURN NULL; END'`
const result = 'SELECT a FROM scratch'

interface Road {
  readonly name: string
  readonly user: string
  readonly turns: readonly Turn[]
}

const roads: readonly Road[] = [
  {
    name: 'COMMIT ends a local search_path, in one query string',
    user: 'agent',
    turns: [q('BEGIN'), q('SET LOCAL search_path = hr'), q(card), q(`COMMIT; ${card}`)],
  },
  {
    name: 'ROLLBACK ends a search_path, in one query string',
    user: 'agent',
    turns: [q('BEGIN'), q('SET search_path = hr'), q(card), q(`ROLLBACK; ${card}`)],
  },
  {
    name: 'ROLLBACK TO ends a search_path, in one query string',
    user: 'agent',
    turns: [
      q('BEGIN; SAVEPOINT s'),
      q('SET search_path = hr'),
      q(card),
      q(`ROLLBACK TO s; ${card}`),
    ],
  },
  {
    name: 'COMMIT ends a local search_path set by a function',
    user: 'agent',
    turns: [
      q('BEGIN'),
      q("SELECT set_config('search_path', 'hr', true)"),
      q(card),
      q('COMMIT'),
      q(card),
    ],
  },
  {
    name: 'Sync ends a local search_path',
    user: 'agent',
    turns: [
      (to) => {
        run(to, 'SET LOCAL search_path = hr')
        run(to, card)
        encodeSync(to)
        run(to, card)
        encodeSync(to)
      },
    ],
  },
  {
    name: 'a statement prepared by SQL under another search_path',
    user: 'agent',
    turns: [
      q('SET search_path = hr'),
      q(`PREPARE p AS ${card}`),
      q('SET search_path = public'),
      q('EXECUTE p'),
    ],
  },
  {
    name: 'a statement prepared by the protocol under another search_path, executed by SQL',
    user: 'agent',
    turns: [
      q('SET search_path = hr'),
      (to) => {
        encodeParse(to, { name: 'p', text: card })
        encodeSync(to)
      },
      q('SET search_path = public'),
      q('EXECUTE p'),
    ],
  },
  {
    name: 'a statement prepared by SQL under another search_path, bound by the protocol',
    user: 'agent',
    turns: [
      q('SET search_path = hr'),
      q(`PREPARE p AS ${card}`),
      q('SET search_path = public'),
      (to) => {
        again(to, 'p')
        encodeSync(to)
      },
    ],
  },
  {
    name: 'a function replaced before a statement of the same query string',
    user: 'builder',
    turns: [q(`${launderingNow}; ${useShown}`), q(result)],
  },
  {
    name: 'a function replaced in the same Sync segment',
    user: 'builder',
    turns: [
      (to) => {
        run(to, launderingNow)
        run(to, useShown)
        encodeSync(to)
      },
      q(result),
    ],
  },
  {
    name: 'a function replaced after a statement was prepared by the protocol',
    user: 'builder',
    turns: [
      (to) => {
        encodeParse(to, { name: 's', text: useShown })
        encodeSync(to)
      },
      q(launderingNow),
      (to) => {
        again(to, 's')
        encodeSync(to)
      },
      q(result),
    ],
  },
  {
    name: 'a function replaced after a statement was prepared by SQL',
    user: 'builder',
    turns: [q(`PREPARE s AS ${useShown}`), q(launderingNow), q('EXECUTE s'), q(result)],
  },
  {
    name: 'a function replaced after a cursor was opened',
    user: 'builder',
    turns: [
      q('BEGIN'),
      q(`DECLARE c CURSOR FOR ${useShown}`),
      q(launderingNow),
      q('FETCH ALL FROM c'),
      q('COMMIT'),
      q(result),
    ],
  },
  {
    name: 'a temporary table that COMMIT drops, in one query string',
    user: 'builder',
    turns: [
      q('BEGIN'),
      q('CREATE TEMP TABLE cards (id int, pan text) ON COMMIT DROP'),
      q(card),
      q(`COMMIT; ${card}`),
    ],
  },
  {
    name: 'a temporary table dropped, in one query string',
    user: 'builder',
    turns: [
      q('CREATE TEMP TABLE cards (id int, pan text)'),
      q(card),
      q(`DROP TABLE pg_temp.cards; ${card}`),
    ],
  },
  {
    name: 'a statement prepared while a temporary table was in front',
    user: 'builder',
    turns: [
      q('CREATE TEMP TABLE cards (id int, pan text)'),
      (to) => {
        encodeParse(to, { name: 's', text: card })
        encodeSync(to)
      },
      q('DROP TABLE pg_temp.cards'),
      (to) => {
        again(to, 's')
        encodeSync(to)
      },
    ],
  },
  {
    name: 'COMMIT ends a local search_path whose name was made up',
    user: 'agent',
    turns: [
      q('BEGIN'),
      q("SELECT set_config('search_' || 'path', 'hr', true)"),
      q(card),
      q(`COMMIT; ${card}`),
    ],
  },
  {
    name: 'a portal bound before the search_path changed',
    user: 'agent',
    turns: [
      q('BEGIN'),
      (to) => {
        encodeParse(to, { name: 's', text: card })
        encodeBind(to, { portal: 'p', statement: 's' })
        encodeSync(to)
      },
      q('SET search_path = hr'),
      (to) => {
        encodeExecute(to, 'p')
        encodeSync(to)
      },
    ],
  },
  {
    name: 'a portal fetched by SQL whose statement was parsed under another search_path',
    user: 'agent',
    turns: [
      q('BEGIN; SET search_path = hr'),
      (to) => {
        encodeParse(to, { name: 's', text: card })
        encodeSync(to)
      },
      q('SET search_path = public'),
      (to) => {
        encodeBind(to, { portal: 'p', statement: 's' })
        encodeSync(to)
      },
      q('FETCH ALL FROM p'),
    ],
  },
  {
    name: 'a cursor opened before the search_path changed',
    user: 'agent',
    turns: [
      q('BEGIN'),
      q(`DECLARE c CURSOR FOR ${card}`),
      q('SET search_path = hr'),
      q('FETCH ALL FROM c'),
    ],
  },
  {
    name: 'a cursor kept beyond the transaction of its search_path',
    user: 'agent',
    turns: [
      q('SET search_path = hr'),
      q('BEGIN; SET LOCAL search_path = public'),
      q(`DECLARE c CURSOR WITH HOLD FOR ${card}`),
      q('COMMIT'),
      q('FETCH ALL FROM c'),
    ],
  },
  {
    name: 'a function that another session replaced a moment ago',
    user: 'builder',
    turns: [q(useShown), { other: q(launderingNow) }, q(useShown), q(result)],
  },
  {
    name: 'a function that another session replaced after a statement was prepared',
    user: 'builder',
    turns: [
      (to) => {
        encodeParse(to, { name: 's', text: useShown })
        encodeSync(to)
      },
      { other: q(launderingNow) },
      (to) => {
        again(to, 's')
        encodeSync(to)
      },
      q(result),
    ],
  },
  {
    name: 'a function that another session replaced while this one has a catalog of its own',
    user: 'builder',
    turns: [
      q('BEGIN'),
      q('CREATE TEMP TABLE mine (id int)'),
      q(useShown),
      { other: q(launderingNow) },
      q(useShown),
      q(result),
    ],
  },
  {
    name: 'a function that another session replaced while a cursor is open',
    user: 'builder',
    turns: [
      q('BEGIN'),
      q(`DECLARE c CURSOR FOR ${useShown}`),
      { other: q(launderingNow) },
      q('FETCH ALL FROM c'),
      q(result),
    ],
  },
  {
    name: 'a view of which the portal was bound before it was replaced',
    user: 'builder',
    turns: [
      q('BEGIN'),
      (to) => {
        encodeParse(to, { name: 's', text: "SELECT code || '' FROM contact WHERE id = 1" })
        encodeBind(to, { portal: 'p', statement: 's' })
        encodeSync(to)
      },
      q(
        `CREATE OR REPLACE VIEW contact AS SELECT id, name AS label, upper(name) AS code FROM users`,
      ),
      (to) => {
        encodeExecute(to, 'p')
        encodeSync(to)
      },
    ],
  },
]

/** ReadyForQuery messages that the turn will be answered with: Query and Sync end a cycle. */
function cycles(write: Write): number {
  const frames = new FrameReader({ frameBytesMax: 1024 * 1024 })
  frames.push(written(write))
  let count = 0
  while (frames.next() === 'frame') {
    if (frames.type === frontendTypes.Query || frames.type === frontendTypes.Sync) count++
  }
  return count
}

async function travel(url: string, { turns }: Road): Promise<string> {
  const client = await WireClient.connect(url)
  const other = await WireClient.connect(url)
  const seen: string[] = []
  try {
    for (const turn of turns) {
      const [of, write] = typeof turn === 'function' ? [client, turn] : [other, turn.other]
      const answers = await of.exchange(write, ready(cycles(write)))
      seen.push(...answers.map((answer) => `${answer.type} ${answer.text}`))
    }
  } finally {
    await client.close()
    await other.close()
  }
  return seen.join('\n')
}

for (const road of roads) {
  it(`does not give the value by ${road.name}`, async () => {
    // The direct connection proves that the road leads to the value at all.
    expect(await travel(server.url(await freshDatabase()), road)).toContain('S3CR3T')
    const seen = await travel(proxy.url(await freshDatabase(), road.user), road)
    expect(seen).not.toContain('S3CR3T')
  })
}
