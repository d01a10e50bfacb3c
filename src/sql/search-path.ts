/**
 * Where bare names are looked up: the search_path of a session and of a body, as
 * recomputeNamespacePath makes it in src/backend/catalog/namespace.c.
 *
 * Invariant: what the server may read otherwise is `unknown`, never guessed.
 */
import type { Context } from './analysis-context.ts'
import type { Catalog } from './catalog.ts'
import type { FunctionRow } from './snapshot.ts'

export type SearchPath = readonly string[] | 'unknown'

/**
 * Stands in a path in front of the schema that `$user` means: that is another one in a function that
 * runs as its owner. No schema has an empty name.
 */
const userMark = ''

/**
 * The schemas that a search_path searches: pg_temp and then pg_catalog come first unless it names
 * them.
 * @param names as splitIdentifiers gives them; null where the server's reading is not known.
 * @param role current_user, which `$user` means; null where it is not known.
 * @param temporary the session's pg_temp_N, null while it has none.
 */
export function searchedSchemas(
  names: readonly string[] | null,
  role: string | null,
  temporary: string | null,
): SearchPath {
  if (names === null || (role === null && names.includes('$user'))) return 'unknown'
  const path = names.flatMap((name) => {
    if (name === '$user') return [userMark, role ?? '']
    if (name === '') return []
    if (name !== 'pg_temp') return [name]
    return temporary === null ? [] : [temporary]
  })
  if (!path.includes('pg_catalog')) path.unshift('pg_catalog')
  if (temporary !== null && !path.includes(temporary)) path.unshift(temporary)
  return path
}

/** scanner_isspace of src/backend/parser/scansup.c. */
const space = /[ \t\n\r\f\v]/

/** In front of a schema of a path that is passed over. No name has a NUL in it. */
const hiddenMark = '\u0000'

/**
 * The path as it is searched for this role: a schema without USAGE is passed over. It keeps its place,
 * marked, because who runs a function may see it.
 * @param role null where it is not known: then, where it matters, the path is not.
 */
export function seenBy(path: SearchPath, role: string | null, catalog: Catalog): SearchPath {
  if (path === 'unknown' || path.every((name) => isOpen(name, catalog))) return path
  if (role === null) return 'unknown'
  return path.map((marked) => {
    const name = schemaOf(marked)
    return catalog.usersOf(name)?.has(role) === false ? `${hiddenMark}${name}` : name
  })
}

function isOpen(marked: string, catalog: Catalog): boolean {
  return !marked.startsWith(hiddenMark) && catalog.usersOf(marked) === null
}

function schemaOf(marked: string): string {
  return marked.startsWith(hiddenMark) ? marked.slice(hiddenMark.length) : marked
}

/** SplitIdentifierString of src/backend/utils/adt/varlena.c; null for what the server refuses. */
export function splitIdentifiers(text: string): string[] | null {
  const names: string[] = []
  let at = 0
  const skip = (): void => {
    while (at < text.length && space.test(text[at] ?? '')) at += 1
  }
  skip()
  if (at === text.length) return names
  for (;;) {
    const quoted = /"((?:[^"]|"")*)"/y
    const bare = /[^, \t\n\r\f\v]+/y
    const pattern = text[at] === '"' ? quoted : bare
    pattern.lastIndex = at
    const match = pattern.exec(text)
    if (match === null) return null
    at = pattern.lastIndex
    const name = match[1] === undefined ? foldIdentifier(match[0]) : match[1].replaceAll('""', '"')
    names.push(truncateIdentifier(name))
    skip()
    if (at === text.length) return names
    if (text[at] !== ',') return null
    at += 1
    skip()
  }
}

/** downcase_identifier in a multi-byte encoding: ASCII letters only, the Kelvin sign is no K. */
export function foldIdentifier(word: string): string {
  return word.replace(/[A-Z]/g, (letter) => letter.toLowerCase())
}

/** truncate_identifier: NAMEDATALEN - 1 bytes, cut between characters. */
export function truncateIdentifier(name: string): string {
  const bytes = Buffer.from(name)
  if (bytes.length <= 63) return name
  let end = 63
  while (((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1
  return bytes.toString('utf8', 0, end)
}

/** A search_path as part of a key. */
export function pathKey(path: SearchPath): string {
  return path === 'unknown' ? '?' : path.join('\u0001')
}

/** Under which path something ran, and as whom, is not known. */
export const anyRuntime = { runtimePath: 'unknown', role: null } as const

/** The path in force while something runs, and as whom it runs, as part of a key. */
export function runtimeKey({ runtimePath, role }: Pick<Context, 'runtimePath' | 'role'>): string {
  return `${pathKey(runtimePath)}\u0001\u0001${role ?? '?'}`
}

/** Where names of a definition from the catalog loader are looked up. */
export function definitionPath(context: Context): readonly string[] {
  const temporary = context.facts.temporarySchema
  return temporary === null ? ['pg_catalog'] : ['pg_catalog', temporary]
}

/** After something that may have moved the search_path of what is looked up from now on. */
export function underAnyPath(context: Context): Context {
  return {
    ...context,
    path: 'unknown',
    pathText: pathKey('unknown'),
    ...anyRuntime,
  }
}

/** As whom the function runs: for SECURITY DEFINER its owner. */
export function runningRole(row: FunctionRow, context: Context): string | null {
  return row.securityDefiner ? (row.owner ?? null) : context.role
}

/** The search_path in force while a function runs: its own SET search_path, or its caller's. */
export function runningPath(row: FunctionRow, context: Context): SearchPath {
  const { facts, catalog, runtimePath: caller } = context
  const role = runningRole(row, context)
  const setting = settingOf(row)
  if (setting !== null) {
    const path = searchedSchemas(splitIdentifiers(setting), role, facts.temporarySchema)
    return seenBy(path, role, catalog)
  }
  if (caller === 'unknown' || role === context.role) return caller
  const mark = caller.indexOf(userMark)
  if (mark !== -1 && role === null) return 'unknown'
  const path = mark === -1 ? caller : caller.with(mark + 1, role ?? '')
  return seenBy(path, role, catalog)
}

/** The function's own SET search_path; null where it has none. */
export function settingOf(row: FunctionRow): string | null {
  const prefix = 'search_path='
  const setting = row.settings.find((one) => one.startsWith(prefix))
  return setting === undefined ? null : setting.slice(prefix.length)
}
