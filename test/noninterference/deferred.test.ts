/**
 * What a statement leaves to the end of its transaction speaks then: a deferred trigger's exception or
 * notice, the rows of a cursor WITH HOLD. It comes with COMMIT, with SET CONSTRAINTS, at Sync, behind a
 * harmless statement: nowhere may it tell what is masked.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  encodeBind,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeSync,
  written,
  type ByteWriter,
} from '../../src/wire/wire.ts'
import { ready, WireClient, type Answer } from '../scenario/refusals-client.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { typesOf } from '../support/session.ts'

const secret = 'S3CR3T'

let postgres: TestPostgres
let proxy: ProxyInProcess

beforeAll(async () => {
  postgres = await startPostgres()
  await execute(
    postgres,
    `CREATE TABLE people (id int PRIMARY KEY, ssn text);
     INSERT INTO people VALUES (1, '${secret}-1');
     CREATE TABLE told (id int);
     CREATE TABLE raised (id int);
     CREATE TABLE plain (id int PRIMARY KEY);
     CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
       DECLARE found text;
       BEGIN SELECT ssn INTO found FROM public.people; RAISE NOTICE 'it is %', found; RETURN NULL; END $$;
     CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
       DECLARE found text;
       BEGIN SELECT ssn INTO found FROM public.people; RAISE EXCEPTION 'it is %', found; END $$;
     CREATE FUNCTION aloud(text) RETURNS text LANGUAGE plpgsql AS $$
       BEGIN RAISE NOTICE 'it is %', $1; RETURN $1; END $$;
     CREATE CONSTRAINT TRIGGER later AFTER INSERT ON told DEFERRABLE INITIALLY DEFERRED
       FOR EACH ROW EXECUTE FUNCTION tell();
     CREATE CONSTRAINT TRIGGER later AFTER INSERT ON raised DEFERRABLE INITIALLY DEFERRED
       FOR EACH ROW EXECUTE FUNCTION fail();`,
  )
  const data = {
    regate: {
      columns: { 'public.people.ssn': { class: 'pii', mask: { kind: 'redact' } } },
      groups: {
        devs: { read: ['*'], write: ['*'], unmask: [], infer: true, functions: { '*': 'allow' } },
      },
    },
  }
  proxy = await startProxy(postgres, { data, groups: ['devs'] })
}, 60_000)
afterAll(async () => {
  await proxy.stop()
  await postgres.stop()
})

const run = (to: ByteWriter, text: string): void => {
  encodeParse(to, { name: '', text })
  encodeBind(to, { portal: '', statement: '' })
  encodeExecute(to, '')
}

const roads: Readonly<Record<string, (to: ByteWriter, insert: string) => void>> = {
  'alone in simple protocol': (to, insert) => encodeQuery(to, insert),
  'at Sync': (to, insert) => {
    run(to, insert)
    encodeSync(to)
  },
  'at Sync, suspended by a row limit': (to, insert) => {
    encodeParse(to, { name: '', text: `${insert}, (2) RETURNING id` })
    encodeBind(to, { portal: '', statement: '' })
    encodeExecute(to, '', 1)
    encodeSync(to)
  },
  'behind a harmless statement of the same string': (to, insert) =>
    encodeQuery(to, `${insert}; SELECT 1`),
  'behind a harmless Query, without Sync': (to, insert) => {
    run(to, insert)
    encodeQuery(to, 'SELECT 1')
    encodeQuery(to, 'COMMIT')
  },
  'at COMMIT': (to, insert) => {
    encodeQuery(to, 'BEGIN')
    encodeQuery(to, insert)
    encodeQuery(to, 'SELECT 1')
    encodeQuery(to, 'COMMIT')
  },
  'at COMMIT in extended protocol': (to, insert) => {
    for (const text of ['BEGIN', insert, 'SELECT 1', 'COMMIT']) {
      run(to, text)
      encodeSync(to)
    }
  },
  'at COMMIT in one pipeline': (to, insert) => {
    for (const text of ['BEGIN', insert, 'COMMIT']) run(to, text)
    encodeSync(to)
  },
  'at SET CONSTRAINTS': (to, insert) => {
    encodeQuery(to, 'BEGIN')
    encodeQuery(to, insert)
    encodeQuery(to, 'SAVEPOINT a')
    encodeQuery(to, 'SET CONSTRAINTS ALL IMMEDIATE')
    encodeQuery(to, 'ROLLBACK')
  },
}

/** Every field of every error and notice. */
function texts(answers: readonly Answer[]): string {
  return JSON.stringify(answers.map(({ error }) => [...(error ?? [])]))
}

async function answered(url: string, write: (to: ByteWriter) => void): Promise<readonly Answer[]> {
  const client = await WireClient.connect(url)
  try {
    const frames = written(write)
    // One ReadyForQuery for each Query and each Sync.
    const count = typesOf([frames]).replaceAll(/[^QS]/g, '').length
    return await client.bytes(frames, ready(count))
  } finally {
    await client.close()
  }
}

describe.each(['told', 'raised'])('a deferred trigger of %s', (table) => {
  it.each(Object.entries(roads))('speaks in general words: %s', async (_, write) => {
    const script = (to: ByteWriter): void => {
      write(to, `INSERT INTO ${table} VALUES (1)`)
    }
    expect(texts(await answered(postgres.url(), script))).toContain(secret)
    const answers = await answered(proxy.url('postgres', 'dev'), script)
    expect(texts(answers)).not.toContain(secret)
    expect(texts(answers)).toContain(table === 'told' ? 'successful completion' : 'raise exception')
  })
})

it('a cursor WITH HOLD speaks in general words when COMMIT runs it', async () => {
  const script = (to: ByteWriter): void => {
    encodeQuery(to, 'BEGIN')
    encodeQuery(to, 'DECLARE c CURSOR WITH HOLD FOR SELECT aloud(ssn) FROM people')
    encodeQuery(to, 'COMMIT')
  }
  expect(texts(await answered(postgres.url(), script))).toContain(secret)
  const answers = await answered(proxy.url('postgres', 'dev'), script)
  expect(texts(answers)).not.toContain(secret)
  expect(texts(answers)).toContain('successful completion')
})

it('texts are clear again behind the transaction, and in those that read nothing masked', async () => {
  const clash = 'INSERT INTO plain VALUES (1), (1)'
  const answers = await answered(proxy.url('postgres', 'dev'), (to) => {
    encodeQuery(to, 'INSERT INTO told VALUES (1)')
    encodeQuery(to, clash)
    encodeQuery(to, 'BEGIN; INSERT INTO told VALUES (1); COMMIT')
    encodeQuery(to, `BEGIN; ${clash}`)
    encodeQuery(to, 'ROLLBACK')
    encodeQuery(to, 'BEGIN; INSERT INTO told VALUES (1); ROLLBACK')
    encodeQuery(to, clash)
    encodeQuery(to, 'BEGIN; SELECT ssn FROM people')
    encodeQuery(to, clash)
  })
  const errors = answers.filter(({ type }) => type === 'E').map(({ text }) => text)
  expect(errors).toEqual(
    Array.from(
      { length: 4 },
      () => '23505 duplicate key value violates unique constraint "plain_pkey"',
    ),
  )
})
