import { beforeAll, describe, expect, it } from 'vitest'
import type { Policy } from '../../src/policy/policy.ts'
import type { Use } from '../../src/sql/sql.ts'
import { loadPack } from './pack.ts'
import { factsOf } from './facts.ts'

let pack: Policy
beforeAll(async () => {
  pack = await loadPack()
})

describe('the shipped pack as regate runs it', () => {
  it('allows an agent to read', () => {
    const decision = pack.statement(
      factsOf(['agents'], {
        relations: [
          {
            schema: 'public',
            name: 'orders',
            kind: 'table',
            actions: ['select'],
            through: null,
            by_path: false,
          },
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

  it('knows a classified column however its name is quoted', async () => {
    const policy = await loadPack({
      columns: {
        'public.su.system_user': { class: 'pii' },
        'public."su"."note"': { class: 'pii', mask: { kind: 'null' } },
      },
      groups: { agents: { read: ['*'] } },
    })
    const column = (name: string) => {
      const uses: Use[] = ['output']
      return { schema: 'public', relation: 'su', name, uses, through: null }
    }
    const columns = [column('system_user'), column('note')]
    const decision = policy.statement(factsOf(['agents'], { columns }))
    expect(decision.action).toBe('mask')
    expect(Object.fromEntries(decision.masks)).toEqual({
      'public.su."system_user"': { kind: 'redact' },
      'public.su.note': { kind: 'null' },
    })
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
})
