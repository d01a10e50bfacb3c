/**
 * `regate login`: a short-lived token of the company's OIDC issuer, for psql and everything else that
 * can only send a password. A token that is still good is used again, one that is not is refreshed;
 * only then a person is asked.
 *
 * With `--print` nothing but the token goes to stdout; all else goes to stderr.
 */
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { printable } from '../core/core.ts'
import { CommandFailure } from './failure.ts'
import {
  browserLogin,
  deviceLogin,
  discover,
  refreshLogin,
  type LoginOptions,
} from './login-flows.ts'
import {
  forgetLogin,
  loadLogin,
  parsePgpassTarget,
  pgpassPath,
  saveLogin,
  storePath,
  writePgpass,
  type StoredLogin,
} from './login-store.ts'

interface LoginArguments {
  issuer: string | undefined
  'client-id': string | undefined
  'client-secret-env': string | undefined
  scope: string
  resource: string | undefined
  audience: string | undefined
  token: string
  flow: string
  print: boolean
  store: boolean
  browser: boolean
  force: boolean
  pgpass: string | undefined
  timeout: number
  logout: boolean
}

const environment = process.env
/** A token that ends within this is not handed out. */
const remainingMsMin = 60_000

function builder(yargs: Argv): Argv<LoginArguments> {
  return yargs
    .option('issuer', {
      type: 'string',
      default: environment['REGATE_OIDC_ISSUER'],
      describe: 'the OIDC issuer (also $REGATE_OIDC_ISSUER)',
    })
    .option('client-id', {
      type: 'string',
      default: environment['REGATE_OIDC_CLIENT_ID'],
      describe: 'the public client registered there (also $REGATE_OIDC_CLIENT_ID)',
    })
    .option('client-secret-env', {
      type: 'string',
      describe: 'environment variable with the secret, for issuers that give public clients one',
    })
    .option('scope', {
      type: 'string',
      default: 'openid offline_access',
      describe: 'scopes; offline_access for tokens that refresh',
    })
    .option('resource', { type: 'string', describe: 'RFC 8707 resource to get the token for' })
    .option('audience', { type: 'string', describe: 'audience, for issuers that want one (Auth0)' })
    .option('token', {
      type: 'string',
      choices: ['access', 'id'],
      default: 'access',
      describe: 'which token is the password',
    })
    .option('flow', {
      type: 'string',
      choices: ['device', 'browser'],
      default: 'device',
      describe: 'device: a code typed in anywhere; browser: on this machine, with PKCE',
    })
    .option('print', {
      type: 'boolean',
      default: false,
      describe: 'print the token and nothing else on standard output',
    })
    .option('store', { type: 'boolean', default: true, describe: 'keep the token for next time' })
    .option('browser', { type: 'boolean', default: true, describe: 'try to open a browser' })
    .option('force', { type: 'boolean', default: false, describe: 'log in anew' })
    .option('pgpass', {
      type: 'string',
      describe: 'host:port:database:user to write into the pgpass file with the token',
    })
    .option('timeout', { type: 'number', default: 600, describe: 'seconds to wait for a person' })
    .option('logout', { type: 'boolean', default: false, describe: 'forget the stored token' })
    .example('PGPASSWORD=$($0 login --print) psql -h db-proxy -d shop', 'one psql')
    .example('$0 login --pgpass db-proxy:6432:*:ann', 'every libpq client, until it expires')
}

/** See the head of this file. */
export const loginCommand = {
  command: 'login',
  describe: 'Get a token of your OIDC issuer, for psql and other clients',
  builder,
  handler: async (args: ArgumentsCamelCase<LoginArguments>): Promise<void> => {
    const tell = (line: string): void => void process.stderr.write(`${printable(line)}\n`)
    const options = optionsOf(args, tell)
    const path = storePath(environment)
    const name = nameOf(options)
    if (args.logout) {
      tell((await forgetLogin(path, name)) ? 'forgotten' : 'there was no stored token')
      return
    }
    const pgpass = args.pgpass === undefined ? null : parsePgpassTarget(args.pgpass)
    if (args.pgpass !== undefined && pgpass === null) {
      throw new CommandFailure('--pgpass is host:port:database:user', {
        hint: 'for example --pgpass db-proxy:6432:*:ann',
        misuse: true,
      })
    }
    const login = await obtain(args, options, path, name)
    if (args.store) await saveLogin(path, name, login)
    if (pgpass !== null) {
      await writePgpass(pgpassPath(environment), pgpass, login.token)
      tell(`written to ${pgpassPath(environment)}`)
    }
    if (args.print) process.stdout.write(`${login.token}\n`)
    else
      tell(`logged in until ${new Date(login.expiresAtMs).toISOString()}; --print gives the token`)
  },
}

function optionsOf(args: LoginArguments, tell: (line: string) => void): LoginOptions {
  const { issuer, 'client-id': clientId, 'client-secret-env': clientSecretEnv } = args
  if (issuer === undefined || clientId === undefined) {
    throw new CommandFailure('the issuer and the client id are needed', {
      hint: '--issuer and --client-id, or $REGATE_OIDC_ISSUER and $REGATE_OIDC_CLIENT_ID',
      misuse: true,
    })
  }
  const secret = clientSecretEnv === undefined ? null : environment[clientSecretEnv]
  if (secret === undefined) {
    throw new CommandFailure(`the environment variable ${clientSecretEnv ?? ''} is not set`, {
      misuse: true,
    })
  }
  return {
    issuer,
    clientId,
    clientSecret: secret,
    scope: args.scope,
    resource: args.resource ?? null,
    audience: args.audience ?? null,
    token: args.token === 'id' ? 'id' : 'access',
    tell,
    openBrowser: args.browser,
    signal: AbortSignal.timeout(args.timeout * 1000),
  }
}

/** Logins of different clients, scopes and APIs are kept apart. */
function nameOf(options: LoginOptions): string {
  const { issuer, clientId, scope, resource, audience, token } = options
  return JSON.stringify([issuer, clientId, scope, resource, audience, token])
}

async function obtain(
  args: LoginArguments,
  options: LoginOptions,
  path: string,
  name: string,
): Promise<StoredLogin> {
  const known = args.force ? null : await loadLogin(path, name)
  if (known !== null && known.expiresAtMs - Date.now() > remainingMsMin) return known
  const configuration = await discover(options)
  if (known !== null && known.refreshToken !== null) {
    const refreshed = await refreshLogin(configuration, known.refreshToken, options)
    if (refreshed !== null) return refreshed
    options.tell('the login has ended; please log in again')
  }
  return args.flow === 'browser'
    ? browserLogin(configuration, options)
    : deviceLogin(configuration, options)
}
