/** The client's side of the admin API, for the commands that use it: where it is, with which token. */
import { request } from 'undici'
import type { Argv } from 'yargs'
import { harmlessJson } from '../core/core.ts'
import { escaped, type Json } from './approvals-words.ts'
import { CommandFailure } from './failure.ts'

/** A policy is fetched, compiled and checked before the API answers. */
const answerMsMax = 120_000

/** What every command says that asks the admin API. */
export interface Common {
  admin: string
  token: string | undefined
  json: boolean
}

/** Its options. */
export const commonOptions = <T>(yargs: Argv<T>) =>
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

/** Asks the admin API; what it refuses, or where it cannot be reached, is a CommandFailure. */
export async function callAdmin(
  args: Common,
  method: string,
  path: string,
  body?: object,
): Promise<Json> {
  const name = args.token ?? 'REGATE_ADMIN_TOKEN'
  const token = process.env[name]
  const answer = await request(new URL(path, baseOf(args.admin)), {
    method: method as 'GET',
    headers: {
      'content-type': 'application/json',
      ...(token === undefined || token === '' ? {} : { authorization: `Bearer ${token}` }),
    },
    // What changes something must come as JSON, and JSON is never nothing.
    ...(method === 'GET' ? {} : { body: JSON.stringify(body ?? {}) }),
    headersTimeout: answerMsMax,
  }).catch((cause: unknown) => {
    throw new CommandFailure(`${args.admin} does not answer`, {
      hint: 'name the admin API with --admin or REGATE_ADMIN_URL',
      cause,
    })
  })
  const text = await answer.body.text()
  const parsed = parse(text)
  if (answer.statusCode < 200 || answer.statusCode > 299) {
    const { error, detail, hint } = parsed
    const known = typeof hint === 'string' ? hint : null
    const given = (process.env[name] ?? '') !== ''
    const refused = given
      ? `the token in ${name} is not accepted: is it this admin API's, and still valid?`
      : `put a token into ${name}`
    const login = answer.statusCode === 401 ? refused : null
    throw new CommandFailure(
      escaped(typeof error === 'string' ? error : `status ${String(answer.statusCode)}`),
      {
        ...(typeof detail === 'string' ? { detail: escaped(detail) } : {}),
        ...(known === null && login === null ? {} : { hint: escaped(known ?? login ?? '') }),
      },
    )
  }
  return parsed
}

function baseOf(admin: string): URL {
  const url = URL.canParse(admin) ? new URL(admin) : null
  if (url !== null && /^https?:$/.test(url.protocol)) return url
  throw new CommandFailure(`--admin: ${escaped(admin)} is no URL of an admin API`, {
    hint: 'for example --admin http://127.0.0.1:8432',
    misuse: true,
  })
}

function parse(text: string): Json {
  try {
    return JSON.parse(text) as Json
  } catch {
    return { error: 'the admin API answered something else than JSON' }
  }
}

/** Its JSON with `--json`, else in words. */
export function printAnswer(args: Common, value: Json, show: (value: Json) => string): void {
  process.stdout.write(
    args.json ? `${harmlessJson(JSON.stringify(value, null, 2))}\n` : `${show(value)}\n`,
  )
}
