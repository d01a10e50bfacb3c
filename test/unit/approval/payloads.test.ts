/** What Slack shows of a hostile statement. */
import { expect, test } from 'vitest'
import { payloadOf } from '../../../src/approval/payloads.ts'
import type { ApprovalEvent } from '../../../src/approval/adapter.ts'
import type { Estimate } from '../../../src/policy/policy.ts'

function event(statement: string, estimate: Estimate | null = null): ApprovalEvent {
  const identity = { subject: 'ann', user: 'ann', email: null, groups: [], on_behalf_of: null }
  const document = {
    ...{ identity: { ...identity, type: 'human' as const, method: 'scram', issuer: null } },
    ...{ role: 'default', clientAddress: '10.0.0.7', kind: 'delete', count: 1, shape: statement },
    ...{ shapeKey: 'key', shareable: true, revision: 'r1', rule: 'test', reason: 'all rows' },
  }
  const review = {
    ...{ statements: [], estimate, settings: [], transaction: {}, application_name: '' },
    ...{ search_path: ['public'], current_role: 'app', catalog: 'c1', parameters: null },
  }
  const request = {
    ...{ id: 'a', state: 'pending' as const, version: 0, created: '', expires: '', decided: null },
    ...{ binding: 'b', database: 'shop', session: 's', waitMs: 1, ttlMs: 1, requirements: [] },
    ...{ votes: [], held: true, grant: null, outcome: null, statement, document, review },
    statementLength: statement.length,
  }
  return { kind: 'requested', deliveryId: 'd', link: null, request }
}

test.each([3, 4, 5, 6, 7, 8, 9])(
  'a statement with %i backticks does not end its code block',
  (count) => {
    const hostile = `DELETE FROM t -- ${'`'.repeat(count)} *Checked by security:* <!channel>`
    const { blocks } = payloadOf('slack', event(hostile)) as {
      blocks: readonly { readonly text: { readonly text: string } }[]
    }
    const shown = blocks[1]?.text.text ?? ''
    expect(shown.startsWith('```') && shown.endsWith('```')).toBe(true)
    expect(shown.slice(3, -3)).not.toContain('``')
    expect(shown).not.toContain('<!channel>')
  },
)

test.each(['slack', 'teams'] as const)(
  '%s says how many rows a change without RETURNING is about',
  (format) => {
    const estimate = { rows: 0, rows_max: 1200, cost: 35.5, nodes: ['ModifyTable', 'Seq Scan'] }
    const shown = JSON.stringify(payloadOf(format, event('DELETE FROM orders', estimate)))
    expect(shown).toContain('about 1200 rows, cost 35.5')
  },
)
