/**
 * What a StartupMessage asks for: user, database, settings. Pure; the bytes were decoded by wire.
 *
 * Invariants: a setting that changes how the server reads SQL, or who it takes us for, never passes;
 * `options` is taken apart as the server would and never passed on as text,
 * so that what was checked is what is sent; what this file does not understand is refused.
 */
import { ProxyError } from '../core/core.ts'
import { settingName } from '../sql/sql.ts'
import { applicationName } from '../upstream/upstream.ts'
import { negotiate, type StartupMessage } from '../wire/wire.ts'

/** A client's startup, checked. */
export interface Startup {
  readonly user: string
  readonly database: string
  /**
   * Settings to pass on: startup parameters and those of `options`, by the names the client used.
   * Without user, database, options, replication and the pinned ones.
   */
  readonly parameters: ReadonlyMap<string, string>
  readonly protocolMinor: 0 | 2
  /** What NegotiateProtocolVersion has to say, null where nothing. */
  readonly negotiation: {
    readonly version: number
    readonly unrecognizedOptions: readonly string[]
  } | null
}

/** Not settings but addresses, for the protocol itself. */
const addressing = new Set(['user', 'database', 'options', 'replication'])

/** Settings with one acceptable meaning; they are not passed on, because upstream always sets them. */
const pinned: ReadonlyMap<string, (value: string) => boolean> = new Map([
  ['client_encoding', isUtf8Name],
  ['standard_conforming_strings', isTrue],
])

/** Settings that are accepted only with the value that is the default. */
const fixed: ReadonlyMap<string, (value: string) => boolean> = new Map([
  ['backslash_quote', (value: string) => value.toLowerCase() === 'safe_encoding'],
  ['transform_null_equals', isFalse],
])

/** Who acts, what is loaded, what triggers and catalogs do: never at startup. */
const forbidden =
  /^(role|session_authorization|is_superuser|session_replication_role|allow_system_table_mods|ignore_system_indexes|zero_damaged_pages|dynamic_library_path|.*_preload_libraries|seed)$/

/** NAMEDATALEN - 1. */
const nameBytesMax = 63

/** Checks a StartupMessage. Throws a ProxyError that names what is wrong and what to do. */
export function checkStartup(message: StartupMessage): Startup {
  const user = valueOf(message.parameters, 'user')
  if (user === null || user === '') {
    throw new ProxyError(
      'invalid_authorization',
      'no PostgreSQL user name specified in startup packet',
    )
  }
  refuseReplication(valueOf(message.parameters, 'replication'))
  const parameters = new Map<string, string>()
  const options = valueOf(message.parameters, 'options') ?? ''
  for (const [name, value] of parseOptions(options)) addSetting(parameters, name, value)
  for (const [name, value] of message.parameters) {
    if (!addressing.has(name)) addSetting(parameters, name, value)
  }
  const database = valueOf(message.parameters, 'database') || user
  if (Buffer.byteLength(database) > nameBytesMax) {
    throw new ProxyError('invalid_authorization', `database "${database}" does not exist`, {
      sqlstate: '3D000',
      hint: `A name has at most ${nameBytesMax} bytes. The server would cut it and open another database than the policy is asked about.`,
    })
  }
  const { version, unrecognizedOptions, announced } = negotiate(message)
  return {
    user,
    database,
    parameters,
    // PostgreSQL never spoke 3.1; who asks for it is answered in 3.0 (ProcessStartupPacket, 18).
    protocolMinor: (version & 0xffff) >= 2 ? 2 : 0,
    negotiation: announced ? { version, unrecognizedOptions } : null,
  }
}

/** The names of addressing are exact in the server too; another case is a setting of that name. */
function valueOf(parameters: ReadonlyMap<string, string>, name: string): string | null {
  return parameters.get(name) ?? null
}

function refuseReplication(value: string | null): void {
  if (value === null || isFalse(value)) return
  throw new ProxyError('feature_not_supported', 'replication connections are not supported', {
    detail: 'A replication stream carries whole tables past every policy.',
    hint: 'Connect to the database server itself for replication and for pg_basebackup.',
  })
}

/** A later value of the same name wins, whatever its case, as in the server. */
function addSetting(parameters: Map<string, string>, name: string, value: string): void {
  const folded = settingName(name)
  if (!/^[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)*$/.test(folded)) {
    throw new ProxyError('invalid_authorization', `"${name}" is not the name of a setting`, {
      sqlstate: '42602',
    })
  }
  if (addressing.has(folded) || forbidden.test(folded)) throw notAtStartup(name)
  const acceptable = pinned.get(folded) ?? fixed.get(folded)
  if (acceptable !== undefined && !acceptable(value)) throw notThisValue(folded, value)
  if (pinned.has(folded)) return
  for (const known of parameters.keys()) {
    if (settingName(known) === folded) parameters.delete(known)
  }
  parameters.set(name, value)
}

function notAtStartup(name: string): ProxyError {
  return new ProxyError('feature_not_supported', `"${name}" may not be set when connecting`, {
    hint: 'Remove it from PGOPTIONS or from the connection string; the policy chooses the role.',
  })
}

function notThisValue(name: string, value: string): ProxyError {
  if (name === 'client_encoding') {
    return new ProxyError('feature_not_supported', `client_encoding "${value}" is not supported`, {
      detail:
        'Statements are judged in the bytes they are sent in, and only UTF-8 reads the same everywhere.',
      hint: 'Connect with client_encoding=UTF8 (PGCLIENTENCODING=UTF8).',
    })
  }
  return new ProxyError('feature_not_supported', `${name} may not be changed`, {
    detail:
      'It changes how the server reads a statement, so what is judged would not be what runs.',
    hint: `Remove ${name} from PGOPTIONS or from the connection string.`,
  })
}

/** clean_encoding_name() and pg_char_to_encoding() in src/common/encnames.c. */
function isUtf8Name(value: string): boolean {
  const cleaned = value.toLowerCase().replace(/[^a-z0-9]/g, '')
  return cleaned === 'utf8' || cleaned === 'unicode'
}

/** parse_bool() in src/backend/utils/adt/bool.c: unique prefixes count. */
function isTrue(value: string): boolean {
  return value !== '' && /^(t(r(u(e)?)?)?|y(e(s)?)?|on|1)$/i.test(value)
}

function isFalse(value: string): boolean {
  return /^(f(a(l(s(e)?)?)?)?|n(o)?|of(f)?|0)$/i.test(value)
}

/** What of a connect decision concerns the settings of a session. */
export interface SettingsDecision {
  readonly settings: ReadonlyMap<string, string>
  readonly locked: readonly string[]
}

/**
 * The settings to start the upstream session with: the client's, the policy's over them, and the
 * subject in `application_name` (null where nobody proved to be one: the client's word stands). A client that sets what the policy locks and does not set itself is
 * refused, as its SET would be. Names have no case.
 */
export function upstreamParameters(
  startup: Startup,
  decision: SettingsDecision,
  subject: string | null,
): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>()
  for (const [name, value] of startup.parameters) parameters.set(settingName(name), value)
  const settings = new Map(
    [...decision.settings].map(([name, value]) => [settingName(name), value]),
  )
  for (const name of decision.locked.map(settingName)) {
    // The client's application_name is not its own word anyhow: the subject stands before it.
    if (name === 'application_name' || settings.has(name) || !parameters.has(name)) continue
    throw new ProxyError('denied', `the setting "${name}" is locked by the policy`, {
      hint: `Remove ${name} from PGOPTIONS or from the connection string.`,
    })
  }
  if (subject !== null) {
    const clientName = parameters.get('application_name') ?? ''
    parameters.set('application_name', applicationName(subject, clientName))
  }
  for (const [name, value] of settings) parameters.set(name, value)
  return parameters
}

/**
 * pg_split_opts() (src/backend/utils/init/postinit.c): white space separates, a backslash takes the
 * next character as it is.
 */
export function splitOptions(text: string): readonly string[] {
  const words: string[] = []
  let at = 0
  while (at < text.length) {
    while (isSpace(text[at])) at++
    if (at >= text.length) break
    let word = ''
    while (at < text.length && !isSpace(text[at])) {
      if (text[at] === '\\') at++
      // A last backslash alone takes nothing.
      word += text[at] ?? ''
      at++
    }
    words.push(word)
  }
  return words
}

/** isspace() in the C locale. */
function isSpace(character: string | undefined): boolean {
  return character !== undefined && /[ \t\n\v\f\r]/.test(character)
}

/**
 * The settings of `options`: `-c name=value`, `-cname=value` and `--name=value`, as
 * process_postgres_switches() (src/backend/tcop/postgres.c) reads them. The server's other switches
 * are short forms of settings (`-e`, `-S`, `-f…`), of no use to a client, and are refused.
 */
export function parseOptions(text: string): readonly (readonly [string, string])[] {
  const settings: (readonly [string, string])[] = []
  const words = splitOptions(text)
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? ''
    if (word.startsWith('--') && word.length > 2) {
      settings.push(parseLongOption(word.slice(2), word))
    } else if (word === '-c') {
      const next = words[++index]
      if (next === undefined) throw unknownSwitch(word)
      settings.push(parseLongOption(next, `-c ${next}`))
    } else if (word.startsWith('-c')) {
      settings.push(parseLongOption(word.slice(2), word))
    } else {
      throw unknownSwitch(word)
    }
  }
  return settings
}

/** ParseLongOption() in src/backend/utils/misc/guc.c: dashes in the name become underscores. */
function parseLongOption(text: string, shown: string): readonly [string, string] {
  const equals = text.indexOf('=')
  if (equals < 1) {
    throw new ProxyError('invalid_authorization', `${shown} requires a value`, {
      sqlstate: '42601',
    })
  }
  return [text.slice(0, equals).replaceAll('-', '_'), text.slice(equals + 1)]
}

function unknownSwitch(word: string): ProxyError {
  return new ProxyError(
    'feature_not_supported',
    `"${word}" in the startup options is not supported`,
    { hint: 'Write settings as -c name=value or --name=value.' },
  )
}
