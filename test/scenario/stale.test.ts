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

/** A namesake of a table with a classified column, where nothing is classified. */
const setUp = `
  CREATE TABLE hr.cards (id int, pan text);
  INSERT INTO hr.cards VALUES (1, 'harmless');
  CREATE FUNCTION shown(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
  CREATE VIEW shifting AS SELECT name AS x FROM users WHERE id = 1;
`
const tearDown = `
  DROP TABLE IF EXISTS hr.cards;
  DROP VIEW IF EXISTS shifting;
  DROP FUNCTION IF EXISTS shown(text);
  TRUNCATE scratch;
`

beforeAll(async () => {
  server = await startPostgres()
  await execute(server, readFileSync('test/corpus/schema.sql', 'utf8'))
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

type Write = (to: ByteWriter) => void

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
  readonly turns: readonly Write[]
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
  const seen: string[] = []
  try {
    for (const turn of turns) {
      const answers = await client.exchange(turn, ready(cycles(turn)))
      seen.push(...answers.map((answer) => `${answer.type} ${answer.text}`))
    }
  } finally {
    await client.close()
  }
  return seen.join('\n')
}

for (const road of roads) {
  it(`does not give the value by ${road.name}`, async () => {
    await execute(server, tearDown + setUp)
    // The direct connection proves that the road leads to the value at all.
    expect(await travel(server.url('postgres'), road)).toContain('S3CR3T')
    await execute(server, tearDown + setUp)
    expect(await travel(proxy.url('postgres', road.user), road)).not.toContain('S3CR3T')
  })
}
