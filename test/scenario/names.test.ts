/**
 * A name must never be judged by a statement that the server does not run under it: names made and
 * dropped inside one query string, unnamed statements that a skipped Parse left as they were,
 * portals that ended with their transaction. Each row below gave the masked value once.
 */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, it } from 'vitest'
import {
  encodeBind,
  encodeClose,
  encodeDescribe,
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

beforeAll(async () => {
  server = await startPostgres()
  await execute(server, readFileSync('test/corpus/schema.sql', 'utf8'))
  const data = JSON.parse(readFileSync('test/corpus/data.json', 'utf8')) as Record<string, unknown>
  proxy = await startProxy(server, { groups: ['agents'], data })
})

afterAll(async () => {
  await proxy.stop()
  await server.stop()
})

type Write = (to: ByteWriter) => void

const q =
  (text: string): Write =>
  (to) => {
    encodeQuery(to, text)
  }

const secret = "SELECT ssn || '' AS x FROM users WHERE id = 1"
const plain = "SELECT name || '' AS x FROM users WHERE id = 1"

const roads: readonly { readonly name: string; readonly turns: readonly Write[] }[] = [
  {
    name: 'a statement prepared anew and executed in one query string',
    turns: [
      q("PREPARE s AS SELECT 'x'::text AS x"),
      q(`DEALLOCATE s; PREPARE s AS ${secret}; EXECUTE s`),
    ],
  },
  {
    name: 'a cursor declared anew and fetched in one query string',
    turns: [
      q('BEGIN'),
      q(`DECLARE c CURSOR FOR ${plain}`),
      q(`CLOSE c; DECLARE c CURSOR FOR ${secret}; FETCH ALL FROM c`),
    ],
  },
  {
    name: 'the unnamed statement behind a Parse that was skipped',
    turns: [
      (to) => {
        encodeParse(to, { name: '', text: secret })
        encodeSync(to)
      },
      (to) => {
        encodeParse(to, { name: 'broken', text: 'SELEC' })
        encodeParse(to, { name: '', text: plain })
        encodeSync(to)
        encodeBind(to, { portal: '', statement: '' })
        encodeExecute(to, '')
        encodeSync(to)
      },
    ],
  },
  {
    name: 'a portal name that is free again after COMMIT',
    turns: [
      q('BEGIN'),
      (to) => {
        encodeParse(to, { name: 'b', text: 'SELECT name FROM users WHERE id = 1' })
        encodeParse(to, { name: 'a', text: 'SELECT ssn FROM users WHERE id = 1' })
        encodeBind(to, { portal: 'p', statement: 'b' })
        encodeDescribe(to, 'portal', 'p')
        encodeSync(to)
      },
      q('COMMIT; BEGIN'),
      (to) => {
        encodeBind(to, { portal: 'p', statement: 'a' })
        encodeExecute(to, 'p')
        encodeSync(to)
      },
    ],
  },
]

const p =
  (name: string, text: string): Write =>
  (to) => {
    encodeParse(to, { name, text })
    encodeSync(to)
  }

/** EXECUTE runs whatever Parse prepared, also what changes names. */
const executed: typeof roads = [
  {
    name: 'a DEALLOCATE and a PREPARE that EXECUTE runs',
    turns: [
      q(`PREPARE t AS ${plain}`),
      p('drops', 'DEALLOCATE t'),
      p('makes', `PREPARE t AS ${secret}`),
      q('EXECUTE drops'),
      q('EXECUTE makes'),
      q('EXECUTE t'),
    ],
  },
  {
    name: 'a CLOSE and a DECLARE that EXECUTE runs',
    turns: [
      q('BEGIN'),
      q(`DECLARE c CURSOR FOR ${plain}`),
      p('closes', 'CLOSE c'),
      p('opens', `DECLARE c CURSOR FOR ${secret}`),
      q('EXECUTE closes'),
      q('EXECUTE opens'),
      q('FETCH ALL FROM c'),
    ],
  },
  {
    name: 'what EXECUTE runs in one query string',
    turns: [
      q(`PREPARE t AS ${plain}`),
      (to) => {
        encodeParse(to, { name: 'makes', text: `PREPARE t AS ${secret}` })
        encodeParse(to, { name: 'drops', text: 'DEALLOCATE t' })
        encodeSync(to)
      },
      q('EXECUTE drops; EXECUTE makes; EXECUTE t'),
    ],
  },
]

/** Of 63 bytes: what a name has beyond them is nothing to the server. */
const long = 'n'.repeat(63)

const beyond: typeof roads = [
  {
    name: 'a statement under a name that the server cuts to that of another',
    turns: [
      (to) => {
        encodeParse(to, { name: `${long}a`, text: plain })
        encodeSync(to)
      },
      (to) => {
        encodeClose(to, 'statement', `${long}b`)
        encodeParse(to, { name: `${long}b`, text: secret })
        encodeSync(to)
        encodeBind(to, { portal: '', statement: `${long}a` })
        encodeExecute(to, '')
        encodeSync(to)
      },
    ],
  },
  {
    name: 'a statement whose cut name is that of a PREPARE',
    turns: [
      q(`PREPARE ${long} AS ${plain}`),
      (to) => {
        encodeClose(to, 'statement', `${long}b`)
        encodeParse(to, { name: `${long}b`, text: secret })
        encodeSync(to)
      },
      q(`EXECUTE ${long}`),
    ],
  },
  {
    name: 'a name that is cut inside a character',
    turns: [
      (to) => {
        encodeParse(to, { name: `${long.slice(1)}\u00e4`, text: plain })
        encodeClose(to, 'statement', `${long.slice(1)}\u00f6`)
        encodeParse(to, { name: `${long.slice(1)}\u00f6`, text: secret })
        encodeBind(to, { portal: '', statement: `${long.slice(1)}\u00e4` })
        encodeExecute(to, '')
        encodeSync(to)
      },
    ],
  },
  {
    name: 'a portal under a name that the server cuts to that of another',
    turns: [
      q('BEGIN'),
      (to) => {
        encodeParse(to, { name: 'b', text: plain })
        encodeParse(to, { name: 'a', text: secret })
        encodeBind(to, { portal: `${long}a`, statement: 'b' })
        encodeClose(to, 'portal', `${long}b`)
        encodeBind(to, { portal: `${long}b`, statement: 'a' })
        encodeExecute(to, `${long}a`)
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

for (const { name, turns } of [...roads, ...executed, ...beyond]) {
  it(`does not give the value by ${name}`, async () => {
    for (const side of ['direct', 'proxy'] as const) {
      const url = side === 'direct' ? server.url('postgres') : proxy.url('postgres', 'agent')
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
      // The direct connection proves that the road leads to the value at all.
      if (side === 'direct') expect(seen.join('\n')).toContain('S3CR3T')
      else expect(seen.join('\n')).not.toContain('S3CR3T')
    }
  })
}

it('takes names apart that differ in their 63rd byte, inside a character', async () => {
  const client = await WireClient.connect(proxy.url('postgres', 'agent'))
  const begin = 'n'.repeat(61)
  const answers = await client.exchange((to) => {
    // Three bytes each, of which the server looks at two.
    encodeParse(to, { name: `${begin}\u20ac`, text: "SELECT 'first'" })
    encodeParse(to, { name: `${begin}\u4e00`, text: "SELECT 'second'" })
    encodeBind(to, { portal: '', statement: `${begin}\u20ac` })
    encodeExecute(to, '')
    encodeSync(to)
  })
  await client.close()
  expect(answers.map(({ type, text }) => `${type} ${text}`)).toContain('D first')
})
