/**
 * `regate sql`: a small SQL prompt for machines without psql. Every value is shown as the server
 * sent it. Errors are shown whole, because a refusal's DETAIL and HINT are what they are for.
 */
import { createInterface } from 'node:readline/promises'
import type { Readable } from 'node:stream'
import { text as readAll } from 'node:stream/consumers'
import { userInfo } from 'node:os'
import type pg from 'pg'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { cancelSql, connectSql, readConnection, type SqlConnection } from './sql-connection.ts'
import {
  formatMessage,
  formatResult,
  splitComplete,
  type ServerMessage,
  type TextResult,
} from './sql-prompt.ts'

interface SqlArguments {
  url: string | undefined
  host: string
  port: number
  user: string
  database: string | undefined
  password: string | undefined
  command: string[] | undefined
}

const environment = process.env

function builder(yargs: Argv): Argv<SqlArguments> {
  return yargs
    .positional('url', {
      type: 'string',
      describe:
        'postgres://user@host:port/database?sslmode=…&sslrootcert=…; password in $PGPASSWORD',
    })
    .option('host', {
      type: 'string',
      default: environment['PGHOST'] ?? '127.0.0.1',
      describe: 'where the proxy listens',
    })
    .option('port', {
      type: 'number',
      alias: 'p',
      default: Number(environment['PGPORT'] ?? 6432),
      describe: 'port of the proxy',
    })
    .option('user', {
      type: 'string',
      alias: 'U',
      default: environment['PGUSER'] ?? user(),
      describe: 'who connects',
    })
    .option('database', { type: 'string', alias: 'd', describe: 'default: the user name' })
    .option('password', {
      type: 'string',
      describe: 'default: $PGPASSWORD; asked for on a terminal',
    })
    .option('command', {
      type: 'string',
      array: true,
      alias: 'c',
      nargs: 1,
      describe: 'run this and end; may be given several times',
    })
    .example('$0 sql -U agent -d shop', 'a prompt on the demo')
    .example(
      '$0 sql "postgres://ann@db.example:6432/shop?sslmode=verify-full&sslrootcert=ca.pem"',
      "TLS as libpq's sslmode says; default prefer",
    )
    .example('$0 sql postgres://agent:agent@127.0.0.1:6432/shop -c "SELECT 1"', 'one statement')
}

function user(): string {
  try {
    return userInfo().username
  } catch {
    return 'postgres'
  }
}

/** Connects, runs what it was given or asks for more; rejects when a statement given failed. */
export const sqlCommand = {
  command: 'sql [url]',
  describe: 'A small SQL prompt through the proxy',
  builder,
  handler: async (args: ArgumentsCamelCase<SqlArguments>): Promise<void> => {
    const { client, connection } = await connectClient(args)
    const prompt = new SqlPrompt(client, connection, (line) => process.stdout.write(`${line}\n`))
    const interrupt = (): void => prompt.cancel()
    try {
      if (args.command !== undefined) {
        for (const command of args.command) await prompt.run(command)
      } else if (process.stdin.isTTY) {
        await interactive(prompt, client.database ?? '')
        return
      } else {
        process.on('SIGINT', interrupt)
        await prompt.runAll(await readAll(process.stdin as Readable))
      }
      if (prompt.failures > 0) process.exitCode = 1
    } finally {
      process.off('SIGINT', interrupt)
      await client.end().catch(() => undefined)
    }
  },
}

async function connectClient(
  args: SqlArguments,
): Promise<{ readonly client: pg.Client; readonly connection: SqlConnection }> {
  const connection = readConnection(
    args.url ?? null,
    { ...args, database: args.database ?? environment['PGDATABASE'] },
    environment,
  )
  let password = connection.password ?? args.password ?? environment['PGPASSWORD']
  if (password === undefined && process.stdin.isTTY && args.command === undefined) {
    password = await askSecret('Password: ')
  }
  return { client: await connectSql(connection, password), connection }
}

async function askSecret(question: string): Promise<string> {
  const reader = createInterface({ input: process.stdin, output: process.stderr, terminal: true })
  // What is typed is not echoed: readline's own writing is switched off for the answer.
  const silent = reader as unknown as { _writeToOutput?: (text: string) => void }
  process.stderr.write(question)
  silent._writeToOutput = () => undefined
  const answer = await reader.question('')
  reader.close()
  process.stderr.write('\n')
  return answer
}

/** Runs query strings on one connection and writes what comes back. */
class SqlPrompt {
  readonly #client: pg.Client
  readonly #connection: SqlConnection
  readonly #write: (line: string) => void
  #busy = false
  failures = 0

  constructor(client: pg.Client, connection: SqlConnection, write: (line: string) => void) {
    this.#client = client
    this.#connection = connection
    this.#write = write
    client.on('notice', (notice) => write(formatMessage(notice as ServerMessage, null)))
    client.on('notification', (event) => {
      write(`NOTIFY ${event.channel}${event.payload === undefined ? '' : `: ${event.payload}`}`)
    })
  }

  async run(text: string): Promise<void> {
    this.#busy = true
    try {
      const outcome: unknown = await this.#client.query({ text, rowMode: 'array' })
      const results = (Array.isArray(outcome) ? outcome : [outcome]) as TextResult[]
      for (const result of results) {
        if (result.command !== null || result.fields.length > 0) this.#write(formatResult(result))
      }
    } catch (error) {
      this.failures++
      const message = error as ServerMessage & Error
      if (message.severity === undefined) throw error
      this.#write(formatMessage(message, text))
    } finally {
      this.#busy = false
    }
  }

  /** Statement by statement, as psql reads a file. */
  async runAll(text: string): Promise<void> {
    let rest = text
    while (rest.trim() !== '') {
      const end = firstStatement(rest)
      await this.run(rest.slice(0, end))
      rest = rest.slice(end)
    }
  }

  /** Sends a CancelRequest for what is running. */
  cancel(): void {
    if (this.#busy) cancelSql(this.#client, this.#connection).catch(() => undefined)
  }

  get busy(): boolean {
    return this.#busy
  }
}

function firstStatement(text: string): number {
  for (let end = text.indexOf(';'); end !== -1; end = text.indexOf(';', end + 1)) {
    if (splitComplete(text.slice(0, end + 1)).rest === '') return end + 1
  }
  return text.length
}

const help = 'End statements with a semicolon. \\q ends, Ctrl-C cancels, \\? shows this.'

async function interactive(prompt: SqlPrompt, database: string): Promise<void> {
  const reader = createInterface({ input: process.stdin, output: process.stdout, historySize: 500 })
  let pending = ''
  const ask = (): void => {
    reader.setPrompt(pending === '' ? `${database}=> ` : `${database}-> `)
    reader.prompt()
  }
  reader.on('SIGINT', () => {
    if (prompt.busy) {
      prompt.cancel()
      return
    }
    pending = ''
    process.stdout.write('\n')
    ask()
  })
  process.stdout.write(`${help}\n`)
  ask()
  for await (const line of reader) {
    const command = line.trim()
    if (pending === '' && (command === '\\q' || command === 'quit' || command === 'exit')) break
    if (pending === '' && command.startsWith('\\')) process.stdout.write(`${help}\n`)
    else {
      const { complete, rest } = splitComplete(`${pending}${pending === '' ? '' : '\n'}${line}`)
      pending = rest.trim() === '' ? '' : rest
      if (complete.trim() !== '') await prompt.run(complete)
    }
    ask()
  }
  reader.close()
}
