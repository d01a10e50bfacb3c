/** The corpus of leaks and of ordinary use, judged by the facts that a policy gets. */
import { afterAll, describe, expect, test } from 'vitest'
import type { Analysis } from '../../../src/sql/sql.ts'
import { corpus, parser, TestSession } from './analysis-support.ts'

afterAll(() => parser.close())

const sensitive = new Set([
  ...'email ssn salary balance born token photo aliases profile vip'
    .split(' ')
    .map((name) => `public.users.${name}`),
  'public.cards.pan',
  'public.events.payload',
])

/** Functions that show what no column names; their class must say so. */
const dangerousClasses = new Set(['reads_by_text', 'file', 'admin', 'opaque'])
const valueRelations = new Set(['pg_stats', 'pg_statistic', 'pg_locks'])

/** A fact by which the shipped policies refuse or mask: the leak is visible to the policy. */
function visible(analysis: Analysis): boolean {
  const { access } = analysis
  return (
    !access.complete ||
    analysis.mayChangeSettings ||
    access.columns.some((one) => sensitive.has(`${one.schema}.${one.relation}.${one.name}`)) ||
    access.outputs.some((one) => one.sources.some((source) => sensitive.has(source.column))) ||
    access.functions.some((one) => dangerousClasses.has(one.class)) ||
    access.relations.some((one) => valueRelations.has(one.name))
  )
}

describe('every leak of the corpus shows in the facts', () => {
  test.each(corpus('leaks.sql'))('$name', ({ name, steps }) => {
    const session = new TestSession()
    const analyses = steps.flatMap((step) => session.run(step))
    if (name === 'failing_row') {
      // What leaks is the DETAIL of an error; the write itself must show.
      expect(analyses[0]?.access.effects).toContain('write')
      return
    }
    expect(analyses.some(visible)).toBe(true)
  })
})

describe('ordinary use is followed completely and touches nothing sensitive', () => {
  /** The count of a NOT NULL column is an output that shows nothing of it. */
  const counts = new Set(['count_column'])
  test.each(corpus('utility.sql'))('$name', ({ name, steps }) => {
    const session = new TestSession()
    for (const analysis of steps.flatMap((step) => session.run(step))) {
      expect(analysis.access.incomplete).toEqual([])
      for (const output of analysis.access.outputs) {
        for (const source of output.sources) {
          if (source.via !== 'count') expect(sensitive.has(source.column)).toBe(false)
        }
      }
      if (counts.has(name)) continue
      const touched = analysis.access.columns.filter((one) =>
        sensitive.has(`${one.schema}.${one.relation}.${one.name}`),
      )
      expect(touched).toEqual([])
    }
  })
})
