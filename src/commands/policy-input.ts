/** `regate policy input`: the input document that a statement produces, as the policy gets it. */
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { deskConfiguration } from './policy-desk.ts'
import { inputDocument } from './policy-facts.ts'
import { statementFacts, withStatement, type StatementArguments } from './policy-statements.ts'

export const policyInputCommand = {
  command: 'input <sql>',
  describe: 'Print the input document of a statement',
  builder: (yargs: Argv): Argv<StatementArguments> =>
    withStatement(yargs)
      .example('$0 policy input "SELECT 1" --as ada --group agents', 'without a catalog')
      .example('$0 policy input "SELECT * FROM users" -c shop.catalog.json', 'against a snapshot'),
  handler: async (args: ArgumentsCamelCase<StatementArguments>): Promise<void> => {
    const named = args.catalog !== undefined || args.url !== undefined
    const configuration = named ? null : await deskConfiguration(args, named)
    const facts = await statementFacts(args, configuration)
    const documents = facts.map(inputDocument)
    const shown = documents.length === 1 ? documents[0] : documents
    process.stdout.write(`${JSON.stringify(shown, null, 2)}\n`)
  },
}
