/**
 * CPU of the audit for one statement (its decided and its ended record, one write), in µs:
 *   node scripts/run-ts.mjs bench/micro/audit.bench.ts
 * CPU time of the process, so that others on the machine count little; medians of seven rounds, with
 * the extremes. The members are those of a SELECT by pgbench, made as the session makes them.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import os from 'node:os'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FileAuditLog, type RecordMembers } from '../../src/audit/audit.ts'
import { ChainWriter, genesis } from '../../src/audit/chain.ts'
import { systemClock } from '../../src/core/core.ts'
import { endMembers, runMembers, sessionMembers } from '../../src/gate/gate.ts'
import { statementMembers } from '../../src/gate/record.ts'

const rounds = 7
// Long rounds: what the compiler of the engine does at first is over in a server within seconds.
const perRound = 50_000

const session = sessionMembers({
  ...{ id: '9f1c2d3e4f50', database: 'shop', clientAddress: '10.0.0.7' },
  identity: { subject: 'ann@example.com', user: 'ann', groups: ['agents'], method: 'oidc' },
})
const statement = statementMembers(
  {
    text: 'SELECT abalance FROM pgbench_accounts WHERE aid = 4711',
    ...{ statement: null, analysis: null, decision: null, plan: null, revision: 'r7' },
    ...{ fingerprint: '5b1d6c3f0a9e4472', refused: null },
  },
  'keep',
)

let count = 0
function decided(): RecordMembers {
  return runMembers(session, statement, {
    decisionId: `9f1c2d3e4f50-${count}`,
    cached: true,
    durationUs: 12,
    approval: null,
    refusedWith: null,
  })
}
function ended(): string {
  return endMembers('9f1c2d3e4f50', {
    decisionId: `9f1c2d3e4f50-${count}`,
    tag: 'SELECT 1',
    rowCount: 1,
    bytes: 24,
    sqlstate: null,
    durationUs: 310,
    fate: 'answered',
    result: null,
  })
}

function bench(name: string, statements: number, work: () => void): void {
  const results: number[] = []
  for (let round = -2; round < rounds; round++) {
    const began = process.cpuUsage()
    for (let n = 0; n < perRound; n += statements) work()
    const { user, system } = process.cpuUsage(began)
    if (round >= 0) results.push((user + system) / perRound)
  }
  results.sort((a, b) => a - b)
  const [fastest = 0, median = 0, slowest = 0] = [results[0], results[3], results[6]]
  console.log(
    `${name.padEnd(44)}${median.toFixed(2).padStart(6)} µs  (${fastest.toFixed(2)} … ${slowest.toFixed(2)})`,
  )
}

const directory = mkdtempSync(join(tmpdir(), 'regate-audit-bench-'))
const log = FileAuditLog.open({
  ...{ directory, worker: 'bench', fsync: 'batch', segmentBytesMax: 1 << 28, segmentMsMax: 1e9 },
  ...{ retainMs: 0, clock: systemClock, onNews: console.error },
})
console.log(`${os.cpus()[0]?.model ?? '?'}, Node ${process.version}`)
bench('members alone', 1, () => {
  count += decided() === ended() ? 1 : 0
})
const writer = new ChainWriter('bench')
let tail = genesis('bench')
bench('members, lines and hashes', 1, () => {
  count++
  const records = [
    { type: 'statement_decided', members: decided(), timeMs: Date.now() },
    { type: 'statement_ended', members: ended(), timeMs: Date.now() },
  ]
  tail = writer.lines(tail, records).tail
})
for (const statements of [1, 4]) {
  bench(`whole, a write every ${statements} statement(s)`, statements, () => {
    for (let n = 0; n < statements; n++) {
      count++
      log.append('statement_decided', decided())
      log.append('statement_ended', ended())
    }
    void log.commit()
  })
}
log.close()
rmSync(directory, { recursive: true })
