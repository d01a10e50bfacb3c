/**
 * The options of COPY … TO STDOUT that decide how its data reads, from the statement's tree
 * (ProcessCopyOptions in src/backend/commands/copy.c).
 *
 * An option that is not understood is a refusal: data that cannot be split into fields for certain
 * cannot be masked.
 */
import { ProxyError } from '../core/core.ts'
import type { SyntaxNode } from '../sql/sql.ts'

export interface CopyOptions {
  readonly format: 'text' | 'csv' | 'binary'
  readonly delimiter: number
  readonly quote: number
  readonly escape: number
  readonly nullText: Buffer
  readonly header: boolean
  /** `all`, or the names of FORCE_QUOTE. */
  readonly forceQuote: 'all' | ReadonlySet<string>
}

/** Encodings that are UTF8 by another name (src/common/encnames.c). */
const UTF8_NAMES: ReadonlySet<string> = new Set(['utf8', 'unicode'])

/** The options, or a ProxyError where they cannot be masked under. */
export function copyOptionsOf(ast: SyntaxNode): CopyOptions {
  const statement = recordOf(ast['CopyStmt'])
  if (statement === null) throw cannot('the statement is no COPY')
  const options = new Map<string, unknown>()
  for (const item of listOf(statement['options'])) {
    const element = recordOf(recordOf(item)?.['DefElem'])
    const name = element?.['defname']
    if (element === null || typeof name !== 'string') throw cannot('an option cannot be read')
    options.set(name, element['arg'])
  }
  const format = textOf(options, 'format') ?? 'text'
  if (format !== 'text' && format !== 'csv' && format !== 'binary') {
    throw cannot(`format ${format} is not known`)
  }
  const encoding = textOf(options, 'encoding')
  if (encoding !== null && !UTF8_NAMES.has(encoding.toLowerCase().replace(/[^a-z0-9]/g, ''))) {
    throw cannot('ENCODING must be UTF8')
  }
  const csv = format === 'csv'
  const quote = byteOf(options, 'quote', 0x22)
  return {
    format,
    delimiter: byteOf(options, 'delimiter', csv ? 0x2c : 0x09),
    quote,
    escape: byteOf(options, 'escape', quote),
    nullText: Buffer.from(textOf(options, 'null') ?? (csv ? '' : '\\N')),
    header: options.has('header') && isTrue(options.get('header')),
    forceQuote: forceQuoteOf(options.get('force_quote')),
  }
}

/** Why a COPY with masked columns may not run; null where it may. */
export function copyObstacle(ast: SyntaxNode): ProxyError | null {
  try {
    copyOptionsOf(ast)
    return null
  } catch (error) {
    if (error instanceof ProxyError) return error
    throw error
  }
}

function cannot(why: string): ProxyError {
  return new ProxyError('denied', `this COPY reads masked columns and cannot be masked: ${why}`, {
    hint: 'Use FORMAT text, csv or binary in UTF8, or SELECT.',
  })
}

function recordOf(value: unknown): Readonly<Record<string, unknown>> | null {
  // The parser's own JSON: objects of named fields.
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function textOf(options: ReadonlyMap<string, unknown>, name: string): string | null {
  if (!options.has(name)) return null
  const text = recordOf(recordOf(options.get(name))?.['String'])
  if (text === null) throw cannot(`option ${name} cannot be read`)
  return typeof text['sval'] === 'string' ? text['sval'] : ''
}

/** Delimiter, quote and escape are one byte each (copy.c refuses anything else). */
function byteOf(options: ReadonlyMap<string, unknown>, name: string, fallback: number): number {
  const text = textOf(options, name)
  if (text === null) return fallback
  const code = text.charCodeAt(0)
  if (text.length !== 1 || code > 0x7f) throw cannot(`option ${name} must be one byte`)
  return code
}

/** As defGetCopyHeaderOption: absent is true. What is not sure is false, so the line is masked. */
function isTrue(value: unknown): boolean {
  const record = recordOf(value)
  if (record === null) return true
  if (recordOf(record['Boolean'])?.['boolval'] === true) return true
  if (recordOf(record['Integer'])?.['ival'] === 1) return true
  const text = recordOf(record['String'])?.['sval']
  return typeof text === 'string' && ['true', 'on'].includes(text.toLowerCase())
}

function forceQuoteOf(value: unknown): 'all' | ReadonlySet<string> {
  const record = recordOf(value)
  if (record === null) return new Set()
  if ('A_Star' in record) return 'all'
  const names = listOf(recordOf(record['List'])?.['items'])
    .map((item) => recordOf(recordOf(item)?.['String'])?.['sval'])
    .filter((name) => typeof name === 'string')
  return new Set(names)
}
