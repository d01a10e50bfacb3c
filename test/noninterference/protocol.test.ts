/**
 * The roads of the extended protocol on which a mask plan could be lost: results that are never
 * described, formats that change between executions, portals that are suspended and resumed,
 * cursors and prepared statements that SQL and the protocol share, names that are used again.
 * Directly on the server every one of them tells; through regate none may.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  backendTypes,
  encodeBind,
  encodeClose,
  encodeDescribe,
  encodeExecute,
  encodeFlush,
  encodeParse,
  encodeQuery,
  encodeSync,
  type ByteWriter,
} from '../../src/wire/wire.ts'
import { directly, judgeScript, type Connect } from './compare.ts'
import { startProxies, type Proxies } from './proxies.ts'
import type { RawConnection } from './raw-connection.ts'
import { buildWorlds, databaseName, type Worlds } from './worlds.ts'

const secret = 'SELECT id, ssn, salary, photo, aliases, profile FROM users ORDER BY id LIMIT 5'
const sensitive = /S3CR3T|s3cr3t|deaddead-dead|770000\d\d|53334352/

const parse = (out: ByteWriter, name: string, text: string): void =>
  encodeParse(out, { name, text })
const bind = (
  out: ByteWriter,
  portal: string,
  statement: string,
  resultFormats: readonly number[] = [],
): void => encodeBind(out, { portal, statement, resultFormats })
const query = encodeQuery

interface Script {
  readonly readyCount?: number
  /** Rows that regate lets through; 5 where nothing is said. */
  readonly rows?: number
  readonly write: (out: ByteWriter) => void
}

const scripts: Readonly<Record<string, Script>> = {
  'one statement executed in text, then in binary, never described': {
    rows: 20,
    write: (out) => {
      parse(out, 's', secret)
      for (const formats of [[], [1], [0, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 0]]) {
        bind(out, '', 's', formats)
        encodeExecute(out, '')
      }
      encodeSync(out)
    },
  },
  'a portal suspended and resumed': {
    write: (out) => {
      parse(out, '', secret)
      bind(out, '', '', [1])
      for (let times = 0; times < 4; times += 1) encodeExecute(out, '', 2)
      encodeSync(out)
    },
  },
  'a named portal resumed after Sync, inside a transaction': {
    readyCount: 3,
    write: (out) => {
      query(out, 'BEGIN')
      parse(out, 's', secret)
      bind(out, 'p', 's')
      encodeExecute(out, 'p', 1)
      encodeSync(out)
      encodeDescribe(out, 'portal', 'p')
      encodeExecute(out, 'p', 1)
      encodeExecute(out, 'p')
      encodeSync(out)
    },
  },
  'described as a statement only, formats mixed': {
    write: (out) => {
      parse(out, 's', secret)
      encodeDescribe(out, 'statement', 's')
      bind(out, '', 's', [0, 1, 0, 1, 0, 1])
      encodeExecute(out, '')
      encodeSync(out)
    },
  },
  'a binary cursor, fetched in simple protocol': {
    rows: 7,
    readyCount: 4,
    write: (out) => {
      query(out, 'BEGIN')
      query(out, `DECLARE c BINARY SCROLL CURSOR FOR ${secret}`)
      query(out, 'FETCH 2 FROM c; MOVE 1 FROM c; FETCH BACKWARD 1 FROM c; FETCH ALL FROM c')
      query(out, 'FETCH ABSOLUTE 1 FROM c')
    },
  },
  'a cursor of SQL executed as a portal of the protocol': {
    readyCount: 2,
    write: (out) => {
      query(out, `BEGIN; DECLARE c CURSOR FOR ${secret}`)
      encodeExecute(out, 'c', 1)
      encodeDescribe(out, 'portal', 'c')
      encodeExecute(out, 'c')
      encodeSync(out)
    },
  },
  'a portal of the protocol fetched by SQL': {
    readyCount: 3,
    write: (out) => {
      query(out, 'BEGIN')
      parse(out, '', secret)
      bind(out, 'p', '', [1])
      encodeSync(out)
      query(out, 'FETCH 1 FROM p; FETCH ALL FROM p')
    },
  },
  'a cursor that outlives its transaction': {
    readyCount: 2,
    write: (out) => {
      query(out, `BEGIN; DECLARE c CURSOR WITH HOLD FOR ${secret}; COMMIT`)
      query(out, 'FETCH ALL FROM c')
    },
  },
  'a statement of SQL bound by the protocol': {
    readyCount: 2,
    write: (out) => {
      query(out, `PREPARE s AS ${secret}`)
      bind(out, '', 's', [1])
      encodeExecute(out, '')
      encodeSync(out)
    },
  },
  'a statement of the protocol executed by SQL': {
    rows: 10,
    readyCount: 2,
    write: (out) => {
      parse(out, 's', secret)
      encodeSync(out)
      query(out, 'EXECUTE s; EXECUTE s')
    },
  },
  'EXECUTE and FETCH sent as extended statements in binary': {
    rows: 8,
    readyCount: 3,
    write: (out) => {
      query(out, `BEGIN; PREPARE s AS ${secret}; DECLARE c CURSOR FOR ${secret}`)
      for (const text of ['EXECUTE s', 'FETCH 3 FROM c']) {
        parse(out, '', text)
        bind(out, '', '', [1])
        encodeExecute(out, '')
      }
      encodeSync(out)
      query(out, 'COMMIT')
    },
  },
  'a name used again while a portal of the old statement is open': {
    rows: 6,
    write: (out) => {
      parse(out, 's', secret)
      bind(out, 'p', 's')
      encodeClose(out, 'statement', 's')
      parse(out, 's', 'SELECT id, name, age, name, name, name FROM users')
      bind(out, 'q', 's')
      encodeExecute(out, 'p')
      encodeExecute(out, 'q', 1)
      encodeSync(out)
    },
  },
  'a harmless portal replaced by a sensitive one of the same name': {
    rows: 2,
    write: (out) => {
      parse(out, 'h', 'SELECT id, name FROM users LIMIT 2')
      parse(out, 's', 'SELECT id, ssn FROM users LIMIT 2')
      bind(out, '', 'h')
      encodeDescribe(out, 'portal', '')
      bind(out, '', 's')
      encodeExecute(out, '')
      encodeSync(out)
    },
  },
  'harmless and sensitive results in one pipeline, with Flush between': {
    rows: 7,
    write: (out) => {
      for (const text of [
        'SELECT name FROM users LIMIT 1',
        secret,
        'SELECT city FROM addresses LIMIT 1',
      ]) {
        parse(out, '', text)
        bind(out, '', '')
        encodeExecute(out, '')
        encodeFlush(out)
      }
      encodeSync(out)
    },
  },
  'an error in the middle of a pipeline, then a sensitive result': {
    readyCount: 2,
    write: (out) => {
      parse(out, 's', secret)
      parse(out, '', 'SELECT 1 / 0')
      bind(out, '', '')
      encodeExecute(out, '')
      bind(out, '', 's')
      encodeExecute(out, '')
      encodeSync(out)
      parse(out, 't', secret)
      bind(out, '', 't', [1])
      encodeExecute(out, '')
      encodeSync(out)
    },
  },
  'several results in one query string': {
    rows: 116,
    write: (out) =>
      query(
        out,
        `SELECT name FROM users LIMIT 1; ${secret}; TABLE addresses; SELECT upper(ssn) FROM users`,
      ),
  },
  'COPY in extended protocol, in all formats': {
    rows: 0,
    write: (out) => {
      for (const format of ['text', 'csv', 'binary']) {
        parse(out, '', `COPY (${secret}) TO STDOUT (FORMAT ${format})`)
        bind(out, '', '')
        encodeExecute(out, '')
      }
      encodeSync(out)
    },
  },
  'COPY with a NULL text that guesses a value': {
    rows: 0,
    write: (out) =>
      query(out, "COPY (SELECT email FROM users) TO STDOUT (NULL 's3cr3t-S3CR3T1@example.com')"),
  },
  'a statement parsed before a setting changes how it is shown': {
    readyCount: 3,
    write: (out) => {
      parse(out, 's', secret)
      encodeSync(out)
      query(
        out,
        "SET bytea_output = 'escape'; SET extra_float_digits = 0; SET DateStyle = 'German'",
      )
      bind(out, '', 's')
      encodeExecute(out, '')
      encodeSync(out)
    },
  },
  'parameters in place of constants': {
    rows: 1,
    write: (out) => {
      parse(out, '', 'SELECT ssn FROM users WHERE id = $1')
      encodeBind(out, { portal: '', statement: '', parameters: ['1'] })
      encodeExecute(out, '')
      encodeSync(out)
    },
  },
  'the sensitive query as a statement that returns rows from a write': {
    rows: 0,
    write: (out) => {
      parse(out, '', 'UPDATE users SET age = age WHERE id < 3 RETURNING ssn, users')
      bind(out, '', '', [1])
      encodeExecute(out, '')
      encodeSync(out)
    },
  },
}

let worlds: Worlds
let proxies: Proxies
const direct: Connect = (world) => directly(world, databaseName)

beforeAll(async () => {
  worlds = await buildWorlds()
  proxies = await startProxies(worlds)
}, 240_000)

afterAll(async () => {
  await proxies?.stop()
  await worlds?.stop()
})

describe('roads of the protocol', () => {
  for (const [name, { readyCount = 1, rows = 5, write }] of Object.entries(scripts)) {
    it(`${name}: tells directly, and nothing through regate`, async () => {
      const script = (connection: RawConnection): ReturnType<RawConnection['raw']> =>
        connection.raw(write, readyCount)
      expect((await judgeScript(direct, worlds, script)).kind).toBe('leak')
      const verdict = await judgeScript(proxies.connect, worlds, script)
      if (verdict.kind === 'leak') expect(verdict.difference).toBe('none')
      expect(verdict.kind).toBe('equal')
      expect(verdict.first.closed).toBe(false)
      // Masked, not refused.
      expect(verdict.first.rowCount).toBe(rows)
      const received = verdict.first.frames.map((frame) => frame.toString('latin1')).join('\n')
      expect(sensitive.exec(received)?.[0]).toBeUndefined()
      // The session's answers are complete: as many ReadyForQuery as were asked for.
      const ready = verdict.first.frames.filter((frame) => frame[0] === backendTypes.ReadyForQuery)
      expect(ready.length).toBe(readyCount)
    })
  }
})
