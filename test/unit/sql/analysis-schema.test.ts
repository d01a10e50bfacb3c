/** The input document of every corpus statement is what the shipped JSON Schema says. */
import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import { afterAll, expect, test } from 'vitest'
import { statementInput, type StatementFacts } from '../../../src/policy/policy.ts'
import { corpus, parser, TestSession } from './analysis-support.ts'

afterAll(() => parser.close())

const schema = JSON.parse(
  readFileSync(new URL('../../../policies/schemas/statement/input.json', import.meta.url), 'utf8'),
) as object

const identity: StatementFacts['identity'] = {
  ...{ subject: 'ada', user: 'ada', email: null, groups: ['agents'], type: 'machine' },
  ...{ on_behalf_of: null, method: 'trust', claims: {} },
}
const session: StatementFacts['session'] = {
  ...{ database: 'corpus', role: 'app', application_name: 'test', transaction: 'idle' },
  search_path: ['public'],
}

test('documents of the corpus are valid against the schema of the input', () => {
  const validate = new Ajv({ strict: false, allErrors: true }).compile(schema)
  for (const { name, steps } of [...corpus('leaks.sql'), ...corpus('utility.sql')]) {
    const run = new TestSession()
    for (const step of steps) {
      const parsed = parser.parse(Buffer.from(step))
      if (parsed.kind !== 'parsed') throw new Error(`does not parse: ${step}`)
      const analyses = run.run(step)
      for (const [index, statement] of parsed.statements.entries()) {
        const analysis = analyses[index]
        if (analysis === undefined) throw new Error('an analysis is missing')
        const rest = { identity, session, approval: null, volatile: null }
        const facts: StatementFacts = { statement, protocol: 'simple', analysis, ...rest }
        const document: unknown = JSON.parse(statementInput(facts, new Set(), 'x'))
        expect(validate(document), `${name}: ${JSON.stringify(validate.errors)}`).toBe(true)
      }
    }
  }
})
