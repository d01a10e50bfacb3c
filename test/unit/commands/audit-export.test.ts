import { expect, test } from 'vitest'
import type { Found } from '../../../src/audit/audit.ts'
import { csvRow } from '../../../src/commands/audit-export.ts'

/** The fields of a row as RFC 4180 reads them. */
function fields(row: string): readonly string[] {
  const found = [...row.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^",]*))/g)]
  expect(found.map(([whole]) => whole).join('')).toBe(row)
  return found.map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? '')
}

function row(text: string): string {
  const identity = { subject: text, user: text, groups: [text, 'b'], method: 'trust' }
  const record = {
    ...{ id: 'main-1', time: '2026-01-01T00:00:00.000Z', type: 'statement_decided' },
    ...{ session: 's', database: text, client_address: '::1', identity },
    statement: { text, fingerprint: 'f', kind: 'select' },
    decision: { action: 'deny', rule: text, reason: text, decision_id: 'd', revision: text },
  }
  return csvRow({ record } as unknown as Found, null)
}

test('no field is a formula, whatever a client chose', () => {
  for (const text of [
    "=cmd|' /C calc'!A0",
    '+1+1',
    '-1+1',
    '@SUM(A1)',
    '\t=1+1',
    '\r=1+1',
    '＝1+1',
    '=HYPERLINK("http://evil.example","click")',
    '"=1+1"',
    '",=1+1,"',
    'a\r\n=1+1',
    'a\n=1+1',
  ]) {
    const made = row(text)
    expect(made, JSON.stringify(text)).not.toMatch(/[\r\n\t]/)
    const read = fields(made)
    expect(read).toHaveLength(26)
    for (const field of read)
      expect(field, JSON.stringify(text)).not.toMatch(/^[=+\-@\t\r＝＋－＠]/)
  }
  expect(fields(row('SELECT "a", \'b\'')).at(-1)).toBe('SELECT "a", \'b\'')
})
