// postgres.js: every feature once, a line each; run directly and through, the lines must be equal.
import { createHash } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import postgres from 'postgres'

const say = (feature, result) => console.log(`${feature}\t${JSON.stringify(result)}`)
const md5 = (text) => createHash('md5').update(text).digest('hex')
const errorOf = async (promise) => {
  try {
    await promise
    return null
  } catch (e) {
    return [e.code, e.severity ?? null, e.message, e.constraint_name ?? null, e.position ?? null]
  }
}
const notices = []
const sql = postgres({
  max: 1,
  onnotice: (notice) => notices.push([notice.severity, notice.message, notice.hint ?? null]),
})
say(
  'simple',
  await sql`SELECT 1 AS a, 'ä€' AS b, NULL AS c, 3.14::numeric AS d, ARRAY[1,2] AS e, '{"a": 1}'::jsonb AS f`.simple(),
)
say('multi-statement', await sql`SELECT 1; SELECT 2`.simple())
const prepared = []
for (let n = 0; n < 5; n++)
  prepared.push(await sql`SELECT ${n}::int * 2 AS n, ${"it's"}::text AS t`)
say('prepared', prepared)
await sql`DROP TABLE IF EXISTS drv`
await sql`CREATE TABLE drv (id int PRIMARY KEY, body text)`
await pipeline(
  Readable.from(['1\tone\n2\t\\N\n', '3\tthree\\tx\n']),
  await sql`COPY drv FROM STDIN`.writable(),
)
say('COPY in', await sql`SELECT * FROM drv ORDER BY id`)
const chunks = []
for await (const chunk of await sql`COPY drv TO STDOUT CSV`.readable())
  chunks.push(chunk.toString())
say('COPY out', chunks.join(''))
let sum = 0
await sql`SELECT n FROM generate_series(1, 1000) n`.cursor(50, (rows) =>
  rows.forEach((row) => (sum += row.n)),
)
let seen = 0
await sql`SELECT n FROM generate_series(1, 1000) n`.cursor(10, () =>
  ++seen === 3 ? sql.CLOSE : undefined,
)
say('cursors', [sum, seen])
const clash = []
await sql.begin(async (tx) => {
  await tx`INSERT INTO drv VALUES (10, 'x')`
  clash.push(await errorOf(tx.savepoint((point) => point`INSERT INTO drv VALUES (1, 'again')`)))
})
clash.push(await errorOf(sql.begin((tx) => [tx`INSERT INTO drv VALUES (12, 'x')`, tx`SELECT 1/0`])))
say('transactions', [clash, await sql`SELECT id FROM drv ORDER BY id`])
const errors = []
for (const text of ['SELEC 1', 'SELECT 1/0', 'SELECT * FROM nowhere', "SELECT 'ä' FROM"]) {
  errors.push(
    await errorOf(sql.unsafe(text)),
    await errorOf(sql.unsafe(text, [], { prepare: true })),
  )
}
say('errors', errors)
notices.length = 0
await sql`DO $$ BEGIN RAISE NOTICE 'hello %', 1; RAISE WARNING 'careful' USING HINT = 'slow down'; END $$`
say('notices', notices)
let told
const heard = new Promise((resolve) => (told = resolve))
await sql.listen('news', (payload) => told(payload))
await sql.notify('news', 'extra')
say('LISTEN/NOTIFY', await heard)
const sleeping = sql`SELECT pg_sleep(20)`.execute()
setTimeout(() => sleeping.cancel(), 300)
say('cancel', await errorOf(sleeping))
// The server signals twice; the second must not hit the next statement.
await new Promise((resolve) => setTimeout(resolve, 500))
const [{ big }] = await sql`SELECT repeat('x', 10000000) AS big`
say('large rows', [
  md5(big),
  md5(JSON.stringify(await sql`SELECT n, md5(n::text) FROM generate_series(1, 50000) n`)),
])
const piped = await Promise.allSettled(
  Array.from({ length: 50 }, (_, n) => sql`SELECT 10 / ${n % 10}::int AS n`),
)
say(
  'pipelining',
  piped.map((result) => result.value?.[0].n ?? result.reason.code),
)
await sql`DROP TABLE drv`
await sql.end()
