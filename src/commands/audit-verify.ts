/** `regate audit verify`: checks the hash chains and the signed checkpoints; names what is wrong. */
import { existsSync } from 'node:fs'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { verifyAudit, type Problem, type VerifyReport } from '../audit/audit.ts'
import { printable } from '../core/core.ts'
import {
  directoryOf,
  progressBar,
  withDirectory,
  type DirectoryArguments,
} from './audit-options.ts'
import { CommandFailure } from './failure.ts'

interface VerifyArguments extends DirectoryArguments {
  checkpoint: string[]
  key: string | undefined
  json: boolean
}

function builder(yargs: Argv): Argv<VerifyArguments> {
  return withDirectory(yargs)
    .option('checkpoint', {
      type: 'string',
      array: true,
      nargs: 1,
      default: [],
      describe: 'a checkpoint file that was kept elsewhere, beside those of the directory',
    })
    .option('key', {
      type: 'string',
      describe: 'audit.pub, kept elsewhere; default that of the directory, which proves less',
    })
    .option('json', { type: 'boolean', default: false, describe: 'the report as JSON' })
    .example('$0 audit verify', 'the log that regate.yaml names')
    .example('$0 audit verify -d audit --checkpoint kept.ndjson --key audit.pub', 'against copies')
}

/** `regate audit verify`; exit code 1 where something is wrong. */
export const auditVerifyCommand = {
  command: 'verify',
  describe: 'Check that no record was altered, removed or cut off',
  builder,
  handler: async (args: ArgumentsCamelCase<VerifyArguments>): Promise<void> => {
    const directory = await directoryOf(args)
    for (const path of [...args.checkpoint, ...(args.key === undefined ? [] : [args.key])]) {
      if (!existsSync(path)) throw new CommandFailure(`${path} is not there`, { misuse: true })
    }
    const progress = await progressBar()
    const report = await verifyAudit(directory, {
      ...{ checkpoints: args.checkpoint, key: args.key ?? null, onProgress: progress.update },
    })
    progress.stop()
    process.stdout.write(args.json ? `${JSON.stringify(report, null, 2)}\n` : inWords(report))
    const { length } = report.problems
    if (length > 0) {
      throw new CommandFailure(`the log is not sound: ${length} problem${length === 1 ? '' : 's'}`)
    }
    if (report.chains.length === 0) throw new CommandFailure(`${directory} holds no records`)
  },
}

const problemsShownMax = 1_000

function inWords({ chains, problems, keyGiven, checkpointCount }: VerifyReport): string {
  const lines: string[] = []
  for (const chain of chains) {
    const { worker, recordCount, segmentCount, first, last } = chain
    lines.push(
      `chain ${worker}: ${recordCount} records in ${segmentCount} segments, ${first ?? '-'} to ${last ?? '-'}`,
    )
    lines.push(
      chain.checkpointed === null
        ? '  no checkpoint: that its newest end was not cut off is not proven'
        : `  signed up to ${chain.checkpointed} at ${chain.checkpointTime ?? ''}`,
    )
  }
  for (const problem of problems.slice(0, problemsShownMax))
    lines.push(`! ${place(problem)}${problem.message}`)
  if (problems.length > problemsShownMax) {
    lines.push(`… and ${problems.length - problemsShownMax} more (--json)`)
  }
  if (problems.length === 0 && chains.length > 0) {
    lines.push('sound: every record has its hash, and goes on from the one before')
    if (checkpointCount > 0 && !keyGiven) {
      lines.push(
        'the key is the directory’s own: who can write there could have written all of it anew (--key, --checkpoint)',
      )
    }
  }
  return `${lines.map((line) => printable(line)).join('\n')}\n`
}

function place({ segment, line }: Problem): string {
  if (segment === null) return ''
  return line === null ? `${segment}: ` : `${segment}:${line}: `
}
