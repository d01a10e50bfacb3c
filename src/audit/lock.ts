/**
 * One writer per chain: `audit-<worker>.lock` names the process that has it and is touched while it
 * lives. A second `regate serve` on the same directory must not write into the same chain.
 */
import { readFileSync, statSync, unlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { ProxyError } from '../core/core.ts'

/** A process of this machine that seems to live, but has not touched its lock for so long, does not. */
const freshHereMs = 60_000
/** Whether a process of another machine lives cannot be asked. */
const freshThereMs = 15_000

export class ChainLock {
  readonly #path: string

  private constructor(path: string) {
    this.#path = path
  }

  /** Throws ProxyError('audit_unavailable') where another process has it. */
  static take(directory: string, worker: string): ChainLock {
    const path = join(directory, `audit-${worker}.lock`)
    const mine = JSON.stringify({ pid: process.pid, host: hostname() })
    for (let attempt = 0; ; attempt++) {
      try {
        writeFileSync(path, mine, { flag: 'wx', mode: 0o600 })
        return new ChainLock(path)
      } catch (error) {
        if (!hasCode(error, 'EEXIST') || attempt > 3) throw error
      }
      const other = holderOf(path)
      if (other !== null) {
        const { pid, host } = other
        throw new ProxyError(
          'audit_unavailable',
          `the audit log is written by process ${pid} on ${host}`,
          {
            hint: `Two processes may not write one chain: give each its own audit.directory. If that process is gone, remove ${path}.`,
          },
        )
      }
      removeQuietly(path)
    }
  }

  /** Says that its owner lives. */
  touch(): void {
    try {
      const now = new Date()
      utimesSync(this.#path, now, now)
    } catch {
      // Somebody removed it: that is noticed when they try to write.
    }
  }

  release(): void {
    removeQuietly(this.#path)
  }
}

/** Who has the lock; null where nobody does any more. */
function holderOf(path: string): { readonly pid: number; readonly host: string } | null {
  try {
    const { pid, host } = JSON.parse(readFileSync(path, 'utf8')) as { pid: number; host: string }
    const ageMs = Date.now() - statSync(path).mtimeMs
    if (host !== hostname()) return ageMs < freshThereMs ? { pid, host } : null
    if (pid === process.pid || !lives(pid)) return null
    return ageMs < freshHereMs ? { pid, host } : null
  } catch {
    return null
  }
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return !hasCode(error, 'ESRCH')
  }
}

function removeQuietly(path: string): void {
  try {
    unlinkSync(path)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
