import { beforeAll, describe, expect, it } from 'vitest'
import { Judge, type Policy } from '../../src/policy/policy.ts'
import { defaultLimits } from '../../src/core/core.ts'
import { loadPack } from './pack.ts'
import { analysisOf, factsOf } from './facts.ts'

let pack: Policy
beforeAll(async () => {
  pack = await loadPack()
})

describe('the shipped pack as regate runs it', () => {
  it('allows an agent to read', () => {
    const decision = pack.statement(
      factsOf(['agents'], {
        relations: [
          { schema: 'public', name: 'orders', kind: 'table', actions: ['select'], through: null },
        ],
      }),
    )
    expect(decision.action).toBe('allow')
    expect(decision.limits?.rows).toBe(10000)
  })

  it('denies nobody in particular everything', () => {
    const decision = pack.statement(factsOf(['strangers']))
    expect(decision).toMatchObject({ action: 'deny', rule: 'regate.access.groups' })
  })

  it('says which columns are classified', () => {
    expect(pack.classified).toContain('public.customers.ssn')
    expect(pack.mayMask).toBe(true)
  })

  it('judges connections: what it sets it locks', () => {
    const decision = pack.connect({
      identity: factsOf(['engineers']).identity,
      startup: { user: 'ada', database: 'shop' },
      clientAddress: null,
      nowMs: 0,
    })
    expect(decision.action).toBe('allow')
    expect([...decision.settings]).toEqual([['statement_timeout', '60s']])
    expect(decision.locked).toEqual(['statement_timeout'])
  })

  it('remembers decisions, and forgets them when another policy comes', async () => {
    const judge = new Judge({ policy: pack, limits: defaultLimits })
    const facts = factsOf(['agents'], {}, { analysis: analysisOf() })
    expect(judge.statement(facts).cached).toBe(false)
    expect(judge.statement(facts).cached).toBe(true)
    judge.swap(await loadPack())
    expect(judge.statement(facts).cached).toBe(false)
  })
})
