/** A reviewer's terminal shows what a statement is, not what it wants to look like. */
import { expect, test } from 'vitest'
import { escaped, grants, list } from '../../../src/commands/approvals-words.ts'

test.each([
  ['\u001b[2J\u001b[31mSELECT 1', '\\u{1b}[2J\\u{1b}[31mSELECT 1'],
  ['a\rb\u0007', 'a\\u{d}b\\u{7}'],
  ['x \u202e y', 'x \\u{202e} y'],
  ['\u009b31m', '\\u{9b}31m'],
  ['plain ✓ ünïcode\nline', 'plain ✓ ünïcode\nline'],
])('%j', (given, shown) => {
  expect(escaped(given)).toBe(shown)
})

test('tables have no colours: they go into pipes', () => {
  const identity = { user: 'ann', subject: 'ann' }
  const shown = [
    list({ approvals: [{ id: 'a', state: 'pending', identity, statement: { text: 'SELECT 1' } }] }),
    grants({ grants: [{ id: 'g', state: 'active', identity, scope: 'session', session: 's' }] }),
  ]
  for (const text of shown) {
    expect(text).toContain('ann')
    expect(text).not.toContain('\u001b')
  }
})
