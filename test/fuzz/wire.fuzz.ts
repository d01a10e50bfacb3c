/**
 * The wire fuzzer: `npm run test:fuzz -- --seconds 600 --seed 1`. Seeded, so a run can be repeated.
 * An input that breaks a property (check.ts) is saved to crashers/, where the test suite finds it.
 */
import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { check } from './check.ts'
import { Random } from './random.ts'
import { input, surfaces, type Surface } from './streams.ts'

export interface FuzzOptions {
  readonly seed: number
  readonly seconds?: number
  readonly executions?: number
}

export interface Crasher {
  readonly surface: Surface
  readonly bytes: Buffer
  readonly cuts: readonly number[]
  readonly error: Error
}

export interface FuzzResult {
  readonly executions: number
  readonly bytes: number
  readonly slowestMs: number
  readonly crashers: readonly Crasher[]
}

/** Runs until the time or the executions are used up, or ten crashers were found. */
export function fuzz(options: FuzzOptions): FuzzResult {
  const random = new Random(options.seed)
  const executionsMax = options.executions ?? Number.POSITIVE_INFINITY
  const endMs = performance.now() + (options.seconds ?? Number.POSITIVE_INFINITY) * 1000
  const crashers: Crasher[] = []
  let executions = 0
  let bytesRead = 0
  let slowestMs = 0
  while (executions < executionsMax && crashers.length < 10) {
    const startMs = performance.now()
    if (startMs > endMs) break
    const surface = surfaces[executions % surfaces.length]!
    const bytes = input(random, surface)
    const cuts = Array.from({ length: random.below(6) }, () => random.below(bytes.length + 1))
    cuts.sort((a, b) => a - b)
    try {
      check(surface, bytes, cuts)
    } catch (error) {
      crashers.push({ surface, bytes, cuts, error: error as Error })
    }
    executions++
    bytesRead += bytes.length
    slowestMs = Math.max(slowestMs, performance.now() - startMs)
  }
  return { executions, bytes: bytesRead, slowestMs, crashers }
}

function save(crasher: Crasher): string {
  const hash = createHash('sha256').update(crasher.bytes).digest('hex').slice(0, 12)
  const file = new URL(`crashers/${crasher.surface}-${hash}.json`, import.meta.url)
  const { surface, bytes, cuts, error } = crasher
  const record = { surface, bytes: bytes.toString('hex'), cuts, error: String(error) }
  writeFileSync(file, `${JSON.stringify(record, null, 2)}\n`)
  return file.pathname
}

function main(): void {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string', default: String(Date.now() & 0x7fff_ffff) },
    },
  })
  const [seconds, seed] = [Number(values.seconds), Number(values.seed)]
  console.log(`wire fuzzer: ${seconds} s, seed ${seed}`)
  const result = fuzz({ seconds, seed })
  for (const crasher of result.crashers) {
    console.error(`${crasher.error.stack ?? crasher.error.message}\nsaved: ${save(crasher)}`)
  }
  const megabytes = (result.bytes / 1e6).toFixed(1)
  console.log(
    `${result.executions} executions, ${megabytes} MB, slowest ${result.slowestMs.toFixed(1)} ms, ${result.crashers.length} crashers`,
  )
  process.exitCode = result.crashers.length === 0 ? 0 : 1
}

if (pathToFileURL(process.argv[1] ?? '').href === import.meta.url) main()
