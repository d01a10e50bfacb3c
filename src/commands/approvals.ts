/** `regate approvals`: the reviewer's side, over the admin API; what it prints is approvals-words.ts. */
import { request } from 'undici'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { harmlessJson } from '../core/core.ts'
import { detail, escaped, grants, list, type Json } from './approvals-words.ts'
import { CommandFailure } from './failure.ts'

interface Common {
  admin: string
  token: string | undefined
  json: boolean
}

const common = <T>(yargs: Argv<T>) =>
  yargs
    .option('admin', {
      type: 'string',
      default: process.env['REGATE_ADMIN_URL'] ?? 'http://127.0.0.1:8432',
      describe: 'URL of the admin API; default $REGATE_ADMIN_URL',
    })
    .option('token', {
      type: 'string',
      describe: 'name of the environment variable that holds the token; default REGATE_ADMIN_TOKEN',
    })
    .option('json', { type: 'boolean', default: false, describe: 'the API’s own JSON' })

async function call(args: Common, method: string, path: string, body?: object): Promise<Json> {
  const name = args.token ?? 'REGATE_ADMIN_TOKEN'
  const token = process.env[name]
  const answer = await request(new URL(path, args.admin), {
    method: method as 'GET',
    headers: {
      'content-type': 'application/json',
      ...(token === undefined || token === '' ? {} : { authorization: `Bearer ${token}` }),
    },
    // What changes something must come as JSON, and JSON is never nothing.
    ...(method === 'GET' ? {} : { body: JSON.stringify(body ?? {}) }),
    headersTimeout: 30_000,
  }).catch((cause: unknown) => {
    throw new CommandFailure(`${args.admin} does not answer`, {
      hint: 'name the admin API with --admin or REGATE_ADMIN_URL',
      cause,
    })
  })
  const text = await answer.body.text()
  const parsed = parse(text)
  if (answer.statusCode < 200 || answer.statusCode > 299) {
    const { error, hint } = parsed
    const known = typeof hint === 'string' ? hint : null
    const login = answer.statusCode === 401 ? `put a token into ${name}` : null
    throw new CommandFailure(
      escaped(typeof error === 'string' ? error : `status ${String(answer.statusCode)}`),
      known === null && login === null ? {} : { hint: escaped(known ?? login ?? '') },
    )
  }
  return parsed
}

function parse(text: string): Json {
  try {
    return JSON.parse(text) as Json
  } catch {
    return { error: 'the admin API answered something else than JSON' }
  }
}

function print(args: Common, value: Json, show: (value: Json) => string): void {
  process.stdout.write(
    args.json ? `${harmlessJson(JSON.stringify(value, null, 2))}\n` : `${show(value)}\n`,
  )
}

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
