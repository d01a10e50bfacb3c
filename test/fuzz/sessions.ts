/**
 * Random sessions: messages of the protocol in any order, with statements that end transactions, make and
 * drop names, copy, fail. The same bytes go to PostgreSQL and through regate; what comes back is shown as
 * lines that must be equal. PostgreSQL alone says what is right.
 */
import type { Socket } from 'node:net'
import pg from 'pg'
import {
  backendTypes,
  decodeErrorOrNotice,
  decodeRowDescription,
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
  FrameReader,
  written,
  type ByteWriter,
} from '../../src/wire/wire.ts'
import type { Random } from './random.ts'

/** One message: how it is written, and how it is shown where a case failed. */
export interface Step {
  readonly shown: string
  /** `denied` is the text in the place of a statement that the policy refuses. */
  readonly write: (to: ByteWriter, denied: string) => void
}

/** Messages that are written in one piece, each batch after a moment or behind the answers to the last. */
export type Case = readonly (readonly Step[])[]

/** What both databases have. */
export const schema = `
  CREATE TABLE t (a int PRIMARY KEY, b text);
  INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 5) n;
  CREATE TABLE vault (id int PRIMARY KEY, gold text);
  INSERT INTO vault VALUES (1, 'bar');
  CREATE TABLE late (a int REFERENCES t DEFERRABLE INITIALLY DEFERRED);
  CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
`

/** Run by the server's owner before each case, so that cases do not see each other. */
export const reset = `
  DROP TABLE IF EXISTS made; TRUNCATE t, late;
  INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 5) n
`

const single: readonly string[] = [
  'SELECT 1 AS one',
  'SELECT a, b FROM t ORDER BY a',
  'SELECT a, b FROM t ORDER BY a',
  'SELECT generate_series(1, 4)',
  'SELECT $1::int + 1',
  'SELECT $1, $2',
  "INSERT INTO t VALUES (floor(random() * 0)::int + 10, 'new') ON CONFLICT DO NOTHING",
  "INSERT INTO t VALUES (11, 'new') RETURNING a, b",
  "UPDATE t SET b = 'other' WHERE a = 1",
  'DELETE FROM t WHERE a = 2 RETURNING *',
  'INSERT INTO late VALUES (99)',
  'SET CONSTRAINTS ALL IMMEDIATE',
  'BEGIN',
  'BEGIN',
  'COMMIT',
  'ROLLBACK',
  'COMMIT AND CHAIN',
  'SAVEPOINT s',
  'ROLLBACK TO s',
  'RELEASE s',
  "PREPARE TRANSACTION 'never'",
  'SELECT 1 / 0',
  'SELECT 1 / (a - 3) FROM t ORDER BY a',
  'SELEC',
  'SELECT nothing FROM nowhere',
  '',
  '  ',
  '-- nothing',
  'PREPARE s1 AS SELECT 11',
  'PREPARE s2 AS SELECT a FROM t WHERE a = $1',
  'DEALLOCATE s1',
  'DEALLOCATE ALL',
  'EXECUTE s1',
  'EXECUTE s2 (3)',
  'DECLARE p1 CURSOR FOR SELECT a FROM t ORDER BY a',
  'DECLARE p2 CURSOR WITH HOLD FOR SELECT a FROM t ORDER BY a',
  'FETCH 2 FROM p1',
  'FETCH ALL FROM p2',
  'MOVE 1 FROM p1',
  'CLOSE p1',
  'COPY t FROM STDIN',
  'COPY t FROM STDIN',
  'COPY t TO STDOUT',
  'COPY (SELECT 1 / (a - 3) FROM t ORDER BY a) TO STDOUT',
  "SET application_name = 'fuzz'",
  'SET search_path = pg_catalog, public',
  'SET LOCAL search_path = pg_catalog, public',
  'RESET search_path',
  'SHOW search_path',
  'DISCARD ALL',
  "DO $$ BEGIN RAISE NOTICE 'noticed'; END $$",
  'LISTEN c',
  "NOTIFY c, 'payload'",
  'CREATE TEMP TABLE tt (x int)',
  'SELECT * FROM tt',
  'DROP TABLE tt',
  'CREATE TABLE made (x int)',
  'SELECT * FROM made',
  'DROP TABLE made',
  'VACUUM t',
  'SET TRANSACTION READ ONLY',
  'EXPLAIN (COSTS OFF) SELECT 1',
]

const strings: readonly string[] = [
  'SELECT 1; SELECT 2',
  'SELECT 1; SELECT 1 / 0; SELECT 3',
  'BEGIN; SELECT 1',
  'BEGIN; SELECT 1 / 0; COMMIT',
  'COMMIT; BEGIN',
  "INSERT INTO t VALUES (20, 'x'); SELECT 1 / 0",
  'COPY t FROM STDIN; SELECT 5',
  'COPY t FROM STDIN; COPY t FROM STDIN',
  'SELECT 1; COPY t TO STDOUT; SELECT 2',
  ';',
  ';;SELECT 1;;',
  'SELECT 1; COMMIT; SELECT 2',
  'SAVEPOINT s; SELECT 1',
  'PREPARE s1 AS SELECT 12; EXECUTE s1',
  // In the extended protocol PostgreSQL 18 stumbles over itself behind the first, and keeps a portal that
  // runs the second where regate forgets it.
  'CALL commits()',
  'CLOSE ALL',
]

const denied: readonly string[] = [
  'SELECT gold FROM vault',
  'DELETE FROM vault WHERE id = 1',
  'COPY vault TO STDOUT',
]

const statements = ['', '', 's1', 's2']
const portals = ['', '', 'p1', 'p2']

/** A denied text, or the one in its place. */
function refusable(random: Random, text: string, percent: number): [string, boolean] {
  return random.chance(percent) ? [random.pick(denied), true] : [text, false]
}

/** A message of any kind. */
function step(random: Random): Step {
  const at = random.below(100)
  if (at < 24) {
    const [text, refused] = refusable(random, random.pick([...single, ...strings]), 8)
    return {
      shown: `Query ${JSON.stringify(text)}`,
      write: (to, other) => {
        encodeQuery(to, refused ? other || text : text)
      },
    }
  }
  if (at < 40) {
    const name = random.pick(statements)
    const [text, refused] = refusable(random, random.pick(single), 8)
    const parameterTypes = random.chance(20) ? [23] : []
    return {
      shown: `Parse ${JSON.stringify([name, text, parameterTypes])}`,
      write: (to, other) => {
        encodeParse(to, { name, text: refused ? other || text : text, parameterTypes })
      },
    }
  }
  if (at < 55) return bind(random)
  if (at < 61) {
    const target = random.pick(['statement', 'portal'] as const)
    const name = random.pick(target === 'statement' ? statements : portals)
    return {
      shown: `Describe ${target} ${name}`,
      write: (to) => {
        encodeDescribe(to, target, name)
      },
    }
  }
  if (at < 75) {
    const name = random.pick(portals)
    const limit = random.pick([0, 0, 1, 2])
    return {
      shown: `Execute ${name} ${limit}`,
      write: (to) => {
        encodeExecute(to, name, limit)
      },
    }
  }
  if (at < 79) {
    const target = random.pick(['statement', 'portal'] as const)
    const name = random.pick(target === 'statement' ? statements : portals)
    return {
      shown: `Close ${target} ${name}`,
      write: (to) => {
        encodeClose(to, target, name)
      },
    }
  }
  if (at < 82) return { shown: 'Flush', write: encodeFlush }
  if (at < 91) return { shown: 'Sync', write: encodeSync }
  return copyStep(random)
}

function bind(random: Random): Step {
  const portal = random.pick(portals)
  const statement = random.pick(statements)
  const parameters = random.pick([[], [], ['1'], ['x'], ['1', '2']])
  const resultFormats = random.pick([[], [], [0], [1]])
  return {
    shown: `Bind ${JSON.stringify([portal, statement, parameters, resultFormats])}`,
    write: (to) => {
      encodeBind(to, {
        ...{ portal, statement, resultFormats },
        parameters: parameters.map((value) => Buffer.from(value)),
      })
    },
  }
}

function copyStep(random: Random): Step {
  const kind = random.below(5)
  if (kind < 3) {
    const data = random.pick(['30\tcopied\n', 'not a row\n', '', '31\tco', 'pied\n'])
    return {
      shown: `CopyData ${JSON.stringify(data)}`,
      write: (to) => {
        encodeCopyData(to, Buffer.from(data))
      },
    }
  }
  if (kind === 3) return { shown: 'CopyDone', write: encodeCopyDone }
  return {
    shown: 'CopyFail',
    write: (to) => {
      encodeCopyFail(to, 'enough')
    },
  }
}

/** So often something that is whole: messages that fit, rather than any. */
function cycle(random: Random): Step[] {
  const name = random.pick(statements)
  const portal = random.pick(portals)
  const [text, refused] = refusable(random, random.pick(single), 8)
  const formats = random.pick([[], [1]])
  const steps: Step[] = [
    {
      shown: `Parse ${JSON.stringify([name, text])}`,
      write: (to, other) => {
        encodeParse(to, { name, text: refused ? other || text : text })
      },
    },
    {
      shown: `Bind ${JSON.stringify([portal, name, formats])}`,
      write: (to) => {
        encodeBind(to, { portal, statement: name, resultFormats: formats })
      },
    },
  ]
  const limit = random.pick([0, 0, 1])
  if (random.chance(50)) {
    steps.push({
      shown: `Describe portal ${portal}`,
      write: (to) => {
        encodeDescribe(to, 'portal', portal)
      },
    })
  }
  steps.push({
    shown: `Execute ${portal} ${limit}`,
    write: (to) => {
      encodeExecute(to, portal, limit)
    },
  })
  if (text.startsWith('COPY') && text.includes('STDIN')) {
    for (let left = random.below(3); left > 0; left--) steps.push(copyStep(random))
    steps.push({ shown: 'CopyDone', write: encodeCopyDone })
  }
  if (random.chance(80)) steps.push({ shown: 'Sync', write: encodeSync })
  return steps
}

export function randomCase(random: Random): Case {
  const batches: Step[][] = []
  for (let left = 1 + random.below(5); left > 0; left--) {
    const batch: Step[] = []
    for (let more = 1 + random.below(6); more > 0; more--) {
      if (random.chance(35)) batch.push(...cycle(random))
      else batch.push(step(random))
    }
    batches.push(batch)
  }
  return batches
}

const end = 'the end of the case'
const answerMsMax = 20_000

/** Runs the case on a connection of its own and shows what came, one line for each message. */
export async function play(
  url: string,
  batches: Case,
  { other, pauseMs }: { readonly other: string; readonly pauseMs: number },
): Promise<string[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  // pg has no public way to its socket.
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
  const answers = new Answers(stream)
  for (const batch of batches) {
    stream.write(
      written((to) => {
        for (const { write } of batch) write(to, other)
      }),
    )
    if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
  stream.write(
    written((to) => {
      encodeCopyFail(to, 'end')
      encodeCopyFail(to, 'end')
      encodeSync(to)
      encodeQuery(to, 'ROLLBACK')
      encodeQuery(to, `SELECT '${end}'`)
    }),
  )
  const lines = await answers.untilEnd()
  stream.destroy()
  return lines
}

class Answers {
  readonly #reader = new FrameReader({ frameBytesMax: 64 * 1024 * 1024 })
  readonly #lines: string[] = []
  #ended = false
  #closed = false
  #wake: () => void = () => undefined

  constructor(socket: Socket) {
    socket.removeAllListeners('data')
    socket.on('data', (chunk: Buffer) => {
      this.#reader.push(chunk)
      while (this.#reader.next() === 'frame') this.#frame()
      this.#wake()
    })
    for (const event of ['close', 'end', 'error']) {
      socket.on(event, () => {
        this.#closed = true
        this.#wake()
      })
    }
  }

  async untilEnd(): Promise<string[]> {
    const deadline = Date.now() + answerMsMax
    while (!this.#ended && !this.#closed) {
      const left = deadline - Date.now()
      if (left <= 0) return [...this.#lines, 'no answer']
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left)
        this.#wake = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
    return this.#ended ? this.#lines : [...this.#lines, 'closed']
  }

  #frame(): void {
    const { type, buffer, start, end: last } = this.#reader
    const letter = String.fromCharCode(type)
    if (type === backendTypes.ErrorResponse || type === backendTypes.NoticeResponse) {
      const fields = decodeErrorOrNotice(this.#reader)
      const shown = ['V', 'C', 'M', 'D', 'H', 'P'].map((key) => fields.get(key) ?? '')
      this.#lines.push(`${letter} ${shown.join(' · ')}`)
      return
    }
    if (type === backendTypes.RowDescription) {
      const fields = decodeRowDescription(this.#reader)
      // Oids of what a case makes differ.
      this.#lines.push(`T ${JSON.stringify(fields.map((field) => ({ ...field, relation: 0 })))}`)
      return
    }
    // The process differs.
    const from = type === backendTypes.NotificationResponse ? start + 9 : start + 5
    const text = buffer.toString('latin1', from, last).replaceAll(/[^ -~]+/g, '~')
    this.#lines.push(`${letter} ${text}`)
    if (type === backendTypes.DataRow && text.includes(end)) this.#ended = true
  }
}

/**
 * Where the two differ: null where they do not. The refusal, and the syntax error in its place on the other
 * side, are the same. A message that has no place in COPY FROM STDIN ends both: PostgreSQL where it reads it,
 * regate where it comes, also where the COPY has failed meanwhile.
 */
export function difference(direct: readonly string[], through: readonly string[]): number | null {
  const ended = through.findIndex((line) => line.startsWith('E FATAL · 08P01 · unexpected message'))
  const count = ended < 0 ? Math.max(direct.length, through.length) : ended
  for (let at = 0; at < count; at++) {
    const lost = / · 08P01 · unexpected message type .* COPY/.test(direct[at] ?? '')
    // A server that ends with messages unread resets the connection: its last lines may never come.
    if (ended >= 0 && (lost || direct[at] === 'closed')) return null
    if (leveled(direct[at]) !== leveled(through[at])) return at
  }
  return null
}

function leveled(line: string | undefined): string | undefined {
  return line !== undefined && refused.test(line) ? 'E refused' : line
}

const refused = /^E ERROR · (42501 · |42601 · syntax error at or near "denied_here")/
