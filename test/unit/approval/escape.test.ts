/** A reviewer's terminal shows what a statement is, not what it wants to look like. */
import { expect, test } from 'vitest'
import { escaped } from '../../../src/commands/approvals-words.ts'

test.each([
  ['\u001b[2J\u001b[31mSELECT 1', '\\u{1b}[2J\\u{1b}[31mSELECT 1'],
  ['a\rb\u0007', 'a\\u{d}b\\u{7}'],
  ['x \u202e y', 'x \\u{202e} y'],
  ['\u009b31m', '\\u{9b}31m'],
  ['plain ✓ ünïcode\nline', 'plain ✓ ünïcode\nline'],
])('%j', (given, shown) => {
  expect(escaped(given)).toBe(shown)
})
