/**
 * From libpg_query's error to PostgreSQL's own: it gives message, position and source file, and no
 * SQLSTATE, DETAIL or HINT. These come from the tables below, by message: every ereport of scan.l,
 * gram.y and parser.c of PostgreSQL 18 that is not a plain 42601. Compared with live servers, 14 to 18.
 *
 * Servers before 18 give some of the messages without a position or with another one; the tables know
 * these too, so that a client sees what its own server would have said. A message of a construct that
 * only the newer grammar has stays the newer grammar's (docs/limits.md).
 */
import { ProxyError, type FaultDetails } from '../core/core.ts'
import { spaceEnd, wordEnd } from './parser-lex.ts'

/** What libpg_query says. `cursor` counts characters from 1; 0 is none. */
export interface RawParseError {
  readonly message: string
  readonly cursor: number
  readonly file: string
}

interface Known {
  /** Absent: 42601. */
  readonly sqlstate?: string
  readonly hint?: string
  readonly detail?: string
  /** Servers before 18: no position, or that of the token behind. */
  readonly before18?: 'none' | 'next'
}

const notSupported = { sqlstate: '0A000' } as const
const notSupportedUnplaced = { sqlstate: '0A000', before18: 'none' } as const
const invalidParameter = { sqlstate: '22023' } as const
const windowing = { sqlstate: '42P20' } as const
const reservedName = { sqlstate: '42939' } as const
const unplaced = { before18: 'none' } as const

/** Messages without a variable part. */
const fixed = new Map<string, Known>([
  ['LIMIT #,# syntax is not supported', { hint: 'Use separate LIMIT and OFFSET clauses.' }],
  ['missing argument', { hint: 'Use NONE to denote the missing argument of a unary operator.' }],
  [
    'invalid publication object list',
    {
      detail:
        'One of TABLE or TABLES IN SCHEMA must be specified before a standalone table or schema name.',
    },
  ],
  [
    "unsafe use of \\' in a string literal",
    {
      sqlstate: '22P06',
      hint: "Use '' to write quotes in strings. \\' is insecure in client-only encodings.",
    },
  ],
  [
    'UNENCRYPTED PASSWORD is no longer supported',
    {
      sqlstate: '0A000',
      hint: 'Remove UNENCRYPTED to store the password in encrypted form instead.',
    },
  ],
  ['CREATE ASSERTION is not yet implemented', notSupportedUnplaced],
  ['MATCH PARTIAL not yet implemented', notSupported],
  ['UNIQUE predicate is not yet implemented', notSupported],
  ['dropping an enum value is not implemented', notSupported],
  ['CREATE OR REPLACE CONSTRAINT TRIGGER is not supported', notSupportedUnplaced],
  ['CREATE EXTENSION ... FROM is no longer supported', notSupported],
  ['current database cannot be changed', notSupported],
  ['constraints cannot be altered to be NOT VALID', notSupportedUnplaced],
  ['WITH CHECK OPTION not supported on recursive views', notSupported],
  ['CREATE SCHEMA IF NOT EXISTS cannot include schema elements', notSupported],
  ['aggregates cannot have output arguments', notSupported],
  [
    'an ordered-set aggregate with a VARIADIC direct argument must have one VARIADIC aggregated argument of the same data type',
    { sqlstate: '0A000', before18: 'next' },
  ],
  ['only string constants are supported in JSON_TABLE path specification', notSupported],
  ['precision for type float must be at least 1 bit', invalidParameter],
  ['precision for type float must be less than 54 bits', invalidParameter],
  ['column number must be in range from 1 to 32767', invalidParameter],
  ['modulus for hash partition provided more than once', { sqlstate: '42710' }],
  ['remainder for hash partition provided more than once', { sqlstate: '42710' }],
  ['modulus for hash partition must be specified', unplaced],
  ['remainder for hash partition must be specified', unplaced],
  ["OUT and INOUT arguments aren't allowed in TABLE functions", unplaced],
  ['WITH TIES cannot be specified without ORDER BY clause', unplaced],
  ['multiple LIMIT clauses not allowed', { before18: 'next' }],
  ['multiple OFFSET clauses not allowed', { before18: 'next' }],
  ['out of memory', { sqlstate: '53200' }],
  ['frame start cannot be UNBOUNDED FOLLOWING', windowing],
  ['frame end cannot be UNBOUNDED PRECEDING', windowing],
  ['frame starting from current row cannot have preceding rows', windowing],
  ['frame starting from following row cannot have preceding rows', windowing],
  ['frame starting from following row cannot end with current row', windowing],
])

/** Messages with a variable part, for the rest of the table. */
const variable: readonly { readonly pattern: RegExp; readonly known: Known }[] = [
  {
    pattern: /^(invalid memory alloc request size|string buffer exceeds maximum allowed length)/,
    known: { sqlstate: '54000' },
  },
  { pattern: /^invalid byte sequence for encoding "/, known: { sqlstate: '22021' } },
  {
    pattern: / constraints cannot be marked (DEFERRABLE|NOT VALID|NO INHERIT|(NOT )?ENFORCED)$/,
    known: notSupportedUnplaced,
  },
  {
    pattern: /^a column list with .* is only supported for ON DELETE actions$/,
    known: notSupported,
  },
  {
    pattern: /^unrecognized partitioning strategy "/,
    known: { sqlstate: '22023', before18: 'none' },
  },
  { pattern: /^unrecognized JSON encoding: /, known: { sqlstate: '22023', before18: 'none' } },
  {
    pattern: /^unrecognized row security option "/,
    known: { hint: 'Only PERMISSIVE or RESTRICTIVE policies are supported currently.' },
  },
  { pattern: /^role name ".*" is reserved$/s, known: reservedName },
  { pattern: / cannot be used as a role name here$/, known: reservedName },
  { pattern: / options cannot be used together$/, known: unplaced },
  { pattern: /^conversion between .* is not supported$/, known: notSupported },
]

/**
 * The error of a text that does not parse, as the server would report it.
 * @param text the query string, UTF-8.
 * @param serverVersion server_version_num of the upstream.
 */
export function parseError(
  error: RawParseError,
  text: Uint8Array,
  serverVersion: number,
): ProxyError {
  const known = knownError(error)
  const position = positionFor(error.cursor, known, text, serverVersion)
  const details: FaultDetails = {
    sqlstate: known.sqlstate ?? '42601',
    ...(known.hint === undefined ? {} : { hint: known.hint }),
    ...(known.detail === undefined ? {} : { detail: known.detail }),
    ...(position > 0 ? { position } : {}),
  }
  return new ProxyError('syntax_error', messageFor(error.message, serverVersion), details)
}

/** A placeholder of PostgreSQL's own messages. */
const digits = 'X'.repeat(4)

function knownError(error: RawParseError): Known {
  if (error.message === 'invalid Unicode escape') {
    // E'\u12' is scan.l's, U&'\00' is parser.c's; another SQLSTATE and another hint.
    return error.file === 'scan.l'
      ? {
          sqlstate: '22025',
          hint: `Unicode escapes must be \\u${digits} or \\U${digits}${digits}.`,
        }
      : { hint: `Unicode escapes must be \\${digits} or \\+${digits}XX.` }
  }
  const same = fixed.get(error.message)
  if (same !== undefined) return same
  return variable.find(({ pattern }) => pattern.test(error.message))?.known ?? {}
}

/** The one message that changed its wording without the grammar having changed. */
function messageFor(message: string, serverVersion: number): string {
  return serverVersion < 180_000 && message === 'constraints cannot be altered to be NOT VALID'
    ? 'FOREIGN KEY constraints cannot be marked NOT VALID'
    : message
}

function positionFor(
  cursor: number,
  known: Known,
  text: Uint8Array,
  serverVersion: number,
): number {
  if (cursor <= 0) return 0
  if (serverVersion >= 180_000 || known.before18 === undefined) return cursor
  return known.before18 === 'none' ? 0 : nextToken(text, cursor)
}

/** The position of the token behind the word that stands at the position. */
function nextToken(text: Uint8Array, cursor: number): number {
  let at = 0
  for (let left = cursor - 1; left > 0 && at < text.length; left--) at = nextCharacter(text, at)
  const behind = spaceEnd(text, wordEnd(text, at))
  let position = cursor
  while (at < behind) {
    at = nextCharacter(text, at)
    position += 1
  }
  return position
}

function nextCharacter(text: Uint8Array, at: number): number {
  do at += 1
  while (((text[at] ?? 0) & 0xc0) === 0x80)
  return at
}

/** A text that the engine cannot parse: too deep, or it broke the parser. */
export function tooComplex(why: string): ProxyError {
  return new ProxyError('statement_too_complex', 'statement is too complex to be checked', {
    detail: why,
    hint: 'Split the statement, or shorten its chains of operators and its nesting.',
  })
}
