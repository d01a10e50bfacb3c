/**
 * Statements for a record that must not hold constants: `audit.literals: redact`, and statements with
 * a password whatever is configured. Unlike a shape (shape.ts) nothing is kept because it carries
 * meaning: every string, number and bit string becomes `?`, comments go, values of SET go.
 *
 * Works on any text, also on one that does not parse. Identifiers stay: a name is no constant.
 */
import { Lexer } from './parser-lex.ts'

const settingOperators: ReadonlySet<string> = new Set(['=', ':=', 'to'])

/** The text with `?` for each constant, single spaces, and without comments. */
export function redactLiterals(text: string): string {
  const bytes = Buffer.from(text)
  const lexer = new Lexer()
  lexer.reset(bytes)
  const out: string[] = []
  let first = ''
  let sets = false
  let inValue = false
  while (lexer.next() !== 'end') {
    if (lexer.spaced && out.length > 0) out.push(' ')
    const token = lexer.slice()
    const word = token.toLowerCase()
    if (first === '') first = word
    if (word === ';') [first, sets, inValue] = ['', false, false]
    // SET name = value, ALTER … SET name TO value: a bare word is a value too.
    if (word === 'set' && (first === 'set' || first === 'alter' || first === 'create')) sets = true
    const isName = lexer.kind === 'word' || lexer.kind === 'quotedWord'
    if (inValue && isName) out.push('?')
    else out.push(isConstant(lexer) ? '?' : token)
    if (sets && settingOperators.has(word)) inValue = true
  }
  return out.join('')
}

function isConstant({ kind }: Lexer): boolean {
  switch (kind) {
    case 'string':
    case 'specialString':
    case 'integer':
    case 'decimal':
    case 'specialNumber':
    case 'bad':
      return true
    default:
      return false
  }
}

/** Words beside which a secret stands, functions that take one, and secrets that are known by their form. */
const secretWords = new RegExp(
  [
    String.raw`passw(?:or)?d|passphrase|passcode|\bpwd\b|credential|user\s+mapping`,
    String.raw`(?:^|[^a-z])token(?![a-z])|client[_-]?secret`,
    String.raw`(?:api|access|secret|private|encryption)[_ -]?key`,
    String.raw`\b(?:(?:en|de)crypt(?:_iv)?|crypt)\s*\(|pgp_(?:sym|pub)_`,
    String.raw`bearer\s+[\w.~+/-]{16}|scram-sha-256\$|:\/\/[^\s'/@:]*:[^\s'/@]+@`,
    String.raw`eyJ[\w-]{8,}\.[\w-]{8,}\.|\bAKIA[0-9A-Z]{16}|\bgh[pousr]_\w{20}|\bsk[-_]\w{2,}[-_]|\bxox[abeoprs]-`,
  ].join('|'),
  'i',
)

/** The text seems to hold a password, a key, or a token: its constants are never recorded. */
export function holdsSecret(text: string): boolean {
  return secretWords.test(text)
}

/** A message about a statement, without that statement's constants and without what it quotes. */
export function redactMessage(message: string, text: string): string {
  let redacted = message.replace(/"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/g, '"?"')
  for (const value of constantsOf(text)) redacted = redacted.replaceAll(value, '?')
  return redacted.replace(/\d+/g, '?')
}

const constantCountMax = 1_000

/** What stands in the statement's strings, longest first; digits are dealt with by themselves. */
function constantsOf(text: string): readonly string[] {
  const lexer = new Lexer()
  lexer.reset(Buffer.from(text))
  const found = new Set<string>()
  while (lexer.next() !== 'end' && found.size < constantCountMax) {
    if (lexer.kind !== 'string' && lexer.kind !== 'specialString' && lexer.kind !== 'bad') continue
    const inner = lexer
      .slice()
      .replace(/^(?:[a-z]&?)?'|^\$\w*\$|'$|\$\w*\$$/gi, '')
      .replaceAll("''", "'")
    if (inner.length > 1) found.add(inner)
  }
  return [...found].sort((a, b) => b.length - a.length)
}
