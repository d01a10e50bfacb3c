/** `regate policy`: policies as code, from the first file to a bundle in production. */
import type { Argv } from 'yargs'
import { policyBuildCommand } from './policy-build.ts'
import { policyCheckCommand } from './policy-check.ts'
import { policyExplainCommand } from './policy-explain.ts'
import { policyInputCommand } from './policy-input.ts'
import { policyInitCommand } from './policy-init.ts'
import { policyReloadCommand, policyRollbackCommand } from './policy-live.ts'
import { policyReplayCommand } from './policy-replay.ts'
import { policyTestCommand } from './policy-test.ts'

/** The command's parent: `regate policy <command>`. */
export const policyCommand = {
  command: 'policy',
  describe: 'Write, test, build and compare policies',
  builder: (yargs: Argv): Argv =>
    yargs
      .command(policyTestCommand)
      .command(policyCheckCommand)
      .command(policyBuildCommand)
      .command(policyInputCommand)
      .command(policyExplainCommand)
      .command(policyReplayCommand)
      .command(policyInitCommand)
      .command(policyReloadCommand)
      .command(policyRollbackCommand)
      .demandCommand(1, 'Say what to do, for example: regate policy test policies')
      .example('$0 policy test policies', 'run all tests of a policy directory')
      .example('$0 policy build policies -o bundle.tar.gz', 'compile it'),
  handler: (): void => undefined,
}
