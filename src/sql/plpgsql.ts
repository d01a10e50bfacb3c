/**
 * What a PL/pgSQL function or DO block would run, from libpg_query's PL/pgSQL compiler output: every
 * static statement and expression as an SQL text of its own, and whether there is EXECUTE.
 *
 * Invariant: nothing static is left out, or the answer is null and the body counts as opaque. The
 * compiler's output drops one thing, the default of a record variable (`r record := f()`): these are
 * read from the source itself. A test puts an expression into every place the grammar has.
 */
import { Lexer } from './parser-lex.ts'
import { foldIdentifier, truncateIdentifier } from './search-path.ts'

/** What a PL/pgSQL body holds, as far as it is static. */
export interface PlpgsqlBody {
  /** SQL texts: statements, and expressions as `SELECT expression`. */
  readonly statements: readonly string[]
  /**
   * The variable that the statement of this position, an expression, is assigned to; '' where its
   * value is returned or stands in the text of a RAISE.
   */
  readonly targets: ReadonlyMap<number, string>
  /** It has EXECUTE, FOR … IN EXECUTE, RETURN QUERY EXECUTE, or a cursor opened FOR EXECUTE. */
  readonly dynamic: boolean
  /** It fetches from a cursor that it may not have opened: its caller's, under any name. */
  readonly fetchesForeign: boolean
  /** Names of parameters, variables and cursors, as folded; a column of one name hides nothing. */
  readonly variables: readonly string[]
  /** Types of variables as written: casts to them, and their input functions, run on assignment. */
  readonly types: readonly string[]
}

/** src/include/parser/parser.h, RawParseMode. */
const parseModeExpression = 2
const parseModeAssign1 = 3
const parseModeAssign3 = 5

const dynamicNodes = new Set(['PLpgSQL_stmt_dynexecute', 'PLpgSQL_stmt_dynfors'])

class Collector {
  readonly statements: string[] = []
  readonly targets = new Map<number, string>()
  /** Where the value of the expression that comes next goes; null where it decides something. */
  target: string | null = null
  /** The variable whose declaration is walked. */
  declared: string | null = null
  readonly variables = new Set<string>()
  readonly types = new Set<string>()
  readonly records = new Set<string>()
  dynamic = false
  /** Something of an unknown form: the whole body counts as opaque. */
  opaque = false

  add(statement: string, target = this.target): void {
    if (target !== null) this.targets.set(this.statements.length, target)
    this.statements.push(statement)
  }
}

/**
 * @param json the compiler's output for one CREATE FUNCTION/PROCEDURE or DO statement.
 * @param source the body's text, or the whole statement: where defaults of records are read.
 * @returns null where not everything is known.
 */
export function plpgsqlBody(json: unknown, source: string): PlpgsqlBody | null {
  const functions = field(json, 'plpgsql_funcs')
  if (!Array.isArray(functions) || functions.length !== 1) return null
  const compiled = field(functions[0], 'PLpgSQL_function')
  // Without an action it was another language: libpg_query gives an empty function then.
  if (field(compiled, 'action') === undefined) return null
  const collector = new Collector()
  walk(compiled, collector, 0)
  if (collector.opaque || !recordDefaults(source, collector)) return null
  return {
    statements: collector.statements,
    targets: collector.targets,
    dynamic: collector.dynamic,
    fetchesForeign: fetchesForeign(compiled),
    variables: [...collector.variables],
    types: [...collector.types],
  }
}

const depthMax = 1_000

function walk(node: unknown, collector: Collector, depth: number): void {
  if (typeof node !== 'object' || node === null) return
  if (depth > depthMax) {
    collector.opaque = true
    return
  }
  if (Array.isArray(node)) {
    for (const item of node) walk(item, collector, depth + 1)
    return
  }
  for (const [name, value] of Object.entries(node)) {
    if (name === 'PLpgSQL_expr') addExpression(value, collector)
    else {
      if (dynamicNodes.has(name) || name === 'dynquery') collector.dynamic = true
      noteDatum(name, value, collector)
      const { target, declared } = collector
      collector.target = targetOf(name, value, collector)
      walk(value, collector, depth + 1)
      collector.target = target
      collector.declared = declared
    }
  }
}

/** What an expression below the node of that name is for: see `targets`. */
function targetOf(name: string, value: unknown, collector: Collector): string | null {
  if (name === 'PLpgSQL_var') {
    const variable = field(value, 'refname')
    collector.declared = typeof variable === 'string' ? variable : null
  }
  if (name === 'default_val') return collector.declared
  if (name === 'expr') return collector.target
  // Of a RAISE the parameters of its text; its options may be a SQLSTATE.
  return name === 'params' || name === 'PLpgSQL_stmt_return' ? '' : null
}

/**
 * A FETCH or MOVE in front of which no OPEN of the same variable stands, in its own list of
 * statements or in one around it, or whose variable may have got another name since.
 */
function fetchesForeign(compiled: unknown): boolean {
  const assigned = new Set<unknown>()
  const fetched = new Set<unknown>()
  let foreign = false
  const visit = (node: unknown, opened: Set<unknown>): void => {
    if (typeof node !== 'object' || node === null) return
    if (Array.isArray(node)) {
      const own = new Set(opened)
      for (const item of node) visit(item, own)
      return
    }
    for (const [name, value] of Object.entries(node)) {
      const cursor = field(value, 'curvar')
      if (name === 'PLpgSQL_stmt_open') opened.add(cursor)
      else if (name === 'PLpgSQL_stmt_fetch') {
        fetched.add(cursor)
        foreign ||= !opened.has(cursor)
      } else if (name === 'varno' || name === 'target') assigned.add(value)
      // What CALL assigns to INOUT arguments the compiler does not say.
      else if (name === 'PLpgSQL_stmt_call') assigned.add('any')
      visit(value, name === 'PLpgSQL_stmt_forc' ? new Set([...opened, cursor]) : opened)
    }
  }
  visit(compiled, new Set())
  const renamed = assigned.has('any') || [...fetched].some((cursor) => assigned.has(cursor))
  return foreign || (fetched.size > 0 && renamed)
}

function noteDatum(name: string, value: unknown, collector: Collector): void {
  if (name === 'PLpgSQL_alias') {
    const alias = field(value, 'name')
    if (typeof alias === 'string') collector.variables.add(alias)
    return
  }
  if (name !== 'PLpgSQL_var' && name !== 'PLpgSQL_rec' && name !== 'PLpgSQL_row') return
  const variable = field(value, 'refname')
  if (typeof variable === 'string') {
    collector.variables.add(variable)
    if (name !== 'PLpgSQL_var') collector.records.add(variable)
  }
  const type = field(field(field(value, 'datatype'), 'PLpgSQL_type'), 'typname')
  if (typeof type === 'string') collector.types.add(type)
}

function addExpression(expression: unknown, collector: Collector): void {
  const query = field(expression, 'query')
  const mode = field(expression, 'parseMode') ?? 0
  if (typeof query !== 'string' || typeof mode !== 'number') {
    collector.opaque = true
  } else if (mode === 0) collector.add(query)
  else if (mode === parseModeExpression) collector.add(`SELECT ${query}`)
  else if (mode >= parseModeAssign1 && mode <= parseModeAssign3) addAssignment(query, collector)
  else collector.opaque = true
}

/** `target := expression`: the expression, and the target where it has subscripts. */
function addAssignment(query: string, collector: Collector): void {
  const text = Buffer.from(query)
  const lexer = new Lexer()
  lexer.reset(text)
  let brackets = 0
  let subscripted = false
  for (;;) {
    const kind = lexer.next()
    if (kind === 'end' || kind === 'bad') {
      collector.opaque = true
      return
    }
    const byte = text[lexer.start]
    if (kind === 'punctuation' && (byte === 0x5b || byte === 0x28)) {
      brackets += 1
      subscripted = true
    } else if (kind === 'punctuation' && (byte === 0x5d || byte === 0x29)) brackets -= 1
    else if (brackets === 0 && (kind === 'assign' || (kind === 'operator' && byte === 0x3d))) break
  }
  // `x =-1` has the operator `=` and a sign, by the rules of scan.l.
  if (lexer.kind === 'operator' && lexer.end - lexer.start !== 1) {
    collector.opaque = true
    return
  }
  const expression = text.toString('utf8', lexer.end)
  if (subscripted) collector.add(`SELECT ${text.toString('utf8', 0, lexer.start)}`)
  lexer.reset(text)
  const quoted = lexer.next() === 'quotedWord'
  collector.add(`SELECT ${expression}`, quoted ? unquotedName(lexer) : foldedName(lexer))
}

function foldedName(lexer: Lexer): string {
  return truncateIdentifier(foldIdentifier(lexer.slice()))
}

function unquotedName(lexer: Lexer): string {
  return truncateIdentifier(lexer.slice().slice(1, -1).replaceAll('""', '"'))
}

/**
 * Adds the defaults in declarations of record variables: `name type [NOT NULL] := expression;` behind
 * DECLARE or a semicolon. Statements cannot begin with two words of which the first is a variable, so
 * what looks like one is one. False where the source cannot be read.
 */
function recordDefaults(source: string, collector: Collector): boolean {
  if (collector.records.size === 0) return true
  const bodies = stringsOf(source)
  return bodies !== null && bodies.every((body) => recordDefaultsOf(body, collector))
}

function recordDefaultsOf(body: string, collector: Collector): boolean {
  const text = Buffer.from(body)
  const lexer = new Lexer()
  lexer.reset(text)
  let first = true
  for (;;) {
    const kind = lexer.next()
    if (kind === 'end') return true
    if (kind === 'bad') return false
    const word = lexer.slice()
    if (first && isRecordName(kind, lexer, collector)) {
      const name = kind === 'word' ? foldedName(lexer) : unquotedName(lexer)
      const next = lexer.next()
      if (next === 'word' || next === 'quotedWord') {
        if (!addDefault(text, name, lexer, collector)) return false
        continue
      }
    }
    first = word === ';' || (kind === 'word' && word.toLowerCase() === 'declare')
  }
}

function isRecordName(kind: string, lexer: Lexer, collector: Collector): boolean {
  if (kind === 'word') return collector.records.has(foldedName(lexer))
  return kind === 'quotedWord' && collector.records.has(unquotedName(lexer))
}

/** From the type of a declaration to its semicolon. */
function addDefault(text: Buffer, name: string, lexer: Lexer, collector: Collector): boolean {
  let begin = -1
  for (;;) {
    const kind = lexer.next()
    if (kind === 'end' || kind === 'bad') return false
    const word = lexer.slice()
    if (word === ';') break
    const opens = kind === 'assign' || word === '=' || word.toLowerCase() === 'default'
    if (begin === -1 && opens) begin = lexer.end
  }
  if (begin !== -1) {
    collector.add(`SELECT ${text.toString('utf8', begin, lexer.start)}`, name)
  }
  return true
}

/**
 * Every string constant of `CREATE FUNCTION … AS 'body'` or `DO 'body'`: which of them is the body is
 * not decided here, a default of an argument may look like one. Null where one cannot be read.
 */
function stringsOf(source: string): readonly string[] | null {
  const lexer = new Lexer()
  lexer.reset(Buffer.from(source))
  const strings: string[] = []
  for (;;) {
    const kind = lexer.next()
    if (kind === 'end') return strings
    if (kind === 'bad') return null
    if (kind !== 'string' && kind !== 'specialString') continue
    const inner = unquote(kind, lexer.slice())
    if (inner === null) return null
    strings.push(inner)
  }
}

function unquote(kind: 'string' | 'specialString', token: string): string | null {
  if (kind === 'string') return token.slice(1, -1).replaceAll("''", "'")
  const tag = /^\$[^$]*\$/.exec(token)?.[0]
  return tag === undefined ? null : token.slice(tag.length, -tag.length)
}

/**
 * `t%ROWTYPE` in declarations becomes `record`: libpg_query knows no tables, takes such a variable for
 * a scalar, and refuses an assignment to its fields. Only between DECLARE and BEGIN, only where a type
 * stands: `SELECT ssn%rowtype` is arithmetic.
 */
export function withoutRowTypes(source: string): string {
  if (!/%\s*rowtype/i.test(source)) return source
  const text = Buffer.from(source)
  const lexer = new Lexer()
  lexer.reset(text)
  let out = ''
  let copied = 0
  for (let kind = lexer.next(); kind !== 'end'; kind = lexer.next()) {
    if (kind !== 'string' && kind !== 'specialString') continue
    const token = lexer.slice()
    const inner = unquote(kind, token)
    if (inner === null) continue
    const body = declarationsAsRecords(inner)
    const mark = kind === 'string' ? "'" : token.slice(0, token.indexOf('$', 1) + 1)
    const quoted = kind === 'string' ? body.replaceAll("'", "''") : body
    out += text.toString('utf8', copied, lexer.start) + mark + quoted + mark
    copied = lexer.end
  }
  return out + text.toString('utf8', copied)
}

function declarationsAsRecords(body: string): string {
  const text = Buffer.from(body)
  const lexer = new Lexer()
  lexer.reset(text)
  let declaring = false
  let first = true
  let out = ''
  let copied = 0
  for (let kind = lexer.next(); kind !== 'end'; kind = lexer.next()) {
    const word = foldIdentifier(lexer.slice())
    if (first && kind === 'word' && (word === 'declare' || word === 'begin')) {
      declaring = word === 'declare'
      first = declaring
      continue
    }
    if (first && declaring) {
      const type = rowType(lexer)
      if (type !== null) {
        out += `${text.toString('utf8', copied, type)} record`
        copied = lexer.end
      }
    }
    // `>>` ends a label, behind which a statement begins.
    const ended = lexer.slice()
    first = ended === ';' || ended === '>>'
  }
  return out + text.toString('utf8', copied)
}

/** Behind a variable's name: where `[CONSTANT] a.b%ROWTYPE` begins; the lexer stands on ROWTYPE. */
function rowType(lexer: Lexer): number | null {
  let kind = lexer.next()
  if (kind === 'word' && foldIdentifier(lexer.slice()) === 'constant') kind = lexer.next()
  const begin = lexer.start
  while (kind === 'word' || kind === 'quotedWord') {
    kind = lexer.next()
    const mark = lexer.slice()
    if (mark === '%') {
      return lexer.next() === 'word' && foldIdentifier(lexer.slice()) === 'rowtype' ? begin : null
    }
    if (mark !== '.') return null
    kind = lexer.next()
  }
  return null
}

function field(node: unknown, name: string): unknown {
  return typeof node === 'object' && node !== null
    ? (node as Readonly<Record<string, unknown>>)[name]
    : undefined
}
