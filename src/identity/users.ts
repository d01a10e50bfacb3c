/**
 * users.yaml: local users, their SCRAM verifiers and groups.
 *
 *   alice:
 *     groups: [engineers]
 *     verifier: SCRAM-SHA-256$4096:<salt>$<StoredKey>:<ServerKey>
 *     email: alice@example.com      # optional
 *     type: human                   # or machine; optional
 *
 * Invariants: a file that cannot be read or has an error changes nothing (the users before it stay);
 * it is written whole or not at all, with mode 0600; a password never is in it.
 */
import { readFile, stat } from 'node:fs/promises'
import { Document, isNode, LineCounter, parseDocument } from 'yaml'
import { z } from 'zod'
import { nearest } from '../core/core.ts'
import {
  formatVerifier,
  MockVerifiers,
  parseVerifier,
  scramIterationsDefault,
  type ScramVerifier,
} from './scram.ts'
import type { Identity } from './subject.ts'
import { writeWhole } from './write-whole.ts'

/** One local user. */
export interface LocalUser {
  readonly name: string
  readonly verifier: ScramVerifier
  readonly groups: readonly string[]
  readonly email: string | null
  readonly type: 'human' | 'machine'
}

const userSchema = z.strictObject({
  groups: z.array(z.string().min(1)).default([]),
  verifier: z.string({ error: 'a SCRAM verifier is expected; `regate user add` writes one' }),
  email: z.string().nullable().default(null),
  type: z.enum(['human', 'machine']).default('human'),
})

const fileBytesMax = 64 * 1024 * 1024

/** A users file that cannot be used: every error in it, one a line. */
export class UsersError extends Error {
  override readonly name = 'UsersError'
}

/** Reads the text of a users.yaml. Throws UsersError with all errors. */
export function parseUsers(text: string, path: string): ReadonlyMap<string, LocalUser> {
  const lines = new LineCounter()
  const options = { uniqueKeys: true, maxAliasCount: 0, lineCounter: lines }
  const document = parseDocument(text, options as never)
  if (document.errors.length > 0) {
    throw new UsersError(
      document.errors.map((error) => `${path}: ${firstLine(error.message)}`).join('\n'),
    )
  }
  const at = (keys: readonly PropertyKey[]): string => {
    // Of what is missing, the place of what it is missing in.
    for (let count = keys.length; count > 0; count--) {
      const node: unknown = document.getIn(keys.slice(0, count), true)
      const offset = isNode(node) ? node.range?.[0] : undefined
      if (offset !== undefined) return `${path}:${String(lines.linePos(offset).line)}`
    }
    return path
  }
  const content: unknown = document.toJS({ maxAliasCount: 100 })
  const users = new Map<string, LocalUser>()
  if (content === null || content === undefined) return users
  if (typeof content !== 'object' || Array.isArray(content)) {
    throw new UsersError(`${path}: a map from user to {groups, verifier} is expected`)
  }
  const faults: string[] = []
  for (const [name, value] of Object.entries(content)) {
    const parsed = userSchema.safeParse(value)
    if (!parsed.success) {
      for (const issue of parsed.error.issues) {
        const keys = [name, ...issue.path]
        faults.push(`${at(keys)}: ${keys.map(String).join('.')}: ${wordsOfIssue(issue)}`)
      }
      continue
    }
    const verifier = parseVerifier(parsed.data.verifier)
    if (verifier === null) {
      faults.push(
        `${at([name, 'verifier'])}: ${name}.verifier: no SCRAM-SHA-256 verifier as in pg_authid; \`regate user add ${name}\` writes one`,
      )
      continue
    }
    users.set(name, { name, ...parsed.data, verifier })
  }
  if (faults.length > 0) throw new UsersError(faults.join('\n'))
  return users
}

const expectations: Readonly<Record<string, string>> = {
  array: 'a list is expected, such as [agents]',
  string: 'text is expected',
  object: 'a map with groups and verifier is expected',
}

function wordsOfIssue(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') {
    const [key = ''] = issue.keys
    const meant = nearest(key, Object.keys(userSchema.shape))
    return `unknown key ${key}${meant === null ? '' : `; did you mean ${meant}?`}`
  }
  if (issue.code !== 'invalid_type') return issue.message
  const own = issue.message.startsWith('Invalid input') ? undefined : issue.message
  return own ?? expectations[issue.expected] ?? issue.message
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? ''
}

/** Who a local user is. */
export function identityOfUser(user: LocalUser, groups: readonly string[]): Identity {
  return {
    subject: user.name,
    user: user.name,
    email: user.email,
    groups: [...new Set([...user.groups, ...groups])],
    type: user.type,
    on_behalf_of: null,
    method: 'scram',
    claims: {},
    expiresAtMs: null,
  }
}

/** What SCRAM needs of a user: the real verifier, or a mock one of a user who is not there. */
export interface UserLookup {
  readonly user: LocalUser | null
  readonly verifier: ScramVerifier
}

export interface UsersFileOptions {
  readonly path: string
  readonly log: (message: string, facts: Readonly<Record<string, unknown>>) => void
}

/** The users of one file, read again when the file has changed. */
export class UsersFile {
  readonly #options: UsersFileOptions
  #users: ReadonlyMap<string, LocalUser>
  #mock: MockVerifiers
  #stamp: string
  #failedStamp = ''
  #checking: Promise<void> | null = null

  private constructor(
    options: UsersFileOptions,
    users: ReadonlyMap<string, LocalUser>,
    stamp: string,
  ) {
    this.#options = options
    this.#users = users
    this.#stamp = stamp
    this.#mock = new MockVerifiers(commonIterations(users))
  }

  /** Reads the file for the first time; throws UsersError where it cannot be used. */
  static async open(options: UsersFileOptions): Promise<UsersFile> {
    const { text, stamp } = await readWhole(options.path)
    return new UsersFile(options, parseUsers(text, options.path), stamp)
  }

  /** Looks a user up; a user who is not there gets a verifier that no password fits. */
  lookup(name: string): UserLookup {
    const user = this.#users.get(name) ?? null
    // Made in both cases, so that both take the same time.
    const mock = this.#mock.verifierOf(name)
    return { user, verifier: user?.verifier ?? mock }
  }

  /** Reads the file again if it changed. Errors are logged and leave the users as they were. */
  refresh(): Promise<void> {
    this.#checking ??= this.#reload().finally(() => {
      this.#checking = null
    })
    return this.#checking
  }

  async #reload(): Promise<void> {
    const { path, log } = this.#options
    try {
      const stamp = stampOf(await stat(path))
      if (stamp === this.#stamp || stamp === this.#failedStamp) return
      const read = await readWhole(path)
      this.#failedStamp = read.stamp
      const users = parseUsers(read.text, path)
      const iterationsBefore = commonIterations(this.#users)
      const iterations = commonIterations(users)
      // The mock key stays as it is: an unknown user's salt must not move when the file does.
      if (iterations !== iterationsBefore) this.#mock = new MockVerifiers(iterations)
      this.#users = users
      this.#stamp = read.stamp
      log('users file loaded', { path, users: users.size })
    } catch (error) {
      log('users file could not be loaded; the users before it stay', {
        path,
        reason: error instanceof Error ? error.message : String(error),
      })
    }
  }
}

/** What most verifiers have, so that an unknown user looks like most. */
function commonIterations(users: ReadonlyMap<string, LocalUser>): number {
  const counts = new Map<number, number>()
  for (const { verifier } of users.values()) {
    counts.set(verifier.iterations, (counts.get(verifier.iterations) ?? 0) + 1)
  }
  let best = scramIterationsDefault
  let bestCount = 0
  for (const [iterations, count] of counts) {
    if (count > bestCount) [best, bestCount] = [iterations, count]
  }
  return best
}

async function readWhole(path: string): Promise<{ readonly text: string; readonly stamp: string }> {
  let facts
  try {
    facts = await stat(path)
  } catch (error) {
    throw new UsersError(
      `${path}: the users file cannot be read; \`regate user add NAME --users ${path}\` makes one`,
      { cause: error },
    )
  }
  if (facts.size > fileBytesMax) throw new UsersError(`${path}: the users file is too large`)
  return { text: await readFile(path, 'utf8'), stamp: stampOf(facts) }
}

function stampOf(facts: {
  readonly mtimeMs: number
  readonly size: number
  readonly ino: number
}): string {
  return `${facts.mtimeMs}:${facts.size}:${facts.ino}`
}

/** What `regate user add` writes of a user. */
export interface NewUser {
  readonly name: string
  readonly verifier: ScramVerifier
  /** null: as they were, for a user who is there already. */
  readonly groups: readonly string[] | null
  readonly email: string | null
  readonly type: 'human' | 'machine' | null
}

/** Adds or replaces a user; comments and the order of the file stay. Tells whether it was new. */
export async function writeUser(path: string, user: NewUser): Promise<'added' | 'changed'> {
  let text = ''
  let mode = 0o600
  try {
    text = await readFile(path, 'utf8')
    mode = (await stat(path)).mode & 0o777
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const before = parseUsers(text, path)
  const known = before.get(user.name)
  const document = text.trim() === '' ? new Document({}) : parseDocument(text)
  document.setIn([user.name, 'groups'], user.groups ?? known?.groups ?? [])
  document.setIn([user.name, 'verifier'], formatVerifier(user.verifier))
  if (user.email !== null) document.setIn([user.name, 'email'], user.email)
  if (user.type !== null) document.setIn([user.name, 'type'], user.type)
  const out = document.toString({ lineWidth: 0 })
  parseUsers(out, path)
  await writeWhole(path, out, mode)
  return known === undefined ? 'added' : 'changed'
}
