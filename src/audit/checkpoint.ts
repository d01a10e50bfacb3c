/**
 * Signed checkpoints: `{worker, sequence, hash, time}` under Ed25519, appended to a file beside the
 * segments every few seconds, when a segment is sealed and when the log is closed, always after a sync
 * of what they speak of. Copied off the machine, they show that a chain's newest end was cut off or
 * that a whole chain was written anew.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign,
  verify,
  type KeyObject,
} from 'node:crypto'
import {
  appendFileSync,
  existsSync,
  linkSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { Tail } from './chain.ts'

export interface Checkpoint {
  readonly worker: string
  readonly sequence: number
  readonly hash: string
  readonly time: string
  /** Base64 of the Ed25519 signature over the other members as JSON, in this order. */
  readonly signature: string
}

const checkpointSchema = z.object({
  worker: z.string(),
  sequence: z.number(),
  hash: z.string(),
  time: z.string(),
  signature: z.string(),
})

const keyFile = 'audit.key'
export const publicKeyFile = 'audit.pub'

/** One file per worker: its owner alone appends to it and thins it out. */
export function checkpointName(worker: string): string {
  return `checkpoints-${worker}.ndjson`
}

export class Checkpoints {
  readonly #directory: string
  readonly #key: KeyObject
  /** PEM. */
  readonly publicKey: string

  private constructor(directory: string, key: KeyObject) {
    this.#directory = directory
    this.#key = key
    this.publicKey = createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString()
  }

  /** Takes the directory's key, or makes one: only its owner can read it. */
  static open(directory: string): Checkpoints {
    const path = join(directory, keyFile)
    if (!existsSync(path)) {
      const { privateKey } = generateKeyPairSync('ed25519')
      const pem = privateKey.export({ type: 'pkcs8', format: 'pem' })
      // Whole or not at all, and the first worker's wins.
      const made = `${path}.${process.pid}`
      writeFileSync(made, pem, { mode: 0o600 })
      try {
        linkSync(made, path)
      } catch (error) {
        if (!existsSync(path)) throw error
      } finally {
        unlinkSync(made)
      }
    }
    const checkpoints = new Checkpoints(directory, createPrivateKey(readFileSync(path)))
    writeFileSync(join(directory, publicKeyFile), checkpoints.publicKey)
    return checkpoints
  }

  sign(worker: string, tail: Tail, timeMs: number): void {
    const { sequence, hash } = tail
    const time = new Date(timeMs).toISOString()
    const said = { worker, sequence, hash, time }
    const signature = sign(null, Buffer.from(payload(said)), this.#key).toString('base64')
    const line = JSON.stringify({ worker, sequence, hash, time, signature } satisfies Checkpoint)
    const path = join(this.#directory, checkpointName(worker))
    appendFileSync(path, `${line}\n`, { mode: 0o600 })
  }

  /** Forgets checkpoints of before this moment; the newest stays. */
  forgetBefore(worker: string, timeMs: number): void {
    const path = join(this.#directory, checkpointName(worker))
    if (!existsSync(path)) return
    const all = readCheckpoints(readFileSync(path, 'utf8')).checkpoints
    const kept = all.filter(
      ({ time }, index) => index === all.length - 1 || Date.parse(time) >= timeMs,
    )
    if (kept.length === all.length) return
    const text = kept.map((checkpoint) => `${JSON.stringify(checkpoint)}\n`).join('')
    writeFileSync(`${path}.new`, text, { mode: 0o600 })
    renameSync(`${path}.new`, path)
  }
}

/** The checkpoints of a file, and how many of its lines are none. */
export function readCheckpoints(text: string): {
  readonly checkpoints: readonly Checkpoint[]
  readonly unreadableCount: number
} {
  const checkpoints: Checkpoint[] = []
  let unreadableCount = 0
  for (const line of text.split('\n')) {
    if (line === '') continue
    const parsed = checkpointSchema.safeParse(parsedOrNull(line))
    if (parsed.success) checkpoints.push(parsed.data)
    else unreadableCount++
  }
  return { checkpoints, unreadableCount }
}

function parsedOrNull(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return null
  }
}

/** The checkpoint was signed by the owner of the key (PEM). */
export function checkpointIsSound(checkpoint: Checkpoint, publicKey: string): boolean {
  const { signature } = checkpoint
  return verify(
    null,
    Buffer.from(payload(checkpoint)),
    createPublicKey(publicKey),
    Buffer.from(signature, 'base64'),
  )
}

function payload({ worker, sequence, hash, time }: Omit<Checkpoint, 'signature'>): string {
  return JSON.stringify({ worker, sequence, hash, time })
}
