/** Files that a reader never sees half of: written beside the old one, synced, renamed over it. */
import { randomBytes } from 'node:crypto'
import { chmod, open, rename, unlink } from 'node:fs/promises'

/** @param mode permissions of the file, whoever may read the directory. */
export async function writeWhole(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
  const file = await open(temporary, 'wx', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
    await file.close()
    await chmod(temporary, mode)
    await rename(temporary, path)
  } catch (error) {
    await file.close().catch(() => undefined)
    await unlink(temporary).catch(() => undefined)
    throw error
  }
}
