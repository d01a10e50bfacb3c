/**
 * A bundle with `constants: hidden` in the gate: statements of one shape share a verdict without being
 * parsed, and nothing else does. The real OPA compiles the policies, the real parser and analysis judge.
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { getPriority, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { defaultLimits, type Limits, systemClock } from '../../src/core/core.ts'
import { Gate, type JudgeContext, type Verdict } from '../../src/gate/gate.ts'
import { Judge, Policy } from '../../src/policy/policy.ts'
import { Catalog, SqlParser } from '../../src/sql/sql.ts'
import { identityOf, session } from './facts.ts'
import { buildDirectory, packDirectory, readPack } from './pack.ts'

let scratch: string
let parser: SqlParser
beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'regate-shapes-test-'))
  parser = await SqlParser.create({ limits: defaultLimits })
})
afterAll(async () => {
  rmSync(scratch, { recursive: true, force: true })
  await parser.close()
})

/** Denies what mentions `secret` anywhere in the tree, and shows in the reason what it saw. */
const rule = `
decision := {"action": "deny", "reason": input.statement.text} if {
  contains(json.marshal(input.statement.ast), "secret")
} else := {"action": "allow", "reason": input.statement.text}`

async function gateOf(
  hidden: boolean,
  literals: 'keep' | 'redact' = 'keep',
  custom: readonly string[] = hidden ? ['constants: hidden'] : [],
  body = rule,
  limits: Limits = defaultLimits,
): Promise<Gate> {
  const directory = mkdtempSync(join(scratch, 'policy-'))
  cpSync(join(packDirectory, '.manifest'), join(directory, '.manifest'))
  for (const name of ['connect', 'statement']) {
    mkdirSync(join(directory, 'regate', name), { recursive: true })
  }
  writeFileSync(
    join(directory, 'regate', 'connect', 'connect.rego'),
    'package regate.connect\n\ndecision := {"action": "allow"}\n',
  )
  const declared = custom.map((line) => `#     ${line}\n`).join('')
  const metadata = `# METADATA\n# entrypoint: true\n# custom:\n#   regate:\n${declared}`
  writeFileSync(
    join(directory, 'regate', 'statement', 'statement.rego'),
    `package regate.statement\n\nimport rego.v1\n\n${custom.length > 0 ? metadata : ''}${body.trim()}\n`,
  )
  const bundle = await readPack(await buildDirectory(directory))
  const policy = await Policy.load(bundle, { limits })
  let decisions = 0
  return new Gate({
    parser,
    judge: new Judge({ policy, limits }),
    limits,
    clock: systemClock,
    newDecisionId: () => `d${++decisions}`,
    literals,
    onFault: (error) => {
      throw error
    },
  })
}

const columns = ['id', 'name'].map((name, index) => ({
  number: index + 1,
  name,
  type: index === 0 ? 23 : 25,
  modifier: -1,
  notNull: false,
  default: null,
  generated: null,
  identity: false,
}))

const catalog = Catalog.from({
  format: 1,
  database: 'shop',
  serverVersion: 180_000,
  schemas: [{ oid: 2200, name: 'public' }],
  relations: [
    {
      oid: 1,
      schema: 'public',
      name: 't',
      kind: 'table',
      rowType: 0,
      columns,
      definition: null,
      parents: [],
      isPartition: false,
      rowSecurity: false,
      rules: [],
      triggers: [],
      expressions: [],
      temporary: false,
    },
  ],
  types: [],
  functions: [],
  operators: [],
  casts: [],
  extensions: [],
  storedSettings: [],
})

function contextOf(key = 'context', nowMs: number | null = null): JudgeContext {
  return {
    key,
    protocol: 'simple',
    identity: identityOf(['agents']),
    session,
    facts: {
      searchPath: ['pg_catalog', 'public'],
      role: 'app',
      temporarySchema: null,
      prepared: () => undefined,
      cursor: () => undefined,
    },
    catalog,
    locked: new Set(),
    approval: null,
    volatile: () =>
      nowMs === null
        ? null
        : {
            ...{ parameters: null, sessionId: 's', clientAddress: null, estimate: null },
            nowMs: () => nowMs,
          },
  }
}

function admitted(gate: Gate, text: string, context = contextOf()) {
  const verdict: Verdict = gate.judgeText(Buffer.from(text), context)
  if (verdict.kind !== 'admitted') throw new Error(`${verdict.kind}: ${text}`)
  const [statement] = verdict.statements
  if (statement === undefined) throw new Error('no statement')
  return { cached: verdict.cached, ...statement }
}

describe('a bundle with hidden constants', () => {
  it('admits a second statement of a shape without parsing it', async () => {
    const gate = await gateOf(true)
    const first = admitted(gate, "SELECT id FROM t WHERE name = 'ada' LIMIT 5;")
    const second = admitted(gate, "SELECT id  FROM t WHERE name = 'grace' LIMIT 5 ;")
    expect([first.cached, second.cached]).toEqual([false, true])
    expect(second.statement.ast).toBe(first.statement.ast)
    expect(second.analysis).toBe(first.analysis)
    expect(first.decision.reason).toBe("SELECT id FROM t WHERE name = '' LIMIT 5")
  })

  it('records the text that runs', async () => {
    const gate = await gateOf(true)
    admitted(gate, "SELECT id FROM t WHERE name = 'ada'")
    const second = admitted(gate, "SELECT id FROM t WHERE name = 'grace'")
    expect(second.statement.text).toBe("SELECT id FROM t WHERE name = 'grace'")
    expect(second.members).toContain('grace')
    expect(second.members).not.toContain('ada')
    const silent = await gateOf(true, 'redact')
    admitted(silent, "SELECT id FROM t WHERE name = 'ada'")
    const redacted = admitted(silent, "SELECT id FROM t WHERE name = 'grace'")
    expect(redacted.members).not.toMatch(/ada|grace/)
  })

  it.each([
    ['another visible constant', 'SELECT id FROM t WHERE id = 1 LIMIT 6'],
    ['another class of constant', "SELECT id FROM t WHERE id = '1' LIMIT 5"],
    ['another column', 'SELECT name FROM t WHERE id = 1 LIMIT 5'],
    ['another operator', 'SELECT id FROM t WHERE id > 1 LIMIT 5'],
    ['two statements', 'SELECT id FROM t WHERE id = 1 LIMIT 5; SELECT 1'],
  ])('judges anew: %s', async (_, text) => {
    const gate = await gateOf(true)
    admitted(gate, 'SELECT id FROM t WHERE id = 1 LIMIT 5')
    expect(admitted(gate, text).cached).toBe(false)
  })

  it('judges anew in another context, and refuses anew', async () => {
    const gate = await gateOf(true)
    admitted(gate, 'SELECT id FROM t WHERE id = 1')
    expect(admitted(gate, 'SELECT id FROM t WHERE id = 2', contextOf('other')).cached).toBe(false)
    for (const id of [1, 2]) {
      const text = Buffer.from(`SELECT id AS secret FROM t WHERE id = ${id}`)
      const verdict = gate.judgeText(text, contextOf())
      expect(verdict.kind === 'refused' && verdict.refusal.decisionId).toBe(`d${id}`)
    }
  })

  it('refuses what does not parse although it looks like a shape', async () => {
    const gate = await gateOf(true)
    admitted(gate, 'SELECT id FROM t WHERE id = 1')
    for (const text of ['SELECT id FROM t WHERE id = 1x', "SELECT id FROM t WHERE id = E'\\u'"]) {
      expect(gate.judgeText(Buffer.from(text), contextOf()).kind).toBe('refused')
    }
  })
})

describe('a bundle that sees constants', () => {
  it('sees each statement', async () => {
    const gate = await gateOf(false)
    admitted(gate, "SELECT id FROM t WHERE name = 'ada'")
    const second = gate.judgeText(
      Buffer.from("SELECT id FROM t WHERE name = 'secret'"),
      contextOf(),
    )
    expect(second.kind).toBe('refused')
  })
})

describe('analyses of a shape', () => {
  it('serve every text of it, while the policy judges each', async () => {
    const gate = await gateOf(false)
    const first = admitted(gate, "SELECT id FROM t WHERE name = 'ada' LIMIT 5")
    const second = admitted(gate, "SELECT id FROM t WHERE name = 'grace' LIMIT 5;")
    expect(second.cached).toBe(false)
    expect(second.analysis).toBe(first.analysis)
    expect(second.decision.reason).toContain('grace')
    expect(second.statement.astJson).toContain('grace')
    expect(second.members).toContain('grace')
  })

  it.each([
    ['another visible constant', "SELECT id FROM t WHERE name = 'ada' LIMIT 6", 'context'],
    ['another context', "SELECT id FROM t WHERE name = 'grace' LIMIT 5", 'other'],
    ['two statements', "SELECT id FROM t WHERE name = 'ada' LIMIT 5; SELECT 1", 'context'],
  ])('do not serve %s', async (_, text, key) => {
    const gate = await gateOf(false)
    const first = admitted(gate, "SELECT id FROM t WHERE name = 'ada' LIMIT 5")
    expect(admitted(gate, text, contextOf(key)).analysis).not.toBe(first.analysis)
  })

  it('are not kept where a name is unknown: it may be there the next time', async () => {
    const gate = await gateOf(false)
    const first = admitted(gate, 'SELECT id FROM nowhere WHERE id = 1')
    expect(admitted(gate, 'SELECT id FROM nowhere WHERE id = 2').analysis).not.toBe(first.analysis)
  })
})

describe('verdicts that are kept', () => {
  it('are never those that saw what changes by itself, asked for or not', async () => {
    const onDemand = ['inputs: [time]', 'on_demand: [time]']
    const asks = `
decision := {"action": "deny", "reason": "asks", "asks": ["time"]} if {
  input.time == null
} else := {"action": "deny", "reason": "late"} if {
  input.time.unix_ms > 5
} else := {"action": "allow", "reason": "early"}`
    const gate = await gateOf(false, 'keep', onDemand, asks)
    const text = 'SELECT id FROM t'
    expect(admitted(gate, text, contextOf('context', 1)).decision.reason).toBe('early')
    const late = gate.judgeText(Buffer.from(text), contextOf('context', 9))
    expect(late.kind === 'refused' && late.refusal.message).toBe('late')
  })

  it('are those of texts that come again: a flood of others displaces nothing', async () => {
    const gate = await gateOf(false)
    const text = 'SELECT name FROM t'
    admitted(gate, text)
    for (let n = 0; n < 3_000; n++) admitted(gate, `SELECT id FROM t WHERE id = ${n}`)
    expect(gate.cacheCount).toBeLessThan(1_100)
    expect(admitted(gate, text).cached).toBe(true)
    const late = 'SELECT id FROM t WHERE id = 999999'
    expect([1, 2, 3].map(() => admitted(gate, late).cached)).toEqual([false, false, true])
  })

  it('are those of the active policy and the context', async () => {
    const gate = await gateOf(false)
    const text = 'SELECT id FROM t'
    expect([1, 2].map(() => admitted(gate, text).cached)).toEqual([false, true])
    expect(admitted(gate, text, contextOf('other')).cached).toBe(false)
  })
})

describe('a text that waits for a thread', () => {
  /** Longer than what is parsed in place, and as long as its like. */
  const long = (name: string): Buffer =>
    Buffer.from(`SELECT ${name} FROM t WHERE id IN (${'7, '.repeat(20_000)}8)`)

  async function waited(gate: Gate, text: Buffer, context: JudgeContext): Promise<Verdict> {
    let verdict = gate.judgeText(text, context)
    for (let times = 0; verdict.kind === 'later'; times++) {
      expect(times).toBeLessThan(3)
      await verdict.until
      verdict = gate.judgeText(text, context, verdict.pending)
    }
    return verdict
  }

  it('is judged as itself, whatever is said to have waited', async () => {
    const gate = await gateOf(
      false,
      'keep',
      [],
      rule.replaceAll(
        '"reason": input.statement.text',
        '"reason": substring(input.statement.text, 0, 14)',
      ),
    )
    const first = gate.judgeText(long('name  '), contextOf())
    if (first.kind !== 'later') throw new Error(first.kind)
    await first.until
    expect(first.pending.parsed?.kind).toBe('parsed')
    const other = gate.judgeText(long('secret'), contextOf(), first.pending)
    expect(other.kind).toBe('later')
    const verdict = await waited(gate, long('secret'), contextOf())
    expect(verdict.kind).toBe('refused')
    const allowed = await waited(gate, long('name  '), contextOf())
    expect(allowed.kind).toBe('admitted')
  })

  it('is analysed once, however often it waits', async () => {
    const inThread = { ...defaultLimits, inPlaceEvaluationUsMax: 0 }
    const gate = await gateOf(false, 'keep', [], rule, inThread)
    const text = Buffer.from([long('name'), long('id'), long('name, id')].join(';'))
    const waits: string[] = []
    let verdict = gate.judgeText(text, contextOf())
    while (verdict.kind === 'later') {
      waits.push(verdict.wait)
      await verdict.until
      verdict = gate.judgeText(text, contextOf(), verdict.pending)
    }
    expect(verdict.kind).toBe('admitted')
    expect(waits).toEqual(['parse', 'evaluation', 'evaluation', 'evaluation'])
    expect(gate.statistics.analysis.count).toBe(3)
  })

  it('is judged for everybody by himself', async () => {
    const body = `
decision := {"action": "deny", "reason": "not you"} if { not "agents" in input.identity.groups
} else := {"action": "allow", "reason": "you"}`
    const gate = await gateOf(false, 'keep', [], body)
    const text = long('name')
    const agent = contextOf('agent')
    const stranger = { ...contextOf('stranger'), identity: identityOf(['guests']) }
    const parsed = gate.judgeText(text, agent)
    if (parsed.kind !== 'later') throw new Error(parsed.kind)
    await parsed.until
    const evaluated = gate.judgeText(text, agent, parsed.pending)
    if (evaluated.kind === 'later') await evaluated.until
    // The same object of the parse, the answer about another identity beside it.
    let verdict = gate.judgeText(text, stranger, parsed.pending)
    while (verdict.kind === 'later') {
      await verdict.until
      verdict = gate.judgeText(text, stranger, verdict.pending)
    }
    expect(verdict.kind).toBe('refused')
    expect(gate.judgeText(text, agent, parsed.pending).kind).toBe('admitted')
  })

  it.runIf(process.platform === 'linux')('leaves the processor to the others', async () => {
    const text = long('id')
    const verdict = (await gateOf(false)).judgeText(text, contextOf())
    if (verdict.kind !== 'later') throw new Error(verdict.kind)
    await verdict.until
    const niceness = readdirSync('/proc/self/task').map((thread) => getPriority(Number(thread)))
    expect(niceness.some((nice) => nice >= getPriority() + 5)).toBe(true)
    expect(getPriority(process.pid)).toBe(getPriority())
  })
})
