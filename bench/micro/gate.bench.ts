/**
 * µs of CPU to judge a statement, from the bytes of its text to the admission, and its parts:
 *   node scripts/run-ts.mjs bench/micro/gate.bench.ts [--only name] [--seconds 2]
 * The shipped pack, pgbench's tables, an engineer who may read all. Every text of `distinct` is new,
 * so its memory is what production pays too: caches fill, the garbage collector works. CPU of the
 * whole process (its collector's and compiler's threads included), so that others on the machine
 * count little; medians of seven rounds with the extremes.
 */
import { parseArgs } from 'node:util'
import { defaultLimits, systemClock } from '../../src/core/core.ts'
import { Gate, type JudgeContext } from '../../src/gate/gate.ts'
import { Judge, type Policy, statementInput, type StatementFacts } from '../../src/policy/policy.ts'
import { analyse, shapeOf, SqlParser, type ParsedStatement } from '../../src/sql/sql.ts'
import { identityOf, session } from '../../test/policy/facts.ts'
import { loadPack } from '../../test/policy/pack.ts'
import { benchCatalog } from './catalog.ts'
import { policyData } from '../load/contestants.ts'

const { values } = parseArgs({
  options: { only: { type: 'string' }, seconds: { type: 'string', default: '1' } },
})
const rounds = 7
const roundUs = Number(values.seconds) * 1e6

function cpuUs(): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** Runs at least `roundUs` a round; `operation` gets a number that it has not had before. */
function bench(name: string, operation: (n: number) => unknown): void {
  if (values.only !== undefined && !name.includes(values.only)) return
  let n = 0
  const run = (): number => {
    const began = cpuUs()
    const first = n
    do {
      for (let count = 0; count < 100; count++) operation(n++)
    } while (cpuUs() - began < roundUs)
    return (cpuUs() - began) / (n - first)
  }
  run()
  const results = Array.from({ length: rounds }, run).sort((a, b) => a - b)
  const [fastest = 0, median = 0, slowest = 0] = [results[0], results[rounds >> 1], results.at(-1)]
  console.log(
    `${name.padEnd(44)}${median.toFixed(2).padStart(9)} µs  (${fastest.toFixed(2)} … ${slowest.toFixed(2)})`,
  )
}

const parser = await SqlParser.create({ limits: defaultLimits })
const catalog = benchCatalog()
const identity = identityOf(['admins'])
const context: JudgeContext = {
  key: JSON.stringify([identity, session, 'the rest of a real key', 'x'.repeat(200)]),
  ...{ protocol: 'simple', identity, session, catalog },
  facts: {
    searchPath: ['pg_catalog', 'public'],
    role: 'app',
    temporarySchema: null,
    prepared: () => undefined,
    cursor: () => undefined,
  },
  locked: new Set(),
  approval: null,
  volatile: () => null,
}

function gateOf(policy: Policy): Gate {
  let decisions = 0
  return new Gate({
    parser,
    judge: new Judge({ policy, limits: defaultLimits }),
    limits: defaultLimits,
    clock: systemClock,
    newDecisionId: () => `d${++decisions}`,
    literals: 'keep',
    onFault: (error) => {
      throw error
    },
  })
}

const selectOf = (n: number): Buffer =>
  Buffer.from(`SELECT abalance FROM pgbench_accounts WHERE aid = ${n};`)

function judged(gate: Gate, text: Buffer): void {
  const verdict = gate.judgeText(text, context)
  if (verdict.kind !== 'admitted') throw new Error(`${verdict.kind}: ${text.toString()}`)
}

const data = policyData({})['regate'] as Readonly<Record<string, unknown>>
const pack = await loadPack(data)
const gate = gateOf(pack)
bench('text judged before', () => {
  judged(gate, selectOf(1))
})
const hidingPack = await loadPack(data)
Object.assign(hidingPack.declares, { constants: 'hidden' })
const hiding = gateOf(hidingPack)
bench('shape judged before, texts distinct', (n) => {
  judged(hiding, selectOf(n))
})
bench('texts distinct', (n) => {
  judged(gate, selectOf(n))
})
bench('  its scan alone: shape', (n) => shapeOf(selectOf(n)))
const parse = (n: number): ParsedStatement => {
  const parsed = parser.parse(selectOf(n))
  const [statement] = parsed.kind === 'parsed' ? parsed.statements : []
  if (statement === undefined) throw new Error('does not parse')
  return statement
}
bench('  its parse', parse)
const tools = { parse: () => null, parsePlpgsql: () => null }
const analysed = (n: number): StatementFacts => {
  const statement = parse(n)
  return {
    ...{ statement, analysis: analyse(statement, catalog, context.facts, tools) },
    ...{ identity, session, protocol: 'simple', approval: null, volatile: null },
  }
}
bench('  its parse and analysis', analysed)
const none = new Set<never>()
bench('  its parse, analysis and input', (n) =>
  statementInput(analysed(n), none, '0123456789abcdef'),
)
bench('  its parse, analysis and evaluation', (n) => pack.statement(analysed(n)))
await parser.close()
pack.close()
hidingPack.close()
