/** `regate audit play`: a session as it went, in the terminal, with its timing. */
import { setTimeout as sleep } from 'node:timers/promises'
import Table from 'cli-table3'
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { z } from 'zod'
import { auditFilter, AuditSearch, type AuditRecord } from '../audit/audit.ts'
import { durationMs } from '../config/config.ts'
import { cut, printable, printableLines } from '../core/core.ts'
import { directoryOf, Output, withDirectory, type DirectoryArguments } from './audit-options.ts'
import { endText } from './audit-query.ts'
import { CommandFailure } from './failure.ts'

interface PlayArguments extends DirectoryArguments {
  session: string
  speed: number
  'max-wait': string
}

function builder(yargs: Argv): Argv<PlayArguments> {
  return withDirectory(yargs)
    .positional('session', { type: 'string', demandOption: true, describe: 'id of the session' })
    .option('speed', {
      type: 'number',
      default: 1,
      describe: '2 is twice as fast; 0 does not wait',
    })
    .option('max-wait', {
      type: 'string',
      default: '2s',
      describe: 'the longest pause between two events',
    })
    .example('$0 audit play 9f1c2d', 'as it went, without long pauses')
    .example('$0 audit play 9f1c2d --speed 0', 'all at once')
}

/** `regate audit play SESSION` */
export const auditPlayCommand = {
  command: 'play <session>',
  describe: 'Play a session back',
  builder,
  handler: async (args: ArgumentsCamelCase<PlayArguments>): Promise<void> => {
    const directory = await directoryOf(args)
    const waitMsMax = waitOf(args['max-wait'])
    if (!(args.speed >= 0)) throw new CommandFailure('--speed: a number from 0', { misuse: true })
    const filter = auditFilter({ session: args.session }, Date.now())
    const search = new AuditSearch(directory, { order: 'asc', filter, ends: true })
    const output = new Output()
    let startedMs: number | null = null
    let beforeMs = 0
    for await (const { record } of search.records()) {
      const atMs = Date.parse(record.time)
      startedMs ??= atMs
      if (args.speed > 0 && beforeMs > 0) {
        await sleep(Math.max(0, Math.min(waitMsMax, (atMs - beforeMs) / args.speed)))
      }
      beforeMs = atMs
      await output.write(`${played(record, atMs - startedMs)}\n`)
      if (output.gone || record.type === 'session_ended') return
    }
    if (startedMs === null) {
      throw new CommandFailure(`no session ${args.session} in ${directory}`, {
        hint: 'regate audit query --type session_started lists them',
      })
    }
  },
}

function waitOf(text: string): number {
  if (/^\d+(\.\d+)?(ms|s|m)$/.test(text)) return durationMs(text)
  throw new CommandFailure('--max-wait: a duration like 500ms or 2s', { misuse: true })
}

const textLengthMax = 20_000

/** One event of a session as text. */
export function played(record: AuditRecord, sinceMs: number): string {
  const at = `[${clockText(sinceMs)}]`
  const { identity, database, client_address: address, statement, decision } = record
  switch (record.type) {
    case 'session_started': {
      const groups = identity?.groups?.join(', ') ?? ''
      const who = `${identity?.user ?? '?'} (${groups})`
      return `${at} ${printable(`${who} connected to ${database ?? '?'} from ${address ?? '?'}`)}`
    }
    case 'statement_decided': {
      const text = printableLines(cut(statement?.text ?? '', textLengthMax)).replaceAll(
        '\n',
        '\n    ',
      )
      const head = `${at} ${printable(database ?? '')}=> ${text}`
      if ((record.outcome ?? null) === null)
        return decision?.action === 'allow'
          ? head
          : `${head}\n    ${printable(decision?.action ?? '')}: ${printable(decision?.rule ?? '')}`
      const { sqlstate } = record.outcome ?? {}
      return `${head}\n    ${printable(`refused ${sqlstate ?? ''} (${decision?.rule ?? ''}): ${decision?.reason ?? ''}`)}`
    }
    case 'statement_ended': {
      const end = { time: record.time, outcome: record.outcome ?? null, result: null }
      const shown = resultText(record.result)
      return `${at}   ${printable(`${record.outcome?.tag ?? ''} ${endText(end)}`.trim())}${shown === '' ? '' : `\n${shown}`}`
    }
    default:
      return `${at} ${printable(`${record.type.replaceAll('_', ' ')}${record.reason === undefined ? '' : `: ${record.reason}`}`)}`
  }
}

const resultSchema = z.union([
  z.object({ copy: z.string(), truncated: z.boolean() }),
  z.object({
    columns: z.array(z.string()),
    rows: z.array(z.array(z.string().nullable())),
    truncated: z.boolean(),
  }),
])
const valueLengthMax = 200

function resultText(given: unknown): string {
  const result = resultSchema.safeParse(given).data
  if (result === undefined) return ''
  const more = result.truncated ? '\n(more was not recorded)' : ''
  if ('copy' in result) return `${printableLines(result.copy)}${more}`
  const table = new Table({
    head: result.columns.map((name) => printable(name, valueLengthMax)),
    style: { head: [], border: [], compact: true },
  })
  for (const row of result.rows) {
    table.push(row.map((value) => printable(value ?? 'NULL', valueLengthMax)))
  }
  return `${table.toString()}${more}`
}

function clockText(ms: number): string {
  const seconds = Math.max(0, ms) / 1_000
  const minutes = Math.floor(seconds / 60)
  return `${String(minutes).padStart(2, '0')}:${(seconds - minutes * 60).toFixed(3).padStart(6, '0')}`
}
