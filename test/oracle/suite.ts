/**
 * The statements of psql scripts, such as PostgreSQL's regression suite: meta-commands are left
 * out, COPY data too, variables are filled in. For tests only; the proxy itself never splits SQL.
 */
import { readFileSync } from 'node:fs'

/** Values of psql variables: `:name`, `:'name'`, `:"name"`. */
export type Variables = ReadonlyMap<string, string>

/** Statements in order, each without its semicolon. */
export function scriptStatements(script: string, variables: Variables = new Map()): string[] {
  const statements: string[] = []
  let text = ''
  let inData = false
  for (const line of script.split('\n')) {
    if (inData) {
      if (line === '\\.') inData = false
      continue
    }
    if (/^\s*\\/.test(line) && !insideQuote(text)) {
      if (/^\s*\\(g|gset|gexec|gdesc|crosstabview|bind)/.test(line)) {
        if (text.trim() !== '') statements.push(text)
        text = ''
      }
      continue
    }
    text += `${line}\n`
    const cut = cutStatements(text)
    text = cut.rest
    for (const statement of cut.statements) {
      const filled = fill(statement, variables)
      statements.push(filled)
      if (/^\s*copy\s[\s\S]*\sfrom\s+stdin/i.test(withoutComments(filled))) inData = true
    }
  }
  if (withoutComments(text).trim() !== '') statements.push(fill(text, variables))
  return statements.filter((statement) => withoutComments(statement).trim() !== '')
}

function withoutComments(text: string): string {
  return text.replace(/--[^\n]*/g, '').replace(/\/\*[\s\S]*?\*\//g, '')
}

function fill(text: string, variables: Variables): string {
  return text.replace(/(?<![:\w'])::?(?:'(\w+)'|"(\w+)"|(\w+))/g, (whole: string, ...names) => {
    if (whole.startsWith('::')) return whole
    const [quoted, identifier, bare] = names as (string | undefined)[]
    const value = variables.get(quoted ?? identifier ?? bare ?? '')
    if (value === undefined) return whole
    if (quoted !== undefined) return `'${value.replaceAll("'", "''")}'`
    return identifier === undefined ? value : `"${value}"`
  })
}

/** One token that may hold a semicolon, or any other character. */
const token =
  /--[^\n]*\n?|\/\*[\s\S]*?\*\/|[eE]'(?:[^'\\]|''|\\[\s\S])*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$[\s\S]*?\$\1\$|\b(?:begin\s+atomic|case|end)\b|\\g\w*[^\n]*|[\s\S]/giy

function cutStatements(text: string): { statements: string[]; rest: string } {
  const statements: string[] = []
  let start = 0
  let parens = 0
  let blocks = 0
  token.lastIndex = 0
  for (;;) {
    const at = token.lastIndex
    const match = token.exec(text)
    if (match === null) break
    const piece = match[0]
    if (piece.length === 1) {
      // An opening quote that stands alone is closed on a later line.
      if (piece === "'" || piece === '"') break
      if (piece === '$' && /^\$\w*\$/.test(text.slice(at)) && !/\w/.test(text[at - 1] ?? '')) break
      if (piece === '/' && text[at + 1] === '*') break
      if (piece === '(') parens += 1
      if (piece === ')') parens -= 1
    }
    const word = piece.toLowerCase()
    if (word.startsWith('begin')) blocks += 1
    else if (word === 'case' && blocks > 0) blocks += 1
    else if (word === 'end' && blocks > 0) blocks -= 1
    const ends = (piece === ';' && parens <= 0 && blocks === 0) || piece.startsWith('\\g')
    if (!ends) continue
    const before = text.slice(start, at)
    statements.push(before.endsWith('\\') ? before.slice(0, -1) : before)
    start = token.lastIndex
    parens = 0
  }
  return { statements, rest: text.slice(start) }
}

function insideQuote(text: string): boolean {
  return text.trim() !== '' && /['"$]/.test(text.trimStart()[0] ?? '')
}

/** The tests of a pg_regress schedule, in order. */
export function scheduleTests(file: string): string[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => /^test:\s*(.*)$/.exec(line)?.[1]?.trim().split(/\s+/) ?? [])
}

/** The query inside `CREATE VIEW … AS`, `EXPLAIN …`, `DECLARE … FOR`, `PREPARE … AS` and the like. */
export function queryWithin(text: string): string {
  const bare = text.replace(/^(\s|--[^\n]*\n)+/, '')
  const patterns = [
    /^explain\s*\([^)]*\)\s*([\s\S]*)$/i,
    /^explain\s+(?:(?:analyze|verbose)\s+)*([\s\S]*)$/i,
    /^create\s+(?:or\s+replace\s+)?(?:(?:local|global|temp|temporary|recursive|materialized|unlogged)\s+)*(?:view|table)\s[\s\S]*?\sas\s+((?:select|with|values|table|\()[\s\S]*?)(?:with\s+(?:no\s+)?data|with\s+(?:local\s+|cascaded\s+)?check\s+option)?$/i,
    /^declare\s+[\s\S]*?\sfor\s+((?:select|with|values)[\s\S]*)$/i,
    /^insert\s+into\s+[\w."]+\s*(?:\([^)]*\)\s*)?((?:select|with)\s[\s\S]*)$/i,
    /^copy\s*\(\s*((?:select|with|values)[\s\S]*)\)\s*to\s[\s\S]*$/i,
  ]
  for (const pattern of patterns) {
    const found = pattern.exec(bare)?.[1]
    if (found !== undefined) return found
  }
  return bare
}
