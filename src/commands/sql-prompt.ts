/**
 * What `regate sql` knows of SQL text and of showing results: where a statement ends, a table, an
 * error with all its fields. Pure: text in, text out.
 */
import Table from 'cli-table3'
import { printableLines } from '../core/core.ts'

/** A query's result as `pg` gives it with every value left as text. */
export interface TextResult {
  readonly command: string
  readonly rowCount: number | null
  readonly fields: readonly { readonly name: string }[]
  readonly rows: readonly (readonly (string | null)[])[]
}

/** The fields of an ErrorResponse or NoticeResponse. */
export interface ServerMessage {
  readonly severity?: string | undefined
  readonly code?: string | undefined
  readonly message?: string | undefined
  readonly detail?: string | undefined
  readonly hint?: string | undefined
  readonly position?: string | undefined
  readonly where?: string | undefined
}

/**
 * Splits off the complete statements at the front of a text: up to the last semicolon outside
 * quotes, dollar quotes, comments and parentheses. Returns them as one text, and the rest.
 */
export function splitComplete(text: string): { complete: string; rest: string } {
  let end = 0
  let depth = 0
  const token =
    /--[^\n]*|\/\*|"(?:[^"]|"")*"?|[eE]'(?:[^'\\]|\\[\s\S]|'')*'?|'(?:[^']|'')*'?|\$([A-Za-z_]\w*)?\$|[();]|[\w$]+/g
  for (let found = token.exec(text); found !== null; found = token.exec(text)) {
    const [word, tag] = found
    if (word === '(') depth++
    else if (word === ')') depth = Math.max(0, depth - 1)
    else if (word === ';' && depth === 0) end = token.lastIndex
    else if (word === '/*') {
      const after = endOfComment(text, token.lastIndex)
      if (after === -1) break
      token.lastIndex = after
    } else if (word.startsWith('$') && word.endsWith('$') && word.length > 1) {
      const close = text.indexOf(`$${tag ?? ''}$`, token.lastIndex)
      if (close === -1) break
      token.lastIndex = close + word.length
    } else if (isOpen(word)) break
  }
  return { complete: text.slice(0, end), rest: text.slice(end) }
}

function isOpen(word: string): boolean {
  const quote = /^[eE]?(['"])/.exec(word)?.[1]
  if (quote === undefined) return false
  const body = word.slice(word.indexOf(quote) + 1)
  return !body.endsWith(quote)
}

function endOfComment(text: string, from: number): number {
  let depth = 1
  for (let index = from; index < text.length - 1; index++) {
    const pair = text.slice(index, index + 2)
    if (pair === '/*') depth++
    else if (pair === '*/') depth--
    else continue
    index++
    if (depth === 0) return index + 1
  }
  return -1
}

/** A result for people: a table and a count, or the command tag. */
export function formatResult(result: TextResult): string {
  if (result.fields.length === 0) {
    const count = /^(INSERT|UPDATE|DELETE|MERGE|COPY|SELECT)$/.test(result.command)
    return count ? `${result.command} ${result.rowCount ?? 0}` : result.command
  }
  const table = new Table({
    head: result.fields.map((field) => printableLines(field.name)),
    style: { head: [], border: [], compact: true },
  })
  for (const row of result.rows) table.push(row.map((value) => printableLines(value ?? 'NULL')))
  const { length } = result.rows
  return `${table.toString()}\n(${length} row${length === 1 ? '' : 's'})`
}

/** An error or notice with everything that it says. */
export function formatMessage(message: ServerMessage, text: string | null): string {
  const code = message.code === undefined ? '' : ` ${message.code}`
  const head = `${message.severity ?? 'ERROR'}${code}: ${message.message ?? ''}`
  const lines = [printableLines(head)]
  const position = Number(message.position ?? Number.NaN)
  if (text !== null && Number.isInteger(position)) lines.push(...pointer(text, position))
  if (message.detail !== undefined) lines.push(`DETAIL: ${printableLines(message.detail)}`)
  if (message.hint !== undefined) lines.push(`HINT: ${printableLines(message.hint)}`)
  return lines.join('\n')
}

function pointer(text: string, position: number): string[] {
  const characters = [...text]
  const before = characters.slice(0, position - 1).join('')
  const line = before.split('\n').length
  const start = before.lastIndexOf('\n') + 1
  const whole = text.slice(start).split('\n')[0] ?? ''
  const label = `LINE ${line}: `
  return [
    `${label}${printableLines(whole)}`,
    `${' '.repeat(label.length + [...before.slice(start)].length)}^`,
  ]
}
