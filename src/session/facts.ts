/**
 * What is known of the session's settings at this moment: how the server reads SQL, where it looks
 * names up, as whom it runs. Known from ParameterStatus where the server reports a setting, else
 * from probes; a statement that may have changed one in a way its text does not show makes it
 * unknown again.
 *
 * Invariant: nothing here is ever guessed. Unknown is a value.
 */
import { pinnedSettings } from '../gate/gate.ts'
import { searchedSchemas, splitIdentifiers } from '../sql/sql.ts'
import type { NameLookup, OpenCursor, SessionFacts, SyntaxNode } from '../sql/sql.ts'

/** How sure we are of the settings that decide how the server reads SQL text. */
export type Reading = 'pinned' | 'unknown' | 'broken'

/** A moment of the session's names: what was bound at it keeps the meaning it had then. */
export interface NamesAt extends NameLookup {
  readonly pathMoves: number
  readonly catalogMoves: number
}

/** The facts of one session, updated by what passes through it. */
export class Facts implements SessionFacts {
  role: string
  temporarySchema: string | null = null
  readonly #sessionUser: string
  #reading: Reading = 'pinned'
  #searchPathSetting: string | null = null
  #searchPath: readonly string[] | 'unknown' = 'unknown'
  #roleKnown = false
  #applicationName: string
  /** Changes when anything a policy or the analysis can see has changed. */
  version = 0
  readonly prepared: (name: string) => SyntaxNode | undefined
  readonly cursor: (name: string) => OpenCursor | undefined
  /** How often the search path or the role may have changed. */
  #pathMoves = 0
  /** How often DDL of this session was done, or undone. */
  #catalogMoves = 0
  #ends = { path: false, catalog: false }

  constructor(options: {
    readonly sessionUser: string
    readonly parameters: ReadonlyMap<string, string>
    readonly prepared: (name: string) => SyntaxNode | undefined
    readonly cursor: (name: string) => OpenCursor | undefined
  }) {
    this.#sessionUser = options.sessionUser
    this.role = options.sessionUser
    this.#applicationName = ''
    this.prepared = options.prepared
    this.cursor = options.cursor
    for (const [name, value] of options.parameters) this.parameterStatus(name, value)
  }

  get reading(): Reading {
    return this.#reading
  }

  get searchPath(): readonly string[] | 'unknown' {
    return this.#searchPath
  }

  get endsWithTransaction(): { readonly path: boolean; readonly catalog: boolean } {
    return this.#ends
  }

  /** search_path or role was set, or DDL done, inside the open transaction. */
  set endsWithTransaction(ends: { readonly path: boolean; readonly catalog: boolean }) {
    if (ends.path === this.#ends.path && ends.catalog === this.#ends.catalog) return
    this.#ends = ends
    this.version++
  }

  /** This moment, for what the server binds now. */
  get names(): NamesAt {
    return {
      searchPath: this.#searchPath,
      role: this.role,
      pathMoves: this.#pathMoves,
      catalogMoves: this.#catalogMoves,
    }
  }

  /** Where names were looked up at that moment, and as whom. */
  lookupAt(at: NamesAt): NameLookup {
    const { searchPath, role } = at.pathMoves === this.#pathMoves ? this : at
    return { searchPath, role }
  }

  /** Bare names may mean something else than at that moment. */
  pathMovedSince(at: NamesAt): boolean {
    if (at.pathMoves === this.#pathMoves) return false
    if (at.searchPath === 'unknown' || this.#searchPath === 'unknown') return true
    // Who has no USAGE of a schema passes over it.
    if (at.role !== this.role) return true
    return at.searchPath.join('\0') !== this.#searchPath.join('\0')
  }

  /** DDL of this session may have moved what names stand for since that moment. */
  catalogMovedSince(at: NamesAt): boolean {
    return at.catalogMoves !== this.#catalogMoves
  }

  /** DDL of this session was done, or undone. */
  catalogMoves(): void {
    this.#catalogMoves++
  }

  get roleKnown(): boolean {
    return this.#roleKnown
  }

  get applicationName(): string {
    return this.#applicationName
  }

  /** The path as the setting says it, for the policy; the implied schemas are not in it. */
  get namedPath(): readonly string[] | 'unknown' {
    const setting = this.#searchPathSetting
    const names = setting === null ? null : splitIdentifiers(setting)
    if (names === null) return 'unknown'
    return names.map((name) => (name === '$user' ? this.role : name))
  }

  /** The server reported a setting. */
  parameterStatus(name: string, value: string): void {
    switch (name.toLowerCase()) {
      case 'standard_conforming_strings':
      case 'client_encoding':
        this.#report(name.toLowerCase(), value)
        return
      case 'application_name':
        if (this.#applicationName === value) return
        this.#applicationName = value
        this.version++
        return
      case 'search_path':
        this.knowSearchPath(value)
        return
      default:
        return
    }
  }

  readonly #brokenNames = new Set<string>()

  #report(name: string, value: string): void {
    const harmless = pinnedSettings.get(name)?.(value) ?? true
    if (harmless) this.#brokenNames.delete(name)
    else this.#brokenNames.add(name)
    this.#reading =
      this.#brokenNames.size > 0 ? 'broken' : this.#reading === 'unknown' ? 'unknown' : 'pinned'
  }

  /** Everything in flight was answered up to ReadyForQuery: what the server reports is current. */
  settled(): void {
    if (this.#reading === 'unknown') {
      this.#reading = this.#brokenNames.size > 0 ? 'broken' : 'pinned'
    }
  }

  /** A probe answered. */
  probed(name: string, value: string): void {
    if (name === 'search_path') this.knowSearchPath(value)
    else if (name === 'role') this.knowRole(value)
    else this.#report(name, value)
  }

  knowSearchPath(setting: string): void {
    if (this.#searchPathSetting === setting && this.#searchPath !== 'unknown') return
    if (this.#searchPath !== 'unknown') this.#pathMoves++
    this.#searchPathSetting = setting
    this.#resolvePath()
    this.version++
  }

  /** `SHOW role`: `none` is the session user. */
  knowRole(value: string): void {
    const role = value === 'none' ? this.#sessionUser : value
    this.#roleKnown = true
    if (role === this.role) return
    this.role = role
    if (this.#searchPathSetting !== null) this.#resolvePath()
    this.version++
  }

  /** The session's temporary schema was learnt. */
  knowTemporarySchema(name: string | null): void {
    if (this.temporarySchema === name) return
    this.temporarySchema = name
    if (this.#searchPathSetting !== null) this.#resolvePath()
    this.version++
  }

  /** A statement went upstream that may change any setting without saying so. */
  mayHaveChanged(): void {
    if (this.#reading === 'pinned') this.#reading = 'unknown'
    this.pathMayHaveChanged()
  }

  /** search_path or role may have changed: SET, RESET, ROLLBACK after one, an opaque call. */
  pathMayHaveChanged(): void {
    this.#roleKnown = false
    this.#pathMoves++
    if (this.#searchPath === 'unknown') return
    this.#searchPath = 'unknown'
    this.#searchPathSetting = null
    this.version++
  }

  #resolvePath(): void {
    const names = splitIdentifiers(this.#searchPathSetting ?? '')
    this.#searchPath = searchedSchemas(names, this.role, this.temporarySchema)
  }
}

/**
 * The text means the same whatever the settings that decide how SQL is read: it has no backslash
 * and nothing beyond ASCII.
 */
export function readsAlike(text: Buffer): boolean {
  for (let at = 0; at < text.length; at++) {
    const byte = text[at] ?? 0
    if (byte === 0x5c || byte >= 0x80) return false
  }
  return true
}
