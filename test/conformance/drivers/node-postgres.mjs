// node-postgres: every feature once, a line each; run directly and through, the lines must be equal.
import { createHash } from 'node:crypto'
import pg from 'pg'

const say = (feature, result) => console.log(`${feature}\t${JSON.stringify(result)}`)
const md5 = (text) => createHash('md5').update(text).digest('hex')
const errorOf = async (promise) => {
  try {
    await promise
    return null
  } catch (e) {
    return [e.code, e.severity, e.message, e.constraint ?? null, e.position ?? null]
  }
}
const connect = async () => {
  const client = new pg.Client()
  await client.connect()
  return client
}

const db = await connect()
const simple = await db.query(
  `SELECT 1 AS a, 'ä€' AS b, NULL AS c, 3.14::numeric AS d, ARRAY[1,2] AS e, '{"a": 1}'::jsonb AS f`,
)
say('simple', [simple.rows, simple.fields.map((field) => [field.name, field.dataTypeID])])
say(
  'multi-statement',
  (await db.query('SELECT 1; SELECT 2')).map((result) => result.rows),
)
const prepared = []
for (let n = 0; n < 5; n++) {
  const { rows } = await db.query({
    name: 'p',
    text: 'SELECT $1::int * 2 AS n, $2::text AS t',
    values: [n, "it's"],
  })
  prepared.push(rows)
}
say('prepared', prepared)
const binary = await db.query({
  text: 'SELECT 7::int4 AS i, $1::bytea AS b, 2.5::float8 AS f',
  values: [Buffer.from([0, 1])],
  binary: true,
})
say('binary', binary.rows)
await db.query('DROP TABLE IF EXISTS drv; CREATE TABLE drv (id int PRIMARY KEY, body text)')
await db.query('BEGIN; DECLARE c SCROLL CURSOR FOR SELECT n FROM generate_series(1, 1000) n')
say('cursors', [
  (await db.query('FETCH 3 FROM c')).rows,
  (await db.query('MOVE 100 FROM c')).rowCount,
  (await db.query('FETCH BACKWARD 2 FROM c')).rows,
])
await db.query('COMMIT')
await db.query("BEGIN; INSERT INTO drv VALUES (1, 'x'); SAVEPOINT s")
const clash = await errorOf(db.query("INSERT INTO drv VALUES (1, 'again')"))
await db.query('ROLLBACK TO s')
await db.query('COMMIT')
say('transactions', [clash, (await db.query('SELECT id FROM drv')).rows])
const errors = []
for (const sql of ['SELEC 1', 'SELECT 1/0', 'SELECT * FROM nowhere', "SELECT 'ä' FROM"]) {
  errors.push(
    await errorOf(db.query(sql)),
    await errorOf(db.query({ text: sql, values: [], queryMode: 'extended' })),
  )
}
say('errors', errors)
const notices = []
db.on('notice', (notice) => notices.push([notice.severity, notice.message, notice.hint ?? null]))
await db.query(
  "DO $$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'careful' USING HINT = 'slow down'; END $$",
)
say('notices', notices)
const other = await connect()
await db.query('LISTEN news')
const heard = new Promise((resolve) => db.once('notification', resolve))
await other.query("SELECT pg_notify('news', 'extra')")
const { channel, payload, processId } = await heard
say('LISTEN/NOTIFY', [channel, payload, processId === other.processID])
const sleeping = errorOf(db.query('SELECT pg_sleep(20)'))
await new Promise((resolve) => setTimeout(resolve, 300))
const canceller = new pg.Connection({ stream: undefined })
canceller.on('connect', () => canceller.cancel(db.processID, db.secretKey))
canceller.on('error', () => undefined)
canceller.connect(Number(process.env.PGPORT), process.env.PGHOST)
say('cancel', await sleeping)
// The server signals twice; the second must not hit the next statement.
await new Promise((resolve) => setTimeout(resolve, 500))
const big = await db.query("SELECT repeat('x', 10000000) AS big")
const rows = await db.query({
  text: 'SELECT n, md5(n::text) FROM generate_series(1, 50000) n',
  rowMode: 'array',
})
say('large rows', [md5(big.rows[0].big), md5(JSON.stringify(rows.rows))])
const queued = await Promise.allSettled(
  [1, 0, 2].map((n) => db.query('SELECT 10 / $1::int AS n', [n])),
)
say(
  'pipelining',
  queued.map((result) => result.value?.rows ?? result.reason.code),
)
await db.query('DROP TABLE drv')
await Promise.all([db.end(), other.end()])
