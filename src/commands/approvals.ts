/** `regate approvals`: the reviewer's side, over the admin API; what it prints is approvals-words.ts. */
import type { ArgumentsCamelCase, Argv } from 'yargs'
import {
  callAdmin as call,
  commonOptions as common,
  printAnswer as print,
  type Common,
} from './admin-call.ts'
import { detail, escaped, grants, list, type Json } from './approvals-words.ts'

const id = (yargs: Argv) =>
  common(yargs).positional('id', { type: 'string', demandOption: true, describe: 'its id' })

const path = (kind: string, which: string, more = ''): string =>
  `/v1/${kind}/${encodeURIComponent(which)}${more}`

const listCommand = {
  command: 'list',
  describe: 'What waits for approval',
  builder: (yargs: Argv) =>
    common(yargs)
      .option('state', { type: 'string', default: 'pending', describe: 'pending, all, or any' })
      .example('$0 approvals list --state all', 'with what is decided'),
  handler: async (args: ArgumentsCamelCase<Common & { state: string }>): Promise<void> => {
    const query = new URLSearchParams({ state: args.state })
    print(args, await call(args, 'GET', `/v1/approvals?${query.toString()}`), list)
  },
}

const showCommand = {
  command: 'show <id>',
  describe: 'One request, with all that a reviewer needs',
  builder: (yargs: Argv) => id(yargs).example('$0 approvals show 01K9…', 'statement, plan, masks'),
  handler: async (args: ArgumentsCamelCase<Common & { id: string }>): Promise<void> => {
    print(args, await call(args, 'GET', path('approvals', args.id)), detail)
  },
}

const approveCommand = {
  command: 'approve <id>',
  describe: 'Say yes',
  builder: (yargs: Argv) =>
    id(yargs)
      .option('comment', { type: 'string', describe: 'kept with the vote' })
      .example('$0 approvals approve 01K9… --comment "ticket 7"', 'runs what waits'),
  handler: async (
    args: ArgumentsCamelCase<Common & { id: string; comment: string | undefined }>,
  ): Promise<void> => {
    const body = args.comment === undefined ? {} : { comment: args.comment }
    const after = await call(args, 'POST', path('approvals', args.id, '/approve'), body)
    print(args, after, (value) => `${escaped(value['id'])} is ${escaped(value['state'])}`)
  },
}

const rejectCommand = {
  command: 'reject <id>',
  describe: 'Say no, and why',
  builder: (yargs: Argv) =>
    id(yargs)
      .option('reason', { type: 'string', demandOption: true, describe: 'the requester reads it' })
      .example('$0 approvals reject 01K9… --reason "add a WHERE"', 'refuses it'),
  handler: async (
    args: ArgumentsCamelCase<Common & { id: string; reason: string }>,
  ): Promise<void> => {
    const body = { reason: args.reason }
    const after = await call(args, 'POST', path('approvals', args.id, '/reject'), body)
    print(args, after, (value) => `${escaped(value['id'])} is ${escaped(value['state'])}`)
  },
}

const watchMs = 2_000

const watchCommand = {
  command: 'watch',
  describe: 'Requests as they come',
  builder: (yargs: Argv) => common(yargs).example('$0 approvals watch', 'until Ctrl-C'),
  handler: async (args: ArgumentsCamelCase<Common>): Promise<void> => {
    const seen = new Set<string>()
    for (;;) {
      const { approvals } = await call(args, 'GET', '/v1/approvals')
      const rows = (approvals as Json[]).filter((row) => !seen.has(String(row['id'])))
      for (const row of rows.reverse()) {
        seen.add(String(row['id']))
        print(args, { approvals: [row] }, list)
      }
      await new Promise((resolve) => setTimeout(resolve, watchMs))
    }
  },
}

interface GrantArguments extends Common {
  id: string
  scope: 'session' | 'shape'
  minutes: number
  statements: number
  comment: string | undefined
}

const grantCommand = {
  command: 'grant <id>',
  describe: 'Say yes to more like this request: its session, or its shape, for a time',
  builder: (yargs: Argv) =>
    id(yargs)
      .option('scope', { choices: ['session', 'shape'] as const, demandOption: true })
      .option('minutes', { type: 'number', default: 30, describe: 'how long it counts' })
      .option('statements', { type: 'number', default: 50, describe: 'how many at most' })
      .option('comment', { type: 'string', describe: 'kept with the grant' })
      .example('$0 approvals grant 01K9… --scope session', '30 minutes, at most 50 statements'),
  handler: async (args: ArgumentsCamelCase<GrantArguments>): Promise<void> => {
    const { id: approval, scope, minutes, statements, comment = null } = args
    const body = { approval, scope, for_ms: Math.round(minutes * 60_000), statements, comment }
    print(args, await call(args, 'POST', '/v1/grants', body), (grant) =>
      grants({ grants: [grant] }),
    )
  },
}

const grantsCommand = {
  command: 'grants',
  describe: 'Grants that can still cover something',
  builder: (yargs: Argv) =>
    common(yargs)
      .option('state', { choices: ['open', 'all'] as const, default: 'open' })
      .example('$0 approvals grants --state all', 'with those that are over'),
  handler: async (args: ArgumentsCamelCase<Common & { state: string }>): Promise<void> => {
    print(args, await call(args, 'GET', `/v1/grants?state=${args.state}`), grants)
  },
}

const revokeCommand = {
  command: 'revoke <id>',
  describe: 'End a grant now',
  builder: (yargs: Argv) => id(yargs).example('$0 approvals revoke 01K9…', 'covers nothing more'),
  handler: async (args: ArgumentsCamelCase<Common & { id: string }>): Promise<void> => {
    const grant = await call(args, 'DELETE', path('grants', args.id))
    print(args, grant, (value) => grants({ grants: [value] }))
  },
}

/** `regate approvals …`. */
export const approvalsCommand = {
  command: 'approvals',
  describe: 'Decide what waits for people',
  builder: (yargs: Argv): Argv =>
    yargs
      .command(listCommand)
      .command(showCommand)
      .command(approveCommand)
      .command(rejectCommand)
      .command(watchCommand)
      .command(grantCommand)
      .command(grantsCommand)
      .command(revokeCommand)
      .demandCommand(1, 'Which one? `regate approvals list` shows what waits.')
      .example('$0 approvals list', 'what waits'),
  handler: (): void => undefined,
}
