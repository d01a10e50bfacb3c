/** `regate audit`: asking the log (docs/guides/audit.md). */
import type { Argv } from 'yargs'
import { auditExportCommand } from './audit-export.ts'
import { auditPlayCommand } from './audit-play.ts'
import { auditQueryCommand } from './audit-query.ts'
import { auditVerifyCommand } from './audit-verify.ts'

/** The command's parent: `regate audit <command>`. */
export const auditCommand = {
  command: 'audit',
  describe: 'Search, check, play and export the audit log',
  builder: (yargs: Argv): Argv =>
    yargs
      .command(auditQueryCommand)
      .command(auditVerifyCommand)
      .command(auditPlayCommand)
      .command(auditExportCommand)
      .demandCommand(1, 'Say what to do, for example: regate audit query --since 1h')
      .example('$0 audit query --table users --since 1d', 'who touched users since yesterday')
      .example('$0 audit verify', 'was anything altered or removed?'),
  handler: (): void => undefined,
}
