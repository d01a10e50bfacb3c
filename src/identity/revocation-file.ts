/**
 * Revocations of subjects on disk, so that a token that was revoked is not good again after a restart.
 * One process writes the file; sessions are not in it, because they end with the process.
 */
import { mkdir, readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { z } from 'zod'
import { ProxyError } from '../core/core.ts'
import type { Revocation } from './revocation.ts'
import { writeWhole } from './write-whole.ts'

/** No token is good for that long: older revocations refuse nothing. */
const keptMs = 366 * 24 * 3_600_000

const time = z.iso.datetime({ offset: true })
const schema = z.strictObject({
  revocations: z.array(
    z.strictObject({ subject: z.string().min(1), at: time, until: time.nullable() }),
  ),
})

/**
 * The revocations of the file; none where there is no file. Throws ProxyError('configuration') for one
 * that cannot be read: who is in it is not known, so nobody is let in.
 */
export async function readRevocations(path: string): Promise<readonly Revocation[]> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const { code = 'unknown' } = error as NodeJS.ErrnoException
    if (code === 'ENOENT') return []
    throw unreadable(path, code)
  }
  const found = schema.safeParse(parsed(text))
  if (!found.success) throw unreadable(path, 'it is no list of revocations')
  return found.data.revocations.map(({ subject, at, until }) => ({
    kind: 'subject',
    subject,
    atMs: Date.parse(at),
    untilMs: until === null ? null : Date.parse(until),
  }))
}

/** Replaces the file; resolves when it is on disk. Those that refuse nothing any more are left out. */
export async function writeRevocations(
  path: string,
  list: readonly Revocation[],
  nowMs: number,
): Promise<void> {
  const revocations = list.flatMap((one) => {
    if (one.kind !== 'subject' || Math.max(one.atMs, one.untilMs ?? 0) < nowMs - keptMs) return []
    const { subject, atMs, untilMs } = one
    const until = untilMs === null ? null : new Date(untilMs).toISOString()
    return [{ subject, at: new Date(atMs).toISOString(), until }]
  })
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  await writeWhole(path, `${JSON.stringify({ revocations }, null, 2)}\n`, 0o600)
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function unreadable(path: string, why: string): ProxyError {
  return new ProxyError('configuration', `${path} cannot be read: ${why}`, {
    hint: 'It holds who was revoked. Mend it; if you remove it, revoke anew whose tokens are still good.',
  })
}
