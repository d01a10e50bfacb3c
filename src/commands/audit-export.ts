/** `regate audit export`: matching records as NDJSON, or one CSV row a statement. */
import type { ArgumentsCamelCase, Argv } from 'yargs'
import { AuditSearch, endsOf, type Ended, type Found } from '../audit/audit.ts'
import { printable } from '../core/core.ts'
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

interface ExportArguments extends DirectoryArguments {
  format: 'ndjson' | 'csv'
}

function builder(yargs: Argv): Argv<ExportArguments> {
  return withFilters(withDirectory(yargs))
    .option('format', {
      choices: ['ndjson', 'csv'] as const,
      default: 'ndjson' as const,
      describe: 'ndjson: records as they are, ends behind them; csv: one row a statement',
    })
    .example('$0 audit export --since 30d > audit.ndjson', 'the last month')
    .example('$0 audit export --format csv --user ann > ann.csv', 'for a spreadsheet')
}

/** `regate audit export` */
export const auditExportCommand = {
  command: 'export',
  describe: 'Matching records as NDJSON or CSV, oldest first',
  builder,
  handler: async (args: ArgumentsCamelCase<ExportArguments>): Promise<void> => {
    const directory = await directoryOf(args)
    const progress = await startProgress()
    const csv = args.format === 'csv'
    const search = misused(
      () =>
        new AuditSearch(directory, {
          ...{ order: 'asc', filter: filterOf(args), ends: !csv, onProgress: progress.update },
        }),
    )
    try {
      await (csv ? writeCsv(directory, search) : writeNdjson(search))
    } finally {
      progress.stop()
    }
  },
}

const newline = Buffer.from('\n')
const batchCount = 500

async function writeNdjson(search: AuditSearch): Promise<void> {
  const output = new Output()
  for await (const { bytes } of search.records()) {
    await output.write(Buffer.concat([bytes, newline]))
    if (output.gone) return
  }
}

async function writeCsv(directory: string, search: AuditSearch): Promise<void> {
  const output = new Output()
  await output.write(`${columns.map(([name]) => name).join(',')}\r\n`)
  let batch: Found[] = []
  const flush = async (): Promise<void> => {
    const ends = await endsOf(directory, batch)
    for (const found of batch) {
      const end = ends.get(found.record.decision?.decision_id ?? '') ?? null
      await output.write(`${csvRow(found, end)}\r\n`)
    }
    batch = []
  }
  for await (const found of search.records()) {
    batch.push(found)
    if (batch.length === batchCount) await flush()
    if (output.gone) return
  }
  await flush()
}

type Value = string | number | boolean | null | undefined | readonly string[]
type Column = readonly [name: string, value: (found: Found['record'], end: Ended | null) => Value]

const columns: readonly Column[] = [
  ['time', ({ time }) => time],
  ['id', ({ id }) => id],
  ['type', ({ type }) => type],
  ['session', ({ session }) => session],
  ['user', ({ identity }) => identity?.user],
  ['subject', ({ identity }) => identity?.subject],
  ['groups', ({ identity }) => identity?.groups],
  ['database', ({ database }) => database],
  ['client_address', ({ client_address: address }) => address],
  ['kind', ({ statement }) => statement?.kind],
  ['action', ({ decision }) => decision?.action],
  ['rule', ({ decision }) => decision?.rule],
  ['reason', ({ decision, reason }) => decision?.reason ?? reason],
  ['revision', ({ decision }) => decision?.revision],
  ['decision_id', ({ decision }) => decision?.decision_id],
  ['relations', ({ access }) => access?.relations],
  ['columns', ({ access }) => access?.columns],
  ['masked_columns', ({ access }) => access?.masked_columns],
  ['fingerprint', ({ statement }) => statement?.fingerprint],
  ['forwarded', ({ outcome }, end) => (outcome ?? end?.outcome)?.forwarded],
  ['tag', ({ outcome }, end) => (outcome ?? end?.outcome)?.tag],
  ['rows', ({ outcome }, end) => (outcome ?? end?.outcome)?.rows],
  ['bytes', ({ outcome }, end) => (outcome ?? end?.outcome)?.bytes],
  ['sqlstate', ({ outcome }, end) => (outcome ?? end?.outcome)?.sqlstate],
  ['duration_us', ({ outcome }, end) => (outcome ?? end?.outcome)?.duration_us],
  ['text', ({ statement }) => statement?.text],
]

/** RFC 4180. What a spreadsheet would take for a formula begins with an apostrophe. */
export function csvRow({ record }: Found, end: Ended | null): string {
  return columns.map(([, value]) => csvValue(value(record, end))).join(',')
}

function csvValue(value: Value): string {
  if (value === null || value === undefined) return ''
  const plain = typeof value === 'object' ? value.join(' ') : String(value)
  const text = printable(/^[=+\-@\t\r＝＋－＠]/.test(plain) ? `'${plain}` : plain)
  return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
