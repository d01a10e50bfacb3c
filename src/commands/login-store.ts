/**
 * Where `regate login` keeps tokens between calls: one JSON file, mode 0600, in a directory of the
 * user's own; and lines of the pgpass file (https://www.postgresql.org/docs/18/libpq-pgpass.html).
 * Both are written whole or not at all.
 */
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, rename, stat, unlink, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { CommandFailure } from './failure.ts'

/** What a login gave. */
export interface StoredLogin {
  /** What goes to PostgreSQL as the password. */
  readonly token: string
  readonly refreshToken: string | null
  readonly expiresAtMs: number
}

const storeSchema = z.record(
  z.string(),
  z.object({
    token: z.string(),
    refreshToken: z.string().nullable(),
    expiresAtMs: z.number(),
  }),
)

/** The file of tokens: $REGATE_TOKENS, else in $XDG_CONFIG_HOME or ~/.config. */
export function storePath(env: Readonly<Record<string, string | undefined>>): string {
  const named = env['REGATE_TOKENS']
  if (named !== undefined && named !== '') return named
  const xdg = env['XDG_CONFIG_HOME']
  const base = xdg !== undefined && xdg !== '' ? xdg : join(homedir(), '.config')
  return join(base, 'regate', 'tokens.json')
}

/** The login of this name, or null. A file that others can read is refused. */
export async function loadLogin(path: string, name: string): Promise<StoredLogin | null> {
  return (await readStore(path))[name] ?? null
}

/** Keeps a login under a name. */
export async function saveLogin(path: string, name: string, login: StoredLogin): Promise<void> {
  const store = { ...(await readStore(path)), [name]: login }
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  await writePrivate(path, `${JSON.stringify(store, null, 2)}\n`)
}

/** Forgets a login. */
export async function forgetLogin(path: string, name: string): Promise<boolean> {
  const store = await readStore(path)
  if (store[name] === undefined) return false
  const rest = Object.fromEntries(Object.entries(store).filter(([key]) => key !== name))
  await writePrivate(path, `${JSON.stringify(rest, null, 2)}\n`)
  return true
}

async function readStore(path: string): Promise<Readonly<Record<string, StoredLogin>>> {
  let text: string
  try {
    const { mode } = await stat(path)
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      throw new CommandFailure(`${path} can be read by others`, { hint: `chmod 600 ${path}` })
    }
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw error
  }
  try {
    return storeSchema.parse(JSON.parse(text))
  } catch (error) {
    throw new CommandFailure(`${path} is no file of regate login`, {
      hint: `remove ${path} and log in again`,
      cause: error,
    })
  }
}

/** `host:port:database:user`, each of which may be `*`. */
export interface PgpassTarget {
  readonly fields: readonly [string, string, string, string]
}

/** Reads `host:port:database:user`; a colon or backslash inside a field is escaped by a backslash. */
export function parsePgpassTarget(text: string): PgpassTarget | null {
  const fields = text.match(/(?:\\.|[^:\\])+/g) ?? []
  if (fields.length !== 4 || fields.join(':') !== text) return null
  return { fields: fields as unknown as PgpassTarget['fields'] }
}

/** The pgpass file: $PGPASSFILE, else ~/.pgpass. */
export function pgpassPath(env: Readonly<Record<string, string | undefined>>): string {
  const named = env['PGPASSFILE']
  return named !== undefined && named !== '' ? named : join(homedir(), '.pgpass')
}

/** Puts the token into the line of the target, before lines that would match first. */
export async function writePgpass(
  path: string,
  target: PgpassTarget,
  token: string,
): Promise<void> {
  let text = ''
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const head = `${target.fields.join(':')}:`
  const line = head + token.replace(/[:\\]/g, '\\$&')
  const others = text.split('\n').filter((other) => other !== '' && !other.startsWith(head))
  await writePrivate(path, `${[line, ...others].join('\n')}\n`)
}

async function writePrivate(path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
  try {
    await writeFile(temporary, text, { mode: 0o600, flag: 'wx' })
    await chmod(temporary, 0o600)
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => undefined)
    throw error
  }
}
