/**
 * µs of CPU from a frame of the client to its admission, decision cached: the frame cut, looked up and
 * noted, its record made; without the sockets. `in the log` is the same with the records hashed and
 * written to a file, one write for each frame, which is what a client alone pays.
 *   node scripts/run-ts.mjs bench/micro/session.bench.ts [--rounds 11] [--only name]
 * CPU of the process, so that others on the machine count little; medians of the rounds with the
 * extremes. A round is pipelines of the client whose answers come later, and are not counted.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { FileAuditLog, noAudit, type AuditLog } from '../../src/audit/audit.ts'
import { defaultLimits, systemClock } from '../../src/core/core.ts'
import { Gate, sessionMembers } from '../../src/gate/gate.ts'
import { Judge } from '../../src/policy/policy.ts'
import { Session, TurnEnd, type SessionOptions } from '../../src/session/session.ts'
import { SqlParser } from '../../src/sql/sql.ts'
import {
  encodeBind,
  encodeExecute,
  encodeParse,
  encodeQuery,
  encodeSync,
  written,
} from '../../src/wire/wire.ts'
import { identityOf } from '../../test/policy/facts.ts'
import { loadPack } from '../../test/policy/pack.ts'
import { policyData } from '../load/contestants.ts'
import { benchCatalog } from './catalog.ts'

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '11' }, only: { type: 'string' } },
})
const rounds = Number(values.rounds)
const roundCount = 40
const pipelineCount = 500
const directory = mkdtempSync(join(tmpdir(), 'regate-session-bench-'))
const parser = await SqlParser.create({ limits: defaultLimits })
const pack = await loadPack(policyData({})['regate'] as Readonly<Record<string, unknown>>)
const hiding = await loadPack(policyData({})['regate'] as Readonly<Record<string, unknown>>)
Object.assign(hiding.declares, { constants: 'hidden' })
const file = FileAuditLog.open({
  ...{ directory, worker: 'w0', fsync: 'batch', retainMs: 0, clock: systemClock },
  ...{ segmentBytesMax: 64 * 1024 * 1024, segmentMsMax: 3_600_000, onNews: () => undefined },
})
const catalog = benchCatalog()
const identity = identityOf(['admins'])

/** A session whose event loop's turn ends when `end` is called. */
function sessionOf(
  policy: typeof pack,
  audit: AuditLog,
): { readonly session: Session; readonly end: () => void } {
  let decisions = 0
  let end: (() => void) | null = null
  const newDecisionId = (): string => `d${++decisions}`
  const onFault = (error: unknown): void => {
    throw error
  }
  const limits = defaultLimits
  const clock = systemClock
  const judge = new Judge({ policy, limits })
  const gate = new Gate({ parser, judge, limits, clock, newDecisionId, literals: 'keep', onFault })
  const turnEnd = new TurnEnd({
    ...{ audit, clock, durations: gate.statistics.audit },
    schedule: (work) => {
      end = work
    },
  })
  const settled = Promise.resolve()
  const options: SessionOptions = {
    ...{ id: 's1', gate, audit, turnEnd, limits, clock, newDecisionId, onFault, identity },
    catalog: {
      current: () => catalog,
      refresh: () => settled,
      recheck: () => null,
      outdated: false,
      outdate: () => undefined,
      overlay: () => Promise.reject(new Error('no overlay here')),
    },
    ...{ holds: null, maskKey: Buffer.alloc(32), clientAddress: '127.0.0.1', database: 'bench' },
    ...{ role: 'default', sessionUser: 'app', locked: new Set<string>() },
    parameters: new Map([['search_path', '"$user", public']]),
    members: sessionMembers({
      ...{ id: 's1', database: 'bench', clientAddress: '127.0.0.1', identity },
    }),
    cancelUpstream: () => settled,
  }
  const session = new Session(options, {
    toUpstream: () => undefined,
    toClient: () => undefined,
    terminated: () => undefined,
    failed: onFault,
    holdClient: () => undefined,
  })
  return {
    session,
    end: () => {
      const work = end
      end = null
      work?.()
    },
  }
}

const frame = (type: string, body: Buffer): Buffer => {
  const bytes = Buffer.alloc(5 + body.length)
  bytes.write(type, 'latin1')
  bytes.writeInt32BE(4 + body.length, 1)
  body.copy(bytes, 5)
  return bytes
}
const ready = frame('Z', Buffer.from('I'))
const complete = frame('C', Buffer.from('SELECT 0\0'))
const queryAnswer = Buffer.concat([complete, ready])
const executeAnswer = Buffer.concat([frame('2', Buffer.alloc(0)), complete, ready])
const sql = (n: number): string => `SELECT abalance FROM pgbench_accounts WHERE aid = ${n};`

function bench(
  name: string,
  policy: typeof pack,
  audit: AuditLog,
  ask: (n: number) => Buffer,
  answer: Buffer,
): void {
  if (values.only !== undefined && values.only !== name) return
  const { session, end } = sessionOf(policy, audit)
  const prepare = written((to) => {
    encodeParse(to, { name: 'p', text: sql(0) })
    encodeSync(to)
  })
  session.clientBytes(prepare)
  end()
  session.upstreamBytes(Buffer.concat([frame('1', Buffer.alloc(0)), ready]))
  let n = 0
  const cpuUs = (): number => {
    const { user, system } = process.cpuUsage()
    return user + system
  }
  const run = (): number => {
    let sumUs = 0
    for (let round = 0; round < roundCount; round++) {
      const frames = Array.from({ length: pipelineCount }, () => ask(n++))
      const began = cpuUs()
      for (const bytes of frames) {
        session.clientBytes(bytes)
        end()
      }
      sumUs += cpuUs() - began
      for (let count = 0; count < pipelineCount; count++) session.upstreamBytes(answer)
    }
    return sumUs / roundCount / pipelineCount
  }
  run()
  const results = Array.from({ length: rounds }, run).sort((a, b) => a - b)
  const [fastest = 0, median = 0, slowest = 0] = [results[0], results[rounds >> 1], results.at(-1)]
  console.log(
    `${name.padEnd(36)}${median.toFixed(2).padStart(8)} µs  (${fastest.toFixed(2)} … ${slowest.toFixed(2)})`,
  )
}

const same = written((to) => encodeQuery(to, sql(1)))
const execute = written((to) => {
  encodeBind(to, { portal: '', statement: 'p' })
  encodeExecute(to, '')
  encodeSync(to)
})
const distinct = (n: number): Buffer => written((to) => encodeQuery(to, sql(n)))
try {
  for (const [where, audit] of [['', noAudit] as const, [', in the log', file] as const]) {
    bench(`prepared${where}`, pack, audit, () => execute, executeAnswer)
    bench(`text judged before${where}`, pack, audit, () => same, queryAnswer)
    bench(`shape judged before${where}`, hiding, audit, distinct, queryAnswer)
  }
} finally {
  file.close()
  await parser.close()
  pack.close()
  hiding.close()
  rmSync(directory, { recursive: true, force: true })
}
