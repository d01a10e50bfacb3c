/**
 * A refusal keeps the server's own state machine. The oracle is PostgreSQL:
 * each scenario runs twice, directly with a text that the server itself finds a syntax error in,
 * and through regate with a statement that the policy denies. Both must be answered by the same
 * messages, with the same transaction state; only the error is ours: 42501, reason, rule, decision
 * id, hint. The server's own log then proves that no denied text ever arrived.
 */
import { resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  encodeBind,
  encodeClose,
  encodeCopyData,
  encodeCopyDone,
  encodeCopyFail,
  encodeDescribe,
  encodeExecute,
  encodeFlush,
  encodeParse,
  encodeQuery,
  encodeSync,
  type ByteWriter,
} from '../../src/wire/wire.ts'
import { execute, startPostgres, type TestPostgres } from '../support/postgres.ts'
import { startProxy, type ProxyInProcess } from '../support/proxy.ts'
import { ready, WireClient, type Answer, type Until } from './refusals-client.ts'

/** One write and what is read behind it. `deny` gives the text that must be refused. */
interface Turn {
  readonly write: (to: ByteWriter, deny: (sql: string) => string) => void
  readonly until?: Until
}

const marker = 'secret_text_of_the_client'

const schema = `
  CREATE TABLE vault (id int PRIMARY KEY, gold text);
  INSERT INTO vault VALUES (1, 'bar');
  CREATE TABLE note (id int, body text);
  INSERT INTO note SELECT n, 'note ' || n FROM generate_series(1, 20) n;
`

let server: TestPostgres
let proxy: ProxyInProcess

beforeAll(async () => {
  server = await startPostgres()
  await execute(server, schema)
  proxy = await startProxy(server, { bundle: resolve('test/conformance/policies/vault') })
})

afterAll(async () => {
  await proxy.stop()
  await server.stop()
})

const query = (sql: string, count = 1): Turn => ({
  write: (to) => {
    encodeQuery(to, sql)
  },
  until: ready(count),
})

const denied = (sql: string): Turn => ({
  write: (to, deny) => {
    encodeQuery(to, deny(sql))
  },
})

function extended(to: ByteWriter, text: string, portal = ''): void {
  encodeParse(to, { name: '', text })
  encodeBind(to, { portal, statement: '' })
  encodeDescribe(to, 'portal', portal)
  encodeExecute(to, portal)
}

const scenarios: Readonly<Record<string, readonly Turn[]>> = {
  'a simple query': [denied('SELECT gold FROM vault'), query('SELECT 1')],

  'a query string of many statements: nothing of it runs, BEGIN among it': [
    denied('BEGIN; INSERT INTO note VALUES (100); SELECT gold FROM vault; COMMIT'),
    query('SELECT count(*) FROM note WHERE id = 100'),
  ],

  'an implicit transaction of a query string': [
    denied("INSERT INTO note VALUES (101, 'x'); DELETE FROM vault"),
    query('SELECT count(*) FROM note WHERE id = 101'),
  ],

  'extended protocol, one cycle': [
    {
      write: (to, deny) => {
        extended(to, deny('SELECT gold FROM vault'))
        encodeSync(to)
      },
    },
    query('SELECT 1'),
  ],

  'a named statement, executed twice although its Parse was refused': [
    {
      write: (to, deny) => {
        encodeParse(to, { name: 'gold', text: deny('SELECT gold FROM vault') })
        encodeSync(to)
      },
    },
    ...[1, 2].map(() => ({
      write: (to: ByteWriter) => {
        encodeBind(to, { portal: '', statement: 'gold' })
        encodeExecute(to, '')
        encodeSync(to)
      },
    })),
    {
      write: (to) => {
        encodeParse(to, { name: 'gold', text: 'SELECT 7' })
        encodeBind(to, { portal: '', statement: 'gold' })
        encodeExecute(to, '')
        encodeSync(to)
      },
    },
  ],

  'a Parse of a name that is taken': [
    {
      write: (to, deny) => {
        encodeParse(to, { name: 'kept', text: 'SELECT 5' })
        encodeParse(to, { name: 'kept', text: deny('SELECT gold FROM vault') })
        encodeSync(to)
        encodeBind(to, { portal: '', statement: 'kept' })
        encodeExecute(to, '')
        encodeSync(to)
      },
      until: ready(2),
    },
  ],

  'the unnamed statement is gone after a refused Parse of it': [
    {
      write: (to, deny) => {
        encodeParse(to, { name: '', text: 'SELECT 5' })
        encodeSync(to)
        encodeParse(to, { name: '', text: deny('SELECT gold FROM vault') })
        encodeSync(to)
        encodeBind(to, { portal: '', statement: '' })
        encodeExecute(to, '')
        encodeSync(to)
      },
      until: ready(3),
    },
  ],

  'the middle of a pipeline: what comes before it counts, what comes behind it is skipped': [
    {
      write: (to, deny) => {
        extended(to, "INSERT INTO note VALUES (200, 'before')")
        extended(to, deny('SELECT gold FROM vault'))
        extended(to, "INSERT INTO note VALUES (201, 'behind')")
        encodeSync(to)
        extended(to, 'SELECT id FROM note WHERE id BETWEEN 200 AND 201')
        encodeSync(to)
      },
      until: ready(2),
    },
  ],

  'the middle of a pipeline with a Sync after each': [
    {
      write: (to, deny) => {
        for (const text of ['SELECT 1', deny('TABLE vault'), 'SELECT 2', deny('TABLE vault')]) {
          extended(to, text)
          encodeSync(to)
        }
      },
      until: ready(4),
    },
  ],

  'a refusal that the client waits for by Flush, then a Query behind it before Sync': [
    {
      write: (to, deny) => {
        encodeParse(to, { name: '', text: deny('SELECT gold FROM vault') })
        encodeFlush(to)
      },
      until: { type: 'E', count: 1 },
    },
    {
      write: (to) => {
        extended(to, 'SELECT 1')
        encodeSync(to)
        encodeQuery(to, 'SELECT 2')
      },
      until: ready(2),
    },
  ],

  'inside a transaction: aborted, and COMMIT rolls back': [
    query('BEGIN'),
    query("INSERT INTO note VALUES (300, 'x')"),
    denied('UPDATE vault SET gold = NULL'),
    query('SELECT 1'),
    query('COMMIT'),
    query('SELECT count(*) FROM note WHERE id = 300'),
  ],

  'denied in a transaction that is aborted already': [
    query('BEGIN'),
    denied('TABLE vault'),
    denied('TABLE vault'),
    query('ROLLBACK'),
    query('SELECT 1'),
  ],

  'after a savepoint: ROLLBACK TO goes on from there': [
    query('BEGIN'),
    query("INSERT INTO note VALUES (400, 'x')"),
    query('SAVEPOINT here'),
    query("INSERT INTO note VALUES (401, 'x')"),
    denied('TRUNCATE vault'),
    query('ROLLBACK TO here'),
    query('SELECT id FROM note WHERE id >= 400'),
    query('COMMIT'),
    query('SELECT id FROM note WHERE id >= 400'),
  ],

  'after a savepoint, in a pipeline of one transaction': [
    {
      write: (to, deny) => {
        extended(to, 'BEGIN')
        extended(to, 'SAVEPOINT s')
        extended(to, deny('DELETE FROM vault'))
        encodeSync(to)
        extended(to, 'ROLLBACK TO s')
        extended(to, 'SELECT 1')
        encodeSync(to)
        extended(to, 'COMMIT')
        encodeSync(to)
      },
      until: ready(3),
    },
  ],

  'open cursors and portals': [
    query('BEGIN; DECLARE c CURSOR FOR SELECT id FROM note ORDER BY id'),
    query('FETCH 2 FROM c'),
    query('SAVEPOINT s'),
    denied('TABLE vault'),
    query('ROLLBACK TO s'),
    query('FETCH 2 FROM c'),
    query('COMMIT'),
  ],

  'a cursor over it': [
    query('BEGIN'),
    denied('DECLARE c CURSOR FOR TABLE vault'),
    query('FETCH 1 FROM c'),
    query('ROLLBACK'),
  ],

  'a row-limited portal that is resumed behind a refusal': [
    {
      write: (to, deny) => {
        encodeParse(to, { name: '', text: 'SELECT id FROM note ORDER BY id LIMIT 5' })
        encodeBind(to, { portal: 'p', statement: '' })
        encodeExecute(to, 'p', 2)
        encodeParse(to, { name: 'x', text: deny('TABLE vault') })
        encodeExecute(to, 'p', 2)
        encodeSync(to)
        encodeExecute(to, 'p', 2)
        encodeSync(to)
      },
      until: ready(2),
    },
  ],

  'a portal that went with its segment, executed in the next': [
    {
      write: (to, deny) => {
        encodeParse(to, { name: '', text: 'SELECT id FROM note ORDER BY id LIMIT 5' })
        encodeBind(to, { portal: 'p', statement: '' })
        encodeExecute(to, 'p', 2)
        encodeSync(to)
        encodeExecute(to, 'p', 2)
        encodeSync(to)
        extended(to, deny('TABLE vault'))
        encodeSync(to)
      },
      until: ready(3),
    },
  ],

  'COPY FROM STDIN into it, in simple protocol': [
    denied('COPY vault FROM STDIN'),
    query('SELECT count(*) FROM vault'.replace('vault', 'note')),
  ],

  'COPY TO STDOUT from it': [denied('COPY vault TO STDOUT'), query('SELECT 1')],

  'COPY FROM STDIN in extended protocol, with its data pipelined behind it': [
    {
      write: (to, deny) => {
        extended(to, deny('COPY vault FROM STDIN'))
        encodeCopyData(to, Buffer.from('9\tmine\n'))
        encodeCopyDone(to)
        encodeSync(to)
      },
    },
    query('SELECT 1'),
  ],

  'a query pipelined behind CopyDone': [
    { write: (to) => encodeQuery(to, 'COPY note FROM STDIN'), until: { type: 'G', count: 1 } },
    {
      write: (to, deny) => {
        encodeCopyData(to, Buffer.from('500\tx\n'))
        encodeCopyDone(to)
        encodeQuery(to, deny('TABLE vault'))
        encodeQuery(to, 'SELECT id FROM note WHERE id = 500')
      },
      until: ready(3),
    },
  ],

  'a query pipelined behind CopyFail': [
    { write: (to) => encodeQuery(to, 'COPY note FROM STDIN'), until: { type: 'G', count: 1 } },
    {
      write: (to, deny) => {
        encodeCopyData(to, Buffer.from('501\tx\n'))
        encodeCopyFail(to, 'no more')
        encodeQuery(to, deny('TABLE vault'))
        encodeQuery(to, 'SELECT id FROM note WHERE id = 501')
      },
      until: ready(3),
    },
  ],

  'an extended statement pipelined behind CopyDone': [
    {
      write: (to) => {
        extended(to, 'COPY note FROM STDIN')
        encodeFlush(to)
      },
      until: { type: 'G', count: 1 },
    },
    {
      write: (to, deny) => {
        encodeCopyData(to, Buffer.from('502\tx\n'))
        encodeCopyDone(to)
        extended(to, deny('TABLE vault'))
        encodeSync(to)
        extended(to, 'SELECT id FROM note WHERE id = 502')
        encodeSync(to)
      },
      until: ready(2),
    },
  ],

  'an extended statement pipelined behind CopyFail': [
    {
      write: (to) => {
        extended(to, 'COPY note FROM STDIN')
        encodeFlush(to)
      },
      until: { type: 'G', count: 1 },
    },
    {
      write: (to, deny) => {
        encodeCopyFail(to, 'no')
        extended(to, deny('TABLE vault'))
        encodeSync(to)
        extended(to, deny('TABLE vault'))
        encodeSync(to)
        encodeQuery(to, 'SELECT 1')
      },
      until: ready(3),
    },
  ],

  'PREPARE of it, then EXECUTE': [
    denied('PREPARE gold AS TABLE vault'),
    query('EXECUTE gold'),
    query('SELECT 1'),
  ],

  'Close of a name whose Parse was refused': [
    {
      write: (to, deny) => {
        encodeParse(to, { name: 'gone', text: deny('TABLE vault') })
        encodeSync(to)
        encodeClose(to, 'statement', 'gone')
        encodeSync(to)
      },
      until: ready(2),
    },
  ],
}

interface Outcome {
  readonly lines: readonly string[]
  readonly refusals: readonly ReadonlyMap<string, string>[]
}

/** Runs a scenario; an error whose SQLSTATE says that it is the refused text reads `refused`. */
async function run(
  url: string,
  turns: readonly Turn[],
  refusedState: string,
  split = false,
): Promise<Outcome> {
  const client = await WireClient.connect(url)
  client.split = split
  const direct = refusedState === '42601'
  const deny = (sql: string): string =>
    direct ? `refused ${sql}` : sql.replace(/vault/, `vault /* ${marker} */`)
  const lines: string[] = []
  const refusals: ReadonlyMap<string, string>[] = []
  try {
    for (const [index, turn] of turns.entries()) {
      const answers = await client.exchange((to) => {
        turn.write(to, deny)
      }, turn.until)
      for (const answer of answers) lines.push(`${index} ${lineOf(answer, refusedState, refusals)}`)
    }
    if (client.closed) lines.push('closed')
  } finally {
    await client.close()
  }
  return { lines, refusals }
}

function lineOf(
  answer: Answer,
  refusedState: string,
  refusals: ReadonlyMap<string, string>[],
): string {
  if (answer.error?.get('C') !== refusedState) return `${answer.type} ${answer.text}`
  refusals.push(answer.error)
  return `${answer.type} refused`
}

const cleanUp = 'DELETE FROM note WHERE id >= 100'

describe('a refused statement leaves what a syntax error would leave:', () => {
  for (const [name, turns] of Object.entries(scenarios)) {
    it(name, async () => {
      const direct = await run(server.url(), turns, '42601')
      await execute(server, cleanUp)
      const through = await run(proxy.url('postgres', 'anna'), turns, '42501')
      await execute(server, cleanUp)
      expect(through.lines).toEqual(direct.lines)
      const bytewise = await run(proxy.url('postgres', 'anna'), turns, '42501', true)
      await execute(server, cleanUp)
      expect(bytewise.lines).toEqual(direct.lines)
      expect(through.refusals.length).toBe(direct.refusals.length)
      expect(through.refusals.length).toBeGreaterThan(0)
      for (const error of through.refusals) {
        expect(error.get('S')).toBe('ERROR')
        expect(error.get('M')).toBe('the vault is closed')
        expect(error.get('D')).toMatch(/conformance\.vault/)
        expect(error.get('D')).toMatch(/decision [0-9a-zA-Z-]{8,}/)
        expect(error.get('H')).toBe('Ask for something else.')
      }
    })
  }

  it('and no denied text reached the server', () => {
    const log = server.log()
    expect(log).toContain('regate_refused_')
    expect(log).not.toContain(marker)
  })
})

describe('a refusal at Execute', () => {
  it('of a statement that was parsed before: that Execute alone, and the statement lives', async () => {
    const turns = (value: string): Turn => ({
      write: (to) => {
        encodeBind(to, { portal: '', statement: 'half', parameters: [value] })
        encodeExecute(to, '')
        encodeSync(to)
      },
    })
    const scenario: readonly Turn[] = [
      {
        write: (to) => {
          encodeParse(to, {
            name: 'half', // Volatile: or the server would divide while it plans, at Bind.
            text: 'SELECT 10 / ($1::int + (random() * 0)::int)',
          })
          encodeSync(to)
        },
      },
      ...['2', '0', '5', '0'].map(turns),
      query('BEGIN'),
      ...['2', '0', '5'].map(turns),
      query('ROLLBACK'),
      turns('1'),
    ]
    // Directly the server refuses these by itself: division by zero.
    const direct = await run(server.url(), scenario, '22012')
    const executed = executedCount(server.log())
    const through = await run(proxy.url('postgres', 'anna'), scenario, '42501')
    expect(through.lines).toEqual(direct.lines)
    expect(through.refusals.map((error) => error.get('M'))).toEqual(
      Array(3).fill('this parameter is forbidden'),
    )
    // What was refused never ran; what an aborted transaction skips ran in neither.
    expect(executedCount(server.log()) - executed).toBe(executed - 3)
  })
})

function executedCount(log: string): number {
  return log.match(/execute half: SELECT 10/g)?.length ?? 0
}
