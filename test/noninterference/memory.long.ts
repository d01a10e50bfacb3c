/**
 * What masking a long result costs (`npm run test:memory`, needs `npm run build`):
 *   npm run test:memory -- --rows 10000000 --rounds 1000000
 * One result of `--rows` rows of ten columns, one text column redacted, read as fast as it comes: the
 * memory of regate must not grow with it. Then `--rounds` rows masked and unmasked in turn, in text
 * and in binary: CPU time of regate per row, so that others on the machine count little.
 * Exit code 1 where the memory grows or a value is shown.
 */
import type { Socket } from 'node:net'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { encodeBind, encodeExecute, encodeParse, encodeSync, written } from '../../src/wire/wire.ts'
import { cpuUsOf, residentBytesOf } from '../../bench/load/measure.ts'
import { startPostgres } from '../support/postgres.ts'
import { serveProxy, type ProxyChild } from '../support/proxy.ts'

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '10000000' },
    rounds: { type: 'string', default: '1000000' },
  },
})
/** Growth beyond the first tenth of the result that counts as flat: a garbage collector breathes. */
const growthBytesMax = 64 * 1024 * 1024
const secret = 'S3CR3T'
const wide = `CREATE TABLE wide AS SELECT g AS c0, 'name ' || g AS c1, g * 2 AS c2, 'city ' || g % 100 AS c3,
  g % 7 AS c4, '${secret}-' || g AS c5, g::numeric / 4 AS c6, 'note ' || g AS c7, g % 2 = 0 AS c8,
  now() AS c9 FROM generate_series(1, 100000) g`

interface Reading {
  readonly rows: number
  readonly bytes: number
  readonly shown: boolean
}

/** Reads one result and keeps nothing of it. `watch` is called with the bytes so far. */
async function read(
  url: string,
  rows: number,
  format: 0 | 1,
  watch: (bytes: number) => void = () => undefined,
): Promise<Reading> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection
  stream.removeAllListeners('data')
  const text = `SELECT wide.* FROM wide, generate_series(1, ${rows / 100_000})`
  let bytes = 0
  let shown = false
  let tail = Buffer.alloc(0)
  const done = new Promise<void>((resolve, reject) => {
    stream.once('close', () => reject(new Error('the session ended before the result')))
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      const joined = Buffer.concat([tail, chunk])
      // Looking at every byte would make the client the slowest: at the first of each chunk it is.
      shown ||= joined.subarray(0, 4_096).includes(secret)
      tail = Buffer.from(joined.subarray(-300))
      watch(bytes)
      if (tail.subarray(-6).equals(Buffer.from([0x5a, 0, 0, 0, 5, 0x49]))) resolve()
    })
  })
  stream.write(
    written((out) => {
      encodeParse(out, { name: '', text })
      encodeBind(out, { portal: '', statement: '', resultFormats: [format] })
      encodeExecute(out, '')
      encodeSync(out)
    }),
  )
  await done
  stream.destroy()
  const end = tail.toString('latin1')
  const count = Number(/SELECT (\d+)/.exec(end)?.[1])
  if (Number.isNaN(count)) throw new Error(`the result ended otherwise: ${JSON.stringify(end)}`)
  return { rows: count, bytes, shown }
}

async function memory(proxy: ProxyChild, url: string, rows: number): Promise<boolean> {
  const pid = proxy.child.pid ?? null
  const seen: { bytes: number; resident: number }[] = []
  let next = 0
  const {
    rows: got,
    bytes,
    shown,
  } = await read(url, rows, 0, (sofar) => {
    if (sofar < next) return
    next = sofar + 4 * 1024 * 1024
    seen.push({ bytes: sofar, resident: residentBytesOf(pid) ?? 0 })
  })
  const most = (from: number, to: number): number =>
    Math.max(
      ...seen
        .filter((one) => one.bytes >= from * bytes && one.bytes <= to * bytes)
        .map(({ resident }) => resident),
    )
  const megabytes = (value: number): string => `${Math.round(value / 1024 / 1024)} MiB`
  const tenths = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => most(n / 10, (n + 1) / 10))
  console.log(`${got} rows masked, ${megabytes(bytes)}; resident at most, by tenth of the result:`)
  console.log(tenths.map(megabytes).join(', '))
  const grown = Math.max(...tenths.slice(1)) - (tenths[0] ?? 0)
  if (shown) console.log('LEAK: a value came through')
  if (grown > growthBytesMax) console.log(`GROWS by ${megabytes(grown)}`)
  return got === rows && !shown && grown <= growthBytesMax
}

async function cost(proxy: ProxyChild, urls: readonly string[], rows: number): Promise<void> {
  for (const format of [0, 1] as const) {
    const costs: number[][] = [[], []]
    for (let round = 0; round < 5; round += 1) {
      for (const [index, url] of urls.entries()) {
        const pid = proxy.child.pid ?? null
        const before = cpuUsOf(pid) ?? 0
        await read(url, rows, format)
        costs[index]?.push(((cpuUsOf(pid) ?? 0) - before) / rows)
      }
    }
    const figures = costs.map((each) => each.sort((a, b) => a - b))
    const [masked = [], open = []] = figures
    const show = (each: readonly number[]): string =>
      `${each[2]?.toFixed(3)} µs (${each[0]?.toFixed(3)} … ${each[4]?.toFixed(3)})`
    const share = ((open[2] ?? 0) / (masked[2] ?? 1)).toFixed(2)
    console.log(
      `${format === 0 ? 'text' : 'binary'}: CPU per row masked ${show(masked)}, unmasked ` +
        `${show(open)}; rows per CPU second masked over unmasked: ${share}`,
    )
  }
}

const server = await startPostgres({ settings: { log_statement: 'none' } })
try {
  const setup = new pg.Client({ connectionString: server.url() })
  await setup.connect()
  await setup.query(wide)
  await setup.end()
  const reads = { read: ['*'], unmask: [] as string[], infer: false }
  const columns = { 'public.wide.c5': { class: 'pii', mask: { kind: 'redact' } } }
  const groups = { readers: reads, staff: { ...reads, unmask: ['pii'] } }
  const proxy = await serveProxy(server, {
    data: { regate: { groups, columns } },
    users: { agent: { groups: ['readers'] }, staff: { groups: ['staff'] } },
  })
  try {
    const [agent, staff] = [proxy.url('postgres', 'agent'), proxy.url('postgres', 'staff')]
    const open = await read(staff, 100_000, 0)
    if (!open.shown) throw new Error('the unmasked group sees no value: the test proves nothing')
    await read(agent, 100_000, 0)
    if (!(await memory(proxy, agent, Number(values.rows)))) process.exitCode = 1
    await cost(proxy, [agent, staff], Number(values.rounds))
  } finally {
    await proxy.stop()
  }
} finally {
  await server.stop()
}
