/** `regate audit query`: searches the log and prints what matches, a line a statement. */
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { AuditSearch, endsOf, type Ended, type Found } from '../audit/audit.ts'
import { cut, printable } from '../core/core.ts'
import {
  directoryOf,
  filterOf,
  misused,
  Output,
  startProgress,
  withDirectory,
  withFilters,
  type DirectoryArguments,
} from './audit-options.ts'

interface QueryArguments extends DirectoryArguments {
  order: 'asc' | 'desc'
  limit: number
  json: boolean
}

function builder(yargs: Argv): Argv<QueryArguments> {
  return withFilters(withDirectory(yargs))
    .option('order', {
      choices: ['asc', 'desc'] as const,
      default: 'desc' as const,
      describe: 'desc is newest first',
    })
    .option('limit', { type: 'number', default: 100, describe: 'records; 0 is all' })
    .option('json', { type: 'boolean', default: false, describe: 'records as they are, NDJSON' })
    .example('$0 audit query --table users --since 1d', 'who touched users since yesterday')
    .example('$0 audit query --user ann --action deny', 'what ann was refused')
    .example('$0 audit query --column ssn --json --limit 0', 'every record about ssn')
}

/** `regate audit query` */
export const auditQueryCommand = {
  command: 'query',
  describe: 'Search the log',
  builder,
  handler: async (args: ArgumentsCamelCase<QueryArguments>): Promise<void> => {
    const directory = await directoryOf(args)
    const progress = await startProgress()
    const { order } = args
    const search = misused(
      () =>
        new AuditSearch(directory, {
          ...{ order, filter: filterOf(args), onProgress: progress.update },
        }),
    )
    try {
      await print(directory, search, args)
    } finally {
      progress.stop()
    }
  },
}

const batchCount = 100

async function print(
  directory: string,
  search: AuditSearch,
  { json, limit }: QueryArguments,
): Promise<void> {
  const output = new Output()
  let batch: Found[] = []
  const flush = async (): Promise<void> => {
    const ends = await endsOf(directory, batch)
    for (const found of batch) {
      const end = ends.get(found.record.decision?.decision_id ?? '') ?? null
      await output.write(`${queryLine(found, end)}\n`)
    }
    batch = []
  }
  let count = 0
  for await (const found of search.records()) {
    count++
    if (json) await output.write(Buffer.concat([found.bytes, Buffer.from('\n')]))
    else batch.push(found)
    if (batch.length === batchCount) await flush()
    if (count === limit || output.gone) break
  }
  await flush()
  if (count === 0) process.stderr.write('nothing matches\n')
}

const textLengthMax = 2_000

/** One record on one line, harmless in a terminal. */
export function queryLine({ record }: Found, end: Ended | null): string {
  const { identity, statement, decision, outcome } = record
  const who = `${identity?.user ?? '-'}@${record.database ?? '-'}`
  const time = record.time.replace('T', ' ').replace('Z', '')
  const parts = [time, record.id, who]
  if (record.type === 'statement_decided') {
    parts.push(decision?.action ?? '?')
    if (outcome !== null && outcome !== undefined) {
      parts.push(`refused ${outcome.sqlstate ?? ''} ${decision?.rule ?? ''}`)
    } else parts.push(endText(end))
    parts.push(cut(statement?.text ?? '', textLengthMax).replace(/\s+/g, ' '))
  } else {
    parts.push(record.type)
    if (record.reason !== undefined) parts.push(record.reason)
    if (outcome !== null && outcome !== undefined)
      parts.push(endText({ ...record, outcome, result: null }))
  }
  return parts.map((part) => printable(part)).join('  ')
}

/** How a statement ended, in a few words. */
export function endText(end: Ended | null): string {
  const { outcome } = end ?? {}
  if (outcome === null || outcome === undefined) return 'no end on record'
  if (outcome.lost === true) return 'lost: the connection ended before its answer'
  if (outcome.skipped === true) return 'skipped'
  if (outcome.forwarded === false) return 'not sent'
  const ms = ((outcome.duration_us ?? 0) / 1_000).toFixed(1)
  const { rows = 0, sqlstate = null } = outcome
  return `${sqlstate === null ? `${rows} row${rows === 1 ? '' : 's'}` : `ERROR ${sqlstate}`} in ${ms} ms`
}
