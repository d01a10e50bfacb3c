/** The decision cache and the evaluation thread: never a decision for other facts, never a hang. */
import { cpSync, mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits, ProxyError } from '../../src/core/core.ts'
import {
  EvaluationPending,
  LateAnswers,
  Judge,
  Policy,
  type Judgement,
  type StatementFacts,
  type VolatileInputs,
} from '../../src/policy/policy.ts'
import { analysisOf, factsOf, identityOf, session, statementOf } from './facts.ts'
import { buildDirectory, packDirectory, readPack } from './pack.ts'

let scratch: string
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'regate-judge-test-'))
})
afterAll(() => {
  rmSync(scratch, { recursive: true, force: true })
})

/** A policy whose statement rule is the given Rego, with METADATA lines of `custom.regate`. */
async function policyOf(
  rule: string,
  custom: readonly string[] = [],
  over: Partial<typeof defaultLimits> = {},
): Promise<Policy> {
  const directory = mkdtempSync(join(scratch, 'policy-'))
  cpSync(join(packDirectory, '.manifest'), join(directory, '.manifest'))
  for (const name of ['connect', 'statement'])
    mkdirSync(join(directory, 'regate', name), { recursive: true })
  writeFileSync(
    join(directory, 'regate', 'connect', 'connect.rego'),
    'package regate.connect\n\ndecision := {"action": "allow"}\n',
  )
  const metadata = [
    '# METADATA',
    '# entrypoint: true',
    '# custom:',
    '#   regate:',
    ...custom.map((line) => `#     ${line}`),
  ]
  writeFileSync(
    join(directory, 'regate', 'statement', 'statement.rego'),
    `package regate.statement\n\n${custom.length === 0 ? '' : `${metadata.join('\n')}\n`}${rule}\n`,
  )
  const bundle = await readPack(await buildDirectory(directory))
  return Policy.load(bundle, { limits: { ...defaultLimits, ...over } })
}

const judgeOf = (policy: Policy): Judge => new Judge({ policy, limits: defaultLimits })
const volatileOf = (over: Partial<VolatileInputs> = {}): VolatileInputs => ({
  nowMs: () => Date.UTC(2026, 0, 5, 12, 30),
  parameters: null,
  sessionId: 's1',
  clientAddress: '127.0.0.1',
  estimate: null,
  ...over,
})

describe('the decision cache', () => {
  /** Echoes everything it can see into the reason, so that a wrong hit is visible. */
  const echo =
    'decision := {"action": "allow", "reason": json.marshal([input.statement.text, input.statement.index, input.statement.count, input.statement.protocol, input.access, input.identity, input.session, input.approval, input.parameters, input.time, input.estimate])}'

  it('never answers for facts that differ in anything the policy sees', async () => {
    const judge = judgeOf(await policyOf(echo))
    const analysis = analysisOf()
    const base = factsOf(['a'], {}, { analysis })
    const variants: readonly Partial<StatementFacts>[] = [
      {},
      { statement: statementOf('SELECT 2') },
      { statement: { ...statementOf(), index: 1, count: 2 } },
      { statement: { ...statementOf(), count: 2 } },
      { protocol: 'extended' },
      { identity: identityOf(['b']) },
      { identity: { ...identityOf(['a']), on_behalf_of: 'grace' } },
      { identity: identityOf(['a'], { department: 'x' }) },
      { session: { ...session, transaction: 'active' } },
      { session: { ...session, search_path: ['hr', 'public'] } },
      { session: { ...session, database: 'other' } },
      { session: { ...session, application_name: 'psql\n"}' } },
      { analysis: analysisOf({ filtered: true }) },
      { approval: { id: '1', outcome: 'approved', by: ['x'], at: '' } },
    ]
    const reasons = new Map<string, number>()
    for (let round = 0; round < 3; round++) {
      for (const [index, variant] of variants.entries()) {
        const { reason } = judge.statement({ ...base, ...variant }).decision
        expect(reasons.get(reason) ?? index, JSON.stringify(variant)).toBe(index)
        reasons.set(reason, index)
      }
    }
    expect(reasons.size).toBe(variants.length)
  })

  it('shows claims that change by token to nobody who did not ask', async () => {
    const judge = judgeOf(await policyOf(echo))
    const analysis = analysisOf()
    const again = judge.statement(
      factsOf([], {}, { analysis, identity: identityOf(['a'], { iat: 2, jti: 'y', dept: 'd' }) }),
    )
    expect(again.reusable).toBe(true)
    expect(again.decision.reason).toContain('dept')
    expect(again.decision.reason).not.toContain('jti')
  })

  it('hides volatile inputs from a bundle that declares none', async () => {
    const policy = await policyOf(echo)
    const { reason } = policy.statement(
      factsOf(
        ['a'],
        {},
        { volatile: volatileOf({ parameters: [{ type: 23, format: 'text', value: '7' }] }) },
      ),
    )
    expect(reason).not.toContain('127.0.0.1')
    expect(reason).not.toContain('2026')
    expect(reason).not.toContain('s1')
  })

  it('gives what is declared, and says that it may not be used again', async () => {
    const judge = judgeOf(
      await policyOf(echo, ['inputs: [time, parameters, session.id, client_address, claims]']),
    )
    const facts = factsOf(
      [],
      {},
      {
        identity: identityOf(['a'], { jti: 'x' }),
        volatile: volatileOf({ parameters: [{ type: 23, format: 'text', value: '7' }] }),
      },
    )
    const first = judge.statement(facts)
    expect(first.reusable).toBe(false)
    for (const seen of ['2026-01-05T12:30', 'monday', '127.0.0.1', 's1', 'jti']) {
      expect(first.decision.reason).toContain(seen)
    }
  })

  it('refuses to load a bundle that declares what does not exist', async () => {
    await expect(policyOf(echo, ['inputs: [moon]'])).rejects.toThrow('moon')
    await expect(policyOf(echo, ['constants: secret'])).rejects.toThrow('constants')
  })
})

describe('constants: hidden', () => {
  const rule =
    'decision := {"action": "allow", "reason": json.marshal([input.statement.text, input.statement.ast])}'
  const shape = { key: 'SELECT 0', text: 'SELECT 0', tree: '{"SelectStmt":{"blank":true}}' }

  it('shows the blanked text and tree, the same for all statements of a shape', async () => {
    const judge = judgeOf(await policyOf(rule, ['constants: hidden']))
    const analysis = analysisOf()
    const first = judge.statement(
      factsOf(['a'], {}, { analysis, statement: statementOf('SELECT 1'), shape }),
    )
    const second = judge.statement(
      factsOf(['a'], {}, { analysis, statement: statementOf('SELECT 2'), shape }),
    )
    expect(second.decision).toEqual(first.decision)
    expect(first.decision.reason).toContain('blank')
    expect(first.decision.reason).not.toContain('SELECT 1')
  })

  it('is not for bundles that did not ask: they see the statement itself', async () => {
    const judge = judgeOf(await policyOf(rule))
    const analysis = analysisOf()
    const first = judge.statement(
      factsOf(['a'], {}, { analysis, statement: statementOf('SELECT 1'), shape }),
    )
    expect(first.decision.reason).toContain('SELECT 1')
  })
})

describe('inputs on demand', () => {
  const rule = `default decision := {"action": "deny", "reason": "default"}

decision := {"action": "deny", "reason": "asks time", "asks": ["time"]} if {
	input.time == null
} else := {"action": "deny", "reason": "asks estimate", "asks": ["estimate"]} if {
	input.estimate == null
} else := {"action": "allow", "reason": json.marshal([input.time.weekday, input.estimate.rows])}`
  const custom = ['inputs: [time, estimate]', 'on_demand: [time, estimate]']
  const estimate = { cost: 1, rows: 42, rows_max: 42, nodes: [] }

  it('are given one after the other, and the estimate is waited for', async () => {
    const judge = judgeOf(await policyOf(rule, custom))
    const analysis = analysisOf()
    const without = judge.statement(factsOf(['a'], {}, { analysis, volatile: volatileOf() }))
    expect(without.decision).toMatchObject({ action: 'deny', reason: 'asks estimate' })
    expect(without.wantsEstimate).toBe(true)
    const withEstimate = judge.statement(
      factsOf(['a'], {}, { analysis, volatile: volatileOf({ estimate }) }),
    )
    expect(withEstimate.decision).toMatchObject({ action: 'allow', reason: '["monday",42]' })
    expect(withEstimate).toMatchObject({ wantsEstimate: false, reusable: false })
    const later = judge.statement(factsOf(['a'], {}, { analysis, volatile: volatileOf() }))
    expect(later.wantsEstimate).toBe(true)
  })

  it('stay denied where nobody can give them', async () => {
    const judge = judgeOf(await policyOf(rule, custom))
    expect(judge.statement(factsOf(['a'])).decision.action).toBe('deny')
  })
})

/** Counts to size⁴: nothing for eight columns, forever for a hundred. */
const bomb = `n := count(input.access.columns)

loops := count([1 |
	some a in input.access.columns
	some b in input.access.columns
	some c in input.access.columns
	some d in input.access.columns
	a.name == b.name
	c.name != d.name
	a.id == d.id
])

decision := {"action": "allow", "reason": format_int(loops, 10)}`

const columnsOf = (count: number): StatementFacts['analysis']['access']['columns'] =>
  Array.from({ length: count }, (_, index) => ({
    ...{ schema: 'public', relation: 't', name: `c${String(index)}`, through: null },
    uses: ['output' as const],
  }))

async function settle(judge: Judge, facts: StatementFacts): Promise<Judgement> {
  const late = new LateAnswers()
  for (;;) {
    try {
      return judge.statement(facts, late)
    } catch (error) {
      if (!(error instanceof EvaluationPending)) throw error
      await error.until
    }
  }
}

describe('policies that take long', () => {
  it('that never end are refused when they load', async () => {
    const data = 'xs := numbers.range(1, 300)\n\n'
    const rule = `${data}decision := {"action": "allow", "reason": format_int(count([1 | some a in xs; some b in xs; some c in xs; some d in xs; ((a + b) + c) + d == 7]), 10)}`
    const start = Date.now()
    await expect(policyOf(rule, [], { evaluationMsMax: 500 } as object)).rejects.toThrow(
      'evaluationMsMax',
    )
    expect(Date.now() - start).toBeLessThan(10_000)
  })

  it('are judged in a thread, while the event loop goes on; the wall clock ends what does not end', async () => {
    const policy = await policyOf(bomb, [], { evaluationMsMax: 1_000 } as object)
    const judge = judgeOf(policy)
    let ticks = 0
    const timer = setInterval(() => ticks++, 10)
    const facts = factsOf(['a'], { columns: columnsOf(400) })
    const error: unknown = await settle(judge, facts).catch((reason: unknown) => reason)
    clearInterval(timer)
    expect(error).toBeInstanceOf(ProxyError)
    expect((error as ProxyError).message).toContain('evaluationMsMax')
    // Judged in place there would be none.
    expect(ticks).toBeGreaterThan(2)
    // The thread is replaced, and others are judged as before.
    const small = await settle(judge, factsOf(['a'], { columns: columnsOf(2) }))
    expect(small.decision.action).toBe('allow')
    policy.close()
  }, 30_000)

  it('give the same decision in the thread as in place', async () => {
    const policy = await policyOf(bomb)
    const forced = new Judge({
      policy,
      limits: { ...defaultLimits, inPlaceEvaluationUsMax: 0 },
    })
    const facts = factsOf(['a'], { columns: columnsOf(5) })
    const inThread = await settle(forced, facts)
    expect(inThread.decision).toEqual(policy.statement(facts))
    policy.close()
  })

  it('are asked once about each statement of a text, although all are judged again after each', async () => {
    const policy = await policyOf(bomb)
    const limits = { ...defaultLimits, inPlaceEvaluationUsMax: 0 }
    const judge = new Judge({ policy, limits })
    const text = Array.from({ length: 12 }, () => factsOf(['a'], { columns: columnsOf(2) }))
    const late = new LateAnswers()
    let evaluations = 0
    for (;;) {
      try {
        for (const facts of text) judge.statement(facts, late)
        break
      } catch (error) {
        if (!(error instanceof EvaluationPending)) throw error
        evaluations++
        await error.until
      }
    }
    expect(evaluations).toBe(12)
    // Under another policy none of these answers counts.
    const other = await policyOf(bomb.replace('"allow"', '"deny"'))
    judge.swap(other)
    const [first] = text
    if (first === undefined) throw new Error('no statement')
    expect(() => judge.statement(first, late)).toThrow(EvaluationPending)
    other.close()
  })
})

describe('faults', () => {
  it('a conflict in the policy refuses the statement and leaves the next one alone', async () => {
    const policy = await policyOf(
      'decision := {"action": "allow", "reason": name} if {\n\tsome name in input.identity.groups\n}',
    ).catch((error: unknown) => error)
    expect(policy).toBeInstanceOf(Policy)
    const loaded = policy as Policy
    expect(() => loaded.statement(factsOf(['a', 'b']))).toThrow('the policy failed')
    expect(() => loaded.statement(factsOf([]))).toThrow('undefined')
    expect(loaded.statement(factsOf(['a'])).action).toBe('allow')
  })

  it('a full memory refuses the statement and leaves the next one alone', async () => {
    const policy = await policyOf('decision := {"action": "allow"}', [], {
      policyMemoryBytesMax: 1_000_000,
    })
    const text = `SELECT '${'x'.repeat(2_000_000)}'`
    expect(() => policy.statement(factsOf(['a'], {}, { statement: statementOf(text) }))).toThrow(
      'the policy failed',
    )
    expect(policy.statement(factsOf(['a'])).action).toBe('allow')
  })

  it('smoke inputs of the bundle decide whether it may be active', async () => {
    const directory = mkdtempSync(join(scratch, 'smoke-'))
    cpSync(packDirectory, directory, { recursive: true })
    const input = { identity: { groups: [] } }
    writeFileSync(join(directory, 'regate', 'tables', 'extra.txt'), '')
    const bundle = await readPack(await buildDirectory(directory))
    const withSmoke = (action: string): Promise<Policy> =>
      Policy.load(bundle, {
        limits: defaultLimits,
        extraData: [{ regate: { smoke: [{ name: 'nobody', input, action }] } }],
      })
    await expect(withSmoke('allow')).rejects.toThrow('smoke input "nobody"')
    expect((await withSmoke('deny')).revision).toContain('+')
  })
})
