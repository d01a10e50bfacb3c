/** `regate policy reload` and `rollback`: what a running regate judges by, over its admin API. */
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { callAdmin, commonOptions, printAnswer, type Common } from './admin-call.ts'
import { escaped } from './approvals-words.ts'

export const policyReloadCommand = {
  command: 'reload',
  describe: 'Let a running regate look for a new bundle now',
  builder: (yargs: Argv) =>
    commonOptions(yargs).example('$0 policy reload', 'says which revision is active then'),
  handler: async (args: ArgumentsCamelCase<Common>): Promise<void> => {
    const after = await callAdmin(args, 'POST', '/v1/policy/reload')
    printAnswer(args, after, ({ revision, changed }) =>
      changed === true
        ? `revision ${escaped(revision)} is active`
        : `revision ${escaped(revision)} is active, as before`,
    )
  },
}

export const policyRollbackCommand = {
  command: 'rollback',
  describe: 'Let a running regate go back to the revision before',
  builder: (yargs: Argv) =>
    commonOptions(yargs)
      .example('$0 policy rollback', 'says which revision is active then')
      .example('$0 policy rollback --admin http://10.0.0.7:8432', 'of another host'),
  handler: async (args: ArgumentsCamelCase<Common>): Promise<void> => {
    const after = await callAdmin(args, 'POST', '/v1/policy/rollback')
    printAnswer(args, after, ({ revision }) => `revision ${escaped(revision)} is active`)
  },
}
