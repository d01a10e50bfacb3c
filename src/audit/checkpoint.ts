/**
 * Signed checkpoints: `{worker, sequence, hash, time}` under Ed25519, appended to a file beside the
 * segments when a segment is sealed and when the log is closed. Copied off the machine, they show
 * that a chain's newest end was cut off or that a whole chain was written anew.
 */
import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign,
  verify,
  type KeyObject,
} from 'node:crypto'
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Tail } from './chain.ts'

export interface Checkpoint {
  readonly worker: string
  readonly sequence: number
  readonly hash: string
  readonly time: string
  /** Base64 of the Ed25519 signature over the other members as JSON, in this order. */
  readonly signature: string
}

const keyFile = 'audit.key'
export const publicKeyFile = 'audit.pub'
export const checkpointFile = 'checkpoints.ndjson'

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
      try {
        writeFileSync(path, pem, { mode: 0o600, flag: 'wx' })
      } catch (error) {
        // Another worker was first.
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
      }
    }
    const checkpoints = new Checkpoints(directory, createPrivateKey(readFileSync(path)))
    writeFileSync(join(directory, publicKeyFile), checkpoints.publicKey)
    return checkpoints
  }

  sign(worker: string, tail: Tail, timeMs: number): void {
    const said = { worker, ...tail, time: new Date(timeMs).toISOString() }
    const signature = sign(null, Buffer.from(payload(said)), this.#key).toString('base64')
    const line = JSON.stringify({ ...said, signature } satisfies Checkpoint)
    appendFileSync(join(this.#directory, checkpointFile), `${line}\n`, { mode: 0o600 })
  }
}

/** The checkpoint was signed by the owner of the key. */
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
