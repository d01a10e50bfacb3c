/** Slips of the pen in the pack's data are told with their path; what the pack understands passes. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { dataProblems } from '../../../src/policy/data-schema.ts'

const problems = (regate: unknown): readonly string[] => dataProblems({ regate })

describe('the data of the pack', () => {
  test.each(['policies/data.json', 'src/commands/demo/data.json'])('%s is right', (file) => {
    expect(dataProblems(JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>)).toEqual(
      [],
    )
  })

  test.each([
    [{ colums: {} }, 'data.regate.colums is unknown; did you mean "columns"?'],
    [
      { columns: { 'a.b.c': { class: 'x', mask: { kind: 'redcat' } } } },
      'data.regate.columns["a.b.c"].mask.kind is "redcat", must be one of null, constant, redact, hash, partial, bucket, truncate, noise; did you mean "redact"?',
    ],
    [
      { columns: { 'a.b.c': { mask: { kind: 'noise', ratio: 2 } } } },
      'data.regate.columns["a.b.c"].mask needs a "ratio" between 0 and 1',
    ],
    [
      { columns: { 'a.b.c': { mask: { kind: 'partial', keepend: 4 } } } },
      'data.regate.columns["a.b.c"].mask has the unknown key "keepend" (known: kind, keep_start, keep_end, email)',
    ],
    [
      { groups: { a: { raed: ['*'] } } },
      'data.regate.groups.a.raed is unknown; did you mean "read"?',
    ],
    [
      { groups: { a: { unmsk: [] } } },
      'data.regate.groups.a.unmsk is unknown; did you mean "unmask"?',
    ],
    [
      { groups: { a: { write: '*' } } },
      'data.regate.groups.a.write is "*", must be a list such as ["*"], an object of verdicts, or one of allow, approve, deny',
    ],
    [
      { groups: { a: { write: { 'public.*': 'aprove' } } } },
      'data.regate.groups.a.write["public.*"] is "aprove", must be one of allow, approve, deny; did you mean "approve"?',
    ],
    [
      { groups: { a: { limits: { time: '1d' } } } },
      'data.regate.groups.a.limits.time is "1d", must be a time in ms, s, m or h, such as "30s"',
    ],
    [
      { groups: { a: { infer: 'true' } } },
      'data.regate.groups.a.infer is "true", must be true or false',
    ],
    [{ approvals: { groups: 'dba' } }, 'data.regate.approvals.groups is "dba", must be a list'],
    [{ groups: [] }, 'data.regate.groups is [], must be an object'],
  ])('%j', (regate, problem) => {
    expect(problems(regate)).toEqual([problem])
  })

  test('all mistakes are told at once', () => {
    expect(problems({ groups: { a: { raed: 1, writ: 2 }, b: 7 } })).toHaveLength(3)
  })

  test('a name of its own is nobody’s slip', () => {
    expect(problems({ shop: { tiers: 3 }, custom: { deny: [] }, smoke: [], tables: {} })).toEqual(
      [],
    )
  })
})
