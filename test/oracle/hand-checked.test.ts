/**
 * The list of statements that were checked by hand: what needs no catalog is compared here, all of it
 * by `npm run test:oracle:replay`, with the catalog that the suite has made up to each statement.
 */
import { expect, it } from 'vitest'
import { analyse } from '../../src/sql/sql.ts'
import { catalog, parser } from '../unit/sql/analysis-support.ts'
import { factsOf, HandChecked, readHandChecked } from './hand-checked.ts'
import { analysisTools, parseOne, plainFacts } from './oracle.ts'

const facts = plainFacts(['pg_catalog', 'public'])

it('holds two hundred statements, and their kinds and effects are the analysis’ own', () => {
  const list = readHandChecked()
  expect(list.length).toBeGreaterThanOrEqual(200)
  let compared = 0
  for (const expected of list) {
    const statement = parseOne(parser, expected.sql)
    if (statement === null) throw new Error(`does not parse: ${expected.sql}`)
    expect(statement.kind, expected.sql).toBe(expected.kind)
    const analysis = analyse(statement, catalog, facts, analysisTools(parser))
    // Where nothing that it names is in this catalog, reads and triggers are not known.
    if (!analysis.access.complete || expected.relations.some((one) => one.includes('through')))
      continue
    compared += 1
    expect(factsOf(expected.test, expected.sql, analysis).effects, expected.sql).toEqual(
      expected.effects,
    )
  }
  expect(compared).toBeGreaterThan(40)
})

it('says what is wrong', () => {
  const [one] = readHandChecked()
  if (one === undefined) throw new Error('the list is empty')
  const checked = new HandChecked([{ ...one, effects: ['notify'] }])
  const statement = parseOne(parser, one.sql)
  if (statement === null) throw new Error('does not parse')
  checked.add(one.test, one.sql, analyse(statement, catalog, facts, analysisTools(parser)))
  expect(checked.wrong).toHaveLength(1)
  expect(checked.summary()).toContain('1 of 1 met')
})
