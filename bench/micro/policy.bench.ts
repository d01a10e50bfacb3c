/**
 * ns per operation of judging a statement, by the shipped pack:
 *   node scripts/run-ts.mjs bench/micro/policy.bench.ts
 * CPU time of this process, so that whoever else uses the cores counts little. Medians of nine
 * rounds, with the extremes. `judge` is input, evaluation and decoding together.
 */
import os from 'node:os'
import { defaultLimits } from '../../src/core/core.ts'
import { Judge, statementInput } from '../../src/policy/policy.ts'
import { SqlParser } from '../../src/sql/sql.ts'
import { analysisOf, factsOf, identityOf, session } from '../../test/policy/facts.ts'
import { loadPack } from '../../test/policy/pack.ts'

const rounds = 9

function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

function bench(name: string, operation: () => unknown): void {
  let repeats = 1
  for (;;) {
    const began = cpuMs()
    for (let index = 0; index < repeats; index++) operation()
    if (cpuMs() - began > 60) break
    repeats *= 2
  }
  const results: number[] = []
  for (let round = 0; round < rounds; round++) {
    const began = cpuMs()
    for (let index = 0; index < repeats; index++) operation()
    results.push(((cpuMs() - began) * 1e6) / repeats)
  }
  results.sort((a, b) => a - b)
  const [fastest = 0, median = 0, slowest = 0] = [results[0], results[4], results[8]]
  const numbers = [median, fastest, slowest].map((ns) => ns.toFixed(0).padStart(9)).join(' ')
  process.stdout.write(`${name.padEnd(44)}${numbers}\n`)
}

const parser = await SqlParser.create({ limits: defaultLimits })
const parsed = parser.parse(Buffer.from('SELECT abalance FROM pgbench_accounts WHERE aid = 4242'))
const statement = parsed.kind === 'parsed' ? parsed.statements[0] : undefined
if (statement === undefined) throw new Error('the statement does not parse')
const relation = 'pgbench_accounts'
const analysis = analysisOf({
  relations: [
    {
      schema: 'public',
      name: relation,
      kind: 'table',
      actions: ['select'],
      through: null,
      by_path: false,
    },
  ],
  columns: [
    { schema: 'public', relation, name: 'abalance', uses: ['output'], through: null },
    { schema: 'public', relation, name: 'aid', uses: ['filter'], through: null },
  ],
  outputs: [
    {
      index: 0,
      name: 'abalance',
      sources: [{ column: `public.${relation}.abalance`, via: 'direct' }],
    },
  ],
  filtered: true,
  unfiltered: false,
})

const pack = await loadPack()
process.stdout.write(`${os.cpus()[0]?.model ?? ''}, Node ${process.version}\n`)
process.stdout.write(`${'ns'.padEnd(44)}   median   fastest   slowest\n`)
for (const groups of [['agents'], ['engineers'], ['admins'], ['agents', 'engineers'], ['nobody']]) {
  const facts = factsOf(groups, {}, { statement, analysis })
  bench(`judge, ${groups.join(' and ')}`, () => pack.statement(facts))
}
const facts = factsOf(['agents'], {}, { statement, analysis })
const none = new Set<never>()
bench('input document alone', () => statementInput(facts, none, '0123456789abcdef'))
const input = statementInput(facts, none, '0123456789abcdef')
bench('evaluation alone', () => pack.evaluate('regate/statement/decision', input))
const judge = new Judge({ policy: pack, limits: defaultLimits })
judge.statement(facts)
bench('cached, same objects', () => judge.statement(facts))
bench('cached, another session', () => judge.statement({ ...facts, session: { ...session } }))
bench('cached, another session and identity', () =>
  judge.statement({ ...facts, session: { ...session }, identity: identityOf(['agents']) }),
)
void parser.close()
pack.close()
