/**
 * Nothing secret is written: whatever a test does with a regate, its log and every file in its
 * directory are searched when it stops. What to look for is known by its form, so that no test has to
 * say which secrets it made: signed tokens, private keys, SCRAM verifiers and the bearer of a header.
 * A password has no form; test/identity/secrets.test.ts looks for those it made.
 */
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'

const forms: Readonly<Record<string, RegExp>> = {
  'a signed token': /eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}/,
  'a private key': /-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----/,
  'a SCRAM verifier': /SCRAM-SHA-256\$\d+:[A-Za-z0-9+/=]{16,}\$/,
  'a bearer token': /[Aa]uthorization"?: ?"?(?:Bearer|Basic) [\w.~+/=-]{8,}/,
}

/** Files that tests themselves put there: users with their verifiers, keys of TLS and of signatures. */
const ownFiles = /^(users.*\.yaml|.*\.(key|pem)|regate\.yaml)$/

/** What of these forms a text holds, in words and without the secret itself; null where nothing. */
export function secretIn(text: string): string | null {
  for (const [name, form] of Object.entries(forms)) {
    const found = form.exec(text)
    if (found === null) continue
    const line = text.slice(0, found.index).split('\n').length
    return `${name} in line ${line}`
  }
  return null
}

/** Rejects where the log or a file below the directory holds a secret. */
export async function expectNoSecrets(directory: string, log: string): Promise<void> {
  const texts: [where: string, text: string][] = [
    ["regate's log", log],
    ['the title of the process', process.title],
  ]
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  for (const entry of entries) {
    if (!entry.isFile() || ownFiles.test(basename(entry.name))) continue
    const path = join(entry.parentPath, entry.name)
    try {
      texts.push([path, await readFile(path, 'latin1')])
    } catch (error) {
      // What an embedded store that still stops had there a moment ago.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  for (const [where, text] of texts) {
    const found = secretIn(text)
    if (found !== null) throw new Error(`${where} holds ${found}`)
  }
}
