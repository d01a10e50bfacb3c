/**
 * `regate user add`: a local user with a SCRAM verifier and groups in users.yaml. The password is
 * asked for or read from standard input, and leaves this process only as a verifier.
 */
import { randomBytes } from 'node:crypto'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import {
  deriveVerifier,
  parseVerifier,
  writeUser,
  type ScramVerifier,
} from '../identity/identity.ts'
import { askSecret, readSecretLine } from './ask.ts'
import { CommandFailure } from './failure.ts'

interface AddArguments {
  name: string
  users: string
  group: string[] | undefined
  email: string | undefined
  type: 'human' | 'machine' | undefined
  generate: boolean | undefined
  verifier: string | undefined
  iterations: number
}

const addCommand = {
  command: 'add <name>',
  describe: 'Add a user to users.yaml, or change its password and groups',
  builder: (yargs: Argv): Argv<AddArguments> =>
    yargs
      .positional('name', { type: 'string', demandOption: true, describe: 'the login name' })
      .option('users', {
        type: 'string',
        default: 'users.yaml',
        describe: 'the file; made when it is not there',
      })
      .option('group', {
        type: 'string',
        array: true,
        alias: 'g',
        nargs: 1,
        describe: 'a group; may be given several times; without it a known user keeps its groups',
      })
      .option('email', { type: 'string', describe: 'address, for audit and approvals' })
      .option('type', {
        choices: ['human', 'machine'] as const,
        describe: 'what policies see; default human',
      })
      .option('generate', {
        type: 'boolean',
        describe: 'make a random password and print it',
      })
      .option('verifier', {
        type: 'string',
        describe: 'a verifier from pg_authid (SCRAM-SHA-256$…) instead of a password',
      })
      .option('iterations', { type: 'number', default: 4096, describe: 'PBKDF2 iterations' })
      .conflicts('generate', 'verifier')
      .example('$0 user add ann --group engineers', 'asks for the password')
      .example('$0 user add agent-7 -g agents --type machine --generate', 'prints a new password')
      .example('pass show ann | $0 user add ann', 'takes the password from a pipe'),
  handler: async (args: ArgumentsCamelCase<AddArguments>): Promise<void> => {
    if (args.name === '' || Buffer.byteLength(args.name) > 63) {
      throw new CommandFailure('a user name has 1 to 63 bytes, as in PostgreSQL', { misuse: true })
    }
    const { verifier, generated } = await verifierOf(args)
    const outcome = await writeUser(args.users, {
      name: args.name,
      verifier,
      groups: args.group ?? null,
      email: args.email ?? null,
      type: args.type ?? null,
    }).catch((error: unknown) => {
      const { code } = error as NodeJS.ErrnoException
      if (code === undefined) throw error
      const why = code === 'ENOENT' ? 'its directory does not exist' : code
      throw new CommandFailure(`--users ${args.users} cannot be written: ${why}`, { misuse: true })
    })
    process.stderr.write(`${args.name} ${outcome} in ${args.users}\n`)
    if (generated !== null) process.stdout.write(`${generated}\n`)
  },
}

/** `regate user …`. */
export const userCommand = {
  command: 'user',
  describe: 'Local users (users.yaml)',
  builder: (yargs: Argv): Argv =>
    yargs
      .command(addCommand)
      .demandCommand(1, 'Which one? `regate user add NAME --group G` adds a user.')
      .example('$0 user add ann --group engineers', 'asks for the password'),
  handler: (): void => undefined,
}

async function verifierOf(
  args: AddArguments,
): Promise<{ readonly verifier: ScramVerifier; readonly generated: string | null }> {
  if (args.verifier !== undefined) {
    const verifier = parseVerifier(args.verifier)
    if (verifier === null) {
      throw new CommandFailure('--verifier is no SCRAM-SHA-256 verifier', {
        hint: "SELECT rolpassword FROM pg_authid WHERE rolname = '…' shows one",
        misuse: true,
      })
    }
    return { verifier, generated: null }
  }
  if (!Number.isInteger(args.iterations) || args.iterations < 4096 || args.iterations > 1_000_000) {
    throw new CommandFailure('--iterations is a whole number from 4096 to 1000000', {
      misuse: true,
    })
  }
  const generated = args.generate === true ? randomBytes(24).toString('base64url') : null
  const password = generated ?? (await readPassword())
  if (password === '') throw new CommandFailure('an empty password is no password')
  return { verifier: await deriveVerifier(password, { iterations: args.iterations }), generated }
}

async function readPassword(): Promise<string> {
  if (!process.stdin.isTTY) return readSecretLine(process.stdin)
  const password = await askSecret('Password: ')
  if ((await askSecret('Again: ')) !== password) {
    throw new CommandFailure('the two passwords are not the same')
  }
  return password
}
